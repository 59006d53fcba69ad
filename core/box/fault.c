/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which box, on the supervisor's thread; an outside hand works on the caller's, since stopping a
 * process takes as long as it takes.  The supervisor meets what comes of it like any other fault, and a
 * box that is being traced when it is to be fenced is killed (fence.c).
 */
#include "core/box/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"

const char *fault_name(enum fault fault)
{
	static const char *const names[] = {
#define FAULT_NAME(NAME, number, name, inside, text) [FAULT_##NAME] = name,
		FAULTS(FAULT_NAME)
#undef FAULT_NAME
	};

	return names[fault];
}

bool fault_is_inside(enum fault fault)
{
	static const bool inside[] = {
#define FAULT_INSIDE(NAME, number, name, inside, text) [FAULT_##NAME] = (inside),
		FAULTS(FAULT_INSIDE)
#undef FAULT_INSIDE
	};

	return inside[fault];
}

void supervisor_allow_faults(struct supervisor *sup, bool faulty)
{
	sup->faults_allowed = true;
	sup->faulty = faulty;
}

/* ---- from inside ---- */

/* What a device without rings has no part in. */
static bool is_of_rings(enum fault fault)
{
	return fault == FAULT_BAD_USED_INDEX || fault == FAULT_DIE_ON_REQUEST;
}

static void order_inside(struct device *dev, struct box *box, const struct fault_order *order)
{
	const struct ctl_fault message = {
		.header = { CTL_FAULT, order->fault },
		.queue = order->queue / dev->spec.lanes, /* those of a lane are dealt in turn */
		.after = order->after,
	};

	if (order->fault == FAULT_DIE_ON_REQUEST)
		dev->doomed = order->queue + 1;
	if (channel_send(box, &message, sizeof(message)) != 0)
		box_raise(box, BOX_EV_MISBEHAVED);
}

uint32_t fault_doomed(struct device *dev, const struct box *box)
{
	const uint32_t queue = dev->doomed - 1;

	if (dev->doomed == 0)
		return 0;
	/* One that lived to be replaced took the order with it; and what is answered with an error
	 * kills nobody any more. */
	if (dev->passage.reason != REPLACE_CRASH || dev->queues[queue].refuse != 0 ||
	    dev->refusing) {
		dev->doomed = 0;
		return 0;
	}
	return queue % dev->spec.lanes == box->lane ? queue / dev->spec.lanes + 1 : 0;
}

/* ---- from outside ---- */

#define FORBIDDEN_CALL SYS_mmap /* of no kind's policy */

static int make_outside(enum fault fault, pid_t pid, int pidfd)
{
	switch (fault) {
	case FAULT_KILL:
		return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) != 0 ? -errno : 0;
	case FAULT_STOP:
		return syscall(SYS_pidfd_send_signal, pidfd, SIGSTOP, NULL, 0) != 0 ? -errno : 0;
	case FAULT_SEGV:
		return hand_fault(pid);
	case FAULT_HANG:
		return hand_spin(pid);
	default:
		return hand_call(pid, FORBIDDEN_CALL);
	}
}

/* ---- the order ---- */

struct fault_call {
	struct device *dev;
	const struct fault_order *order;
	uint64_t generation;
	pid_t pid;
	int pidfd; /* a copy */
	int ret;
};

static int fault_check(const struct device *dev, const struct fault_order *order)
{
	const struct device_spec *spec = &dev->spec;

	if (!dev->sup->faults_allowed)
		return -EPERM;
	if (order->fault >= FAULT_COUNT || order->lane >= spec->lanes ||
	    order->queue >= spec->queues || (is_of_rings(order->fault) && !spec->guest_memory))
		return -EINVAL;
	return fault_is_inside(order->fault) && !dev->sup->faulty ? -ENOTSUP : 0;
}

static void call_fault(void *arg)
{
	struct fault_call *call = arg;
	struct device *dev = call->dev;
	const enum fault fault = call->order->fault;

	call->ret = fault_check(dev, call->order);
	if (call->ret == 0 && dev->state != DEVICE_ACTIVE)
		call->ret = -EBUSY;
	if (call->ret != 0)
		return;
	const bool inside = fault_is_inside(fault);
	struct box *box =
		&dev->active
			 ->boxes[inside ? call->order->queue % dev->spec.lanes : call->order->lane];

	call->generation = dev->active->number;
	call->pid = box->pid;
	call->pidfd = inside ? -1 : fcntl(box->pidfd, F_DUPFD_CLOEXEC, 0);
	if (!inside && call->pidfd < 0) {
		call->ret = -errno;
		return;
	}
	dev->faults++;
	log_warn("%s: generation %llu gets a fault: %s", dev->spec.id,
		 (unsigned long long)call->generation, fault_name(fault));
	device_tell(dev, FAULT, .text = fault_name(fault));
	if (inside)
		order_inside(dev, box, call->order);
}

int device_fault(struct device *dev, const struct fault_order *order, uint64_t *generation)
{
	struct fault_call call = { .dev = dev, .order = order, .pidfd = -1 };

	loop_call(dev->sup->loop, call_fault, &call);
	*generation = call.generation;
	if (call.ret == 0 && call.pidfd >= 0)
		call.ret = make_outside(order->fault, call.pid, call.pidfd);
	cc_close(&call.pidfd);
	return call.ret;
}
