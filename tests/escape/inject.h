/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that a taken-over box would make: by ptrace, the registers of the box are set and a
 * `syscall` instruction of its own text is stepped over.  The box knows nothing of it; where the call
 * returns, the next may follow, and inject_detach() lets the box go on with what it was doing.
 *
 * One thread, the one that attached.
 */
#ifndef MAYFLY_ESCAPE_INJECT_H
#define MAYFLY_ESCAPE_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* NAME, text. */
#define INJECT_ABIS(X)                                                                             \
	X(SYSCALL, "syscall")                                                                      \
	X(X32, "syscall, x32")                                                                     \
	X(INT80, "int $0x80")

enum inject_abi {
#define INJECT_ABI_ENUM(NAME, text) INJECT_##NAME,
	INJECT_ABIS(INJECT_ABI_ENUM)
#undef INJECT_ABI_ENUM
		INJECT_ABI_COUNT
};

#define INJECT_X32_BIT 0x40000000u

/* NAME, meaning. */
#define INJECT_OUTCOMES(X)                                                                         \
	X(EXECUTED, "executed") /* it returned; *ret is what */                                    \
	X(EXITED, "exited")     /* the process ended by its own hand; *ret is the status */        \
	X(KILLED, "killed")     /* it was killed and never seen to return; *ret is the signal */   \
	X(FAULTED, "faulted")   /* it raised a signal, of which a box dies; *ret is which */       \
	X(SILENT, "silent")     /* nothing happened for a long time */                             \
	X(FAILED, "failed")     /* ptrace itself failed; *ret is errno */

enum inject_outcome {
#define INJECT_OUTCOME_ENUM(NAME, text) INJECT_##NAME,
	INJECT_OUTCOMES(INJECT_OUTCOME_ENUM)
#undef INJECT_OUTCOME_ENUM
		INJECT_OUTCOME_COUNT
};

const char *inject_abi_name(enum inject_abi abi);
const char *inject_outcome_name(enum inject_outcome outcome);
/* The number as the register must hold it. */
uint64_t inject_number(enum inject_abi abi, uint32_t nr);

struct inject {
	pid_t pid;     /* 0: not attached */
	uint64_t site; /* of a syscall instruction */
	uint64_t sp;   /* the box's stack pointer */
	uint64_t text; /* the 8 bytes at the site */
	int control;   /* the box's end of the control socket, made non-blocking meanwhile */
	struct user_regs_struct saved;
};

/* Whether this machine has int $0x80 at all. */
bool inject_int80_works(void);

/* Stops the box.  suspend: without its seccomp filter, from here to the detaching (root only).
 * While attached its control socket does not block, or a read of it would never return.
 * 0 or -errno (-EPERM: may not suspend; -ESRCH: it is gone). */
int inject_attach(struct inject *in, pid_t pid, bool suspend);

/* One call.  After anything but EXECUTED and FAULTED the box is detached, and its end is the
 * supervisor's part. */
enum inject_outcome inject_call(struct inject *in, enum inject_abi abi, uint64_t nr,
				const uint64_t args[6], long *ret);

/* The box goes on where it was. */
void inject_detach(struct inject *in);

#endif
