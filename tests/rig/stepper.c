/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  As in inject.c, waiting reaps nothing: the supervisor, another thread of this
 * process, does.  A stop that was looked at without being taken is not seen again after the process
 * was let go on.
 *
 * Stopped within a call that was to wait, a process has an error code that only the kernel sees in its
 * registers, and would be sent back to the call's instruction when it goes on.  Doing that here instead
 * leaves it where a step makes the whole call.
 */
#include "tests/rig/stepper.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define SYSCALL_BYTES 2
#define DEBUG_CONTROL 7   /* of the debug registers */
#define DEBUG_EXECUTE_0 1 /* stop before the instruction at the address in register 0 */
#define ERESTARTSYS 512
#define ERESTARTNOHAND 514

static int wait_stop(pid_t pid)
{
	siginfo_t info = { 0 };

	while (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT | __WALL) != 0) {
		if (errno != EINTR)
			return -ESRCH; /* dead and reaped */
	}
	return info.si_code == CLD_TRAPPED ? 0 : -ESRCH;
}

static int look(struct stepper *s)
{
	errno = 0;
	const long rip = ptrace(PTRACE_PEEKUSER, s->pid, offsetof(struct user_regs_struct, rip), 0);

	s->at = (uint64_t)rip - s->text.start;
	return errno != 0 ? -errno : 0;
}

static int rewind_call(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
		return -errno;
	if ((long)regs.orig_rax < 0 ||
	    ((long)regs.rax != -ERESTARTSYS && (long)regs.rax != -ERESTARTNOHAND))
		return 0;
	regs.rax = regs.orig_rax;
	regs.orig_rax = ~0ull; /* none to restart */
	regs.rip -= SYSCALL_BYTES;
	return ptrace(PTRACE_SETREGS, pid, NULL, &regs) != 0 ? -errno : 0;
}

int stepper_attach(struct stepper *s, pid_t pid)
{
	int ret;

	s->pid = 0;
	boxtext_read(pid, &s->text);
	if (s->text.bytes == 0)
		return -ENOEXEC;
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0)
		return -errno;
	s->pid = pid;
	ret = wait_stop(pid);
	if (ret == 0)
		ret = rewind_call(pid);
	return ret != 0 ? ret : look(s);
}

int stepper_step(struct stepper *s)
{
	int ret;

	if (ptrace(PTRACE_SINGLESTEP, s->pid, NULL, NULL) != 0)
		return -errno;
	ret = wait_stop(s->pid);
	return ret != 0 ? ret : look(s);
}

static int set_debug(const struct stepper *s, int number, uint64_t value)
{
	const size_t at = offsetof(struct user, u_debugreg) + (size_t)number * sizeof(long);

	return ptrace(PTRACE_POKEUSER, s->pid, at, value) != 0 ? -errno : 0;
}

int stepper_run(struct stepper *s, uint64_t at, uint64_t times)
{
	int ret = set_debug(s, 0, s->text.start + at);

	if (ret == 0)
		ret = set_debug(s, DEBUG_CONTROL, DEBUG_EXECUTE_0);
	for (; times > 0 && ret == 0; times--) {
		if (ptrace(PTRACE_CONT, s->pid, NULL, NULL) != 0)
			return -errno;
		ret = wait_stop(s->pid);
	}
	if (ret == 0)
		ret = set_debug(s, DEBUG_CONTROL, 0);
	return ret != 0 ? ret : look(s);
}

bool stepper_at_call(const struct stepper *s, struct stepper_call *call)
{
	const uint8_t *code = s->text.code + s->at;
	struct user_regs_struct regs;

	if (s->at >= s->text.bytes - 1 || code[0] != 0x0f || code[1] != 0x05 ||
	    ptrace(PTRACE_GETREGS, s->pid, NULL, &regs) != 0)
		return false;
	call->nr = (long)regs.rax;
	call->fd = regs.rdi;
	call->first = regs.rax == SYS_write
			      ? (uint32_t)ptrace(PTRACE_PEEKDATA, s->pid, regs.rsi, NULL)
			      : 0;
	return true;
}

void stepper_kill(struct stepper *s)
{
	if (s->pid != 0)
		kill(s->pid, SIGKILL);
	s->pid = 0;
}

void stepper_release(struct stepper *s)
{
	if (s->pid != 0)
		ptrace(PTRACE_DETACH, s->pid, NULL, NULL);
	s->pid = 0;
}
