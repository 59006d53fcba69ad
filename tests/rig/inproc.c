/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A device program knows its descriptors by number, in one dense block
 * (abi/launch.h); in a process that has others the block lies high, filled by dup2().  The launch
 * record is made by hand with the guest memory's addresses as they are here, and the control socket
 * carries the same messages as a supervisor's.  To end: QUIESCE, whereupon it parks in read(control),
 * then the socket is closed and that read says so.
 */
#include "tests/rig/inproc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FD_BASE                                                                                    \
	700 /* above the spawner's, below the soft limit of 1024 that spawner_start() sees to */
#define FD_LIMIT 1000
#define ANSWER_MS 10000

/* The lowest run of `count` free numbers from FD_BASE, or -EMFILE. */
static int find_block(int count)
{
	int base = FD_BASE;

	for (int fd = base; fd < FD_LIMIT; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			base = fd + 1;
		else if (fd - base + 1 == count)
			return base;
	}
	return -EMFILE;
}

static int place(int fd, uint32_t number)
{
	return dup3(fd, (int)number, O_CLOEXEC) < 0 ? -errno : 0;
}

static int place_all(const struct launch_record *l, const struct inproc_config *c, int control)
{
	int ret = place(control, l->fd_control);

	for (uint32_t i = 0; i < c->queues && ret == 0; i++) {
		ret = place(c->kick[i], l->fd_kick + i);
		if (ret == 0)
			ret = place(c->call[i], l->fd_call + i);
	}
	for (uint32_t i = 0; i < c->backend_count && ret == 0; i++)
		ret = place(c->backends[i], l->fd_backend + i);
	return ret;
}

static void close_block(const struct launch_record *l)
{
	for (int fd = l->fd_control; fd < l->fd_held; fd++)
		close(fd);
}

static void fill_launch(struct launch_record *l, const struct inproc_config *c, uint16_t base)
{
	l->magic = LAUNCH_MAGIC;
	l->version = LAUNCH_VERSION;
	l->kind = c->ops->kind;
	l->generation = 1;
	l->lanes = 1;
	l->queues = (uint16_t)c->queues;
	l->backends = (uint16_t)c->backend_count;
	l->fd_control = base;
	l->fd_kick = (uint16_t)(l->fd_control + 1);
	l->fd_call = (uint16_t)(l->fd_kick + c->queues);
	l->fd_backend = (uint16_t)(l->fd_call + c->queues);
	l->fd_held = (uint16_t)(l->fd_backend + c->backend_count);
	l->fd_timer = l->fd_held;
	for (uint16_t i = 0; i < l->queues; i++)
		l->queue_index[i] = i;
	l->map = c->mem->map;
	l->config = *c->config;
}

static void *inproc_main(void *arg)
{
	struct inproc *in = arg;
	cpu_set_t set;

	if (in->cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((unsigned int)in->cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	in->ret = dev_run(&in->dev, in->ops, &in->launch);
	close_block(&in->launch); /* whoever waits for an answer reads the end */
	return NULL;
}

/* As channel_send() does it: the message first, then the bell. */
static int tell(struct inproc *in, const void *message, size_t bytes)
{
	if (send(in->control, message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		return -errno;
	__atomic_fetch_add(&in->page->bell, 1, __ATOMIC_RELEASE);
	return 0;
}

static int await(const struct inproc *in, enum report_type type)
{
	struct pollfd fd = { .fd = in->control, .events = POLLIN };
	struct box_report report;

	if (poll(&fd, 1, ANSWER_MS) != 1)
		return -ETIMEDOUT;
	if (recv(in->control, &report, sizeof(report), 0) != sizeof(report))
		return -EINVAL; /* dev_run() returned before it said a word */
	return report.type == (uint32_t)type ? 0 : -EPROTO;
}

static int activate(struct inproc *in, const struct inproc_config *c)
{
	struct ctl_activate message = { .header = { CTL_ACTIVATE, 0 }, .features = c->features };
	int ret;

	memcpy(message.queues, c->rings, c->queues * sizeof(message.queues[0]));
	ret = tell(in, &message, sizeof(message));
	if (ret == 0)
		ret = await(in, REPORT_ACTIVATED);
	return ret == -EPIPE ? -EINVAL : ret; /* gone already: it refused its configuration */
}

static int make_page(struct inproc *in)
{
	void *page = mmap(NULL, STATE_PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	in->page = page;
	in->launch.state_addr = (uintptr_t)page;
	return 0;
}

/* The descriptors of the program, and the thread that closes them when it ends. */
static int launch(struct inproc *in, const struct inproc_config *c)
{
	const int base = find_block((int)(1 + 2 * c->queues + c->backend_count));
	int pair[2], ret;

	if (base < 0)
		return base;
	fill_launch(&in->launch, c, (uint16_t)base);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	in->control = pair[0];
	ret = place_all(&in->launch, c, pair[1]);
	close(pair[1]);
	if (ret == 0)
		ret = -pthread_create(&in->thread, NULL, inproc_main, in);
	if (ret != 0)
		close_block(&in->launch);
	in->running = ret == 0;
	return ret;
}

int inproc_start(struct inproc *in, const struct inproc_config *c)
{
	int ret;

	memset(in, 0, sizeof(*in));
	in->control = -1;
	in->ops = c->ops;
	in->cpu = c->cpu;
	if (c->queues == 0 || c->queues > BOX_QUEUES_MAX || c->backend_count > BOX_BACKENDS_MAX)
		return -EINVAL;
	ret = make_page(in);
	if (ret == 0)
		ret = launch(in, c);
	if (ret == 0)
		ret = activate(in, c);
	if (ret != 0)
		inproc_stop(in);
	return ret;
}

int inproc_stop(struct inproc *in)
{
	const struct ctl_header quiesce = { CTL_QUIESCE, 0 };
	int ret = 0;

	if (in->running) {
		if (tell(in, &quiesce, sizeof(quiesce)) == 0)
			ret = await(in, REPORT_PARKED);
		shutdown(in->control, SHUT_RDWR);
		pthread_join(in->thread, NULL);
		ret = ret == 0 && in->ret == -EPIPE ? 0 : -EPROTO;
	}
	if (in->control >= 0)
		close(in->control);
	if (in->page != NULL)
		munmap(in->page, STATE_PAGE_BYTES);
	in->page = NULL;
	in->control = -1;
	in->running = false;
	return ret;
}
