/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/common/run.c, hosted: dev_run() in a thread, this end of the control socket in the VMM's
 * place.  Where it matters when something happens, the device is one made up here, whose hook looks
 * around; else it is blk.
 */
#include "tests/unit/dirty.h"
#include "tests/unit/hosted.h"

#include <errno.h>
#include <sys/timerfd.h>

#include "devmodel/blk/state.h"
#include "snapshot/codec.h"

STATE_SCHEMA(blk_data, BLK_DATA);

/* ---- activation ---- */

#define NONCE 0x5eedu /* any: what QUIESCE carries */
#define REFILLS 40    /* by no means a lap: then the driver would be due for another call */

static struct {
	uint32_t serves;
	bool event_idx;
	bool refill;
	bool asked; /* what it saw at first, to be told on the test's own thread */
	bool signalled;
} watch;

static bool asks(uint32_t queue, uint16_t next)
{
	return watch.event_idx ? *ring_avail_event(&rings[queue]) == next
			       : ring_used(&rings[queue])->flags == 0;
}

static int watch_init(struct dev *d)
{
	(void)d;
	return 0;
}

static int watch_check(const struct dev *d)
{
	(void)d;
	return 0;
}

/* The first time it is asked to serve: every queue asks for kicks already, none was signalled. */
static enum serve_result watch_serve(struct dev *d, struct virtq *q)
{
	static struct virtq_chain chain;

	(void)d;
	if (watch.serves++ == 0) {
		watch.asked = asks(0, 65534) && asks(1, 7);
		watch.signalled = ring_signals(&rings[0]) + ring_signals(&rings[1]) != 0;
	}
	if (virtq_peek(q, &chain) != 1)
		return q->error ? SERVE_BROKEN : SERVE_IDLE;
	/* Meanwhile the driver offers more: no part of this pass. */
	if (watch.refill && watch.serves < REFILLS && q->number == 10)
		ring_offer(&rings[0], 0);
	virtq_push(q, chain.head, 0);
	return SERVE_DONE;
}

static const struct dev_ops watcher = { .name = "watch",
					.kind = DEV_KIND_BLK,
					.init = watch_init,
					.check = watch_check,
					.serve = watch_serve };

/* As a predecessor left it: at `next`, saying that kicks are not wanted. */
static void queue_stale(uint32_t queue, uint16_t next)
{
	struct ring *r = &rings[queue];

	r->cfg.next = r->posted = next;
	ring_used(r)->idx = ring_avail(r)->idx = next;
	ring_used(r)->flags = VIRTQ_USED_F_NO_NOTIFY;
	*ring_avail_event(r) = (uint16_t)(next - 1000);
	/* Calls are not wanted but for the one that is due to every queue. */
	ring_avail(r)->flags = VIRTQ_AVAIL_F_NO_INTERRUPT;
	*ring_used_event(r) = (uint16_t)(next - 1000);
}

static void activation_order(bool event_idx)
{
	memset(&watch, 0, sizeof(watch));
	watch.event_idx = event_idx;
	watch.refill = true;
	if (event_idx)
		rings[0].features |= 1ull << VIRTIO_F_RING_EVENT_IDX;
	ops = &watcher;
	queue_stale(0, 65534);
	queue_stale(1, 7);
	rings[2].cfg.size = 0;
	for (int i = 0; i < 3; i++)
		request(0);
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, 3); /* what was there at the one look */
	assert_true(watch.asked && !watch.signalled);
	assert_true((uint16_t)(used_idx(0) - 65534) >= 3);
	assert_int_equal(ring_signals(&rings[0]), 1);
	assert_int_equal(ring_signals(&rings[1]), 1); /* also where nothing was done */
	assert_int_equal(ring_signals(&rings[2]), 0); /* not enabled */
	tell_type(CTL_QUIESCE, NONCE);
	expect_report(REPORT_PARKED, NONCE, 0);
}

static void test_activation_order(void **state)
{
	(void)state;
	activation_order(false);
}

static void test_activation_order_event_idx(void **state)
{
	(void)state;
	activation_order(true);
}

static void test_serves_on_kick(void **state)
{
	(void)state;
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	for (uint32_t i = 0; i < QUEUES; i++) {
		await_call(i);
		assert_int_equal(ring_signals(&rings[i]), 1);
	}
	for (uint32_t n = 0; n < 20; n++) {
		const uint32_t queue = n % QUEUES;

		request(queue);
		kick(queue);
		await_call(queue);
		assert_true(ring_signals(&rings[queue]) > 0);
		assert_int_equal(used_idx(queue), n / QUEUES + 1);
	}
	tell_type(CTL_PING, 0); /* it counts a request once it has published it */
	expect_report(REPORT_PONG, 0, 0);
	assert_int_equal(page->served, 20);
}

/* ---- the bell ---- */

static uint32_t loaded[QUEUES];

static enum serve_result loaded_serve(struct dev *d, struct virtq *q)
{
	(void)d;
	__atomic_fetch_add(&loaded[q->number - 10], 1, __ATOMIC_RELAXED);
	return q->limited ? SERVE_IDLE : q->number == 12 ? SERVE_BLOCKED : SERVE_DONE;
}

static const struct dev_ops always_busy = { .name = "busy",
					    .kind = DEV_KIND_BLK,
					    .init = watch_init,
					    .check = watch_check,
					    .serve = loaded_serve };

/* It never comes to poll(); still it hears, at once, and every queue has its turn. */
static void test_bell_under_load(void **state)
{
	(void)state;
	memset(loaded, 0, sizeof(loaded));
	ops = &always_busy;
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	for (uint32_t i = 0; i < 200; i++) {
		tell_type(CTL_PING, 1000 + i);
		expect_report(REPORT_PONG, 1000 + i, 0);
	}
	tell_type(CTL_PING, 1); /* two at once */
	tell_type(CTL_QUIESCE, NONCE);
	expect_report(REPORT_PONG, 1, 0);
	expect_report(REPORT_PARKED, NONCE, 0);
	shutdown(vmm, SHUT_WR);
	assert_int_equal(finish(), -EPIPE);
	for (uint32_t i = 0; i < QUEUES; i++)
		assert_in_range(loaded[i], loaded[QUEUES - 1], loaded[0]);
	assert_in_range(loaded[0] - loaded[QUEUES - 1], 0, 1);
	assert_true(loaded[0] * QUEUES >= 200);
}

/* The bell counts messages modulo 2^32. */
static void test_bell_wraps(void **state)
{
	(void)state;
	ops = &always_busy;
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	tell_type(CTL_PING, 5);
	expect_report(REPORT_PONG, 5, 0);
	/* A bell that went back (nobody rings so) is not heard, and nothing waits for a message. */
	__atomic_store_n(&page->bell, 0, __ATOMIC_RELEASE);
	const uint32_t before = __atomic_load_n(&loaded[0], __ATOMIC_RELAXED);

	while (__atomic_load_n(&loaded[0], __ATOMIC_RELAXED) - before < 1000)
		;
	__atomic_store_n(&page->bell, 2, __ATOMIC_RELEASE);
	tell_type(CTL_QUIESCE, NONCE);
	expect_report(REPORT_PARKED, NONCE, 0);
}

/* ---- PING, QUIESCE, records ---- */

static void test_ping(void **state)
{
	(void)state;
	start();
	tell_type(CTL_PING, 0xdeadbeef); /* as a standby */
	expect_report(REPORT_PONG, 0xdeadbeef, 0);
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	tell_type(CTL_PING, 0); /* asleep */
	expect_report(REPORT_PONG, 0, 0);
	tell_type(CTL_QUIESCE, NONCE);
	assert_int_equal(hear().type, REPORT_PARKED);
	tell_type(CTL_PING, 2); /* parked: it listens to nothing any more */
	tell_type(CTL_QUIESCE, NONCE);
	shutdown(vmm, SHUT_WR);
	assert_int_equal(finish(), -EPIPE);
	expect_silence();
}

/* Runs one generation to its end and takes its data record. */
static uint32_t record_of_one(uint8_t *record)
{
	start();
	activate();
	assert_int_equal(hear().type, REPORT_ACTIVATED);
	tell_type(CTL_QUIESCE, NONCE);
	const struct box_report parked = hear();

	assert_int_equal(parked.type, REPORT_PARKED);
	const uint32_t bytes = CTL_PARKED_DATA(parked.detail);

	assert_int_equal(parked.value, NONCE);
	assert_in_range(bytes, STATE_WIRE_HEADER, STATE_RECORD_MAX);
	assert_int_equal(CTL_PARKED_CONTROL(parked.detail), 0); /* blk has no control state */
	memcpy(record, page->record[STATE_DATA], bytes);
	return bytes;
}

static void test_quiesce_writes_records(void **state)
{
	uint8_t record[STATE_RECORD_MAX];
	struct blk_data data = { 0 };

	(void)state;
	/* The timer stands before the backend. */
	const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	place(launch.fd_backend, launch.fd_held);
	place(timer, launch.fd_backend);
	close(timer);
	launch.fd_timer = launch.fd_backend++;
	launch.fd_held++;
	launch.config.blk.ops = (struct rate_limit){ .size = 1000, .burst = 77, .refill_ms = 100 };
	const uint32_t bytes = record_of_one(record);

	assert_int_equal(state_decode(&blk_data_schema, record, bytes, &data), 0);
	assert_int_equal(data.ops_burst, 77);
	assert_int_equal(data.ops_used, 0);
}

static void renew(void)
{
	void *no_state = NULL;

	teardown(&no_state);
	assert_int_equal(setup(&no_state), 0);
}

static void test_record_is_carried(void **state)
{
	uint8_t record[STATE_RECORD_MAX];
	struct blk_data data = { 0 };
	const uint32_t bytes = record_of_one(record);

	(void)state;
	renew();
	struct activate message = activation();

	message.head.record_bytes[STATE_DATA] = bytes;
	memcpy(message.records, record, bytes);
	start();
	tell(&message, sizeof(message.head) + bytes);
	expect_report(REPORT_ACTIVATED, 0, 0);
	tell_type(CTL_QUIESCE, NONCE);
	assert_int_equal(hear().type, REPORT_PARKED);
	assert_int_equal(state_decode(&blk_data_schema, page->record[STATE_DATA], bytes, &data), 0);
}

/* What it is given is refused as a whole, reported, and no queue was touched. */
static void refused(const struct activate *message, size_t bytes)
{
	start();
	tell(message, bytes);
	expect_report(REPORT_REFUSED, 0, 0);
	assert_int_equal(finish(), -EBADMSG);
	expect_silence();
	for (uint32_t i = 0; i < QUEUES; i++)
		assert_int_equal(ring_signals(&rings[i]), 0);
	renew();
}

static void test_record_is_refused(void **state)
{
	uint8_t record[STATE_RECORD_MAX];
	const uint32_t bytes = record_of_one(record);
	struct activate good, bad;

	(void)state;
	renew();
	good = activation();
	good.head.record_bytes[STATE_DATA] = bytes;
	memcpy(good.records, record, bytes);
	for (uint32_t at = 0; at < STATE_WIRE_HEADER; at++) {
		bad = good;
		bad.records[at] ^= 0x80;
		refused(&bad, sizeof(bad.head) + bytes);
	}
	bad = good;
	bad.head.record_bytes[STATE_DATA]--;
	refused(&bad, sizeof(bad.head) + bytes - 1);
	bad = good;
	bad.head.record_bytes[STATE_DATA]++;
	refused(&bad, sizeof(bad.head) + bytes + 1);
	bad = good;
	memset(bad.records + STATE_WIRE_HEADER, 0xff, bytes - STATE_WIRE_HEADER);
	refused(&bad, sizeof(bad.head) + bytes);
	/* A class that the kind does not have. */
	bad = good;
	bad.head.record_bytes[STATE_DATA] = 0;
	bad.head.record_bytes[STATE_CONTROL] = bytes;
	refused(&bad, sizeof(bad.head) + bytes);
}

/* ---- messages out of place ---- */

static void out_of_place(const void *message, size_t bytes, bool serving, int want)
{
	start();
	if (serving) {
		activate();
		expect_report(REPORT_ACTIVATED, 0, 0);
	}
	tell(message, bytes);
	assert_int_equal(finish(), want);
	expect_silence();
	renew();
}

static void test_malformed(void **state)
{
	static const uint32_t types[] = { 0, 4, 255, 256, UINT32_MAX };
	struct activate message = activation();
	struct ctl_header header = { CTL_PING, 0 };

	(void)state;
	for (int serving = 0; serving < 2; serving++) {
		for (size_t n = 1; n < sizeof(header); n++)
			out_of_place(&header, n, serving, -EPROTO);
		for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			header.type = types[i];
			out_of_place(&header, sizeof(header), serving, -EPROTO);
		}
		header.type = CTL_PING;
		out_of_place(&header, 0, serving, -EPIPE); /* as the end of the stream */
	}
	header.type = CTL_QUIESCE;
	out_of_place(&header, sizeof(header), false, -EPROTO);
	out_of_place(&message, sizeof(message.head), true, -EPROTO); /* twice */
}

static void test_malformed_activate(void **state)
{
	static const struct {
		uint32_t data, control, follow;
	} lengths[] = {
		{ 0, 0, 1 },           { 1, 0, 0 },
		{ 0, 1, 0 },           { 13, 0, 12 },
		{ UINT32_MAX, 0, 12 }, { 0, UINT32_MAX, 12 },
		{ UINT32_MAX, 1, 0 },  { 0x80000000, 0x80000000, 0 },
	};
	struct activate message = activation();

	(void)state;
	for (size_t n = sizeof(struct ctl_header); n < sizeof(message.head); n += 37)
		out_of_place(&message, n, false, -EPROTO);
	out_of_place(&message, sizeof(message.head) - 1, false, -EPROTO);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		message.head.record_bytes[STATE_DATA] = lengths[i].data;
		message.head.record_bytes[STATE_CONTROL] = lengths[i].control;
		out_of_place(&message, sizeof(message.head) + lengths[i].follow, false, -EPROTO);
	}
}

static void test_end_of_stream(void **state)
{
	(void)state;
	start(); /* standby */
	shutdown(vmm, SHUT_RDWR);
	assert_int_equal(finish(), -EPIPE);
	renew();
	start(); /* serving, asleep */
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	shutdown(vmm, SHUT_RDWR);
	assert_int_equal(finish(), -EPIPE);
	renew();
	start(); /* parked */
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	tell_type(CTL_QUIESCE, NONCE);
	assert_int_equal(hear().type, REPORT_PARKED);
	shutdown(vmm, SHUT_RDWR);
	assert_int_equal(finish(), -EPIPE);
}

static int init_fails(struct dev *d)
{
	(void)d;
	return -EINVAL;
}

static void test_init_fails(void **state)
{
	struct dev_ops broken = watcher;

	(void)state;
	broken.init = init_fails;
	ops = &broken;
	start();
	assert_int_equal(finish(), -EINVAL);
	expect_silence();
}

/* ---- a driver that breaks a rule ---- */

static void test_broken_ring(void **state)
{
	(void)state;
	ring_avail(&rings[1])->idx = 17; /* of 16 */
	request(0);
	start();
	activate();
	expect_report(REPORT_BROKEN, 11, RING_ERROR_AVAIL);
	expect_report(REPORT_ACTIVATED, 0, 0);
	assert_int_equal(used_idx(0), 0); /* nothing is served on any queue */
	request(0);
	kick(0);
	tell_type(CTL_PING, 3); /* the box itself is well */
	expect_report(REPORT_PONG, 3, 0);
	assert_int_equal(used_idx(0), 0);
	tell_type(CTL_QUIESCE, NONCE);
	assert_int_equal(hear().type, REPORT_PARKED);
}

static void test_broken_address(void **state)
{
	(void)state;
	rings[2].cfg.used_gpa = 0;
	start();
	activate();
	expect_report(REPORT_BROKEN, 12, RING_ERROR_ADDRESS);
	expect_report(REPORT_ACTIVATED, 0, 0);
}

static void test_breaks_later(void **state)
{
	(void)state;
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	ring_desc(&rings[0], 0, RING_END_GPA, 16, 0, 0); /* outside */
	ring_offer(&rings[0], 0);
	kick(0);
	expect_report(REPORT_BROKEN, 10, RING_ERROR_SPAN);
	kick(0);
	kick(1);
	tell_type(CTL_PING, 3);
	expect_report(REPORT_PONG, 3, 0); /* told once */
}

/* ---- the dirty log ---- */

/* The launch record has one: all queues mark in it, from the first pass to the end, with requests on the
 * way and while they ask for kicks. */
static void life_logged(enum dirty_watch watch_for, bool event_idx)
{
	struct dirty_log room;
	struct virtq none;

	dirty_open_log(&rings[0], &launch, &room, &none);
	for (uint32_t i = 0; i < QUEUES; i++) {
		rings[i].features |= event_idx ? 1ull << VIRTIO_F_RING_EVENT_IDX : 0;
		queue_stale(i, (uint16_t)(3 * i));
		request(i);
	}
	dirty_begin(watch_for);
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, QUEUES);
	for (uint32_t i = 0; i < QUEUES; i++)
		kick(i); /* it says that it needs none, and asks for more */
	tell_type(CTL_PING, 0);
	expect_report(REPORT_PONG, 0, 0);
	tell_type(CTL_QUIESCE, NONCE);
	assert_int_equal(hear().type, REPORT_PARKED);
	dirty_end();
	for (uint32_t i = 0; i < QUEUES && watch_for == DIRTY_LOOK; i++) {
		assert_true(dirty_is_marked(rings[i].cfg.used_gpa));
		assert_true(dirty_is_marked(RING_DATA_GPA + i * QUEUE_SPACE));
	}
	dirty_close_log();
}

static void test_logged(void **state)
{
	(void)state;
	life_logged(DIRTY_LOOK, false);
}

static void test_logged_fetched(void **state)
{
	(void)state;
	life_logged(DIRTY_FETCH, false);
}

static void test_logged_event_idx(void **state)
{
	(void)state;
	life_logged(DIRTY_FETCH, true);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		RUN_TEST(test_activation_order),
		RUN_TEST(test_activation_order_event_idx),
		RUN_TEST(test_serves_on_kick),
		RUN_TEST(test_bell_under_load),
		RUN_TEST(test_bell_wraps),
		RUN_TEST(test_ping),
		RUN_TEST(test_quiesce_writes_records),
		RUN_TEST(test_record_is_carried),
		RUN_TEST(test_record_is_refused),
		RUN_TEST(test_malformed),
		RUN_TEST(test_malformed_activate),
		RUN_TEST(test_end_of_stream),
		RUN_TEST(test_init_fails),
		RUN_TEST(test_broken_ring),
		RUN_TEST(test_broken_address),
		RUN_TEST(test_breaks_later),
		RUN_TEST(test_logged),
		RUN_TEST(test_logged_fetched),
		RUN_TEST(test_logged_event_idx),
	};

	return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
