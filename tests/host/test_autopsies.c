/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Autopsies of release programs, each brought to its end from outside: what the document says; then
 * disks that do not take it, and more deaths than anybody wants to read of.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/box/autopsy.h"
#include "core/box/fault.h"
#include "core/box/internal.h"
#include "tests/host/scene.h"
#include "tests/rig/fds.h"
#include "tests/rig/inject.h"

static struct boxrig rig;
static char state_dir[64];

static int begin(void **state)
{
	(void)state;
	snprintf(state_dir, sizeof(state_dir), "%.40s/autopsies-XXXXXX", scene_dir());
	return mkdtemp(state_dir) == NULL ? -1 : supervisor_keep_autopsies(rig.sup, state_dir);
}

static void forget(const char *folder)
{
	char path[400];
	struct dirent *file;
	DIR *d = opendir(folder);

	while (d != NULL && (file = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", folder, file->d_name);
		unlink(path);
	}
	if (d != NULL)
		closedir(d);
	rmdir(folder);
	unlink(folder);
}

static const char *folder(void)
{
	static char path[80];

	snprintf(path, sizeof(path), "%s/autopsies", state_dir);
	return path;
}

static void nap(void *arg)
{
	usleep(*(const useconds_t *)arg);
}

/* What comes next ends the supervisor, whose loop then has news of the coroner's in hand: both naps are over before
 * they are heard, and by then the coroner has ended. */
static void leave_news(void)
{
	static useconds_t first = 100000, second = 300000;
	const struct autopsy a = { .device = "gone", .generation = 1 };
	struct coroner *coroner = rig.sup->coroner;
	uint64_t ticket;

	loop_post(rig.sup->loop, nap, &first);
	usleep(first / 4);
	loop_post(rig.sup->loop, nap, &second);
	ticket = coroner_submit(coroner, &a, 0, -1);
	assert_int_not_equal(ticket, 0);
	while (!coroner_has_read(coroner, ticket))
		usleep(100);
	usleep(first);
}

static int finish(void **state)
{
	(void)state;
	leave_news();
	forget(folder());
	return rmdir(state_dir);
}

static struct scene *open_scene(void)
{
	forget(folder());
	return scene_open(&rig, &(struct boxrig_blk_config){ 0 });
}

/* Until as many were dealt with. */
static struct device_status await_autopsies(struct scene *s, uint64_t count)
{
	const uint64_t by = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	for (;;) {
		const struct device_status status = scene_status(s);

		if (status.autopsies + status.autopsies_failed + status.autopsies_skipped >= count)
			return status;
		assert_true(now_ns() < by);
		usleep(1000);
	}
}

/* The document of the first generation, after the fault; the device serves again. */
static json_t *autopsy_after(struct scene *s, const struct replacement *r)
{
	char text[AUTOPSY_BYTES_MAX];
	json_t *d;
	int n;

	assert_int_equal(await_autopsies(s, 1).autopsies, 1);
	n = device_autopsy(s->blk.dev, r->from, text);
	assert_true(n > 0);
	d = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(d);
	assert_string_equal(json_string_value(json_object_get(d, "kind")), "blk");
	assert_int_equal(json_integer_value(json_object_get(d, "generation")), r->from);
	assert_string_equal(json_string_value(json_object_get(d, "reason")),
			    replace_reason_name(r->reason));
	assert_string_equal(json_string_value(json_object_get(d, "fence")), fence_name(r->fence));
	assert_true(json_integer_value(json_object_get(d, "age_us")) > 0);
	assert_int_equal(json_array_size(json_object_get(d, "queues")), 1);
	assert_int_equal(json_array_size(json_object_get(d, "map")), 2 + rig.mem.map.count);
	assert_true(json_array_size(json_object_get(d, "messages")) >= 4);
	assert_true(json_array_size(json_object_get(d, "seal")) > 0);
	return d;
}

static long long member(const json_t *d, const char *object, const char *key)
{
	return json_integer_value(json_object_get(json_object_get(d, object), key));
}

/* Registers and the stack at their pointer, where the box was stopped and not killed. */
static void expect_frozen(const json_t *d)
{
	const json_t *registers = json_object_get(d, "registers");
	const json_t *stack = json_object_get(d, "stack");

	assert_true(json_is_object(registers));
	assert_true(json_is_object(stack));
	assert_string_equal(json_string_value(json_object_get(stack, "address")),
			    json_string_value(json_object_get(registers, "rsp")));
	assert_true(strlen(json_string_value(json_object_get(stack, "bytes"))) >= 16);
}

static void test_condemned(void **state)
{
	struct scene *s = open_scene();

	(void)state;
	assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	assert_int_equal(device_condemn(s->blk.dev, REPLACE_HANG), 0);
	const struct replacement r = scene_replaced(s, 0);
	json_t *d = autopsy_after(s, &r);

	assert_string_equal(fence_name(r.fence), "stopped");
	expect_frozen(d);
	assert_true(json_is_null(json_object_get(d, "signal")));
	json_decref(d);
	scene_close(s);
}

static void expect_signal(int (*fault)(pid_t pid), int number)
{
	struct scene *s = open_scene();

	assert_int_equal(fault(scene_status(s).pid), 0);
	const struct replacement r = scene_replaced(s, 0);
	json_t *d = autopsy_after(s, &r);

	assert_int_equal(member(d, "signal", "number"), number);
	assert_true(json_is_null(json_object_get(d, "registers")));
	assert_true(json_is_null(json_object_get(d, "stack")));
	json_decref(d);
	scene_close(s);
}

static int kill_it(pid_t pid)
{
	return kill(pid, SIGKILL);
}

static void test_killed(void **state)
{
	(void)state;
	expect_signal(kill_it, SIGKILL);
}

static void test_crashed(void **state)
{
	(void)state;
	expect_signal(hand_fault, SIGSEGV);
}

static void test_forbidden_call(void **state)
{
	struct scene *s = open_scene();

	(void)state;
	if (!rig.host.listener)
		skip();
	assert_int_equal(hand_call(scene_status(s).pid, SYS_getuid), 0);
	const struct replacement r = scene_replaced(s, 0);
	json_t *d = autopsy_after(s, &r);

	assert_string_equal(replace_reason_name(r.reason), "seccomp");
	assert_int_equal(member(d, "call", "number"), SYS_getuid);
	assert_true(json_is_true(json_object_get(json_object_get(d, "call"), "forbidden")));
	json_decref(d);
	scene_close(s);
}

/* ---- what does not fit ---- */

static uint64_t recover(struct scene *s)
{
	const uint64_t seen = watch_count(&s->watch, WATCH_REPLACED);

	scene_standby(s);
	assert_int_equal(device_condemn(s->blk.dev, REPLACE_HANG), 0);
	return scene_replaced(s, seen).to;
}

static uint32_t files(void)
{
	DIR *d = opendir(folder());
	uint32_t n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n < 2 ? 0 : n - 2;
}

/* The disk takes a part of each, and later all of it again.  (With less right: tests/unit.) */
static void test_full_disk(void **state)
{
	struct scene *s = open_scene();
	char filler[96];

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: no right to mount a small file system\n");
		scene_close(s);
		skip();
	}
	assert_int_equal(mkdir(folder(), 0700), 0);
	assert_int_equal(mount("none", folder(), "tmpfs", 0, "size=8k,mode=700"), 0);
	snprintf(filler, sizeof(filler), "%s/filler", folder());
	cleanup_fd int fd = open(filler, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_int_equal(posix_fallocate(fd, 0, 8192), 0);
	for (uint64_t i = 1; i <= 3; i++) {
		recover(s);
		await_autopsies(s, i);
	}
	assert_int_equal(scene_status(s).autopsies_failed, 3);
	assert_int_equal(files(), 1);
	assert_int_equal(unlink(filler), 0);
	cc_close(&fd);
	recover(s);
	assert_int_equal(await_autopsies(s, 4).autopsies, 1);
	assert_int_equal(files(), 1);
	scene_close(s);
	assert_int_equal(umount(folder()), 0);
}

static void test_unwritable(void **state)
{
	struct scene *s = open_scene();
	const int fd = open(folder(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	recover(s);
	assert_int_equal(await_autopsies(s, 1).autopsies_failed, 1);
	scene_close(s);
}

/* $COUNT in a row: what is written is bounded by the rate, the rest is counted; nothing grows. */
static void test_many(void **state)
{
	const uint64_t count = scene_count(200);
	struct scene *s = open_scene();

	(void)state;
	recover(s);
	scene_standby(s);
	await_autopsies(s, 1);
	const uint32_t open = fds_open(0);
	const size_t used = mallinfo2().uordblks;

	for (uint64_t i = 1; i < count; i++)
		recover(s);
	scene_standby(s);
	const struct device_status status = await_autopsies(s, count);

	assert_int_equal(status.autopsies_failed, 0);
	assert_int_equal(status.autopsies + status.autopsies_skipped, count);
	assert_true(status.autopsies >= 10);
	assert_in_range(files(), 1, AUTOPSY_FILES_MAX);
	assert_true(mallinfo2().uordblks < used + (256u << 10));
	while (fds_open(0) > open) /* the last generation is being reaped */
		usleep(1000);
	print_message("%llu recoveries: %llu written, %llu skipped\n", (unsigned long long)count,
		      (unsigned long long)status.autopsies,
		      (unsigned long long)status.autopsies_skipped);
	scene_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_condemned), scene_test(test_killed),
		scene_test(test_crashed),   scene_test(test_forbidden_call),
		scene_test(test_full_disk), scene_test(test_unwritable),
		scene_test(test_many),
	};
	const struct scene_group group = {
		.name = "autopsies", .bytes = 64u << 20, .begin = begin, .end = finish
	};

	/* Before any thread: a small disk is mounted in one's own view of the file system. */
	if (geteuid() == 0 &&
	    (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0))
		return 1;
	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
