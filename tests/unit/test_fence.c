/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/fence.c on processes of this test: what is a proof and, above all, what is none.  Each
 * process stands for a box: the control socket is its descriptor 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define PROVEN_WITHIN_MS 10000

static struct box box;

/* Says on the control socket that it got so far. */
static void say(void)
{
	if (write(0, "x", 1) != 1)
		_exit(1);
}

static void hear(void)
{
	char c;

	assert_int_equal(recv(box.control, &c, 1, 0), 1);
}

static void box_start(void (*body)(void))
{
	char path[64];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	memset(&box, 0, sizeof(box));
	box.listener = -1;
	box.control = pair[0];
	box.pid = fork();
	if (box.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		dup2(pair[1], 0);
		body();
		_exit(0);
	}
	close(pair[1]);
	box.pidfd = (int)syscall(SYS_pidfd_open, box.pid, 0);
	snprintf(path, sizeof(path), "/proc/%d", box.pid);
	box.proc_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	box.proc_syscall = openat(box.proc_dir, "syscall", O_RDONLY | O_CLOEXEC);
	assert_true(box.pidfd >= 0 && box.proc_syscall >= 0);
}

static void box_end(void)
{
	kill(box.pid, SIGKILL);
	assert_int_equal(waitpid(box.pid, NULL, 0), box.pid);
	close(box.control);
	close(box.pidfd);
	close(box.proc_dir);
	close(box.proc_syscall);
}

static bool parked_soon(void)
{
	for (int i = 0; i < PROVEN_WITHIN_MS; i++) {
		if (fence_parked(&box))
			return true;
		usleep(1000);
	}
	return false;
}

static enum fence stopped_soon(void)
{
	enum fence fence = FENCE_NONE;

	for (int i = 0; i < PROVEN_WITHIN_MS && fence == FENCE_NONE; i++) {
		fence = fence_stopped(&box);
		usleep(1000);
	}
	return fence;
}

/* Often enough to catch it in whatever it does. */
static bool ever_parked(void)
{
	for (int i = 0; i < 300; i++) {
		if (fence_parked(&box))
			return true;
		usleep(1000);
	}
	return false;
}

/* ---- parked ---- */

static void body_reads(void)
{
	static char room[4096];

	for (;;) {
		if (read(0, room, sizeof(room)) <= 0)
			_exit(0);
		say();
	}
}

static void test_parked(void **state)
{
	(void)state;
	box_start(body_reads);
	assert_true(parked_soon());
	assert_int_equal(send(box.control, "m", 1, MSG_NOSIGNAL), 1);
	hear();
	assert_true(parked_soon()); /* again, once it has read it */
	assert_int_equal(fence_stopped(&box), FENCE_NONE);
	box_end();
}

static void body_spins(void)
{
	say();
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void test_running(void **state)
{
	(void)state;
	box_start(body_spins);
	hear();
	assert_false(ever_parked());
	box_end();
}

static void body_reads_another(void)
{
	int fds[2];
	char c;

	if (pipe(fds) != 0)
		_exit(1);
	say();
	if (read(fds[0], &c, 1) < 0)
		_exit(1);
}

static void body_pauses(void)
{
	say();
	pause();
}

/* Asleep, but where others can wake it. */
static void test_asleep_elsewhere(void **state)
{
	void (*const bodies[])(void) = { body_reads_another, body_pauses };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		box_start(bodies[i]);
		hear();
		assert_false(ever_parked());
		box_end();
	}
}

/* A message that lies unread: whoever is in read() is about to leave it. */
static void test_unread(void **state)
{
	(void)state;
	box_start(body_pauses);
	hear();
	assert_int_equal(send(box.control, "m", 1, MSG_NOSIGNAL), 1);
	assert_false(ever_parked());
	box_end();
}

/* In read(0), asleep, and still not parked: the message is being copied to a page that nobody
 * brings, and with it comes the way back to user mode. */
static void body_reads_slowly(void)
{
	const int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API };
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = { .range = { (uintptr_t)page, 4096 },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0 ||
	    ioctl(uffd, UFFDIO_REGISTER, &range) != 0)
		_exit(1);
	say();
	if (read(0, page, 4096) < 0)
		_exit(1);
}

static void test_copying(void **state)
{
	char line[64] = "";

	(void)state;
	if (geteuid() != 0) {
		print_message(
			"skipped: an ordinary user's userfaultfd sees no fault of the kernel's\n");
		skip();
	}
	box_start(body_reads_slowly);
	hear();
	assert_true(parked_soon()); /* before the message: it waits for one */
	assert_int_equal(send(box.control, "m", 1, MSG_NOSIGNAL), 1);
	assert_false(ever_parked());
	/* The system call alone would have been taken for proof. */
	assert_true(pread(box.proc_syscall, line, sizeof(line) - 1, 0) > 0);
	assert_memory_equal(line, "0 0x0 ", 6);
	box_end();
}

/* ---- stopped, exiting ---- */

static void test_stopped(void **state)
{
	(void)state;
	box_start(body_spins);
	hear();
	assert_int_equal(fence_stopped(&box), FENCE_NONE);
	kill(box.pid, SIGSTOP);
	assert_int_equal(stopped_soon(), FENCE_STOPPED);
	assert_int_equal(fence_stopped(&box), FENCE_STOPPED); /* looking takes nothing away */
	assert_false(fence_parked(&box));
	kill(box.pid, SIGCONT);
	assert_int_equal(waitpid(box.pid, NULL, WCONTINUED), box.pid);
	assert_int_equal(fence_stopped(&box), FENCE_NONE);
	box_end();
}

static void test_killed(void **state)
{
	(void)state;
	box_start(body_spins);
	hear();
	kill(box.pid, SIGKILL);
	assert_int_equal(stopped_soon(), FENCE_EXITING);
	assert_false(fence_parked(&box));
	/* Not reaped by looking: that is the supervisor's to do. */
	assert_int_equal(fence_stopped(&box), FENCE_EXITING);
	box_end();
}

static void body_is_called_oddly(void)
{
	prctl(PR_SET_NAME, ") R 1 1 1 0 -1 4");
	body_spins();
}

/* The name stands before the flags in stat, and is the process's own choice. */
static void test_name_is_not_believed(void **state)
{
	(void)state;
	box_start(body_is_called_oddly);
	hear();
	assert_int_equal(fence_stopped(&box), FENCE_NONE);
	kill(box.pid, SIGKILL);
	assert_int_equal(stopped_soon(), FENCE_EXITING);
	box_end();
}

static void test_reaped(void **state)
{
	(void)state;
	box_start(body_pauses);
	hear();
	kill(box.pid, SIGKILL);
	assert_int_equal(waitpid(box.pid, NULL, 0), box.pid);
	assert_false(fence_parked(&box));
	assert_int_equal(fence_stopped(&box), FENCE_NONE); /* nothing there: no proof of anything */
	close(box.control);
	close(box.pidfd);
	close(box.proc_dir);
	close(box.proc_syscall);
}

static void test_held_without_listener(void **state)
{
	(void)state;
	box.listener = -1;
	assert_false(fence_held(&box, 1));
	box.listener = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_false(fence_held(&box, 1)); /* not a listener */
	close(box.listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parked),
		cmocka_unit_test(test_running),
		cmocka_unit_test(test_asleep_elsewhere),
		cmocka_unit_test(test_unread),
		cmocka_unit_test(test_copying),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_name_is_not_believed),
		cmocka_unit_test(test_reaped),
		cmocka_unit_test(test_held_without_listener),
	};

	return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
