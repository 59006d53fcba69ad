/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The supervisor has one map that generations are born into.  A change of it makes
 * every standby one of the wrong epoch: they go, and others come.  Whatever happens to a device meanwhile
 * (a recovery, a reset, a start) ends in a standby of the new map becoming active: both maps are valid
 * until the move is over, so that is no harm, and the device has moved.
 *
 * The move is a loop of looks on the supervisor's thread, each of which begins what can be begun.  Devices
 * are handed off one at a time: the pause of one is then that of any handoff, and not that of all of them
 * on too few CPUs.  One whose fence is overdue holds nobody up but the end of the move.  Until all have moved
 * no standby is made for those that have (REFILL_LATEST_MS at most): it would take the CPU from the others.
 */
#include "core/box/epoch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/cond.h"

#define FAILURES_MAX 3    /* of a device's standbys in a row: this map is not to be had */
#define REFILL_EVERY_MS 2 /* about what one takes */
#define LOOK_MS 10        /* at least so often: not all that counts is announced */

/* A wait of another thread's, on its stack. */
struct epoch_wait {
	int (*look)(struct supervisor *sup, struct epoch_wait *wait); /* -EAGAIN: not yet */
	const struct box_memory *next;
	enum replace_reason reason;       /* of the handoffs to come */
	struct device *dev;               /* NULL, or whose shape becomes .. */
	const struct device_shape *shape; /* .. this */
	enum epoch_until until;
	int ret; /* under the supervisor's lock; -EAGAIN: nothing to tell yet */
	char *who;
};

static bool is_old(const struct generation *gen)
{
	return gen != NULL && gen->epoch != gen->dev->sup->memory.map.epoch;
}

static int blame(struct epoch_wait *wait, const struct device *dev, int ret)
{
	memcpy(wait->who, dev->spec.id, sizeof(dev->spec.id));
	return ret;
}

/* ---- standbys ---- */

/* What needs none may have lost hope of one: it is not to be asked for now. */
static bool wants_standby(const struct device *dev)
{
	return dev->standby != NULL || (dev->state != DEVICE_GONE && dev->state != DEVICE_BROKEN);
}

static void renew_standby(struct device *dev)
{
	if (!wants_standby(dev))
		return;
	if (is_old(dev->standby))
		generation_retire(dev, &dev->standby);
	dev->standby_failures = 0;
	device_spawn(dev);
}

static void set_memory(struct supervisor *sup, const struct box_memory *memory)
{
	sup->memory = *memory;
	for (struct device *dev = sup->devices; dev != NULL; dev = dev->next)
		renew_standby(dev);
}

static int look_prepared(struct supervisor *sup, struct epoch_wait *wait)
{
	int ret = 0;

	for (const struct device *dev = sup->devices; dev != NULL; dev = dev->next) {
		/* One that was recovered has moved already, and may be at its next standby. */
		if (!wants_standby(dev) || device_standby_ready(dev) ||
		    (dev->active != NULL && !is_old(dev->active)))
			continue;
		if (dev->standby_failures >= FAILURES_MAX)
			return blame(wait, dev, -EIO);
		ret = blame(wait, dev, -EAGAIN);
	}
	return ret;
}

/* ---- the move ---- */

/* A handoff that waits for nobody: the look sees what became of it. False: no memory now. */
static bool hand_off(struct device *dev)
{
	struct replace_request *request = calloc(1, sizeof(*request));

	if (request == NULL)
		return false;
	*request = (struct replace_request){ .reason = dev->sup->change,
					     .carry = true,
					     .posted = true };
	dev->waiting = request;
	device_raise(dev, DEVICE_EV_REPLACE);
	return true;
}

/* Does what can be done for a device of an old epoch.  True: a handoff is under way, the others wait. */
static bool nudge(struct device *dev)
{
	switch (dev->state) {
	case DEVICE_ACTIVE:
		return dev->waiting != NULL || hand_off(dev);
	case DEVICE_QUIESCING:
		return true;
	case DEVICE_REFUSING:
		device_raise(dev, DEVICE_EV_MOVE);
		return false;
	case DEVICE_BROKEN: /* it serves nothing, and was condemned */
		if (generation_all(dev->active, BOX_FENCED))
			generation_retire(dev, &dev->active);
		return false;
	default: /* on its way to another generation, or fenced by force */
		return false;
	}
}

static bool has_old(const struct device *dev)
{
	bool old = is_old(dev->active) || is_old(dev->previous) || is_old(dev->standby);

	for (const struct generation *gen = dev->leaving; !old && gen != NULL; gen = gen->next)
		old = is_old(gen);
	return old;
}

static int look_moved(struct supervisor *sup, struct epoch_wait *wait)
{
	bool busy = false;
	int ret = 0;

	for (struct device *dev = sup->devices; dev != NULL; dev = dev->next) {
		if (is_old(dev->active) && !busy)
			busy = nudge(dev);
		generation_collect(dev); /* one that was dead when it was retired */
		if (wait->until == EPOCH_GONE ? has_old(dev) : is_old(dev->active))
			ret = blame(wait, dev, -EAGAIN);
	}
	return ret;
}

/* ---- waiting ---- */

bool epoch_moves(const struct supervisor *sup)
{
	return sup->wait != NULL && sup->wait->look == look_moved;
}

/* Refills that waited for the end of the move: one after the other, for now the guest goes on. */
static void refill_all(struct supervisor *sup)
{
	uint64_t at = now_ns();

	for (struct device *dev = sup->devices; dev != NULL; dev = dev->next) {
		if (!dev->respawn.armed || dev->standby_failures != 0)
			continue;
		at += REFILL_EVERY_MS * NS_PER_MS;
		loop_arm(sup->loop, &dev->respawn, at);
	}
}

static void epoch_step(struct loop_timer *timer)
{
	struct supervisor *sup = container_of(timer, struct supervisor, step);
	struct epoch_wait *wait = sup->wait;
	int ret;

	if (wait == NULL)
		return;
	ret = wait->look(sup, wait);
	if (ret == -EAGAIN) {
		loop_arm(sup->loop, timer, now_ns() + LOOK_MS * NS_PER_MS);
		return;
	}
	if (epoch_moves(sup))
		refill_all(sup);
	sup->wait = NULL;
	pthread_mutex_lock(&sup->lock);
	wait->ret = ret;
	pthread_cond_broadcast(&sup->changed);
	pthread_mutex_unlock(&sup->lock);
}

void epoch_changed(struct supervisor *sup)
{
	if (sup->wait != NULL)
		loop_arm(sup->loop, &sup->step, now_ns());
}

struct epoch_call {
	struct supervisor *sup;
	struct epoch_wait *wait;
};

static void epoch_begin(void *arg)
{
	const struct epoch_call *call = arg;
	struct supervisor *sup = call->sup;

	CHECK(sup->wait == NULL); /* one change at a time */
	if (call->wait->dev != NULL) {
		const int ret = shape_begin(call->wait->dev, call->wait->shape);

		if (ret != 0) {
			sup->before = sup->memory; /* nothing to go back from */
			call->wait->ret = ret;
			return;
		}
	}
	if (call->wait->next != NULL) {
		sup->before = sup->memory;
		sup->change = call->wait->reason;
		set_memory(sup, call->wait->next);
	}
	sup->step.fire = epoch_step;
	sup->wait = call->wait;
	epoch_step(&sup->step);
}

static void epoch_forget(void *arg)
{
	struct supervisor *sup = ((const struct epoch_call *)arg)->sup;

	sup->wait = NULL;
	loop_disarm(sup->loop, &sup->step);
}

static void epoch_go_back(void *arg)
{
	struct supervisor *sup = ((const struct epoch_call *)arg)->sup;
	const struct box_memory before = sup->before;

	for (struct device *dev = sup->devices; dev != NULL; dev = dev->next)
		shape_abandon(dev);
	set_memory(sup, &before);
}

static int epoch_await(struct supervisor *sup, struct epoch_wait *wait, uint32_t timeout_ms)
{
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
	struct epoch_call call = { sup, wait };
	int late = 0;

	wait->ret = -EAGAIN;
	loop_call(sup->loop, epoch_begin, &call);
	pthread_mutex_lock(&sup->lock);
	while (wait->ret == -EAGAIN && late == 0) {
		if (timeout_ms == 0)
			pthread_cond_wait(&sup->changed, &sup->lock);
		else
			late = cond_wait_until(&sup->changed, &sup->lock, end);
	}
	pthread_mutex_unlock(&sup->lock);
	if (late != 0)
		loop_call(sup->loop, epoch_forget, &call);
	return wait->ret == -EAGAIN ? -ETIMEDOUT : wait->ret;
}

int supervisor_prepare_memory(struct supervisor *sup, const struct box_memory *next,
			      uint32_t timeout_ms, char who[DEVICE_ID_MAX + 1])
{
	struct epoch_wait wait = {
		.look = look_prepared, .next = next, .reason = REPLACE_MEMORY_MAP, .who = who
	};

	return epoch_await(sup, &wait, timeout_ms);
}

int supervisor_prepare_shape(struct supervisor *sup, const struct box_memory *next,
			     enum replace_reason reason, struct device *dev,
			     const struct device_shape *shape, uint32_t timeout_ms,
			     char who[DEVICE_ID_MAX + 1])
{
	struct epoch_wait wait = { .look = look_prepared,
				   .next = next,
				   .reason = reason,
				   .dev = dev,
				   .shape = shape,
				   .who = who };

	return epoch_await(sup, &wait, timeout_ms);
}

void supervisor_abandon_memory(struct supervisor *sup)
{
	loop_call(sup->loop, epoch_go_back, &(struct epoch_call){ .sup = sup });
}

int supervisor_move_memory(struct supervisor *sup, enum epoch_until until, uint32_t timeout_ms,
			   char who[DEVICE_ID_MAX + 1])
{
	struct epoch_wait wait = { .look = look_moved, .until = until, .who = who };

	return epoch_await(sup, &wait, timeout_ms);
}
