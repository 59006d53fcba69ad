/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly vhost-user` as a process: it says that it is ready, answers its API, has its state directory for
 * itself, ends when it is told to, and leaves nothing.  What it serves is other tests'.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cc.h"
#include "tests/host/apidoc.h"
#include "tests/rig/mayfly.h"

static char dir[64];
static char words[384]; /* of every call */
static int notify = -1, err = -1;
static pid_t pid;

static void hears(const char *want)
{
	const struct timeval wait = { .tv_sec = 10 };
	char text[256];
	ssize_t n;

	assert_int_equal(setsockopt(notify, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	n = recv(notify, text, sizeof(text) - 1, 0);
	assert_true(n > 0);
	text[n] = '\0';
	assert_memory_equal(text, want, strlen(want));
}

static void listen_for_news(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", dir);
	notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(notify, (const struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
}

static void test_life(void **state)
{
	struct mayfly_result second;

	(void)state;
	listen_for_news();
	assert_int_equal(mayfly_start(words, sock, err, &pid), 0);
	hears("READY=1");
	unsetenv("NOTIFY_SOCKET");
	takes("GET", "/", NULL);
	answer_fits("GET", "/");
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "Running");
	assert_string_equal(json_string_value(json_object_get(answer, "id")), "back");
	takes("GET", "/vm/config", NULL);
	answer_fits("GET", "/vm/config");
	refuses("PATCH", "/vm", "{\"state\":\"Paused\"}", 400,
		"PATCH /vm: this is a vhost-user back-end");
	assert_int_equal(mayfly_call(words, &second), 0);
	assert_int_equal(second.status, 1);
	assert_memory_equal(second.err, "mayfly vhost-user: another back-end runs in ", 44);
	assert_int_equal(mayfly_stop(pid), 0);
	hears("STOPPING=1");
	close(notify);
}

static void test_complaints(void **state)
{
	static const struct {
		const char *words, *err;
		int status;
	} calls[] = {
		{ "vhost-user", "mayfly vhost-user: no device: give blk or rng", 2 },
		{ "vhost-user rng", "mayfly vhost-user: rng: needs a socket", 2 },
		{ "vhost-user --config /nowhere",
		  "mayfly vhost-user: /nowhere: cannot open: No such file", 1 },
	};
	struct mayfly_result result;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		assert_int_equal(mayfly_call(calls[i].words, &result), 0);
		assert_int_equal(result.status, calls[i].status);
		assert_string_equal(result.out, "");
		assert_memory_equal(result.err, calls[i].err, strlen(calls[i].err));
	}
}

/* Somebody is to be told, and is not there. */
static void test_nobody_listens(void **state)
{
	struct mayfly_result result;

	(void)state;
	setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
	assert_int_equal(mayfly_call(words, &result), 0);
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(result.status, 1);
	assert_non_null(strstr(result.err, "mayfly vhost-user: NOTIFY_SOCKET: cannot connect"));
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-vhost-XXXXXX");
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	err = memfd_create("err", MFD_CLOEXEC);
	if (document == NULL || err < 0 || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	snprintf(
		words, sizeof(words),
		"vhost-user rng --socket %s/rng.sock --id back --state-dir %s/state --api-socket %s",
		dir, dir, sock);
	return 0;
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/notify", dir);
	unlink(path);
	json_decref(answer);
	json_decref(document);
	close(err);
	return rmdir(dir); /* sockets and state went with it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_nobody_listens),
	};

	return cmocka_run_group_tests_name("vhost process", tests, setup, teardown);
}
