/* SPDX-License-Identifier: Apache-2.0 */
/* Faults on order, for those who want to see what comes of them: off unless switched on. */
#ifndef MAYFLY_CORE_BOX_FAULT_H
#define MAYFLY_CORE_BOX_FAULT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/box/box.h"
#include "devmodel/abi/fault.h"

struct fault_order {
	uint32_t fault; /* enum fault */
	uint32_t lane;  /* which box of the active generation */
	uint32_t
		queue; /* of the device, where the fault is one of a queue; its lane is the box's */
	uint32_t after; /* DIE_ON_REQUEST: requests that are still served before */
};

const char *fault_name(enum fault fault);
/* Whether it takes the faulty set of programs. */
bool fault_is_inside(enum fault fault);

/* Before the first device: faults may be injected; faulty: the programs are the faulty set. */
void supervisor_allow_faults(struct supervisor *sup, bool faulty);

/* From any thread but the supervisor's.  Blocks until the fault is made, not until anything comes of it: that is for
 * events and status to tell.  0 and the generation; -EPERM: not allowed; -ENOTSUP: not with these
 * programs; -EINVAL: no such lane or queue, or a fault of rings for a device without; -EBUSY: no
 * generation is active; -ESRCH: it died first. */
int device_fault(struct device *dev, const struct fault_order *order, uint64_t *generation);

/* ---- hand.c: an outside hand, by ptrace, on the calling thread ---- */

/*
 * A box is pid 1 of its namespace and ignores kill(SIGSEGV) from outside, so faults are made inside: the
 * process is stopped wherever it is, its registers are set, and it is let go.  It must be a child of
 * this process.  Each blocks for a second at most.  0; -ESRCH: it was gone; -EPERM: somebody else
 * traces it, as the supervisor does for a fence; -ETIMEDOUT: it cannot be stopped; other -errno of ptrace.
 */
/* Lets it jump to address 0: it dies of SIGSEGV. */
int hand_fault(pid_t pid);
/* Lets it run in a loop of one instruction, wherever it is, for ever. */
int hand_spin(pid_t pid);
/* Lets it make system call `nr`, all arguments 0. */
int hand_call(pid_t pid, long nr);

#endif
