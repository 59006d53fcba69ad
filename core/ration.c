/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  One a period makes a schedule; *due_ns is its next place.  A burst may run
 * ahead of the schedule by all but one of its places.  Who comes later than the schedule moves it, so
 * that idle time saves up one burst and no more.
 */
#include "core/ration.h"

uint64_t ration_take(const struct ration *ration, uint64_t *due_ns, uint64_t now)
{
	const uint64_t ahead = (ration->burst - 1) * ration->period_ns;
	uint64_t at = now;

	if (*due_ns > now + ahead)
		at = *due_ns - ahead;
	*due_ns = (*due_ns > at ? *due_ns : at) + ration->period_ns;
	return at;
}
