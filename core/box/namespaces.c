/* SPDX-License-Identifier: Apache-2.0 */
#include "core/box/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/cc.h"

/* The build that leaves them out exists so that the escape check can show that it would notice; a user
 * namespace it keeps, since without one an ordinary user could not put on the other layers. */
#ifndef SPAWN_OMIT_namespaces
#define NAMESPACES (CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#else
#define NAMESPACES 0
#endif

/* As /proc/PID/ns has them.  The user namespace first: it gives the right to enter the others. */
static const struct {
	const char *name;
	int flag;
} kinds[NAMESPACES_MAX] = {
	{ "user", CLONE_NEWUSER }, { "net", CLONE_NEWNET }, { "mnt", CLONE_NEWNS },
	{ "ipc", CLONE_NEWIPC },   { "uts", CLONE_NEWUTS }, { "cgroup", CLONE_NEWCGROUP },
};

/* ---- the process that makes them ---- */

static int write_file(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

/* 0 -> uid: with uid -> uid every capability is lost at exec, and the bounding set with it. */
static int make_user(uid_t uid, gid_t gid)
{
	char map[64];
	int ret;

	if (unshare(CLONE_NEWUSER) != 0)
		return -errno;
	ret = write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (ret == 0)
		ret = write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "0 %u 1", gid);
	if (ret == 0)
		ret = write_file("/proc/self/gid_map", map);
	return ret;
}

/* An empty read-only tmpfs for a root; the old one is detached.  The programs stay reachable by the
 * descriptors that were opened before. */
static int make_empty_root(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("mayfly", "/tmp", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") != 0 ||
	    chdir("/tmp") != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
	    umount2(".", MNT_DETACH) != 0 || chdir("/") != 0 ||
	    mount("none", "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) != 0)
		return -errno;
	return 0;
}

/* What became of it, as a message: errno of the step, 0 for none. */
struct made {
	int error;
	uint32_t step;
};

static const char *const steps[] = { "make a user namespace", "make namespaces",
				     "make an empty root" };

static int make_all(bool user, struct made *made)
{
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	int ret = 0;

	made->step = 0;
	if (user)
		ret = make_user(uid, gid);
	if (ret != 0)
		return ret;
	made->step = 1;
	if (unshare(NAMESPACES) != 0)
		return -errno;
	made->step = 2;
	return NAMESPACES != 0 ? make_empty_root() : 0; /* else it would be the host's */
}

/* Until the other end is closed. */
_Noreturn static void maker_main(int socket, bool user)
{
	struct made made = { 0 };
	char end;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	made.error = -make_all(user, &made);
	if (send(socket, &made, sizeof(made), MSG_NOSIGNAL) != sizeof(made))
		_exit(1);
	while (read(socket, &end, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* ---- the caller's side ---- */

static int await_made(int socket, const char **what)
{
	struct made made;

	if (recv(socket, &made, sizeof(made), 0) != sizeof(made) || made.step >= ARRAY_SIZE(steps))
		return -EPIPE;
	*what = steps[made.step];
	return -made.error;
}

static int open_all(struct namespaces *ns, pid_t maker, bool user)
{
	char path[48];

	for (int i = 0; i < NAMESPACES_MAX; i++) {
		if (!((NAMESPACES | (user ? CLONE_NEWUSER : 0)) & kinds[i].flag))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", maker, kinds[i].name);
		ns->fds[ns->count] = open(path, O_RDONLY | O_CLOEXEC);
		if (ns->fds[ns->count] < 0)
			return -errno;
		ns->count++;
	}
	return 0;
}

int namespaces_make(struct namespaces *ns, bool user, const char **what)
{
	int pair[2];
	int ret;

	*ns = (struct namespaces){ 0 };
	*what = "make namespaces";
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	const pid_t maker = fork();

	if (maker == 0) {
		close(pair[0]);
		maker_main(pair[1], user);
	}
	ret = maker < 0 ? -errno : 0;
	close(pair[1]);
	if (ret == 0)
		ret = await_made(pair[0], what);
	if (ret == 0)
		ret = open_all(ns, maker, user);
	close(pair[0]);
	if (maker > 0)
		waitpid(maker, NULL, 0);
	if (ret != 0)
		namespaces_free(ns);
	return ret;
}

void namespaces_free(struct namespaces *ns)
{
	while (ns->count > 0)
		close(ns->fds[--ns->count]);
}

int namespaces_join(const struct namespaces *ns)
{
	for (int i = 0; i < ns->count; i++) {
		if (setns(ns->fds[i], 0) != 0)
			return -errno;
	}
	return 0;
}
