/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blk device on a memfd, for unit tests: built as a launch does it, driven through a queue of
 * tests/unit/ring.h without a main loop.  One at a time, file scope: a test opens it, the teardown
 * closes it.  The numbers of the protocol come from the kernel's header, not from the device.
 */
#ifndef MAYFLY_TESTS_UNIT_BLK_H
#define MAYFLY_TESTS_UNIT_BLK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "devmodel/abi/kinds.h"
#include "tests/unit/ring.h"

#define IMAGE_BYTES (256u << 10)
#define SECTORS (IMAGE_BYTES / 512)
#define HEADER_GPA RING_DATA_GPA
#define STATUS_GPA (RING_DATA_GPA + 0x100)
#define ID_GPA (RING_DATA_GPA + 0x200)
#define BUFFER_GPA (RING_DATA_GPA + 0x10000)
#define BUFFER_BYTES 0x100000u
#define UNANSWERED 0x5a
#define ID "serial-number-20-chr" /* fills the field: no NUL */

static struct ring ring;
static struct launch_record launch;
static struct dev dev;
static struct virtq *const q = &dev.queues[0];
static uint8_t shadow[IMAGE_BYTES]; /* what the image should hold */

static inline int image_new(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	for (uint32_t i = 0; i < IMAGE_BYTES; i++)
		shadow[i] = (uint8_t)(i * 7 + i / 512);
	assert_int_equal(pwrite(fd, shadow, IMAGE_BYTES, 0), IMAGE_BYTES);
	return fd;
}

/* A device that has not been activated yet, on an image that it then owns. */
static inline void device_open(int image, uint32_t flags, uint32_t align)
{
	ring_open(&ring, 256, 1ull << VIRTIO_F_RING_INDIRECT_DESC);
	memset(&launch, 0, sizeof(launch));
	memset(&dev, 0, sizeof(dev));
	launch.kind = DEV_KIND_BLK;
	launch.map = ring.map;
	launch.queues = 1;
	launch.backends = 1;
	launch.fd_backend = (uint16_t)image;
	launch.fd_timer = (uint16_t)timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	launch.config.blk.bytes = IMAGE_BYTES;
	launch.config.blk.flags = flags;
	launch.config.blk.align = align;
	memcpy(launch.config.blk.id, ID, BLK_ID_BYTES);
	dev.launch = &launch;
	dev.ops = &dev_program;
}

static inline void device_start(void)
{
	assert_int_equal(dev_program.init(&dev), 0);
	assert_int_equal(ring_queue(&ring, q), 0);
	dev_program.activate(&dev);
}

static inline void device_up(uint32_t flags)
{
	device_open(image_new(), flags, 1);
	device_start();
}

static inline void image_expect(void)
{
	static uint8_t now[IMAGE_BYTES];
	struct stat st;

	assert_int_equal(fstat(launch.fd_backend, &st), 0);
	assert_int_equal(st.st_size, IMAGE_BYTES);
	assert_int_equal(pread(launch.fd_backend, now, IMAGE_BYTES, 0), IMAGE_BYTES);
	assert_memory_equal(now, shadow, IMAGE_BYTES);
}

static inline int teardown(void **state)
{
	(void)state;
	close(launch.fd_backend);
	close(launch.fd_timer);
	ring_close(&ring);
	return 0;
}

static inline uint8_t *buffer(uint32_t off)
{
	return ring_at(&ring, BUFFER_GPA + off, 1);
}

/* Header, the given data parts, status: offered, not served. */
static inline void offer(uint32_t type, uint64_t sector, const struct ring_part *data, uint16_t n)
{
	const struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	struct ring_part parts[128] = { { HEADER_GPA, sizeof(header), 0 } };

	assert_true(n <= 126);
	memcpy(ring_at(&ring, HEADER_GPA, sizeof(header)), &header, sizeof(header));
	*(uint8_t *)ring_at(&ring, STATUS_GPA, 1) = UNANSWERED;
	memcpy(parts + 1, data, n * sizeof(*data));
	parts[n + 1] = (struct ring_part){ STATUS_GPA, 1, RING_W };
	ring_post(&ring, parts, (uint16_t)(n + 2));
}

static inline uint8_t status(void)
{
	return *(uint8_t *)ring_at(&ring, STATUS_GPA, 1);
}

/* What the last request was answered, after checking that it was published properly. */
static inline uint32_t answered(void)
{
	const struct virtq_used *used = ring_used(&ring);

	assert_int_equal(used->idx, ring.posted);
	assert_int_equal(used->ring[(uint16_t)(used->idx - 1) % ring.cfg.size].id, 0);
	assert_true(ring_signals(&ring) > 0);
	return used->ring[(uint16_t)(used->idx - 1) % ring.cfg.size].len;
}

static inline void request(uint8_t want, uint32_t written, uint32_t type, uint64_t sector,
			   const struct ring_part *data, uint16_t n)
{
	offer(type, sector, data, n);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(status(), want);
	assert_int_equal(answered(), written);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_IDLE);
}

static inline void request_one(uint8_t want, uint32_t written, uint32_t type, uint64_t sector,
			       uint32_t bytes)
{
	const struct ring_part data = { BUFFER_GPA, bytes, type == VIRTIO_BLK_T_OUT ? 0 : RING_W };

	request(want, written, type, sector, &data, bytes ? 1 : 0);
}

#endif
