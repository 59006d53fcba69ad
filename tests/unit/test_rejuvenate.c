/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotplug/rejuvenate.c: when a device is replaced.  The loop never runs: its timer is looked at and
 * fired here.  device_replace_post() is this file's own and counts.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <string.h>

#include "core/cc.h"
#include "hotplug/rejuvenate.h"

#define EVERY_MS 60000ull
#define ROUNDS 400

static struct {
	uint32_t count;
	int ret;
	struct device *dev;
	enum replace_reason reason;
	bool carry;
} posted;

int device_replace_post(struct device *dev, enum replace_reason reason, bool carry)
{
	posted.count++;
	posted.dev = dev;
	posted.reason = reason;
	posted.carry = carry;
	return posted.ret;
}

static struct loop *loop;
static struct device *const device = (struct device *)&posted; /* a name, nothing more */

static int setup(void **state)
{
	(void)state;
	memset(&posted, 0, sizeof(posted));
	return loop_create(&loop);
}

static int teardown(void **state)
{
	(void)state;
	loop_destroy(loop);
	return 0;
}

/* ---- how long ---- */

static void test_period_bounds(void **state)
{
	static const struct {
		uint64_t every_ms;
		uint32_t jitter, random;
		uint64_t least_ns, most_ns;
	} cases[] = {
		{ 1000, 0, 0, 1000000000, 1000000000 }, /* no jitter: chance has no say */
		{ 1000, 0, UINT32_MAX, 1000000000, 1000000000 },
		{ 1000, 200, 0, 1000000000, 1000000000 },
		{ 1000, 200, UINT32_MAX, 800000000, 800000001 },
		{ 1000, 200, 1u << 31, 900000000, 900000000 }, /* evenly in between */
		{ 1000, 1000, UINT32_MAX, 1, 1000 },           /* all of it, but never 0 */
		{ 10, 500, UINT32_MAX, 5000000, 5000001 },     /* the least that can be said */
		{ 7ull * 24 * 3600 * 1000, 1000, UINT32_MAX, 1, 604800000000000 / 1000000 },
		{ 7ull * 24 * 3600 * 1000, 1000, 0, 604800000000000, 604800000000000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_in_range(rejuvenate_period_ns(cases[i].every_ms, cases[i].jitter,
						     cases[i].random),
				cases[i].least_ns, cases[i].most_ns);
}

/* More chance, less time: no value wraps. */
static void test_period_falls(void **state)
{
	uint64_t last = UINT64_MAX;

	(void)state;
	for (uint64_t random = 0; random <= UINT32_MAX; random += 9999991) {
		const uint64_t now = rejuvenate_period_ns(EVERY_MS, 333, (uint32_t)random);

		assert_true(now <= last);
		last = now;
	}
}

/* ---- when ---- */

/* The first time is a share of the period, without jitter: of n devices each has its own n-th. */
static void test_stagger(void **state)
{
	const uint32_t counts[] = { 1, 2, 3, 35 };
	struct rejuvenate r;

	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
		const uint64_t share = EVERY_MS * NS_PER_MS / counts[c];

		for (uint32_t i = 0; i < counts[c]; i++) {
			const uint64_t before = now_ns();

			rejuvenate_start(&r, loop, device, EVERY_MS, 1000, i, counts[c]);
			assert_true(r.timer.armed);
			assert_in_range(r.timer.at_ns, before + share * (i + 1),
					now_ns() + share * (i + 1));
			rejuvenate_stop(&r);
			assert_false(r.timer.armed);
		}
	}
	assert_int_equal(posted.count, 0);
}

/* Every later time lies within the jitter of the one before, and uses the whole of it. */
static void test_schedule(void **state)
{
	const uint64_t most = EVERY_MS * NS_PER_MS, least = most * 3 / 4;
	uint32_t quarters[4] = { 0 };
	struct rejuvenate r;

	(void)state;
	rejuvenate_start(&r, loop, device, EVERY_MS, 250, 0, 1);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		const uint64_t before = now_ns();

		posted.ret = i % 2 != 0 ? -EBUSY
					: 0; /* somebody else is at it: it goes on all the same */
		loop_disarm(loop, &r.timer);
		r.timer.fire(&r.timer);
		const uint64_t after = now_ns(), at = r.timer.at_ns;

		assert_int_equal(posted.count, i);
		assert_true(r.timer.armed);
		assert_in_range(at, before + least, after + most);
		const uint64_t quarter = (at - before - least) * 4 / (most - least);

		quarters[quarter < 4 ? quarter : 3]++;
	}
	assert_ptr_equal(posted.dev, device);
	assert_int_equal(posted.reason, REPLACE_SCHEDULE);
	assert_false(posted.carry); /* an intruder must not hand itself on */
	for (size_t i = 0; i < ARRAY_SIZE(quarters); i++)
		assert_in_range(quarters[i], ROUNDS / 16, ROUNDS / 2);
	rejuvenate_stop(&r);
}

static void test_never(void **state)
{
	struct rejuvenate r, none = { 0 };

	(void)state;
	rejuvenate_start(&r, loop, device, 0, 200, 0, 1);
	assert_false(r.timer.armed);
	rejuvenate_stop(&r);
	rejuvenate_stop(&none); /* never begun */
	assert_int_equal(posted.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_period_bounds),
		cmocka_unit_test(test_period_falls),
		cmocka_unit_test_setup_teardown(test_stagger, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schedule, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never, setup, teardown),
	};

	return cmocka_run_group_tests_name("rejuvenate", tests, NULL, NULL);
}
