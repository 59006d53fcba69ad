/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that died too often: first its successors wait, then it is quarantined.  In quarantine the
 * driver is told (NEEDS_RESET) and what it asks for is answered with errors, by one more generation
 * that does nothing else, since a request without an answer hangs a guest.  When that dies too, or
 * none can be made, nothing is answered.  The operator revives it, at the ring, or the driver resets it.
 */
#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"

void device_rested(struct loop_timer *timer)
{
	device_raise(container_of(timer, struct device, rested), DEVICE_EV_RESTED);
}

void device_do_rest(struct device *dev)
{
	const uint32_t ms = budget_back_off_ms(budget_deaths(dev), dev->spec.death_budget);

	loop_arm(dev->sup->loop, &dev->rested, now_ns() + ms * NS_PER_MS);
	device_tell(dev, RESTING, .number = ms);
	device_spawn(dev);
}

void device_do_abandon(struct device *dev)
{
	const bool spent = budget_spent(dev);

	loop_disarm(dev->sup->loop, &dev->rested);
	dev->broken = spent ? "it died too often" : "no standby can be made";
	log_error("%s: given up: %s", dev->spec.id, dev->broken);
	device_tell(dev, QUARANTINED, .text = dev->broken);
	device_do_break(dev);
	/* An access of a register device is answered by the VMM, which knows no register. */
	if (spent && dev->spec.guest_memory)
		device_do_spawn(dev);
}

void device_do_vouch(struct device *dev)
{
	uint32_t queue;

	/* Once: one that dies of refusing is not tried again. */
	if (!dev->refusing && ring_resume(dev, &queue) == 0)
		device_raise(dev, DEVICE_EV_HANDOFF);
}

void device_do_refuse_all(struct device *dev)
{
	dev->refusing = true;
	dev->active = dev->standby;
	dev->standby = NULL;
	generation_order(dev->active, BOX_STANDBY, BOX_EV_ACTIVATE);
}

void device_do_fade(struct device *dev)
{
	generation_retire(dev, &dev->previous);
	generation_retire(dev, &dev->active);
	/* It was only of an old map: another refuses in its place. */
	if (!dev->refusing)
		device_do_spawn(dev);
}

void device_do_shed(struct device *dev)
{
	dev->refusing = false;
	device_condemn_active(dev);
}

static void quarantine_lift(struct device *dev)
{
	dev->broken = NULL;
	dev->refusing = false;
	dev->death_count = 0;
	dev->standby_failures = 0;
	reg_serve(dev, true);
	device_tell(dev, REVIVED);
}

void device_do_revive(struct device *dev)
{
	quarantine_lift(dev);
	device_do_spawn(dev);
}

void device_do_renew(struct device *dev)
{
	quarantine_lift(dev);
	device_condemn_active(dev);
}
