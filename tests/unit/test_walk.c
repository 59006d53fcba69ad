/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that a hostile box, a guest, an operator and a failing host can do to the supervisor, played on
 * the real box.c, device.c and supervisor.c (tests/unit/walk.h): breadth first from a device just made,
 * each situation once, until no new one is found or the budget is used up; and at random far beyond.
 *
 * From every situation the world is then made kind: boxes answer, the dead are reaped, time passes.
 * The device must come to rest (serving, or idle, or given up and saying so), each request must have
 * been answered, and destroying it must give back every process, descriptor and byte.
 */
#include "tests/unit/walk_world.h"

/* ---- at random ---- */

static struct {
	uint32_t lanes, faults, steps;
	bool serving; /* begin with a device that serves, its standby ready */
} plan;

static void world_begin(void)
{
	world_open(plan.lanes, plan.faults);
	if (!plan.serving)
		return;
	world_settle();
	env_start();
	world_settle();
	WALK_CHECK(world.dev->state == DEVICE_ACTIVE && device_standby_ready(world.dev));
	walk.kind = false;
}

static void world_end(void)
{
	world_settle();
	world_rest();
	world_close();
}

static void run_plan(void)
{
	world_begin();
	for (uint32_t n = 0; n < plan.steps && walk.pos < WALK_CHOICES / 2; n++)
		world_step();
	world_end();
}

static void walk_randomly(uint32_t lanes, uint32_t walks, uint32_t steps)
{
	for (uint32_t i = 1; i <= walks; i++) {
		plan.serving = false;
		walk.len = 0;
		walk.random = i * 0x9e3779b97f4a7c15ull | 1;
		plan.lanes = lanes;
		plan.faults = i % 4;
		plan.steps = walk_draw(steps);
		walk_try(run_plan);
	}
}

/* What walks at random hardly ever come by, from a device of one box. */
static void walk_from_serving(void (*run)(void), uint32_t walks)
{
	plan.serving = true;
	plan.lanes = 1;
	plan.faults = 0;
	for (uint32_t i = 1; i <= walks; i++) {
		walk.len = 0;
		walk.random = i * 0x9e3779b97f4a7c15ull | 1;
		walk_try(run);
	}
}

/* ---- while it parks ---- */

#define LATE_EVENTS 20 /* some more than one box can come to at once */

/* It says that it parked, is not seen to have for a while, and then comes what can come. */
static void run_parking(void)
{
	world_begin();
	struct generation *first = world.dev->active;

	env_replace(0);
	if (world.dev->active == first && first->boxes[0].state == BOX_QUIESCING)
		env_report(&first->boxes[0], REPORT_PARKED);
	for (int n = 0; n < 3 && world.dev->active == first; n++) {
		struct turn t = { 0, pick(LATE_EVENTS) };

		offer_box(&t, &first->boxes[0]);
		world_check();
	}
	world_end();
}

static void test_while_parking(void **state)
{
	(void)state;
	walk_from_serving(run_parking, 20000);
}

/* ---- while it fades ---- */

/* Its boxes die until one refuses for them; that one is suspect, and then comes what can come. */
static void run_fading(void)
{
	world_begin();
	walk.kind = true; /* but for that */
	while (world.dev->state == DEVICE_ACTIVE) {
		env_exit(&world.dev->active->boxes[0]);
		world_settle();
	}
	WALK_CHECK(world.dev->state == DEVICE_REFUSING);
	walk.kind = false;
	env_control(&world.dev->active->boxes[0], -EPROTO);
	for (int n = 0; n < 3; n++)
		world_step();
	world_end();
}

static void test_while_fading(void **state)
{
	(void)state;
	walk_from_serving(run_fading, 2000);
}

/* ---- breadth first ---- */

#define SITUATIONS (1u << 17)
#define RUNS 60000    /* of each search, unless WALK_RUNS says more */
#define LEAVING_MAX 2 /* generations on their way out, beyond which nothing new is to be seen */

struct situation {
	uint8_t *path; /* how to get there */
	uint32_t len;
	uint32_t steps;
};

static struct {
	uint64_t known[SITUATIONS * 2]; /* digests, open addressing */
	struct situation queue[SITUATIONS];
	uint32_t count;
	struct situation from;
	bool fresh; /* the run ended in a situation that was not known */
} search;

static uint64_t digest_add(uint64_t digest, uint64_t value)
{
	return (digest ^ value) * 0x100000001b3ull;
}

static uint64_t digest_box(uint64_t d, const struct box *box)
{
	const struct proc *p = proc_of(box->cookie);

	d = digest_add(d, box->state | (uint64_t)box->fence << 8);
	d = digest_add(d, (uint64_t)p->asked | p->alive << 1 | p->killed << 2 | p->halted << 3 |
				  p->active << 4 | p->still << 5 | p->trapped << 6 |
				  p->served << 7);
	d = digest_add(d, (uint64_t)(box->on_pidfd.fd < 0) | (box->on_control.fd < 0) << 1 |
				  (box->on_listener.fd < 0) << 2 | box->deadline.armed << 3 |
				  box->look.armed << 4 | box->look_parked << 5 | box->canary << 6 |
				  box->parked << 7 | (box->listener < 0) << 8 |
				  box->errands.synced << 9 | box->errands.answer.armed << 10 |
				  box->ask.waits << 11 | box->ask.due.armed << 12);
	return d;
}

/* All that what comes next can depend on; counters as far as they matter. */
static uint64_t world_digest(uint32_t *leaving)
{
	const struct device *dev = world.dev;
	uint64_t d = 0xcbf29ce484222325ull;
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < REQUESTS; i++)
		waiting += world.asked[i] && !world.requests[i].done;
	d = digest_add(d, dev->state | (uint64_t)waiting << 8);
	d = digest_add(d, (uint64_t)(dev->waiting != NULL) | dev->passage.live << 1 |
				  dev->passage.planned << 2 | dev->passage.carried << 3 |
				  dev->respawn.armed << 4 | dev->fresh << 5 | dev->starting << 6 |
				  (dev->broken != NULL) << 7 | (world.spawner.pid == 0) << 8 |
				  (world.sup.wait != NULL) << 9);
	d = digest_add(d, (dev->standby_failures < 2 ? dev->standby_failures : 2) |
				  walk.faults << 8 |
				  (budget_deaths(dev) < 4 ? budget_deaths(dev) : 4) << 16 |
				  dev->rested.armed << 24 | dev->refusing << 25);
	*leaving = 0;
	for (uint32_t g = 0; g < GENERATIONS_SEEN; g++) {
		struct generation *gen = world_generation(g);

		*leaving += g > 2 && gen != NULL;
		d = digest_add(d, (uint64_t)(gen != NULL) | is_old(gen) << 1);
		for (uint32_t i = 0; gen != NULL && i < gen->lanes; i++)
			d = digest_box(d, &gen->boxes[i]);
	}
	return d;
}

static bool search_add(uint64_t digest)
{
	uint32_t at = (uint32_t)(digest >> 20) % (SITUATIONS * 2);

	while (search.known[at] != 0 && search.known[at] != digest)
		at = (at + 1) % (SITUATIONS * 2);
	if (search.known[at] == digest)
		return false;
	search.known[at] = digest;
	return true;
}

static void search_keep(void)
{
	struct situation *s = &search.queue[search.count++];

	*s = (struct situation){ malloc(walk.pos), walk.pos, search.from.steps + 1 };
	memcpy(s->path, walk.path, walk.pos);
}

/* Along the path, one step more; on from there only where nobody was before. */
static void run_search(void)
{
	uint32_t leaving;

	world_begin();
	for (uint32_t n = 0; n <= search.from.steps; n++)
		world_step();
	const uint64_t digest = world_digest(&leaving);

	search.fresh = search_add(digest);
	if (search.fresh && leaving <= LEAVING_MAX && search.count < SITUATIONS)
		search_keep();
	if (search.fresh) {
		world_settle();
		world_rest();
	}
	world_close();
}

/* The next path that differs only in the last step: false when there is none. */
static bool search_turn(uint32_t made)
{
	while (made > search.from.len && walk.path[made - 1] + 1 == walk.width[made - 1])
		made--;
	if (made == search.from.len)
		return false;
	walk.path[made - 1]++;
	walk.len = made;
	return true;
}

static void search_all(uint32_t lanes, uint32_t faults, bool serving)
{
	const char *more = getenv("WALK_RUNS");
	uint64_t runs = more != NULL ? strtoull(more, NULL, 0) : RUNS;
	uint32_t done = 0;

	plan.serving = serving;
	memset(&search, 0, sizeof(search));
	plan.lanes = lanes;
	plan.faults = faults;
	walk.random = 0;
	search_add(1);
	search.queue[search.count++] = (struct situation){ calloc(1, 1), 0, 0 };
	for (; done < search.count && runs > 0; done++) {
		uint32_t made = 0;

		search.from = search.queue[done];
		memcpy(walk.path, search.from.path, search.from.len);
		walk.len = search.from.len;
		do {
			walk_try(run_search);
			made = walk.pos;
			runs -= runs != 0;
		} while (search_turn(made));
	}
	print_message("%u lanes, %u faults, %s: %u situations, %u looked beyond, %u steps%s\n",
		      lanes, faults, serving ? "serving" : "new", search.count, done,
		      search.from.steps + 1, done == search.count ? "" : " (not all)");
	for (uint32_t i = 0; i < search.count; i++)
		free(search.queue[i].path);
}

static void test_search(void **state)
{
	(void)state;
	for (uint32_t lanes = 1; lanes <= 2; lanes++) {
		search_all(lanes, 0, false);
		search_all(lanes, 0, true);
		search_all(lanes, 1, true);
	}
}

static void test_random_one_lane(void **state)
{
	(void)state;
	walk_randomly(1, 14000, 150);
}

static void test_random_two_lanes(void **state)
{
	(void)state;
	walk_randomly(2, 14000, 200);
}

static void test_random_three_lanes(void **state)
{
	(void)state;
	walk_randomly(3, 14000, 300);
}

/* What has an effect in the tables and still is not walked through, and why. */
static bool box_unwalked(uint32_t state, uint32_t event)
{
	switch (event) {
	case BOX_EV_HALF: /* box_report() makes it MISBEHAVED */
		return state != BOX_SEALING;
	case BOX_EV_UNSOUND: /* of audits, which are not made in these walks */
		return state == BOX_STANDBY || state == BOX_STARTING || state == BOX_ACTIVE;
	case BOX_EV_TRAPPED: /* it is blocked in read() and makes no call */
		return state == BOX_STANDBY;
	default:
		return false;
	}
}

static void test_coverage(void **state)
{
	(void)state;
	for (uint32_t st = 0; st < BOX_STATE_COUNT; st++) {
		for (uint32_t ev = 0; ev < BOX_EVENT_COUNT; ev++) {
			const struct box_cell cell = box_table(st, ev);

			if (cell.action == BOX_DO_BUG)
				assert_int_equal(box_seen[st][ev], 0);
			else if (cell.action != BOX_DO_NONE && !box_unwalked(st, ev) &&
				 box_seen[st][ev] == 0)
				fail_msg("never walked: %s in %s", box_event_name(ev),
					 box_state_name(st));
		}
	}
	for (uint32_t st = 0; st < DEVICE_STATE_COUNT; st++) {
		for (uint32_t ev = 0; ev < DEVICE_EVENT_COUNT; ev++) {
			const struct device_cell cell = device_table(st, ev);
			/* While it starts there is no standby yet that could be lost; and a walk in
			 * which standbys are lost nine times during one rest is too long to come by. */
			const bool never = (st == DEVICE_STARTING && ev == DEVICE_EV_LOST) ||
					   (st == DEVICE_RESTING && ev == DEVICE_EV_EXHAUSTED);

			if (cell.action == DEVICE_DO_BUG)
				assert_int_equal(device_seen[st][ev], 0);
			else if (cell.action != DEVICE_DO_NONE && !never &&
				 device_seen[st][ev] == 0)
				fail_msg("never walked: %s in %s", device_event_name(ev),
					 device_state_name(st));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_search),           cmocka_unit_test(test_while_parking),
		cmocka_unit_test(test_while_fading),     cmocka_unit_test(test_random_one_lane),
		cmocka_unit_test(test_random_two_lanes), cmocka_unit_test(test_random_three_lanes),
		cmocka_unit_test(test_coverage),
	};

	return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
