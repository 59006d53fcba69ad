/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log of release programs: a copy of guest memory that is kept by what boxes mark, and by what the
 * driver writes, is alike to the byte whenever all is quiet, through handoffs and deaths; the log is
 * looked at from outside as guest memory is, comes and goes with an epoch, and one that would kill who
 * marks in it is refused.  COUNT=n: rounds (40).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/box/epoch.h"
#include "core/box/internal.h"
#include "tests/host/scene.h"
#include "tests/host/streams.h"
#include "tests/rig/memrig.h"
#include "tests/rig/mirror.h"

#define RAM_BYTES (32ull << 20)
#define MORE_GPA (4ull << 30)
#define MORE_BYTES (4ull << 20)
#define LOG_OFFSET 8192
#define QUICK 40
#define ROUND 200 /* requests */
#define STEP_NS (5 * NS_PER_MS)
#define DRAIN_NS (20 * NS_PER_S)
#define WAIT_MS 10000

static struct boxrig rig;
static struct mirror mirror;
static char who[DEVICE_ID_MAX + 1];

/* One of each kind that writes guest memory. */
static struct scene *disk;
static struct blkload work;
static struct boxrig_rng rng;
static struct streams console;
static struct memrig mem;
static struct watch rng_watch, console_watch;
static gpa_t rng_gpa, input_gpa;
static bool opened;

/* ---- epochs ---- */

/* All devices into an epoch with this log, or with none. */
static void move_to(const struct mirror *log)
{
	static struct box_memory memory;

	rig.mem.map.epoch++;
	boxrig_memory(&rig, &memory);
	memory.log_fd = 0; /* it says nothing */
	if (log != NULL)
		mirror_describe(log, &memory);
	assert_int_equal(supervisor_prepare_memory(rig.sup, &memory, WAIT_MS, who), 0);
	assert_int_equal(supervisor_move_memory(rig.sup, EPOCH_GONE, WAIT_MS, who), 0);
}

/* ---- the driver ---- */

/* A request of each other kind. */
static void others(uint32_t round)
{
	const struct ringdrv_seg seg = { rng_gpa.raw + round % 3 * 2048, 4096 };
	const struct ringdrv_chain chain = { .seg = &seg, .writable = 1 };
	const struct ringdrv_seg in = { input_gpa.raw + 4090, 64 };
	const struct ringdrv_chain typed = { .seg = &in, .writable = 1 };
	struct ringdrv_done done;
	struct mem_resp resp;

	assert_int_equal(ringdrv_add(&rng.ring, &chain), 0);
	ringdrv_publish(&rng.ring);
	(void)ringdrv_kick(&rng.ring);
	while (ringdrv_reap(&rng.ring, &done) != 1)
		assert_int_equal(ringdrv_wait(&rng.ring, SCENE_WAIT_MS * NS_PER_MS), 1);
	assert_int_equal(ringdrv_add(&console.rings[0], &typed), 0);
	ringdrv_publish(&console.rings[0]);
	(void)ringdrv_kick(&console.rings[0]);
	assert_int_equal(write(console.input, &round, sizeof(round)), sizeof(round));
	while (ringdrv_reap(&console.rings[0], &done) != 1)
		assert_int_equal(ringdrv_wait(&console.rings[0], SCENE_WAIT_MS * NS_PER_MS), 1);
	assert_int_equal(memrig_do(&mem, MEM_STATE, round % 8, 1, &resp), 0);
}

static void step_load(uint32_t requests)
{
	const uint64_t until = blkload_completed(&work) + requests;

	for (uint32_t n = 0; blkload_completed(&work) < until; n++) {
		assert_true(blkload_step(&work, STEP_NS) >= 0);
		if (n % 7 == 0)
			mirror_fetch(&mirror);
	}
}

/* Nobody has anything to do, but for a box that is late to say of kicks what it has to: that is marked, too, once
 * it is said, so one moment at which all is alike is enough. */
static void expect_alike(void)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	uint64_t differs;

	do {
		usleep(1000);
		mirror_fetch(&mirror);
		differs = mirror_differs(&mirror, now_ns() > end);
	} while (differs != 0 && now_ns() < end);
	assert_int_equal(differs, 0);
}

/* ---- the devices ---- */

static void open_all(void)
{
	const struct boxrig_rng_config config = {
		.id = "rng0", .ring_size = 16, .hooks = &watch_hooks, .ctx = &rng_watch
	};
	const struct blkload_config mix = { .sectors = SCENE_SECTORS, .seed = 5 };

	disk = scene_create(&rig, &(struct boxrig_blk_config){ .queues = 2, .lanes = 2 });
	scene_start(disk);
	assert_int_equal(blkload_init(&work, &rig.mem, &mix), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(blkload_add_queue(&work, &disk->blk.rings[i], SCENE_DEPTH), 0);
	watch_init(&rng_watch);
	assert_int_equal(boxrig_rng_create(&rig, &config, &rng), 0);
	assert_int_equal(boxrig_rng_go(&rng), 0);
	watch_init(&console_watch);
	streams_create(&console, &rig, DEV_KIND_CONSOLE, &console_watch);
	streams_go(&console);
	assert_int_equal(memrig_create(&rig, &mem, 8, &(struct device_spec){ 0 }), 0);
	assert_int_equal(guestmem_alloc_in(&rig.mem, MORE_GPA, 3 * 4096, 4096, &rng_gpa), 0);
	assert_int_equal(guestmem_alloc(&rig.mem, 2 * 4096, 4096, &input_gpa), 0);
	opened = true;
}

static void close_all(void)
{
	opened = false;
	memrig_destroy(&mem);
	streams_destroy(&console);
	watch_free(&console_watch);
	boxrig_rng_destroy(&rng);
	watch_free(&rng_watch);
	blkload_free(&work);
	scene_end(disk);
}

static void kill_box(struct device *dev)
{
	struct device_status status;

	device_status(dev, &status);
	if (status.pid > 0) /* it may have been replaced by now, and be gone */
		(void)kill(status.pid, SIGKILL);
}

/* Handoffs, recoveries, and both in one round, of one device after the other. */
static void disturb(uint32_t round)
{
	struct device *const devices[] = { disk->blk.dev, rng.dev,       disk->blk.dev,
					   console.dev,   disk->blk.dev, mem.dev };
	struct device *dev = devices[round % ARRAY_SIZE(devices)];
	const uint32_t what = round / 2 % 4;

	if (what == 0)
		return;
	assert_int_equal(device_wait_standby(dev, SCENE_WAIT_MS), 0);
	if (what != 2)
		(void)device_replace_post(dev, REPLACE_SCHEDULE, round % 3 == 0);
	if (what >= 2)
		kill_box(dev);
}

static void test_followed(void **state)
{
	const uint32_t count = (uint32_t)scene_count(QUICK);

	(void)state;
	open_all();
	step_load(ROUND); /* nobody watches yet */
	assert_int_equal(mirror_begin(&mirror, &rig.mem, LOG_OFFSET), 0);
	move_to(&mirror);
	mirror_copy(&mirror);
	for (uint32_t round = 0; round < count; round++) {
		disturb(round);
		step_load(ROUND);
		others(round);
		assert_int_equal(blkload_drain(&work, DRAIN_NS), 0);
		expect_alike();
		blkload_resume(&work);
	}
	assert_true(mirror.marked > count && mirror.written > count);
	assert_int_equal(blkload_drain(&work, DRAIN_NS), 0);
	assert_int_equal(blkload_verify(&work, DRAIN_NS), 0);
	assert_true(blkload_clean(&work));
	expect_alike();
	print_message("%lu pages by marks of boxes, %lu by the driver\n", mirror.marked,
		      mirror.written);
	move_to(NULL);
	mirror_end(&mirror);
	close_all();
}

/* ---- what is mapped ---- */

/* Shared mappings of the file in the process. */
static uint32_t mapped(pid_t pid, int fd)
{
	char path[64], line[512], want[32];
	struct stat st;
	uint32_t n = 0;

	assert_int_equal(fstat(fd, &st), 0);
	snprintf(want, sizeof(want), " %llu ", (unsigned long long)st.st_ino);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, "memfd:dirty") != NULL && strstr(line, want) != NULL &&
		     strstr(line, " rw-s ") != NULL;
	fclose(maps);
	return n;
}

/* It comes with an epoch and goes with it; who serves meanwhile passes every look. */
static void test_comes_and_goes(void **state)
{
	struct scene *s = scene_open(&rig, &(struct boxrig_blk_config){ .audit_ms = 10 });

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(mirror_begin(&mirror, &rig.mem, 4096 * (uint64_t)i), 0);
		assert_true(mirror.bytes % 4096 != 0); /* or this would not try it */
		move_to(&mirror);
		assert_int_equal(mapped(scene_status(s).pid, mirror.fd), 1);
		scene_standby(s);
		assert_int_equal(mapped(scene_status(s).standby_pid, mirror.fd), 1);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
		usleep(50000);
		assert_true(mirror_fetch(&mirror) > 0);
		move_to(NULL);
		assert_int_equal(mapped(scene_status(s).pid, mirror.fd), 0);
		scene_standby(s);
		assert_int_equal(mapped(scene_status(s).standby_pid, mirror.fd), 0);
		mirror_end(&mirror);
	}
	assert_int_equal(scene_status(s).replacements[REPLACE_AUDIT], 0);
	scene_close(s);
}

/* ---- the look from outside ---- */

static void longer(struct box *box)
{
	box->launch->log_bytes += 4096;
}

static void shorter(struct box *box)
{
	box->launch->log_bytes -= 4096;
}

static void elsewhere(struct box *box)
{
	box->launch->log_addr += 4096;
}

static void offset(struct box *box)
{
	box->launch->log_offset += 4096;
}

static void another_file(struct box *box)
{
	box->log_ino++;
}

static void none(struct box *box)
{
	box->launch->log_bytes = 0;
}

static void region_elsewhere(struct box *box)
{
	box->launch->map.regions[0].addr += 4096;
}

static void region_offset(struct box *box)
{
	box->launch->region_offset[0] += 4096;
}

static void region_of_another_file(struct box *box)
{
	box->region_ino[0]++;
}

/* What verify.c says of a box that was to be born with something else. NULL: it is sound. */
static const char *judged(struct scene *s, void (*change)(struct box *box))
{
	static struct launch_record record;
	struct box box = s->blk.dev->active->boxes[0];
	const char *what = NULL;

	record = *box.launch;
	box.launch = &record;
	if (change != NULL)
		change(&box);
	const int ret = verify_seal(&box, &what);

	assert_int_equal(ret, what != NULL ? -EPERM : 0);
	return what;
}

static void within_page(struct box *box)
{
	box->launch->log_bytes--; /* no other mapping: sound */
}

static void test_judged(void **state)
{
	static void (*const changes[])(struct box *) = {
		longer, shorter,          elsewhere,     offset,
		none,   region_elsewhere, region_offset, another_file,
	};
	struct scene *s = scene_create(&rig, &(struct boxrig_blk_config){ 0 });
	const char *unlisted = "a mapping that the launch record does not list";

	(void)state;
	scene_start(s);
	assert_null(judged(s, NULL));
	assert_int_equal(mirror_begin(&mirror, &rig.mem, LOG_OFFSET), 0);
	move_to(&mirror);
	assert_null(judged(s, NULL));
	assert_null(judged(s, within_page));
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
		assert_string_equal(judged(s, changes[i]), unlisted);
	assert_string_equal(judged(s, region_of_another_file), unlisted);
	move_to(NULL);
	assert_string_equal(judged(s, longer), "a mapping is missing");
	mirror_end(&mirror);
	scene_close(s);
}

/* ---- refused ---- */

static void expect_refused(struct scene *s, int fd, uint64_t at, uint64_t bytes)
{
	static struct box_memory memory;

	rig.mem.map.epoch++;
	boxrig_memory(&rig, &memory);
	memory.log_fd = fd;
	memory.log_offset = at;
	memory.log_bytes = bytes;
	assert_int_equal(supervisor_prepare_memory(rig.sup, &memory, WAIT_MS, who), -EIO);
	supervisor_abandon_memory(rig.sup);
	assert_int_equal(supervisor_move_memory(rig.sup, EPOCH_GONE, WAIT_MS, who), 0);
	assert_int_equal(loadrun_progress(&s->run, 10, SCENE_WAIT_MS), 0);
}

/* A log that cannot be written, or ends before its file does: nobody serves with it, and nobody noticed. */
static void test_refused(void **state)
{
	struct scene *s = scene_open(&rig, &(struct boxrig_blk_config){ 0 });
	const int fd = memfd_create("dirty", MFD_CLOEXEC);
	char path[64];

	(void)state;
	assert_int_equal(ftruncate(fd, 12288), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	const int readonly = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(readonly >= 0);
	expect_refused(s, readonly, 0, 4096);
	expect_refused(s, fd, 0, 12289);
	expect_refused(s, fd, 8192, 4097);
	expect_refused(s, fd, 16384, 1);
	expect_refused(s, fd, UINT64_MAX - 4095, 4096);
	expect_refused(s, fd, 100, 1);
	expect_refused(s, -1, 0, 1);
	close(readonly);
	close(fd);
	scene_close(s);
}

/* ---- main ---- */

static int clean(void **state)
{
	if (mirror.mem != NULL) /* the next test's devices are not to be born with it */
		move_to(NULL);
	mirror_end(&mirror);
	if (opened)
		close_all();
	return scene_teardown(state);
}

static int more_memory(struct boxrig *r)
{
	return guestmem_add(&r->mem, MORE_GPA, MORE_BYTES, GUESTMEM_4K);
}

int main(void)
{
#define DIRTY_TEST(test) cmocka_unit_test_teardown(test, clean)
	const struct CMUnitTest tests[] = {
		DIRTY_TEST(test_followed),
		DIRTY_TEST(test_comes_and_goes),
		DIRTY_TEST(test_judged),
		DIRTY_TEST(test_refused),
	};
	const struct scene_group group = { .name = "dirty_log",
					   .bytes = RAM_BYTES,
					   .more_memory = more_memory };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
