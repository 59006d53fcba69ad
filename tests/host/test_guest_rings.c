/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a release program: rings and their indices, features, and what is asked
 * for.  A ring that makes no sense breaks its device and a reset brings it back; nonsense within a
 * request is answered.  An index that was moved before a death is not believed.
 */
#include <signal.h>
#include <unistd.h>

#include "tests/host/hostile.h"

/* The index itself: further ahead than the ring is long, which going back is, too. */
static void test_avail_index(void **state)
{
	static const uint16_t by[] = { RING + 1, 0x7fff, 0x8000, 0xffff, (uint16_t)-RING };
	struct hostile h = hostile_open(false);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(by); i++) {
		scene_start(h.s);
		check_serves(&h);
		const uint16_t used = ringdrv_peek_used_idx(h.q);

		ringdrv_evil_avail_idx(h.q, (uint16_t)(used + by[i]));
		ringdrv_kick_always(h.q);
		check_broken(&h, i + 1, reasons[RING_ERROR_AVAIL]);
		assert_int_equal(ringdrv_peek_used_idx(h.q), used);
		scene_reset(h.s);
	}
	/* And when it is so from the start. */
	ringdrv_evil_avail_idx(h.q, RING + 1);
	assert_int_equal(boxrig_blk_go(&h.s->blk), 0);
	check_broken(&h, ARRAY_SIZE(by) + 1, reasons[RING_ERROR_AVAIL]);
	scene_reset(h.s);
	scene_start(h.s);
	check_serves(&h);
	hostile_close(&h);
}

/* ---- rings ---- */

/* What a driver may say of its ring. Zero: as it is. */
static const struct setup {
	const char *name;
	enum ring_error error;
	uint16_t size;
	uint64_t desc, avail, used; /* added; from 1 << 63 on: instead */
} setups[] = {
	{ "3 entries", RING_ERROR_SIZE, 3, 0, 0, 0 },
	{ "65535 entries", RING_ERROR_SIZE, 65535, 0, 0, 0 },
	{ "2048 entries", RING_ERROR_SIZE, 2 * VIRTQ_SIZE_MAX, 0, 0, 0 },
	{ "descriptors not aligned", RING_ERROR_ADDRESS, 0, 8, 0, 0 },
	{ "avail not aligned", RING_ERROR_ADDRESS, 0, 0, 1, 0 },
	{ "used not aligned", RING_ERROR_ADDRESS, 0, 0, 0, 2 },
	{ "descriptors outside memory", RING_ERROR_ADDRESS, 0, OUTSIDE, 0, 0 },
	{ "avail outside memory", RING_ERROR_ADDRESS, 0, 0, OUTSIDE, 0 },
	{ "used outside memory", RING_ERROR_ADDRESS, 0, 0, 0, OUTSIDE },
	{ "descriptors past the last address", RING_ERROR_ADDRESS, 0, ~0ull << 9, 0, 0 },
};

static void start_with(struct hostile *h, const struct ctl_queue *queue, uint64_t features)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { *queue };

	assert_int_equal(device_start(h->s->blk.dev, features, queues), 0);
}

static void test_ring_setup(void **state)
{
	struct hostile h = hostile_open(false);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(setups); i++) {
		const struct setup *setup = &setups[i];
		struct ctl_queue queue;

		ringdrv_describe(h.q, &queue);
		queue.size = setup->size != 0 ? setup->size : queue.size;
		queue.desc_gpa = setup->desc >> 63 ? setup->desc : queue.desc_gpa + setup->desc;
		queue.avail_gpa += setup->avail;
		queue.used_gpa += setup->used;
		print_message("%s\n", setup->name);
		start_with(&h, &queue, h.s->blk.features);
		check_broken(&h, i + 1, reasons[setup->error]);
		scene_reset(h.s);
	}
	scene_start(h.s);
	check_serves(&h);
	hostile_close(&h);
}

/* A ring's end in the next region, though both are memory; and its end in a hole. */
static void test_ring_across_regions(void **state)
{
	static const uint64_t ends[] = { REGION, HOLE_GPA, FAR_GPA + REGION };
	struct hostile h = hostile_open(false);
	uint64_t breaks = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct ctl_queue rings[3];

		for (int part = 0; part < 3; part++)
			ringdrv_describe(h.q, &rings[part]);
		rings[0].desc_gpa = ends[i] - 16;
		rings[1].avail_gpa = ends[i] - 16;
		rings[2].used_gpa = ends[i] - 16;
		for (int part = 0; part < 3; part++) {
			start_with(&h, &rings[part], h.s->blk.features);
			check_broken(&h, ++breaks, reasons[RING_ERROR_ADDRESS]);
			scene_reset(h.s);
		}
	}
	scene_start(h.s);
	check_serves(&h);
	hostile_close(&h);
}

/* Size 0 is a queue that is not enabled: nothing is served, nothing is broken. */
static void test_ring_disabled(void **state)
{
	struct hostile h = hostile_open(false);
	const struct ctl_queue queue = { .desc_gpa = OUTSIDE, .avail_gpa = 1, .used_gpa = 3 };

	(void)state;
	start_with(&h, &queue, h.s->blk.features);
	assert_int_equal(watch_wait(&h.s->watch, WATCH_STARTED, 1, SCENE_WAIT_MS), 0);
	put_request(&h);
	ringdrv_evil_avail(h.q, 0, 0);
	ringdrv_evil_avail_idx(h.q, 1);
	ringdrv_kick_always(h.q);
	usleep(20000);
	assert_int_equal(ringdrv_peek_used_idx(h.q), 0);
	assert_string_equal(scene_status(h.s).state, "active");
	assert_int_equal(watch_count(&h.s->watch, WATCH_BROKEN), 0);
	scene_reset(h.s);
	scene_start(h.s);
	check_serves(&h);
	hostile_close(&h);
}

/* Features that nobody offered mean nothing; one that was not negotiated may not be used. */
static void test_features(void **state)
{
	struct hostile h = hostile_open(false);
	struct ctl_queue queue;

	(void)state;
	ringdrv_describe(h.q, &queue);
	start_with(&h, &queue, ~0ull);
	check_serves(&h);
	scene_reset(h.s);
	start_with(&h, &queue, RINGDRV_VERSION_1 | RINGDRV_EVENT_IDX);
	check_serves(&h);
	const uint16_t used = ringdrv_peek_used_idx(h.q);

	put_table(&h, 48);
	ringdrv_evil_avail(h.q, used, 0);
	ringdrv_evil_avail_idx(h.q, (uint16_t)(used + 1));
	ringdrv_kick_always(h.q);
	check_broken(&h, 1, reasons[RING_ERROR_INDIRECT]);
	hostile_close(&h);
}

/* ---- requests ---- */

#define SECTORS ((1u << 20) / 512)

static void test_requests(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t bytes;
		uint8_t status;
	} asks[] = {
		{ 0, SECTORS, 512, 1 },
		{ 1, SECTORS, 512, 1 },
		{ 0, SECTORS - 1, 1024, 1 },
		{ 1, SECTORS - 1, 1024, 1 },
		{ 0, ~0ull, 512, 1 },
		{ 1, ~0ull, 512, 1 },
		{ 0, ~0ull / 512, 4096, 1 },
		{ 1, 1ull << 55, 4096, 1 },
		{ 0, 0, 100, 1 },
		{ 1, 0, 513, 1 },
		{ 2, 0, 512, 2 },
		{ 99, 0, 512, 2 },
		{ 0xffffffff, 0, 512, 2 },
		{ 0, SECTORS - 1, 512, 0 },
		{ 1, SECTORS - 1, 512, 0 },
		{ 4, 0, 512, 0 },
		{ 4, ~0ull, 512, 0 },
		{ 8, ~0ull, 512, 0 },
	};
	struct hostile h = hostile_open(false);

	(void)state;
	scene_start(h.s);
	for (size_t i = 0; i < ARRAY_SIZE(asks); i++) {
		const uint8_t status = ask(&h, asks[i].type, asks[i].sector, asks[i].bytes);

		if (status != asks[i].status)
			fail_msg("request %zu: status %u", i, status);
	}
	check_serves(&h);
	assert_int_equal(watch_count(&h.s->watch, WATCH_BROKEN), 0);
	hostile_close(&h);
}

/* Discards and write-zeroes carry their range in the data. */
static void test_ranges(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t sectors, flags, bytes;
		uint8_t status;
	} asks[] = {
		{ 11, SECTORS, 1, 0, 16, 1 },
		{ 11, SECTORS - 1, 2, 0, 16, 1 },
		{ 13, ~0ull, 1, 0, 16, 1 },
		{ 13, 0, BLK_ZERO_MAX_SECTORS + 1, 0, 16, 1 },
		{ 11, 0, 0xffffffff, 0, 16, 1 },
		{ 11, 0, 8, 1, 16, 2 },
		{ 13, 0, 8, 2, 16, 2 },
		{ 13, 0, 8, 0xffffffff, 16, 2 },
		{ 11, 0, 8, 0, 32, 2 },
		{ 11, 0, 8, 0, 15, 2 },
		{ 13, 0, 8, 0, 0, 2 },
		{ 11, 0, 0, 0, 16, 0 },
		{ 13, SECTORS, 0, 0, 16, 0 },
		{ 11, SECTORS - 8, 8, 0, 16, 0 },
		{ 13, SECTORS - 8, 8, 1, 16, 0 },
	};
	struct hostile h = hostile_open(false);

	(void)state;
	scene_start(h.s);
	for (size_t i = 0; i < ARRAY_SIZE(asks); i++) {
		memset(h.data, 0, 64);
		memcpy(h.data, &asks[i].sector, 8);
		memcpy(h.data + 8, &asks[i].sectors, 4);
		memcpy(h.data + 12, &asks[i].flags, 4);
		const uint8_t status = ask(&h, asks[i].type, 0, asks[i].bytes);

		if (status != asks[i].status)
			fail_msg("request %zu: status %u", i, status);
	}
	check_serves(&h);
	assert_int_equal(watch_count(&h.s->watch, WATCH_BROKEN), 0);
	hostile_close(&h);
}

static void test_readonly(void **state)
{
	static const uint32_t writes[] = { 1, 11, 13 };
	struct hostile h = hostile_open(true);

	(void)state;
	scene_start(h.s);
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++)
		assert_int_equal(ask(&h, writes[i], 0, 512), 1);
	assert_int_equal(ask(&h, 0, 0, DATA), 0);
	for (uint32_t i = 0; i < DATA; i++)
		assert_int_equal(h.data[i], 0);
	assert_string_equal(scene_status(h.s).state, "active");
	hostile_close(&h);
}

/* ---- an index that was moved, and a death ---- */

/* What the image holds, in a few bytes. */
static uint64_t image_sum(struct scene *s)
{
	uint64_t words[DATA / 8], sum = 0;

	assert_int_equal(pread(s->blk.image, words, DATA, 8 * 512), DATA);
	for (uint32_t i = 0; i < ARRAY_SIZE(words); i++)
		sum = sum * 31 + words[i];
	return sum;
}

/*
 * The device has served `done` requests, which the VMM knows from a handoff.  Then the index is
 * moved and the box dies: no successor may believe it.  The buffers of all those requests hold
 * something else by now, so that a write that is run again would show.
 */
static void test_used_index_and_death(void **state)
{
	static const struct {
		int16_t used, avail; /* added */
	} moves[] = { { -1, 0 },    { -5, 0 },       { 1, 0 },  { 100, 0 },  { -32768, 0 },
		      { 32767, 0 }, { 0, RING + 1 }, { 0, -1 }, { -1, RING } };
	static const char *const why = "used->idx is not between what was done and what was asked";
	struct hostile h = hostile_open(false);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(moves); i++) {
		struct replacement r;

		scene_start(h.s);
		for (int n = 0; n < 5; n++)
			check_serves(&h);
		assert_int_equal(device_replace(h.s->blk.dev, REPLACE_OPERATOR, true, &r), 0);
		scene_standby(h.s);
		const uint16_t used = ringdrv_peek_used_idx(h.q);
		const uint64_t before = image_sum(h.s);

		memset(h.data, 0x99, DATA);
		*h.head = (struct hostile_head){ 1, 0, 8 };
		/* Stopped first, so that it cannot break the ring itself. */
		assert_int_equal(kill(scene_status(h.s).pid, SIGSTOP), 0);
		ringdrv_evil_used_idx(h.q, (uint16_t)(used + moves[i].used));
		ringdrv_evil_avail_idx(h.q, (uint16_t)(used + moves[i].avail));
		assert_int_equal(kill(scene_status(h.s).pid, SIGKILL), 0);
		check_broken(&h, i + 1, why);
		assert_true(image_sum(h.s) == before);
		scene_reset(h.s);
		assert_true(image_sum(h.s) == before);
	}
	scene_start(h.s);
	check_serves(&h);
	assert_int_equal(watch_count(&h.s->watch, WATCH_REPLACED), ARRAY_SIZE(moves));
	scene_close(h.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_avail_index),
		scene_test(test_ring_setup),
		scene_test(test_ring_across_regions),
		scene_test(test_ring_disabled),
		scene_test(test_features),
		scene_test(test_requests),
		scene_test(test_ranges),
		scene_test(test_readonly),
		scene_test(test_used_index_and_death),
	};

	return hostile_main("guest rings", tests, ARRAY_SIZE(tests));
}
