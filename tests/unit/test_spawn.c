/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/spawn.c: what it starts, and how it fails.  The programs are made here: a static executable
 * of a few bytes that sleeps, and some that cannot be executed.  After each test this process has the
 * descriptors and the children that it had before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/box/spawn.h"
#include "core/cc.h"
#include "tests/rig/fds.h"

static char dir[64]; /* of the programs; what is named after a kind is one */
static struct spawner spawner;
static const char *what;
static uint32_t descriptors_before;

/* ---- programs ---- */

static void file_write(const char *name, const void *data, size_t bytes, mode_t mode)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	assert_int_equal(fchmod(fd, mode), 0);
}

/* Dies with its parent, also where a test of it fails: prctl(PR_SET_PDEATHSIG, SIGKILL), then pause()
 * for ever. */
static void program_write(const char *name, mode_t mode)
{
	static const uint8_t code[] = {
		0xb8, 157,  0,    0,    0, /* mov $__NR_prctl, %eax */
		0xbf, 1,    0,    0,    0, /* mov $PR_SET_PDEATHSIG, %edi */
		0xbe, 9,    0,    0,    0, /* mov $SIGKILL, %esi */
		0x0f, 0x05,                /* syscall */
		0xb8, 34,   0,    0,    0,
		0x0f, 0x05, 0xeb, 0xf7, /* mov $__NR_pause, %eax; syscall; again */
	};
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr load;
		uint8_t code[sizeof(code)];
	} elf = {
		.header = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					 ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_EXEC,
			    .e_machine = EM_X86_64,
			    .e_version = EV_CURRENT,
			    .e_entry = 0x400000 + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
			    .e_phoff = sizeof(Elf64_Ehdr),
			    .e_ehsize = sizeof(Elf64_Ehdr),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 1 },
		.load = { .p_type = PT_LOAD,
			  .p_flags = PF_R | PF_X,
			  .p_vaddr = 0x400000,
			  .p_paddr = 0x400000,
			  .p_filesz = sizeof(elf),
			  .p_memsz = sizeof(elf),
			  .p_align = 0x1000 },
	};

	memcpy(elf.code, code, sizeof(code));
	file_write(name, &elf, sizeof(elf), mode);
}

static int programs_make(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_spawn.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	program_write("mayfly-blk", 0755);
	program_write("mayfly-console", 0644);
	file_write("mayfly-serial", "not a program\n", 14, 0755);
	return 0; /* and no mayfly-rng */
}

static int programs_drop(void **state)
{
	static const char *const names[] = { "mayfly-blk", "mayfly-console", "mayfly-serial" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

/* ---- before and after ---- */

static int setup(void **state)
{
	(void)state;
	descriptors_before = fds_open(0);
	assert_int_equal(spawner_start(&spawner, dir, NULL, &what), 0);
	return 0;
}

static void nothing_is_left(void)
{
	assert_int_equal(fds_open(0), descriptors_before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static int teardown(void **state)
{
	(void)state;
	spawner_stop(&spawner);
	nothing_is_left();
	return 0;
}

/* ---- requests ---- */

static struct spawn_reply reply_wait(void)
{
	struct spawn_reply reply;
	struct pollfd pfd = { spawner.socket, POLLIN, 0 };

	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_int_equal(spawner_reply(&spawner, &reply), 1);
	return reply;
}

static struct spawn_reply ask(enum dev_kind kind, uint64_t cookie)
{
	const int fd = eventfd(0, EFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(spawner_request(&spawner, cookie, kind, &fd, 1), 0);
	const struct spawn_reply reply = reply_wait();

	close(fd);
	assert_true(reply.cookie == cookie);
	return reply;
}

/* Its process is our child; ends it and says how it ended. */
static int end(const struct spawn_reply *reply)
{
	siginfo_t info = { 0 };

	assert_true(reply->pidfd >= 0 && reply->pid > 0);
	syscall(SYS_pidfd_send_signal, reply->pidfd, SIGKILL, NULL, 0);
	assert_int_equal(waitid(P_PIDFD, (id_t)reply->pidfd, &info, WEXITED), 0);
	assert_int_equal(info.si_pid, reply->pid);
	close(reply->pidfd);
	return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static void refused(struct spawn_reply reply, int error)
{
	assert_int_equal(reply.error, error);
	assert_int_equal(reply.pidfd, -1);
	assert_int_equal(reply.pid, -1);
}

/* It did not die of what it refused. */
static void still_serves(void)
{
	const struct spawn_reply reply = ask(DEV_KIND_BLK, 99);

	assert_int_equal(reply.error, 0);
	assert_int_equal(end(&reply), -SIGKILL);
}

/* ---- what it starts ---- */

static long status_field(pid_t pid, const char *name, int column)
{
	char path[64], line[256];
	long values[3] = { -1, -1, -1 };

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), ":%ld%ld%ld", &values[0], &values[1],
			       &values[2]);
	}
	fclose(f);
	return values[column];
}

/* Until the program is in its pause().  The spawner's answer comes in the midst of exec, when the new
 * memory is there, and what is closed on exec is still open. */
static void await_exec(pid_t pid)
{
	char path[64], line[16];

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	do {
		cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
		const ssize_t n = read(fd, line, sizeof(line) - 1);

		assert_true(n > 0);
		line[n] = '\0';
	} while (strncmp(line, "34 ", 3) != 0);
}

static void test_child(void **state)
{
	char path[64], first[64] = "", second[64] = "";
	int fds[3] = { eventfd(0, EFD_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC),
		       eventfd(0, EFD_CLOEXEC) };
	struct stat ours, theirs;

	(void)state;
	assert_int_equal(spawner_request(&spawner, 7, DEV_KIND_BLK, fds, 3), 0);
	const struct spawn_reply reply = reply_wait();

	assert_int_equal(reply.error, 0);
	await_exec(reply.pid);
	/* Just what was sent, from 0 on. */
	assert_int_equal(fds_open(reply.pid), 3);
	snprintf(path, sizeof(path), "/proc/%d/fd/1", reply.pid);
	assert_int_equal(stat(path, &theirs), 0);
	assert_int_equal(fstat(fds[1], &ours), 0);
	assert_true(ours.st_ino == theirs.st_ino && ours.st_rdev == theirs.st_rdev);
	/* Our child, in a session and a pid namespace of its own, with no signal blocked. */
	assert_int_equal(status_field(reply.pid, "PPid", 0), getpid());
	assert_int_equal(status_field(reply.pid, "NSpid", 1), 1);
	assert_int_equal(status_field(reply.pid, "SigBlk", 0), 0);
	assert_int_equal(status_field(reply.pid, "SigIgn", 0), 0);
	assert_int_equal(getsid(reply.pid), reply.pid);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", reply.pid);
	assert_true(readlink(path, first, sizeof(first) - 1) > 0);
	assert_true(readlink("/proc/self/ns/net", second, sizeof(second) - 1) > 0);
	assert_string_not_equal(first, second);
	assert_int_equal(end(&reply), -SIGKILL);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void test_many(void **state)
{
	struct spawn_reply replies[20];

	(void)state;
	for (uint64_t i = 0; i < ARRAY_SIZE(replies); i++) {
		replies[i] = ask(DEV_KIND_BLK, i);
		assert_int_equal(replies[i].error, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(replies); i++)
		assert_int_equal(end(&replies[i]), -SIGKILL);
}

/* ---- what it refuses ---- */

static void test_missing_program(void **state)
{
	(void)state;
	refused(ask(DEV_KIND_RNG, 3), ENOENT);
	still_serves();
}

static void test_unknown_kind(void **state)
{
	(void)state;
	refused(ask(DEV_KIND_COUNT, 4), EINVAL);
	refused(ask((enum dev_kind)UINT32_MAX, 5), EINVAL);
	still_serves();
}

/* The clone worked and the exec did not: there is a process, and it has ended. */
static void test_not_executable(void **state)
{
	static const struct {
		enum dev_kind kind;
		int error;
	} cases[] = { { DEV_KIND_CONSOLE, EACCES }, { DEV_KIND_SERIAL, ENOEXEC } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct spawn_reply reply = ask(cases[i].kind, i);
		siginfo_t info = { 0 };

		assert_int_equal(reply.error, cases[i].error);
		assert_int_equal(waitid(P_PIDFD, (id_t)reply.pidfd, &info, WEXITED), 0);
		assert_int_equal(info.si_code, CLD_EXITED);
		assert_int_equal(info.si_status, 127);
		close(reply.pidfd);
	}
	still_serves();
}

static void test_bad_counts(void **state)
{
	int fds[SPAWN_FDS_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = spawner.socket;
	assert_int_equal(spawner_request(&spawner, 1, DEV_KIND_BLK, fds, 0), -EINVAL);
	assert_int_equal(spawner_request(&spawner, 1, DEV_KIND_BLK, fds, SPAWN_FDS_MAX + 1),
			 -EINVAL);
	fds[2] = -1;
	assert_int_equal(spawner_request(&spawner, 1, DEV_KIND_BLK, fds, 3), -EBADF);
	still_serves();
}

/* The message says one number of descriptors and brings another. */
static void test_counts_differ(void **state)
{
	struct {
		uint64_t cookie;
		uint32_t kind, fds;
	} request = { 11, DEV_KIND_BLK, 2 };
	struct iovec iov = { &request, sizeof(request) };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	(void)state;
	assert_int_equal(sendmsg(spawner.socket, &msg, MSG_NOSIGNAL), sizeof(request));
	refused(reply_wait(), EINVAL);
	memcpy(CMSG_DATA(&control.header), &spawner.pidfd, sizeof(int));
	msg.msg_control = &control;
	msg.msg_controllen = sizeof(control.room);
	assert_int_equal(sendmsg(spawner.socket, &msg, MSG_NOSIGNAL), sizeof(request));
	refused(reply_wait(), EINVAL);
	still_serves();
}

/* The most descriptors that a request can have arrive as they were sent. */
static void test_most_descriptors(void **state)
{
	int fds[SPAWN_FDS_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(spawner_request(&spawner, 1, DEV_KIND_BLK, fds, SPAWN_FDS_MAX), 0);
	const struct spawn_reply reply = reply_wait();

	assert_int_equal(reply.error, 0);
	await_exec(reply.pid);
	assert_int_equal(fds_open(reply.pid), SPAWN_FDS_MAX);
	end(&reply);
}

static void write_text(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* A clone that fails late leaves a descriptor number behind that is nobody's: it must not be sent. */
static void test_process_limit(void **state)
{
	char group[64], path[128], pid[16];

	(void)state;
	snprintf(group, sizeof(group), "/sys/fs/cgroup/pids/mayfly-%d", getpid());
	if (geteuid() != 0 || mkdir(group, 0700) != 0) {
		print_message("skipped: needs root and the pids controller of cgroup v1\n");
		skip();
	}
	snprintf(pid, sizeof(pid), "%d", spawner.pid);
	snprintf(path, sizeof(path), "%s/pids.max", group);
	write_text(path, "1");
	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	write_text(path, pid);
	refused(ask(DEV_KIND_BLK, 21), EAGAIN);
	refused(ask(DEV_KIND_BLK, 22), EAGAIN);
	snprintf(path, sizeof(path), "%s/pids.max", group);
	write_text(path, "max");
	still_serves();
	spawner_stop(&spawner);
	assert_int_equal(rmdir(group), 0);
}

/* ---- how it ends ---- */

static void await_death(void)
{
	struct pollfd pfd = { spawner.pidfd, POLLIN, 0 };

	assert_int_equal(poll(&pfd, 1, 10000), 1);
}

static void test_killed_in_use(void **state)
{
	const struct spawn_reply child = ask(DEV_KIND_BLK, 1);
	struct spawn_reply reply;

	(void)state;
	assert_int_equal(child.error, 0);
	kill(spawner.pid, SIGKILL);
	await_death();
	assert_int_equal(spawner_request(&spawner, 2, DEV_KIND_BLK, &spawner.pidfd, 1), -EPIPE);
	assert_int_equal(spawner_reply(&spawner, &reply), -EPIPE);
	/* What it started is ours and lives on. */
	assert_int_equal(kill(child.pid, 0), 0);
	assert_int_equal(end(&child), -SIGKILL);
}

static void test_killed_with_requests(void **state)
{
	struct spawn_reply reply;

	(void)state;
	kill(spawner.pid, SIGSTOP);
	assert_int_equal(waitpid(spawner.pid, NULL, WUNTRACED), spawner.pid);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(spawner_request(&spawner, i, DEV_KIND_BLK, &spawner.pidfd, 1), 0);
	assert_int_equal(spawner_reply(&spawner, &reply), 0);
	kill(spawner.pid, SIGKILL);
	await_death();
	assert_int_equal(spawner_reply(&spawner, &reply), -EPIPE);
}

/* Stopped, it takes no more than the socket holds, and the VMM does not wait for it. */
static void test_full(void **state)
{
	uint64_t sent = 0;
	int ret = 0;

	(void)state;
	kill(spawner.pid, SIGSTOP);
	assert_int_equal(waitpid(spawner.pid, NULL, WUNTRACED), spawner.pid);
	while (sent < 100000) {
		ret = spawner_request(&spawner, sent, DEV_KIND_RNG, &spawner.pidfd, 1);
		if (ret != 0)
			break;
		sent++;
	}
	assert_true(ret == -EAGAIN || ret == -ETOOMANYREFS);
	assert_true(sent > 10);
	kill(spawner.pid, SIGCONT);
	for (uint64_t i = 0; i < sent; i++) {
		const struct spawn_reply reply = reply_wait();

		assert_true(reply.cookie == i);
		refused(reply, ENOENT);
	}
	still_serves();
}

/* The VMM has no descriptor left when the answer comes: it is told, and the child is gone. */
static void test_no_pidfd(void **state)
{
	struct rlimit before, none = { .rlim_cur = 1 }; /* poll() takes as many */
	const int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	assert_int_equal(spawner_request(&spawner, 5, DEV_KIND_BLK, &fd, 1), 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	const struct spawn_reply reply = reply_wait();

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(reply.cookie == 5);
	refused(reply, EMFILE);
	still_serves();
}

static void test_ends_with_the_socket(void **state)
{
	(void)state;
	cc_close(&spawner.socket);
	await_death();
}

static void test_stop_twice(void **state)
{
	(void)state;
	spawner_stop(&spawner);
	spawner_stop(&spawner);
	assert_int_equal(spawner.socket, -1);
	assert_int_equal(spawner.pidfd, -1);
}

/* ---- how it does not begin ---- */

static void test_no_directory(void **state)
{
	char path[128];

	(void)state;
	descriptors_before = fds_open(0);
	assert_int_equal(spawner_start(&spawner, "/nowhere/at/all", NULL, &what), -ENOENT);
	assert_string_equal(what, "open the device programs");
	nothing_is_left();
	snprintf(path, sizeof(path), "%s/mayfly-blk", dir);
	assert_int_equal(spawner_start(&spawner, path, NULL, &what), -ENOTDIR);
	assert_string_equal(what, "open the device programs");
	nothing_is_left();
}

static void test_no_descriptors(void **state)
{
	struct rlimit before, few;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	descriptors_before = fds_open(0);
	few = (struct rlimit){ descriptors_before, before.rlim_max };
	if (before.rlim_max < 1024) {
		print_message("skipped: the hard limit of descriptors is %ju\n",
			      (uintmax_t)before.rlim_max);
		skip();
	}
	/* A low soft limit is raised. */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(spawner_start(&spawner, dir, NULL, &what), 0);
	still_serves();
	spawner_stop(&spawner);
	nothing_is_left();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
#define SPAWN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		SPAWN_TEST(test_child),
		SPAWN_TEST(test_many),
		SPAWN_TEST(test_missing_program),
		SPAWN_TEST(test_unknown_kind),
		SPAWN_TEST(test_not_executable),
		SPAWN_TEST(test_bad_counts),
		SPAWN_TEST(test_counts_differ),
		SPAWN_TEST(test_most_descriptors),
		SPAWN_TEST(test_process_limit),
		SPAWN_TEST(test_killed_in_use),
		SPAWN_TEST(test_killed_with_requests),
		SPAWN_TEST(test_full),
		SPAWN_TEST(test_no_pidfd),
		SPAWN_TEST(test_ends_with_the_socket),
		SPAWN_TEST(test_stop_twice),
		cmocka_unit_test(test_no_directory),
		cmocka_unit_test(test_no_descriptors),
	};

	return cmocka_run_group_tests_name("spawn", tests, programs_make, programs_drop);
}
