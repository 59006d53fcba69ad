/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacement on a schedule: every device gets a new generation after its time, less a random part
 * (jitter), and devices that share a period begin spread over it, so that they do not go at once.
 * Everything runs on the loop's thread.
 */
#ifndef MAYFLY_HOTPLUG_REJUVENATE_H
#define MAYFLY_HOTPLUG_REJUVENATE_H

#include <stdint.h>

#include "core/box/box.h"
#include "core/loop.h"

struct rejuvenate {
	struct loop *loop;
	struct device *dev;
	uint64_t every_ms;
	uint32_t jitter_permille; /* of every_ms, at most 1000 */
	struct loop_timer timer;
};

/* Begins; every_ms 0: does nothing, ever.  This is device `index` of `count` with the same period. */
void rejuvenate_start(struct rejuvenate *r, struct loop *loop, struct device *dev,
		      uint64_t every_ms, uint32_t jitter_permille, uint32_t index, uint32_t count);
void rejuvenate_stop(struct rejuvenate *r);

/* How long to wait: every_ms less up to jitter of it, `random` deciding. Pure. */
uint64_t rejuvenate_period_ns(uint64_t every_ms, uint32_t jitter_permille, uint32_t random);

#endif
