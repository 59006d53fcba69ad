/* SPDX-License-Identifier: Apache-2.0 */
/* The option tables: what is taken, what is refused and with which words, and what help says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/log.h"
#include "core/options.h"
#include "devmodel/abi/seal.h"

static struct run_options run;
static struct option_error error;

#define ARGS_MAX 48

/* Parses the words of one line, separated by spaces. */
static int parse(const char *line)
{
	static char copy[16384];
	char *argv[ARGS_MAX], *rest = copy;
	int argc = 0;

	assert_true(strlen(line) < sizeof(copy));
	memcpy(copy, line, strlen(line) + 1);
	for (char *word = strsep(&rest, " "); word != NULL && word[0] != '\0';
	     word = strsep(&rest, " ")) {
		assert_true(argc < ARGS_MAX);
		argv[argc++] = word;
	}
	memset(&error, 0, sizeof(error));
	options_default(&run_set, &run);
	return options_parse(&run_set, argc, argv, &run, &error);
}

static void takes(const char *line)
{
	const int ret = parse(line);

	if (ret != 0)
		fail_msg("'%s' was refused: %s", line, error.text);
}

/* Refused, in exactly these words. */
static void refuses(const char *line, const char *words)
{
	if (parse(line) == 0)
		fail_msg("'%s' was taken", line);
	assert_string_equal(error.text, words);
	assert_null(strchr(error.text, '\n'));
}

static void test_defaults(void **state)
{
	(void)state;
	takes("");
	assert_int_equal(run.given, 0);
	assert_int_equal(run.cpus, 1);
	assert_int_equal(run.memory.bytes, 512u << 20);
	assert_int_equal(run.memory.pages, MEMORY_PAGES_4K);
	assert_int_equal(run.memory.node, RUN_NODE_ANY);
	assert_int_equal(run.disk_count, 0);
	assert_int_equal(run.log_level, LOG_LEVEL_WARN);
	assert_int_equal(run.rejuvenate.every_ms, 0);
	assert_int_equal(run.rejuvenate.jitter_permille, 200);
	assert_int_equal(run.death_budget.deaths, 10);
	assert_int_equal(run.death_budget.seconds, 60);
	assert_int_equal(run.require_seal.layers, 0);
	assert_false(run.require_seal.kernel || run.rng || run.no_reboot);
	assert_int_equal(run.kernel[0], 0);
	assert_int_equal(strncmp(run.id, "vm", 2), 0);
}

static void test_everything(void **state)
{
	(void)state;
	takes("--kernel /boot/vmlinuz --initrd=/i --cmdline=quiet --cpus 4 "
	      "--memory 1G,pages=2m,node=1 "
	      "--disk id=rootfs,path=/a=b,readonly,direct,queues=4,rejuvenate=30s "
	      "--disk path=/b,id=D-2_x --console file:/c --serial unix:/s --rng --api-socket /api "
	      "--config /cfg --id vm-1 --state-dir /d --log-file /l --log-level debug "
	      "--rejuvenate 2m,jitter=0.25 --death-budget 5/30 "
	      "--require-seal seccomp,mseal --no-reboot");
	assert_string_equal(run.kernel, "/boot/vmlinuz");
	assert_string_equal(run.initrd, "/i");
	assert_string_equal(run.cmdline, "quiet");
	assert_int_equal(run.cpus, 4);
	assert_int_equal(run.memory.bytes, 1ull << 30);
	assert_int_equal(run.memory.pages, MEMORY_PAGES_2M);
	assert_int_equal(run.memory.node, 1);
	assert_int_equal(run.disk_count, 2);
	assert_string_equal(run.disks[0].id, "rootfs");
	assert_string_equal(run.disks[0].path, "/a=b");
	assert_true(run.disks[0].readonly && run.disks[0].direct);
	assert_int_equal(run.disks[0].queues, 4);
	assert_int_equal(run.disks[0].own.every_ms, 30000);
	assert_string_equal(run.disks[1].id, "D-2_x");
	assert_string_equal(run.disks[1].path, "/b");
	assert_false(run.disks[1].readonly || run.disks[1].direct);
	assert_int_equal(run.disks[1].queues, 1);
	assert_int_equal(run.disks[1].own.every_ms, 0);
	assert_int_equal(run.console.kind, ENDPOINT_FILE);
	assert_string_equal(run.console.path, "/c");
	assert_int_equal(run.serial.kind, ENDPOINT_UNIX);
	assert_string_equal(run.serial.path, "/s");
	assert_true(run.rng && run.no_reboot);
	assert_string_equal(run.api_socket, "/api");
	assert_string_equal(run.config, "/cfg");
	assert_string_equal(run.id, "vm-1");
	assert_string_equal(run.state_dir, "/d");
	assert_string_equal(run.log_file, "/l");
	assert_int_equal(run.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(run.rejuvenate.every_ms, 120000);
	assert_int_equal(run.rejuvenate.jitter_permille, 250);
	assert_int_equal(run.death_budget.deaths, 5);
	assert_int_equal(run.death_budget.seconds, 30);
	assert_int_equal(run.require_seal.layers,
			 1u << SEAL_LAYER_SECCOMP | 1u << SEAL_LAYER_MSEAL);
	assert_true(OPTION_GIVEN(&run, OPTION_RUN_CPUS));

	assert_true(OPTION_GIVEN(&run.memory, OPTION_MEMORY_NODE));
}

static void test_sizes(void **state)
{
	(void)state;
	takes("--memory 16777216");
	assert_int_equal(run.memory.bytes, 16u << 20);
	takes("--memory 16384k");
	assert_int_equal(run.memory.bytes, 16u << 20);
	takes("--memory size=16T");
	assert_int_equal(run.memory.bytes, 16ull << 40);
	refuses("--memory 15M", "--memory: 15M is not between 16M and 16T");
	refuses("--memory 512", "--memory: 512 is not between 16M and 16T");
	refuses("--memory 17T", "--memory: 17T is not between 16M and 16T");
	refuses("--memory 512MB", "--memory: '512MB' is not a size such as 512M or 8G");
	refuses("--memory -1", "--memory: '-1' is not a size such as 512M or 8G");
	refuses("--memory M", "--memory: 'M' is not a size such as 512M or 8G");
	refuses("--memory 1.5G", "--memory: '1.5G' is not a size such as 512M or 8G");
	/* 2^64 bytes and 2^24 T: neither may come out as little. */
	refuses("--memory 18446744073709551616",
		"--memory: '18446744073709551616' is not a size such as 512M or 8G");
	refuses("--memory 16777216T", "--memory: '16777216T' is not a size such as 512M or 8G");
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = { { "10ms", 10 },
		     { "500ms", 500 },
		     { "30s", 30000 },
		     { "2m", 120000 },
		     { "168h", 604800000 } };
	char line[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(line, sizeof(line), "--rejuvenate %s", good[i].text);
		takes(line);
		assert_int_equal(run.rejuvenate.every_ms, good[i].ms);
	}
	refuses("--rejuvenate 9ms", "--rejuvenate: 9ms is not between 10ms and 168h");
	refuses("--rejuvenate 169h", "--rejuvenate: 169h is not between 10ms and 168h");
	refuses("--rejuvenate 30", "--rejuvenate: '30' is not a duration such as 30s, 500ms or 2m");
	refuses("--rejuvenate 30S",
		"--rejuvenate: '30S' is not a duration such as 30s, 500ms or 2m");
	refuses("--rejuvenate 1d", "--rejuvenate: '1d' is not a duration such as 30s, 500ms or 2m");
	refuses("--disk id=a,path=/a,rejuvenate=0s",
		"--disk: rejuvenate: 0s is not between 10ms and 168h");
}

static void test_fractions(void **state)
{
	static const struct {
		const char *text;
		uint32_t permille;
	} good[] = { { "0", 0 },       { "1", 1000 },     { "0.2", 200 },
		     { "0.125", 125 }, { "1.000", 1000 }, { "0.05", 50 } };
	static const char *const bad[] = { "1.001",  "2",   "-0.1", "0.", ".5",
					   "0.1234", "0.x", "1e-1", "nan" };
	char line[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(line, sizeof(line), "--rejuvenate 1s,jitter=%s", good[i].text);
		takes(line);
		assert_int_equal(run.rejuvenate.jitter_permille, good[i].permille);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char words[128];

		snprintf(line, sizeof(line), "--rejuvenate 1s,jitter=%s", bad[i]);
		snprintf(words, sizeof(words),
			 "--rejuvenate: jitter: '%s' is not between 0 and 1, as in 0.25", bad[i]);
		refuses(line, words);
	}
}

static void test_numbers(void **state)
{
	(void)state;
	takes("--cpus 32");
	refuses("--cpus 0", "--cpus: 0 is not between 1 and 32");
	refuses("--cpus 33", "--cpus: 33 is not between 1 and 32");
	refuses("--cpus 4294967297", "--cpus: 4294967297 is not between 1 and 32");
	refuses("--cpus two", "--cpus: 'two' is not a number");
	refuses("--cpus +2", "--cpus: '+2' is not a number");
	refuses("--cpus 0x2", "--cpus: '0x2' is not a number");
	refuses("--cpus=", "--cpus: '' is not a number");
	refuses("--disk id=a,path=/a,queues=17", "--disk: queues: 17 is not between 1 and 16");
	refuses("--log-level loud", "--log-level: 'loud' is not off, error, warn, info or debug");
	refuses("--memory 1G,pages=4m", "--memory: pages: '4m' is not 4k, thp, 2m or 1g");
}

static void test_memory_rules(void **state)
{
	(void)state;
	takes("--memory pages=1g,size=2G");
	assert_int_equal(run.memory.bytes, 2ull << 30);
	assert_int_equal(memory_page_bytes(MEMORY_PAGES_1G), 1u << 30);
	refuses("--memory 16777217", "--memory: size must be a multiple of 1M");
	refuses("--memory 33M,pages=2m", "--memory: size must be a multiple of 2M, the page size");
	refuses("--memory 33M,pages=thp", "--memory: size must be a multiple of 2M, the page size");
	takes("--memory 33M,pages=4k");
	refuses("--memory 1536M,pages=1g",
		"--memory: size must be a multiple of 1024M, the page size");
	refuses("--memory 1G,max=512M", "--memory: max must be at least the size at boot, 1024M");
	refuses("--memory 1G,max=2049M,pages=2m",
		"--memory: max must be a multiple of 2M, the page size");
	refuses("--memory 1G,max=2G,slots=65", "--memory: slots: 65 is not between 1 and 64");
	refuses("--memory 1G,max=2G,slots=0", "--memory: slots: 0 is not between 1 and 64");
	refuses("--memory 1G,nodes=9", "--memory: nodes: 9 is not between 1 and 8");
	refuses("--memory 1G,most=2G", "--memory: most: unknown key");
	refuses("--memory 1G,2G", "--memory: 2G: unknown key");
	refuses("--memory 1G,size=2G", "--memory: size: given twice");
	refuses("--memory 1G,node=2,node=3", "--memory: node: given twice");
	refuses("--memory 1G,,node=2",
		"--memory: an empty key (a comma cannot be part of a value)");
	refuses("--memory 1G,node", "--memory: node: needs a value: N");
}

static void test_disk_rules(void **state)
{
	char line[16 * RUN_DISKS_MAX * 4] = "";
	size_t n = 0;

	(void)state;
	refuses("--disk id=a", "--disk: needs path=FILE");
	refuses("--disk path=/a", "--disk: needs id=ID");
	refuses("--disk id=a,path=", "--disk: path: must not be empty");
	refuses("--disk id=a,path=/a,readonly=yes", "--disk: readonly: takes no value");
	refuses("--disk id=a,path=/a,speed=1", "--disk: speed: unknown key");
	refuses("--disk id=a,path=/a --disk id=a,path=/b", "--disk: id: 'a' given twice");
	refuses("--disk id=console,path=/a", "--disk: id: 'console' is another device's");
	refuses("--disk id=mem0,path=/a", "--disk: id: 'mem0' is another device's");
	for (int i = 0; i < RUN_DISKS_MAX; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "--disk=id=d%d,path=/d%d ", i, i);
	takes(line);
	assert_int_equal(run.disk_count, RUN_DISKS_MAX);
	assert_string_equal(run.disks[RUN_DISKS_MAX - 1].path, "/d30");
	snprintf(line + n, sizeof(line) - n, "--disk=id=more,path=/m");
	refuses(line, "--disk: given more than 31 times");
	/* A slot of the bus is for one device. */
	snprintf(line + n, sizeof(line) - n, "--rng");
	refuses(line, "--disk: no PCI slot is left for 'd30': 31 for disks, entropy device, "
		      "balloon, memory hotplug and console");
	snprintf(line + n, sizeof(line) - n, "--console=tty");
	refuses(line, "--disk: no PCI slot is left for 'd30': 31 for disks, entropy device, "
		      "balloon, memory hotplug and console");
	snprintf(line + n, sizeof(line) - n, "--serial=tty");
	takes(line);
	takes("--disk id=a,path=/a,queues=2,lanes=2");
	assert_int_equal(run.disks[0].lanes, 2);
	takes("--disk id=a,path=/a,queues=2");
	assert_int_equal(run.disks[0].lanes, 1);
	refuses("--disk id=a,path=/a,lanes=2", "--disk: a: lanes=2 is more than queues=1");
	refuses("--disk id=a,path=/a,lanes=0", "--disk: lanes: 0 is not between 1 and 16");
}

static void test_ids(void **state)
{
	char id[80], line[128];

	(void)state;
	memset(id, 'x', sizeof(id));
	id[64] = '\0';
	snprintf(line, sizeof(line), "--id %s", id);
	takes(line);
	assert_string_equal(run.id, id);
	id[64] = 'x';
	id[65] = '\0';
	snprintf(line, sizeof(line), "--id %s", id);
	assert_int_not_equal(parse(line), 0);
	refuses("--id a/b", "--id: 'a/b' is not 1 to 64 characters of A-Z a-z 0-9 _ -");
	refuses("--id .", "--id: '.' is not 1 to 64 characters of A-Z a-z 0-9 _ -");
	refuses("--id=", "--id: '' is not 1 to 64 characters of A-Z a-z 0-9 _ -");
}

static void test_endpoints(void **state)
{
	char line[256];

	(void)state;
	takes("--kernel /k");
	assert_int_equal(run.console.kind, ENDPOINT_TTY);
	assert_int_equal(run.serial.kind, ENDPOINT_OFF);
	/* The kernel is the API's or the file's: as Firecracker has it. */
	takes("--config /c");
	assert_int_equal(run.console.kind, ENDPOINT_OFF);
	assert_int_equal(run.serial.kind, ENDPOINT_TTY);
	takes("--console off");
	assert_int_equal(run.serial.kind, ENDPOINT_OFF);
	takes("--serial file:/s");
	assert_int_equal(run.console.kind, ENDPOINT_TTY);
	takes("--serial tty");
	assert_int_equal(run.console.kind, ENDPOINT_OFF);
	takes("--serial tty --console off");
	takes("--console tty --serial file:tty");
	assert_string_equal(run.serial.path, "tty");
	refuses("--serial tty --console tty", "--serial: the console has the tty already");
	refuses("--console stdio", "--console: 'stdio' is not tty|file:FILE|unix:SOCKET|off");
	refuses("--console tty:", "--console: 'tty:' is not tty|file:FILE|unix:SOCKET|off");
	refuses("--console file:", "--console: must not be empty");
	snprintf(line, sizeof(line), "--console unix:%0107d", 0);
	takes(line);
	snprintf(line, sizeof(line), "--console unix:%0108d", 0);
	refuses(line, "--console: longer than 107 bytes");
	snprintf(line, sizeof(line), "--api-socket %0108d", 0);
	refuses(line, "--api-socket: longer than 107 bytes");
}

static void test_supervisor_rules(void **state)
{
	(void)state;
	takes("--death-budget 0/1");
	takes("--death-budget 64/86400");
	refuses("--death-budget 10", "--death-budget: '10' is not N/SECONDS, as in 10/60");
	refuses("--death-budget /60", "--death-budget: '/60' is not N/SECONDS, as in 10/60");
	refuses("--death-budget 10/", "--death-budget: '10/' is not N/SECONDS, as in 10/60");
	refuses("--death-budget 65/60", "--death-budget: more than 64 deaths");
	refuses("--death-budget 1/0",
		"--death-budget: the time is not between 1 and 86400 seconds");
	takes("--require-seal kernel");
	assert_true(run.require_seal.kernel);
	takes("--require-seal all");
	assert_int_equal(run.require_seal.layers, (1u << SEAL_LAYER_COUNT) - 1);
	refuses("--require-seal seccomp,wax",
		"--require-seal: 'wax' is not a layer of the seal (mayfly doctor lists them)");
	refuses("--require-seal seccomp,",
		"--require-seal: '' is not a layer of the seal (mayfly doctor lists them)");
}

static void test_command_line(void **state)
{
	(void)state;
	takes("--kernel /k --cmdline=--x=y");
	assert_string_equal(run.cmdline, "--x=y");
	takes("--config /c --initrd /i");
	assert_int_equal(parse("--cpus 2 --help"), OPTIONS_HELP);
	assert_int_equal(parse("-h --nonsense"), OPTIONS_HELP);
	refuses("--cpus 2 --cpus 2", "--cpus: given twice");
	refuses("--cpu 2", "--cpu: unknown option");
	refuses("--cpus", "--cpus: needs a value: N");
	refuses("--kernel --rng", "--kernel: needs a value: FILE");
	refuses("--rng=yes", "--rng: takes no value");
	refuses("--rng yes", "unexpected argument 'yes'");
	refuses("--", "unexpected argument '--'");
	refuses("-c 2", "unexpected argument '-c'");
	refuses("--initrd /i", "--initrd: needs --kernel");
	refuses("--cmdline quiet", "--cmdline: needs --kernel");
	refuses("--kernel a\tb", "--kernel: control characters are not allowed");
}

/* Long input of every kind ends in one line of text that is not cut into another's. */
static void test_long_input(void **state)
{
	static char line[16000];
	static const char *const heads[] = {
		"--",           "--kernel=",       "--cpus=", "--memory=", "--disk=",
		"--memory=1G,", "--require-seal=", "--id=",   ""
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		memset(line, 'y', sizeof(line) - 1);
		memcpy(line, heads[i], strlen(heads[i]));
		assert_int_not_equal(parse(line), 0);
		assert_true(strlen(error.text) > 0 && strlen(error.text) < sizeof(error.text));
		assert_null(strchr(error.text, '\n'));
	}
}

/* Words that are no options, where a verb takes them. */
static void test_operands(void **state)
{
	char *const argv[] = { "/s", "--json", "memory", "add", "a", "1", "b" };
	struct ctl_options ctl;

	(void)state;
	options_default(&ctl_set, &ctl);
	assert_int_equal(options_parse(&ctl_set, 6, argv, &ctl, &error), 0);
	assert_true(ctl.json);
	assert_int_equal(ctl.operand_count, 5);
	assert_ptr_equal(ctl.operands[0], argv[0]);
	assert_ptr_equal(ctl.operands[3], argv[4]);
	options_default(&ctl_set, &ctl);
	assert_int_equal(options_parse(&ctl_set, 7, argv, &ctl, &error), -EINVAL);
	assert_string_equal(error.text, "unexpected argument 'b'");
}

/* What was given goes on top, key by key. */
static void test_overlay(void **state)
{
	static struct run_options below;

	(void)state;
	takes("--cpus 3 --memory 1G --rng --id above");
	options_default(&run_set, &below);
	below.memory.pages = MEMORY_PAGES_2M;
	below.cpus = 2;
	snprintf(below.kernel, sizeof(below.kernel), "/k");
	options_overlay(&run_set, &below, &run);
	assert_int_equal(below.cpus, 3);
	assert_int_equal(below.memory.bytes, 1u << 30);
	assert_int_equal(below.memory.pages, MEMORY_PAGES_2M);
	assert_true(below.rng);
	assert_string_equal(below.kernel, "/k");
	assert_string_equal(below.id, "above");
	assert_true(OPTION_GIVEN(&below, OPTION_RUN_CPUS));
}

static void test_root_device(void **state)
{
	char text[OPTION_CMDLINE_MAX];

	(void)state;
	takes("--kernel /k --cmdline quiet --disk id=a,path=/a,readonly");
	assert_int_equal(run_cmdline(&run, text), 0);
	assert_string_equal(text, "quiet");
	run.disks[0].root = true;
	assert_int_equal(run_cmdline(&run, text), 0);
	assert_string_equal(text, "quiet root=/dev/vda ro");
	run.cmdline[0] = '\0';
	run.disks[0].readonly = false;
	snprintf(run.disks[0].partuuid, sizeof(run.disks[0].partuuid), "1234-01");
	assert_int_equal(run_cmdline(&run, text), 0);
	assert_string_equal(text, "root=PARTUUID=1234-01 rw");
	memset(run.cmdline, 'x', sizeof(run.cmdline) - 1);
	assert_int_equal(run_cmdline(&run, text), -E2BIG);
}

static int no_main(const void *options)
{
	(void)options;
	return 0;
}

static const struct verb verb = { "run", "runs", "Runs\\.", &run_set, no_main };

/* What fn prints; the caller frees it. */
static char *printed(void (*fn)(FILE *out))
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	fn(out);
	fclose(out);
	return text;
}

static void print_help(FILE *out)
{
	verb_help(out, &verb);
}

static void print_man(FILE *out)
{
	verbs_man(out, &verb, 1);
}

/* Each option and each key of a group, with its text, is in what is printed. */
static void assert_lists(const char *page, const struct option_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *o = &set->options[i];
		const char *found = strstr(page, o->text);

		if (found == NULL)
			fail_msg("%s has no line of its own", o->name);
	}
}

static void test_help_is_complete(void **state)
{
	char *help = printed(print_help);

	(void)state;
	assert_lists(help, &run_set);
	for (uint32_t i = 0; i < run_set.count; i++) {
		if (run_set.options[i].subset != NULL)
			assert_lists(help, run_set.options[i].subset);
	}
	assert_non_null(strstr(help, "\n  --cpus N                virtual CPUs (default: 1)\n"));
	assert_non_null(strstr(help, "\n      queues=N            request queues (default: 1)\n"));
	free(help);
}

static void test_man_page(void **state)
{
	char *man = printed(print_man);

	(void)state;
	assert_non_null(strstr(man, "\n.SS mayfly run\nRuns\\e.\n"));
	assert_non_null(strstr(man,
			       "\n.B \\-\\-cpus\\fR \\fIN\\fR\nvirtual CPUs (default: 1).\n"
			       "In a configuration file: \\fBmachine\\-config.vcpu_count\\fR.\n"));
	assert_non_null(strstr(man, "\n.B readonly\n"));
	assert_null(strstr(man, "\n\n"));
	free(man);
}

/* Names and keys are unique, and every fallback parses (options_default() checks that). */
static void assert_unique(const struct option_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *a = &set->options[i];

		assert_true(a->offset + a->room <= set->bytes);
		assert_true((a->arg == NULL) == (a->parse == option_flag));
		for (uint32_t k = 0; k < i; k++) {
			const struct option *b = &set->options[k];

			assert_string_not_equal(a->name, b->name);
			if (a->json != NULL && b->json != NULL)
				assert_string_not_equal(a->json, b->json);
		}
	}
}

static void test_tables(void **state)
{
	(void)state;
	assert_unique(&run_set);
	for (uint32_t i = 0; i < run_set.count; i++) {
		if (run_set.options[i].subset != NULL)
			assert_unique(run_set.options[i].subset);
	}
	assert_unique(&doctor_set);
	assert_unique(&ctl_set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_fractions),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_memory_rules),
		cmocka_unit_test(test_disk_rules),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_supervisor_rules),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_operands),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_root_device),
		cmocka_unit_test(test_long_input),
		cmocka_unit_test(test_help_is_complete),
		cmocka_unit_test(test_man_page),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
