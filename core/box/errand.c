/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a box may have the VMM do: give pages of its guest back to the host, take a number of the
 * driver's, answer a question (ask.c has those).  Only where the device's owner has hooks for it; from all
 * others it is suspicion.
 *
 * Everything is done here and now, on the supervisor's thread, while the report is being read.  So when
 * a box is fenced nothing of its is on the way: what was not read of it yet is never done, and no pages
 * are released behind the back of a successor or of a driver that was told that a reset is complete,
 * either of whom may have given them to the guest again.  A helper thread would owe that proof anew at
 * every fence.  The price is that the thread is held up; what holds it up is cut into pieces of which
 * one takes about as long as a switch does (message.h: 64 pages, 70 us on the machine this was written
 * on, 120 where six other processes have them mapped, against 250 and 1000 us a MiB), and all else
 * that is ready has its turn between two.
 *
 * Time in all is bounded by the ANSWER, which is late on purpose: for each microsecond that a box made
 * us spend it waits ERRAND_REST more.  A box that asks without end gets a quarter of one thread, and an
 * honest one cannot ask too much, since it waits for each ANSWER.  Of one that is told to park nothing
 * is held back: it has BOX_QUIESCING's deadline.
 */
#include <errno.h>
#include <sys/random.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define ERRAND_REST 3
#define ERRAND_LEAST_NS (5 * NS_PER_US) /* to be woken, and to read the report */
#define ERRAND_STATS_MAX (4 * STATS_PER_POLL)

static const struct device_hooks *errand_hooks(const struct box *box)
{
	static const struct device_hooks none;
	const struct device_hooks *hooks = box->gen->dev->spec.hooks;

	return hooks != NULL ? hooks : &none;
}

void errand_grant_stats(struct box *box)
{
	struct box_errands *e = &box->errands;

	e->stats += STATS_PER_POLL;
	if (e->stats > ERRAND_STATS_MAX)
		e->stats = ERRAND_STATS_MAX;
}

/* Of a box that was born into an earlier epoch the map may have changed: what it reports of memory that
 * is no more is no lie, and there is nothing to release. */
static int errand_release(struct box *box, const struct box_report *report)
{
	struct device *dev = box->gen->dev;
	const struct box_memory *memory = &dev->sup->memory;
	const struct device_hooks *hooks = errand_hooks(box);

	if (hooks->release == NULL || box->errands.synced ||
	    ++box->errands.releases > RELEASES_PER_SYNC)
		return -EPROTO;
	const int ret = hooks->release(dev->spec.ctx, memory, report->detail, report->value);

	return box->gen->epoch == memory->map.epoch ? ret : 0;
}

static int errand_stat(struct box *box, const struct box_report *report)
{
	const struct device_hooks *hooks = errand_hooks(box);

	if (hooks->stat == NULL || box->errands.stats == 0)
		return -EPROTO;
	box->errands.stats--;
	return hooks->stat(box->gen->dev->spec.ctx, report->value, report->detail);
}

int errand_reply(struct box *box, uint32_t value)
{
	CHECK(getrandom(&box->nonce, sizeof(box->nonce), 0) == sizeof(box->nonce));
	const struct ctl_answer message = { { CTL_ANSWER, value }, box->nonce };

	return channel_send(box, &message, sizeof(message));
}

int errand_answer(struct box *box)
{
	struct box_errands *e = &box->errands;

	if (!e->synced)
		return 0;
	loop_disarm(box->gen->dev->sup->loop, &e->answer);
	e->synced = false;
	e->releases = 0;
	e->spent_ns = 0;
	return errand_reply(box, e->number);
}

void errand_due(struct loop_timer *timer)
{
	struct box *box = container_of(timer, struct box, errands.answer);
	const bool serves = box->state == BOX_STARTING || box->state == BOX_ACTIVE;

	if (serves && errand_answer(box) != 0)
		box_raise(box, BOX_EV_MISBEHAVED);
}

static int errand_sync(struct box *box, const struct box_report *report)
{
	struct box_errands *e = &box->errands;

	if (errand_hooks(box)->release == NULL || e->synced)
		return -EPROTO;
	e->synced = true;
	e->number = report->value;
	if (box->state == BOX_QUIESCING)
		return errand_answer(box);
	loop_arm(box->gen->dev->sup->loop, &e->answer,
		 now_ns() + ERRAND_REST * (e->spent_ns + ERRAND_LEAST_NS));
	return 0;
}

int errand_do(struct box *box, const struct box_report *report)
{
	const uint64_t begin = now_ns();
	int ret;

	switch (report->type) {
	case REPORT_RELEASE:
		ret = errand_release(box, report);
		break;
	case REPORT_STAT:
		ret = errand_stat(box, report);
		break;
	case REPORT_ASK:
		return ask_take(box, report);
	default:
		return errand_sync(box, report);
	}
	box->errands.spent_ns += now_ns() - begin + ERRAND_LEAST_NS;
	return ret;
}

bool errand_is(uint32_t type)
{
	return type == REPORT_RELEASE || type == REPORT_SYNC || type == REPORT_STAT ||
	       type == REPORT_ASK;
}
