/* SPDX-License-Identifier: Apache-2.0 */
/* Several spawners at once, as a back-end has them: apart from each other, and all or none. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/box/spawn.h"
#include "core/cc.h"
#include "tests/rig/fds.h"

#define FEW 3
#define MOST 32 /* a back-end's */

static char dir[] = "/tmp/mayfly-spawners-XXXXXX"; /* without programs */
static struct spawner spawners[MOST];
static uint32_t asked; /* times that `before` was */
static int answer;

static int before_fn(void *ctx, const char **what)
{
	assert_ptr_equal(ctx, &asked);
	asked++;
	*what = "be asked";
	return answer;
}

static const struct spawner_before before = { before_fn, &asked };

static int start(uint32_t count, const char *programs, const char **what)
{
	asked = 0;
	*what = "";
	return spawners_start(spawners, count, programs, &before, what);
}

static void stop(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		spawner_stop(&spawners[i]);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* There are no programs; that it says so shows that it lives. */
static void serves(const struct spawner *s, uint64_t cookie)
{
	struct pollfd poll_fd = { .fd = s->socket, .events = POLLIN };
	struct spawn_reply reply;
	const int fd = STDERR_FILENO;

	assert_int_equal(spawner_request(s, cookie, DEV_KIND_BLK, &fd, 1), 0);
	assert_int_equal(poll(&poll_fd, 1, 5000), 1);
	assert_int_equal(spawner_reply(s, &reply), 1);
	assert_int_equal(reply.cookie, cookie);
	assert_int_equal(reply.error, ENOENT);
}

static void namespace_of(pid_t pid, const char *name, char text[64])
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	n = readlink(path, text, 63);
	assert_true(n > 0);
	text[n] = '\0';
}

static void test_apart(void **state)
{
	static const char *const names[] = { "net", "mnt", "ipc", "uts", "cgroup" };
	char one[64], other[64];
	const char *what;

	(void)state;
	assert_int_equal(start(FEW, dir, &what), 0);
	assert_int_equal(asked, 1);
	for (uint32_t i = 0; i < FEW; i++) {
		serves(&spawners[i], 100 + i);
		for (uint32_t k = 0; k < ARRAY_SIZE(names); k++) {
			namespace_of(spawners[i].pid, names[k], one);
			namespace_of(spawners[(i + 1) % FEW].pid, names[k], other);
			assert_string_not_equal(one, other);
		}
	}
	/* The end of one is not the others'. */
	spawner_stop(&spawners[1]);
	serves(&spawners[0], 7);
	serves(&spawners[2], 8);
	stop(FEW);
}

static void test_most(void **state)
{
	const uint32_t descriptors = fds_open(0);
	const char *what;

	(void)state;
	assert_int_equal(start(MOST, dir, &what), 0);
	assert_int_equal(fds_open(0), descriptors + 2 * MOST);
	for (uint32_t i = 0; i < MOST; i++)
		serves(&spawners[i], i);
	stop(MOST);
	assert_int_equal(fds_open(0), descriptors);
}

static void test_all_or_none(void **state)
{
	const uint32_t descriptors = fds_open(0);
	const char *what;

	(void)state;
	answer = -EPERM;
	assert_int_equal(start(FEW, dir, &what), -EPERM);
	assert_string_equal(what, "be asked");
	answer = 0;
	assert_int_equal(start(FEW, "/nowhere/at/all", &what), -ENOENT);
	assert_string_equal(what, "open the device programs");
	for (uint32_t i = 0; i < FEW; i++)
		assert_int_equal(spawners[i].socket, -1);
	stop(FEW);
	assert_int_equal(fds_open(0), descriptors);
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
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_most),
		cmocka_unit_test(test_all_or_none),
	};

	return cmocka_run_group_tests_name("spawners", tests, setup, teardown);
}
