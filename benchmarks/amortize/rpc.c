/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No guest memory but what it was born with, and a call to the VMM for each access to the rest: the hosted
 * program in a process of its own.
 *
 * Theory of operation.  A call is a message each way on a socket, with the data in one of them; in the VMM a
 * thread answers.  Two things are favourable to the scheme.  Memory that never goes away and has rings and
 * request headers in it is mapped: only data goes by calls, one for each of a request's segments, which
 * here is one a request.  And both ends of a call are bound to one CPU, where a round trip takes a third of
 * the time.
 *
 * The program is not changed, and believes that it has all of guest memory.  What it has in place of data
 * is a range of addresses as large, made of one small buffer that is mapped again and again: whatever
 * pointer it makes of a guest address lies in that buffer, and says which address was meant.  Its serve() is
 * called by one that looks at the request first and calls for what the device will read; then has it
 * served with a used ring that is not the driver's; then calls to store what the device wrote, and only
 * then tells the driver.  One request at a time is in the buffer, so that nothing is overwritten.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "benchmarks/amortize/scheme.h"
#include "benchmarks/common.h"
#include "core/cc.h"

#define BUFFER_BYTES (1u << 20)
#define DEVICE_CPU 1 /* the driver has 0 */
#define CALL_BYTES_MAX (64u << 10)

struct call {
	uint64_t gpa;
	uint32_t bytes;
	uint32_t store; /* the data follow; else they are to be fetched, and follow the answer */
};

struct calls {
	/* The used ring that the program sees: a header, elements, avail_event. */
	uint32_t aside[1 + 2 * VIRTQ_SIZE_MAX + 1];
	pthread_t server;
	bool serving;
	uint8_t data[CALL_BYTES_MAX]; /* the VMM's */
};

/* ---- the device's process ---- */

static int call(const struct scheme *s, uint64_t gpa, const struct virtq_segment *seg, bool store)
{
	struct call c = { .gpa = gpa, .bytes = seg->len, .store = store };
	int ret = 0;
	struct iovec out[] = { { &c, sizeof(c) }, { seg->data, seg->len } };
	struct iovec in[] = { { &ret, sizeof(ret) }, { seg->data, seg->len } };
	const struct msghdr question = { .msg_iov = out, .msg_iovlen = store ? 2 : 1 };
	struct msghdr reply = { .msg_iov = in, .msg_iovlen = store ? 1 : 2 };

	if (seg->len > CALL_BYTES_MAX)
		return -EMSGSIZE;
	if (sendmsg(s->backend.device, &question, MSG_NOSIGNAL) < 0 ||
	    recvmsg(s->backend.device, &reply, 0) < (ssize_t)sizeof(ret))
		_exit(1); /* the VMM is gone */
	return ret;
}

/* The guest address that a pointer was made of. */
static uint64_t meant(const struct mem_map *map, const uint8_t *data)
{
	for (uint32_t i = 0; i < map->count; i++) {
		const struct mem_region *r = &map->regions[i];

		if ((uintptr_t)data - r->addr < r->bytes)
			return r->gpa + ((uintptr_t)data - r->addr);
	}
	return UINT64_MAX; /* it says so when it is asked */
}

/* Moves what lies in the buffer of segments [from, to). 0 or -errno. */
static int move(const struct scheme *s, const struct virtq *q, const struct virtq_chain *chain,
		bool store)
{
	const uint16_t from = store ? chain->readable : 0;
	const uint16_t to = store ? chain->segments : chain->readable;
	int ret = 0;

	for (uint16_t i = from; i < to && ret == 0; i++) {
		const uint64_t gpa = meant(q->map, chain->seg[i].data);

		if (gpa >= SCHEME_LOW_BYTES)
			ret = call(s, gpa, &chain->seg[i], store);
	}
	return ret;
}

/* If nothing else was wrong, an address was that the VMM does not have. */
static enum serve_result broken(struct virtq *q)
{
	virtq_break(q, RING_ERROR_SPAN);
	return SERVE_BROKEN;
}

static enum serve_result serve(struct dev *dev, struct virtq *q)
{
	struct scheme *s = container_of(dev->ops, struct scheme, wrapped);
	struct calls *calls = s->own;
	struct virtq_chain chain __attribute__((uninitialized));
	struct virtq aside = *q;
	const int got = virtq_peek(q, &chain);
	enum serve_result served;

	if (got == 0)
		return SERVE_IDLE;
	if (got < 0 || move(s, q, &chain, false) != 0)
		return broken(q);
	aside.used = (struct virtq_used *)calls->aside;
	aside.fd_call = -1; /* it calls nobody */
	served = s->program->serve(dev, &aside);
	if (served != SERVE_DONE || move(s, q, &chain, true) != 0)
		return broken(q);
	const struct virtq_used_elem *done = &aside.used->ring[q->next & (q->size - 1)];

	virtq_push(q, (uint16_t)done->id, done->len);
	return SERVE_DONE;
}

/* The range in place of a region. */
static int make_place(struct mem_region *region, int buffer)
{
	uint8_t *at = mmap(NULL, region->bytes, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -errno;
	for (uint64_t off = 0; off < region->bytes; off += BUFFER_BYTES) {
		if (mmap(at + off, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 buffer, 0) == MAP_FAILED)
			return -errno;
	}
	region->addr = (uintptr_t)at;
	return 0;
}

static int begin(void *ctx)
{
	struct scheme *s = ctx;
	struct guestmem mem = s->rig.mem;
	cleanup_fd int buffer = memfd_create("buffer", MFD_CLOEXEC);
	struct mem_region *data = &mem.map.regions[1];
	int ret;

	if (buffer < 0 || ftruncate(buffer, BUFFER_BYTES) != 0 ||
	    munmap((void *)(uintptr_t)data->addr, data->bytes) != 0)
		return -errno;
	scheme_map_add(&mem.map, 0);
	ret = make_place(data, buffer);
	if (ret == 0)
		ret = make_place(&mem.map.regions[2], buffer);
	if (ret == 0)
		ret = bench_pin(0, DEVICE_CPU);
	/* Its page faults are not what is measured. */
	if (ret == 0)
		ret = guestmem_populate(&mem);
	return ret != 0 ? ret : bareblk_go(&s->bare, &mem, &s->wrapped, -1);
}

/* ---- the VMM ---- */

/* One call. False: the device is gone. */
static bool answer(struct scheme *s)
{
	struct calls *calls = s->own;
	struct call c;
	struct iovec in[] = { { &c, sizeof(c) }, { calls->data, sizeof(calls->data) } };
	struct msghdr question = { .msg_iov = in, .msg_iovlen = 2 };
	const ssize_t n = recvmsg(s->backend.vmm, &question, 0);
	void *at;
	int ret;

	if (n < (ssize_t)sizeof(c))
		return false;
	at = guestmem_ptr(&s->rig.mem, gpa_make(c.gpa), c.bytes);
	ret = at == NULL || (c.store && n != (ssize_t)sizeof(c) + c.bytes) ? -EFAULT : 0;
	if (ret == 0 && c.store)
		memcpy(at, calls->data, c.bytes);
	struct iovec out[] = { { &ret, sizeof(ret) }, { at, c.bytes } };
	const struct msghdr reply = { .msg_iov = out, .msg_iovlen = ret != 0 || c.store ? 1 : 2 };

	return sendmsg(s->backend.vmm, &reply, MSG_NOSIGNAL) >= 0;
}

static void *server_main(void *arg)
{
	bench_pin(0, DEVICE_CPU);
	while (answer(arg))
		;
	return NULL;
}

static int fork_backend(struct scheme *s)
{
	int ret;

	s->own = calloc(1, sizeof(struct calls));
	if (s->own == NULL)
		return -ENOMEM;
	s->wrapped.serve = serve;
	ret = scheme_add_bare(s);
	return ret != 0 ? ret : backend_fork(&s->backend, begin, s);
}

static int start(struct scheme *s)
{
	struct calls *calls = s->own;
	const int ret = -pthread_create(&calls->server, NULL, server_main, s);

	calls->serving = ret == 0;
	return ret;
}

static void stop(struct scheme *s)
{
	struct calls *calls = s->own;

	if (calls != NULL && calls->serving) {
		shutdown(s->backend.vmm, SHUT_RDWR);
		pthread_join(calls->server, NULL);
	}
	free(calls);
}

const struct scheme_ops scheme_rpc = {
	.letter = "d",
	.name = "rpc",
	.cannot =
		"speed: each access is a round trip; and that the VMM stays off the data path, where "
		"it takes addresses of a device at the rate of its requests",
	.fork = fork_backend,
	.start = start,
	.stop = stop,
};
