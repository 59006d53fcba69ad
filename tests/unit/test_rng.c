/* SPDX-License-Identifier: Apache-2.0 */
/* dev: rng */
/*
 * devmodel/rng: what the source gives reaches the driver, wholly or in part, and a source that
 * gives nothing never turns into an empty answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/timerfd.h>

#include "devmodel/rng/state.h"
#include "snapshot/codec.h"
#include "tests/unit/dirty.h"
#include "tests/unit/ring.h"

#define BUFFER_GPA (RING_DATA_GPA + 0x1000)
#define MARK 0xee

static struct ring ring;
static struct launch_record launch;
static struct dev dev;
static struct virtq *const q = &dev.queues[0];
static int source; /* the end that the test writes to, or -1 */

static void device_open(int fd)
{
	ring_open(&ring, 16, 0);
	memset(&launch, 0, sizeof(launch));
	memset(&dev, 0, sizeof(dev));
	launch.map = ring.map;
	launch.queues = 1;
	launch.backends = 1;
	launch.fd_backend = (uint16_t)fd;
	launch.fd_timer = (uint16_t)timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	dev.launch = &launch;
	memset(ring_at(&ring, BUFFER_GPA, 0x40000), MARK, 0x40000);
	source = -1;
}

static void device_start(void)
{
	assert_int_equal(dev_program.init(&dev), 0);
	assert_int_equal(ring_queue(&ring, q), 0);
	dev_program.activate(&dev);
}

static void device_on_urandom(void)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	device_open(fd);
}

static void device_on_pipe(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	device_open(ends[0]);
	source = ends[1];
}

static int teardown(void **state)
{
	(void)state;
	close(launch.fd_backend);
	close(launch.fd_timer);
	if (source >= 0)
		close(source);
	ring_close(&ring);
	return 0;
}

static uint8_t *buffer(uint32_t off)
{
	return ring_at(&ring, BUFFER_GPA + off, 1);
}

static uint32_t answered(void)
{
	const struct virtq_used *used = ring_used(&ring);

	assert_int_equal(used->idx, ring.posted);
	assert_true(ring_signals(&ring) > 0);
	return used->ring[(uint16_t)(used->idx - 1) % ring.cfg.size].len;
}

static void give(uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++) {
		uint8_t byte = (uint8_t)i;

		assert_int_equal(write(source, &byte, 1), 1);
	}
}

static bool timer_fires(int ms)
{
	struct pollfd p = { .fd = launch.fd_timer, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static void test_fills(void **state)
{
	const struct ring_part parts[] = {
		{ BUFFER_GPA + 100, 8, 0 }, /* readable: no business of ours */
		{ BUFFER_GPA + 1000, 200, RING_W },
		{ 0, 0, RING_W },
		{ BUFFER_GPA + 2000, 300, RING_W },
	};
	uint32_t kept = 0;

	(void)state;
	device_on_urandom();
	device_start();
	assert_int_equal(dev_program.serve(&dev, q), SERVE_IDLE);
	ring_post(&ring, parts, 4);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 500);
	for (uint32_t i = 0; i < 4096; i++) {
		bool inside = (i >= 1000 && i < 1200) || (i >= 2000 && i < 2300);

		if (!inside)
			assert_int_equal(*buffer(i), MARK);
		else
			kept += *buffer(i) == MARK;
	}
	assert_true(kept < 50); /* some 2 of 500 are MARK by chance */
}

static void test_most(void **state)
{
	const struct ring_part parts[] = {
		{ BUFFER_GPA, 40000, RING_W },
		{ BUFFER_GPA + 40000, 40000, RING_W },
	};

	(void)state;
	device_on_urandom();
	device_start();
	ring_post(&ring, parts, 2);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 65536);
	for (uint32_t i = 65536; i < 80000; i++)
		assert_int_equal(*buffer(i), MARK);
}

static void test_partial(void **state)
{
	const struct ring_part parts[] = {
		{ BUFFER_GPA, 10, RING_W },
		{ BUFFER_GPA + 100, 10, RING_W },
		{ BUFFER_GPA + 200, 10, RING_W },
	};

	(void)state;
	device_on_pipe();
	device_start();
	give(14);
	ring_post(&ring, parts, 3);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 14);
	assert_int_equal(*buffer(9), 9);
	assert_int_equal(*buffer(10), MARK);
	assert_int_equal(*buffer(103), 13);
	assert_int_equal(*buffer(104), MARK);
	assert_int_equal(*buffer(200), MARK);
	give(10); /* the second segment finds nothing: what the first got is the answer */
	ring_offer(&ring, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 10);
}

static void test_source_gives_nothing(void **state)
{
	const struct ring_part part = { BUFFER_GPA, 10, RING_W };

	(void)state;
	device_on_pipe();
	device_start();
	ring_post(&ring, &part, 1);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED); /* EAGAIN */
	assert_int_equal(ring_used(&ring)->idx, 0);
	assert_true(timer_fires(10000));
	dev_program.host_event(&dev, DEV_EVENT_TIMER);
	assert_false(timer_fires(0));
	give(3);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 3);
	/* End of file, and a source that fails; without a timer it is still no empty answer. */
	close(source);
	source = -1;
	ring_offer(&ring, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	launch.fd_held = launch.fd_timer;
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	assert_int_equal(ring_used(&ring)->idx, 1);
}

static void test_nothing_to_fill(void **state)
{
	static const struct ring_part parts[][2] = {
		{ { BUFFER_GPA, 8, 0 }, { BUFFER_GPA, 8, 0 } },
		{ { BUFFER_GPA, 8, 0 }, { 0, 0, RING_W } },
	};

	(void)state;
	device_on_urandom();
	device_start();
	for (int i = 0; i < 2; i++) {
		ring_post(&ring, parts[i], 2);
		assert_int_equal(dev_program.serve(&dev, q), SERVE_BROKEN);
		assert_int_equal(q->error, RING_ERROR_SHORT);
		assert_int_equal(ring_used(&ring)->idx, 0);
		q->error = RING_ERROR_NONE;
		ring.posted = 0;
	}
}

static void test_init(void **state)
{
	(void)state;
	device_on_urandom();
	assert_int_equal(dev_program.init(&dev), 0);
	launch.config.rng.bandwidth = (struct rate_limit){ .size = 1 };
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	launch.config.rng.bandwidth.refill_ms = 1;
	assert_int_equal(dev_program.init(&dev), 0);
	launch.fd_held = launch.fd_timer; /* no timer */
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	launch.config.rng.bandwidth.size = 0;
	assert_int_equal(dev_program.init(&dev), 0);
	launch.backends = 0;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
}

static void replace(bool carry)
{
	uint8_t record[STATE_RECORD_MAX];
	const struct state_schema *schema = dev_program.state[STATE_DATA];
	int len;

	dev_program.quiesce(&dev);
	len = state_encode(schema, dev.state[STATE_DATA].bytes, record, sizeof(record));
	assert_true(len > 0);
	memset(&dev, 0, sizeof(dev));
	dev.launch = &launch;
	ring.cfg.next = ring_used(&ring)->idx;
	assert_int_equal(dev_program.init(&dev), 0);
	if (carry) {
		assert_int_equal(
			state_decode(schema, record, (size_t)len, dev.state[STATE_DATA].bytes), 0);
		assert_int_equal(dev_program.check(&dev), 0);
	}
	assert_int_equal(ring_queue(&ring, q), 0);
	dev_program.activate(&dev);
}

static void test_limit(void **state)
{
	const struct ring_part part = { BUFFER_GPA, 10, RING_W };

	(void)state;
	device_on_pipe();
	launch.config.rng.bandwidth =
		(struct rate_limit){ .size = 10, .burst = 10, .refill_ms = 3600000 };
	device_start();
	give(6); /* only what was given is paid for */
	ring_post(&ring, &part, 1);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	give(10);
	ring_offer(&ring, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	give(10);
	ring_offer(&ring, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	replace(true); /* four are left; a request of four passes, one of ten does not */
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	ring_desc(&ring, 0, BUFFER_GPA, 4, RING_W, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 4);
	replace(false);
	ring_desc(&ring, 0, BUFFER_GPA, 1, RING_W, 0);
	ring_offer(&ring, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
}

static void test_limit_waits(void **state)
{
	const struct ring_part part = { BUFFER_GPA, 8, RING_W };

	(void)state;
	device_on_urandom();
	launch.config.rng.bandwidth = (struct rate_limit){ .size = 8, .refill_ms = 300 };
	device_start();
	ring_post(&ring, &part, 1);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	ring_offer(&ring, 0);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	assert_true(timer_fires(10000));
	dev_program.host_event(&dev, DEV_EVENT_TIMER);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 8);
}

/* What a source gives, and what it was asked for and did not give: marked before and after. */
static void test_logged(void **state)
{
	const struct ring_part parts[] = {
		{ BUFFER_GPA + 4000, 100, RING_W },
		{ 0, 0, RING_W },
		{ RING_B_GPA, 10, RING_W },
		{ BUFFER_GPA + 0x8000, 10, RING_W },
	};
	struct dirty_log log;

	(void)state;
	device_on_pipe();
	device_start();
	dirty_open_log(&ring, &launch, &log, q);
	for (int watch = DIRTY_FETCH; watch >= DIRTY_LOOK; watch--) {
		give(105);
		ring_post(&ring, parts, 4);
		memset(buffer(4000), MARK, 100);
		memset(ring_at(&ring, RING_B_GPA, 10), MARK, 10);
		dirty_begin((enum dirty_watch)watch);
		assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
		dirty_end();
		assert_int_equal(answered(), 105);
	}
	assert_int_equal(dirty_marked(), 2 + 1 + 1); /* the third got nothing, and was not tried */
	dirty_close_log();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_fills, teardown),
		cmocka_unit_test_teardown(test_most, teardown),
		cmocka_unit_test_teardown(test_partial, teardown),
		cmocka_unit_test_teardown(test_source_gives_nothing, teardown),
		cmocka_unit_test_teardown(test_nothing_to_fill, teardown),
		cmocka_unit_test_teardown(test_init, teardown),
		cmocka_unit_test_teardown(test_limit, teardown),
		cmocka_unit_test_teardown(test_limit_waits, teardown),
		cmocka_unit_test_teardown(test_logged, teardown),
	};

	return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
