/* SPDX-License-Identifier: Apache-2.0 */
/* core/box/autopsy.c: a document of the worst that there can be; core/box/coroner.c: its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/box/autopsy.h"
#include "core/cc.h"

static struct autopsy worst;
static char dir_path[64];
static int dir = -1;
static sem_t told;
static uint8_t child_stack[BOX_STACK_BYTES];

/* Every value as long as it can get, every byte one that a terminal would act on. */
static int setup(void **state)
{
	(void)state;
	memset(&worst, 0xff, sizeof(worst));
	memset(worst.device, 'd', DEVICE_ID_MAX);
	worst.device[DEVICE_ID_MAX] = '\0';
	worst.kind = DEV_KIND_BLK;
	worst.reason = REPLACE_SCHEDULE;
	worst.fence = FENCE_STOPPED;
	worst.wall_ns = 1234567890ull * NS_PER_S + 5000;
	worst.map.count = MEM_REGIONS_MAX;
	worst.queues = BOX_QUEUES_MAX;
	worst.cause_known = worst.call.known = worst.has_registers = true;
	worst.killed_by = SIGSEGV;
	worst.stack_bytes = AUTOPSY_STACK_BYTES;
	memset(worst.stack, '\033', sizeof(worst.stack));
	for (int i = 0; i < AUTOPSY_MESSAGES; i++)
		worst.messages.last[i].sent = i % 2 == 0;
	return 0;
}

static json_t *parsed(const struct autopsy *a)
{
	static char text[AUTOPSY_BYTES_MAX];
	const size_t n = autopsy_format(a, text, sizeof(text));
	json_t *document = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);

	assert_in_range(n, 1, AUTOPSY_BYTES_MAX);
	for (size_t i = 0; i < n; i++)
		assert_in_range(text[i], 0x20, 0x7e);
	assert_non_null(document);
	return document;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void test_worst_fits(void **state)
{
	json_t *d = parsed(&worst);
	const json_t *stack = json_object_get(d, "stack");
	const json_t *message = json_array_get(json_object_get(d, "messages"), 1);

	(void)state;
	assert_string_equal(text_of(d, "time"), "2009-02-13T23:31:30.000005Z");
	assert_int_equal(strlen(text_of(stack, "bytes")), 2 * AUTOPSY_STACK_BYTES);
	assert_memory_equal(text_of(stack, "bytes"), "1b1b1b", 6);
	assert_int_equal(json_array_size(json_object_get(d, "map")), MEM_REGIONS_MAX + 3);
	assert_int_equal(json_array_size(json_object_get(d, "messages")), AUTOPSY_MESSAGES);
	assert_int_equal(json_integer_value(json_object_get(message, "type")), UINT32_MAX);
	assert_true(json_is_null(json_object_get(message, "name")));
	assert_string_equal(text_of(json_object_get(d, "signal"), "name"), "SEGV");
	assert_true(json_is_null(json_object_get(d, "exit_code")));
	json_decref(d);
}

static void test_too_long_is_none(void **state)
{
	char text[512];

	(void)state;
	assert_int_equal(autopsy_format(&worst, text, sizeof(text)), 0);
}

/* Nothing known is null, and not zero. */
static void test_unknown_is_null(void **state)
{
	static const char *const keys[] = { "signal", "exit_code", "call", "registers", "stack" };
	const struct autopsy a = { .device = "d", .fence = FENCE_DEAD };
	json_t *d = parsed(&a);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_true(json_is_null(json_object_get(d, keys[i])));
	assert_int_equal(json_array_size(json_object_get(d, "map")), 0);
	assert_int_equal(json_array_size(json_object_get(d, "messages")), 0);
	json_decref(d);
}

/* Only what lies in the recorded mapping, whatever the pointer says. */
static void test_stack_span(void **state)
{
	static const struct {
		uint64_t stack, pointer;
		uint32_t span;
	} cases[] = {
		{ 0x10000, 0x10000, AUTOPSY_STACK_BYTES },
		{ 0x10000, 0x0ffff, 0 },
		{ 0x10000, 0x10000 + BOX_STACK_BYTES - 1, 1 },
		{ 0x10000, 0x10000 + BOX_STACK_BYTES, 0 },
		{ 0x10000, UINT64_MAX, 0 },
		{ 0x10000, 0, 0 },
		{ 0, 8, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct autopsy a = { .has_registers = true, .stack_addr = cases[i].stack };

		a.registers.rsp = cases[i].pointer;
		assert_int_equal(autopsy_stack_span(&a), cases[i].span);
		a.has_registers = false;
		assert_int_equal(autopsy_stack_span(&a), 0);
	}
}

static void test_last_messages_stay(void **state)
{
	struct autopsy a = { .device = "d" };
	json_t *d, *messages;

	(void)state;
	for (uint32_t i = 1; i <= 3 * AUTOPSY_MESSAGES + 5; i++)
		autopsy_note(&a.messages,
			     &(struct autopsy_message){ i * NS_PER_US, true, CTL_PING, i, 0 });
	d = parsed(&a);
	messages = json_object_get(d, "messages");
	assert_int_equal(json_array_size(messages), AUTOPSY_MESSAGES);
	for (uint32_t i = 0; i < AUTOPSY_MESSAGES; i++) {
		const json_t *m = json_array_get(messages, i);

		assert_int_equal(json_integer_value(json_object_get(m, "value")),
				 2 * AUTOPSY_MESSAGES + 6 + i);
		assert_string_equal(text_of(m, "name"), "PING");
	}
	json_decref(d);
}

/* ---- the coroner ---- */

static void on_told(void *ctx)
{
	sem_post(ctx);
}

static struct coroner *start(void)
{
	struct coroner *c = NULL;

	sem_init(&told, 0, 0);
	assert_int_equal(coroner_start(&c, dir, on_told, &told), 0);
	return c;
}

static enum coroner_result next(struct coroner *c)
{
	char device[DEVICE_ID_MAX + 1];
	enum coroner_result result;
	uint64_t generation;

	while ((result = coroner_next(c, device, &generation)) == CORONER_PENDING)
		sem_wait(&told);
	return result;
}

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir_path, sizeof(dir_path), "/tmp/autopsy-XXXXXX");
	if (mkdtemp(dir_path) == NULL)
		return -1;
	dir = open(dir_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static int remove_dir(void **state)
{
	struct autopsy_entry entries[AUTOPSY_FILES_MAX];
	char name[128];

	(void)state;
	for (uint32_t n = coroner_list(dir, "a-1", entries); n > 0; n--) {
		snprintf(name, sizeof(name), "autopsies/a-1-%llu.json",
			 (unsigned long long)entries[n - 1].generation);
		unlinkat(dir, name, 0);
	}
	unlinkat(dir, "autopsies/a-7.json", 0);
	unlinkat(dir, "autopsies", AT_REMOVEDIR);
	unlinkat(dir, "autopsies", 0);
	cc_close(&dir);
	return rmdir(dir_path);
}

/* Of one device the youngest stay; another's, of a name that begins alike, are not touched. */
static void test_files_are_bounded(void **state)
{
	struct autopsy_entry entries[AUTOPSY_FILES_MAX];
	struct coroner *c = start();
	struct autopsy a = { .device = "a", .generation = 7 };
	char text[AUTOPSY_BYTES_MAX];
	struct stat st;

	(void)state;
	assert_int_equal(coroner_submit(c, &a, 0, -1), 1);
	assert_int_equal(next(c), CORONER_WRITTEN);
	strcpy(a.device, "a-1");
	for (a.generation = 1; a.generation <= AUTOPSY_FILES_MAX + 9; a.generation++) {
		assert_int_equal(coroner_submit(c, &a, 0, -1), a.generation + 1);
		assert_int_equal(next(c), CORONER_WRITTEN);
	}
	coroner_stop(c);
	assert_int_equal(coroner_list(dir, "a", entries), 1);
	assert_int_equal(coroner_list(dir, "a-1", entries), AUTOPSY_FILES_MAX);
	assert_int_equal(entries[0].generation, 10);
	assert_int_equal(coroner_read(dir, "a-1", 9, text), -ENOENT);
	assert_int_equal(coroner_read(dir, "a-1", 10, text), entries[0].bytes);
	assert_int_equal(fstatat(dir, "autopsies", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(fstatat(dir, "autopsies/a-7.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstatat(dir, "autopsies/.unfinished", &st, 0), -1);
}

/* What is no folder of ours is not written into, and no link is followed. */
static void test_no_folder(void **state)
{
	const struct autopsy a = { .device = "a-1", .generation = 1 };
	struct coroner *c = start();

	(void)state;
	assert_int_equal(symlinkat("/tmp", dir, "autopsies"), 0);
	assert_int_equal(coroner_submit(c, &a, 0, -1), 1);
	assert_int_equal(next(c), CORONER_FAILED);
	coroner_stop(c);
}

/* Not all of it can be written: none of it stays, and the next is as good as the first. */
static void test_half_is_none(void **state)
{
	const struct autopsy a = { .device = "a-1", .generation = 1 };
	struct coroner *c = start();
	struct autopsy_entry entries[AUTOPSY_FILES_MAX];
	struct rlimit old, small;
	struct stat st;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ 100, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(coroner_submit(c, &a, 0, -1), 1);
	const enum coroner_result result = next(c);

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(result, CORONER_FAILED);
	assert_int_equal(coroner_list(dir, "a-1", entries), 0);
	assert_int_equal(fstatat(dir, "autopsies/.unfinished", &st, 0), -1);
	assert_int_equal(coroner_submit(c, &a, 0, -1), 2);
	assert_int_equal(next(c), CORONER_WRITTEN);
	coroner_stop(c);
}

/* What nobody takes away is not added to. */
static void test_queue_is_bounded(void **state)
{
	const struct autopsy a = { .device = "a-1", .generation = 1 };
	struct coroner *c = start();
	uint32_t taken = 0;

	(void)state;
	while (coroner_submit(c, &a, 0, -1) != 0 && taken < 1000)
		taken++;
	assert_in_range(taken, 1, 100);
	for (uint32_t i = 0; i < taken; i++)
		assert_int_equal(next(c), CORONER_WRITTEN);
	assert_int_not_equal(coroner_submit(c, &a, 0, -1), 0);
	coroner_stop(c);
}

static json_t *stack_of(int pid, int pidfd)
{
	struct autopsy a = { .device = "a-1", .generation = 1, .has_registers = true };
	struct coroner *c = start();
	char text[AUTOPSY_BYTES_MAX];
	json_t *document;
	int n;

	a.stack_addr = (uintptr_t)child_stack;
	a.registers.rsp = a.stack_addr + BOX_STACK_BYTES - 4;
	const uint64_t ticket = coroner_submit(c, &a, pid, pidfd);

	assert_int_equal(ticket, 1);
	assert_int_equal(next(c), CORONER_WRITTEN);
	assert_true(coroner_has_read(c, ticket));
	coroner_stop(c);
	n = coroner_read(dir, "a-1", 1, text);
	assert_true(n > 0);
	document = json_loadb(text, (size_t)n, 0, NULL);
	assert_non_null(document);
	return document;
}

/* A process that is there has a stack; one that was reaped has none, whoever has its number now. */
static void test_stack_is_its_own(void **state)
{
	const pid_t pid = fork();
	json_t *d;

	(void)state;
	if (pid == 0) {
		for (uint8_t i = 4; i > 0; i--)
			child_stack[BOX_STACK_BYTES - i] = (uint8_t)(5 - i);
		kill(getpid(), SIGSTOP);
		_exit(0);
	}
	assert_true(pid > 0);
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	d = stack_of(pid, pidfd);
	assert_string_equal(text_of(json_object_get(d, "stack"), "bytes"), "01020304");
	json_decref(d);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	d = stack_of(getpid(), pidfd);
	assert_true(json_is_null(json_object_get(d, "stack")));
	json_decref(d);
}

int main(void)
{
#define with_dir(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_worst_fits, setup),
		cmocka_unit_test_setup(test_too_long_is_none, setup),
		cmocka_unit_test(test_unknown_is_null),
		cmocka_unit_test(test_stack_span),
		cmocka_unit_test(test_last_messages_stay),
		with_dir(test_files_are_bounded),
		with_dir(test_no_folder),
		with_dir(test_half_is_none),
		with_dir(test_queue_is_bounded),
		with_dir(test_stack_is_its_own),
	};

	return cmocka_run_group_tests_name("autopsy", tests, NULL, NULL);
}
