/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/blk, rate limits: a request that must wait stays where it is and nothing of it is done;
 * no kind of replacement is a way to tokens that were not there before.
 */
#include "tests/unit/blk.h"

#include <poll.h>

#include "snapshot/codec.h"

static bool timer_fires(int ms)
{
	struct pollfd p = { .fd = launch.fd_timer, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static enum serve_result serve_read(void)
{
	const struct ring_part data = { BUFFER_GPA, 4096, RING_W };

	offer(VIRTIO_BLK_T_IN, 0, &data, 1);
	return dev_program.serve(&dev, q);
}

static void test_limit_waits(void **state)
{
	(void)state;
	device_open(image_new(), 0, 1);
	launch.config.blk.ops = (struct rate_limit){ .size = 1, .burst = 2, .refill_ms = 300 };
	device_start();
	for (int i = 0; i < 3; i++) /* a first start: burst and bucket */
		assert_int_equal(serve_read(), SERVE_DONE);
	assert_int_equal(serve_read(), SERVE_BLOCKED);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED); /* it stays where it is */
	assert_int_equal(ring_used(&ring)->idx, 3);
	assert_int_equal(status(), UNANSWERED);
	assert_true(timer_fires(10000));
	dev_program.host_event(&dev, DEV_EVENT_TIMER);
	assert_false(timer_fires(0));
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(status(), VIRTIO_BLK_S_OK);
	assert_int_equal(answered(), 4097);
}

static void test_limit_bytes(void **state)
{
	const struct ring_part data = { BUFFER_GPA, 512, RING_W };

	(void)state;
	device_open(image_new(), BLK_FLUSH, 1);
	launch.config.blk.bandwidth = (struct rate_limit){ .size = 4096, .refill_ms = 3600000 };
	device_start();
	assert_int_equal(serve_read(), SERVE_DONE);
	/* What moves no data, and what is refused, costs no bytes. */
	request_one(VIRTIO_BLK_S_OK, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
	request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_IN, SECTORS, 512);
	offer(VIRTIO_BLK_T_IN, 0, &data, 1);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	assert_int_equal(status(), UNANSWERED);
}

/* Hands what the device leaves to a new one through the codec, as a replacement does. */
static void replace(bool carry)
{
	uint8_t record[STATE_RECORD_MAX];
	const struct state_schema *schema = dev_program.state[STATE_DATA];
	int len;

	dev_program.quiesce(&dev);
	len = state_encode(schema, dev.state[STATE_DATA].bytes, record, sizeof(record));
	assert_true(len > 0);
	memset(&dev, 0xee, sizeof(dev));
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

static void test_limit_replaced(void **state)
{
	(void)state;
	device_open(image_new(), 0, 1);
	launch.config.blk.ops = (struct rate_limit){ .size = 2, .burst = 2, .refill_ms = 3600000 };
	device_start();
	assert_int_equal(serve_read(), SERVE_DONE);
	replace(true); /* three are left, one of them of the burst */
	for (int i = 0; i < 3; i++)
		assert_int_equal(serve_read(), SERVE_DONE);
	assert_int_equal(serve_read(), SERVE_BLOCKED);
	replace(true);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	assert_int_equal(ring_used(&ring)->idx, 4);
}

static void test_limit_after_fault(void **state)
{
	(void)state;
	device_open(image_new(), 0, 1);
	launch.config.blk.ops = (struct rate_limit){ .size = 2, .burst = 2, .refill_ms = 3600000 };
	device_start();
	assert_int_equal(serve_read(), SERVE_DONE);
	replace(false); /* nothing carried, and not a first start: nothing to spend */
	assert_int_equal(serve_read(), SERVE_BLOCKED);
	assert_int_equal(ring_used(&ring)->idx, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_limit_waits, teardown),
		cmocka_unit_test_teardown(test_limit_bytes, teardown),
		cmocka_unit_test_teardown(test_limit_replaced, teardown),
		cmocka_unit_test_teardown(test_limit_after_fault, teardown),
	};

	return cmocka_run_group_tests_name("blk limits", tests, NULL, NULL);
}
