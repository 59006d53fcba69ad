/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend that may mmap: the hosted program in a process of its own, which is told of each change.
 *
 * Theory of operation.  An order goes by the socket, with the region's descriptor where it is to be mapped;
 * the device carries it out between two requests, and answers.  It looks for orders where it looks for
 * requests: serve() of the program is called by one that first compares a count, which is in memory that
 * both processes have.  A kick wakes it, should it sleep.
 *
 * The answer is its word.  A device that lies answers in the same way and keeps the mapping.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "benchmarks/amortize/scheme.h"
#include "core/cc.h"

#define ANSWER_MS 10000

enum order {
	ORDER_MAP,
	ORDER_UNMAP,
	ORDER_PRETEND, /* to unmap */
};

/* Both processes have it. */
struct orders {
	uint32_t sent;
	uint32_t heard; /* the device's, as is .. */
	void *region;   /* .. where it is mapped there */
};

union descriptor {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

/* ---- the device's process ---- */

/* Takes an order; the descriptor that came with it, or -1. */
static int hear(const struct scheme *s, enum order *order)
{
	union descriptor control = { 0 };
	struct iovec iov = { order, sizeof(*order) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(s->backend.device, &msg, MSG_CMSG_CLOEXEC) != sizeof(*order))
		_exit(1); /* the VMM is gone */
	if (msg.msg_controllen >= CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

static int obey(struct scheme *s, enum order order, int fd)
{
	struct mem_map *map = &s->bare.inproc.launch.map;
	struct orders *orders = s->own;

	if (order != ORDER_MAP) {
		scheme_map_take(map);
		if (order == ORDER_UNMAP && munmap(orders->region, SCHEME_NEW_BYTES) != 0)
			return -errno;
		return 0;
	}
	orders->region = mmap(NULL, SCHEME_NEW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (orders->region == MAP_FAILED)
		return -errno;
	scheme_map_add(map, (uintptr_t)orders->region);
	return 0;
}

static void carry_out(struct scheme *s)
{
	struct orders *orders = s->own;
	enum order order;
	cleanup_fd int fd = hear(s, &order);
	const int ret = obey(s, order, fd);

	orders->heard++;
	if (send(s->backend.device, &ret, sizeof(ret), MSG_NOSIGNAL) != sizeof(ret))
		_exit(1);
}

static enum serve_result serve(struct dev *dev, struct virtq *q)
{
	struct scheme *s = container_of(dev->ops, struct scheme, wrapped);
	const struct orders *orders = s->own;

	if (__atomic_load_n(&orders->sent, __ATOMIC_ACQUIRE) != orders->heard)
		carry_out(s);
	return s->program->serve(dev, q);
}

static int begin(void *ctx)
{
	struct scheme *s = ctx;

	return bareblk_go(&s->bare, &s->rig.mem, &s->wrapped, -1);
}

/* ---- the VMM ---- */

static int tell(const struct scheme *s, enum order order, int fd)
{
	union descriptor control = { .header = { .cmsg_len = CMSG_LEN(sizeof(fd)),
						 .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { &order, sizeof(order) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	return sendmsg(s->backend.vmm, &msg, MSG_NOSIGNAL) == sizeof(order) ? 0 : -errno;
}

/* What the device says that came of it. */
static int give_order(struct scheme *s, enum order order, int fd)
{
	struct orders *orders = s->own;
	struct pollfd answered = { .fd = s->backend.vmm, .events = POLLIN };
	const uint64_t one = 1;
	int ret = tell(s, order, fd);

	if (ret != 0)
		return ret;
	__atomic_fetch_add(&orders->sent, 1, __ATOMIC_RELEASE);
	if (write(s->bare.ring.fd_kick, &one, sizeof(one)) != sizeof(one))
		return -errno;
	if (poll(&answered, 1, ANSWER_MS) != 1)
		return -ETIMEDOUT;
	return recv(s->backend.vmm, &ret, sizeof(ret), 0) == sizeof(ret) ? ret : -EPIPE;
}

static int on_added(struct scheme *s)
{
	const struct guestmem *mem = &s->rig.mem;

	return give_order(s, ORDER_MAP, mem->fds[mem->map.count - 1]);
}

static int on_taken(struct scheme *s)
{
	return give_order(s, s->lie ? ORDER_PRETEND : ORDER_UNMAP, -1);
}

static int fork_backend(struct scheme *s)
{
	void *page = mmap(NULL, sizeof(struct orders), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (page == MAP_FAILED)
		return -errno;
	s->own = page;
	s->wrapped.serve = serve;
	ret = scheme_add_bare(s);
	return ret != 0 ? ret : backend_fork(&s->backend, begin, s);
}

static void stop(struct scheme *s)
{
	if (s->own != NULL)
		munmap(s->own, sizeof(struct orders));
}

const struct scheme_ops scheme_mmap = {
	.letter = "c",
	.name = "mmap",
	.cannot =
		"that it lets go of memory when it says so, and that it maps nothing else: mmap is open "
		"to it",
	.fork = fork_backend,
	.added = on_added,
	.taken = on_taken,
	.stop = stop,
};
