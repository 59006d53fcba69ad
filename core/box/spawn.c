/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two halves: the VMM's side (requests and replies over a SOCK_SEQPACKET socket) and the spawner's
 * main.  The spawner keeps its own descriptors at SPAWN_FD_BASE and above, so that those that come
 * with a request are received as 0 .. n-1, just the numbers that the child must have: nothing is
 * moved, nothing can be overwritten.
 *
 * The child is cloned with VM and VFORK: until exec it runs on the spawner's memory with the spawner
 * suspended, makes a handful of system calls and allocates nothing.
 */
#include "core/box/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/box/namespaces.h"
#include "core/cc.h"

#define SPAWN_FD_BASE 300
#define SPAWN_FD_SOCKET SPAWN_FD_BASE
#define SPAWN_FD_PROGRAM (SPAWN_FD_BASE + 1) /* + kind */
#define SPAWN_STACK_BYTES 16384

/* What each child gets besides; see namespaces.c. */
#ifndef SPAWN_OMIT_namespaces
#define SPAWN_CHILD_NAMESPACES CLONE_NEWPID
#else
#define SPAWN_CHILD_NAMESPACES 0
#endif

struct spawn_request {
	uint64_t cookie;
	uint32_t kind;
	uint32_t fds;
};

struct spawn_answer { /* also the handshake: error and the step that failed */
	uint64_t cookie;
	int32_t error;
	int32_t pid;
	char what[48];
};

static const char *const kind_names[] = {
#define KIND_NAME(NAME, name, virtio_id, outward) #name,
	DEV_KINDS(KIND_NAME)
#undef KIND_NAME
};

/* ---- the spawner's side ---- */

struct child {
	int program;
	char *argv[2];
	int error; /* written by the child, whose memory is ours until it execs */
};

/* On memory and a stack of which a sanitizer knows that they are another's. */
__attribute__((no_sanitize("address", "undefined"))) static int child_main(void *arg)
{
	struct child *c = arg;
	char *const envp[] = { NULL };
	sigset_t none;

	/* Out of the VMM's session: job control of its terminal must not reach a sandbox. */
	if (setsid() < 0)
		goto fail;
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) != 0)
		goto fail;
	syscall(SYS_execveat, c->program, "", c->argv, envp, AT_EMPTY_PATH);
fail:
	c->error = errno;
	_exit(127);
}

static int spawn_child(const struct spawn_request *req, int *error)
{
	static char stack[SPAWN_STACK_BYTES] __attribute__((aligned(16)));
	char name[32];
	const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | SPAWN_CHILD_NAMESPACES;
	struct child child = { .program = SPAWN_FD_PROGRAM + (int)req->kind, .argv = { name } };

	snprintf(name, sizeof(name), "mayfly-%s", kind_names[req->kind]);
	const int pid = clone(child_main, stack + sizeof(stack), flags, &child);

	*error = pid < 0 ? errno : child.error;
	return pid;
}

static void spawner_answer(const struct spawn_answer *answer)
{
	if (send(SPAWN_FD_SOCKET, answer, sizeof(*answer), MSG_NOSIGNAL) < 0)
		_exit(0); /* the VMM is gone, and our children with it */
}

/* Received descriptors are 0 .. n-1 because nothing of ours lies below SPAWN_FD_BASE. */
static void spawner_serve(const struct spawn_request *req, uint32_t fds)
{
	struct spawn_answer answer = { .cookie = req->cookie, .pid = -1 };

	if (req->kind >= DEV_KIND_COUNT || req->fds != fds)
		answer.error = EINVAL;
	else if (fcntl(SPAWN_FD_PROGRAM + (int)req->kind, F_GETFD) < 0)
		answer.error = ENOENT;
	else
		answer.pid = spawn_child(req, &answer.error);
	spawner_answer(&answer);
	syscall(SYS_close_range, 0, SPAWN_FD_BASE - 1, 0);
}

_Noreturn static void spawner_loop(void)
{
	static union {
		struct cmsghdr header;
		char room[CMSG_SPACE(SPAWN_FDS_MAX * sizeof(int))];
	} control;

	for (;;) {
		struct spawn_request req;
		struct iovec iov = { &req, sizeof(req) };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = &control,
				      .msg_controllen = sizeof(control.room) };
		const ssize_t n = recvmsg(SPAWN_FD_SOCKET, &msg, 0);
		const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(req))
			_exit(0);
		spawner_serve(&req,
			      c == NULL ? 0
					: (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
	}
}

static int spawner_programs(const char *dir)
{
	cleanup_fd int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (at < 0)
		return -errno;
	for (int kind = 0; kind < DEV_KIND_COUNT; kind++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "mayfly-%s", kind_names[kind]);
		fd = openat(at, name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue; /* refused when it is asked for */
		if (fd < 0 || dup3(fd, SPAWN_FD_PROGRAM + kind, O_CLOEXEC) < 0)
			return -errno;
		close(fd);
	}
	return 0;
}

static void spawner_signals(void)
{
	sigset_t all;

	/* Past libc, which would leave the two signals alone that it keeps for itself: the VMM may have
	 * been started with them ignored, and what is ignored stays so through exec. */
	const struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} fresh = { SIG_DFL, 0, NULL, 0 };

	for (int s = 1; s < NSIG; s++)
		syscall(SYS_rt_sigaction, s, &fresh, NULL, sizeof(fresh.mask));
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Everything before the first request.  0, or -errno with the step's name. */
static int spawner_prepare(int socket, const char *program_dir, const struct namespaces *ns,
			   const char **what)
{
	int ret;

	*what = "set up descriptors";
	if (dup3(socket, SPAWN_FD_SOCKET, O_CLOEXEC) < 0)
		return -errno;
	*what = "open the device programs";
	ret = spawner_programs(program_dir);
	if (ret != 0)
		return ret;
	*what = "enter namespaces";
	ret = namespaces_join(ns);
	if (ret != 0)
		return ret;
	*what = "close descriptors";
	if (syscall(SYS_close_range, 0, SPAWN_FD_BASE - 1, 0) != 0 ||
	    syscall(SYS_close_range, SPAWN_FD_PROGRAM + DEV_KIND_COUNT, ~0u, 0) != 0)
		return -errno;
	return 0;
}

_Noreturn static void spawner_main(int socket, const char *program_dir, const struct namespaces *ns)
{
	struct spawn_answer hello = { 0 };
	const char *what = "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "mayfly-spawner");
	setsid();
	spawner_signals();
	hello.error = -spawner_prepare(socket, program_dir, ns, &what);
	snprintf(hello.what, sizeof(hello.what), "%s", what);
	if (hello.error != 0) {
		if (send(socket, &hello, sizeof(hello), MSG_NOSIGNAL) < 0)
			_exit(1);
		_exit(1);
	}
	spawner_answer(&hello);
	spawner_loop();
}

/* ---- the VMM's side ---- */

/* Not for the numbers, of which some four hundred will do: an ordinary user's descriptors that are on
 * their way through sockets, of all his processes together, are refused beyond this (ETOOMANYREFS). */
static int spawner_raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return -errno;
	if (limit.rlim_cur == limit.rlim_max)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

static int spawner_handshake(struct spawner *s, const char **what)
{
	static char step[48];
	struct spawn_answer hello;
	const ssize_t n = recv(s->socket, &hello, sizeof(hello), 0);

	*what = "start the spawner";
	if (n != sizeof(hello))
		return -EPIPE;
	snprintf(step, sizeof(step), "%.47s", hello.what);
	*what = step;
	if (fcntl(s->socket, F_SETFL, O_NONBLOCK) != 0)
		return -errno;
	return -hello.error;
}

/* The process itself, with the namespaces made. */
static int spawner_fork(struct spawner *s, const char *program_dir, const struct namespaces *ns,
			const char **what)
{
	int pair[2];
	int ret;

	*what = "start the spawner";
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	s->pid = fork();
	if (s->pid == 0) {
		close(pair[0]);
		spawner_main(pair[1], program_dir, ns);
	}
	ret = s->pid < 0 ? -errno : 0;
	close(pair[1]);
	s->socket = pair[0];
	if (ret == 0) {
		s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
		ret = s->pidfd < 0 ? -errno : spawner_handshake(s, what);
	}
	if (ret != 0)
		spawner_stop(s);
	return ret;
}

static int spawners_make(struct spawner *s, struct namespaces *ns, uint32_t count,
			 const char *program_dir, const struct spawner_before *before,
			 const char **what)
{
	int ret = 0;

	for (uint32_t i = 0; i < count && ret == 0; i++)
		ret = namespaces_make(&ns[i], s[i].user_ns, what);
	if (ret == 0 && before != NULL)
		ret = before->fn(before->ctx, what);
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		ret = spawner_fork(&s[i], program_dir, &ns[i], what);
		/* At once: those of many would reach up to where a spawner has its own descriptors. */
		namespaces_free(&ns[i]);
	}
	return ret;
}

int spawners_start(struct spawner *s, uint32_t count, const char *program_dir,
		   const struct spawner_before *before, const char **what)
{
	cleanup_free struct namespaces *ns = calloc(count, sizeof(*ns));
	int ret = spawner_raise_nofile();

	*what = "start the spawner";
	for (uint32_t i = 0; i < count; i++)
		s[i] = (struct spawner){ .socket = -1, .pidfd = -1, .user_ns = geteuid() != 0 };
	if (ns == NULL)
		return -ENOMEM;
	if (ret == 0)
		ret = spawners_make(s, ns, count, program_dir, before, what);
	for (uint32_t i = 0; i < count; i++) {
		namespaces_free(&ns[i]);
		if (ret != 0)
			spawner_stop(&s[i]);
	}
	return ret;
}

int spawner_start(struct spawner *s, const char *program_dir, const struct spawner_before *before,
		  const char **what)
{
	return spawners_start(s, 1, program_dir, before, what);
}

int spawner_request(const struct spawner *s, uint64_t cookie, enum dev_kind kind, const int *fds,
		    uint32_t n)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(SPAWN_FDS_MAX * sizeof(int))];
	} control;
	struct spawn_request req = { cookie, kind, n };
	struct iovec iov = { &req, sizeof(req) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };

	if (n == 0 || n > SPAWN_FDS_MAX)
		return -EINVAL;
	memset(&control, 0, CMSG_SPACE(n * sizeof(int)));
	msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
	control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n * sizeof(int)),
					   .cmsg_level = SOL_SOCKET,
					   .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
	return sendmsg(s->socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* A child of ours: until we reap it the number is its own, so that this cannot be another's. */
static int child_pidfd(pid_t pid, int *pidfd)
{
	int err;

	*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*pidfd >= 0)
		return 0;
	err = errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return err;
}

int spawner_reply(const struct spawner *s, struct spawn_reply *reply)
{
	struct spawn_answer answer;
	const ssize_t n = recv(s->socket, &answer, sizeof(answer), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	if (n != sizeof(answer))
		return -EPIPE;
	*reply = (struct spawn_reply){ answer.cookie, answer.error, answer.pid, -1 };
	if (answer.pid <= 0)
		return 1;
	const int err = child_pidfd(answer.pid, &reply->pidfd);

	if (err != 0) {
		reply->error = err;
		reply->pid = -1;
	}
	return 1;
}

void spawner_stop(struct spawner *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
	cc_close(&s->socket);
	cc_close(&s->pidfd);
}
