/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at what the kernel says of a process.  Each look is a proof or nothing; what each proves is
 * in docs/generations.md.  None of them asks the process.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define PF_EXITING 0x4u

/*
 * Blocked in read(control): the kernel prints number and arguments only of a task that is off the
 * CPU, else "running".  Only a message of ours wakes it, and none is on its way: the socket holds
 * nothing of ours.  That has to be looked at, and first: a box that left QUIESCE unread can sleep in
 * the same read() while the message is copied to a page that is slow to come, and then go on.  (What
 * was sent counts until the reader has copied it.)
 */
bool fence_parked(const struct box *box)
{
	static const char want[] = "0 0x0 "; /* __NR_read, BOX_FD_CONTROL */
	char line[64];
	int unread;

	if (ioctl(box->control, SIOCOUTQ, &unread) != 0 || unread != 0)
		return false;
	const ssize_t n = pread(box->proc_syscall, line, sizeof(line), 0);

	return n >= (ssize_t)sizeof(want) - 1 && memcmp(line, want, sizeof(want) - 1) == 0;
}

/* A forbidden call that the listener has received and nobody answers. */
bool fence_held(const struct box *box, uint64_t id)
{
	return box->listener >= 0 && ioctl(box->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

static bool is_stopped(const struct box *box)
{
	siginfo_t info = { 0 };

	return waitid(P_PIDFD, (id_t)box->pidfd, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == box->pid && info.si_code == CLD_STOPPED;
}

/* Field 9 of stat, the task's flags; 0 when it cannot be read.  The name (field 2) is in brackets
 * and may contain anything, so the fields are counted from the last bracket. */
static uint32_t task_flags(int task_dir, const char *tid)
{
	char path[32], text[512];
	uint32_t flags = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "%.16s/stat", tid);
	cleanup_fd int fd = openat(task_dir, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *p = strrchr(text, ')');

	if (p == NULL || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
		return 0;
	return flags;
}

/* Past its last system call: every task of the process has begun to exit. */
static bool is_exiting(const struct box *box)
{
	const int fd = openat(box->proc_dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool exiting = true;
	uint32_t tasks = 0;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (exiting && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		tasks++;
		exiting = (task_flags(dirfd(dir), entry->d_name) & PF_EXITING) != 0;
	}
	closedir(dir);
	return exiting && tasks > 0;
}

enum fence fence_stopped(const struct box *box)
{
	if (is_stopped(box))
		return FENCE_STOPPED;
	return is_exiting(box) ? FENCE_EXITING : FENCE_NONE;
}
