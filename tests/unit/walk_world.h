/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device in the made-up kernel of walk.h: what can happen to it, one event at a time, and what must
 * hold after each.  The last section makes the world kind again and says what must hold then.
 */
#ifndef MAYFLY_TESTS_UNIT_WALK_WORLD_H
#define MAYFLY_TESTS_UNIT_WALK_WORLD_H

#include "tests/unit/walk.h"

#define REQUESTS 2
#define GENERATIONS_SEEN 8
#define REST_STEPS 2000

static struct world {
	struct supervisor sup;
	struct loop loop;
	struct spawner spawner;
	struct device_hooks hooks;
	struct device *dev;
	struct replace_request requests[REQUESTS];
	bool asked[REQUESTS];
	bool driver; /* the guest set DRIVER_OK and did not reset */
	bool resets; /* a reset was asked for and not reported done */
	bool starts; /* a start was asked for and not reported done */
	bool failed; /* NEEDS_RESET since then */
	struct device_question questions[DEVICE_LANES_MAX]; /* by lane, the last */
	struct epoch_wait move; /* of the last change of the memory map */
	char who[DEVICE_ID_MAX + 1];
	bool looked; /* for it, and nothing has happened since */
} world;

/* ---- what the transport is told ---- */

static void hook_started(void *ctx)
{
	(void)ctx;
	WALK_CHECK(world.starts);
	world.starts = false;
}

static void hook_reset_done(void *ctx)
{
	(void)ctx;
	WALK_CHECK(world.resets && owners(0) == 0);
	world.resets = false;
}

static void hook_needs_reset(void *ctx, const char *why)
{
	(void)ctx;
	WALK_CHECK(why != NULL);
	world.failed = true;
}

static void hook_replaced(void *ctx, const struct replacement *r)
{
	(void)ctx;
	WALK_CHECK(r->to > r->from && r->fence != FENCE_NONE && r->fence < FENCE_COUNT);
	WALK_CHECK(!r->carried || (r->planned && r->fence == FENCE_PARKED));
}

/* Answered there and then, or later, or never. */
static void hook_asked(void *ctx, const struct device_question *question)
{
	(void)ctx;
	WALK_CHECK(world.dev->active != NULL && question->generation == world.dev->active->number);
	world.questions[question->lane] = *question;
	if (pick_rarely(2, 3) == 0)
		WALK_CHECK(device_answer_question(world.dev, question, 0) == 0);
}

/* Done for one that serves, and nobody else has the rings; what is fenced has no say any more. */
static void check_errand(void)
{
	const enum device_state state = world.dev->state;

	WALK_CHECK(state == DEVICE_STARTING || state == DEVICE_ACTIVE ||
		   state == DEVICE_QUIESCING || state == DEVICE_REFUSING);
	WALK_CHECK(owners(world.dev->active->number) == 0);
}

static int hook_release(void *ctx, const struct box_memory *memory, uint64_t gpa, uint32_t pages)
{
	(void)ctx, (void)gpa;
	WALK_CHECK(memory == &world.sup.memory);
	check_errand();
	return pages == UINT32_MAX ? -EPROTO : 0;
}

static int hook_stat(void *ctx, uint32_t tag, uint64_t value)
{
	(void)ctx, (void)value;
	check_errand();
	return tag == UINT32_MAX ? -EPROTO : 0;
}

/* ---- the world ---- */

static void world_open(uint32_t lanes, uint32_t faults)
{
	memset(&kernel, 0, sizeof(kernel));
	memset(&world, 0, sizeof(world));
	walk.pos = 0;
	walk.faults = faults;
	walk.kind = false;
	kernel.clock_ns = NS_PER_S;
	world.spawner = (struct spawner){ .socket = fd_new(0), .pid = 1 };
	world.hooks = (struct device_hooks){ hook_started,  hook_reset_done, hook_needs_reset,
					     hook_replaced, hook_release,    hook_stat,
					     hook_asked };
	world.sup.loop = &world.loop;
	world.sup.spawner = &world.spawner;
	world.sup.on_spawner = (struct loop_source){ supervisor_on_spawner, world.spawner.socket };
	pthread_mutex_init(&world.sup.lock, NULL);
	cond_init(&world.sup.changed);
	const struct device_spec spec = { .id = "walk",
					  .kind = DEV_KIND_MEM, /* which asks, too */
					  .queues = lanes,
					  .lanes = lanes,
					  .guest_memory = true,
					  .death_budget = 2,
					  .death_window_s = 3600,
					  .hooks = &world.hooks };

	WALK_CHECK(device_create(&world.sup, &spec, &world.dev) == 0);
}

static struct generation *world_generation(uint32_t i)
{
	struct generation *const slots[] = { world.dev->active, world.dev->standby,
					     world.dev->previous };
	struct generation *gen = world.dev->leaving;

	if (i < ARRAY_SIZE(slots))
		return slots[i];
	for (i -= (uint32_t)ARRAY_SIZE(slots); i > 0 && gen != NULL; i--)
		gen = gen->next;
	return gen;
}

static void world_check(void)
{
	WALK_CHECK(owners(0) <= 1);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		const struct replace_request *r = &world.requests[i];

		if (world.asked[i] && r->done)
			WALK_CHECK(world.dev->waiting != r && world.dev->passage.request != r &&
				   (r->ret == 0 || r->ret == -ECANCELED));
		if (world.asked[i] && !r->done)
			WALK_CHECK(world.dev->waiting == r || world.dev->passage.request == r);
	}
}

/* ---- what can happen ---- */

static void env_reply(struct box *box, uint32_t how)
{
	struct proc *p = proc_of(box->cookie);
	struct spawn_reply reply = { .cookie = box->cookie, .pid = 1, .pidfd = -1 };

	p->asked = false;
	kernel.cookie = box->cookie;
	if (how < 2) {
		p->alive = true; /* how 1: the program could not be executed; it exits by itself */
		reply.pidfd = fd_new(box->cookie);
	}
	reply.error = how == 0 ? 0 : ENOENT;
	box_spawned(supervisor_find(&world.sup, reply.cookie), &reply);
}

static void env_spawner_dies(void)
{
	world.spawner.pid = 0;
	for (uint32_t i = 0; i < WALK_PROCS; i++)
		kernel.procs[i].asked = false;
	supervisor_on_spawner(&world.sup.on_spawner, EPOLLIN | EPOLLHUP);
}

static void env_report(struct box *box, uint32_t type)
{
	const bool odd = (type == REPORT_HALF || type == REPORT_PARKED || type == REPORT_BROKEN ||
			  type == REPORT_FAILED || type == REPORT_RELEASE || type == REPORT_STAT ||
			  type == REPORT_ASK) &&
			 pick(2) == 1;

	said = (struct box_report){ .type = type };
	if (type == REPORT_PARKED)
		said.value = box->nonce;
	if (type == REPORT_PONG)
		box->pinged = pick(2) == 0; /* asked for or not */
	said_ret = 1;
	if (type == REPORT_HALF)
		said.value = 5;
	if (odd)
		said.value = UINT32_MAX;
	box->on_control.ready(&box->on_control, EPOLLIN);
}

static void env_answer(uint32_t lane)
{
	const struct device_question *q = &world.questions[lane];
	const struct generation *gen = world.dev->active;
	const bool serves = gen != NULL && gen->number == q->generation;
	const int ret = device_answer_question(world.dev, q, 0);

	WALK_CHECK(ret == 0 ? serves : ret == -ESTALE);
}

/* One of them, or all others would come less often. */
static void env_errand(struct box *box)
{
	static const uint32_t types[] = { REPORT_RELEASE, REPORT_SYNC, REPORT_STAT, REPORT_ASK };

	env_report(box, types[pick((uint32_t)ARRAY_SIZE(types))]);
}

static void env_control(struct box *box, int ret)
{
	said_ret = ret;
	box->on_control.ready(&box->on_control, EPOLLIN);
}

static void env_listener(struct box *box, uint32_t events)
{
	struct proc *p = proc_of(box->cookie);

	if ((events & EPOLLIN) && p->served)
		p->trapped = true;
	if (events & EPOLLHUP)
		p->still = true;
	box->on_listener.ready(&box->on_listener, events);
}

static void env_exit(struct box *box)
{
	proc_of(box->cookie)->alive = false;
	box->on_pidfd.ready(&box->on_pidfd, EPOLLIN);
}

static void env_fire(struct loop_timer *timer)
{
	timer->armed = false;
	timer->fire(timer);
}

static void env_start(void)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };

	world.driver = world.starts = true;
	WALK_CHECK(device_start(world.dev, 0, queues) == 0);
}

static void env_reset(void)
{
	world.driver = world.starts = world.failed = false;
	world.resets = true;
	device_reset(world.dev);
}

/* As device_replace() does, but for the waiting. */
static void env_replace(uint32_t i)
{
	struct call call = { .dev = world.dev, .request = &world.requests[i] };

	world.requests[i] = (struct replace_request){ .reason = REPLACE_OPERATOR, .carry = true };
	world.asked[i] = true;
	call_replace(&call);
	if (call.ret != 0)
		world.asked[i] = false;
}

static void env_revive(void)
{
	const enum device_state state = world.dev->state;
	const bool can = state == DEVICE_GONE || state == DEVICE_REFUSING;

	if (can)
		world.failed = false;
	WALK_CHECK(device_revive(world.dev) == (can ? 0 : -EBUSY));
}

/* What an honest box and a quiet host do next. True: something happened. */
static bool rest_box(struct box *box)
{
	const struct proc *p = proc_of(box->cookie);

	if (p->asked)
		return env_reply(box, 0), true;
	if (box->on_pidfd.fd >= 0 && (p->killed || !p->alive))
		return env_exit(box), true;
	if (box->look.armed)
		return env_fire(&box->look), true;
	if (box->on_control.fd >= 0 && box->state == BOX_SEALING && box->listener < 0)
		return env_report(box, REPORT_HALF), true;
	if (box->on_listener.fd >= 0 && box->state == BOX_SEALING && !p->served)
		return env_listener(box, EPOLLIN), true;
	if (box->on_control.fd >= 0 && box->state == BOX_SEALING)
		return env_report(box, REPORT_SEALED), true;
	if (box->ask.due.armed)
		return env_fire(&box->ask.due), true;
	if (box->ask.waits && is_heard(box))
		return env_answer(box->lane), true;
	if (box->on_control.fd >= 0 && box->state == BOX_STARTING)
		return env_report(box, REPORT_ACTIVATED), true;
	if (box->on_control.fd >= 0 && box->state == BOX_QUIESCING)
		return env_report(box, REPORT_PARKED), true;
	if (box->deadline.armed)
		return env_fire(&box->deadline), true;
	return false;
}

/* Another memory map, into which the device is to come. */
static void env_remap(void)
{
	struct box_memory next = world.sup.memory;

	next.map.epoch++;
	set_memory(&world.sup, &next);
	world.move = (struct epoch_wait){
		.look = look_moved, .until = EPOCH_GONE, .ret = -EAGAIN, .who = world.who
	};
	world.sup.wait = &world.move;
	world.sup.step.fire = epoch_step;
	epoch_step(&world.sup.step);
}

static bool rest_look(void)
{
	if (!world.sup.step.armed || world.looked)
		return false;
	world.looked = true;
	env_fire(&world.sup.step);
	return true;
}

static bool rest_others(void)
{
	const uint32_t first = pick_rarely(GENERATIONS_SEEN, 2);

	for (uint32_t g = 0; g < GENERATIONS_SEEN; g++) {
		struct generation *gen = world_generation((first + g) % GENERATIONS_SEEN);

		for (uint32_t i = 0; gen != NULL && i < gen->lanes; i++) {
			if (rest_box(&gen->boxes[i]))
				return true;
		}
	}
	if (world.dev->rested.armed) {
		env_fire(&world.dev->rested);
		return true;
	}
	if (!world.dev->respawn.armed || world.spawner.pid == 0)
		return false;
	env_fire(&world.dev->respawn);
	return true;
}

static bool rest_step(void)
{
	if (rest_others()) {
		world.looked = false;
		return true;
	}
	return rest_look();
}

/* Events are counted first and then the chosen one is made to happen. */
struct turn {
	uint32_t count;
	uint32_t chosen;
};

#define OFFER(cond, happens)                                                                       \
	do {                                                                                       \
		if ((cond) && t->count++ == t->chosen) {                                           \
			happens;                                                                   \
			return;                                                                    \
		}                                                                                  \
	} while (0)

static void offer_box(struct turn *t, struct box *box)
{
	const struct proc *p = proc_of(box->cookie);

	for (uint32_t how = 0; how < 3; how++)
		OFFER(p->asked, env_reply(box, how));
	for (uint32_t type = 1; type < REPORT_TYPE_END; type++)
		OFFER(box->on_control.fd >= 0 && !errand_is(type), env_report(box, type));
	OFFER(box->on_control.fd >= 0, env_errand(box));
	OFFER(box->on_control.fd >= 0, env_control(box, -EPROTO));
	OFFER(box->on_control.fd >= 0, env_control(box, -EPIPE));
	OFFER(box->on_listener.fd >= 0 && (!p->still || p->halted), env_listener(box, EPOLLIN));
	OFFER(box->on_listener.fd >= 0, env_listener(box, EPOLLHUP));
	OFFER(box->on_pidfd.fd >= 0, env_exit(box));
	OFFER(box->deadline.armed, env_fire(&box->deadline));
	OFFER(box->look.armed, env_fire(&box->look));
	OFFER(box->ask.due.armed, env_fire(&box->ask.due));
	OFFER(box->ask.waits, env_answer(box->lane));
	OFFER(box->errands.answer.armed, env_fire(&box->errands.answer));
}

static void offer_boxes(struct turn *t)
{
	for (uint32_t g = 0; g < GENERATIONS_SEEN; g++) {
		struct generation *gen = world_generation(g);

		for (uint32_t i = 0; gen != NULL && i < gen->lanes; i++) {
			const uint32_t before = t->count;

			offer_box(t, &gen->boxes[i]);
			if (before <= t->chosen && t->chosen < t->count)
				return;
		}
	}
}

static void offer_others(struct turn *t)
{
	struct call call = { .dev = world.dev };

	OFFER(world.dev->respawn.armed, env_fire(&world.dev->respawn));
	OFFER(world.dev->rested.armed, env_fire(&world.dev->rested));
	OFFER(!world.driver && !world.resets && world.dev->state == DEVICE_IDLE, env_start());
	OFFER(true, env_reset());
	for (uint32_t i = 0; i < REQUESTS; i++)
		OFFER(!world.asked[i] || world.requests[i].done, env_replace(i));
	OFFER(true, device_replace_post(world.dev, REPLACE_SCHEDULE, false));
	OFFER(true, env_revive());
	OFFER(true, env_remap());
	OFFER(world.sup.step.armed, env_fire(&world.sup.step));
	OFFER(true, call_condemn(&call));
	OFFER(world.dev->state == DEVICE_ACTIVE, call_poll(&call));
	OFFER(walk.faults > 0 && world.spawner.pid != 0, walk.faults--; env_spawner_dies());
}

static void offer(struct turn *t)
{
	offer_boxes(t);
	if (t->count <= t->chosen)
		offer_others(t);
}

static void world_step(void)
{
	struct turn counted = { 0, UINT32_MAX };
	struct turn t = { 0, 0 };

	offer(&counted);
	t.chosen = pick_rarely(counted.count + 1, 3);
	if (t.chosen-- == 0)
		rest_step();
	else
		offer(&t);
	world_check();
}

/* ---- rest ---- */

static void world_settle(void)
{
	uint32_t steps = 0;

	walk.kind = true;
	world.looked = false;
	walk_say("-- the world is kind\n");
	while (rest_step()) {
		world_check();
		WALK_CHECK(++steps < REST_STEPS);
	}
}

static void world_rest(void)
{
	const enum device_state state = world.dev->state;
	const bool given_up = state == DEVICE_GONE || state == DEVICE_REFUSING;

	WALK_CHECK(state == DEVICE_ACTIVE || state == DEVICE_IDLE || state == DEVICE_BROKEN ||
		   given_up || (state == DEVICE_WAITING && world.spawner.pid == 0));
	WALK_CHECK(state != DEVICE_ACTIVE || (world.driver && !world.failed && owners(0) == 1));
	WALK_CHECK(state != DEVICE_ACTIVE || device_standby_ready(world.dev) ||
		   world.spawner.pid == 0);
	WALK_CHECK((state == DEVICE_BROKEN || given_up) == world.failed);
	WALK_CHECK(state != DEVICE_IDLE || !world.driver);
	WALK_CHECK(!world.resets);
	WALK_CHECK(!world.starts || state != DEVICE_ACTIVE);
	WALK_CHECK(world.sup.wait == NULL || world.spawner.pid == 0);
	for (uint32_t i = 0; i < REQUESTS; i++)
		WALK_CHECK(!world.asked[i] || world.requests[i].done || world.spawner.pid == 0);
}

static void world_close(void)
{
	struct call call = { .dev = world.dev };

	call_end(&call);
	world_settle();
	WALK_CHECK(device_empty(world.dev));
	for (uint32_t i = 0; i < REQUESTS; i++)
		WALK_CHECK(!world.asked[i] || world.requests[i].done);
	WALK_CHECK(kernel.held == 1); /* the spawner's socket */
	for (uint32_t i = 0; i < WALK_PROCS; i++)
		WALK_CHECK(!kernel.procs[i].alive);
	world.sup.wait = NULL;
	call_unlink(&call);
	device_free(world.dev);
	pthread_cond_destroy(&world.sup.changed);
	pthread_mutex_destroy(&world.sup.lock);
}

#endif
