/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at what the kernel says of a process.  Each look is a proof or nothing; what each proves is
 * in docs/generations.md.  None of them asks the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define PF_EXITING 0x4u
#define USER_END (1ull << 47) /* of what a process gets without asking for more */

/* A read that can only end with a message: one of no bytes, or to where no program has memory,
 * returns at once, and a task that was stopped on its way out of it would look the same. */
static bool is_waiting_read(const char *syscall_line)
{
	unsigned long long buffer, bytes;

	return sscanf(syscall_line, "0 0x0 0x%llx 0x%llx ", &buffer, &bytes) == 2 && bytes > 0 &&
	       bytes <= CTL_BYTES_MAX && buffer < USER_END - CTL_BYTES_MAX;
}

/*
 * Blocked in read(control) with nothing to read: the kernel prints number and arguments only of a
 * task that is off the CPU, else "running".  A message of ours is what ends that read.  A signal
 * that stops and continues the task restarts it, at the same instruction.
 *
 * None of our messages may be on its way.  One that is not read, or not yet copied, the socket still
 * counts; that is looked at first.  One that was copied and has not brought the reader back to user
 * mode is counted nowhere, and a signal can hold the reader just there: that there is none is what
 * the nonce in PARKED says, which only a reader of our last message knows.
 */
bool fence_parked(const struct box *box)
{
	char line[128];
	int unread;

	if (ioctl(box->control, SIOCOUTQ, &unread) != 0 || unread != 0)
		return false;
	const ssize_t n = pread(box->proc_syscall, line, sizeof(line) - 1, 0);

	if (n <= 0)
		return false;
	line[n] = '\0';
	return is_waiting_read(line);
}

/* A forbidden call that the listener has received and nobody answers. */
bool fence_held(const struct box *box, uint64_t id)
{
	return box->listener >= 0 && ioctl(box->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/*
 * Not SIGSTOP, which a SIGCONT from outside undoes, if only between the look and what is done next.
 * A ptrace-stop ends by its tracer, which never ends it, or by SIGKILL; and the tracer's own death is
 * a SIGKILL (EXITKILL), before anything that the tracer held open could let the task go on.
 */
void fence_stop(struct box *box)
{
	box->seized = ptrace(PTRACE_SEIZE, box->pid, NULL, PTRACE_O_EXITKILL) == 0 &&
		      ptrace(PTRACE_INTERRUPT, box->pid, NULL, NULL) == 0;
	if (!box->seized)
		syscall(SYS_pidfd_send_signal, box->pidfd, SIGKILL, NULL, 0);
}

/* In a stop of ours: another tracer could let it go on. */
static bool is_stopped(const struct box *box)
{
	siginfo_t info = { 0 };

	return box->seized &&
	       waitid(P_PIDFD, (id_t)box->pidfd, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == box->pid && info.si_code == CLD_TRAPPED;
}

/* Of /proc/PID/stat. */
struct task_stat {
	uint32_t flags; /* of the first task */
	uint32_t tasks; /* the process has so many; 0: not even that one any more */
	int status;     /* how it ends, as wait() has it, where that is shown */
};

/* The name (field 2) is in brackets and may contain anything, so the fields are counted from the last
 * bracket. */
static bool read_stat(int fd, struct task_stat *stat)
{
	char text[1024];
	const ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	const char *p;

	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strrchr(text, ')');
	if (p == NULL || sscanf(p + 1,
				" %*c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
				"%*d %u",
				&stat->flags, &stat->tasks) != 2)
		return false;
	stat->status = atoi(strrchr(p, ' ') + 1);
	return true;
}

/* From the end of its memory to its own a task's status is not shown to everybody: then this knows
 * only when it has ended. */
void fence_cause(struct box *box)
{
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)box->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
	    info.si_pid == 0)
		return;
	box->cause_known = true;
	box->killed_by = info.si_code == CLD_EXITED ? 0 : info.si_status;
	box->exit_code = info.si_code == CLD_EXITED ? info.si_status : 0;
}

/*
 * Past its last system call: the only task of the process has begun to exit.  Of a process that has
 * more, nothing is said: a box has one and can make no other.  The second reading is of the number: a
 * task that exits makes no more of them, but before the first it might have made one.
 */
static bool is_exiting(struct box *box)
{
	cleanup_fd int fd = openat(box->proc_dir, "stat", O_RDONLY | O_CLOEXEC);
	struct task_stat stat;

	if (fd < 0 || !read_stat(fd, &stat) || !(stat.flags & PF_EXITING) ||
	    !read_stat(fd, &stat) || stat.tasks > 1)
		return false;
	if (stat.status != 0) {
		box->cause_known = true;
		box->killed_by = WTERMSIG(stat.status);
		box->exit_code = WEXITSTATUS(stat.status);
	} else {
		fence_cause(box);
	}
	return true;
}

void fence_dead(struct box *box)
{
	box->fence = FENCE_DEAD;
	fence_cause(box);
}

enum fence fence_stopped(struct box *box)
{
	if (is_stopped(box))
		return FENCE_STOPPED;
	return is_exiting(box) ? FENCE_EXITING : FENCE_NONE;
}
