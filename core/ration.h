/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest may ask of the host again and again, rationed: a burst is free, after that it is one a
 * period.  Nothing waits here; who asks is told when.
 */
#ifndef MAYFLY_CORE_RATION_H
#define MAYFLY_CORE_RATION_H

#include <stdint.h>

struct ration {
	uint32_t burst; /* 1 or more */
	uint64_t period_ns;
};

/* When what is asked for at `now` may happen: now, or later.  It counts as taken.  *due_ns is whose
 * ration it is: 0 at first. */
uint64_t ration_take(const struct ration *ration, uint64_t *due_ns, uint64_t now);

#endif
