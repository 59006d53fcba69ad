/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/common/virtq.c: each rule that a driver can break gives its error and nothing else; the
 * positions and the signals are those of virtio 1.2 section 2.7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/ring.h"

#define INDIRECT (1ull << VIRTIO_F_RING_INDIRECT_DESC)
#define EVENT_IDX (1ull << VIRTIO_F_RING_EVENT_IDX)
#define TABLE_GPA (RING_DATA_GPA + 0x1008) /* 8-byte aligned only: no rule wants more */

static struct ring ring;
static struct virtq q;
static struct virtq_chain chain;

static void open_queue(uint16_t size, uint64_t features)
{
	ring_open(&ring, size, features);
	assert_int_equal(ring_queue(&ring, &q), 0);
}

static int teardown(void **state)
{
	(void)state;
	ring_close(&ring);
	return 0;
}

static void expect_error(enum ring_error error)
{
	assert_int_equal(virtq_peek(&q, &chain), -EINVAL);
	assert_int_equal(q.error, error);
}

static void expect_init(uint64_t desc, uint64_t avail, uint64_t used, uint16_t size,
			enum ring_error error)
{
	ring.cfg.desc_gpa = desc;
	ring.cfg.avail_gpa = avail;
	ring.cfg.used_gpa = used;
	ring.cfg.size = size;
	assert_int_equal(ring_queue(&ring, &q), error ? -EINVAL : 0);
	assert_int_equal(q.error, error);
	/* A queue that was refused, or has no size, serves nothing. */
	if (error || !size) {
		assert_int_equal(virtq_peek(&q, &chain), error ? -EINVAL : 0);
		assert_int_equal(virtq_activate(&q), error ? -EINVAL : 0);
		assert_int_equal(virtq_arm(&q), 0);
		virtq_disarm(&q);
	}
}

static void test_init(void **state)
{
	const uint64_t d = RING_DESC_GPA, a = RING_AVAIL_GPA, u = RING_USED_GPA, end = RING_B_GPA;

	(void)state;
	ring_open(&ring, 8, 0);
	expect_init(d, a, u, 8, RING_ERROR_NONE);
	expect_init(d, a, u, VIRTQ_SIZE_MAX, RING_ERROR_NONE);
	expect_init(0, 0, 0, 0, RING_ERROR_NONE);
	expect_init(d, a, u, 3, RING_ERROR_SIZE);
	expect_init(d, a, u, 2 * VIRTQ_SIZE_MAX, RING_ERROR_SIZE);
	expect_init(d + 8, a, u, 8, RING_ERROR_ADDRESS);
	expect_init(d, a + 1, u, 8, RING_ERROR_ADDRESS);
	expect_init(d, a, u + 2, 8, RING_ERROR_ADDRESS);
	expect_init(d, a + 2, u + 4, 8, RING_ERROR_NONE);
	/* The last byte of each part, the event fields included, at the end of the region. */
	expect_init(end - 128, a, u, 8, RING_ERROR_NONE);
	expect_init(end - 112, a, u, 8, RING_ERROR_ADDRESS);
	expect_init(d, end - 22, u, 8, RING_ERROR_NONE);
	expect_init(d, end - 20, u, 8, RING_ERROR_ADDRESS);
	expect_init(d, a, end - 72, 8, RING_ERROR_NONE);
	expect_init(d, a, end - 68, 8, RING_ERROR_ADDRESS);
	expect_init(0, a, u, 8, RING_ERROR_ADDRESS);
	expect_init(d, UINT64_MAX - 1, u, 8, RING_ERROR_ADDRESS);
	expect_init(d, a, RING_END_GPA, 8, RING_ERROR_ADDRESS);
}

static void test_peek_chain(void **state)
{
	(void)state;
	open_queue(8, 0);
	assert_int_equal(virtq_peek(&q, &chain), 0);
	ring_desc(&ring, 5, RING_DATA_GPA, 16, RING_N, 2);
	ring_desc(&ring, 2, 0, 0, RING_N, 7); /* empty: at no address */
	ring_desc(&ring, 7, RING_B_GPA, 4096, RING_N | RING_W, 0);
	ring_desc(&ring, 0, RING_END_GPA - 1, 1, RING_W,
		  99); /* next without NEXT counts for nothing */
	ring_offer(&ring, 5);
	for (int again = 0; again < 2; again++) { /* peeking consumes nothing */
		assert_int_equal(virtq_peek(&q, &chain), 1);
		assert_int_equal(chain.head, 5);
		assert_int_equal(chain.segments, 4);
		assert_int_equal(chain.readable, 2);
		assert_int_equal(chain.read_bytes, 16);
		assert_int_equal(chain.write_bytes, 4097);
		assert_ptr_equal(chain.seg[0].data, ring_at(&ring, RING_DATA_GPA, 16));
		assert_null(chain.seg[1].data);
		assert_ptr_equal(chain.seg[2].data, ring_at(&ring, RING_B_GPA, 4096));
		assert_int_equal(chain.seg[3].len, 1);
	}
	virtq_push(&q, chain.head, 4097);
	assert_int_equal(virtq_peek(&q, &chain), 0);
	assert_int_equal(ring_used(&ring)->idx, 1);
	assert_int_equal(ring_used(&ring)->ring[0].id, 5);
	assert_int_equal(ring_used(&ring)->ring[0].len, 4097);
}

static void test_peek_indirect(void **state)
{
	(void)state;
	open_queue(4, INDIRECT);
	/* More entries than the queue is long; walked in an order of its own; WRITE on the
	 * descriptor that points to the table means nothing. */
	ring_desc_at(&ring, TABLE_GPA, 0, RING_DATA_GPA, 1, RING_N, 2);
	ring_desc_at(&ring, TABLE_GPA, 2, RING_DATA_GPA, 2, RING_N, 5);
	ring_desc_at(&ring, TABLE_GPA, 5, RING_DATA_GPA, 4, RING_W, 0);
	ring_desc(&ring, 3, RING_DATA_GPA, 8, RING_N, 1);
	ring_desc(&ring, 1, TABLE_GPA, 6 * 16, VIRTQ_DESC_F_INDIRECT | RING_W, 0);
	ring_offer(&ring, 3);
	assert_int_equal(virtq_peek(&q, &chain), 1);
	assert_int_equal(chain.head, 3);
	assert_int_equal(chain.segments, 4);
	assert_int_equal(chain.readable, 3);
	assert_int_equal(chain.read_bytes, 11);
	assert_int_equal(chain.write_bytes, 4);
}

struct bad_chain {
	enum ring_error error;
	uint64_t features;
	struct virtq_desc first;
	struct virtq_desc second;   /* descriptor 1 of the queue */
	struct virtq_desc table[2]; /* at TABLE_GPA */
};

#define IND VIRTQ_DESC_F_INDIRECT
static const struct bad_chain bad_chains[] = {
	{ RING_ERROR_HEAD, 0, { RING_DATA_GPA, 1, RING_N, 8 }, { 0 }, { { 0 } } },
	{ RING_ERROR_HEAD, 0, { RING_DATA_GPA, 1, RING_N, UINT16_MAX }, { 0 }, { { 0 } } },
	{ RING_ERROR_LOOP, 0, { RING_DATA_GPA, 1, RING_N, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_LOOP, 0, { RING_DATA_GPA, 0, RING_N, 1 }, { 0, 0, RING_N, 0 }, { { 0 } } },
	{ RING_ERROR_ORDER,
	  0,
	  { RING_DATA_GPA, 1, RING_N | RING_W, 1 },
	  { RING_DATA_GPA, 1, 0, 0 },
	  { { 0 } } },
	{ RING_ERROR_ORDER,
	  0,
	  { RING_DATA_GPA, 1, RING_N | RING_W, 1 },
	  { 0, 0, 0, 0 },
	  { { 0 } } },
	{ RING_ERROR_SPAN, 0, { RING_A_GPA - 1, 1, 0, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_SPAN, 0, { RING_B_GPA - 1, 2, 0, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_SPAN, 0, { RING_END_GPA, 1, 0, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_SPAN, 0, { RING_END_GPA - 1, UINT32_MAX, RING_W, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_SPAN, 0, { UINT64_MAX, 2, 0, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_INDIRECT,
	  0,
	  { TABLE_GPA, 16, IND, 0 },
	  { 0 },
	  { { RING_DATA_GPA, 1, 0, 0 } } },
	{ RING_ERROR_INDIRECT, INDIRECT, { TABLE_GPA, 0, IND, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_INDIRECT, INDIRECT, { TABLE_GPA, 24, IND, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_INDIRECT, INDIRECT, { TABLE_GPA, 15, IND, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_INDIRECT,
	  INDIRECT,
	  { TABLE_GPA, 16 * (VIRTQ_SIZE_MAX + 1), IND, 0 },
	  { 0 },
	  { { 0 } } },
	{ RING_ERROR_INDIRECT,
	  INDIRECT,
	  { TABLE_GPA, 16, IND | RING_N, 1 },
	  { RING_DATA_GPA, 1, 0, 0 },
	  { { RING_DATA_GPA, 1, 0, 0 } } },
	{ RING_ERROR_INDIRECT,
	  INDIRECT,
	  { TABLE_GPA, 16, IND, 0 },
	  { 0 },
	  { { TABLE_GPA, 16, IND, 0 } } },
	{ RING_ERROR_SPAN, INDIRECT, { RING_B_GPA - 16, 32, IND, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_SPAN, INDIRECT, { UINT64_MAX - 15, 32, IND, 0 }, { 0 }, { { 0 } } },
	{ RING_ERROR_HEAD,
	  INDIRECT,
	  { TABLE_GPA, 32, IND, 0 },
	  { 0 },
	  { { RING_DATA_GPA, 1, RING_N, 2 } } },
	{ RING_ERROR_LOOP,
	  INDIRECT,
	  { TABLE_GPA, 32, IND, 0 },
	  { 0 },
	  { { RING_DATA_GPA, 1, RING_N, 1 }, { RING_DATA_GPA, 1, RING_N, 0 } } },
	{ RING_ERROR_ORDER,
	  INDIRECT,
	  { RING_DATA_GPA, 1, RING_N | RING_W, 1 },
	  { TABLE_GPA, 16, IND, 0 },
	  { { RING_DATA_GPA, 1, 0, 0 } } },
};

static void test_peek_errors(void **state)
{
	(void)state;
	ring_open(&ring, 8, 0);
	ring_offer(&ring, 0);
	for (size_t i = 0; i < sizeof(bad_chains) / sizeof(bad_chains[0]); i++) {
		const struct bad_chain *bad = &bad_chains[i];

		ring.features = bad->features;
		assert_int_equal(ring_queue(&ring, &q), 0);
		memcpy(ring_at(&ring, RING_DESC_GPA, 16), &bad->first, 16);
		memcpy(ring_at(&ring, RING_DESC_GPA + 16, 16), &bad->second, 16);
		memcpy(ring_at(&ring, TABLE_GPA, 32), bad->table, 32);
		expect_error(bad->error);
		/* The error stays when the driver mends what it did. */
		ring_desc(&ring, 0, RING_DATA_GPA, 1, 0, 0);
		expect_error(bad->error);
		assert_int_equal(ring_used(&ring)->idx, 0);
	}
}

static void test_peek_avail(void **state)
{
	(void)state;
	open_queue(8, 0);
	for (uint16_t i = 0; i < 8; i++)
		ring_offer(&ring, 0);
	ring_desc(&ring, 0, RING_DATA_GPA, 1, 0, 0);
	assert_int_equal(virtq_peek(&q, &chain), 1); /* exactly the queue's length ahead */
	ring_offer(&ring, 0);
	expect_error(RING_ERROR_AVAIL);
	ring_queue(&ring, &q);
	ring_avail(&ring)->idx = UINT16_MAX; /* backwards */
	expect_error(RING_ERROR_AVAIL);
	ring_queue(&ring, &q);
	ring_avail(&ring)->idx = 1;
	ring_avail(&ring)->ring[0] = 8;
	expect_error(RING_ERROR_HEAD);
}

static void test_peek_longest(void **state)
{
	(void)state;
	open_queue(8, 0);
	for (uint16_t i = 0; i < 8; i++)
		ring_desc(&ring, i, RING_DATA_GPA, 1, i < 7 ? RING_N : 0, (uint16_t)(i + 1));
	ring_offer(&ring, 0);
	assert_int_equal(virtq_peek(&q, &chain), 1);
	assert_int_equal(chain.segments, 8);
	ring_close(&ring);

	open_queue(512, 0);
	for (uint16_t i = 0; i < 512; i++)
		ring_desc(&ring, i, RING_DATA_GPA, 1, i != 255 ? RING_N : 0, (uint16_t)(i + 1));
	ring_offer(&ring, 0);
	assert_int_equal(virtq_peek(&q, &chain), 1);
	assert_int_equal(chain.segments, VIRTQ_SEGMENTS_MAX);
	ring_desc(&ring, 255, RING_DATA_GPA, 1, RING_N, 256);
	expect_error(RING_ERROR_LOOP);
}

static void test_push_wraps(void **state)
{
	(void)state;
	ring_open(&ring, 4, 0);
	ring.cfg.next = ring.posted = UINT16_MAX - 1;
	ring_avail(&ring)->idx = ring.posted;
	assert_int_equal(ring_queue(&ring, &q), 0);
	ring_desc(&ring, 3, RING_DATA_GPA, 1, RING_W, 0);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(virtq_peek(&q, &chain), 0);
		ring_offer(&ring, 3);
		assert_int_equal(virtq_peek(&q, &chain), 1);
		virtq_push(&q, chain.head, i);
		assert_int_equal(ring_used(&ring)->idx, ring.posted);
		assert_int_equal(ring_used(&ring)->ring[(uint16_t)(ring.posted - 1) % 4].len, i);
		assert_int_equal(q.next, ring.posted);
	}
}

static void test_push_signals_by_flag(void **state)
{
	uint64_t full = UINT64_MAX - 1;

	(void)state;
	open_queue(4, 0);
	virtq_push(&q, 0, 0);
	virtq_push(&q, 0, 0);
	assert_int_equal(ring_signals(&ring), 2);
	ring_avail(&ring)->flags = VIRTQ_AVAIL_F_NO_INTERRUPT;
	*ring_used_event(&ring) = q.next; /* means nothing without EVENT_IDX */
	virtq_push(&q, 0, 0);
	assert_int_equal(ring_signals(&ring), 0);
	virtq_signal(&q);
	assert_int_equal(ring_signals(&ring), 1);
	/* A full eventfd neither blocks nor fails. */
	assert_int_equal(write(ring.call, &full, sizeof(full)), sizeof(full));
	virtq_signal(&q);
	assert_true(ring_signals(&ring) == full);
}

static void test_push_signals_by_event(void **state)
{
	(void)state;
	ring_open(&ring, 4, EVENT_IDX);
	ring.cfg.next = UINT16_MAX - 2;
	assert_int_equal(ring_queue(&ring, &q), 0);
	ring_avail(&ring)->flags = VIRTQ_AVAIL_F_NO_INTERRUPT; /* means nothing with EVENT_IDX */
	*ring_used_event(&ring) = 1;
	for (int i = 0; i < 8; i++) {
		uint16_t old = q.next;

		virtq_push(&q, 0, 0);
		assert_int_equal(ring_signals(&ring), old == 1);
	}
}

static void test_arm_by_flag(void **state)
{
	(void)state;
	open_queue(4, 0);
	virtq_disarm(&q);
	assert_int_equal(ring_used(&ring)->flags, VIRTQ_USED_F_NO_NOTIFY);
	assert_int_equal(virtq_arm(&q), 0);
	assert_int_equal(ring_used(&ring)->flags, 0);
	ring_offer(&ring, 0);
	assert_int_equal(virtq_arm(&q), 1);
}

static void test_arm_by_event(void **state)
{
	(void)state;
	open_queue(4, EVENT_IDX);
	*ring_avail_event(&ring) = 77;
	virtq_disarm(&q);
	assert_int_equal(ring_used(&ring)->flags, 0);
	virtq_push(&q, 0, 0);
	assert_int_equal(virtq_arm(&q), 1); /* answered more than was asked: not equal is enough */
	assert_int_equal(*ring_avail_event(&ring), 1);
	ring_offer(&ring, 0);
	assert_int_equal(virtq_arm(&q), 0);
}

static void test_activate(void **state)
{
	(void)state;
	ring_open(&ring, 4, EVENT_IDX);
	ring.cfg.next = ring.posted = 7;
	ring_used(&ring)->flags = VIRTQ_USED_F_NO_NOTIFY; /* as a dead predecessor left them */
	*ring_avail_event(&ring) = 3;
	ring_desc(&ring, 0, RING_DATA_GPA, 1, 0, 0);
	ring_offer(&ring, 0);
	ring_offer(&ring, 0);
	assert_int_equal(ring_queue(&ring, &q), 0);
	assert_int_equal(virtq_activate(&q), 0);
	assert_int_equal(ring_used(&ring)->flags, 0);
	assert_int_equal(*ring_avail_event(&ring), 7);
	ring_offer(&ring, 0); /* after the one look: not of the first pass */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(virtq_peek(&q, &chain), 1);
		virtq_push(&q, chain.head, 0);
	}
	assert_int_equal(virtq_peek(&q, &chain), 0);
	q.limited = false;
	assert_int_equal(virtq_peek(&q, &chain), 1);

	ring.cfg.next = 2;
	assert_int_equal(ring_queue(&ring, &q), 0);
	assert_int_equal(virtq_activate(&q), -EINVAL);
	assert_int_equal(q.error, RING_ERROR_AVAIL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_init, teardown),
		cmocka_unit_test_teardown(test_peek_chain, teardown),
		cmocka_unit_test_teardown(test_peek_indirect, teardown),
		cmocka_unit_test_teardown(test_peek_errors, teardown),
		cmocka_unit_test_teardown(test_peek_avail, teardown),
		cmocka_unit_test_teardown(test_peek_longest, teardown),
		cmocka_unit_test_teardown(test_push_wraps, teardown),
		cmocka_unit_test_teardown(test_push_signals_by_flag, teardown),
		cmocka_unit_test_teardown(test_push_signals_by_event, teardown),
		cmocka_unit_test_teardown(test_arm_by_flag, teardown),
		cmocka_unit_test_teardown(test_arm_by_event, teardown),
		cmocka_unit_test_teardown(test_activate, teardown),
	};

	return cmocka_run_group_tests_name("virtq", tests, NULL, NULL);
}
