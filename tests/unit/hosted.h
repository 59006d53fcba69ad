/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device program hosted in a thread, with the test at the VMM's end of its control socket and at the
 * driver's end of its rings.  One at a time, file scope; setup() and teardown() are cmocka's.
 */
#ifndef MAYFLY_TESTS_UNIT_HOSTED_H
#define MAYFLY_TESTS_UNIT_HOSTED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "devmodel/abi/kinds.h"
#include "tests/unit/ring.h"

#define FD_BASE 500 /* of the device's descriptors, which are dense */
#define QUEUES 3
#define QUEUE_SPACE 0x20000u /* guest memory of each queue: rings and its requests */
#define WAIT_MS 20000
#define IMAGE_BYTES 65536u

static struct ring rings[QUEUES]; /* the memory is that of the first */
static struct launch_record launch;
static struct dev dev;
static struct state_page *page;
static const struct dev_ops *ops;
static pthread_t thread;
static bool running;
static int vmm; /* the VMM's end */
static int ret; /* of dev_run() */

/* ---- hosting ---- */

static inline void *host(void *arg)
{
	(void)arg;
	ret = dev_run(&dev, ops, &launch);
	/* As a process that ends. */
	shutdown(FD_BASE, SHUT_RDWR);
	return NULL;
}

static inline void place(int fd, int number)
{
	assert_int_equal(dup3(fd, number, O_CLOEXEC), number);
}

static inline void queues_make(void)
{
	ring_open(&rings[0], 16, 1ull << VIRTIO_F_RING_INDIRECT_DESC);
	for (uint32_t i = 1; i < QUEUES; i++) {
		rings[i] = rings[0];
		rings[i].cfg.desc_gpa += i * QUEUE_SPACE;
		rings[i].cfg.avail_gpa += i * QUEUE_SPACE;
		rings[i].cfg.used_gpa += i * QUEUE_SPACE;
		rings[i].kick = eventfd(0, EFD_NONBLOCK);
		rings[i].call = eventfd(0, EFD_NONBLOCK);
	}
}

static inline int setup(void **state)
{
	int pair[2];
	const int image = memfd_create("image", MFD_CLOEXEC);

	(void)state;
	queues_make();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 || image < 0 ||
	    ftruncate(image, IMAGE_BYTES) != 0)
		return -1;
	memset(&launch, 0, sizeof(launch));
	memset(&dev, 0, sizeof(dev));
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	launch.kind = DEV_KIND_BLK;
	launch.state_addr = (uint64_t)(uintptr_t)page;
	launch.map = rings[0].map;
	launch.queues = QUEUES;
	launch.backends = 1;
	launch.fd_control = FD_BASE;
	launch.fd_kick = FD_BASE + 1;
	launch.fd_call = launch.fd_kick + QUEUES;
	launch.fd_backend = launch.fd_call + QUEUES;
	launch.fd_timer = launch.fd_held = (uint16_t)(launch.fd_backend + 1);
	launch.config.blk.bytes = IMAGE_BYTES;
	launch.config.blk.align = 1;
	vmm = pair[0];
	place(pair[1], FD_BASE);
	close(pair[1]);
	place(image, launch.fd_backend);
	close(image);
	for (uint16_t i = 0; i < QUEUES; i++) {
		launch.queue_index[i] = (uint16_t)(10 + i); /* device-wide numbers */
		place(rings[i].kick, launch.fd_kick + i);
		place(rings[i].call, launch.fd_call + i);
	}
	ops = &dev_program;
	return 0;
}

static inline void start(void)
{
	assert_int_equal(pthread_create(&thread, NULL, host, NULL), 0);
	running = true;
}

static inline int finish(void)
{
	assert_true(running);
	assert_int_equal(pthread_join(thread, NULL), 0);
	running = false;
	return ret;
}

static inline int teardown(void **state)
{
	const struct ctl_header quiesce = { CTL_QUIESCE, 0 };

	(void)state;
	/* One that is busy hears the bell, not the end of the stream. */
	if (send(vmm, &quiesce, sizeof(quiesce), MSG_NOSIGNAL) > 0)
		__atomic_fetch_add(&page->bell, 1, __ATOMIC_RELEASE);
	shutdown(vmm, SHUT_RDWR);
	if (running)
		finish();
	close(vmm);
	for (int fd = FD_BASE; fd < launch.fd_held; fd++)
		close(fd);
	for (uint32_t i = 1; i < QUEUES; i++) {
		close(rings[i].kick);
		close(rings[i].call);
	}
	ring_close(&rings[0]);
	munmap(page, sizeof(*page));
	return 0;
}

/* ---- the VMM's part ---- */

static inline void tell(const void *message, size_t bytes)
{
	assert_int_equal(send(vmm, message, bytes, MSG_NOSIGNAL), bytes);
	__atomic_fetch_add(&page->bell, 1, __ATOMIC_RELEASE);
}

static inline void tell_type(uint32_t type, uint32_t value)
{
	const struct ctl_header header = { type, value };

	tell(&header, sizeof(header));
}

static inline struct box_report hear(void)
{
	struct pollfd pfd = { vmm, POLLIN, 0 };
	struct box_report report = { 0 };

	assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
	assert_int_equal(recv(vmm, &report, sizeof(report), 0), sizeof(report));
	return report;
}

static inline void expect_report(enum report_type type, uint32_t value, uint64_t detail)
{
	const struct box_report report = hear();

	assert_int_equal(report.type, type);
	assert_int_equal(report.value, value);
	assert_int_equal(report.detail, detail);
}

static inline void expect_silence(void)
{
	struct box_report report;

	assert_true(recv(vmm, &report, sizeof(report), MSG_DONTWAIT) <= 0);
}

struct activate {
	struct ctl_activate head;
	uint8_t records[STATE_CLASSES * STATE_RECORD_MAX];
};

static inline struct activate activation(void)
{
	struct activate message = { .head = { .header = { CTL_ACTIVATE, 0 },
					      .features = rings[0].features } };

	for (uint32_t i = 0; i < QUEUES; i++)
		message.head.queues[i] = rings[i].cfg;
	return message;
}

static inline void activate(void)
{
	const struct activate message = activation();

	tell(&message, sizeof(message.head));
}

/* ---- the driver's part: a request for the device's id ---- */

static inline void request(uint32_t queue)
{
	struct ring *r = &rings[queue];
	const uint64_t gpa = RING_DATA_GPA + queue * QUEUE_SPACE;
	const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_GET_ID };
	const struct ring_part parts[] = { { gpa, sizeof(header), 0 },
					   { gpa + 0x100, BLK_ID_BYTES, RING_W },
					   { gpa + 0x200, 1, RING_W } };

	memcpy(ring_at(r, gpa, sizeof(header)), &header, sizeof(header));
	ring_post(r, parts, 3);
}

static inline void kick(uint32_t queue)
{
	const uint64_t one = 1;

	assert_int_equal(write(rings[queue].kick, &one, sizeof(one)), sizeof(one));
}

static inline uint16_t used_idx(uint32_t queue)
{
	return __atomic_load_n(&ring_used(&rings[queue])->idx, __ATOMIC_ACQUIRE);
}

static inline void await_call(uint32_t queue)
{
	struct pollfd pfd = { rings[queue].call, POLLIN, 0 };

	assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
}

#endif
