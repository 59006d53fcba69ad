/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  PTRACE_SEIZE and PTRACE_INTERRUPT stop the process without a signal that it
 * could notice.  Found inside a system call, it would have it restarted when let go, with the
 * instruction pointer moved back: orig_rax -1 says that there is none to restart.  The registers
 * are written, and PTRACE_DETACH runs it on.  Another thread of this process (the supervisor) may
 * reap it at any moment; so waiting is by looks that reap nothing.
 *
 * Text is read-only and sealed: a tracer's write gets a copy of the page.
 */
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "core/box/fault.h"
#include "core/cc.h"

#define STOP_NS NS_PER_S /* then it is in the kernel, and not to be stopped */
#define LOOK_NS (50 * NS_PER_US)

#define JMP_ITSELF 0xfeebul /* little-endian: the first byte comes first */
#define SYSCALL 0x050ful
#define SYSCALL_BYTES 2

static int wait_stop(pid_t pid)
{
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	const uint64_t end = now_ns() + STOP_NS;

	while (now_ns() < end) {
		siginfo_t info = { 0 };

		if (waitid(P_PID, (id_t)pid, &info,
			   WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL) != 0)
			return errno == ECHILD ? -ESRCH : -errno;
		if (info.si_pid == pid && info.si_code == CLD_TRAPPED)
			return 0;
		if (info.si_pid == pid && info.si_code != CLD_STOPPED)
			return -ESRCH; /* it died first */
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

/* Puts code (0: none) where it is, or makes it go on where nothing is (lost), in no system call. */
static int change(pid_t pid, unsigned long code, bool lost, unsigned long rax)
{
	struct user_regs_struct regs = { 0 };

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
		return -errno;
	/* Within a system call, the instruction that made it is there already. */
	if (code == SYSCALL && (long)regs.orig_rax >= 0)
		regs.rip -= SYSCALL_BYTES;
	else if (code != 0 && ptrace(PTRACE_POKETEXT, pid, regs.rip, code) != 0)
		return -errno;
	if (lost)
		regs.rip = 0;
	regs.rax = rax;
	regs.orig_rax = ~0ull;
	regs.rdi = regs.rsi = regs.rdx = regs.r10 = regs.r8 = regs.r9 = 0;
	return ptrace(PTRACE_SETREGS, pid, NULL, &regs) != 0 ? -errno : 0;
}

static int lay_hand_on(pid_t pid, unsigned long code, bool lost, unsigned long rax)
{
	int ret;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
		return -errno;
	ret = ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0 ? -errno : wait_stop(pid);
	if (ret == 0)
		ret = change(pid, code, lost, rax);
	/* Where it is not stopped this fails, and this thread's end lets it go. */
	if (ptrace(PTRACE_DETACH, pid, NULL, NULL) != 0 && ret == 0)
		ret = -errno;
	return ret;
}

int hand_fault(pid_t pid)
{
	return lay_hand_on(pid, 0, true, 0);
}

int hand_spin(pid_t pid)
{
	return lay_hand_on(pid, JMP_ITSELF, false, 0);
}

int hand_call(pid_t pid, long nr)
{
	return lay_hand_on(pid, SYSCALL, false, (unsigned long)nr);
}
