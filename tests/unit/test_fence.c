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
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define PROVEN_WITHIN_MS 10000

static struct box box;

static void say_number(uint8_t n)
{
	if (write(0, &n, 1) != 1)
		_exit(1);
}

/* Says on the control socket that it got so far. */
static void say(void)
{
	say_number(0);
}

static uint8_t hear(void)
{
	uint8_t n;

	assert_int_equal(recv(box.control, &n, 1, 0), 1);
	return n;
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

/* In read(control), with nothing to read: but it returns at once, and a task that a signal stops on
 * its way out is seen in it. */
static void body_reads_no_bytes(void)
{
	say();
	for (;;) {
		if (read(0, NULL, 0) != 0)
			_exit(1);
	}
}

static void body_reads_nowhere(void)
{
	say();
	for (;;)
		syscall(SYS_read, 0, ~0xffful, 8);
}

static void test_reads_that_return(void **state)
{
	void (*const bodies[])(void) = { body_reads_no_bytes, body_reads_nowhere };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		box_start(bodies[i]);
		hear();
		for (int n = 0; n < 300; n++) {
			kill(box.pid, SIGSTOP);
			for (int look = 0; look < 5; look++)
				assert_false(fence_parked(&box));
			kill(box.pid, SIGCONT);
		}
		box_end();
	}
}

/* ---- stopped, exiting ---- */

/* Its steps, which this test sees. */
static volatile uint64_t *beats;

static void body_beats(void)
{
	say();
	for (;;)
		++*beats;
}

static bool beats_go_on(void)
{
	const uint64_t before = *beats;

	usleep(20000);
	return *beats != before;
}

static int beats_begin(void **state)
{
	(void)state;
	beats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return beats != MAP_FAILED ? 0 : -1;
}

static int beats_end(void **state)
{
	(void)state;
	return munmap((void *)beats, 4096);
}

static void test_stopped(void **state)
{
	(void)state;
	box_start(body_beats);
	hear();
	assert_int_equal(fence_stopped(&box), FENCE_NONE);
	fence_stop(&box);
	assert_int_equal(stopped_soon(), FENCE_STOPPED);
	assert_int_equal(fence_stopped(&box), FENCE_STOPPED); /* looking takes nothing away */
	assert_false(fence_parked(&box));
	kill(box.pid, SIGCONT); /* anybody's */
	kill(box.pid, SIGUSR1);
	assert_false(beats_go_on());
	assert_int_equal(fence_stopped(&box), FENCE_STOPPED);
	box_end();
}

/* What a signal stops, a signal lets go on: no fence.  It can still be stopped for good. */
static void test_stopped_by_signal(void **state)
{
	(void)state;
	box_start(body_beats);
	hear();
	kill(box.pid, SIGSTOP);
	while (beats_go_on())
		;
	assert_int_equal(fence_stopped(&box), FENCE_NONE);
	fence_stop(&box);
	assert_int_equal(stopped_soon(), FENCE_STOPPED);
	kill(box.pid, SIGCONT);
	assert_false(beats_go_on());
	box_end();
}

/* Somebody else traces it: it cannot be stopped, so it is killed. */
static void test_traced_already(void **state)
{
	int status;

	(void)state;
	box_start(body_beats);
	hear();
	const pid_t other = fork();

	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(ptrace(PTRACE_SEIZE, box.pid, NULL, NULL) == 0 && pause() ? 1 : 2);
	}
	for (bool traced = false; !traced;) {
		char path[64], text[1024] = "";

		snprintf(path, sizeof(path), "/proc/%d/status", box.pid);
		cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

		assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
		assert_int_equal(waitpid(other, &status, WNOHANG), 0);
		traced = strstr(text, "TracerPid:\t0") == NULL;
	}
	fence_stop(&box);
	assert_int_equal(stopped_soon(), FENCE_EXITING);
	kill(other, SIGKILL);
	assert_int_equal(waitpid(other, &status, 0), other);
	box_end();
}

/* A VMM that fences a box and is killed: in a process of its own, of which the box is a child.  From
 * the fence to the box's own end, which follows, it must not take a step. */
static void vmm_that_dies(void (*body)(void), void (*stop)(uint8_t heard))
{
	int alive[2]; /* open for writing as long as one of the two lives */
	char c;

	assert_int_equal(pipe(alive), 0);
	const pid_t vmm = fork();

	if (vmm == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		box_start(body);
		stop(hear());
		if (write(alive[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	close(alive[1]);
	assert_int_equal(read(alive[0], &c, 1), 1);
	*beats = 0;
	kill(vmm, SIGKILL);
	assert_int_equal(waitpid(vmm, NULL, 0), vmm);
	assert_int_equal(read(alive[0], &c, 1), 0);
	assert_int_equal(*beats, 0);
	close(alive[0]);
}

static void stop_it(uint8_t heard)
{
	(void)heard;
	fence_stop(&box);
	if (stopped_soon() != FENCE_STOPPED)
		_exit(1);
	kill(box.pid, SIGCONT);
}

/* The stop does not end with its tracer: the box does. */
static void test_stopped_when_the_vmm_dies(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++)
		vmm_that_dies(body_beats, stop_it);
}

/* A forbidden call that the listener holds, and beats if it ever returns. */
static void body_calls(void)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { ARRAY_SIZE(insns), insns };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	const int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				    SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);

	char go;

	say_number((uint8_t)fd);
	if (fd < 0 || read(0, &go, 1) != 1)
		_exit(1);
	close(fd);
	syscall(SYS_getppid);
	for (;;)
		++*beats;
}

/* As the supervisor does. */
static void hold_it(uint8_t listener)
{
	struct seccomp_notif notif = { 0 };

	box.listener = (int)syscall(SYS_pidfd_getfd, box.pidfd, listener, 0);
	if (box.listener < 0 || write(box.control, "g", 1) != 1 ||
	    ioctl(box.listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) != 0 ||
	    !fence_held(&box, notif.id))
		_exit(1);
	fence_stop(&box);
	kill(box.pid, SIGCONT);
}

/* The VMM's files close before the death signal is sent: without its listener the call returns. */
static void test_held_when_the_vmm_dies(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++)
		vmm_that_dies(body_calls, hold_it);
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

static void *outlive(void *arg)
{
	say();
	while (pause() == -1)
		;
	return arg;
}

static void run_leader_leaves(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, outlive, NULL) == 0)
		pthread_exit(NULL);
}

/* The first task is a zombie, and another runs. */
static void test_leader_gone(void **state)
{
	(void)state;
	box_start(run_leader_leaves);
	hear();
	for (int i = 0; i < 300; i++) {
		assert_int_equal(fence_stopped(&box), FENCE_NONE);
		usleep(1000);
	}
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
		cmocka_unit_test(test_reads_that_return),
		cmocka_unit_test_setup_teardown(test_stopped, beats_begin, beats_end),
		cmocka_unit_test_setup_teardown(test_stopped_by_signal, beats_begin, beats_end),
		cmocka_unit_test_setup_teardown(test_traced_already, beats_begin, beats_end),
		cmocka_unit_test_setup_teardown(test_stopped_when_the_vmm_dies, beats_begin,
						beats_end),
		cmocka_unit_test_setup_teardown(test_held_when_the_vmm_dies, beats_begin,
						beats_end),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_name_is_not_believed),
		cmocka_unit_test(test_leader_gone),
		cmocka_unit_test(test_reaped),
		cmocka_unit_test(test_held_without_listener),
	};

	return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
