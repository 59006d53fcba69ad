/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  PTRACE_SEIZE and PTRACE_INTERRUPT stop the process without a signal that it
 * could notice.  Found inside a system call, it would have it restarted when let go, with the
 * instruction pointer moved back: orig_rax -1 says that there is none to restart.  The registers
 * are written, and PTRACE_DETACH runs it on.  Its parent is another thread of this process (the
 * supervisor), which may reap it at any moment; so waiting is by looks that reap nothing.
 */
#include "tests/rig/inject.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "core/cc.h"

#define STOP_NS NS_PER_S

/* Waits for the ptrace stop. */
static int wait_stop(pid_t pid)
{
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
	}
	return -ETIMEDOUT;
}

/* Stopped, seized by this thread. */
static int seize(pid_t pid, struct user_regs_struct *regs)
{
	int ret;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0)
		return -errno;
	ret = wait_stop(pid);
	if (ret == 0 && ptrace(PTRACE_GETREGS, pid, NULL, regs) != 0)
		ret = -errno;
	return ret;
}

static int release(pid_t pid, struct user_regs_struct *regs)
{
	regs->orig_rax = ~0ull;
	if (ptrace(PTRACE_SETREGS, pid, NULL, regs) != 0)
		return -errno;
	return ptrace(PTRACE_DETACH, pid, NULL, NULL) != 0 ? -errno : 0;
}

int inject_fault(pid_t pid)
{
	struct user_regs_struct regs;
	const int ret = seize(pid, &regs);

	if (ret != 0)
		return ret;
	regs.rip = 0;
	return release(pid, &regs);
}

int inject_spin(pid_t pid)
{
	struct user_regs_struct regs;
	int ret = seize(pid, &regs);

	if (ret != 0)
		return ret;
	/* Text is read-only and sealed: a tracer's write gets a copy of the page. */
	if (ptrace(PTRACE_POKETEXT, pid, regs.rip, 0xfeebul) != 0) /* jmp to itself */
		return -errno;
	return release(pid, &regs);
}

/* Where the program's text has a syscall instruction; 0: nowhere. */
static uint64_t find_syscall(pid_t pid)
{
	static uint8_t text[1 << 16];
	char path[32], line[512];
	uint64_t start = 0, end = 0;
	char exec = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");

	while (maps != NULL && exec != 'x' && fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " r-%c", &start, &end, &exec) != 3)
			exec = 0;
	}
	if (maps != NULL)
		fclose(maps);
	if (exec != 'x')
		return 0;
	const size_t bytes = end - start < sizeof(text) ? end - start : sizeof(text);
	const struct iovec here = { text, bytes }, there = { (void *)(uintptr_t)start, bytes };
	const ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
	const uint8_t *at = n > 0 ? memmem(text, (size_t)n, "\x0f\x05", 2) : NULL;

	return at != NULL ? start + (uint64_t)(at - text) : 0;
}

int inject_call(pid_t pid, long nr)
{
	struct user_regs_struct regs;
	const uint64_t at = find_syscall(pid);
	int ret;

	if (at == 0)
		return -ENOEXEC;
	ret = seize(pid, &regs);
	if (ret != 0)
		return ret;
	regs.rip = at;
	regs.rax = (uint64_t)nr;
	regs.rdi = regs.rsi = regs.rdx = regs.r10 = regs.r8 = regs.r9 = 0;
	return release(pid, &regs);
}

static int thread_children(const char *tid, pid_t *pids, uint32_t max)
{
	char path[300];
	uint32_t n = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%s/children", tid);
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return -errno;
	while (n < max && fscanf(f, "%d", &pids[n]) == 1)
		n++;
	fclose(f);
	return (int)n;
}

int inject_children(pid_t *pids, uint32_t max)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	uint32_t n = 0;
	int ret = dir == NULL ? -errno : 0;

	while (dir != NULL && ret >= 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		ret = thread_children(entry->d_name, pids + n, max - n);
		if (ret == -ENOENT)
			ret = 0; /* the thread has just ended */
		n += ret > 0 ? (uint32_t)ret : 0;
	}
	if (dir != NULL)
		closedir(dir);
	return ret < 0 ? ret : (int)n;
}
