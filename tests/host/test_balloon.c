/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon of the release program under the real supervisor: what is released, when, and what
 * becomes of it when boxes are replaced, killed and reset in the middle.  COUNT=n: of each such.
 */
#include "tests/host/balloon.h"

#include <signal.h>

#define QUICK 60
#define SLOW_US 300 /* of a release, so that there is a middle to be in */

static struct boxrig rig;

static int setup(void **state)
{
	(void)state;
	bs_open(&rig, BALLOON_FEATURES);
	pool_fill(&rig);
	bs_start();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (bs.dev != NULL)
		bs_close();
	return 0;
}

static struct balloon_figures figures(void)
{
	struct balloon_figures f;

	balloon_figures(&bs.balloon, &f);
	return f;
}

static void set_delay(uint32_t us)
{
	__atomic_store_n(&bs.delay_us, us, __ATOMIC_RELAXED);
}

/* ---- what is released ---- */

static uint32_t pick_pages(uint32_t *pages, uint32_t most, uint64_t seed)
{
	uint32_t n = 0;

	/* Up, down, alone, twice, in that order. */
	for (uint32_t i = 0; i < 300; i++)
		pages[n++] = 100 + i;
	for (uint32_t i = 0; i < 200; i++)
		pages[n++] = 1200 - i;
	for (uint32_t i = 0; i < 50; i++)
		pages[n++] = 2000 + (uint32_t)(i * 7 + seed) % 700;
	for (uint32_t i = 0; i < 20; i++)
		pages[n++] = 3000;
	pages[n++] = 0;
	pages[n++] = POOL_PAGES - 1;
	assert_true(n <= most);
	return n;
}

static void test_inflate(void **state)
{
	uint32_t pages[PFNS_MAX];
	const uint32_t count = pick_pages(pages, PFNS_MAX, 3);

	(void)state;
	pool_check_holes(&rig);
	bs_give(INFLATE, pages, count);
	bs_await(INFLATE);
	for (uint32_t i = 0; i < count; i++)
		bs.content[pages[i]] = 0;
	pool_check_holes(&rig); /* before anybody touches them */
	pool_check(&rig);
	/* In few reports: 64 pages each where they lie in a row. */
	assert_true(bs.releases < 100);
	assert_int_equal(figures().kept_bytes, 0);
	bs_give(DEFLATE, pages, count);
	bs_await(DEFLATE);
	for (uint32_t i = 0; i < count; i++)
		pool_write(&rig, pages[i]);
	bs_settle();
	pool_check(&rig);
	bs_check_rings();
}

/* The descriptors may cut a number in two. */
static void test_inflate_in_pieces(void **state)
{
	static const uint32_t pages[] = { 5, 900, 901, 17 };
	const struct ringdrv_seg segs[] = { { bs.pfns_gpa, 3 },
					    { bs.pfns_gpa + 3, 6 },
					    { bs.pfns_gpa + 9, 7 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		bs.pfns[i] = (uint32_t)(POOL_PFN + pages[i]);
	bs_submit(INFLATE, segs, 3, 0);
	bs_await(INFLATE);
	bs_taken(&rig, pages, ARRAY_SIZE(pages));
	pool_check(&rig);
}

static void test_no_memory_there(void **state)
{
	static const uint32_t pfns[] = { UINT32_MAX, POOL_PFN - 1, POOL_PFN + POOL_PAGES, 0x80000 };
	const struct ringdrv_seg seg = { bs.pfns_gpa, 4 * (ARRAY_SIZE(pfns) + 1) };
	const uint32_t good = 77;

	(void)state;
	memcpy(bs.pfns, pfns, sizeof(pfns));
	bs.pfns[ARRAY_SIZE(pfns)] = (uint32_t)POOL_PFN + good;
	bs_submit(INFLATE, &seg, 1, 0);
	bs_await(INFLATE);
	bs_taken(&rig, &good, 1);
	pool_check(&rig);
	assert_int_equal(bs_status().generation, 1);
	assert_int_equal(bs.releases, 1);
}

static void test_more_than_one_takes(void **state)
{
	const struct ringdrv_seg segs[] = { { bs.pfns_gpa, PFNS_MAX * 4 },
					    { bs.pfns_gpa, PFNS_MAX * 4 },
					    { bs.pfns_gpa, PFNS_MAX * 4 } };

	(void)state;
	for (uint32_t i = 0; i < PFNS_MAX; i++)
		bs.pfns[i] = (uint32_t)POOL_PFN + i * 2 % POOL_PAGES; /* no two in a row */
	bs_submit(INFLATE, segs, 3, 0);
	bs_await(INFLATE);
	for (uint32_t i = 0; i < PFNS_MAX; i++)
		bs.content[i * 2] = 0;
	pool_check(&rig);
	assert_int_equal(bs.releases, BALLOON_PFNS_MAX);
	assert_int_equal(bs_status().generation, 1);
}

static void test_reporting(void **state)
{
	const struct ringdrv_seg blocks[] = {
		{ POOL_GPA, 512 * 4096 },                   /* as Linux reports them */
		{ POOL_GPA + 1024 * 4096 + 1, 3 * 4096 },   /* two whole pages in it */
		{ POOL_GPA + 1100 * 4096 + 100, 4096 },     /* none */
		{ POOL_GPA + 1200 * 4096 + 4000, 96 + 10 }, /* none */
	};

	(void)state;
	bs_report(blocks, ARRAY_SIZE(blocks));
	bs_await(REPORTING);
	for (uint32_t i = 0; i < 512; i++)
		bs.content[i] = 0;
	bs.content[1025] = bs.content[1026] = 0;
	pool_check_holes(&rig);
	pool_check(&rig);
	assert_int_equal(figures().released_bytes, (512 + 2) * 4096);
	bs_check_rings();
}

/* A feature less, and the queue has another number (virtio 1.2 section 5.5.2). */
static void test_queues_by_features(void **state)
{
	const struct ringdrv_seg block = { POOL_GPA, 4096 };
	const uint32_t page = 0;

	(void)state;
	bs_close();
	bs_open(&rig, BALLOON_FEATURES & ~(1ull << VIRTIO_BALLOON_F_STATS_VQ));
	pool_fill(&rig);
	bs_start();
	bs_submit(STATS, &block, 0, 1);
	bs_await(STATS);
	bs_taken(&rig, &page, 1);
	pool_check(&rig);
}

/* ---- when ---- */

/* The guest has the page again as soon as the request is answered. */
static void test_answered_when_released(void **state)
{
	(void)state;
	set_delay(2000);
	for (uint32_t round = 0; round < 10; round++) {
		const struct ringdrv_seg blocks[] = { { POOL_GPA + 64 * 4096, 100 * 4096 },
						      { POOL_GPA + 300 * 4096, 4096 } };

		bs_report(blocks, 2);
		bs_await(REPORTING);
		for (uint32_t i = 64; i < 164; i++)
			pool_write(&rig, i);
		pool_write(&rig, 300);
		pool_check(&rig);
		usleep(3000); /* whatever came late would come now */
		pool_check(&rig);
	}
	assert_int_equal(bs_status().generation, 1);
}

/* ---- statistics ---- */

static void stats_offer(uint64_t seed)
{
	const struct ringdrv_seg seg = { bs.stats_gpa, 12 * 10 };

	for (uint16_t i = 0; i < 12; i++) { /* the last two nobody knows */
		const uint64_t value = seed + i;

		memcpy(bs.stats + i * 10, &i, 2);
		memcpy(bs.stats + i * 10 + 2, &value, 8);
	}
	bs_submit(STATS, &seg, 1, 0);
}

static void stats_await(uint64_t seed)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	while (figures().known != (1u << BALLOON_STAT_COUNT) - 1 ||
	       figures().number[BALLOON_STAT_COUNT - 1] != seed + BALLOON_STAT_COUNT - 1) {
		assert_true(now_ns() < end);
		usleep(100);
	}
	for (uint32_t i = 0; i < BALLOON_STAT_COUNT; i++)
		assert_int_equal(figures().number[i], seed + i);
}

static void stats_held(void)
{
	bs_settle();
	assert_int_equal(ringdrv_pending(&bs.rings[STATS]), 0);
}

static void test_statistics(void **state)
{
	(void)state;
	device_poll(bs.dev); /* nothing to give back yet */
	for (uint64_t seed = 1000; seed < 10000; seed += 1000) {
		stats_offer(seed);
		stats_await(seed);
		usleep(2000);
		stats_held();
		device_poll(bs.dev);
		bs_await(STATS);
	}
	assert_int_equal(bs_status().generation, 1);
	bs_check_rings();
}

/* Many polls, none of which is taken: no reason for suspicion, and none is saved up. */
static void test_polls_without_a_buffer(void **state)
{
	const uint32_t page = 1;

	(void)state;
	for (int i = 0; i < 200; i++)
		device_poll(bs.dev);
	for (int i = 0; i < 200; i++) { /* with each request it hears one at least */
		bs_give(DEFLATE, &page, 1);
		bs_await(DEFLATE);
	}
	stats_offer(5);
	stats_await(5);
	usleep(2000);
	stats_held();
	assert_int_equal(bs_status().generation, 1);
}

static void kill_active(void)
{
	const struct device_status before = bs_status();
	const uint64_t replaced = watch_count(&bs.watch, WATCH_REPLACED);

	kill(before.pid, SIGKILL);
	assert_int_equal(watch_wait(&bs.watch, WATCH_REPLACED, replaced + 1, SCENE_WAIT_MS), 0);
}

static void replace_active(void)
{
	struct replacement r;

	assert_int_equal(device_replace(bs.dev, REPLACE_OPERATOR, true, &r), 0);
}

/* The successor finds the buffer in the ring, reads it, and holds it. */
static void test_statistics_over_generations(void **state)
{
	void (*const ends[])(void) = { replace_active, kill_active };

	(void)state;
	stats_offer(1);
	for (uint64_t i = 1; i < 20; i++) {
		stats_await(i);
		balloon_forget(&bs.balloon);
		ends[i % 2]();
		stats_await(i);
		stats_held();
		device_poll(bs.dev);
		bs_await(STATS);
		stats_offer(i + 1);
	}
	bs_check_rings();
}

/* ---- in the middle ---- */

struct meddler {
	pthread_t thread;
	void (*end)(void);
	uint64_t count; /* how often it is to, and did */
	bool stop;
};

static void *meddle(void *arg)
{
	struct meddler *m = arg;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		usleep(200 + (uint32_t)(m->count * 137 % 3000));
		m->end();
		m->count++;
	}
	return NULL;
}

/* Requests on three queues while generations come and go. */
static void under_way(void (*end)(void))
{
	struct meddler m = { .end = end };
	const uint64_t rounds = scene_count(QUICK);

	set_delay(SLOW_US);
	assert_int_equal(pthread_create(&m.thread, NULL, meddle, &m), 0);
	for (uint64_t round = 0; round < rounds || m.count < rounds / 4; round++) {
		uint32_t pages[40];
		const uint32_t first = (uint32_t)(round * 61 % 2000);
		const struct ringdrv_seg blocks[] = {
			{ POOL_GPA + (2500 + round % 50) * 4096, 200 * 4096 },
			{ POOL_GPA + 3000 * 4096, 4096 },
		};

		for (uint32_t i = 0; i < 40; i++)
			pages[i] = first + i * 3;
		bs_give(INFLATE, pages, 40);
		bs_await(INFLATE);
		bs_taken(&rig, pages, 40);
		for (uint32_t i = 0; i < 40; i++) /* deflate_on_oom: not told first */
			pool_write(&rig, pages[i]);
		bs_give(DEFLATE, pages, 40);
		bs_await(DEFLATE);
		bs_report(blocks, 2);
		bs_await(REPORTING);
		for (uint32_t i = 0; i < 200; i++)
			pool_write(&rig, (uint32_t)(2500 + round % 50) + i);
		pool_write(&rig, 3000);
		pool_check(&rig);
	}
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	bs_settle();
	pool_check(&rig);
	bs_check_rings();
	assert_string_equal(bs_status().state, "active");
}

static void test_replaced_under_way(void **state)
{
	(void)state;
	under_way(replace_active);
	assert_int_equal(bs_status().deaths_by_reason[REPLACE_PROTOCOL], 0);
}

static void test_killed_under_way(void **state)
{
	(void)state;
	under_way(kill_active);
	assert_int_equal(bs_status().deaths_by_reason[REPLACE_PROTOCOL], 0);
}

/* A reset that is complete takes all back: nothing is released any more of what was under way. */
static void test_reset_under_way(void **state)
{
	const uint64_t rounds = scene_count(QUICK);

	(void)state;
	set_delay(SLOW_US);
	for (uint64_t round = 0; round < rounds; round++) {
		const struct ringdrv_seg block = { POOL_GPA, POOL_BYTES / 4 };
		const uint64_t resets = watch_count(&bs.watch, WATCH_RESET);

		bs_report(&block, 1);
		usleep((uint32_t)(round * 173 % 4000));
		device_reset(bs.dev);
		assert_int_equal(watch_wait(&bs.watch, WATCH_RESET, resets + 1, SCENE_WAIT_MS), 0);
		for (uint32_t i = 0; i < POOL_PAGES / 4; i++)
			pool_write(&rig, i);
		usleep(2 * SLOW_US);
		pool_check(&rig);
		for (uint32_t i = 0; i < BALLOON_QUEUES; i++)
			ringdrv_reset(&bs.rings[i]);
		bs_start();
	}
	pool_check(&rig);
}

/* Told to park while it waits for an answer: it ends the request, and is seen to have parked. */
static void test_handoff_waits_for_the_answer(void **state)
{
	const struct ringdrv_seg block = { POOL_GPA, 128 * 64 * 4096 / 8 };
	struct replacement r;
	uint64_t parked = 0;

	(void)state;
	set_delay(SLOW_US);
	for (uint32_t round = 0; round < 20; round++) {
		const uint64_t before = __atomic_load_n(&bs.releases, __ATOMIC_RELAXED);

		bs_report(&block, 1);
		while (__atomic_load_n(&bs.releases, __ATOMIC_RELAXED) == before)
			usleep(50);
		assert_int_equal(device_replace(bs.dev, REPLACE_OPERATOR, true, &r), 0);
		parked += r.fence == FENCE_PARKED && r.in_flight == 0;
		bs_await(REPORTING);
		for (uint32_t i = 0; i < 1024; i++)
			pool_write(&rig, i);
		pool_check(&rig);
	}
	assert_true(parked >= 15); /* now and then one gets no CPU in time */
}

/* The work that is left undone is ours: whoever waits for it does not hang. */
static void test_no_hang_while_we_work(void **state)
{
	uint32_t pages[50];

	(void)state;
	bs_close();
	bs_limits = (struct suspect_limits){ .hang_ms = 50 };
	bs_open(&rig, BALLOON_FEATURES);
	bs_limits = (struct suspect_limits){ 0 };
	pool_fill(&rig);
	bs_start();
	set_delay(6000); /* 300 ms, and three times as long until the answer */
	for (uint32_t i = 0; i < ARRAY_SIZE(pages); i++)
		pages[i] = i * 2;
	bs_give(INFLATE, pages, ARRAY_SIZE(pages));
	bs_await(INFLATE);
	bs_taken(&rig, pages, ARRAY_SIZE(pages));
	pool_check(&rig);
	assert_int_equal(bs_status().generation, 1);
}

#define BALLOON_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BALLOON_TEST(test_inflate),
		BALLOON_TEST(test_inflate_in_pieces),
		BALLOON_TEST(test_no_memory_there),
		BALLOON_TEST(test_more_than_one_takes),
		BALLOON_TEST(test_reporting),
		BALLOON_TEST(test_queues_by_features),
		BALLOON_TEST(test_answered_when_released),
		BALLOON_TEST(test_statistics),
		BALLOON_TEST(test_polls_without_a_buffer),
		BALLOON_TEST(test_statistics_over_generations),
		BALLOON_TEST(test_replaced_under_way),
		BALLOON_TEST(test_killed_under_way),
		BALLOON_TEST(test_reset_under_way),
		BALLOON_TEST(test_handoff_waits_for_the_answer),
		BALLOON_TEST(test_no_hang_while_we_work),
	};
	const struct scene_group group = {
		.name = "balloon",
		.bytes = 64u << 20,
		.more_memory = pool_add,
	};

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
