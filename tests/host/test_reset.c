/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that resets its machine as fast as it can: it is let five times, then once a second, with a
 * line in the log for each and no more generations than that; and the VM can be talked to, paused and
 * ended meanwhile.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/cc.h"
#include "core/http.h"
#include "tests/host/kvm_guest.h"
#include "tests/rig/mayfly.h"
#include "tests/unit/kernelfile.h"

#define BURST 5
#define WAIT_S 30

static char dir[64], sock[96];
static json_t *answer; /* the last one */
static pid_t vm;
static int err = -1;
static uint64_t born;

/* Lines that the VM has said; each has this text. */
static uint32_t lines(const char *text)
{
	static char said[1 << 16];
	const ssize_t n = pread(err, said, sizeof(said) - 1, 0);
	uint32_t count = 0;

	assert_true(n >= 0);
	said[n] = '\0';
	for (char *line = strtok(said, "\n"); line != NULL; line = strtok(NULL, "\n"), count++) {
		if (strstr(line, text) == NULL)
			fail_msg("'%s' does not speak of '%s'", line, text);
	}
	return count;
}

static void await_lines(const char *text, uint32_t count)
{
	while (lines(text) < count) {
		if (now_ns() - born > WAIT_S * NS_PER_S)
			fail_msg("%u lines in %d s", lines(text), WAIT_S);
		usleep(1000);
	}
}

static void takes(const char *method, const char *path, const char *body)
{
	struct http_answer got;
	const int ret = http_ask(sock, method, path, body, WAIT_S, &got);

	if (ret != 0)
		fail_msg("%s %s: %s", method, path, strerror(-ret));
	json_decref(answer);
	answer = json_loadb(got.body, got.bytes, JSON_DECODE_ANY, NULL);
	if (got.status / 100 != 2)
		fail_msg("%s %s %s: %u", method, path, body != NULL ? body : "", got.status);
	free(got.body);
}

static void start(const char *mode)
{
	char words[512];

	assert_int_equal(ftruncate(err, 0), 0);
	lseek(err, 0, SEEK_SET);
	snprintf(
		words, sizeof(words),
		"run --kernel %s/kernel --cmdline %s --memory 16M --console off --serial file:%s/serial "
		"--disk id=disk,path=%s/image --state-dir %s/state --api-socket %s --log-level error",
		dir, mode, dir, dir, dir, sock);
	born = now_ns();
	assert_int_equal(mayfly_start(words, sock, err, &vm), 0);
}

static void stop(void)
{
	const pid_t pid = vm;

	vm = 0;
	assert_int_equal(mayfly_stop(pid), 0);
}

static int end(void **state)
{
	(void)state;
	if (vm > 0)
		(void)mayfly_stop(vm);
	vm = 0;
	return 0;
}

static void test_spinning(void **state)
{
	static const char *const crash = "triple fault";

	(void)state;
	start("t");
	await_lines(crash, BURST + 1); /* the last of them waits for its reset */
	await_lines(crash, BURST + 4);
	/* From the first, which came after `born`: three more, at a second each. */
	assert_true(now_ns() - born >= 3 * NS_PER_S);
	takes("GET", "/devices/serial", NULL);
	const uint64_t seconds = (now_ns() - born) / NS_PER_S;

	assert_in_range(json_integer_value(json_object_get(answer, "generation")), 1,
			BURST + seconds + 2);
	assert_in_range(lines(crash), BURST + 4, BURST + seconds + 2);
	stop();
}

/* As often as one likes while a reset is awaited, which takes the most part of each second. */
static void test_talking(void **state)
{
	(void)state;
	start("t");
	await_lines("triple fault", BURST + 1);
	const uint64_t begun = now_ns();

	for (int i = 0; i < 40; i++) {
		takes("PATCH", "/vm", "{\"state\":\"Paused\"}");
		takes("GET", "/devices", NULL);
		takes("PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
		takes("PATCH", "/vm", "{\"state\":\"Resumed\"}");
	}
	/* Had each waited for a reset, it would have been a second and more apiece. */
	assert_true(now_ns() - begun < 20 * NS_PER_S);
	/* A reset does not end a pause. */
	takes("PATCH", "/vm", "{\"state\":\"Paused\"}");
	const uint32_t before = lines("triple fault");

	usleep(2200000);
	/* One may have been on its way to the log. */
	assert_in_range(lines("triple fault"), before, before + 1);
	takes("GET", "/", NULL);
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "Paused");
	takes("PATCH", "/vm", "{\"state\":\"Resumed\"}");
	await_lines("triple fault", before + 2);
	stop(); /* with a reset awaited */
}

static int setup(void **state)
{
	static uint8_t file[8192];
	char path[128];
	const size_t bytes =
		kernelfile_bzimage(file, kvm_guest, (kvm_guest_bytes() + 15) / 16 * 16);

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-reset-XXXXXX");
	err = memfd_create("err", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (mkdtemp(dir) == NULL || err < 0)
		return -1;
	snprintf(sock, sizeof(sock), "%s/sock", dir);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, i == 0 ? "kernel" : "image");
		const size_t n = i == 0 ? bytes : 4096;
		cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0 || write(fd, file, n) != (ssize_t)n)
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "kernel", "image", "serial" };
	char path[128];

	(void)state;
	json_decref(answer);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	return rmdir(dir); /* no socket, no state directory */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_spinning, end),
		cmocka_unit_test_teardown(test_talking, end),
	};
	const char *why;

	if (!mayfly_kvm_usable(&why)) {
		printf("%s\n", why);
		return 77;
	}
	return cmocka_run_group_tests_name("reset", tests, setup, teardown);
}
