/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that kill whoever serves them, and what becomes of a device that dies too often.  A release
 * blk program dies of GET_ID into a page of guest memory that is not there (SIGBUS): the answer would
 * be written there.  Its status byte lies elsewhere, so it can be answered with an error.
 */
#include <errno.h>
#include <unistd.h>

#include "tests/host/scene.h"

#define WINDOW 8
#define LOOSE_GPA (4ull << 30)
#define LOOSE_BYTES (2ull << 20) /* of which the second half is taken away */
#define GET_ID 8u
#define STATUS_OK 0
#define STATUS_IOERR 1
#define STATUS_NONE 0xff

static struct boxrig rig;

struct request { /* as it lies in guest memory */
	uint32_t type, ioprio;
	uint64_t sector;
	uint8_t id[32];
	uint8_t status;
};

static struct request *window; /* WINDOW of them */
static uint64_t window_gpa;

static int loose_memory(struct boxrig *r)
{
	return guestmem_add(&r->mem, LOOSE_GPA, LOOSE_BYTES, GUESTMEM_LOOSE);
}

/* Once every process that is to have the memory has mapped it, or at any time. */
static int take_away(void **state)
{
	gpa_t gpa;

	(void)state;
	if (guestmem_alloc(&rig.mem, WINDOW * sizeof(*window), 4096, &gpa) != 0)
		return -1;
	window_gpa = gpa.raw;
	window = guestmem_ptr(&rig.mem, gpa, WINDOW * sizeof(*window));
	return ftruncate(rig.mem.fds[rig.mem.map.count - 1], LOOSE_BYTES / 2);
}

static void submit(struct scene *s, uint32_t at, bool kills)
{
	const uint64_t here = window_gpa + at * sizeof(*window);
	const struct ringdrv_seg segs[] = {
		{ here, 16 },
		{ kills ? LOOSE_GPA + LOOSE_BYTES / 2 : here + offsetof(struct request, id), 20 },
		{ here + offsetof(struct request, status), 1 },
	};
	const struct ringdrv_chain chain = {
		.seg = segs, .readable = 1, .writable = 2, .token = at
	};

	window[at] = (struct request){ .type = GET_ID, .status = STATUS_NONE };
	assert_int_equal(ringdrv_add(&s->blk.rings[0], &chain), 0);
}

static void go(struct scene *s)
{
	ringdrv_publish(&s->blk.rings[0]);
	ringdrv_kick(&s->blk.rings[0]);
}

/* The next answers, in order. */
static void await(struct scene *s, uint32_t first, uint32_t count)
{
	struct ringdrv_done done;

	for (uint32_t i = first; i < first + count; i++) {
		while (ringdrv_reap(&s->blk.rings[0], &done) == 0)
			assert_in_range(ringdrv_wait(&s->blk.rings[0], SCENE_WAIT_MS * NS_PER_MS),
					0, 1);
		assert_int_equal(done.token, i);
	}
}

static void submit_window(struct scene *s, uint32_t killer)
{
	for (uint32_t i = 0; i < WINDOW; i++)
		submit(s, i, i == killer);
	go(s);
}

static void check_window(struct scene *s, uint32_t killer)
{
	await(s, 0, WINDOW);
	for (uint32_t i = 0; i < WINDOW; i++)
		assert_int_equal(window[i].status, i == killer ? STATUS_IOERR : STATUS_OK);
}

static struct scene *open_scene(uint32_t limit)
{
	const struct boxrig_blk_config config = { .poison_limit = limit };
	struct scene *s = scene_create(&rig, &config);

	scene_start(s);
	return s;
}

/* ---- poison ---- */

/* At each place of a window: exactly that request fails, after exactly so many deaths. */
static void test_each_position(void **state)
{
	const uint32_t limits[] = { 1, 2, 3 };

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(limits); n++) {
		struct scene *s = open_scene(limits[n]);
		uint64_t deaths = 0;

		for (uint32_t killer = 0; killer < WINDOW; killer++) {
			submit_window(s, killer);
			check_window(s, killer);
			deaths += limits[n];
			const struct device_status status = scene_status(s);

			assert_int_equal(status.poisoned, killer + 1);
			assert_int_equal(status.deaths_by_reason[REPLACE_CRASH], deaths);
		}
		scene_close(s);
	}
}

/* Two in one window, neighbours: each has its own count. */
static void test_two(void **state)
{
	struct scene *s = open_scene(2);

	(void)state;
	for (uint32_t i = 0; i < WINDOW; i++)
		submit(s, i, i == 3 || i == 4);
	go(s);
	await(s, 0, WINDOW);
	for (uint32_t i = 0; i < WINDOW; i++)
		assert_int_equal(window[i].status, i == 3 || i == 4 ? STATUS_IOERR : STATUS_OK);
	assert_int_equal(scene_status(s).poisoned, 2);
	assert_int_equal(scene_status(s).deaths_by_reason[REPLACE_CRASH], 4);
	scene_close(s);
}

/* Kills from outside count for nothing, however many hit a device that is busy. */
static void test_kills_do_not_count(void **state)
{
	const struct boxrig_blk_config config = { .poison_limit = 1 };
	struct scene *s = scene_open(&rig, &config);

	(void)state;
	for (uint64_t i = 0; i < scene_count(100); i++) {
		scene_standby(s);
		assert_int_equal(loadrun_progress(&s->run, 1 + scene_random(s, 50), SCENE_WAIT_MS),
				 0);
		assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
		(void)scene_replaced(s, i);
	}
	assert_int_equal(scene_status(s).poisoned, 0);
	scene_close(s);
}

/* With the limit off it dies of the same request until its budget is spent. */
static void test_off(void **state)
{
	const struct boxrig_blk_config config = { .death_budget = 6, .death_window_s = 600 };
	struct scene *s = scene_create(&rig, &config);

	(void)state;
	scene_start(s);
	submit_window(s, 5);
	await(s, 0, 5);
	assert_int_equal(watch_wait(&s->watch, WATCH_BROKEN, 1, SCENE_WAIT_MS), 0);
	/* In quarantine all is answered, with errors. */
	await(s, 5, WINDOW - 5);
	for (uint32_t i = 0; i < WINDOW; i++)
		assert_int_equal(window[i].status, i < 5 ? STATUS_OK : STATUS_IOERR);
	assert_string_equal(scene_status(s).state, "quarantined");
	assert_int_equal(scene_status(s).poisoned, 0);
	scene_close(s);
}

/* ---- back-off and quarantine ---- */

/* Half of the budget is free; then each death doubles the wait. */
static void test_back_off(void **state)
{
	const struct boxrig_blk_config config = { .death_budget = 10, .death_window_s = 600 };
	struct scene *s = scene_open(&rig, &config);

	(void)state;
	for (uint64_t i = 0; i < 10; i++) {
		scene_standby(s);
		assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
		const struct replacement r = scene_replaced(s, i);

		if (i >= 5)
			assert_true(r.switch_us >= 10000u << (i - 5));
	}
	scene_close(s);
}

static void exhaust(struct scene *s, uint64_t round, uint32_t budget)
{
	const uint64_t before = watch_count(&s->watch, WATCH_REPLACED);

	for (uint64_t i = 0; i < budget; i++) {
		scene_standby(s);
		assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
		(void)scene_replaced(s, before + i);
	}
	assert_int_equal(scene_status(s).deaths_in_window, budget);
	assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
	assert_int_equal(watch_wait(&s->watch, WATCH_BROKEN, round + 1, SCENE_WAIT_MS), 0);
	assert_string_equal(scene_status(s).state, "quarantined");
	assert_string_equal(scene_status(s).broken, "it died too often");
}

static void test_refuses_and_revives(void **state)
{
	const struct boxrig_blk_config config = { .death_budget = 3, .death_window_s = 600 };
	struct scene *s = scene_create(&rig, &config);
	struct replacement r;

	(void)state;
	scene_start(s);
	assert_int_equal(device_revive(s->blk.dev), -EBUSY);
	for (uint64_t round = 0; round < 3; round++) {
		exhaust(s, round, 3);
		assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r), -EBUSY);
		for (uint32_t i = 0; i < 3; i++) { /* what is asked from now on */
			submit(s, i, false);
			go(s);
			await(s, i, 1);
			assert_int_equal(window[i].status, STATUS_IOERR);
		}
		assert_int_equal(device_revive(s->blk.dev), 0);
		submit_window(s, WINDOW);
		check_window(s, WINDOW);
		scene_await(s, "active");
		assert_null(scene_status(s).broken);
	}
	scene_close(s);
}

/* The generation that refuses may be killed too: then nothing answers, until the revival, which goes
 * on at the ring. */
static void test_refuser_dies(void **state)
{
	const struct boxrig_blk_config config = { .death_budget = 1, .death_window_s = 600 };
	struct scene *s = scene_create(&rig, &config);

	(void)state;
	scene_start(s);
	exhaust(s, 0, 1);
	submit(s, 0, false);
	go(s);
	await(s, 0, 1);
	const struct device_status refusing = scene_status(s);

	assert_int_not_equal(refusing.pid, 0);
	assert_int_equal(kill(refusing.pid, SIGKILL), 0);
	while (scene_status(s).pid != 0)
		usleep(100);
	assert_string_equal(scene_status(s).state, "quarantined");
	submit_window(s, WINDOW);
	usleep(20000);
	assert_int_equal(ringdrv_pending(&s->blk.rings[0]), 0);
	assert_int_equal(device_revive(s->blk.dev), 0);
	check_window(s, WINDOW);
	scene_await(s, "active");
	scene_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_each_position),      scene_test(test_two),
		scene_test(test_kills_do_not_count), scene_test(test_off),
		scene_test(test_back_off),           scene_test(test_refuses_and_revives),
		scene_test(test_refuser_dies),
	};

	const struct scene_group group = { .name = "poison",
					   .bytes = 256u << 20,
					   .more_memory = loose_memory,
					   .begin = take_away };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
