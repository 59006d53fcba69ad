/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring driver alone: the test plays the device by writing used elements itself, right ones and
 * wrong ones.  What the driver must notice is here one by one; whole workloads are in test_blkload.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/rig/ringdrv.h"

#define MS 1000000ull

struct fixture {
	struct guestmem mem;
	struct ringdrv_queue q;
	gpa_t buffer;
	uint16_t served; /* avail entries that the test has answered */
};

static struct fixture fix;

static void start(uint64_t features, uint16_t size, uint16_t first_idx, bool in_order)
{
	struct ringdrv_config config = {
		.features = features | RINGDRV_VERSION_1,
		.size = size,
		.first_idx = first_idx,
		.in_order = in_order,
		.quiet = true,
		.indirect_max = 4,
		.call_grace_ns = 20 * MS,
	};

	guestmem_init(&fix.mem);
	assert_int_equal(guestmem_add(&fix.mem, 0x100000, 1 << 20, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_alloc(&fix.mem, 4096, 4096, &fix.buffer), 0);
	assert_int_equal(ringdrv_init(&fix.q, &fix.mem, &config), 0);
	fix.served = first_idx;
}

/* May run twice: some tests start several times. */
static int teardown(void **state)
{
	(void)state;
	ringdrv_free(&fix.q);
	ringdrv_free(&fix.q);
	guestmem_free(&fix.mem);
	return 0;
}

/* A request of one readable and one writable buffer of 100 bytes. */
static int add(uint64_t token, bool indirect)
{
	const struct ringdrv_seg seg[] = { { fix.buffer.raw, 16 }, { fix.buffer.raw + 64, 100 } };
	struct ringdrv_chain chain = {
		.seg = seg, .readable = 1, .writable = 1, .indirect = indirect, .token = token
	};

	return ringdrv_add(&fix.q, &chain);
}

/* The device's side: answers the next avail entry. */
static void answer(uint32_t len)
{
	uint16_t mask = (uint16_t)(fix.q.config.size - 1);
	uint16_t used = ringdrv_peek_used_idx(&fix.q);

	assert_int_not_equal(fix.q.avail->idx, fix.served);
	ringdrv_evil_used(&fix.q, used, fix.q.avail->ring[fix.served & mask], len);
	fix.served++;
	ringdrv_evil_used_idx(&fix.q, (uint16_t)(used + 1));
}

static void answer_raw(uint32_t id, uint32_t len)
{
	uint16_t used = ringdrv_peek_used_idx(&fix.q);

	ringdrv_evil_used(&fix.q, used, id, len);
	ringdrv_evil_used_idx(&fix.q, (uint16_t)(used + 1));
}

static void call_driver(void)
{
	uint64_t one = 1;

	assert_int_equal(write(fix.q.fd_call, &one, sizeof(one)), sizeof(one));
}

static uint64_t kicks_taken(void)
{
	uint64_t count = 0;

	return read(fix.q.fd_kick, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void assert_reaps(uint64_t token, uint32_t len)
{
	struct ringdrv_done done;

	assert_int_equal(ringdrv_reap(&fix.q, &done), 1);
	assert_int_equal(done.token, token);
	assert_int_equal(done.len, len);
}

static void assert_reaps_nothing(void)
{
	struct ringdrv_done done;

	assert_int_equal(ringdrv_reap(&fix.q, &done), 0);
}

static void test_direct_chain_layout(void **state)
{
	const struct virtq_desc *desc;

	(void)state;
	start(RINGDRV_INDIRECT, 8, 0, true);
	assert_int_equal(add(7, false), 0);
	assert_int_equal(fix.q.avail->idx, 0); /* not before it is published */
	ringdrv_publish(&fix.q);
	assert_int_equal(fix.q.avail->idx, 1);
	desc = &fix.q.desc[fix.q.avail->ring[0]];
	assert_int_equal(desc->addr, fix.buffer.raw);
	assert_int_equal(desc->len, 16);
	assert_int_equal(desc->flags, VIRTQ_DESC_F_NEXT);
	desc = &fix.q.desc[desc->next];
	assert_int_equal(desc->addr, fix.buffer.raw + 64);
	assert_int_equal(desc->len, 100);
	assert_int_equal(desc->flags, VIRTQ_DESC_F_WRITE);
	answer(100);
	assert_reaps(7, 100);
	assert_reaps_nothing();
	assert_int_equal(fix.q.stats.completed, 1);
	assert_int_equal(fix.q.free_count, 8);
}

static void test_indirect_chain_layout(void **state)
{
	const struct virtq_desc *desc;

	(void)state;
	start(RINGDRV_INDIRECT, 8, 0, true);
	assert_int_equal(add(1, true), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(fix.q.free_count, 7);
	desc = &fix.q.desc[fix.q.avail->ring[0]];
	assert_int_equal(desc->flags, VIRTQ_DESC_F_INDIRECT);
	assert_int_equal(desc->len, 2 * sizeof(*desc));
	desc = guestmem_ptr(&fix.mem, gpa_make(desc->addr), desc->len);
	assert_non_null(desc);
	assert_int_equal(desc[0].addr, fix.buffer.raw);
	assert_int_equal(desc[0].flags, VIRTQ_DESC_F_NEXT);
	assert_int_equal(desc[0].next, 1);
	assert_int_equal(desc[1].len, 100);
	assert_int_equal(desc[1].flags, VIRTQ_DESC_F_WRITE);
	answer(1);
	assert_reaps(1, 1);
}

static void test_indirect_only_where_negotiated(void **state)
{
	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(add(1, true), 0);
	assert_int_equal(fix.q.free_count, 6);
	assert_int_equal(fix.q.desc[0].flags, VIRTQ_DESC_F_NEXT);
}

/* Every descriptor in use and given back in another order, round the index's 2^16 and more. */
static void test_full_ring_and_index_wrap(void **state)
{
	uint64_t token = 0, done = 0;

	(void)state;
	start(RINGDRV_INDIRECT, 8, 65530, true);
	for (int round = 0; token < 140000; round++) {
		int added = 0, ret;

		while ((ret = add(token, token % 3 == 0)) == 0) {
			token++;
			added++;
		}
		assert_int_equal(ret, -ENOSPC);
		ringdrv_publish(&fix.q);
		assert_true(added >= 1);
		for (int i = 0; i < (round % 2 ? added : (added + 1) / 2); i++) {
			answer(1);
			assert_reaps(done++, 1);
		}
	}
	while (done < token) {
		answer(1);
		assert_reaps(done++, 1);
	}
	assert_int_equal(fix.q.free_count, 8);
	assert_int_equal(fix.q.outstanding, 0);
	assert_int_equal(fix.q.complaints.count, 0);
}

static void test_bad_arguments(void **state)
{
	struct ringdrv_config config = { .size = 12 };
	struct ringdrv_chain none = { 0 };
	struct ringdrv_queue q;

	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(ringdrv_init(&q, &fix.mem, &config), -EINVAL);
	config.size = 2 * VIRTQ_SIZE_MAX;
	assert_int_equal(ringdrv_init(&q, &fix.mem, &config), -EINVAL);
	assert_int_equal(ringdrv_add(&fix.q, &none), -EINVAL);
}

static void test_kick_honours_no_notify(void **state)
{
	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(add(1, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_kick(&fix.q), 1);
	assert_int_equal(kicks_taken(), 1);
	assert_int_equal(ringdrv_kick(&fix.q), 0); /* nothing new */
	fix.q.used->flags = VIRTQ_USED_F_NO_NOTIFY;
	assert_int_equal(add(2, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_kick(&fix.q), 0);
	assert_int_equal(kicks_taken(), 0);
	assert_int_equal(fix.q.stats.kicks_saved, 1);
}

static void test_kick_honours_avail_event(void **state)
{
	uint16_t *avail_event;

	(void)state;
	start(RINGDRV_EVENT_IDX, 8, 65534, true);
	avail_event = (uint16_t *)(void *)&fix.q.used->ring[8];
	fix.q.used->flags = VIRTQ_USED_F_NO_NOTIFY; /* means nothing with event_idx */
	assert_int_equal(add(1, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_kick(&fix.q), 1); /* 65534 -> 65535, asked for at 65534 */
	*avail_event = 0;                          /* wants to hear of the entry at index 0 */
	assert_int_equal(add(2, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_kick(&fix.q), 0);
	assert_int_equal(add(3, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_kick(&fix.q), 1);
	assert_int_equal(kicks_taken(), 2);
}

static void test_full_kick_counter_does_not_block(void **state)
{
	uint64_t full = UINT64_MAX - 1;

	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(write(fix.q.fd_kick, &full, sizeof(full)), sizeof(full));
	ringdrv_kick_always(&fix.q);
	assert_int_equal(fix.q.complaints.count, 0);
}

static void test_arm_and_call(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		start(event_idx ? RINGDRV_EVENT_IDX : 0, 8, 0, true);
		assert_int_equal(add(1, false) | add(2, false), 0);
		ringdrv_publish(&fix.q);
		answer(1);
		assert_int_equal(ringdrv_arm(&fix.q), 1); /* one is there: no sleep */
		assert_reaps(1, 1);
		ringdrv_disarm(&fix.q);
		assert_int_equal(fix.q.avail->flags, event_idx ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT);
		assert_int_equal(ringdrv_arm(&fix.q), 0);
		assert_int_equal(fix.q.avail->flags, 0);
		if (event_idx)
			assert_int_equal(fix.q.avail->ring[8], 1); /* used_event */
		assert_int_equal(ringdrv_called(&fix.q), 0);
		answer(1);
		call_driver();
		assert_int_equal(ringdrv_called(&fix.q), 1);
		assert_reaps(2, 1);
		teardown(NULL);
	}
}

static void test_wait(void **state)
{
	(void)state;
	start(RINGDRV_EVENT_IDX, 8, 0, true);
	assert_int_equal(add(1, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_wait(&fix.q, 1 * MS), 0);
	call_driver(); /* spurious: no reason to return */
	assert_int_equal(ringdrv_wait(&fix.q, 1 * MS), 0);
	answer(1);
	call_driver();
	assert_int_equal(ringdrv_wait(&fix.q, UINT64_MAX), 1);
	assert_reaps(1, 1);
	assert_int_equal(fix.q.stats.lost_calls, 0);
}

/* A sleeping driver does not look at the ring; a call that does not come is complained of. */
static void test_lost_call(void **state)
{
	(void)state;
	start(RINGDRV_EVENT_IDX, 8, 0, true);
	assert_int_equal(add(1, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(ringdrv_wait(&fix.q, 0), 0);
	answer(1);
	assert_int_equal(ringdrv_wait(&fix.q, 1 * MS), 0);
	assert_int_equal(fix.q.stats.lost_calls, 0);
	assert_int_equal(ringdrv_wait(&fix.q, 2000 * MS), 1);
	assert_int_equal(fix.q.stats.lost_calls, 1);
	assert_reaps(1, 1);
}

static void test_doubled_completion(void **state)
{
	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(add(1, false) | add(2, false), 0);
	ringdrv_publish(&fix.q);
	answer(1);
	answer_raw(fix.q.avail->ring[0], 1);
	answer(1);
	assert_reaps(1, 1);
	assert_reaps(2, 1); /* goes on after what it skipped */
	assert_int_equal(fix.q.stats.duplicated, 1);
	assert_int_equal(fix.q.stats.completed, 2);
	assert_non_null(strstr(fix.q.complaints.last, "twice"));
}

/* The head that is completed twice was used again in between: only the order tells. */
static void test_doubled_completion_of_reused_head(void **state)
{
	uint16_t first;

	(void)state;
	start(0, 4, 0, true);
	assert_int_equal(add(1, false), 0);
	ringdrv_publish(&fix.q);
	first = fix.q.avail->ring[0];
	answer(1);
	assert_reaps(1, 1);
	assert_int_equal(add(2, false) | add(3, false), 0);
	ringdrv_publish(&fix.q);
	assert_int_equal(fix.q.avail->ring[2], first);
	answer_raw(first, 1);
	assert_reaps(3, 1);
	assert_int_equal(fix.q.stats.corrupted, 1);
	assert_non_null(strstr(fix.q.complaints.last, "order"));
}

static void test_order_only_when_promised(void **state)
{
	(void)state;
	start(0, 8, 0, false);
	assert_int_equal(add(1, false) | add(2, false) | add(3, false), 0);
	ringdrv_publish(&fix.q);
	for (int i = 2; i >= 0; i--) {
		answer_raw(fix.q.avail->ring[i], 1);
		assert_reaps((uint64_t)i + 1, 1);
	}
	assert_int_equal(fix.q.complaints.count, 0);
}

static void test_impossible_ids_and_lengths(void **state)
{
	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(add(1, false), 0);
	ringdrv_publish(&fix.q);
	answer_raw(8, 1);                                     /* outside the table */
	answer_raw(0xffffffff, 1);                            /* far outside */
	answer_raw(5, 1);                                     /* never given */
	answer_raw(fix.q.desc[fix.q.avail->ring[0]].next, 1); /* not a head */
	assert_reaps_nothing();
	assert_int_equal(fix.q.stats.corrupted, 4);
	answer(101); /* one more than is writable */
	assert_reaps(1, 100);
	assert_int_equal(fix.q.stats.corrupted, 5);
	assert_int_equal(fix.q.stats.duplicated, 0);
}

static void test_impossible_index(void **state)
{
	static const int leaps[] = { -1, 9, 32768 };

	(void)state;
	for (size_t i = 0; i < sizeof(leaps) / sizeof(leaps[0]); i++) {
		start(0, 8, 65535, true);
		assert_int_equal(add(1, false) | add(2, false), 0);
		ringdrv_publish(&fix.q);
		answer(1);
		assert_reaps(1, 1);
		ringdrv_evil_used_idx(&fix.q, (uint16_t)(fix.q.used_idx + leaps[i]));
		assert_int_equal(ringdrv_pending(&fix.q), 0);
		assert_true(fix.q.broken);
		assert_int_equal(fix.q.stats.corrupted, 1);
		assert_reaps_nothing();
		assert_int_equal(fix.q.stats.corrupted, 1); /* said once */
		ringdrv_reset(&fix.q);
		assert_int_equal(add(3, false), 0);
		fix.served = 65535;
		ringdrv_publish(&fix.q);
		answer(1);
		assert_reaps(3, 1); /* a reset mends it */
		teardown(NULL);
	}
}

/* Going back to a place that is not yet reaped, but was seen. */
static void test_index_goes_back_within_seen(void **state)
{
	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(add(1, false) | add(2, false), 0);
	ringdrv_publish(&fix.q);
	answer(1);
	answer(1);
	assert_int_equal(ringdrv_pending(&fix.q), 2);
	ringdrv_evil_used_idx(&fix.q, 1);
	assert_int_equal(ringdrv_pending(&fix.q), 0);
	assert_true(fix.q.broken);
}

static void test_evil_writes_land(void **state)
{
	const struct virtq_desc desc = { .addr = UINT64_MAX, .len = 3, .flags = 7, .next = 99 };

	(void)state;
	start(RINGDRV_EVENT_IDX, 8, 0, true);
	ringdrv_evil_desc(&fix.q, 10, &desc); /* modulo 8 */
	assert_memory_equal(&fix.q.desc[2], &desc, sizeof(desc));
	ringdrv_evil_avail(&fix.q, 9, 0xffff);
	assert_int_equal(fix.q.avail->ring[1], 0xffff);
	ringdrv_evil_avail_idx(&fix.q, 777);
	assert_int_equal(fix.q.avail->idx, 777);
	ringdrv_evil_avail_flags(&fix.q, 0xabcd);
	assert_int_equal(fix.q.avail->flags, 0xabcd);
	ringdrv_evil_used_event(&fix.q, 4321);
	assert_int_equal(fix.q.avail->ring[8], 4321);
}

static void test_description_and_given_fds(void **state)
{
	int kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct ringdrv_config config = {
		.size = 16, .first_idx = 5, .fds_given = true, .fd_kick = kick, .fd_call = call
	};
	struct ringdrv_queue q;
	struct ctl_queue ctl;

	(void)state;
	start(0, 8, 0, true);
	assert_int_equal(ringdrv_init(&q, &fix.mem, &config), 0);
	ringdrv_describe(&q, &ctl);
	assert_int_equal(ctl.size, 16);
	assert_int_equal(ctl.next, 5);
	assert_int_equal(ctl.refuse, 0);
	assert_ptr_equal(gpa_span(&fix.mem.map, gpa_make(ctl.desc_gpa), 256), q.desc);
	assert_ptr_equal(gpa_span(&fix.mem.map, gpa_make(ctl.avail_gpa), 38), q.avail);
	assert_ptr_equal(gpa_span(&fix.mem.map, gpa_make(ctl.used_gpa), 134), q.used);
	assert_int_equal(ctl.desc_gpa % 16 + ctl.avail_gpa % 2 + ctl.used_gpa % 4, 0);
	ringdrv_free(&q);
	assert_int_equal(close(kick) | close(call), 0); /* still the caller's */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_direct_chain_layout, teardown),
		cmocka_unit_test_teardown(test_indirect_chain_layout, teardown),
		cmocka_unit_test_teardown(test_indirect_only_where_negotiated, teardown),
		cmocka_unit_test_teardown(test_full_ring_and_index_wrap, teardown),
		cmocka_unit_test_teardown(test_bad_arguments, teardown),
		cmocka_unit_test_teardown(test_kick_honours_no_notify, teardown),
		cmocka_unit_test_teardown(test_kick_honours_avail_event, teardown),
		cmocka_unit_test_teardown(test_full_kick_counter_does_not_block, teardown),
		cmocka_unit_test_teardown(test_arm_and_call, teardown),
		cmocka_unit_test_teardown(test_wait, teardown),
		cmocka_unit_test_teardown(test_lost_call, teardown),
		cmocka_unit_test_teardown(test_doubled_completion, teardown),
		cmocka_unit_test_teardown(test_doubled_completion_of_reused_head, teardown),
		cmocka_unit_test_teardown(test_order_only_when_promised, teardown),
		cmocka_unit_test_teardown(test_impossible_ids_and_lengths, teardown),
		cmocka_unit_test_teardown(test_impossible_index, teardown),
		cmocka_unit_test_teardown(test_index_goes_back_within_seen, teardown),
		cmocka_unit_test_teardown(test_evil_writes_land, teardown),
		cmocka_unit_test_teardown(test_description_and_given_fds, teardown),
	};

	return cmocka_run_group_tests_name("ringdrv", tests, NULL, NULL);
}
