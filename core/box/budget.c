/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often a device may die.  The first half of its budget is replaced at once; from there each
 * further death doubles the wait before its successor, so that a program that dies of the same thing
 * again and again costs less and less; beyond the budget it is quarantined.
 */
#include "core/box/internal.h"
#include "core/cc.h"

#define BACK_OFF_FIRST_MS 10
#define BACK_OFF_LAST_MS 1000

uint32_t budget_deaths(const struct device *dev)
{
	const uint64_t window = dev->spec.death_window_s * NS_PER_S;
	const uint64_t now = now_ns();
	uint32_t n = 0;

	for (uint32_t i = 0; i < dev->death_count && i < ARRAY_SIZE(dev->deaths); i++)
		n += now - dev->deaths[i] <= window;
	return n;
}

bool budget_spent(const struct device *dev)
{
	return dev->spec.death_window_s != 0 && budget_deaths(dev) > dev->spec.death_budget;
}

uint32_t budget_back_off_ms(uint32_t deaths, uint32_t budget)
{
	const uint32_t beyond = deaths > budget - budget / 2 ? deaths - (budget - budget / 2) : 0;
	uint32_t ms = beyond == 0 ? 0 : BACK_OFF_FIRST_MS;

	for (uint32_t i = 1; i < beyond && ms < BACK_OFF_LAST_MS; i++)
		ms *= 2;
	return ms < BACK_OFF_LAST_MS ? ms : BACK_OFF_LAST_MS;
}

void budget_count(struct device *dev)
{
	dev->deaths[dev->death_count++ % ARRAY_SIZE(dev->deaths)] = now_ns();
	dev->deaths_by_reason[dev->suspicion]++;
}
