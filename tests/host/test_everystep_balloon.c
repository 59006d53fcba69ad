/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balloon that is killed at every instruction of what it does (everystep.h).  After each death the
 * guest's view and the VMM's agree: what was given away is released and its request answered once, and
 * not a page besides; what the guest writes from then on stays.
 */
#include "tests/host/balloon.h"
#include "tests/host/everystep.h"

#define GIVEN 6u
#define NUMBERS 3u

static struct boxrig rig;

/* Two in a row, one alone, two downwards, and one that is no memory. */
static const uint32_t given[GIVEN] = { 10, 11, 700, 1300, 1299, POOL_PAGES };
static const struct ringdrv_seg blocks[] = { { POOL_GPA + 64 * 4096, 70 * 4096 },
					     { POOL_GPA + 2000 * 4096 + 1, 2 * 4096 } };

/* ---- requests ---- */

static void submit(uint32_t queue, const struct ringdrv_seg *segs, uint16_t readable,
		   uint16_t writable, uint64_t token)
{
	const struct ringdrv_chain chain = {
		.seg = segs, .readable = readable, .writable = writable, .token = token
	};

	assert_int_equal(ringdrv_add(&bs.rings[queue], &chain), 0);
	step_submit(&bs.rings[queue]);
}

static void answered(struct everystep *e, uint32_t queue)
{
	const struct ringdrv_done done = step_reap(&bs.rings[queue]);

	assert_int_equal(done.token, e->number);
	assert_int_equal(done.len, 0);
	step_check_ring(&bs.rings[queue]);
}

/* The guest uses the page again, and whatever the dead have said is behind us. */
static void expect_released(uint32_t page)
{
	bs.content[page] = 0;
	pool_check_page(&rig, page);
	pool_write(&rig, page);
}

static void check_pool(void)
{
	bs_settle();
	pool_check(&rig);
}

static void inflate_begin(struct everystep *e, const void *arg)
{
	const struct ringdrv_seg seg = { bs.pfns_gpa, GIVEN * 4 };

	(void)arg;
	for (uint32_t i = 0; i < GIVEN; i++)
		bs.pfns[i] = (uint32_t)POOL_PFN + given[i];
	submit(INFLATE, &seg, 1, 0, e->number);
}

static void inflate_check(struct everystep *e, const void *arg)
{
	(void)arg;
	answered(e, INFLATE);
	for (uint32_t i = 0; i < GIVEN - 1; i++)
		expect_released(given[i]);
	check_pool();
}

static void report_begin(struct everystep *e, const void *arg)
{
	(void)arg;
	submit(REPORTING, blocks, 0, ARRAY_SIZE(blocks), e->number);
}

static void report_check(struct everystep *e, const void *arg)
{
	(void)arg;
	answered(e, REPORTING);
	for (uint32_t i = 64; i < 134; i++)
		expect_released(i);
	expect_released(2001);
	check_pool();
}

/* The buffer is held: it is asked back once somebody has read it. */
static void stats_begin(struct everystep *e, const void *arg)
{
	const struct ringdrv_seg seg = { bs.stats_gpa, NUMBERS * 10 };

	(void)arg;
	balloon_forget(&bs.balloon);
	for (uint16_t i = 0; i < NUMBERS; i++) {
		const uint64_t value = e->number + i;

		memcpy(bs.stats + i * 10, &i, 2);
		memcpy(bs.stats + i * 10 + 2, &value, 8);
	}
	submit(STATS, &seg, 1, 0, e->number);
}

static void stats_check(struct everystep *e, const void *arg)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct balloon_figures f;

	(void)arg;
	for (balloon_figures(&bs.balloon, &f);
	     f.known != (1u << NUMBERS) - 1 || f.number[NUMBERS - 1] != e->number + NUMBERS - 1;
	     balloon_figures(&bs.balloon, &f)) {
		assert_true(now_ns() < end);
		usleep(50);
	}
	while (ringdrv_pending(&bs.rings[STATS]) == 0) { /* a POLL may die with who heard it */
		assert_true(now_ns() < end);
		device_poll(bs.dev);
		usleep(1000);
	}
	answered(e, STATS);
	check_pool();
}

/* ---- situations ---- */

#define CASE(name, phase, what)                                                                    \
	{                                                                                          \
		name, STEP_##phase, what##_begin, what##_check, NULL, 0                            \
	}
/* Within a request, before its first report: QUIESCE and ANSWER cross. */
#define CROSS(name, what)                                                                          \
	{                                                                                          \
		name, STEP_BELL, what##_begin, what##_check, NULL, SYS_write                       \
	}

static void test_balloon(void **state)
{
	static const struct situation situations[] = {
		CASE("inflate", SERVE, inflate),
		CASE("reporting", SERVE, report),
		CASE("statistics", SERVE, stats),
		CASE("quiesce with an inflate waiting", QUIESCE, inflate),
		CASE("quiesce with statistics held", QUIESCE, stats),
		CROSS("quiesce within an inflate", inflate),
		CROSS("quiesce within a report", report),
		CASE("activation for one that died, an inflate waiting", RECOVERY, inflate),
		CASE("activation for one that died, statistics held", RECOVERY, stats),
		CASE("activation after a handoff, a report waiting", HANDOFF, report),
	};
	int kicks[BALLOON_QUEUES], calls[BALLOON_QUEUES];

	(void)state;
	bs_open(&rig, BALLOON_FEATURES);
	pool_fill(&rig);
	bs_start();
	for (uint32_t i = 0; i < BALLOON_QUEUES; i++) {
		kicks[i] = bs.rings[i].fd_kick;
		calls[i] = bs.rings[i].fd_call;
	}
	struct everystep e = { .kind = "balloon",
			       .dev = bs.dev,
			       .watch = &bs.watch,
			       .kicks = kicks,
			       .calls = calls,
			       .queues = BALLOON_QUEUES,
			       .random = 1,
			       .wait_at = STEP_NOWHERE };

	for (size_t i = 0; i < ARRAY_SIZE(situations); i++)
		step_situation(&e, &situations[i]);
}

static int teardown(void **state)
{
	(void)state;
	bs_close();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_balloon, teardown),
	};
	const struct scene_group group = {
		.name = "everystep",
		.bytes = 64u << 20,
		.more_memory = pool_add,
	};

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
