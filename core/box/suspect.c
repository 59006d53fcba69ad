/* SPDX-License-Identifier: Apache-2.0 */
#include "core/box/suspect.h"

#include "core/cc.h"

#define PERIODS 4          /* looks within the shorter limit */
#define PERIOD_LEAST_MS 25 /* each look may bring a report, of which a box has 64 a second */
#define PERIOD_MOST_MS 250

uint32_t suspect_period_ms(const struct suspect_limits *limits)
{
	uint32_t least = limits->hang_ms != 0 ? limits->hang_ms : limits->storm_ms;

	if (limits->storm_ms != 0 && limits->storm_ms < least)
		least = limits->storm_ms;
	if (least == 0)
		return 0;
	least /= PERIODS;
	return least < PERIOD_LEAST_MS  ? PERIOD_LEAST_MS
	       : least > PERIOD_MOST_MS ? PERIOD_MOST_MS
					: least;
}

/* `spent` more of what `sum` counts, or none any more. True: the limit is reached. */
static bool reached(uint64_t *sum, bool goes_on, uint64_t spent, uint32_t limit_ms)
{
	*sum = goes_on ? *sum + spent : 0;
	return limit_ms != 0 && *sum >= limit_ms * NS_PER_MS;
}

/* Whoever looks may itself be late.  One look shows what one look can show, however long ago the last was:
 * work that it finds may have come a moment before. */
static uint64_t seen_asleep(const struct suspect_limits *limits, uint64_t passed)
{
	const uint64_t period = suspect_period_ms(limits) * NS_PER_MS;

	return passed < period ? passed : period;
}

/* Held by the kernel.  What had come together before stands still meanwhile. */
static enum suspect_verdict judge_slow(struct suspect_record *r,
				       const struct suspect_limits *limits, uint64_t passed)
{
	const bool slow = reached(&r->slow_ns, true, passed, limits->hang_ms);
	const bool tell = slow && !r->slow_told;

	r->slow_told = slow;
	return tell ? SUSPECT_SLOW : SUSPECT_NOTHING;
}

enum suspect_verdict suspect_judge(struct suspect_record *r, const struct suspect_limits *limits,
				   const struct suspect_sample *s)
{
	const bool first = r->now_ns == 0;
	const uint64_t passed = s->now_ns - r->now_ns;
	const uint64_t ran = s->cpu_ns - r->cpu_ns;
	const uint64_t waited = s->waited_ns - r->waited_ns;
	const uint64_t spent = s->place == SUSPECT_RUNNING ? ran : seen_asleep(limits, passed);

	r->now_ns = s->now_ns;
	r->cpu_ns = s->cpu_ns;
	r->waited_ns = s->waited_ns;
	if (first)
		return SUSPECT_NOTHING;
	if (s->place == SUSPECT_BACKEND)
		return judge_slow(r, limits, passed);
	r->slow_ns = 0;
	r->slow_told = false;
	const bool undone = s->work && !s->progress;
	const bool left = undone && !(s->patient && s->place == SUSPECT_ASLEEP);
	const bool first_left = left && r->idle_ns == 0 && s->place == SUSPECT_ASLEEP;
	const bool silent = reached(&r->silent_ns, !s->answered, spent, limits->hang_ms);
	const bool idle = reached(&r->idle_ns, left, spent, limits->hang_ms);
	/* Half of the time that it could have, so that one which merely wakes now and then adds up to
	 * nothing; on a busy host that is little. */
	const uint64_t could = waited < passed ? passed - waited : 0;
	const bool vain = !s->progress && !s->work && ran != 0 && ran >= could / 2;

	if (reached(&r->vain_ns, vain, ran, limits->storm_ms))
		return SUSPECT_STORM;
	if (silent || idle)
		return SUSPECT_HANG;
	return first_left ? SUSPECT_NUDGE : SUSPECT_NOTHING;
}
