/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as JSON, where it is more than a range: what is made of the habits of
 * Firecracker's clients, schedules by device, and what the keys of the logger do to a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/config.h"
#include "core/log.h"

static struct run_options run;
static struct option_error error;
static int lines = -1; /* the log */

static void fresh(void)
{
	options_default(&run_set, &run);
	assert_int_equal(run_set.check(&run, &error), 0);
}

static int put(const char *section, const char *text)
{
	json_t *object = json_loads(text, 0, NULL);
	int ret;

	assert_non_null(object);
	ret = config_put(&run, section, "", object, &error);
	json_decref(object);
	return ret;
}

static void takes(const char *section, const char *text)
{
	if (put(section, text) != 0)
		fail_msg("%s %s: %s", section, text, error.text);
}

static void refuses(const char *section, const char *text, const char *words)
{
	assert_int_equal(put(section, text), -EINVAL);
	assert_string_equal(error.text, words);
}

/* What was logged since the last call. */
static const char *logged(void)
{
	static char text[2048];
	const ssize_t n = pread(lines, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	assert_int_equal(ftruncate(lines, 0), 0);
	lseek(lines, 0, SEEK_SET);
	return text;
}

/* ---- boot_args ---- */

static void test_pci_off(void **state)
{
	static const char said[] = "mayfly: boot_args: pci=off is left out: the devices of this "
				   "machine are on PCI\n";
	static const struct {
		const char *given, *taken;
		bool dropped;
	} lists[] = {
		{ "console=ttyS0 reboot=k panic=1 pci=off", "console=ttyS0 reboot=k panic=1",
		  true },
		{ "pci=off quiet", "quiet", true },
		{ "pci=off", "", true },
		{ " a  pci=off   b pci=off ", " a  b", true },
		{ "pci=off -- pci=off", "-- pci=off", true },
		{ "a -- pci=off", "a -- pci=off", false },
		{ "pci=offb apci=off pci=nomsi", "pci=offb apci=off pci=nomsi", false },
		{ "x=\"a pci=off b\" c", "x=\"a pci=off b\" c", false },
		{ "x=\"a pci=off", "x=\"a pci=off", false },
		{ "quiet ", "quiet ", false },
		{ "", "", false },
	};
	char body[256];

	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		json_t *object = json_pack("{s:s, s:s}", "kernel_image_path", "/k", "boot_args",
					   lists[i].given);

		fresh();
		assert_int_equal(config_put(&run, "boot-source", "", object, &error), 0);
		json_decref(object);
		assert_string_equal(run.cmdline, lists[i].taken);
		assert_string_equal(logged(), lists[i].dropped ? said : "");
	}
	/* Nobody's habit, so taken as it is. */
	fresh();
	assert_int_equal(options_assign(&run_set, &run, "cmdline", "pci=off", &error), 0);
	assert_string_equal(run.cmdline, "pci=off");
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"/k\",\"boot_args\":\"a\\tb\"}");
	refuses("boot-source", body, "boot_args: control characters are not allowed");
}

/* As firectl has it. */
static void test_noapic(void **state)
{
	(void)state;
	fresh();
	takes("boot-source", "{\"kernel_image_path\":\"/k\",\"boot_args\":"
			     "\"ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules\"}");
	assert_string_equal(run.cmdline, "ro console=ttyS0 reboot=k panic=1 nomodules");
	assert_string_equal(logged(),
			    "mayfly: boot_args: pci=off is left out: the devices of this machine "
			    "are on PCI\n"
			    "mayfly: boot_args: noapic is left out: serial port and power button "
			    "have no other way to interrupt\n");
}

/* ---- the log ---- */

static void test_levels(void **state)
{
	static const struct {
		const char *name;
		enum log_level level;
		const char *shown;
	} levels[] = {
		{ "Off", LOG_LEVEL_OFF, "Off" },       { "Error", LOG_LEVEL_ERROR, "Error" },
		{ "WARN", LOG_LEVEL_WARN, "Warning" }, { "warning", LOG_LEVEL_WARN, "Warning" },
		{ "info", LOG_LEVEL_INFO, "Info" },    { "DeBuG", LOG_LEVEL_DEBUG, "Debug" },
		{ "TRACE", LOG_LEVEL_DEBUG, "Debug" },
	};
	char body[64];

	(void)state;
	fresh();
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		json_t *section;

		snprintf(body, sizeof(body), "{\"level\":\"%s\"}", levels[i].name);
		takes("logger", body);
		assert_int_equal(run.log_level, levels[i].level);
		section = config_section(&run, "logger", "");
		assert_string_equal(json_string_value(json_object_get(section, "level")),
				    levels[i].shown);
		json_decref(section);
	}
	refuses("logger", "{\"level\":\"\"}",
		"level: '' is not Error, Warning, Info, Debug, Trace or Off");
	refuses("logger", "{\"level\":2}", "level: is not a string");
}

static void test_lines(void **state)
{
	const char *text;

	(void)state;
	log_warn("plain %d", 1);
	assert_string_equal(logged(), "mayfly: plain 1\n");
	log_show(true, false);
	log_warn("one");
	log_error("two");
	log_info("not said");
	assert_string_equal(logged(), "mayfly: warn: one\nmayfly: error: two\n");
	log_show(false, true);
	log_warn("three");
	text = logged();
	assert_non_null(strstr(text, "tests/unit/test_config.c:"));
	assert_non_null(strstr(text, ": three\n"));
	log_show(true, true);
	log_warn("four");
	assert_int_equal(strncmp(logged(), "mayfly: warn: tests/unit/", 25), 0);
	log_show(false, false);
	log_set_level(LOG_LEVEL_OFF);
	log_error("never");
	assert_string_equal(logged(), "");
	log_set_level(LOG_LEVEL_WARN);
}

/* A FIFO is opened and written to whether somebody reads it or not. */
static void test_log_fifo(void **state)
{
	char path[] = "/tmp/mayfly-config-XXXXXX", name[64], text[64];
	int fd, reader;
	ssize_t n;

	(void)state;
	assert_non_null(mkdtemp(path));
	snprintf(name, sizeof(name), "%s/fifo", path);
	assert_int_equal(mkfifo(name, 0600), 0);
	fd = log_open_file(name);
	assert_true(fd >= 0);
	log_open(fd, LOG_LEVEL_WARN);
	log_warn("first");
	reader = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	n = read(reader, text, sizeof(text));
	assert_int_equal(n, strlen("mayfly: first\n"));
	assert_memory_equal(text, "mayfly: first\n", n);
	for (int i = 0; i < 10000; i++) /* more than it holds */
		log_warn("a line that nobody reads, number %d", i);
	log_open(lines, LOG_LEVEL_WARN);
	close(reader);
	close(fd);
	unlink(name);
	rmdir(path);
	assert_int_equal(log_open_file("/nonexistent/log"), -ENOENT);
	assert_int_equal(log_open_file("/tmp"), -EISDIR);
}

/* ---- the machine ---- */

static void test_smt(void **state)
{
	(void)state;
	fresh();
	takes("machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":64,\"smt\":true}");
	assert_true(run.smt);
	takes("machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64}");
	assert_false(run.smt);
	refuses("machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":true}",
		"smt: true is not supported with more than one vCPU: each is a core of its own");
}

static void test_serial(void **state)
{
	(void)state;
	fresh();
	assert_int_equal(run.serial.kind, ENDPOINT_TTY);
	takes("serial", "{\"serial_out_path\":\"/s\"}");
	assert_int_equal(run.serial.kind, ENDPOINT_FILE);
	takes("serial", "{}");
	assert_int_equal(run.serial.kind, ENDPOINT_TTY);
	/* Somebody else has the tty. */
	assert_int_equal(options_assign(&run_set, &run, "console", "tty", &error), 0);
	takes("serial", "{}");
	assert_int_equal(run.serial.kind, ENDPOINT_OFF);
}

/* ---- schedules ---- */

/* A file with this as "mayfly.devices", and a drive `d`. */
static int load(const char *devices)
{
	char name[] = "/tmp/mayfly-config-XXXXXX", text[1024];
	const int fd = mkstemp(name);
	int ret;

	assert_true(fd >= 0);
	snprintf(text, sizeof(text),
		 "{\"boot-source\":{\"kernel_image_path\":\"/k\"},\"drives\":[{\"drive_id\":\"d\","
		 "\"path_on_host\":\"/d\",\"is_root_device\":false}],"
		 "\"mayfly\":{\"devices\":%s}}",
		 devices);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	options_default(&run_set, &run);
	ret = config_load(name, &run_set, &run, &error);
	unlink(name);
	return ret;
}

static void assert_schedule(const char *id, uint64_t every_ms, uint32_t permille)
{
	const struct run_own s = run_settings_of(&run, id);

	if (s.every_ms != every_ms || s.jitter_permille != permille)
		fail_msg("%s: %llu ms, jitter %u", id, (unsigned long long)s.every_ms,
			 s.jitter_permille);
}

static void test_limits(void **state)
{
	(void)state;
	if (load("{\"*\":{\"hang_ms\":300,\"poison_limit\":0},"
		 "\"d\":{\"hang_ms\":0,\"audit_ms\":7},"
		 "\"console\":{\"storm_ms\":5,\"poison_limit\":9}}") != 0)
		fail_msg("%s", error.text);
	const struct run_limits d = run_settings_of(&run, "d").limits;
	const struct run_limits console = run_settings_of(&run, "console").limits;
	const struct run_limits rng = run_settings_of(&run, "rng").limits;

	assert_memory_equal(&d, (&(struct run_limits){ 0, 2000, 7, 0 }), sizeof(d));
	assert_memory_equal(&console, (&(struct run_limits){ 300, 5, 10000, 9 }), sizeof(d));
	assert_memory_equal(&rng, (&(struct run_limits){ 300, 2000, 10000, 0 }), sizeof(d));
}

static void test_schedules(void **state)
{
	json_t *all, *devices;

	(void)state;
	if (load("{\"*\":{\"rejuvenate\":{\"every_s\":30,\"jitter\":0.5}},"
		 "\"d\":{\"rejuvenate\":{\"jitter\":0.1}},"
		 "\"console\":{\"rejuvenate\":{\"every_s\":1}},"
		 "\"serial\":{\"rejuvenate\":{\"every_s\":2,\"jitter\":0}},\"rng\":{}}") != 0)
		fail_msg("%s", error.text);
	assert_schedule("d", 30000, 100);
	assert_schedule("console", 1000, 500);
	assert_schedule("serial", 2000, 0);
	assert_schedule("rng", 30000, 500);
	assert_schedule("none", 30000, 500);
	/* What is shown of it says the same again. */
	all = config_all(&run, false);
	devices = json_object_get(json_object_get(all, "mayfly"), "devices");
	assert_int_equal(json_object_size(devices), 4);
	char *text = json_dumps(devices, 0);

	assert_int_equal(load(text), 0);
	assert_schedule("d", 30000, 100);
	assert_schedule("console", 1000, 500);
	assert_schedule("serial", 2000, 0);
	free(text);
	json_decref(all);
	/* Nobody else's schedule makes one for all. */
	assert_int_equal(load("{\"rng\":{\"rejuvenate\":{\"every_s\":0.5}}}"), 0);
	assert_schedule("rng", 500, 200);
	assert_schedule("d", 0, 200);
}

static void test_wrong_schedules(void **state)
{
	static const struct {
		const char *devices, *words;
	} wrong[] = {
		{ "{\"nic\":{}}", "nic: no drive and no other device has this id" },
		{ "{\"rtc\":{}}", "rtc: no drive and no other device has this id" },
		{ "{\"rng\":{\"rejuvenate\":{\"every_s\":0}}}",
		  "rng.rejuvenate.every_s: 0 is not between 0.01 and 604800" },
		{ "{\"d\":{\"rejuvenate\":{\"jitter\":1.5}}}",
		  "d.rejuvenate.jitter: is not a number between 0 and 1" },
		{ "{\"serial\":{\"hang_ms\":3600001}}", "serial.hang_ms: 3600001 is not between" },
		{ "{\"console\":{\"speed\":5}}", "console.speed: unknown key" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(load(wrong[i].devices), -EINVAL);
		if (strstr(error.text, wrong[i].words) == NULL)
			fail_msg("'%s', not '%s'", error.text, wrong[i].words);
	}
}

/* Of a drive only; that there is no lane without a queue is seen once all has been said. */
static void test_lanes(void **state)
{
	json_t *all;

	(void)state;
	if (load("{\"d\":{\"queues\":3,\"lanes\":2}}") != 0)
		fail_msg("%s", error.text);
	assert_int_equal(run.disks[0].queues, 3);
	assert_int_equal(run.disks[0].lanes, 2);
	all = config_all(&run, false);
	char *text = json_dumps(
		json_object_get(json_object_get(json_object_get(all, "mayfly"), "devices"), "d"),
		0);

	assert_string_equal(text, "{\"queues\": 3, \"lanes\": 2}");
	free(text);
	json_decref(all);
	assert_int_equal(load("{\"d\":{\"lanes\":2}}"), -EINVAL);
	assert_non_null(strstr(error.text, "d: lanes=2 is more than queues=1"));
	assert_int_equal(load("{\"d\":{\"lanes\":0}}"), -EINVAL);
	assert_non_null(strstr(error.text, "mayfly.devices.d.lanes: 0 is not between 1 and 16"));
	assert_int_equal(load("{\"rng\":{\"lanes\":1}}"), -EINVAL);
	assert_non_null(strstr(error.text, "mayfly.devices.rng.lanes: unknown key"));
}

static int setup(void **state)
{
	(void)state;
	lines = memfd_create("log", MFD_CLOEXEC);
	log_open(lines, LOG_LEVEL_WARN);
	return lines >= 0 ? 0 : -1;
}

/* ---- the balloon ---- */

static void test_balloon(void **state)
{
	json_t *all;

	(void)state;
	fresh();
	assert_false(run_has_balloon(&run));
	all = config_all(&run, false);
	assert_null(json_object_get(all, "balloon"));
	json_decref(all);
	refuses("balloon", "{\"amount_mib\":-1,\"deflate_on_oom\":true}",
		"amount_mib: -1 is not between 0 and 16777215");
	refuses("balloon", "{\"amount_mib\":16777216,\"deflate_on_oom\":true}",
		"amount_mib: 16777216 is not between 0 and 16777215");
	refuses("balloon", "{\"amount_mib\":1,\"deflate_on_oom\":1}",
		"deflate_on_oom: is not true or false");
	refuses("balloon",
		"{\"amount_mib\":1,\"deflate_on_oom\":true,\"stats_polling_interval_s\":65536}",
		"stats_polling_interval_s: 65536 is not between 0 and 65535");
	fresh();
	takes("balloon", "{\"amount_mib\":0,\"deflate_on_oom\":false}"); /* there, and empty */
	assert_true(run_has_balloon(&run));
	all = config_all(&run, false);
	assert_int_equal(json_object_size(json_object_get(all, "balloon")), 5);
	json_decref(all);
	takes("balloon", "{\"amount_mib\":7,\"deflate_on_oom\":true,\"stats_polling_interval_s\":3,"
			 "\"free_page_reporting\":true,\"free_page_hinting\":false}");
	assert_int_equal(run.balloon.bytes, 7 << 20);
	assert_int_equal(run.balloon.stats_s, 3);
	assert_true(run.balloon.deflate_on_oom && run.balloon.reporting);
	/* Memory that is said later may be more. */
	takes("balloon", "{\"amount_mib\":600,\"deflate_on_oom\":true}");
	assert_false(run.balloon.reporting);
	assert_int_equal(run_consistent(&run, &error), -EINVAL);
	assert_string_equal(error.text,
			    "balloon: amount_mib: 600 is more than the 512 MiB of memory");
	takes("machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":600}");
	assert_int_equal(run_consistent(&run, &error), 0);
}

/* ---- memory hotplug ---- */

static void test_hotplug(void **state)
{
	json_t *all, *section;

	(void)state;
	fresh();
	all = config_all(&run, false);
	assert_null(json_object_get(all, "memory-hotplug"));
	json_decref(all);
	refuses("memory-hotplug", "{\"total_size_mib\":1}",
		"total_size_mib: 1 is not between 2 and 67108864");
	refuses("memory-hotplug", "{\"total_size_mib\":256,\"node\":8}",
		"node: 8 is not between 0 and 7");
	assert_int_equal(run.hotplug_count, 0);
	takes("memory-hotplug", "{\"total_size_mib\":1024}");
	assert_true(run.hotplug_count == 1 && run.hotplug[0].total_bytes == 1u << 30 &&
		    run.hotplug[0].block_bytes == 2u << 20 &&
		    run.hotplug[0].slot_bytes == 128u << 20);
	all = config_all(&run, false);
	section = json_object_get(all, "memory-hotplug"); /* as Firecracker has it */
	assert_int_equal(json_integer_value(json_object_get(section, "total_size_mib")), 1024);
	json_decref(all);
	takes("memory-hotplug", "{\"total_size_mib\":512,\"slot_size_mib\":256}");
	takes("memory-hotplug", "{\"total_size_mib\":128,\"block_size_mib\":4,\"node\":1}");
	assert_int_equal(run.hotplug_count, 2);
	assert_int_equal(run.hotplug[0].total_bytes, 512u << 20);
	assert_int_equal(run_consistent(&run, &error), -EINVAL);
	assert_non_null(strstr(error.text, "memory-hotplug: node: the guest has 1 NUMA nodes"));
	run.memory.nodes = 2;
	assert_int_equal(run_consistent(&run, &error), 0);
	all = config_all(&run, false);
	assert_int_equal(json_array_size(json_object_get(all, "memory-hotplug")), 2);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_balloon),  cmocka_unit_test(test_hotplug),
		cmocka_unit_test(test_pci_off),  cmocka_unit_test(test_noapic),
		cmocka_unit_test(test_levels),   cmocka_unit_test(test_lines),
		cmocka_unit_test(test_log_fifo), cmocka_unit_test(test_smt),
		cmocka_unit_test(test_serial),   cmocka_unit_test(test_schedules),
		cmocka_unit_test(test_limits),   cmocka_unit_test(test_wrong_schedules),
		cmocka_unit_test(test_lanes),
	};

	return cmocka_run_group_tests_name("config", tests, setup, NULL);
}
