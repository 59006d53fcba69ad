/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that are made on order (`mayfly run --allow-faults`).  Some any program can be made to have by
 * an outside hand.  Others are carried out by the program itself, when CTL_FAULT says so: only those of
 * the faulty set (devmodel/common/faulty.c) do, to all others the message is a breach of protocol.
 */
#ifndef MAYFLY_ABI_FAULT_H
#define MAYFLY_ABI_FAULT_H

#include <stdint.h>

#include "devmodel/abi/message.h"

/* NAME, number, name as the API shows it, whether the program does it, what happens. */
#define FAULTS(X)                                                                                  \
	X(KILL, 0, "kill", 0, "SIGKILL")                                                           \
	X(STOP, 1, "stop", 0, "SIGSTOP")                                                           \
	X(SEGV, 2, "segv", 0, "it jumps to where nothing is")                                      \
	X(HANG, 3, "hang", 0, "it runs in a loop of one instruction")                              \
	X(FORBIDDEN_CALL, 4, "forbidden-call", 0, "it asks for memory with mmap")                  \
	X(CORRUPT_STATE, 5, "corrupt-state", 1, "the state record of its next handoff is garbage") \
	X(BAD_USED_INDEX, 6, "bad-used-index", 1,                                                  \
	  "it says of the queue that more was done than was asked for")                            \
	X(INTERRUPT_STORM, 7, "interrupt-storm", 1, "it signals the queue without end")            \
	X(LIE_ON_QUIESCE, 8, "lie-on-quiesce", 1,                                                  \
	  "the next time that it is told to park it says so, and serves on")                       \
	X(DIE_ON_REQUEST, 9, "die-on-request", 1,                                                  \
	  "it dies of a request of the queue, after so many others; its successors do, too")

enum fault {
#define FAULT_ENUM(NAME, number, name, inside, text) FAULT_##NAME = (number),
	FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
		FAULT_COUNT
};

struct ctl_fault {
	struct ctl_header header; /* CTL_FAULT, enum fault */
	uint32_t queue;           /* in the order of queue_index */
	uint32_t after;           /* requests to serve before; DIE_ON_REQUEST */
};

_Static_assert(sizeof(struct ctl_fault) == 16, "wire format");

#endif
