/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/common/dirty.c, and what virtq.c and blk mark with it: the right bits, none beyond the log, before
 * and after each write (tests/unit/dirty.h), and no mark is lost to one who fetches them on another CPU.
 */
#include <pthread.h>

#include "core/cc.h"
#include "tests/unit/blk.h"
#include "tests/unit/dirty.h"

static struct dirty_log log_room;

/* ---- bits ---- */

#define EDGE_BYTES 5u /* of the log: 40 pages */

static const struct mem_map edge_map = {
	.count = 2,
	.regions = { { 0, 16 * LOG_PAGE, 0x10000 }, { 32 * LOG_PAGE, 64 * LOG_PAGE, 0x20000 } },
};

/* Pages [first, last] are marked, as far as the log goes, and nothing else is, nor is a byte behind it. */
static void expect_pages(const uint8_t *bits, uint64_t first, uint64_t last)
{
	for (uint64_t page = 0; page < 64; page++) {
		const bool want = page >= first && page <= last && page < 8ull * EDGE_BYTES;

		assert_int_equal(bits[page / 8] >> page % 8 & 1, want);
	}
}

static void test_edges(void **state)
{
	static const struct {
		uint64_t gpa, bytes, first, last;
	} marks[] = {
		{ 0, 1, 0, 0 },
		{ 4095, 1, 0, 0 },
		{ 4095, 2, 0, 1 },
		{ 4096, 4096, 1, 1 },
		{ 4096, 4097, 1, 2 },
		{ 7 * 4096 + 4095, 2, 7, 8 }, /* two bytes of the log */
		{ 3 * 4096, 13 * 4096, 3, 15 },
		{ 0, 16 * 4096, 0, 15 },
		{ 32 * 4096 + 1, 1, 32, 32 },
		{ 39 * 4096, 4096, 39, 39 }, /* the last there is a bit for */
		{ 39 * 4096, 2 * 4096, 39, 40 },
		{ 36 * 4096, 60 * 4096, 36, 95 },
		{ 40 * 4096, 1, 40, 40 }, /* beyond it */
		{ 95 * 4096, 4096, 95, 95 },
	};
	uint8_t bits[8];
	const struct dirty_log log = { bits, EDGE_BYTES, &edge_map };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		const uint64_t region =
			marks[i].gpa < 32 * LOG_PAGE ? 0x10000 : 0x20000 - 32 * LOG_PAGE;

		memset(bits, 0, sizeof(bits));
		dirty_mark_gpa(&log, marks[i].gpa, marks[i].bytes);
		expect_pages(bits, marks[i].first, marks[i].last);
		memset(bits, 0, sizeof(bits));
		dirty_mark(&log, (void *)(uintptr_t)(region + marks[i].gpa), marks[i].bytes);
		expect_pages(bits, marks[i].first, marks[i].last);
	}
}

/* Every run of pages in two bytes and a bit. */
static void test_runs(void **state)
{
	uint8_t bits[8];
	const struct dirty_log log = { bits, EDGE_BYTES, &edge_map };

	(void)state;
	for (uint64_t first = 0; first < 40; first++) {
		for (uint64_t last = first; last < 44; last++) {
			memset(bits, 0, sizeof(bits));
			dirty_mark_gpa(&log, first * LOG_PAGE + 7, (last - first) * LOG_PAGE + 1);
			expect_pages(bits, first, last);
			dirty_mark_gpa(&log, first * LOG_PAGE, 1); /* again: it stays */
			expect_pages(bits, first, last);
		}
	}
}

/* Nothing to mark, nowhere to: nothing happens.  Two regions side by side here, apart in the guest. */
static void test_odd(void **state)
{
	static const struct mem_map map = {
		.count = 2,
		.regions = { { 8 * LOG_PAGE, LOG_PAGE, 0x10000 },
			     { 20 * LOG_PAGE, LOG_PAGE, 0x11000 } },
	};
	struct launch_record l = { .log_addr = 1, .map = edge_map };
	uint8_t bits[8] = { 0 };
	const struct dirty_log log = { bits, EDGE_BYTES, &map };
	const struct dirty_log none = { NULL, 0, &edge_map };

	(void)state;
	dirty_mark(NULL, bits, 1);
	dirty_mark_gpa(NULL, 0, UINT64_MAX);
	dirty_mark(&log, NULL, 0);
	dirty_mark_gpa(&none, 0, 4096);
	expect_pages(bits, 1, 0);
	dirty_mark(&log, (void *)(uintptr_t)0x10fff, 2);
	assert_int_equal(bits[1], 1);
	assert_int_equal(bits[2], 1 << 4);
	assert_null(dirty_open(&log_room, &l));
	l.log_bytes = 1;
	assert_ptr_equal(dirty_open(&log_room, &l), &log_room);
}

/* ---- the queue ---- */

static void logged_queue(uint16_t size, uint64_t features, uint64_t used_gpa)
{
	ring_open(&ring, size, features);
	ring.cfg.used_gpa = used_gpa;
	assert_int_equal(ring_queue(&ring, q), 0);
	memset(&launch, 0, sizeof(launch));
	dirty_open_log(&ring, &launch, &log_room, q);
}

static int close_queue(void **state)
{
	(void)state;
	dirty_close_log();
	ring_close(&ring);
	return 0;
}

/* Flags and index in one page, the event field and most elements in others. */
#define ACROSS_GPA (RING_USED_GPA + 4096 - 8)

static void push_logged(uint16_t size, uint64_t used_gpa, uint32_t pages)
{
	logged_queue(size, 0, used_gpa);
	for (int watch = DIRTY_LOOK; watch <= DIRTY_FETCH; watch++) {
		uint32_t most = 0;

		for (uint16_t i = 0; i < size; i++) {
			dirty_begin((enum dirty_watch)watch);
			virtq_push(q, i, i);
			dirty_end();
			assert_true(dirty.marks >= 4);
			most = dirty_marked() > most ? dirty_marked() : most;
		}
		if (watch == DIRTY_LOOK)
			assert_int_equal(most, pages);
	}
}

static void test_push(void **state)
{
	(void)state;
	push_logged(8, RING_USED_GPA, 1);
}

/* Elements in other pages than flags and index, and in two at once. */
static void test_push_across(void **state)
{
	(void)state;
	push_logged(1024, RING_USED_GPA, 3);
}

static void test_push_early(void **state)
{
	(void)state;
	push_logged(8, ACROSS_GPA, 2);
}

/* Whatever is written to ask for kicks, or for none. */
static void ask_logged(uint64_t features, enum dirty_watch watch)
{
	logged_queue(1024, features, ACROSS_GPA);
	for (int i = 0; i < 2; i++) {
		ring_used(&ring)->flags = i != 0 ? VIRTQ_USED_F_NO_NOTIFY : 0;
		*ring_avail_event(&ring) = 77;
		dirty_begin(watch);
		virtq_disarm(q);
		dirty_end();
		dirty_begin(watch);
		virtq_arm(q);
		dirty_end();
		assert_true(dirty.marks >= 2);
		ring_used(&ring)->flags = VIRTQ_USED_F_NO_NOTIFY;
		*ring_avail_event(&ring) = 77;
		dirty_begin(watch);
		assert_int_equal(virtq_activate(q), 0);
		dirty_end();
		/* The whole ring: what a predecessor wrote and could not mark. */
		if (watch == DIRTY_LOOK)
			assert_int_equal(dirty_marked(), 3);
	}
	dirty_close_log();
	ring_close(&ring);
}

static void test_ask(void **state)
{
	(void)state;
	ask_logged(0, DIRTY_LOOK);
	ask_logged(0, DIRTY_FETCH);
	ask_logged(1ull << VIRTIO_F_RING_EVENT_IDX, DIRTY_LOOK);
	ask_logged(1ull << VIRTIO_F_RING_EVENT_IDX, DIRTY_FETCH);
}

/* ---- blk ---- */

static void logged_blk(uint32_t flags)
{
	device_open(image_new(), flags, 1);
	device_start();
	dirty_open_log(&ring, &launch, &log_room, q);
}

static int close_blk(void **state)
{
	dirty_close_log();
	return teardown(state);
}

/* One request by either watch; in the log of the last one there are `pages` pages. */
static void request_logged(uint8_t want, uint32_t type, uint64_t sector,
			   const struct ring_part *data, uint16_t n, uint32_t pages)
{
	for (int watch = DIRTY_FETCH; watch >= DIRTY_LOOK; watch--) {
		for (uint32_t i = 0; i < n; i++) {
			if (data[i].flags & RING_W)
				memset(ring_at(&ring, data[i].gpa, data[i].len), 0xd1, data[i].len);
		}
		offer(type, sector, data, n);
		dirty_begin((enum dirty_watch)watch);
		assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
		dirty_end();
		assert_int_equal(status(), want);
		answered();
	}
	assert_int_equal(dirty_marked(), pages);
}

/* Beside the data: the used ring, and the page of the status byte. */
#define BESIDE 2

static void test_blk_read(void **state)
{
	const struct ring_part whole = { BUFFER_GPA, 4096, RING_W };
	const struct ring_part edge = { BUFFER_GPA + 4096 - 512, 1024, RING_W };
	const struct ring_part parts[] = { { BUFFER_GPA, 512, RING_W },
					   { BUFFER_GPA + 512, 512, RING_W }, /* merged */
					   { BUFFER_GPA + 0x5000, 0x8000, RING_W },
					   { RING_B_GPA, 8192, RING_W } };

	(void)state;
	logged_blk(0);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, 3, &whole, 1, 1 + BESIDE);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, 3, &edge, 1, 2 + BESIDE);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, 3, parts, 4, 1 + 8 + 2 + BESIDE);
}

/* Cut so that it goes through the bounce buffer, which is nobody's memory but the device's. */
static void test_blk_bounced(void **state)
{
	const struct ring_part parts[] = { { BUFFER_GPA + 4095, 2, RING_W },
					   { BUFFER_GPA + 0x5000, 509, RING_W },
					   { RING_B_GPA + 4095, 1, RING_W },
					   { BUFFER_GPA + 0x8000, 40 * 512, RING_W } };

	(void)state;
	logged_blk(0);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, 0, parts, 4, 2 + 1 + 1 + 5 + BESIDE);
}

/* What is cut short or fails has written all the same. */
static void test_blk_short(void **state)
{
	const struct ring_part data = { BUFFER_GPA, 8192, RING_W };

	(void)state;
	logged_blk(0);
	assert_int_equal(ftruncate(launch.fd_backend, IMAGE_BYTES - 4096 - 1024), 0);
	request_logged(VIRTIO_BLK_S_IOERR, VIRTIO_BLK_T_IN, SECTORS - 16, &data, 1, 2 + BESIDE);
}

static void test_blk_others(void **state)
{
	const struct ring_part id[] = { { ID_GPA, 7, RING_W }, { BUFFER_GPA + 4090, 13, RING_W } };
	const struct ring_part out = { BUFFER_GPA, 4096, 0 };

	(void)state;
	logged_blk(BLK_FLUSH);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_GET_ID, 0, id, 2, 2 + BESIDE);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_OUT, 3, &out, 1, BESIDE);
	request_logged(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_FLUSH, 0, &out, 0, BESIDE);
	request_logged(VIRTIO_BLK_S_UNSUPP, 99, 0, &out, 0, BESIDE);
	for (int watch = DIRTY_LOOK; watch <= DIRTY_FETCH; watch++) {
		offer(VIRTIO_BLK_T_IN, 0, &out, 0);
		dirty_begin((enum dirty_watch)watch);
		assert_int_equal(dev_program.refuse(&dev, q), SERVE_DONE);
		dirty_end();
		assert_int_equal(status(), VIRTIO_BLK_S_IOERR);
	}
}

/* ---- somebody who fetches on another CPU ---- */

#define RACE_NS 500000000ull
#define RACE_FETCHES 1000 /* or it was none: on a busy machine it takes longer */

static struct {
	bool stop;
	uint64_t fetched;
} other;

static bool race_goes_on(uint64_t end)
{
	return now_ns() < end || __atomic_load_n(&other.fetched, __ATOMIC_RELAXED) < RACE_FETCHES;
}

static void fetch_word(uint64_t word)
{
	uint64_t taken = __atomic_exchange_n((uint64_t *)dirty.bits + word, 0, __ATOMIC_SEQ_CST);

	for (; taken != 0; taken &= taken - 1) {
		const uint64_t gpa = (word * 64 + (uint64_t)__builtin_ctzll(taken)) * LOG_PAGE;

		memcpy(dirty.copy + gpa, ring_at(&ring, gpa, LOG_PAGE), LOG_PAGE);
		__atomic_fetch_add(&other.fetched, 1, __ATOMIC_RELAXED);
	}
}

static void fetch_all(void)
{
	for (uint64_t word = 0; word < (DIRTY_BYTES + 7) / 8; word++)
		fetch_word(word);
}

static void *fetch_on(void *arg)
{
	while (!__atomic_load_n(&other.stop, __ATOMIC_RELAXED))
		fetch_all();
	return arg;
}

/* Chains that stand in memory once and for all: of the driver's part only avail changes from here on. */
static void post_chains(void)
{
	for (uint16_t i = 0; i < 64; i++) {
		const uint64_t head = HEADER_GPA + i * 0x20u, data = BUFFER_GPA + i * 4096u;
		const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN, .sector = i };
		const uint16_t d = (uint16_t)(3 * i);

		memcpy(ring_at(&ring, head, sizeof(header)), &header, sizeof(header));
		ring_desc(&ring, d, head, sizeof(header), RING_N, (uint16_t)(d + 1));
		ring_desc(&ring, d + 1u, data + 4096 - 256, 512, RING_N | RING_W,
			  (uint16_t)(d + 2));
		ring_desc(&ring, d + 2u, RING_B_GPA + i * 1000u, 1, RING_W, 0);
	}
}

/* A device that writes while its marks are taken and its pages copied: in the end the copy is the memory. */
static void test_fetched_meanwhile(void **state)
{
	const uint64_t end = now_ns() + RACE_NS;
	pthread_t thread;
	uint64_t n = 0;

	(void)state;
	logged_blk(0);
	post_chains();
	other.stop = false;
	other.fetched = 0;
	dirty_each(dirty_copy_page);
	assert_int_equal(pthread_create(&thread, NULL, fetch_on, NULL), 0);
	for (; race_goes_on(end); n++) {
		assert_int_equal(pwrite(launch.fd_backend, &n, sizeof(n), (off_t)(n % 64 * 512)),
				 sizeof(n));
		ring_offer(&ring, (uint16_t)(n % 64 * 3));
		assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	}
	__atomic_store_n(&other.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	fetch_all();
	dirty_copy_page(0, (uint8_t *)ring_avail(&ring),
			dirty.copy + (RING_AVAIL_GPA & ~(LOG_PAGE - 1)));
	dirty.unmarked = 0;
	dirty_each(dirty_look_page);
	assert_int_equal(dirty.unmarked, 0);
	close_blk(state);
}

/* ---- two boxes, one byte of the log ---- */

static void *mark_on(void *page)
{
	const struct dirty_log *log = q->log;

	while (!__atomic_load_n(&other.stop, __ATOMIC_RELAXED)) {
		dirty_mark(log, page, 1);
		__atomic_fetch_add(&other.fetched, 1, __ATOMIC_RELAXED); /* it runs */
	}
	return NULL;
}

/* A mark stays, whoever marks beside it at that moment. */
static void test_neighbours(void **state)
{
	const uint64_t end = now_ns() + RACE_NS;
	uint8_t *mine, *theirs;
	uint64_t lost = 0;
	pthread_t thread;

	(void)state;
	logged_queue(8, 0, RING_USED_GPA);
	mine = ring_at(&ring, BUFFER_GPA, 1);
	theirs = ring_at(&ring, BUFFER_GPA + LOG_PAGE, 1);
	other.stop = false;
	other.fetched = 0;
	assert_int_equal(pthread_create(&thread, NULL, mark_on, theirs), 0);
	while (race_goes_on(end)) {
		__atomic_fetch_and(&dirty.bits[BUFFER_GPA / LOG_PAGE / 8],
				   (uint8_t) ~(1u << BUFFER_GPA / LOG_PAGE % 8), __ATOMIC_SEQ_CST);
		dirty_mark(q->log, mine, 1);
		lost += !dirty_is_marked(BUFFER_GPA);
	}
	__atomic_store_n(&other.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_int_equal(lost, 0);
	assert_true(dirty_is_marked(BUFFER_GPA + LOG_PAGE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_odd),
		cmocka_unit_test_teardown(test_push, close_queue),
		cmocka_unit_test_teardown(test_push_across, close_queue),
		cmocka_unit_test_teardown(test_push_early, close_queue),
		cmocka_unit_test(test_ask),
		cmocka_unit_test_teardown(test_blk_read, close_blk),
		cmocka_unit_test_teardown(test_blk_bounced, close_blk),
		cmocka_unit_test_teardown(test_blk_short, close_blk),
		cmocka_unit_test_teardown(test_blk_others, close_blk),
		cmocka_unit_test(test_fetched_meanwhile),
		cmocka_unit_test_teardown(test_neighbours, close_queue),
	};

	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
