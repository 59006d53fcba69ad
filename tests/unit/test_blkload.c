/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block workload against the reference device: a right device is found right, and each fault of
 * a wrong one is noticed, by the counter that stands for it.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/rig/blkblock.h"
#include "tests/rig/blkload.h"
#include "tests/rig/refdev.h"

#define SECTORS 4096
#define MS 1000000ull
#define SECOND (1000 * MS)

struct fixture {
	struct guestmem mem;
	struct ringdrv_queue rings[2];
	struct refdev devs[2];
	struct blkload load;
	int disk_fd;
	uint8_t *disk;
	uint32_t count; /* of rings and devices */
};

static struct fixture fix;

static void start_ring(uint32_t i, uint64_t features, bool quiet)
{
	struct ringdrv_config config = {
		.features = features | RINGDRV_VERSION_1,
		.size = 64,
		.number = (uint16_t)i,
		.first_idx = 65500,
		.in_order = true,
		.quiet = quiet,
		.call_grace_ns = 30 * MS,
	};

	assert_int_equal(ringdrv_init(&fix.rings[i], &fix.mem, &config), 0);
	fix.devs[i] = (struct refdev){
		.map = &fix.mem.map,
		.features = config.features,
		.fd_kick = fix.rings[i].fd_kick,
		.fd_call = fix.rings[i].fd_call,
		.disk = fix.disk,
		.sectors = SECTORS,
		.id = "reference",
	};
	ringdrv_describe(&fix.rings[i], &fix.devs[i].queue);
	refdev_init(&fix.devs[i]);
}

static void start(const struct blkload_config *config, uint64_t features, uint32_t queues)
{
	memset(&fix, 0, sizeof(fix));
	guestmem_init(&fix.mem);
	assert_int_equal(guestmem_add(&fix.mem, 0, 16 << 20, GUESTMEM_4K), 0);
	fix.disk_fd = memfd_create("disk", MFD_CLOEXEC);
	assert_true(fix.disk_fd >= 0);
	assert_int_equal(ftruncate(fix.disk_fd, SECTORS * 512), 0);
	fix.disk = mmap(NULL, SECTORS * 512, PROT_READ | PROT_WRITE, MAP_SHARED, fix.disk_fd, 0);
	assert_ptr_not_equal(fix.disk, MAP_FAILED);
	assert_int_equal(blkload_init(&fix.load, &fix.mem, config), 0);
	for (uint32_t i = 0; i < queues; i++) {
		start_ring(i, features, config->quiet);
		assert_int_equal(blkload_add_queue(&fix.load, &fix.rings[i], (uint16_t)(8 + i)), 0);
	}
	fix.count = queues;
}

static int teardown(void **state)
{
	(void)state;
	if (!fix.disk) /* the test has done it */
		return 0;
	blkload_free(&fix.load);
	blkload_free(&fix.load);
	for (uint32_t i = 0; i < fix.count; i++)
		ringdrv_free(&fix.rings[i]);
	munmap(fix.disk, SECTORS * 512);
	close(fix.disk_fd);
	guestmem_free(&fix.mem);
	fix.disk = NULL;
	return 0;
}

/* One step with the device in this thread.  Completions. */
static int step_inline(uint64_t timeout_ns)
{
	blkload_fill(&fix.load);
	for (uint32_t i = 0; i < fix.count; i++)
		refdev_serve(&fix.devs[i]);
	return blkload_reap(&fix.load, timeout_ns);
}

static void run_inline(uint64_t requests)
{
	while (blkload_completed(&fix.load) < requests && step_inline(SECOND) > 0)
		;
}

static const struct blkload_config all_ops = {
	.sectors = SECTORS,
	.seed = 1,
	.id = "reference",
	.weights = { [BLKLOAD_READ] = 40,
		     [BLKLOAD_WRITE] = 40,
		     [BLKLOAD_FLUSH] = 5,
		     [BLKLOAD_GET_ID] = 5,
		     [BLKLOAD_DISCARD] = 5,
		     [BLKLOAD_ZEROES] = 5 },
};

static void assert_clean(uint64_t at_least)
{
	struct blkload_stats stats;

	blkload_stats(&fix.load, &stats);
	if (!blkload_clean(&fix.load))
		fail_msg("%s", blkload_complaint(&fix.load));
	assert_int_equal(stats.issued, stats.completed);
	assert_true(stats.completed >= at_least);
	assert_string_equal(blkload_complaint(&fix.load), "");
}

static void test_right_device_is_right(void **state)
{
	static const uint64_t features[] = { 0, RINGDRV_INDIRECT, RINGDRV_EVENT_IDX,
					     RINGDRV_INDIRECT | RINGDRV_EVENT_IDX };
	struct blkload_config config = all_ops;

	(void)state;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		config.seed = i;
		start(&config, features[i], 2);
		run_inline(20000);
		assert_int_equal(blkload_drain(&fix.load, SECOND), 0);
		assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
		assert_clean(20000);
		assert_int_equal(fix.load.stats.sectors_verified, SECTORS);
		teardown(NULL);
	}
}

/* Blocking in poll, both event mechanisms, kicks and calls that are really needed. */
static void run_threaded(const struct blkload_config *config, uint64_t features, uint32_t queues,
			 uint64_t requests)
{
	start(config, features, queues);
	for (uint32_t i = 0; i < queues; i++)
		assert_int_equal(refdev_start(&fix.devs[i]), 0);
	while (blkload_completed(&fix.load) < requests)
		assert_true(blkload_step(&fix.load, 10 * SECOND) > 0);
	assert_int_equal(blkload_drain(&fix.load, 10 * SECOND), 0);
	assert_int_equal(blkload_verify(&fix.load, 10 * SECOND), 0);
	for (uint32_t i = 0; i < queues; i++)
		refdev_stop(&fix.devs[i]);
	assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
	assert_clean(requests);
	assert_int_equal(fix.load.stats.sectors_verified, 2 * SECTORS);
}

static void test_threaded_device(void **state)
{
	(void)state;
	run_threaded(&all_ops, 0, 1, 30000);
	teardown(NULL);
	run_threaded(&all_ops, RINGDRV_EVENT_IDX | RINGDRV_INDIRECT, 1, 30000);
	assert_true(fix.rings[0].stats.kicks + fix.rings[0].stats.kicks_saved > 0);
	assert_true(fix.rings[0].stats.calls > 0);
}

static void test_threaded_two_queues(void **state)
{
	(void)state;
	run_threaded(&all_ops, RINGDRV_EVENT_IDX | RINGDRV_INDIRECT, 2, 30000);
	assert_true(fix.rings[0].stats.completed > 1000);
	assert_true(fix.rings[1].stats.completed > 1000);
}

static void test_throughput_mode(void **state)
{
	static struct hist latency;
	struct blkload_config config = {
		.sectors = SECTORS,
		.min_bytes = 4096,
		.max_bytes = 4096,
		.align = 4096,
		.segments = 1,
		.verify = BLKLOAD_HEADER,
		.roam_bytes = 4 << 20,
		.spin_ns = 20000,
		.latency = &latency,
	};
	uint64_t begin = gaps_now();

	(void)state;
	hist_clear(&latency);
	run_threaded(&config, RINGDRV_EVENT_IDX | RINGDRV_INDIRECT, 1, 100000);
	print_message("%.0f requests/s\n", 1e14 / (double)(gaps_now() - begin));
	assert_int_equal(latency.count, fix.load.stats.completed);
	assert_true(hist_percentile(&latency, 0.5) > 0);
}

#define LENT_GPA (64u << 20)

/* Buffers that lie in lent memory now. */
static uint32_t lent_buffers(void)
{
	uint32_t count = 0;

	for (uint16_t i = 0; i < fix.load.queues[0].depth; i++)
		count += fix.load.queues[0].slots[i].data_gpa >= LENT_GPA;
	return count;
}

static void *take_back_main(void *arg)
{
	assert_int_equal(lentmem_take_back(arg, 20000), 0);
	assert_int_equal(guestmem_remove(&fix.mem, LENT_GPA, NULL), 0);
	return NULL;
}

/* Memory comes, is used, and goes from under a load that runs on. */
static void test_lent_memory(void **state)
{
	struct lentmem lent;
	struct blkload_config config = all_ops;
	pthread_t thread;
	uint64_t seen = 0;

	(void)state;
	lentmem_init(&lent);
	config.lent = &lent;
	config.scatter = true;
	config.roam_bytes = 4 << 20;
	start(&config, RINGDRV_INDIRECT, 1);
	for (uint32_t round = 0; round < 20; round++) {
		assert_int_equal(guestmem_add(&fix.mem, LENT_GPA, 1 << 20, GUESTMEM_4K), 0);
		lentmem_give(&lent, LENT_GPA, 1 << 20);
		for (uint32_t i = 0; i < 100; i++) {
			assert_true(step_inline(SECOND) > 0);
			seen += lent_buffers();
		}
		assert_int_equal(pthread_create(&thread, NULL, take_back_main, &lent), 0);
		while (__atomic_load_n(&fix.mem.map.count, __ATOMIC_ACQUIRE) != 1)
			step_inline(SECOND);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
	assert_true(seen > 20 * 100);
	assert_int_equal(blkload_drain(&fix.load, SECOND), 0);
	assert_int_equal(lent.users, 0);
	assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
	assert_clean(20 * 100);
	lentmem_destroy(&lent);
}

/* What each fault must be counted as. */
enum { LOST = 1, DUPLICATED = 2, CORRUPTED = 4, ERRORS = 8 };

static const struct {
	const char *name;
	unsigned int counters;
	uint64_t features;
} expected[REFDEV_FAULT_COUNT] = {
	[REFDEV_NONE] = { "none", 0, 0 },
	[REFDEV_LOSE] = { "lose", LOST, RINGDRV_EVENT_IDX },
	[REFDEV_DOUBLE] = { "double", DUPLICATED, RINGDRV_INDIRECT },
	[REFDEV_BIT] = { "bit", CORRUPTED, 0 },
	[REFDEV_STALE] = { "stale", CORRUPTED, 0 },
	[REFDEV_SKIP] = { "skip", CORRUPTED, 0 },
	[REFDEV_TORN] = { "torn", CORRUPTED, 0 },
	[REFDEV_MISPLACE] = { "misplace", CORRUPTED, 0 },
	[REFDEV_LONG] = { "long", CORRUPTED, 0 },
	[REFDEV_SHORT] = { "short", CORRUPTED, RINGDRV_INDIRECT },
	[REFDEV_NO_STATUS] = { "no status", CORRUPTED, 0 },
	[REFDEV_IOERR] = { "io error", ERRORS, 0 },
	[REFDEV_OVERRUN] = { "overrun", CORRUPTED, 0 },
	[REFDEV_BAD_ID] = { "bad id", CORRUPTED | LOST, 0 },
	[REFDEV_UNUSED_ID] = { "unused id", CORRUPTED, RINGDRV_INDIRECT },
	[REFDEV_BACKWARDS] = { "backwards", LOST, 0 },
	[REFDEV_JUMP] = { "jump", CORRUPTED | LOST, RINGDRV_EVENT_IDX },
	[REFDEV_SWAP] = { "swap", CORRUPTED, 0 },
	[REFDEV_NO_CALL] = { "no call", LOST, RINGDRV_EVENT_IDX },
};

static unsigned int counters_of(const struct blkload_stats *stats)
{
	return (stats->lost ? LOST : 0) | (stats->duplicated ? DUPLICATED : 0) |
	       (stats->corrupted ? CORRUPTED : 0) | (stats->errors ? ERRORS : 0);
}

/* Few requests after the fault, lest a skipped write is overwritten before it is read. */
static unsigned int run_fault(enum refdev_fault fault, uint64_t at, uint64_t requests)
{
	struct blkload_config config = { .sectors = SECTORS, .seed = at, .quiet = true };
	struct blkload_stats stats;

	start(&config, expected[fault].features, 1);
	fix.devs[0].fault = fault;
	fix.devs[0].fault_at = at;
	while (blkload_completed(&fix.load) < requests && step_inline(5 * MS) >= 0) {
		if (fix.rings[0].broken || fix.rings[0].stats.lost_calls)
			break;
		blkload_reap(&fix.load, 0); /* goes to sleep, so that calls matter */
	}
	blkload_drain(&fix.load, 50 * MS);
	if (fix.load.outstanding == 0)
		assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
	blkload_stats(&fix.load, &stats);
	if (fix.devs[0].fault_done == blkload_clean(&fix.load))
		fail_msg("fault \"%s\" not noticed, or not done", expected[fault].name);
	assert_int_equal(blkload_complaint(&fix.load)[0] != '\0', fault != REFDEV_NONE);
	return counters_of(&stats);
}

static void test_every_fault_is_noticed(void **state)
{
	(void)state;
	for (int fault = 0; fault < REFDEV_FAULT_COUNT; fault++) {
		/* The head that was never given exists only on a fresh queue. */
		uint64_t at = fault == REFDEV_UNUSED_ID ? 5 : 700;
		unsigned int got = run_fault((enum refdev_fault)fault, at, at + 60);

		assert_non_null(expected[fault].name);
		if ((got & expected[fault].counters) != expected[fault].counters ||
		    (fault == REFDEV_NONE && got))
			fail_msg("%s: counters %u (%s)", expected[fault].name, got,
				 blkload_complaint(&fix.load));
		teardown(NULL);
	}
}

/* Faults that leave one request wrong, and nothing else, are counted exactly once. */
static void test_single_faults_count_one(void **state)
{
	static const enum refdev_fault faults[] = { REFDEV_DOUBLE, REFDEV_BIT,   REFDEV_STALE,
						    REFDEV_LONG,   REFDEV_SHORT, REFDEV_NO_STATUS,
						    REFDEV_OVERRUN };

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct blkload_stats stats;

		run_fault(faults[i], 300 + 17 * i, 500);
		blkload_stats(&fix.load, &stats);
		assert_int_equal(stats.lost, 0);
		assert_int_equal(stats.duplicated, faults[i] == REFDEV_DOUBLE);
		assert_int_equal(stats.corrupted, faults[i] != REFDEV_DOUBLE);
		teardown(NULL);
	}
}

/* Damage behind the device's back, in one byte, is found both ways. */
static void test_damaged_image_is_found(void **state)
{
	struct blkload_config config = { .sectors = SECTORS, .quiet = true, .seed = 3 };
	struct blkload_stats stats;
	uint64_t sector = 0;

	(void)state;
	start(&config, 0, 1);
	run_inline(3000);
	assert_int_equal(blkload_drain(&fix.load, SECOND), 0);
	while (fix.load.shadow[sector] == 0)
		sector++;
	fix.disk[sector * 512 + 511] ^= 1;
	assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
	blkload_stats(&fix.load, &stats);
	assert_int_equal(stats.corrupted, 1);
	assert_int_equal(refdev_start(&fix.devs[0]), 0);
	assert_int_equal(blkload_verify(&fix.load, SECOND), 0);
	refdev_stop(&fix.devs[0]);
	blkload_stats(&fix.load, &stats);
	assert_int_equal(stats.corrupted, 2);
	/* An old block of the right sector, whole in itself. */
	blkblock_fill((uint64_t *)(void *)(fix.disk + sector * 512), sector, 1);
	fix.load.shadow[sector] = 2;
	assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
	blkload_stats(&fix.load, &stats);
	assert_int_equal(stats.corrupted, 3);
}

static void test_verify_wants_a_drained_load(void **state)
{
	struct blkload_config config = all_ops;

	(void)state;
	config.quiet = true;
	start(&config, 0, 1);
	assert_int_equal(blkload_fill(&fix.load), 8);
	assert_int_equal(blkload_verify(&fix.load, MS), -EBUSY);
	assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), -EBUSY);
	assert_int_equal(blkload_step(&fix.load, MS), 0); /* nobody serves */
	assert_int_equal(blkload_drain(&fix.load, 2 * MS), -ETIMEDOUT);
	refdev_serve(&fix.devs[0]);
	assert_int_equal(blkload_drain(&fix.load, SECOND), 0); /* late is not lost */
	blkload_resume(&fix.load);
	run_inline(1000);
	assert_int_equal(blkload_drain(&fix.load, SECOND), 0);
	assert_true(blkload_clean(&fix.load));
}

static void test_bad_configurations(void **state)
{
	static const struct blkload_config bad[] = {
		{ .sectors = 0 },
		{ .sectors = 8 }, /* fewer than max_bytes */
		{ .sectors = SECTORS, .align = 100 },
		{ .sectors = SECTORS, .min_bytes = 1000 },
		{ .sectors = SECTORS, .min_bytes = 4096, .max_bytes = 512 },
		{ .sectors = SECTORS, .max_bytes = 2 << 20 },
		{ .sectors = SECTORS, .segments = 33 },
		{ .sectors = SECTORS, .align = 4096, .first_sector = 1 },
		{ .sectors = SECTORS, .first_sector = UINT64_MAX - 4 },
	};
	struct blkload load;

	(void)state;
	start(&all_ops, 0, 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(blkload_init(&load, &fix.mem, &bad[i]), -EINVAL);
	assert_int_equal(blkload_add_queue(&fix.load, &fix.rings[0], 0), -EINVAL);
	assert_int_equal(blkload_add_queue(&fix.load, &fix.rings[0], 65), -EINVAL);
}

/* More requests than a tiny disk can take at once: waits, never overlaps. */
static void test_tiny_disk(void **state)
{
	struct blkload_config config = { .sectors = 32, .first_sector = 64, .seed = 9 };

	(void)state;
	start(&config, RINGDRV_INDIRECT, 2);
	run_inline(5000);
	assert_int_equal(blkload_drain(&fix.load, SECOND), 0);
	assert_int_equal(blkload_verify_image(&fix.load, fix.disk_fd), 0);
	assert_clean(5000);
	for (size_t i = 0; i < (size_t)SECTORS * 512; i++)
		if (i / 512 < 64 || i / 512 >= 96)
			assert_int_equal(fix.disk[i], 0);
}

static void test_limit(void **state)
{
	const struct blkload_config config = { .sectors = SECTORS, .seed = 12 };

	(void)state;
	start(&config, 0, 2); /* 8 and 9 deep */
	blkload_limit(&fix.load, 3);
	assert_int_equal(blkload_fill(&fix.load), 3);
	assert_int_equal(fix.rings[0].outstanding, 2);
	blkload_limit(&fix.load, 1);
	for (uint32_t i = 0; i < fix.count; i++)
		refdev_serve(&fix.devs[i]);
	while (fix.load.outstanding > 0)
		assert_true(blkload_reap(&fix.load, SECOND) > 0);
	assert_int_equal(blkload_fill(&fix.load), 1);
	blkload_limit(&fix.load, 100);
	assert_int_equal(blkload_fill(&fix.load), 16);
	for (uint32_t i = 0; i < fix.count; i++)
		refdev_serve(&fix.devs[i]);
	assert_int_equal(blkload_drain(&fix.load, SECOND), 0);
	assert_true(blkload_clean(&fix.load));
}

static void test_pause(void **state)
{
	uint64_t t0, t1, pause = 0;

	(void)state;
	start(&all_ops, 0, 1);
	run_inline(100);
	t0 = gaps_now();
	usleep(5000);
	run_inline(200);
	t1 = gaps_now();
	assert_int_equal(blkload_pause(&fix.load, t0, t1, &pause), 0);
	assert_true(pause >= 5 * MS && pause < 5 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_right_device_is_right, teardown),
		cmocka_unit_test_teardown(test_threaded_device, teardown),
		cmocka_unit_test_teardown(test_threaded_two_queues, teardown),
		cmocka_unit_test_teardown(test_throughput_mode, teardown),
		cmocka_unit_test_teardown(test_lent_memory, teardown),
		cmocka_unit_test_teardown(test_every_fault_is_noticed, teardown),
		cmocka_unit_test_teardown(test_single_faults_count_one, teardown),
		cmocka_unit_test_teardown(test_damaged_image_is_found, teardown),
		cmocka_unit_test_teardown(test_verify_wants_a_drained_load, teardown),
		cmocka_unit_test_teardown(test_bad_configurations, teardown),
		cmocka_unit_test_teardown(test_tiny_disk, teardown),
		cmocka_unit_test_teardown(test_limit, teardown),
		cmocka_unit_test_teardown(test_pause, teardown),
	};

	return cmocka_run_group_tests_name("blkload", tests, NULL, NULL);
}
