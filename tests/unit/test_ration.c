/* SPDX-License-Identifier: Apache-2.0 */
/* Rations, by a clock of the test's own. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "core/ration.h"

#define BURST 5
#define PERIOD 1000ull
#define BEGIN 1000000ull

static void test_burst_then_period(void **state)
{
	const struct ration r = { .burst = BURST, .period_ns = PERIOD };
	uint64_t due = 0;

	(void)state;
	for (int i = 0; i < BURST; i++)
		assert_int_equal(ration_take(&r, &due, BEGIN), BEGIN);
	for (uint64_t i = 1; i < 100; i++)
		assert_int_equal(ration_take(&r, &due, BEGIN), BEGIN + i * PERIOD);
}

/* Who asks again as soon as it was let: never more than the burst and one a period. */
static void test_spinner(void **state)
{
	const struct ration r = { .burst = BURST, .period_ns = PERIOD };
	uint64_t due = 0;
	uint64_t now = BEGIN, count = 0;

	(void)state;
	while (now <= BEGIN + 50 * PERIOD) {
		now = ration_take(&r, &due, now);
		count++;
		now++;
	}
	assert_in_range(count, 50, BURST + 51);
}

static void test_idle_saves_one_burst(void **state)
{
	const struct ration r = { .burst = BURST, .period_ns = PERIOD };
	uint64_t due = 0;
	uint64_t now = BEGIN;

	(void)state;
	for (int i = 0; i < 20; i++)
		now = ration_take(&r, &due, now);
	now += 1000 * PERIOD;
	for (int i = 0; i < BURST; i++)
		assert_int_equal(ration_take(&r, &due, now), now);
	assert_int_equal(ration_take(&r, &due, now), now + PERIOD);
}

/* A steady pace within the ration is never made to wait. */
static void test_steady(void **state)
{
	const struct ration r = { .burst = 1, .period_ns = PERIOD };
	uint64_t due = 0;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(ration_take(&r, &due, BEGIN + i * PERIOD), BEGIN + i * PERIOD);
	assert_int_equal(ration_take(&r, &due, BEGIN + 99 * PERIOD), BEGIN + 100 * PERIOD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_then_period),
		cmocka_unit_test(test_spinner),
		cmocka_unit_test(test_idle_saves_one_burst),
		cmocka_unit_test(test_steady),
	};

	return cmocka_run_group_tests_name("ration", tests, NULL, NULL);
}
