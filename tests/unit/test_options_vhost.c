/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of mayfly vhost-user: which of run's it takes, that each device ends with a socket, and what its
 * configuration file cannot say.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/config.h"
#include "core/options.h"

#define ARGS_MAX 16

static struct vhost_options vhost;
static struct run_options run; /* what comes of it */
static struct option_error error;
static char file[] = "/tmp/mayfly-vhost-XXXXXX";

/* Parses the words of one line, then does what the verb does with them. */
static int configure(const char *line)
{
	static char copy[1024];
	char *argv[ARGS_MAX], *rest = copy;
	int argc = 0, ret;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strsep(&rest, " "); word != NULL && word[0] != '\0';
	     word = strsep(&rest, " ")) {
		assert_true(argc < ARGS_MAX);
		argv[argc++] = word;
	}
	memset(&error, 0, sizeof(error));
	options_default(&vhost_set, &vhost);
	ret = options_parse(&vhost_set, argc, argv, &vhost, &error);
	return ret == 0 ? vhost_configure(&vhost, &run, &error) : ret;
}

static void takes(const char *line)
{
	if (configure(line) != 0)
		fail_msg("'%s' was refused: %s", line, error.text);
}

static void refuses(const char *line, const char *words)
{
	if (configure(line) == 0)
		fail_msg("'%s' was taken", line);
	assert_string_equal(error.text, words);
}

/* ---- the table ---- */

/* Of run's options these, and no others; each has run's number. */
static const char *const shared[] = {
	"disk",      "rng",          "api-socket",      "config",       "id",
	"state-dir", "log-file",     "log-level",       "rejuvenate",   "hang-ms",
	"storm-ms",  "audit-ms",     "poison-limit",    "death-budget", "require-seal",
	"uid",       "allow-faults", "faulty-programs",
};

static bool is_shared(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		if (strcmp(shared[i], name) == 0)
			return true;
	}
	return false;
}

static void test_table(void **state)
{
	static const char *const own[] = { "socket", "incoming" };
	size_t n = 0;

	(void)state;
	assert_int_equal(vhost_set.count, run_set.count + ARRAY_SIZE(own));
	for (uint32_t i = 0; i < run_set.count; i++) {
		const struct option *r = &run_set.options[i], *v = &vhost_set.options[i];

		assert_int_equal(r->offset, v->offset);
		assert_int_equal(v->name != NULL, is_shared(r->name));
		if (v->name == NULL)
			continue;
		assert_string_equal(v->name, r->name);
		n++;
	}
	assert_int_equal(n, ARRAY_SIZE(shared));
	for (uint32_t i = 0; i < ARRAY_SIZE(own); i++)
		assert_string_equal(vhost_set.options[run_set.count + i].name, own[i]);
}

static void test_not_of_a_vm(void **state)
{
	(void)state;
	refuses("--kernel k", "--kernel: unknown option");
	refuses("--memory 1G", "--memory: unknown option");
	refuses("--console off", "--console: unknown option");
	refuses("--memory-hotplug 1G", "--memory-hotplug: unknown option");
	refuses("--no-reboot", "--no-reboot: unknown option");
	refuses("blk rng", "unexpected argument 'rng'");
}

/* ---- kinds, sockets ---- */

static void test_kinds(void **state)
{
	(void)state;
	takes("blk --disk id=a,path=f --socket /s");
	assert_string_equal(run_own(&run, "a")->socket, "/s");
	assert_false(run.rng);
	takes("blk --disk id=a,path=f,socket=/s");
	assert_string_equal(run_own(&run, "a")->socket, "/s");
	takes("rng --socket /s");
	assert_true(run.rng);
	assert_string_equal(run_own(&run, "rng")->socket, "/s");
	takes("rng --rng --socket /s --id x");
	assert_string_equal(run.id, "x");
	refuses("net --socket /s", "'net' is not blk or rng");
	refuses("blk --socket /s", "blk: needs one --disk");
	refuses("blk --disk id=a,path=f --disk id=b,path=f --socket /s", "blk: needs one --disk");
	refuses("blk --disk id=a,path=f --rng --socket /s",
		"blk: not together with --rng: leave out the kind");
	refuses("rng --disk id=a,path=f --socket /s",
		"rng: not together with --disk: leave out the kind");
}

static void test_sockets(void **state)
{
	(void)state;
	takes("--disk id=a,path=f,socket=/a --disk id=b,path=f,socket=/b");
	takes("--rng --socket /s");
	assert_string_equal(run_own(&run, "rng")->socket, "/s");
	assert_memory_equal(run.id, "vhost", 5);
	refuses("", "no device: give blk or rng, --disk, --rng or --config");
	refuses("--disk id=a,path=f",
		"a: needs a socket (--socket SOCKET; --disk ..,socket=SOCKET)");
	refuses("rng", "rng: needs a socket (--socket SOCKET; --disk ..,socket=SOCKET)");
	refuses("--disk id=a,path=f,socket=/s --socket /t", "--socket: a has one already");
	refuses("--disk id=a,path=f --rng --socket /s",
		"--socket: there are 2 devices: give each its own (--disk ..,socket=SOCKET; "
		"mayfly.devices.rng.socket)");
	refuses("--disk id=a,path=f,socket=/s --disk id=b,path=f,socket=/s",
		"b: socket: /s is a's");
	refuses("--rng --socket /s --api-socket /s", "rng: socket: is the API's");
	refuses("--rng --socket=", "--socket: must not be empty");
}

/* What there is of systemd's is found out later. */
static void test_systemd(void **state)
{
	(void)state;
	setenv("LISTEN_FDS", "2", 1);
	takes("rng");
	assert_string_equal(run_own(&run, "rng")->socket, "");
	takes("--disk id=a,path=f --disk id=b,path=f,socket=/b");
	refuses("", "no device: give blk or rng, --disk, --rng or --config");
	unsetenv("LISTEN_FDS");
	refuses("rng", "rng: needs a socket (--socket SOCKET; --disk ..,socket=SOCKET)");
}

static void test_devices(void **state)
{
	(void)state;
	refuses("--disk id=rng,path=f,socket=/s", "--disk: id: 'rng' is another device's");
	refuses("blk --disk id=a,path=f,lanes=2 --socket /s",
		"--disk: a: lanes=2 is more than queues=1");
	refuses("rng --socket /s --faulty-programs", "--faulty-programs: needs --allow-faults");
}

/* A VM has no use for one. */
static void test_not_for_run(void **state)
{
	char *argv[] = { (char *)"--disk", (char *)"id=a,path=f,socket=/s" };

	(void)state;
	options_default(&run_set, &run);
	assert_int_equal(options_parse(&run_set, 2, argv, &run, &error), -EINVAL);
	assert_string_equal(error.text, "a: socket: is for mayfly vhost-user, which serves "
					"devices of other VMMs' guests");
}

/* ---- the file ---- */

static void write_file(const char *text)
{
	FILE *out = fopen(file, "we");

	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
}

/* In these words behind the file's name. */
static void file_refused(const char *text, const char *words)
{
	char line[256], want[256];

	write_file(text);
	snprintf(line, sizeof(line), "--config %s", file);
	snprintf(want, sizeof(want), "%s: %s", file, words);
	refuses(line, want);
}

#define DRIVE(id, more)                                                                            \
	"{\"drive_id\":\"" id "\",\"path_on_host\":\"/i\",\"is_root_device\":false" more "}"

static void test_file(void **state)
{
	char line[256];

	(void)state;
	write_file("{\"drives\":[" DRIVE("a", "") "," DRIVE(
		"b",
		"") "],\"entropy\":{},"
		    "\"logger\":{\"level\":\"Info\"},\"mayfly\":{\"id\":\"f\",\"devices\":{"
		    "\"*\":{\"hang_ms\":5},\"a\":{\"socket\":\"/a\"},\"b\":{\"socket\":\"/b\"},"
		    "\"rng\":{\"socket\":\"/r\"}}}}");
	snprintf(line, sizeof(line), "--config %s --disk id=b,path=/j", file);
	takes(line);
	assert_int_equal(run.disk_count, 2);
	assert_true(run.rng);
	assert_string_equal(run.id, "f");
	assert_string_equal(run_own(&run, "a")->socket, "/a");
	assert_string_equal(run_own(&run, "b")->socket, "/b");
	assert_string_equal(run_disk(&run, "b")->path, "/j");
	assert_string_equal(run_own(&run, "rng")->socket, "/r");
	/* A kind is held against what the file says. */
	snprintf(line, sizeof(line), "blk --config %s", file);
	refuses(line, "blk: not together with --rng: leave out the kind");
	write_file("{\"drives\":[" DRIVE("a", "") "]}");
	snprintf(line, sizeof(line), "blk --config %s --socket /s", file);
	takes(line);
	assert_string_equal(run_own(&run, "a")->socket, "/s");
	snprintf(line, sizeof(line), "--config %s", file);
	refuses(line, "a: needs a socket (--socket SOCKET; --disk ..,socket=SOCKET)");
}

static void test_file_shown(void **state)
{
	char line[256];
	json_t *all, *mayfly;

	(void)state;
	write_file("{\"entropy\":{},\"mayfly\":{\"devices\":{\"rng\":{\"socket\":\"/r\"}}}}");
	snprintf(line, sizeof(line), "--config %s", file);
	takes(line);
	all = config_all(&run, true);
	mayfly = json_object_get(all, "mayfly");
	assert_null(json_object_get(all, "boot-source"));
	assert_null(json_object_get(all, "machine-config"));
	assert_null(json_object_get(mayfly, "memory"));
	assert_non_null(json_object_get(all, "entropy"));
	/* It can be read again. */
	assert_int_equal(json_dump_file(all, file, 0), 0);
	json_decref(all);
	takes(line);
	assert_string_equal(run_own(&run, "rng")->socket, "/r");
}

static void test_file_of_a_vm(void **state)
{
	static const char *const sections[] = { "boot-source",    "machine-config", "balloon",
						"memory-hotplug", "serial",         "metrics" };
	char text[128], words[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		snprintf(text, sizeof(text), "{\"%s\":{}}", sections[i]);
		snprintf(words, sizeof(words), "%s: is of a VM only", sections[i]);
		file_refused(text, words);
	}
	file_refused("{\"network-interfaces\":[]}", "network-interfaces: not supported");
	file_refused("{\"mayfly\":{\"memory\":{}}}", "mayfly.memory: is of a VM only");
	file_refused("{\"mayfly\":{\"devices\":{\"console\":{}}}}",
		     "mayfly.devices.console: is of a VM only");
	file_refused("{\"mayfly\":{\"devices\":{\"none\":{}}}}",
		     "mayfly.devices.none: no drive and no other device has this id");
	file_refused("{\"mayfly\":{\"devices\":{\"rng\":{\"socket\":7}}}}",
		     "mayfly.devices.rng.socket: is not a string");
	file_refused("{\"drives\":[" DRIVE("a", ",\"socket\":\"/s\"") "]}",
		     "drives[0].socket: not supported");
}

static void test_file_root(void **state)
{
	char line[256];

	(void)state;
	snprintf(line, sizeof(line), "--config %s --socket /s", file);
	write_file("{\"drives\":[{\"drive_id\":\"a\",\"path_on_host\":\"/i\","
		   "\"is_root_device\":true}]}");
	refuses(line, "drives: a: is_root_device: is of a VM only");
	write_file("{\"drives\":[" DRIVE("a", ",\"partuuid\":\"x\"") "]}");
	refuses(line, "drives: a: partuuid: is of a VM only");
	write_file("{\"drives\":[" DRIVE("a", "") "],\"mayfly\":{\"devices\":{\"rng\":{\"socket\":"
						  "\"/r\"}}}}");
	refuses(line, "rng: socket: there is no such device (--rng)");
}

static int setup(void **state)
{
	const int fd = mkstemp(file);

	(void)state;
	unsetenv("LISTEN_FDS");
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),       cmocka_unit_test(test_not_of_a_vm),
		cmocka_unit_test(test_kinds),       cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_systemd),     cmocka_unit_test(test_devices),
		cmocka_unit_test(test_not_for_run), cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_shown),  cmocka_unit_test(test_file_of_a_vm),
		cmocka_unit_test(test_file_root),
	};

	return cmocka_run_group_tests_name("options of vhost-user", tests, setup, teardown);
}
