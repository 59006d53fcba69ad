/* SPDX-License-Identifier: Apache-2.0 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <math.h>

#include "benchmarks/crossing.h"

static const double hz[] = { 0, 1, 10, 100 };

static void assert_near(double got, double want)
{
	if (!(fabs(got - want) < 1e-9))
		fail_msg("%f, not %f", got, want);
}

static void test_between_two_points(void **state)
{
	const double y[] = { 1.2, 1.1, 0.9, 0.95 };

	(void)state;
	assert_near(crossing_below(hz, y, 4, 1.0), 5.5);
	assert_near(crossing_below(hz, y, 4, 1.1), 1.0);
}

static void test_from_the_start(void **state)
{
	const double y[] = { 0.8, 1.1, 1.1, 1.1 };

	(void)state;
	assert_near(crossing_below(hz, y, 4, 1.0), 0.0);
}

static void test_never(void **state)
{
	const double y[] = { 1.2, 1.1, 1.1, 1.0 };

	(void)state;
	assert_true(isnan(crossing_below(hz, y, 4, 1.0)));
	assert_true(isnan(crossing_below(hz, y, 0, 1.0)));
}

/* Two rates of which no more than the same could be achieved. */
static void test_upright(void **state)
{
	const double x[] = { 0, 50, 50 }, y[] = { 1.2, 1.1, 0.5 };

	(void)state;
	assert_near(crossing_below(x, y, 3, 1.0), 50.0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_between_two_points),
		cmocka_unit_test(test_from_the_start),
		cmocka_unit_test(test_never),
		cmocka_unit_test(test_upright),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
