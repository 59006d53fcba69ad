/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register devices: an access of a vCPU, carried out by a box.
 *
 * The request is written into the active generation's state page and announced on the kick eventfd;
 * the answer is in a slot there, announced on the call eventfd, on which the vCPU waits.  When a
 * generation is fenced, its slots are looked at once more: either the answer is there, or the
 * request goes to the successor, never both (devmodel/abi/statepage.h).
 *
 * A vCPU must not wait for ever on a process that nobody trusts.  Every 5 ms the supervisor judges:
 * a box that used REG_RUN_NS of CPU time since the request hangs, and so does one that was found
 * asleep (or stopped) with the request before it REG_ASLEEP_TICKS times for one access, or
 * REG_ASLEEP_BUDGET times within a second for all.  One that merely was not given the CPU does not,
 * however long that lasts: on a slow or busy host that is no fault of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define REG_TICK_NS (5 * NS_PER_MS)
#define REG_RUN_NS (50 * NS_PER_MS)
#define REG_ASLEEP_TICKS 4
#define REG_ASLEEP_BUDGET 50

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	/* EAGAIN: a box filled the counter; it is readable then, which is all that is wanted. */
	if (write(fd, &one, sizeof(one)) < 0)
		CHECK(errno == EAGAIN);
}

/* Writes the request where the box looks for it; seq last. */
static void reg_issue(struct device *dev)
{
	struct reg_port *port = &dev->port;
	struct reg_request *to = &port->page->request;

	to->offset = port->request.offset;
	to->size = port->request.size;
	to->write = port->request.write;
	to->value = port->request.value;
	__atomic_store_n(&to->seq, port->request.seq, __ATOMIC_RELEASE);
	signal_fd(dev->spec.kick[0]);
}

/* The slot is written by the box: each word is read once, and only the value's low bytes count.  A
 * write that was carried out is noted here and now: when the box is fenced its successor may be
 * activated from the shadow before the vCPU's thread runs again. */
static void reg_collect(struct device *dev)
{
	struct reg_port *port = &dev->port;
	const uint32_t seq = port->request.seq;
	const struct reg_slot *slot = &port->page->slots[seq % 2];
	const uint32_t end = __atomic_load_n(&slot->end, __ATOMIC_ACQUIRE);
	const uint64_t value = __atomic_load_n(&slot->value, __ATOMIC_RELAXED);
	const uint32_t begin = __atomic_load_n(&slot->begin, __ATOMIC_ACQUIRE);

	if (!port->pending || begin != seq || end != seq)
		return;
	port->value = value &
		      (port->request.size >= 4 ? UINT32_MAX : (1u << (8 * port->request.size)) - 1);
	port->pending = false;
	if (port->request.write && dev->spec.shadow != NULL)
		dev->spec.shadow(port->shadow, port->request.offset, (uint8_t)port->request.value);
}

void reg_attach(struct device *dev)
{
	struct reg_port *port = &dev->port;

	if (!port->enabled)
		return;
	pthread_mutex_lock(&port->lock);
	port->page = dev->active->boxes[0].page;
	if (port->pending)
		reg_issue(dev);
	pthread_mutex_unlock(&port->lock);
}

void reg_detach(struct device *dev)
{
	struct reg_port *port = &dev->port;

	if (!port->enabled)
		return;
	pthread_mutex_lock(&port->lock);
	if (port->page != NULL)
		reg_collect(dev);
	port->page = NULL;
	pthread_mutex_unlock(&port->lock);
	signal_fd(dev->spec.call[0]);
}

void reg_serve(struct device *dev, bool serve)
{
	struct reg_port *port = &dev->port;

	if (!port->enabled)
		return;
	pthread_mutex_lock(&port->lock);
	port->serving = serve;
	pthread_mutex_unlock(&port->lock);
	signal_fd(dev->spec.call[0]);
}

void reg_forget(struct device *dev)
{
	pthread_mutex_lock(&dev->port.lock);
	memset(dev->port.shadow, 0, sizeof(dev->port.shadow));
	pthread_mutex_unlock(&dev->port.lock);
}

uint32_t reg_shadow(struct device *dev, uint8_t *shadow)
{
	struct reg_port *port = &dev->port;
	uint32_t answered;

	if (!port->enabled)
		return 0;
	pthread_mutex_lock(&port->lock);
	memcpy(shadow, port->shadow, REG_SHADOW_BYTES);
	answered = port->request.seq - (port->pending ? 1 : 0);
	pthread_mutex_unlock(&port->lock);
	return answered;
}

bool reg_worked(struct device *dev)
{
	struct reg_port *port = &dev->port;

	pthread_mutex_lock(&port->lock);
	const bool worked = port->request.seq != port->seq_seen;

	port->seq_seen = port->request.seq;
	pthread_mutex_unlock(&port->lock);
	return worked;
}

/* ---- judgement, on the supervisor's thread ---- */

/* Counts a tick that it slept through. True: more of them than one access, or one second, may have. */
static bool reg_overslept(struct reg_port *port)
{
	const uint64_t now = now_ns();

	if (now - port->asleep_since_ns > NS_PER_S) {
		port->asleep_since_ns = now;
		port->asleep_second = 0;
	}
	port->asleep_ticks++;
	port->asleep_second++;
	return port->asleep_ticks > REG_ASLEEP_TICKS || port->asleep_second > REG_ASLEEP_BUDGET;
}

static bool reg_hangs(struct device *dev)
{
	struct reg_port *port = &dev->port;
	const struct box *box = &dev->active->boxes[0];
	struct suspect_sample now;

	patrol_look(box, &now);
	if (port->judged != box->cookie) { /* the first tick of this box under this request */
		port->judged = box->cookie;
		port->cpu_ns = now.cpu_ns;
		port->asleep_ticks = 0;
		return false;
	}
	return now.cpu_ns - port->cpu_ns > REG_RUN_NS ||
	       (now.place != SUSPECT_RUNNING && reg_overslept(port));
}

static void reg_judge(void *arg)
{
	struct device *dev = arg;

	if (dev->state != DEVICE_ACTIVE || !reg_hangs(dev))
		return;
	dev->port.asleep_second = 0;
	dev->port.judged = 0;
	device_suspect(dev, REPLACE_HANG);
}

/* ---- the vCPU's side ---- */

/* Waits until the pending request is answered or nobody serves. Called and left with the lock. */
static void reg_wait(struct device *dev)
{
	struct reg_port *port = &dev->port;
	const struct timespec tick = { 0, REG_TICK_NS };
	uint64_t judge_ns = now_ns() + REG_TICK_NS;
	uint64_t count;

	while (port->pending && port->serving) {
		struct pollfd pfd = { dev->spec.call[0], POLLIN, 0 };
		int n;

		pthread_mutex_unlock(&port->lock);
		n = ppoll(&pfd, 1, &tick, NULL);
		if (n > 0 && read(pfd.fd, &count, sizeof(count)) < 0)
			CHECK(errno == EAGAIN);
		/* By the clock, not by the time-out: a box may signal without an answer, for ever. */
		if (now_ns() >= judge_ns) {
			loop_call(dev->sup->loop, reg_judge, dev);
			judge_ns = now_ns() + REG_TICK_NS;
		}
		pthread_mutex_lock(&port->lock);
		if (port->page != NULL)
			reg_collect(dev);
	}
}

uint64_t device_access(struct device *dev, uint8_t offset, uint8_t size, bool write, uint64_t value)
{
	struct reg_port *port = &dev->port;
	uint64_t result = UINT64_MAX;

	pthread_mutex_lock(&port->turn);
	pthread_mutex_lock(&port->lock);
	if (port->serving) {
		port->request = (struct reg_request){
			.seq = port->request.seq == UINT32_MAX ? 1 : port->request.seq + 1,
			.offset = offset,
			.size = size,
			.write = write,
			.value = value,
		};
		port->pending = true;
		port->judged = 0;
		if (port->page != NULL)
			reg_issue(dev);
		reg_wait(dev);
		if (!port->pending)
			result = port->value;
		port->pending = false;
	}
	pthread_mutex_unlock(&port->lock);
	pthread_mutex_unlock(&port->turn);
	return result;
}
