/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sealed process of this user's, run one instruction at a time.  All calls on one stepper are from
 * the thread that attached.  The process stays the supervisor's to kill and to reap: whoever steps
 * finds out by -ESRCH.
 */
#ifndef MAYFLY_RIG_STEPPER_H
#define MAYFLY_RIG_STEPPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/rig/boxtext.h"

struct stepper {
	pid_t pid;   /* 0: none is held */
	uint64_t at; /* the next instruction, from the beginning of the text */
	struct boxtext text;
};

/* A system call that the next instruction makes. */
struct stepper_call {
	long nr;
	uint64_t fd;    /* the first argument */
	uint32_t first; /* of a write: the first four bytes of what it writes */
};

/* Stops the process.  One that is found in a system call that nothing has ended yet is stopped before
 * that call's instruction.  0; -ESRCH: it is gone; -ENOEXEC: its code cannot be read; other -errno of
 * ptrace. */
int stepper_attach(struct stepper *s, pid_t pid);
/* One instruction; a system call is one, and may block.  0; -ESRCH: it died. */
int stepper_step(struct stepper *s);
/* Runs until it is before the instruction at `at`, of which it is not before now, for the `times`-th
 * time.  What costs a few steps each time, or, on a machine whose debug registers do nothing, all steps that
 * there are.  0; -ESRCH: it died; -EBUSY, -ENOSPC: there is no breakpoint to be had. */
int stepper_run(struct stepper *s, uint64_t at, uint64_t times);
/* Whether the next instruction is a system call, and which. */
bool stepper_at_call(const struct stepper *s, struct stepper_call *call);
/* It dies where it is: the next instruction is never begun. */
void stepper_kill(struct stepper *s);
/* Lets it run. */
void stepper_release(struct stepper *s);

#endif
