/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back-end with two front-ends: a hostile one, with memory and a ring of its own, and an honest one that comes
 * when that is gone and has to be served.  What the back-end logs is counted.
 */
#ifndef MAYFLY_TESTS_HOST_VHOST_HOSTILE_H
#define MAYFLY_TESTS_HOST_VHOST_HOSTILE_H

#include <poll.h>
#include <sys/stat.h>

#include "core/log.h"
#include "tests/host/vhost.h"

#define EVIL_MEMORY (16ull << 20)
#define WAIT_MS 20000
#define PAGE 4096ull
#define DEATHS 10 /* until the device is given up */

struct hostile {
	struct vhost_rig *v; /* with the honest one */
	struct vhostclient c;
	struct guestmem mem;
	struct ringdrv_queue ring;
	int err; /* eventfd: SET_VRING_ERR */
	int log;
	off_t logged; /* so far looked at */
};

/* Lines since the last time. */
static inline uint32_t hostile_lines(struct hostile *h)
{
	uint32_t lines = 0;
	char text[4096];
	ssize_t n;

	while ((n = pread(h->log, text, sizeof(text), h->logged)) > 0) {
		h->logged += n;
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	}
	return lines;
}

static inline struct hostile *hostile_open(void)
{
	const struct ringdrv_config ring = { .features = RINGDRV_INDIRECT | RINGDRV_EVENT_IDX |
							 RINGDRV_VERSION_1,
					     .size = 128,
					     .quiet = true };
	struct hostile *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	signal(SIGPIPE, SIG_IGN); /* as the back-end's process does */
	h->v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2, .deaths = DEATHS });
	vhost_rig_load(h->v, 1);
	guestmem_init(&h->mem);
	assert_int_equal(guestmem_add(&h->mem, 0, EVIL_MEMORY, GUESTMEM_LOOSE), 0);
	assert_int_equal(ringdrv_init(&h->ring, &h->mem, &ring), 0);
	h->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->log = memfd_create("log", MFD_CLOEXEC);
	assert_true(h->err >= 0 && h->log >= 0 && fcntl(h->log, F_SETFL, O_APPEND) == 0);
	log_open(h->log, LOG_LEVEL_WARN);
	vhostclient_init(&h->c);
	return h;
}

static inline void hostile_close(struct hostile *h)
{
	vhostclient_free(&h->c);
	vhost_rig_stop(h->v);
	log_open(STDERR_FILENO, LOG_LEVEL_WARN);
	ringdrv_free(&h->ring);
	guestmem_free(&h->mem);
	close(h->err);
	close(h->log);
	free(h);
}

/* It has come, and agreed on features. */
static inline void hostile_greet(struct hostile *h)
{
	assert_int_equal(vhostclient_connect(&h->c, h->v->path, VHOST_WAIT_NS), 0);
	assert_int_equal(vhostclient_negotiate(&h->c, 2), 0);
}

/* .. and its ring runs. */
static inline void hostile_start(struct hostile *h)
{
	if (h->c.sock < 0)
		hostile_greet(h);
	assert_int_equal(vhostclient_set_vring_err(&h->c, 0, h->err), 0);
	assert_int_equal(vhostclient_start(&h->c, &h->mem, &h->ring, 1), 0);
}

/* The honest one is served on the same socket, with all that it wrote before. */
static inline void hostile_serve_other(struct hostile *h)
{
	vhost_rig_connect(h->v);
	vhost_rig_run(h->v, 50);
	vhost_rig_check(h->v);
	vhostclient_drop(&h->v->client);
}

static inline void hostile_leave(struct hostile *h)
{
	h->c.ring_count = 0; /* where its ring is may be nothing any more */
	vhostclient_drop(&h->c);
	h->c.bases_known = false;
	cc_close(&h->c.fd_inflight);
}

/* The device serves nothing any more, and says so. */
static inline void hostile_await_error(struct hostile *h)
{
	struct pollfd pfd = { .fd = h->err, .events = POLLIN };
	uint64_t count;

	assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
	assert_int_equal(read(h->err, &count, sizeof(count)), sizeof(count));
}

/* A request of the disk's name, as a driver makes it; returns whether it was answered. */
static inline bool hostile_request(struct hostile *h, uint64_t timeout_ns)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} * head;
	struct ringdrv_done done;
	gpa_t at;

	assert_int_equal(guestmem_alloc(&h->mem, PAGE, 16, &at), 0);
	head = guestmem_ptr(&h->mem, at, sizeof(*head));
	head->type = 8;
	const struct ringdrv_seg seg[] = { { at.raw, sizeof(*head) },
					   { at.raw + 64, 20 },
					   { at.raw + 128, 1 } };
	const struct ringdrv_chain chain = { .seg = seg, .readable = 1, .writable = 2 };

	assert_int_equal(ringdrv_add(&h->ring, &chain), 0);
	ringdrv_publish(&h->ring);
	ringdrv_kick_always(&h->ring);
	return ringdrv_wait(&h->ring, timeout_ns) == 1 && ringdrv_reap(&h->ring, &done) == 1;
}

#endif
