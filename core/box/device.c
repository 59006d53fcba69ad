/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of replacement.  A device has at most one active generation, one standby, and one
 * previous: fenced, but alive until its successor has made the first pass, because killing it and
 * making the next standby at once would take the CPU from the successor just when the guest waits
 * (facts: the pause grew five times).  device_raise() works like box_raise().
 */
#include <errno.h>
#include <string.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"

#define REFILL_LATEST_MS 100   /* the next standby, if the old generation is slow to die */
#define RESPAWN_FIRST_MS 10    /* back-off after a standby was lost, doubled each time .. */
#define RESPAWN_LAST_MS 5000   /* .. up to this */
#define STANDBY_FAILURES_MAX 8 /* in a row, when one is needed: give up */

/* ---- the standby ---- */

bool device_standby_ready(const struct device *dev)
{
	return dev->standby != NULL && generation_all(dev->standby, BOX_STANDBY);
}

void device_spawn(struct device *dev)
{
	int ret = 0;

	loop_disarm(dev->sup->loop, &dev->respawn);
	if (dev->standby != NULL || dev->destroying)
		return;
	dev->standby = generation_create(dev);
	for (uint32_t i = 0; i < dev->spec.lanes && dev->standby != NULL && ret == 0; i++) {
		ret = box_spawn(&dev->standby->boxes[i]);
		if (ret != 0) {
			log_error("%s: no standby can be made: %s", dev->spec.id, strerror(-ret));
			/* Boxes after this one were never asked for. */
			for (uint32_t j = i + 1; j < dev->spec.lanes; j++)
				dev->standby->boxes[j].state = BOX_DEAD;
		}
	}
	/* Collected later: a box that is being reaped may be what led here, and its generation all dead. */
	if (ret != 0)
		generation_retire(dev, &dev->standby);
	if (dev->standby == NULL)
		device_raise(dev, DEVICE_EV_LOST);
}

static void device_respawn(struct loop_timer *timer)
{
	struct device *dev = container_of(timer, struct device, respawn);

	generation_collect(dev);
	device_spawn(dev);
}

void device_begin(struct device *dev)
{
	dev->respawn.fire = device_respawn;
	dev->rested.fire = device_rested;
	patrol_begin(dev);
	device_spawn(dev);
}

void device_end(struct device *dev)
{
	dev->destroying = true;
	generation_retire(dev, &dev->standby);
	device_raise(dev, DEVICE_EV_RESET);
	generation_collect(dev);
}

bool device_empty(const struct device *dev)
{
	return dev->active == NULL && dev->standby == NULL && dev->previous == NULL &&
	       dev->leaving == NULL;
}

/* ---- what its boxes tell ---- */

/* To callers that wait: look again. */
static void device_changed(struct device *dev)
{
	pthread_mutex_lock(&dev->sup->lock);
	pthread_cond_broadcast(&dev->sup->changed);
	pthread_mutex_unlock(&dev->sup->lock);
	epoch_changed(dev->sup);
}

void device_box_reached(struct box *box, enum box_state state, enum device_event event)
{
	struct generation *gen = box->gen;
	struct device *dev = gen->dev;

	if (!generation_all(gen, state))
		return;
	if (event == DEVICE_EV_READY)
		dev->standby_failures = 0; /* they are counted in a row */
	if (gen == (event == DEVICE_EV_READY ? dev->standby : dev->active))
		device_raise(dev, event);
	if (event == DEVICE_EV_READY)
		device_changed(dev);
}

void device_suspect(struct device *dev, enum replace_reason reason)
{
	dev->suspicion = reason;
	log_warn("%s: generation %llu is suspect: %s", dev->spec.id,
		 (unsigned long long)dev->active->number, replace_reason_name(reason));
	device_tell(dev, SUSPECT, .text = replace_reason_name(reason));
	device_raise(dev, DEVICE_EV_SUSPECT);
}

void device_box_suspect(struct box *box, enum replace_reason reason)
{
	struct device *dev = box->gen->dev;

	if (box->gen == dev->active)
		device_suspect(dev, reason);
}

void device_box_lost(struct box *box)
{
	struct device *dev = box->gen->dev;

	if (box->gen != dev->standby)
		return;
	device_tell(dev, STANDBY_LOST, .generation = box->gen->number);
	generation_retire(dev, &dev->standby);
	device_raise(dev, DEVICE_EV_LOST);
}

/* Last use of the box: its generation may be freed here. */
void device_box_reaped(struct box *box)
{
	struct device *dev = box->gen->dev;

	generation_collect(dev);
	/* A refill that waited for this. */
	if (dev->respawn.armed && dev->standby_failures == 0 && !epoch_moves(dev->sup))
		device_spawn(dev);
	device_changed(dev);
}

void device_box_broke(struct box *box, uint32_t queue, enum ring_error error)
{
	static const char *const texts[] = {
#define RING_ERROR_TEXT(NAME, text) text,
		RING_ERRORS(RING_ERROR_TEXT)
#undef RING_ERROR_TEXT
	};
	struct device *dev = box->gen->dev;

	if (box->gen != dev->active)
		return;
	/* Once: a box can say so without end. */
	if (dev->broken == NULL) {
		log_warn("%s: queue %u: %s", dev->spec.id, queue, texts[error]);
		dev->broken = texts[error];
	}
	device_raise(dev, DEVICE_EV_BROKE);
}

/* ---- requests and figures ---- */

void device_answer(struct device *dev, struct replace_request **slot, int ret)
{
	struct replace_request *request = *slot;

	if (request == NULL)
		return;
	*slot = NULL;
	if (request->posted) {
		free(request);
		return;
	}
	pthread_mutex_lock(&dev->sup->lock);
	request->ret = ret;
	request->done = true;
	pthread_cond_broadcast(&dev->sup->changed);
	pthread_mutex_unlock(&dev->sup->lock);
}

void device_cancel(struct device *dev)
{
	dev->passage.live = false;
	device_answer(dev, &dev->passage.request, -ECANCELED);
	device_answer(dev, &dev->waiting, -ECANCELED);
}

static uint32_t elapsed_us(uint64_t from_ns, uint64_t to_ns)
{
	const uint64_t us = to_ns > from_ns ? (to_ns - from_ns) / NS_PER_US : 0;

	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static void passage_end(struct device *dev)
{
	struct passage *p = &dev->passage;
	const struct replacement r = {
		.from = p->from,
		.to = dev->active->number,
		.planned = p->planned,
		.carried = p->carried,
		.cold = p->cold,
		.reason = p->reason,
		.fence = p->fence,
		.in_flight = p->in_flight,
		.drain_us = p->planned ? elapsed_us(p->asked_ns, p->fenced_ns) : 0,
		.switch_us = elapsed_us(p->fenced_ns, dev->active->activated_ns),
	};

	p->live = false;
	epoch_changed(dev->sup);
	device_sample(dev, &r);
	device_tell(dev, REPLACED, .replacement = r, .text = replace_reason_name(r.reason));
	if (dev->spec.hooks != NULL && dev->spec.hooks->replaced != NULL)
		dev->spec.hooks->replaced(dev->spec.ctx, &r);
	if (p->request != NULL)
		p->request->result = r;
	device_answer(dev, &p->request, 0);
}

/* ---- actions ---- */

static void device_do_activate(struct device *dev)
{
	uint32_t queue;

	shape_apply(dev);
	if (ring_resume(dev, &queue) != 0) {
		dev->broken = "used->idx is not between what was done and what was asked";
		log_warn("%s: queue %u: %s", dev->spec.id, queue, dev->broken);
		device_raise(dev, DEVICE_EV_BROKE);
		return;
	}
	poison_judge(dev);
	dev->active = dev->standby;
	dev->standby = NULL;
	dev->fresh = false; /* from here on used->idx says what is done */
	generation_order(dev->active, BOX_STANDBY, BOX_EV_ACTIVATE);
}

static void device_do_quiesce(struct device *dev)
{
	dev->passage = (struct passage){
		.live = true,
		.planned = true,
		.from = dev->active->number,
		.reason = dev->waiting->reason,
		.carry = dev->waiting->carry,
		.request = dev->waiting,
		.asked_ns = now_ns(),
	};
	dev->passage.fenced_ns = dev->passage.asked_ns;
	dev->waiting = NULL;
	generation_order(dev->active, BOX_ACTIVE, BOX_EV_QUIESCE);
}

static void device_do_finish(struct device *dev)
{
	dev->active->activated_ns = now_ns();
	reg_attach(dev);
	if (dev->passage.live)
		passage_end(dev);
	/* Also when it took a recovery to get there, and not again when the device was revived. */
	if (dev->starting && dev->spec.hooks != NULL && dev->spec.hooks->started != NULL)
		dev->spec.hooks->started(dev->spec.ctx);
	dev->starting = false;
	/* Only now: see the top of this file.  The reaped box brings the refill forward; one that died
	 * by itself may be reaped already. */
	const bool reaped = dev->previous == NULL || generation_all(dev->previous, BOX_DEAD);

	loop_arm(dev->sup->loop, &dev->respawn,
		 now_ns() + (reaped && !epoch_moves(dev->sup) ? 0 : REFILL_LATEST_MS) * NS_PER_MS);
	evidence_retire(dev);
	/* One that was made for another memory map while this one started is not heard of again, and a
	 * request may wait for it. */
	if (device_standby_ready(dev))
		device_raise(dev, DEVICE_EV_READY);
}

void device_condemn_active(struct device *dev)
{
	if (dev->active == NULL || generation_all(dev->active, BOX_FENCED))
		device_raise(dev, DEVICE_EV_FENCED);
	else
		generation_raise(dev->active, BOX_EV_CONDEMN); /* FENCED comes with the last */
}

static void device_do_condemn(struct device *dev)
{
	device_cancel(dev);
	device_condemn_active(dev);
}

static void device_do_recover(struct device *dev)
{
	/* Whoever asked for a new generation gets one; one that has not begun goes on afterwards. */
	struct replace_request *request = dev->passage.live ? dev->passage.request : NULL;

	budget_count(dev);
	dev->passage = (struct passage){
		.live = true,
		.from = dev->active->number,
		.reason = dev->suspicion,
		.request = request,
		.fenced_ns = now_ns(),
	};
	generation_retire(dev, &dev->previous);
	generation_raise(dev->active, BOX_EV_CONDEMN);
}

/* As it says itself; it is fenced. */
static uint64_t box_served(const struct box *box)
{
	return box->page != NULL ? __atomic_load_n(&box->page->served, __ATOMIC_RELAXED)
				 : UINT64_MAX;
}

static bool device_is_to_rest(const struct device *dev)
{
	return dev->spec.death_window_s != 0 &&
	       budget_back_off_ms(budget_deaths(dev), dev->spec.death_budget) != 0;
}

static void device_do_succeed(struct device *dev)
{
	struct passage *p = &dev->passage;
	bool parked = true;

	p->fence = FENCE_NONE;
	p->served = 0;
	for (uint32_t i = 0; i < dev->active->lanes; i++) {
		const struct box *box = &dev->active->boxes[i];

		/* One that parked and then died took its records along. */
		parked = parked && box->parked && box->fence == FENCE_PARKED && box->page != NULL;
		p->fence = box->fence > p->fence ? box->fence : p->fence;
		p->served = box_served(box) > p->served ? box_served(box) : p->served;
		if (!p->planned)
			poison_blame(box);
	}
	p->carried = p->planned && parked;
	for (uint32_t i = 0; i < dev->active->lanes && p->carried; i++)
		record_take(dev, &dev->active->boxes[i]);
	dev->loaded = false;
	generation_retire(dev, &dev->previous);
	reg_detach(dev);
	dev->previous = dev->active;
	dev->active = NULL;
	p->cold = !device_standby_ready(dev);
	if (budget_spent(dev) || dev->standby_failures > STANDBY_FAILURES_MAX)
		device_raise(dev, DEVICE_EV_EXHAUSTED);
	else if (!p->planned && device_is_to_rest(dev))
		device_raise(dev, DEVICE_EV_REST);
	else
		device_do_spawn(dev);
}

static void device_do_clear(struct device *dev)
{
	reg_detach(dev);
	reg_serve(dev, false);
	generation_retire(dev, &dev->previous);
	generation_retire(dev, &dev->active);
	loop_disarm(dev->sup->loop, &dev->rested);
	poison_forget(dev);
	dev->broken = NULL;
	dev->starting = false;
	dev->refusing = false;
	dev->death_count = 0;
	dev->standby_failures = 0;
	if (!dev->destroying) {
		device_tell(dev, RESET);
		if (dev->spec.hooks != NULL && dev->spec.hooks->reset_done != NULL)
			dev->spec.hooks->reset_done(dev->spec.ctx);
	}
	device_spawn(dev);
}

void device_do_break(struct device *dev)
{
	reg_detach(dev);
	reg_serve(dev, false);
	device_cancel(dev);
	evidence_retire(dev);
	/* It serves nothing any more, and has no business with the guest's memory. */
	if (dev->active != NULL)
		generation_raise(dev->active, BOX_EV_CONDEMN);
	device_tell(dev, BROKEN, .text = dev->broken);
	if (dev->spec.hooks != NULL && dev->spec.hooks->needs_reset != NULL)
		dev->spec.hooks->needs_reset(dev->spec.ctx, dev->broken);
}

static void device_do_respawn(struct device *dev)
{
	uint64_t ms = RESPAWN_FIRST_MS;

	for (uint32_t i = 1; i < dev->standby_failures && ms < RESPAWN_LAST_MS; i++)
		ms *= 2;
	if (++dev->standby_failures == 1)
		ms = 0;
	if (!dev->destroying)
		loop_arm(dev->sup->loop, &dev->respawn, now_ns() + ms * NS_PER_MS);
	if (dev->standby_failures <= STANDBY_FAILURES_MAX)
		return;
	/* Tried on, but nobody should wait for it. */
	device_answer(dev, &dev->waiting, -ECANCELED);
	device_raise(dev, DEVICE_EV_EXHAUSTED);
}

static void device_do_fresh(struct device *dev)
{
	if (dev->waiting != NULL)
		dev->waiting->result.from = dev->standby != NULL ? dev->standby->number : 0;
	generation_retire(dev, &dev->standby);
	device_spawn(dev);
}

static void device_do_settle(struct device *dev)
{
	if (dev->waiting == NULL)
		return;
	dev->waiting->result.planned = true;
	dev->waiting->result.reason = dev->waiting->reason;
	dev->waiting->result.to = dev->standby->number;
	dev->replaced[dev->waiting->reason]++;
	device_answer(dev, &dev->waiting, 0);
}

void device_do_spawn(struct device *dev)
{
	if (device_standby_ready(dev))
		device_raise(dev, DEVICE_EV_READY);
	else
		device_spawn(dev);
}

static void device_do_prepare(struct device *dev)
{
	if (dev->state == DEVICE_ACTIVE && device_standby_ready(dev))
		device_raise(dev, DEVICE_EV_HANDOFF);
	else if (dev->state == DEVICE_ACTIVE)
		device_spawn(dev);
}

static void device_do_offer(struct device *dev)
{
	if (dev->waiting != NULL)
		device_raise(dev, DEVICE_EV_HANDOFF);
}

static void device_do_stall(struct device *dev)
{
	dev->stalls++;
	device_tell(dev, STALLED);
	log_warn("%s: the fence is overdue: a sandbox cannot be stopped (slow storage?)",
		 dev->spec.id);
}

static void device_do_refuse(struct device *dev)
{
	dev->refused = true; /* told by the call; a request that waits may be another's */
}

static void device_do_nothing(struct device *dev)
{
	(void)dev;
}

static void device_do_bug(struct device *dev)
{
	log_error("%s: an event that cannot happen in state %s", dev->spec.id,
		  device_state_name(dev->state));
	CHECK(dev->state == DEVICE_STATE_COUNT); /* never true: said above, ended here */
}

static void (*const device_acts[DEVICE_ACTION_COUNT])(struct device *) = {
	[DEVICE_DO_NONE] = device_do_nothing,    [DEVICE_DO_SPAWN] = device_do_spawn,
	[DEVICE_DO_RESPAWN] = device_do_respawn, [DEVICE_DO_ACTIVATE] = device_do_activate,
	[DEVICE_DO_PREPARE] = device_do_prepare, [DEVICE_DO_OFFER] = device_do_offer,
	[DEVICE_DO_FRESH] = device_do_fresh,     [DEVICE_DO_SETTLE] = device_do_settle,
	[DEVICE_DO_REFUSE] = device_do_refuse,   [DEVICE_DO_QUIESCE] = device_do_quiesce,
	[DEVICE_DO_FINISH] = device_do_finish,   [DEVICE_DO_CONDEMN] = device_do_condemn,
	[DEVICE_DO_RECOVER] = device_do_recover, [DEVICE_DO_SUCCEED] = device_do_succeed,
	[DEVICE_DO_CLEAR] = device_do_clear,     [DEVICE_DO_STALL] = device_do_stall,
	[DEVICE_DO_BREAK] = device_do_break,     [DEVICE_DO_ABANDON] = device_do_abandon,
	[DEVICE_DO_REVIVE] = device_do_revive,   [DEVICE_DO_BUG] = device_do_bug,
	[DEVICE_DO_REST] = device_do_rest,       [DEVICE_DO_VOUCH] = device_do_vouch,
	[DEVICE_DO_FADE] = device_do_fade,       [DEVICE_DO_REFUSE_ALL] = device_do_refuse_all,
	[DEVICE_DO_RENEW] = device_do_renew,     [DEVICE_DO_SHED] = device_do_shed,
};

void device_raise(struct device *dev, enum device_event event)
{
	const struct device_cell cell = device_table(dev->state, event);

	log_debug("%s: %s in %s: %s, %s", dev->spec.id, device_event_name(event),
		  device_state_name(dev->state), device_action_name(cell.action),
		  device_state_name(cell.next));
	dev->state = cell.next;
	device_acts[cell.action](dev);
}
