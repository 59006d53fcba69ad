/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /balloon over the API, before the start and while a guest runs that has no driver for it: what is
 * taken, what is refused, what is remembered.  What a driver does with it is test_balloon.c's.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"
#include "tests/host/apidoc.h"
#include "tests/host/kvm_guest.h"
#include "tests/host/kvm_skip.h"
#include "tests/rig/mayfly.h"
#include "tests/unit/kernelfile.h"

#define MEMORY_MIB 64

static char dir[64];
static pid_t vm;
static int vm_err;

static json_int_t number(const char *key)
{
	return json_integer_value(json_object_get(answer, key));
}

static void answers(const char *path)
{
	takes("GET", path, NULL);
	answer_fits("GET", path);
}

/* ---- before the start ---- */

static const struct {
	const char *method, *path, *body;
	unsigned int status;
	const char *begin;
} bad[] = {
#define PUT "PUT", "/balloon"
#define PATCH "PATCH", "/balloon"
#define STATS "PATCH", "/balloon/statistics"
#define WITH(more) "{\"amount_mib\":1,\"deflate_on_oom\":true," more "}"
	{ PUT, "{\"deflate_on_oom\":true}", 400, "amount_mib: must be given" },
	{ PUT, "{\"amount_mib\":1}", 400, "deflate_on_oom: must be given" },
	{ PUT, "{\"amount_mib\":1.5,\"deflate_on_oom\":true}", 400, "amount_mib: is not a whole" },
	{ PUT, "{\"amount_mib\":-1,\"deflate_on_oom\":true}", 400, "amount_mib: -1 is not" },
	{ PUT, WITH("\"stats_polling_interval_s\":-1"), 400, "stats_polling_interval_s: -1" },
	{ PUT, WITH("\"stats_polling_interval_s\":65536"), 400, "stats_polling_interval_s: 65536" },
	{ PUT, WITH("\"free_page_reporting\":1"), 400, "free_page_reporting: is not true" },
	{ PUT, WITH("\"free_page_hinting\":true"), 400, "free_page_hinting: true is not" },
	{ PUT, WITH("\"acknowledge_on_stop\":true"), 400, "acknowledge_on_stop: unknown key" },
	{ PATCH, "{}", 400, "amount_mib: must be given" },
	{ PATCH, "{\"amount_mib\":\"1\"}", 400, "amount_mib: is not a whole" },
	{ PATCH, "{\"amount_mib\":1,\"deflate_on_oom\":true}", 400, "deflate_on_oom: unknown key" },
	{ PATCH, "{\"amount_mib\":16777216}", 400, "amount_mib: 16777216 is not between" },
	{ STATS, "{}", 400, "stats_polling_interval_s: must be given" },
	{ STATS, "{\"stats_polling_interval_s\":65536}", 400, "stats_polling_interval_s: 65536" },
};

/* Running: PUT is refused whatever it says. */
static void refuses_all(bool running)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (running && strcmp(bad[i].method, "PUT") == 0)
			continue;
		refuses(bad[i].method, bad[i].path, bad[i].body, bad[i].status, bad[i].begin);
		answer_fits(bad[i].method, bad[i].path);
		assert_null(strchr(fault(), '\n'));
	}
}

static void test_there_is_none(void **state)
{
	(void)state;
	refuses_all(false);
	refuses("GET", "/balloon", NULL, 404, "balloon: the VM has none");
	answer_fits("GET", "/balloon");
	refuses("GET", "/balloon/statistics", NULL, 404, "balloon: the VM has none");
	answer_fits("GET", "/balloon/statistics");
	refuses("PATCH", "/balloon", "{\"amount_mib\":1}", 404, "balloon: the VM has none");
	refuses("PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":1}", 404,
		"balloon: the VM has none");
	takes("GET", "/vm/config", NULL);
	assert_null(json_object_get(answer, "balloon"));
}

static void test_configuration(void **state)
{
	json_t *before;

	(void)state;
	takes("PUT", "/balloon",
	      "{\"amount_mib\":8,\"deflate_on_oom\":true,\"stats_polling_interval_s\":2,"
	      "\"free_page_reporting\":true}");
	answers("/balloon");
	assert_int_equal(number("amount_mib"), 8);
	assert_int_equal(number("stats_polling_interval_s"), 2);
	assert_true(json_is_true(json_object_get(answer, "free_page_reporting")));
	takes("PATCH", "/balloon", "{\"amount_mib\":16}");
	takes("PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":1}");
	answers("/balloon");
	before = json_incref(answer);
	assert_int_equal(number("amount_mib"), 16);
	assert_int_equal(number("stats_polling_interval_s"), 1);
	refuses_all(false);
	answers("/balloon");
	assert_true(json_equal(before, answer));
	json_decref(before);
	answers("/vm/config");
	assert_non_null(json_object_get(answer, "balloon"));
	refuses("GET", "/balloon/statistics", NULL, 409, "balloon: the VM was not started");
	answer_fits("GET", "/balloon/statistics");
}

/* ---- running ---- */

static void start(void)
{
	static uint8_t file[8192];
	const size_t payload = kvm_guest_bytes();
	const size_t bytes = kernelfile_bzimage(file, kvm_guest, (payload + 15) / 16 * 16);
	char path[128], body[256];

	snprintf(path, sizeof(path), "%s/kernel", dir);
	const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, file, bytes), bytes);
	close(fd);
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\",\"boot_args\":\"h\"}", path);
	takes("PUT", "/boot-source", body);
	snprintf(body, sizeof(body), "{\"vcpu_count\":1,\"mem_size_mib\":%d}", MEMORY_MIB);
	takes("PUT", "/machine-config", body);
	takes("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
}

static void ctl(const char *words, int want, const char *begin)
{
	static struct mayfly_result result;
	char line[256];

	snprintf(line, sizeof(line), "ctl %s %s", sock, words);
	assert_int_equal(mayfly_call(line, &result), 0);
	const char *said = want == 0 ? result.out : result.err;

	if (result.status != want || strncmp(said, begin, strlen(begin)) != 0)
		fail_msg("%s: status %d, not %d; '%s', not '%s..'", words, result.status, want,
			 said, begin);
}

static void metrics_have(const char *line)
{
	struct http_answer got;

	assert_int_equal(http_ask(sock, "GET", "/metrics", NULL, ASK_WAIT_S, &got), 0);
	if (strstr(got.body, line) == NULL)
		fail_msg("no %s", line);
	free(got.body);
}

static void test_running(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	refuses("PATCH", "/vm", "{\"state\":\"Paused\"}", 409, "the VM does not run");
	start();
	refuses("PUT", "/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true}", 409,
		"the VM was started");
	answer_fits("PUT", "/balloon");
	answers("/balloon/statistics");
	assert_int_equal(number("target_pages"), 16 * 256);
	assert_int_equal(number("target_mib"), 16);
	assert_int_equal(number("actual_pages"), 0);
	assert_null(json_object_get(answer, "free_memory")); /* nobody has said */
	takes("PATCH", "/balloon", "{\"amount_mib\":20}");   /* remembered */
	answers("/balloon/statistics");
	assert_int_equal(number("target_mib"), 20);
	answers("/balloon");
	assert_int_equal(number("amount_mib"), 20);
	refuses("PATCH", "/balloon", "{\"amount_mib\":65}", 400,
		"amount_mib: 65 is more than the 64 MiB of memory");
	answer_fits("PATCH", "/balloon");
	refuses_all(true);
	answers("/balloon");
	assert_int_equal(number("amount_mib"), 20);
	takes("PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":7}");
	answers("/balloon");
	assert_int_equal(number("stats_polling_interval_s"), 7);
	refuses("PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":0}", 400,
		"stats_polling_interval_s: statistics cannot be switched off");
	answer_fits("PATCH", "/balloon/statistics");
	takes("GET", "/devices/balloon", NULL);
	answer_fits("GET", "/devices/{id}");
	assert_string_equal(json_string_value(json_object_get(answer, "kind")), "balloon");
	takes("POST", "/devices/balloon/replace", NULL);
	metrics_have("\nmayfly_balloon_target_bytes 20971520\n");
	metrics_have("\nmayfly_balloon_actual_bytes 0\n");
	metrics_have("\nmayfly_balloon_released_bytes_total 0\n");
}

static void test_ctl(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	ctl("memory balloon", 0, "amount_mib        20\ndeflate_on_oom    true\n");
	ctl("memory balloon 12", 0, "");
	ctl("memory balloon statistics", 0, "target_pages      3072\n");
	ctl("memory balloon --json", 0, "{\"amount_mib\":12,");
	ctl("memory balloon 65", 1, "mayfly ctl: amount_mib: 65 is more than");
	ctl("memory balloon none", 2, "mayfly ctl: 'none' is neither a number of MiB nor");
	ctl("memory", 2, "mayfly ctl: 'memory' needs `balloon`");
	ctl("memory rng", 2, "mayfly ctl: 'rng' is not a part of memory");
	answers("/balloon");
	assert_int_equal(number("amount_mib"), 12);
}

/* ---- around it ---- */

static int setup(void **state)
{
	char words[256];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-balloon-XXXXXX");
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	vm_err = memfd_create("err", MFD_CLOEXEC);
	if (document == NULL || vm_err < 0 || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	snprintf(words, sizeof(words),
		 "run --state-dir %s/state --console off --serial off --id api --api-socket %s",
		 dir, sock);
	return mayfly_start(words, sock, vm_err, &vm);
}

static int teardown(void **state)
{
	int ret = mayfly_stop(vm);
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/kernel", dir);
	remove(path);
	snprintf(path, sizeof(path), "%s/state", dir);
	remove(path);
	json_decref(answer);
	json_decref(document);
	return ret != 0 ? ret : rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_is_none),
		cmocka_unit_test(test_configuration),
		cmocka_unit_test(test_running),
		cmocka_unit_test(test_ctl),
	};

	return cmocka_run_group_tests_name("api: balloon", tests, setup, teardown);
}
