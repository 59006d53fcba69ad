/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy of a device kind: what system calls it may make, as a const table beside the device
 * (devmodel/KIND/policy.c), linked into the VMM only.  One rule a line, with the reason.  The VMM
 * resolves the operands against the real launch record and compiles the table to BPF; whatever no
 * rule allows is held by the listener for ever.
 *
 * A rule applies to all its argument tests at once.  A FD_* operand stands for each descriptor of
 * its group: the rule is repeated for each.  Arguments that no test names are unconstrained, so a
 * rule tests every argument through which the kernel could be made to do something else.  No rule
 * tests an argument twice (libseccomp refuses that).  Comparisons are of all 64 bits, unsigned.
 */
#ifndef MAYFLY_ABI_POLICY_H
#define MAYFLY_ABI_POLICY_H

#include <stdint.h>

#define POLICY_ARGS_MAX 5

enum policy_op { POLICY_NONE, POLICY_EQ, POLICY_LE, POLICY_GE };

enum policy_operand {
	POLICY_VALUE,        /* the value in the rule */
	POLICY_FD_CONTROL,   /* descriptors, see launch.h; only with POLICY_EQ */
	POLICY_FD_KICK,      /* each */
	POLICY_FD_CALL,      /* each */
	POLICY_FD_TIMER,     /* the rule is left out where the box has no timer */
	POLICY_FD_BACKEND,   /* backend number `value` */
	POLICY_FD_LISTENER,  /* the number that the listener has between HALF and SEALED */
	POLICY_POLL_COUNT,   /* control + kicks + timer: what the main loop waits for */
	POLICY_POLL_STREAMS, /* the same and the first `value` backends */
	POLICY_IMAGE_LAST,   /* offset of the image's last sector */
	POLICY_IMAGE_BYTES,  /* its length */
};

/* When a rule holds; 0: always. */
#define POLICY_IF_WRITABLE 1u /* blk: not read-only */
#define POLICY_IF_FLUSH 2u    /* blk: the flush feature is offered */
#define POLICY_IF_TIMER 4u    /* the box has a timer */

struct policy_test {
	uint8_t arg; /* 0 to 5 */
	uint8_t op;
	uint16_t operand;
	uint64_t value;
};

struct policy_rule {
	const char *name; /* of the system call */
	const char *reason;
	uint32_t when;
	uint16_t nr; /* x86-64 number */
	struct policy_test tests[POLICY_ARGS_MAX];
};

struct policy {
	const struct policy_rule *rules;
	uint32_t count;
};

/* The rules every kind has: control socket, queue eventfds, poll, the listener's close, exit. */
extern const struct policy policy_common;

#endif
