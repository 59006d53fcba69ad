/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  As in inject.c, waiting reaps nothing: the supervisor, another thread of this
 * process, does.  A stop that was looked at without being taken is not seen again after the process
 * was let go on.
 *
 * Stopped within a call that was to wait, a process has an error code that only the kernel sees in its
 * registers, and would be sent back to the call's instruction when it goes on.  Doing that here instead
 * leaves it where a step makes the whole call.
 *
 * Not every hypervisor gives a guest its debug registers: some let it write them, and nothing ever stops there.
 * Whether this one does is tried on a child of our own that ends either way, so that no time decides.
 */
#include "tests/rig/stepper.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

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

static int set_debug(pid_t pid, int number, uint64_t value)
{
	const size_t at = offsetof(struct user, u_debugreg) + (size_t)number * sizeof(long);

	return ptrace(PTRACE_POKEUSER, pid, at, value) != 0 ? -errno : 0;
}

static int set_breakpoint(pid_t pid, uint64_t address)
{
	const int ret = set_debug(pid, 0, address);

	return ret != 0 ? ret : set_debug(pid, DEBUG_CONTROL, DEBUG_EXECUTE_0);
}

/* ---- whether breakpoints stop anybody on this machine ---- */

static __attribute__((noinline)) void passed_by(void)
{
	__asm__ volatile("nop" ::: "memory");
}

static _Noreturn void child_passes(void)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
		raise(SIGSTOP);
	passed_by();
	_exit(0);
}

static bool try_breakpoint(void)
{
	const pid_t pid = fork();
	bool stopped;

	if (pid == 0)
		child_passes();
	if (pid < 0)
		return false;
	stopped = wait_stop(pid) == 0 && set_breakpoint(pid, (uint64_t)(uintptr_t)passed_by) == 0 &&
		  ptrace(PTRACE_CONT, pid, NULL, NULL) == 0 && wait_stop(pid) == 0;
	kill(pid, SIGKILL); /* nobody has reaped it */
	waitpid(pid, NULL, 0);
	return stopped;
}

static bool has_breakpoints(void)
{
	static enum { UNTRIED, ABSENT, PRESENT } found;

	if (found == UNTRIED)
		found = try_breakpoint() ? PRESENT : ABSENT;
	return found == PRESENT;
}

/* ---- to an instruction ---- */

static int run_to_breakpoint(struct stepper *s, uint64_t at, uint64_t times)
{
	int ret = set_breakpoint(s->pid, s->text.start + at);

	for (; times > 0 && ret == 0; times--) {
		if (ptrace(PTRACE_CONT, s->pid, NULL, NULL) != 0)
			return -errno;
		ret = wait_stop(s->pid);
	}
	if (ret == 0)
		ret = set_debug(s->pid, DEBUG_CONTROL, 0);
	return ret != 0 ? ret : look(s);
}

static int run_by_steps(struct stepper *s, uint64_t at, uint64_t times)
{
	int ret = 0;

	while (times > 0 && ret == 0) {
		ret = stepper_step(s);
		if (ret == 0 && s->at == at)
			times--;
	}
	return ret;
}

int stepper_run(struct stepper *s, uint64_t at, uint64_t times)
{
	return has_breakpoints() ? run_to_breakpoint(s, at, times) : run_by_steps(s, at, times);
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
