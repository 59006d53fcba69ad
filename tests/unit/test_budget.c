/* SPDX-License-Identifier: Apache-2.0 */
/* core/box/budget.c: the wait before a successor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/box/internal.h"

/* The first half of a budget costs no wait, an odd death being of that half. */
static void test_free_half(void **state)
{
	(void)state;
	for (uint32_t budget = 1; budget <= DEVICE_DEATHS_MAX; budget++) {
		const uint32_t half = budget - budget / 2;

		for (uint32_t deaths = 0; deaths <= half; deaths++)
			assert_int_equal(budget_back_off_ms(deaths, budget), 0);
		assert_int_equal(budget_back_off_ms(half + 1, budget), 10);
	}
}

static void test_doubles_up_to_a_second(void **state)
{
	const uint32_t want[] = { 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000 };

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(budget_back_off_ms(32 + 1 + i, 64), want[i]);
	assert_int_equal(budget_back_off_ms(UINT32_MAX, 1), 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_free_half),
		cmocka_unit_test(test_doubles_up_to_a_second),
	};

	return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
