/* SPDX-License-Identifier: Apache-2.0 */
#include "hotplug/rejuvenate.h"

#include <stddef.h>
#include <sys/random.h>

#include "core/cc.h"

uint64_t rejuvenate_period_ns(uint64_t every_ms, uint32_t jitter_permille, uint32_t random)
{
	const uint64_t every_ns = every_ms * NS_PER_MS;
	const uint64_t most = every_ns / 1000 * jitter_permille;

	return every_ns - (uint64_t)(((unsigned __int128)most * random) >> 32);
}

static uint32_t rejuvenate_random(void)
{
	uint32_t value;

	CHECK(getrandom(&value, sizeof(value), 0) == sizeof(value));
	return value;
}

static void rejuvenate_arm(struct rejuvenate *r)
{
	loop_arm(r->loop, &r->timer,
		 now_ns() + rejuvenate_period_ns(r->every_ms, r->jitter_permille,
						 rejuvenate_random()));
}

static void rejuvenate_fire(struct loop_timer *timer)
{
	struct rejuvenate *r = container_of(timer, struct rejuvenate, timer);

	/* -EBUSY: it is being replaced for another reason, which does as well. */
	device_replace_post(r->dev, REPLACE_SCHEDULE, false);
	rejuvenate_arm(r);
}

void rejuvenate_start(struct rejuvenate *r, struct loop *loop, struct device *dev,
		      uint64_t every_ms, uint32_t jitter_permille, uint32_t index, uint32_t count)
{
	*r = (struct rejuvenate){
		.loop = loop,
		.dev = dev,
		.every_ms = every_ms,
		.jitter_permille = jitter_permille,
		.timer = { .fire = rejuvenate_fire },
	};
	if (every_ms != 0)
		loop_arm(loop, &r->timer, now_ns() + every_ms * NS_PER_MS / count * (index + 1));
}

void rejuvenate_stop(struct rejuvenate *r)
{
	if (r->loop != NULL)
		loop_disarm(r->loop, &r->timer);
}
