/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets and notifications of systemd's, with this test in systemd's place. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/vhost/activation.h"

#define FIRST 3

static struct activation a;
static struct option_error error;
static char dir[] = "/tmp/mayfly-activation-XXXXXX";

static void say(const char *name, const char *value)
{
	if (value != NULL)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

static void say_pid(pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	say("LISTEN_PID", text);
}

/* A socket at descriptor FIRST + i, not closed on exec. */
static void give(int i, int domain, int type, bool listening)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	const int fd = socket(domain, type, 0);

	assert_true(fd >= 0);
	if (listening) {
		if (domain == AF_UNIX)
			assert_int_equal(
				bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)), 0);
		assert_int_equal(listen(fd, 1), 0);
	}
	assert_int_equal(dup2(fd, FIRST + i), FIRST + i);
	if (fd != FIRST + i)
		close(fd);
}

static void give_good(int i)
{
	give(i, AF_UNIX, SOCK_STREAM, true);
}

static void open_all(const char *count, const char *names)
{
	say_pid(getpid());
	say("LISTEN_FDS", count);
	say("LISTEN_FDNAMES", names);
	if (activation_open(&a, &error) != 0)
		fail_msg("%s %s: %s", count, names != NULL ? names : "", error.text);
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
}

static void refuses(const char *count, const char *names, const char *words)
{
	say_pid(getpid());
	say("LISTEN_FDS", count);
	say("LISTEN_FDNAMES", names);
	assert_int_equal(activation_open(&a, &error), -EINVAL);
	assert_string_equal(error.text, words);
	assert_null(getenv("LISTEN_FDS"));
	activation_close(&a);
}

static int clean(void **state)
{
	(void)state;
	activation_close(&a);
	for (int fd = FIRST; fd < FIRST + 4; fd++)
		close(fd);
	say("NOTIFY_SOCKET", NULL);
	return 0;
}

/* ---- sockets ---- */

static void test_none(void **state)
{
	(void)state;
	say("LISTEN_PID", NULL);
	say("LISTEN_FDS", NULL);
	assert_int_equal(activation_open(&a, &error), 0);
	assert_int_equal(a.count, 0);
	assert_int_equal(activation_take(&a, "a", true, &error), -ENOENT);
	assert_int_equal(activation_notify(&a, "READY=1"), 0);
	/* Of somebody else, who forgot to unset it. */
	say_pid(getppid());
	say("LISTEN_FDS", "2");
	assert_int_equal(activation_open(&a, &error), 0);
	assert_int_equal(a.count, 0);
	assert_null(getenv("LISTEN_FDS"));
	open_all("0", NULL);
	assert_int_equal(a.count, 0);
}

static void test_by_name(void **state)
{
	(void)state;
	give_good(0);
	give_good(1);
	open_all("2", "disk:rng");
	assert_int_equal(fcntl(FIRST, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(FIRST + 1, F_GETFD), FD_CLOEXEC);
	assert_int_equal(activation_take(&a, "rng", false, &error), FIRST + 1);
	assert_int_equal(activation_take(&a, "rng", false, &error), -ENOENT);
	assert_int_equal(activation_take(&a, "disk2", true, &error), -ENOENT);
	assert_string_equal(error.text,
			    "disk2: no socket of systemd's has this name (FileDescriptorName=)");
	/* What was taken is the taker's. */
	activation_close(&a);
	assert_int_equal(fcntl(FIRST + 1, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(FIRST, F_GETFD), -1);
}

static void test_only_one(void **state)
{
	(void)state;
	give_good(0);
	open_all("1", NULL);
	assert_int_equal(activation_take(&a, "disk", false, &error), -ENOENT);
	assert_int_equal(activation_take(&a, "disk", true, &error), FIRST);
	assert_int_equal(activation_take(&a, "disk", true, &error), -ENOENT);
	open_all("1", "unknown");
	assert_int_equal(activation_take(&a, "disk", true, &error), FIRST);
}

static void test_wrong_sockets(void **state)
{
	static const struct {
		int domain, type;
		bool listening;
	} wrong[] = {
		{ AF_UNIX, SOCK_STREAM, false },
		{ AF_UNIX, SOCK_DGRAM, false },
		{ AF_UNIX, SOCK_SEQPACKET, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		give(0, wrong[i].domain, wrong[i].type, wrong[i].listening);
		open_all("1", "d");
		assert_int_equal(activation_take(&a, "d", true, &error), -EINVAL);
		assert_string_equal(error.text, "d: descriptor 3 ('d') is not a unix stream "
						"socket that listens");
		activation_close(&a);
	}
	assert_int_equal(dup2(open("/dev/null", O_RDONLY), FIRST), FIRST);
	open_all("1", "d");
	assert_int_equal(activation_take(&a, "d", true, &error), -EINVAL);
}

static void test_malformed(void **state)
{
	char names[400];

	(void)state;
	give_good(0);
	give_good(1);
	refuses("two", NULL, "LISTEN_FDS: 'two' is not a number");
	refuses("-1", NULL, "LISTEN_FDS: '-1' is not a number");
	refuses(" 1", NULL, "LISTEN_FDS: ' 1' is not a number");
	refuses("", NULL, "LISTEN_FDS: '' is not a number");
	refuses("65", NULL, "LISTEN_FDS: more than 64");
	refuses("18446744073709551617", NULL, "LISTEN_FDS: '18446744073709551617' is not a number");
	refuses("64", NULL, "LISTEN_FDS: descriptor 5 is not open");
	refuses("2", "a", "LISTEN_FDNAMES: fewer than LISTEN_FDS");
	refuses("2", "a:b:c", "LISTEN_FDNAMES: more than LISTEN_FDS, or longer than 255 bytes");
	memset(names, 'x', sizeof(names) - 1);
	names[sizeof(names) - 1] = '\0';
	refuses("1", names, "LISTEN_FDNAMES: more than LISTEN_FDS, or longer than 255 bytes");
	say("LISTEN_PID", "1x");
	say("LISTEN_FDS", "1");
	assert_int_equal(activation_open(&a, &error), -EINVAL);
	assert_string_equal(error.text, "LISTEN_PID: '1x' is not a number");
}

/* ---- notification ---- */

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (const struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))),
			 0);
	return fd;
}

static void told(const char *path)
{
	cleanup_fd int fd = listen_at(path);
	char text[64];
	ssize_t n;

	say("NOTIFY_SOCKET", path);
	open_all("0", NULL);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_int_equal(activation_notify(&a, "READY=1\nSTATUS=well"), 0);
	n = recv(fd, text, sizeof(text), 0);
	assert_int_equal(n, strlen("READY=1\nSTATUS=well"));
	assert_memory_equal(text, "READY=1\nSTATUS=well", n);
	/* Nobody there any more: it says so, and does not die of it. */
	cc_close(&fd);
	assert_int_not_equal(activation_notify(&a, "STOPPING=1"), 0);
	activation_close(&a);
	assert_int_equal(a.notify, -1);
}

static void test_notify(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/notify", dir);
	told(path);
	unlink(path);
	snprintf(path, sizeof(path), "@mayfly-test-%d", getpid());
	told(path);
}

static void test_notify_refused(void **state)
{
	char path[200];

	(void)state;
	say("LISTEN_FDS", NULL);
	say("NOTIFY_SOCKET", "vsock:2:1234");
	assert_int_equal(activation_open(&a, &error), -EAFNOSUPPORT);
	assert_null(getenv("NOTIFY_SOCKET"));
	say("NOTIFY_SOCKET", "@");
	assert_int_equal(activation_open(&a, &error), -EAFNOSUPPORT);
	snprintf(path, sizeof(path), "%s/nobody", dir);
	say("NOTIFY_SOCKET", path);
	assert_int_equal(activation_open(&a, &error), -ENOENT);
	assert_non_null(strstr(error.text, path));
	memset(path, '/', 150);
	path[150] = '\0';
	say("NOTIFY_SOCKET", path);
	assert_int_equal(activation_open(&a, &error), -ENAMETOOLONG);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_none, clean),
		cmocka_unit_test_teardown(test_by_name, clean),
		cmocka_unit_test_teardown(test_only_one, clean),
		cmocka_unit_test_teardown(test_wrong_sockets, clean),
		cmocka_unit_test_teardown(test_malformed, clean),
		cmocka_unit_test_teardown(test_notify, clean),
		cmocka_unit_test_teardown(test_notify_refused, clean),
	};

	return cmocka_run_group_tests_name("activation", tests, setup, teardown);
}
