/* SPDX-License-Identifier: Apache-2.0 */
/* Faults from outside, into a sealed process of this user's; those by ptrace are in core/box/fault.h. */
#ifndef MAYFLY_RIG_INJECT_H
#define MAYFLY_RIG_INJECT_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Faults that fire when the program next makes a certain system call, and until then leave it alone:
 * it is not stopped, and a pause that is measured has nothing in it but what the fault brings about.
 */
struct inject_trap {
	uint64_t number;  /* where its code has the lowest byte of that call's number */
	uint64_t syscall; /* where the instruction is */
	int mem;
};

/* Finds a place where the program makes call `nr`; inject_trap_free() in any case.  0; -ENOEXEC: no
 * such place; -errno of opening /proc/PID/mem. */
int inject_trap(struct inject_trap *trap, pid_t pid, long nr);
/* There it dies of SIGSEGV.  0, -errno: EIO where the kernel lets nobody write to read-only memory
 * (proc_mem.force_override=never), or it was gone. */
int inject_trap_fault(const struct inject_trap *trap);
/* There it makes call `nr` instead, with the same arguments. The same. */
int inject_trap_call(const struct inject_trap *trap, uint8_t nr);
void inject_trap_free(struct inject_trap *trap);

/* The children of this process, whichever thread made them; their number, at most max. -errno:
 * /proc/PID/task/TID/children cannot be read. */
int inject_children(pid_t *pids, uint32_t max);

#endif
