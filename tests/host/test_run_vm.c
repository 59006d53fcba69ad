/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly run` as its operator meets it: how it ends and with which status, terminals, files and
 * sockets that its serial port leads to, the state directory, log and pid file, the power button and
 * the schedule, each with a guest of a few hundred bytes (run_guest.h) and the release programs.
 * Where there is no usable /dev/kvm the tests that need it say so and are skipped.
 */
#include "tests/host/run_vm.h"

#include "core/http.h"
#include "tests/host/kvm_skip.h"

/* ---- ends ---- */

static void test_exit_status(void **state)
{
	static const struct {
		const char *words, *says;
		int status;
	} ends[] = {
		{ GUEST(RUN_GUEST_OFF), "", 0 },
		{ GUEST(RUN_GUEST_RESET) "--no-reboot", "", 0 },
		{ GUEST(RUN_GUEST_TRIPLE) "--no-reboot", "triple fault", 3 },
		{ GUEST(RUN_GUEST_PANIC) "--no-reboot", "kernel panic", 3 },
		{ GUEST(RUN_GUEST_OFF) "--initrd none", "none", 1 },
		{ GUEST(RUN_GUEST_OFF) "--cpus 0", "--cpus", 2 },
	};

	(void)state;
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		vm_start(-1, -1, "%s", ends[i].words);
		const int status = vm_wait();

		if (status != ends[i].status || strstr(vm_errors(), ends[i].says) == NULL)
			fail_msg("%s: status %d: %s", ends[i].words, status, vm_errors());
		assert_int_equal(vm_errors()[0] == '\0', ends[i].says[0] == '\0');
		assert_false(file_there("state"));
	}
}

/* The same process, and the guest finds its memory as it left it: three boots, each said once. */
static void test_reboots_in_place(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	vm_start(-1, -1, GUEST(RUN_GUEST_RESET) "--serial file:reset");
	assert_int_equal(vm_wait(), 0);
	assert_string_equal(file_text("reset"), "123");
	vm_start(-1, -1, GUEST(RUN_GUEST_CRASHES) "--serial file:crash");
	assert_int_equal(vm_wait(), 0);
	assert_string_equal(file_text("crash"), "123");
	assert_int_equal(file_mode("crash"), 0600);
}

/* But for what a busy machine makes of a deadline. */
static void assert_nothing_said(void)
{
	const char *text = vm_errors();

	for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
		const char *late = strstr(line, ": the fence is overdue");

		if (strchr(line, '\n') == NULL || late == NULL || late > strchr(line, '\n'))
			fail_msg("it said: %s", text);
	}
}

static void test_orderly_ends(void **state)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };

	(void)state;
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial unix:tty --rng");
		AWAIT(answers("tty"));
		assert_true(answers("state/api.sock"));
		assert_int_equal(vm_end(signals[i]), 0);
		assert_false(file_there("state"));
		assert_false(file_there("tty"));
		assert_nothing_said();
	}
}

/* nohup: a signal that was ignored when it began goes on being ignored. */
static void test_ignored_signals(void **state)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGUSR1 };

	(void)state;
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		int fd = -1;

		vm.ignored = signals[i];
		vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial unix:tty");
		AWAIT((fd = connect_to("tty")) >= 0);
		assert_int_equal(kill(vm.pid, signals[i]), 0);
		/* The loop has come around after it. */
		assert_int_equal(write(fd, "a", 1), 1);
		AWAIT(recv(fd, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) == 1);
		AWAIT(answers("state/api.sock"));
		assert_int_equal(vm_end(SIGTERM), 0);
		close(fd);
	}
}

static void test_power_button(void **state)
{
	struct http_answer answer;
	int fd = -1;

	(void)state;
	if (!kvm_or_skip())
		return;
	vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial unix:tty");
	AWAIT((fd = connect_to("tty")) >= 0);
	AWAIT(answers("state/api.sock"));
	/* So that it is past its greeting, which nobody may have heard. */
	assert_int_equal(write(fd, "#", 1), 1);
	for (char c = 0; c != '#';)
		AWAIT(recv(fd, &c, 1, MSG_DONTWAIT) == 1);
	/* The guest may be off before the answer is on its way: then the connection ends without. */
	if (http_ask(in_dir("state/api.sock"), "PUT", "/actions",
		     "{\"action_type\":\"SendCtrlAltDel\"}", WAIT_S, &answer) == 0) {
		assert_int_equal(answer.status, 204);
		free(answer.body);
	}
	fd_expect(fd, "B");
	assert_int_equal(vm_wait(), 0);
	close(fd);
}

/* ---- the terminal ---- */

static bool ends_orderly(int number)
{
	return number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT;
}

/* Every signal that ends a process. */
static void test_terminal_is_restored(void **state)
{
	static const int signals[] = { SIGTERM,   SIGINT,  SIGHUP,  SIGQUIT, SIGALRM,  SIGSEGV,
				       SIGABRT,   SIGBUS,  SIGILL,  SIGFPE,  SIGTRAP,  SIGSYS,
				       SIGUSR1,   SIGUSR2, SIGXCPU, SIGXFSZ, SIGPROF,  SIGVTALRM,
				       SIGSTKFLT, SIGIO,   SIGPWR,  SIGPIPE, SIGWINCH, 0 };
	struct pty pty;

	(void)state;
	if (!kvm_or_skip())
		return;
	pty_open(&pty);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		const int number = signals[i] != 0 ? signals[i] : SIGRTMAX;

		vm_start(pty.slave, pty.slave, GUEST(RUN_GUEST_HALT) "--serial tty");
		AWAIT(pty_raw(&pty));
		if (number == SIGPIPE || number == SIGWINCH) /* harmless */
			assert_int_equal(kill(vm.pid, number), 0);
		const int status =
			vm_end(number == SIGPIPE || number == SIGWINCH ? SIGTERM : number);

		assert_pty_restored(&pty, strsignal(number));
		if (number == SIGPIPE || number == SIGWINCH || ends_orderly(number))
			assert_int_equal(status, 0);
		else
			assert_int_equal(status, 128 + number);
	}
	/* And when the guest ends it, or the VM cannot even start. */
	vm_start(pty.slave, pty.slave, GUEST(RUN_GUEST_TRIPLE) "--serial tty --no-reboot");
	assert_int_equal(vm_wait(), 3);
	assert_pty_restored(&pty, "a crash of the guest");
	vm_start(pty.slave, pty.slave, GUEST(RUN_GUEST_OFF) "--serial tty --memory 16T");
	assert_int_not_equal(vm_wait(), 0);
	assert_pty_restored(&pty, "a VM that cannot start");
	pty_close(&pty);
}

static void type(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void test_terminal(void **state)
{
	struct pty pty;

	(void)state;
	if (!kvm_or_skip())
		return;
	pty_open(&pty);
	vm_start(pty.slave, pty.slave, GUEST(RUN_GUEST_ECHO) "--serial tty");
	fd_expect(pty.master, "hello\r\n"); /* output processing stays: our own lines need it */
	assert_true(pty_raw(&pty));
	type(pty.master, "abc\x03\x1a"); /* Ctrl-C and Ctrl-Z are the guest's */
	fd_expect(pty.master, "abc\x03\x1a");
	type(pty.master, "\x01\x01y\x01z"); /* Ctrl-A twice is one; before others it is nothing */
	fd_expect(pty.master, "\x01yz");
	type(pty.master, "\x01x");
	assert_int_equal(vm_wait(), 0);
	assert_pty_restored(&pty, "Ctrl-A x");
	pty_close(&pty);
}

/* A terminal that takes nothing (as after Ctrl-S) holds up the guest's output and nothing else: the main thread
 * still sees three boots, and the end. */
static void test_stopped_terminal(void **state)
{
	struct pty pty;

	(void)state;
	if (!kvm_or_skip())
		return;
	pty_open(&pty);
	assert_int_equal(tcflow(pty.slave, TCOOFF), 0);
	vm_start(pty.slave, pty.slave, GUEST(RUN_GUEST_RESET) "--serial tty");
	assert_int_equal(vm_wait(), 0);
	assert_pty_restored(&pty, "a power-off");
	vm_start(pty.slave, pty.slave,
		 GUEST(RUN_GUEST_CYCLE) "--serial tty --log-file log --log-level info");
	AWAIT(file_count("log", "asked for a reset") >= 3);
	assert_int_equal(fcntl(pty.slave, F_GETFL) & O_NONBLOCK, 0); /* it is shared */
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_pty_restored(&pty, "SIGTERM");
	/* Also by a crash while a write to it is on its way. */
	vm_start(pty.slave, pty.slave,
		 GUEST(RUN_GUEST_CYCLE) "--serial tty --log-file log2 --log-level info");
	AWAIT(file_count("log2", "asked for a reset") >= 3);
	assert_int_equal(vm_end(SIGALRM), 128 + SIGALRM);
	assert_pty_restored(&pty, "SIGALRM");
	pty_close(&pty);
}

/* ---- pipes and files ---- */

static void read_letters(int fd, size_t count)
{
	size_t seen = 0;
	char text[700];

	while (seen < count) {
		const size_t left = count - seen;
		const ssize_t n = read(fd, text, left < sizeof(text) ? left : sizeof(text));

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(text[i], "abcdefghijklmnopqrstuvwxyz"[seen++ % 26]);
	}
}

/* A reader that comes late gets everything: the guest waited.  One that stays away delays no end. */
static void test_stuck_pipe(void **state)
{
	int fds[2], flags, left = 0;
	char again[32];

	(void)state;
	if (!kvm_or_skip())
		return;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) == 4096);
	flags = fcntl(fds[1], F_GETFL);
	vm_start(-1, fds[1], GUEST(RUN_GUEST_FLOOD) "--serial tty");
	AWAIT(ioctl(fds[0], FIONREAD, &left) == 0 && left > 0);
	read_letters(fds[0], 8192);
	AWAIT(ioctl(fds[0], FIONREAD, &left) == 0 && left > 0);
	assert_int_equal(vm_end(SIGTERM), 0);
	snprintf(again, sizeof(again), "/proc/self/fd/%d", fds[1]);
	fill(open(again, O_WRONLY | O_CLOEXEC | O_NONBLOCK));
	for (int i = 0; i < 2; i++) { /* the second time somebody else made it non-blocking */
		vm_start(-1, fds[1], GUEST(RUN_GUEST_RESET) "--serial tty");
		assert_int_equal(vm_wait(), 0);
		assert_int_equal(fcntl(fds[1], F_GETFL), flags);
		flags |= O_NONBLOCK;
		assert_int_equal(fcntl(fds[1], F_SETFL, flags), 0);
	}
	/* A reader that went away does not stop the guest. */
	close(fds[0]);
	vm_start(-1, fds[1], GUEST(RUN_GUEST_RESET) "--serial tty");
	assert_int_equal(vm_wait(), 0);
	close(fds[1]);
}

static void test_file(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	file_write("out", "before\n", 7);
	vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial file:out");
	AWAIT(strcmp(file_text("out"), "before\nhello\n") == 0);
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_string_equal(file_text("out"), "before\nhello\n");
	/* A FIFO that nobody reads must not hold up the start for ever. */
	assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
	vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial file:fifo");
	assert_int_equal(vm_wait(), 1);
	assert_non_null(strstr(vm_errors(), "serial: cannot open the output file fifo: "));
}

/* ---- sockets ---- */

static void test_socket(void **state)
{
	char c;
	int fd = -1, second;

	(void)state;
	if (!kvm_or_skip())
		return;
	vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial unix:tty");
	AWAIT((fd = connect_to("tty")) >= 0);
	assert_int_equal(file_mode("tty"), 0600);
	type(fd, "#");
	for (c = 0; c != '#';) /* the greeting comes before, or came when nobody listened */
		AWAIT(recv(fd, &c, 1, MSG_DONTWAIT) == 1);
	type(fd, "first");
	fd_expect(fd, "first");
	second = connect_to("tty");
	assert_int_equal(read(second, &c, 1), 0); /* refused */
	close(second);
	type(fd, "still");
	fd_expect(fd, "still");
	close(fd);
	/* Then another may come; until the first is noticed to be gone it is refused. */
	AWAIT((fd = connect_to("tty")) >= 0 && write(fd, "next", 4) == 4 &&
	      (read(fd, &c, 1) == 1 || (close(fd), false)));
	fd_expect(fd, "ext");
	assert_int_equal(vm_end(SIGTERM), 0);
	close(fd);
	assert_false(file_there("tty"));
}

static void refused(const char *words, const char *says)
{
	vm_start(-1, -1, "%s", words);
	assert_int_equal(vm_wait(), 1);
	if (strstr(vm_errors(), says) == NULL)
		fail_msg("%s: %s", words, vm_errors());
	assert_ptr_equal(strchr(vm_errors(), '\n'), vm_errors() + strlen(vm_errors()) - 1);
}

/* What is left of a VMM that was killed is in nobody's way; what is somebody's stays. */
static void test_stale_socket(void **state)
{
	pid_t first;

	(void)state;
	if (!kvm_or_skip())
		return;
	for (int i = 0; i < 2; i++) {
		vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial unix:tty");
		AWAIT(answers("tty"));
		assert_int_equal(vm_end(SIGKILL), 128 + SIGKILL);
		assert_true(file_there("tty") && file_there("state/api.sock"));
	}
	vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial unix:tty");
	AWAIT(answers("tty"));
	first = vm.pid;
	vm.pid = 0;
	refused("--state-dir other --kernel kernel --console off --serial unix:tty",
		"serial: cannot listen on the socket tty: somebody listens there");
	file_write("file", "mine", 4);
	refused("--state-dir other --kernel kernel --console off --serial unix:file",
		"serial: cannot listen on the socket file: something is there that is not a socket");
	assert_string_equal(file_text("file"), "mine");
	refused("--state-dir other --api-socket file", "not a socket");
	refused(GUEST(RUN_GUEST_OFF), "another VM runs in state");
	vm.pid = first;
	assert_true(answers("tty"));
	assert_int_equal(vm_end(SIGTERM), 0);
}

/* ---- the state directory, the log ---- */

static void test_state_dir_refused(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(mkdir(in_dir("wide"), 0700), 0);
		assert_int_equal(chmod(in_dir("wide"), i == 0 ? 0777 : 0770), 0);
		refused("--state-dir wide",
			i == 0 ? "the state directory wide can be written by others (mode 0777): "
				 "chmod it to 0700, or give another --state-dir"
			       : "(mode 0770)");
		assert_int_equal(rmdir(in_dir("wide")), 0); /* nothing was put into it */
	}
	assert_int_equal(mkdir(in_dir("own"), 0700), 0);
	assert_int_equal(symlink("own", in_dir("link")), 0);
	refused("--state-dir link", "link is no directory (a link is not followed): give another");
	refused("--state-dir link//", "link is no directory");
	file_write("file", "", 0);
	refused("--state-dir file", "file is no directory");
	if (geteuid() == 0) {
		assert_int_equal(chown(in_dir("own"), 61001, 61001), 0);
		refused("--state-dir own", "own belongs to user 61001: give another --state-dir\n");
	} else {
		refused("--state-dir /usr", "/usr belongs to user ");
	}
}

static void test_state_dir(void **state)
{
	const mode_t mask = umask(0);
	char pid[16];

	(void)state;
	vm_start(-1, -1, "--state-dir a/b/state");
	umask(mask);
	AWAIT(answers("a/b/state/api.sock"));
	assert_int_equal(file_mode("a/b/state"), 0700);
	assert_int_equal(file_mode("a"), 0700);
	assert_int_equal(file_mode("a/b/state/api.sock"), 0600);
	snprintf(pid, sizeof(pid), "%d\n", vm.pid);
	assert_string_equal(file_text("a/b/state/pid"), pid);
	assert_int_equal(file_mode("a/b/state/pid"), 0600);
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_false(file_there("a/b/state"));
	/* One of ours that others can only read does. */
	assert_int_equal(mkdir(in_dir("read"), 0755), 0);
	assert_int_equal(chmod(in_dir("read"), 0755), 0);
	vm_start(-1, -1, "--state-dir read/");
	AWAIT(answers("read/api.sock"));
	assert_int_equal(vm_end(SIGTERM), 0);
	/* A file of somebody's in it keeps it. */
	vm_start(-1, -1, "--state-dir a/kept");
	AWAIT(answers("a/kept/api.sock"));
	file_write("a/kept/note", "", 0);
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_true(file_there("a/kept/note") && !file_there("a/kept/pid"));
}

static void test_log_file(void **state)
{
	(void)state;
	file_write("log", "before\n", 7);
	assert_int_equal(chmod(in_dir("log"), 0640), 0);
	for (unsigned int i = 1; i <= 2; i++) {
		vm_start(-1, -1, "--state-dir state --log-level info --log-file log");
		AWAIT(answers("state/api.sock"));
		assert_int_equal(vm_end(SIGTERM), 0);
		assert_int_equal(file_count("log", "asked to end by signal 15\n"), i);
		assert_nothing_said();
	}
	assert_int_equal(file_count("log", "before\n"), 1);
	assert_int_equal(file_mode("log"), 0640);
	vm_start(-1, -1, "--state-dir state --log-level info --log-file new");
	AWAIT(answers("state/api.sock"));
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_int_equal(file_mode("new"), 0600);
	vm_start(-1, -1, "--state-dir state --log-level info");
	AWAIT(answers("state/api.sock"));
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_non_null(strstr(vm_errors(), "asked to end by signal 15\n"));
	refused("--state-dir state --log-file none/log", "cannot open the log file none/log: ");
}

/* ---- the schedule ---- */

#define EVERY_MS 80
#define LEAST_MS 40 /* with the jitter below */
#define PASSAGES_WANTED 12

static unsigned int passages(const char *id)
{
	char text[64];

	snprintf(text, sizeof(text), "%s: generation ", id);
	return file_count("log", text);
}

/* The guest notices nothing: each byte comes back once, through many generations. */
static void test_rejuvenate(void **state)
{
	unsigned int typed = 0, n;
	struct pty pty;

	(void)state;
	if (!kvm_or_skip())
		return;
	pty_open(&pty);
	vm_start(pty.slave, pty.slave,
		 GUEST(RUN_GUEST_ECHO) "--serial tty --rejuvenate %dms,jitter=0.5 "
				       "--log-file log --log-level info",
		 EVERY_MS);
	fd_expect(pty.master, "hello\r\n");
	do {
		const char text[] = { (char)('a' + typed++ % 26), '\0' };

		type(pty.master, text);
		fd_expect(pty.master, text);
		n = passages("serial");
		/* Not sooner than the jitter allows; the first comes after a whole period. */
		assert_true(n * LEAST_MS * NS_PER_MS <= now_ns() - vm.born);
		if (now_ns() - vm.born > WAIT_S * NS_PER_S)
			fail_msg("%u replacements in %d s", n, WAIT_S);
	} while (n < PASSAGES_WANTED);
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_int_equal(file_count("log", ": schedule, fence parked"), passages("serial"));
	assert_int_equal(passages("rng"), 0);
	pty_close(&pty);
}

#define SPREAD_MS 800

/* Two devices with one period: the second begins half a period after the first. */
static void test_rejuvenate_staggered(void **state)
{
	uint64_t rng, serial;

	(void)state;
	if (!kvm_or_skip())
		return;
	vm_start(-1, -1,
		 GUEST(RUN_GUEST_DRIVER) "--rng --serial file:out --rejuvenate %dms,jitter=0 "
					 "--log-file log --log-level info",
		 SPREAD_MS);
	AWAIT(strcmp(file_text("out"), "hello\n") == 0);
	AWAIT(passages("rng") >= 1);
	rng = now_ns() - vm.born;
	AWAIT(passages("serial") >= 1);
	serial = now_ns() - vm.born;
	AWAIT(passages("rng") >= 2 && passages("serial") >= 2);
	assert_true(rng >= SPREAD_MS / 2 * NS_PER_MS);
	assert_true(serial >= SPREAD_MS * NS_PER_MS);
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_int_equal(file_count("log", ": schedule, "), passages("rng") + passages("serial"));
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, vm_setup, vm_teardown)
	const struct CMUnitTest tests[] = {
		RUN_TEST(test_exit_status),
		RUN_TEST(test_reboots_in_place),
		RUN_TEST(test_orderly_ends),
		RUN_TEST(test_ignored_signals),
		RUN_TEST(test_power_button),
		RUN_TEST(test_terminal_is_restored),
		RUN_TEST(test_terminal),
		RUN_TEST(test_stopped_terminal),
		RUN_TEST(test_stuck_pipe),
		RUN_TEST(test_file),
		RUN_TEST(test_socket),
		RUN_TEST(test_stale_socket),
		RUN_TEST(test_state_dir_refused),
		RUN_TEST(test_state_dir),
		RUN_TEST(test_log_file),
		RUN_TEST(test_rejuvenate),
		RUN_TEST(test_rejuvenate_staggered),
	};

	return cmocka_run_group_tests_name("run_vm", tests, NULL, NULL);
}
