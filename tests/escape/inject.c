/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Injection.  A call is one single step, so each ending shows as a stop of its own:
 *
 *   it returned         SIGTRAP of the step, and the register holds what it returned
 *   it is held          nothing, until the supervisor has heard of it from the listener; it cannot
 *                       stop what is traced here, so it kills
 *
 * Waiting uses waitid() with WNOWAIT where it could be a death: to reap is the supervisor's part.
 */
#include "tests/escape/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/cc.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

#define PATIENCE_S 10
#define INSN_BYTES 2
#define TEXT_MAX (256u << 10)

static const uint8_t insn_syscall[INSN_BYTES] = { 0x0f, 0x05 };
static const uint8_t insn_int80[INSN_BYTES] = { 0xcd, 0x80 };

const char *inject_abi_name(enum inject_abi abi)
{
	static const char *const names[] = {
#define ABI_NAME(NAME, text) text,
		INJECT_ABIS(ABI_NAME)
#undef ABI_NAME
	};

	return names[abi];
}

const char *inject_outcome_name(enum inject_outcome outcome)
{
	static const char *const names[] = {
#define OUTCOME_NAME(NAME, text) text,
		INJECT_OUTCOMES(OUTCOME_NAME)
#undef OUTCOME_NAME
	};

	return names[outcome];
}

uint64_t inject_number(enum inject_abi abi, uint32_t nr)
{
	return abi == INJECT_X32 ? nr | INJECT_X32_BIT : nr;
}

bool inject_int80_works(void)
{
	const pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		long ret;

		/* cmocka's handler would go on with the tests, here as well. */
		signal(SIGSEGV, SIG_DFL);
		__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20 /* getpid */) : "memory");
		_exit(ret == getpid() ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- waiting ---- */

static void on_alarm(int signal)
{
	(void)signal;
}

/* The next stop or death.  A stop is taken, a death is left for the supervisor.  0; -ESRCH: it was
 * reaped before; -ETIMEDOUT. */
static int inject_wait(const struct inject *in, siginfo_t *info)
{
	const struct sigaction action = { .sa_handler = on_alarm }; /* no SA_RESTART */
	int ret;

	sigaction(SIGALRM, &action, NULL);
	alarm(PATIENCE_S);
	do {
		ret = waitid(P_PID, (id_t)in->pid, info, WSTOPPED | WEXITED | WNOWAIT | __WALL);
		ret = ret == 0 ? 0 : errno == EINTR ? -ETIMEDOUT : -ESRCH;
		/* A stop that is over before it can be taken was ended by a SIGKILL. */
		if (ret == 0 && info->si_code == CLD_TRAPPED &&
		    waitid(P_PID, (id_t)in->pid, info, WSTOPPED | WNOHANG | __WALL) != 0)
			ret = -ESRCH;
	} while (ret == 0 && info->si_pid == 0);
	alarm(0);
	return ret;
}

/* ---- attaching ---- */

/* Finds a syscall instruction in the box's text. 0 or -errno. */
static int inject_find_site(struct inject *in)
{
	static uint8_t text[TEXT_MAX];
	char path[32], line[256];
	uint64_t start, end;
	ssize_t n = -1;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/mem", in->pid);
	cleanup_fd int mem = open(path, O_RDONLY | O_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/%d/maps", in->pid);
	maps = fopen(path, "re");
	if (maps == NULL)
		return -errno;
	while (n < 0 && fgets(line, sizeof(line), maps) != NULL) {
		if (strstr(line, " r-xp ") == NULL || sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		n = pread(mem, text, end - start < TEXT_MAX ? end - start : TEXT_MAX, (off_t)start);
	}
	fclose(maps);
	const uint8_t *at = n < 0 ? NULL : memmem(text, (size_t)n, insn_syscall, INSN_BYTES);

	if (at == NULL)
		return -ENOENT;
	in->site = start + (uint64_t)(at - text);
	errno = 0;
	in->text = (uint64_t)ptrace(PTRACE_PEEKTEXT, in->pid, in->site, 0);
	return -errno;
}

/* Takes the box's control socket and makes it non-blocking, or blocking again. */
static int inject_take_control(struct inject *in)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, in->pid, 0);

	if (pidfd < 0)
		return -errno;
	in->control = (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);
	if (in->control < 0 || fcntl(in->control, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
		return -errno;
	return 0;
}

int inject_attach(struct inject *in, pid_t pid, bool suspend)
{
	const uintptr_t options = suspend ? PTRACE_O_SUSPEND_SECCOMP : 0;
	siginfo_t info = { 0 };
	int ret;

	*in = (struct inject){ .pid = pid, .control = -1 };
	if (ptrace(PTRACE_SEIZE, pid, 0, options) != 0) {
		in->pid = 0;
		return -errno;
	}
	ret = ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0 ? inject_wait(in, &info) : -errno;
	if (ret == 0 && info.si_code != CLD_TRAPPED)
		ret = -ESRCH;
	if (ret == 0 && ptrace(PTRACE_GETREGS, pid, 0, &in->saved) != 0)
		ret = -errno;
	in->sp = in->saved.rsp;
	if (ret == 0)
		ret = inject_find_site(in);
	if (ret == 0)
		ret = inject_take_control(in);
	if (ret != 0)
		inject_detach(in);
	return ret;
}

/* What was written over is put back, in case the box lives on. */
void inject_detach(struct inject *in)
{
	if (in->pid == 0)
		return;
	if (in->control >= 0)
		fcntl(in->control, F_SETFL, O_RDWR);
	cc_close(&in->control);
	if (in->saved.rip != 0)
		ptrace(PTRACE_SETREGS, in->pid, 0, &in->saved);
	ptrace(PTRACE_DETACH, in->pid, 0, 0);
	in->pid = 0;
}

/* Lets go of a box that is the supervisor's now. */
static void inject_abandon(struct inject *in)
{
	cc_close(&in->control);
	ptrace(PTRACE_DETACH, in->pid, 0, 0); /* fails if it was killed meanwhile */
	in->pid = 0;
}

/* ---- calling ---- */

static void set_arguments(struct user_regs_struct *r, enum inject_abi abi, const uint64_t a[6])
{
	if (abi == INJECT_INT80) {
		r->rbx = a[0], r->rcx = a[1], r->rdx = a[2];
		r->rsi = a[3], r->rdi = a[4], r->rbp = a[5];
	} else {
		r->rdi = a[0], r->rsi = a[1], r->rdx = a[2];
		r->r10 = a[3], r->r8 = a[4], r->r9 = a[5];
	}
}

/* The word at the site with the wanted instruction in its first bytes.  Text is mapped read-only
 * and sealed; a tracer's write gets a copy of the page. */
static bool set_instruction(const struct inject *in, enum inject_abi abi)
{
	uint64_t word = in->text;

	if (abi == INJECT_INT80)
		memcpy(&word, insn_int80, INSN_BYTES);
	return ptrace(PTRACE_POKETEXT, in->pid, in->site, word) == 0;
}

/* The stop after a call, before user mode: by the step, or by a signal that the call raised. */
static enum inject_outcome outcome_of_stop(struct inject *in, int signal, long *ret)
{
	struct user_regs_struct r;

	if (ptrace(PTRACE_GETREGS, in->pid, 0, &r) != 0) {
		*ret = SIGKILL; /* between the stop and this */
		inject_abandon(in);
		return INJECT_KILLED;
	}
	*ret = (long)r.rax;
	if (signal == SIGTRAP)
		return INJECT_EXECUTED;
	*ret = signal; /* not delivered: a traced pid 1 would ignore it and go on */
	return INJECT_FAULTED;
}

/* A signal that was left over from the call before (a fault, or one that the box ignores but a tracer
 * sees): nothing has run since, and it is not delivered. */
static bool is_stale(const struct inject *in, const siginfo_t *info)
{
	struct user_regs_struct r;

	return info->si_code == CLD_TRAPPED && ptrace(PTRACE_GETREGS, in->pid, 0, &r) == 0 &&
	       r.rip == in->site;
}

static enum inject_outcome inject_outcome(struct inject *in, long *ret)
{
	siginfo_t info = { 0 };
	int err = inject_wait(in, &info);

	while (err == 0 && is_stale(in, &info)) {
		ptrace(PTRACE_SINGLESTEP, in->pid, 0, 0);
		err = inject_wait(in, &info);
	}
	if (err == 0 && info.si_code == CLD_TRAPPED)
		return outcome_of_stop(in, info.si_status, ret);
	inject_abandon(in);
	*ret = err == 0 ? info.si_status : SIGKILL;
	if (err == -ETIMEDOUT)
		return INJECT_SILENT;
	return err == 0 && info.si_code == CLD_EXITED ? INJECT_EXITED : INJECT_KILLED;
}

enum inject_outcome inject_call(struct inject *in, enum inject_abi abi, uint64_t nr,
				const uint64_t args[6], long *ret)
{
	struct user_regs_struct r = in->saved;
	bool ok = true;

	r.rip = in->site;
	r.rax = nr;
	r.orig_rax = ~0ull; /* not in a system call: nothing to restart */
	set_arguments(&r, abi, args);
	if (abi == INJECT_INT80)
		ok = set_instruction(in, abi);
	ok = ok && ptrace(PTRACE_SETREGS, in->pid, 0, &r) == 0 &&
	     ptrace(PTRACE_SINGLESTEP, in->pid, 0, 0) == 0;
	if (!ok) {
		*ret = errno;
		return INJECT_FAILED;
	}
	const enum inject_outcome outcome = inject_outcome(in, ret);

	if (abi == INJECT_INT80 && outcome == INJECT_EXECUTED && in->pid != 0)
		set_instruction(in, INJECT_SYSCALL);
	return outcome;
}
