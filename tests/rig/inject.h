/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults from outside, into a sealed process of this user's.  A box is pid 1 of its namespace and
 * ignores kill(SIGSEGV) from outside, so faults are made inside: the process is stopped by ptrace
 * wherever it is, its registers are set, and it is let go.
 */
#ifndef MAYFLY_RIG_INJECT_H
#define MAYFLY_RIG_INJECT_H

#include <stdint.h>
#include <sys/types.h>

/* Lets it jump to address 0: it dies of SIGSEGV.  0; -ESRCH: it was gone; other -errno of ptrace.
 * */
int inject_fault(pid_t pid);
/* Lets it run in a loop of one instruction, wherever it is, for ever. The same. */
int inject_spin(pid_t pid);
/* Lets it make system call `nr`, all arguments 0. The same; -ENOEXEC: no syscall instruction. */
int inject_call(pid_t pid, long nr);

/* The children of this process, whichever thread made them; their number, at most max. -errno:
 * /proc/PID/task/TID/children cannot be read. */
int inject_children(pid_t *pids, uint32_t max);

#endif
