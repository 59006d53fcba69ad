/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/common/virtq.c against a driver on another CPU: one that changes what is being read, and
 * one that publishes and waits in the same moment as the device does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "devmodel/common/rate.h"
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

/* A driver that changes a descriptor while it is read. */
static void *flip(void *stop)
{
	volatile struct virtq_desc *d = ring_at(&ring, TABLE_GPA, 16);

	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED)) {
		d->len = 8;
		d->len = UINT32_MAX;
	}
	return NULL;
}

static void test_peek_reads_once(void **state)
{
	pthread_t thread;
	bool stop = false;
	int good = 0, bad = 0;

	(void)state;
	ring_open(&ring, 4, INDIRECT);
	ring_desc_at(&ring, TABLE_GPA, 0, RING_DATA_GPA, 8, 0, 0);
	ring_desc(&ring, 0, TABLE_GPA, 16, VIRTQ_DESC_F_INDIRECT, 0);
	ring_offer(&ring, 0);
	assert_int_equal(pthread_create(&thread, NULL, flip, &stop), 0);
	for (int i = 0; i < 3000000 && (i < 300000 || !good || !bad); i++) {
		ring_queue(&ring, &q);
		if (virtq_peek(&q, &chain) == 1) {
			assert_int_equal(chain.seg[0].len, 8);
			assert_int_equal(chain.read_bytes, 8);
			good++;
		} else {
			assert_int_equal(q.error, RING_ERROR_SPAN);
			bad++;
		}
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_true(good > 0 && bad > 0);
}

/*
 * The races that the two full barriers are for, round after round: at the same moment one side
 * publishes and looks whether the other waits, and the other says that it waits and looks
 * again.  Not to see each other is the one outcome that is wrong.
 */
#define RACE_NS 400000000ull

struct race {
	const char *name;
	void (*prepare)(void); /* before each round, alone */
	bool (*device_notices)(void);
	bool (*driver_notices)(void);
	uint32_t go, done; /* rounds */
	bool device_noticed;
};

static void race_push_prepare(void)
{
	ring_avail(&ring)->flags = VIRTQ_AVAIL_F_NO_INTERRUPT;
	*ring_used_event(&ring) = (uint16_t)(q.next - 1);
}

static bool race_push_device(void)
{
	virtq_push(&q, 0, 0);
	return ring_signals(&ring) > 0;
}

static bool race_push_driver(void)
{
	uint16_t seen = ring.posted++;

	*(volatile uint16_t *)ring_used_event(&ring) = seen;
	*(volatile uint16_t *)&ring_avail(&ring)->flags = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&ring_used(&ring)->idx, __ATOMIC_ACQUIRE) != seen;
}

static void race_arm_prepare(void)
{
	if (q.next != ring.posted)
		virtq_push(&q, 0, 0);
	virtq_disarm(&q);
}

static bool race_arm_device(void)
{
	return virtq_arm(&q);
}

static bool race_arm_driver(void)
{
	uint16_t old = ring.posted, event, flags;

	ring_offer(&ring, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = *(volatile uint16_t *)ring_avail_event(&ring);
	flags = *(volatile uint16_t *)&ring_used(&ring)->flags;
	return q.event_idx ? virtq_need_event(event, ring.posted, old) : !(flags & 1);
}

/* A few nanoseconds, never the same, so that the two sides meet at every offset. */
static void race_pause(uint32_t round, uint32_t factor)
{
	for (volatile uint32_t n = round * factor % 61; n; n--)
		;
}

static void *race_device(void *arg)
{
	struct race *race = arg;

	for (uint32_t round = 1;; round++) {
		uint32_t go;

		while ((go = __atomic_load_n(&race->go, __ATOMIC_ACQUIRE)) < round)
			;
		if (go == UINT32_MAX)
			return NULL;
		race_pause(round, 7);
		race->device_noticed = race->device_notices();
		__atomic_store_n(&race->done, round, __ATOMIC_RELEASE);
	}
}

static void run_race(struct race *race, uint64_t features)
{
	uint64_t end = rate_now() + RACE_NS;
	uint32_t missed = 0, round = 0;
	pthread_t thread;

	open_queue(8, features);
	assert_int_equal(pthread_create(&thread, NULL, race_device, race), 0);
	while (rate_now() < end) {
		bool driver_noticed;

		race->prepare();
		__atomic_store_n(&race->go, ++round, __ATOMIC_RELEASE);
		race_pause(round, 11);
		driver_noticed = race->driver_notices();
		while (__atomic_load_n(&race->done, __ATOMIC_ACQUIRE) != round)
			;
		missed += !driver_noticed && !race->device_noticed;
	}
	__atomic_store_n(&race->go, UINT32_MAX, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	if (missed)
		fail_msg("%s: missed in %u of %u rounds", race->name, missed, round);
	assert_true(round > 0);
}

static void test_race_push(void **state)
{
	struct race by_flag = {
		"push, flag", race_push_prepare, race_push_device, race_push_driver, 0, 0, false
	};
	struct race by_event = by_flag;

	(void)state;
	by_event.name = "push, event";
	run_race(&by_flag, 0);
	ring_close(&ring);
	run_race(&by_event, EVENT_IDX);
}

static void test_race_arm(void **state)
{
	struct race by_flag = {
		"arm, flag", race_arm_prepare, race_arm_device, race_arm_driver, 0, 0, false
	};
	struct race by_event = by_flag;

	(void)state;
	by_event.name = "arm, event";
	run_race(&by_flag, 0);
	ring_close(&ring);
	run_race(&by_event, EVENT_IDX);
}

/*
 * Both sides sleep whenever they may: a signal too few shows as a sleep that nothing ends.
 */
#define SLEEPERS_REQUESTS 40000u

static bool sleep_on(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, 10000) != 1)
		return false;
	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void *sleepy_device(void *unused)
{
	uint32_t done = 0;

	(void)unused;
	while (done < SLEEPERS_REQUESTS) {
		int got = virtq_peek(&q, &chain);

		if (got < 0)
			return "a rule broken";
		if (got) {
			virtq_push(&q, chain.head, done++);
		} else if (!virtq_arm(&q)) {
			if (!sleep_on(ring.kick))
				return "a kick lost";
			virtq_disarm(&q);
		}
	}
	return NULL;
}

/* Takes what is answered; asks for a signal, looks again, and only then sleeps. */
static bool driver_wait(uint16_t seen)
{
	struct virtq_used *used = ring_used(&ring);

	*(volatile uint16_t *)ring_used_event(&ring) = seen;
	*(volatile uint16_t *)&ring_avail(&ring)->flags = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) != seen)
		return true;
	return sleep_on(ring.call);
}

static void driver_kick(uint16_t old)
{
	uint64_t one = 1;
	uint16_t event, flags;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = *(volatile uint16_t *)ring_avail_event(&ring);
	flags = *(volatile uint16_t *)&ring_used(&ring)->flags;
	if (q.event_idx ? virtq_need_event(event, ring.posted, old) : !(flags & 1))
		assert_int_equal(write(ring.kick, &one, sizeof(one)), sizeof(one));
}

static void sleepers(uint64_t features)
{
	pthread_t thread;
	void *complaint = NULL;
	uint16_t seen = 0;

	open_queue(8, features);
	ring_desc(&ring, 0, RING_DATA_GPA, 1, 0, 0);
	assert_int_equal(virtq_arm(&q), 0);
	assert_int_equal(pthread_create(&thread, NULL, sleepy_device, NULL), 0);
	for (uint32_t sent = 0, got = 0; got < SLEEPERS_REQUESTS;) {
		uint16_t old = ring.posted;

		while (sent < SLEEPERS_REQUESTS && (uint16_t)(ring.posted - seen) < 1 + sent % 8) {
			ring_offer(&ring, 0);
			sent++;
		}
		if (ring.posted != old)
			driver_kick(old);
		if (!driver_wait(seen))
			break;
		ring_avail(&ring)->flags = VIRTQ_AVAIL_F_NO_INTERRUPT;
		while (seen != __atomic_load_n(&ring_used(&ring)->idx, __ATOMIC_ACQUIRE)) {
			assert_int_equal(ring_used(&ring)->ring[seen++ % 8].len, got);
			got++;
		}
	}
	pthread_join(thread, &complaint);
	assert_null(complaint);
	assert_int_equal(seen, (uint16_t)SLEEPERS_REQUESTS);
}

static void test_sleepers_by_flag(void **state)
{
	(void)state;
	sleepers(0);
}

static void test_sleepers_by_event(void **state)
{
	(void)state;
	sleepers(EVENT_IDX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_peek_reads_once, teardown),
		cmocka_unit_test_teardown(test_race_push, teardown),
		cmocka_unit_test_teardown(test_race_arm, teardown),
		cmocka_unit_test_teardown(test_sleepers_by_flag, teardown),
		cmocka_unit_test_teardown(test_sleepers_by_event, teardown),
	};

	return cmocka_run_group_tests_name("virtq races", tests, NULL, NULL);
}
