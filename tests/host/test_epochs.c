/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the memory map under verified load, with release programs: regions come and go, devices move
 * into each epoch, whatever else happens to them, and nobody keeps what was taken away.  COUNT=n: changes
 * (40), of which half add.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/box/epoch.h"
#include "tests/host/scene.h"
#include "tests/rig/fds.h"

#define BOOT_BYTES (256ull << 20)
#define NEW_GPA (4ull << 30)
#define NEW_BYTES (64ull << 20)
#define QUICK 40
#define WAIT_MS 10000

static struct boxrig rig;
static char who[DEVICE_ID_MAX + 1];
static struct boxrig_rng rng;
static struct watch rng_watch;

/* The map as the rig has it now. */
static const struct box_memory *memory_now(void)
{
	static struct box_memory memory;

	boxrig_memory(&rig, &memory);
	return &memory;
}

static int prepare(void)
{
	return supervisor_prepare_memory(rig.sup, memory_now(), WAIT_MS, who);
}

static int move(enum epoch_until until)
{
	return supervisor_move_memory(rig.sup, until, WAIT_MS, who);
}

/* Two devices: a disk under load, and entropy that writes where it is told. */
static struct scene *open_both(void)
{
	const struct boxrig_rng_config config = {
		.id = "rng0", .ring_size = 16, .hooks = &watch_hooks, .ctx = &rng_watch
	};
	struct scene *s = scene_open(&rig, &(struct boxrig_blk_config){ 0 });

	watch_init(&rng_watch);
	assert_int_equal(boxrig_rng_create(&rig, &config, &rng), 0);
	assert_int_equal(boxrig_rng_go(&rng), 0);
	assert_int_equal(watch_wait(&rng_watch, WATCH_STARTED, 1, SCENE_WAIT_MS), 0);
	return s;
}

static void close_both(struct scene *s)
{
	scene_close(s);
	boxrig_rng_destroy(&rng);
	watch_free(&rng_watch);
}

static void add_region(void)
{
	assert_int_equal(guestmem_add(&rig.mem, NEW_GPA, NEW_BYTES, GUESTMEM_4K), 0);
}

/* Whether a device of this epoch reaches the last page of the new region. */
static void write_top(void)
{
	const struct ringdrv_seg seg = { NEW_GPA + NEW_BYTES - 4096, 4096 };
	const struct ringdrv_chain chain = { .seg = &seg, .writable = 1 };
	uint64_t *page = guestmem_ptr(&rig.mem, gpa_make(seg.gpa), seg.len), sum = 0;
	struct ringdrv_done done;

	memset(page, 0, seg.len);
	assert_int_equal(ringdrv_add(&rng.ring, &chain), 0);
	ringdrv_publish(&rng.ring);
	(void)ringdrv_kick(&rng.ring);
	while (ringdrv_reap(&rng.ring, &done) != 1)
		assert_true(ringdrv_wait(&rng.ring, SCENE_WAIT_MS * NS_PER_MS) == 1);
	for (uint32_t i = 0; i < seg.len / sizeof(*page); i++)
		sum |= page[i];
	assert_int_not_equal(sum, 0);
}

/* How many mappings of the file there are in the processes of this user. */
static uint32_t mappings(ino_t ino)
{
	char path[64], line[512], want[32];
	DIR *proc = opendir("/proc");
	const struct dirent *entry;
	uint32_t n = 0;

	assert_non_null(proc);
	snprintf(want, sizeof(want), " %llu ", (unsigned long long)ino);
	while ((entry = readdir(proc)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%.20s/maps", entry->d_name);
		FILE *maps = fopen(path, "re");

		while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
			n += strstr(line, "memfd:guest") != NULL && strstr(line, want) != NULL;
		if (maps != NULL)
			fclose(maps);
	}
	closedir(proc);
	return n;
}

/* Nobody on this host can reach what this was a descriptor of. Closes it. */
static void check_revoked(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(mappings(st.st_ino), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0); /* EBUSY as long as one writes */
	close(fd);
}

static void check_epoch(struct scene *s)
{
	struct device_status status;

	assert_int_equal(scene_status(s).epoch, rig.mem.map.epoch);
	device_status(rng.dev, &status);
	assert_int_equal(status.epoch, rig.mem.map.epoch);
}

static void take_region(void)
{
	int fd = -1;

	assert_int_equal(guestmem_remove(&rig.mem, NEW_GPA, &fd), 0);
	assert_int_equal(prepare(), 0);
	assert_int_equal(move(EPOCH_GONE), 0);
	check_revoked(fd);
}

/* ---- changes ---- */

/* What this process holds and has made. */
struct holdings {
	uint32_t descriptors, mappings, children;
};

static uint32_t lines(const char *path)
{
	FILE *file = fopen(path, "re");
	uint32_t n = 0;

	assert_non_null(file);
	for (int c; (c = getc(file)) != EOF;)
		n += c == '\n';
	fclose(file);
	return n;
}

static struct holdings holdings(void)
{
	struct holdings h = { .descriptors = fds_open(0), .mappings = lines("/proc/self/maps") };
	char path[64], text[4096] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	FILE *file = fopen(path, "re");

	if (file != NULL && fgets(text, sizeof(text), file) != NULL) {
		for (const char *p = text; (p = strchr(p, ' ')) != NULL; p++)
			h.children++;
	}
	if (file != NULL)
		fclose(file);
	return h;
}

/* The same, once the standbys are there again and the last that was replaced is reaped. */
static void check_holdings(struct scene *s, const struct holdings *before)
{
	struct holdings now = { 0 };

	for (int ms = 0; ms < 2000; ms++) {
		scene_standby(s);
		assert_int_equal(device_wait_standby(rng.dev, SCENE_WAIT_MS), 0);
		now = holdings();
		if (now.descriptors <= before->descriptors && now.children <= before->children &&
		    now.mappings <= before->mappings + 2) /* an arena of malloc()'s may grow */
			return;
		usleep(1000);
	}
	fail_msg("%u descriptors, %u mappings, %u children, and were %u, %u, %u", now.descriptors,
		 now.mappings, now.children, before->descriptors, before->mappings,
		 before->children);
}

static void test_changes(void **state)
{
	const uint64_t count = scene_count(QUICK) / 2;
	struct scene *s = open_both();

	(void)state;
	struct holdings before = { 0 };

	for (uint64_t i = 0; i < count; i++) {
		if (i == 1) { /* all that is made once is there */
			scene_standby(s);
			assert_int_equal(device_wait_standby(rng.dev, SCENE_WAIT_MS), 0);
			usleep(100000);
			before = holdings();
		}
		add_region();
		assert_int_equal(prepare(), 0);
		assert_int_not_equal(scene_status(s).epoch, rig.mem.map.epoch);
		assert_int_equal(move(EPOCH_MOVED), 0);
		check_epoch(s);
		write_top();
		assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
		take_region();
		check_epoch(s);
	}
	const struct device_status status = scene_status(s);

	assert_int_equal(status.replacements[REPLACE_MEMORY_MAP], 2 * count);
	assert_int_equal(status.cold, 0);
	check_holdings(s, &before);
	close_both(s);
}

/* A device without a driver has a standby only. */
static void test_idle(void **state)
{
	struct scene *s = scene_create(&rig, &(struct boxrig_blk_config){ 0 });

	(void)state;
	add_region();
	assert_int_equal(prepare(), 0);
	assert_int_equal(move(EPOCH_GONE), 0);
	assert_int_equal(scene_status(s).epoch, rig.mem.map.epoch);
	scene_start(s);
	take_region();
	scene_end(s);
}

/* ---- what comes in between ---- */

/* A guest may give away memory in which it has rings.  It has harmed that device, until it resets it; the
 * change comes to its end, and the others serve. */
static void test_rings_given_away(void **state)
{
	const struct boxrig_rng_config config = {
		.id = "rng0", .ring_size = 16, .hooks = &watch_hooks, .ctx = &rng_watch
	};
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };
	struct scene *s = scene_open(&rig, &(struct boxrig_blk_config){ 0 });

	(void)state;
	watch_init(&rng_watch);
	assert_int_equal(boxrig_rng_create(&rig, &config, &rng), 0);
	add_region();
	assert_int_equal(prepare(), 0);
	assert_int_equal(move(EPOCH_MOVED), 0);
	ringdrv_describe(&rng.ring, &queues[0]);
	queues[0].desc_gpa += NEW_GPA; /* all are zeroes there: a queue in which nothing waits */
	queues[0].avail_gpa += NEW_GPA;
	queues[0].used_gpa += NEW_GPA;
	assert_int_equal(device_start(rng.dev, RINGDRV_VERSION_1, queues), 0);
	assert_int_equal(watch_wait(&rng_watch, WATCH_STARTED, 1, SCENE_WAIT_MS), 0);
	take_region();
	assert_int_equal(watch_wait(&rng_watch, WATCH_BROKEN, 1, SCENE_WAIT_MS), 0);
	assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
	assert_int_equal(scene_status(s).replacements[REPLACE_MEMORY_MAP], 2);
	device_reset(rng.dev);
	assert_int_equal(watch_wait(&rng_watch, WATCH_RESET, 1, SCENE_WAIT_MS), 0);
	assert_int_equal(boxrig_rng_go(&rng), 0);
	assert_int_equal(watch_wait(&rng_watch, WATCH_STARTED, 2, SCENE_WAIT_MS), 0);
	check_epoch(s);
	close_both(s);
}

#define ABOVE_GPA (8ull << 30)
#define AUDIT_MS 10

/* Between prepare and move whoever serves is of a map that is not the current one any more, of which it is
 * audited all the same. */
static void test_audited(void **state)
{
	struct scene *s = scene_open(&rig, &(struct boxrig_blk_config){ .audit_ms = AUDIT_MS });
	struct device_status status;
	int fd = -1;

	(void)state;
	add_region();
	assert_int_equal(guestmem_add(&rig.mem, ABOVE_GPA, NEW_BYTES, GUESTMEM_4K), 0);
	assert_int_equal(prepare(), 0);
	assert_int_equal(move(EPOCH_MOVED), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(guestmem_remove(&rig.mem, i ? ABOVE_GPA : NEW_GPA, &fd), 0);
		assert_int_equal(prepare(), 0);
		usleep(10 * AUDIT_MS * 1000);
		assert_int_equal(move(EPOCH_GONE), 0);
		check_revoked(fd);
	}
	status = scene_status(s);
	assert_int_equal(status.replacements[REPLACE_AUDIT], 0);
	assert_int_equal(status.replacements[REPLACE_MEMORY_MAP], 3);
	scene_close(s);
}

static void test_abandoned(void **state)
{
	struct scene *s = open_both();
	const uint32_t epoch = scene_status(s).epoch;
	int fd = -1;

	(void)state;
	for (int killed = 0; killed < 2; killed++) {
		add_region();
		assert_int_equal(prepare(), 0);
		if (killed) { /* it comes back in the map that is to be abandoned */
			const uint64_t seen = watch_count(&s->watch, WATCH_REPLACED);

			assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
			assert_false(scene_replaced(s, seen).planned);
			assert_int_equal(scene_status(s).epoch, rig.mem.map.epoch);
		}
		supervisor_abandon_memory(rig.sup);
		assert_int_equal(move(EPOCH_GONE), 0);
		assert_int_equal(scene_status(s).epoch, epoch);
		assert_int_equal(guestmem_remove(&rig.mem, NEW_GPA, &fd), 0);
		check_revoked(fd);
	}
	close_both(s);
}

/* A region that nobody can map: the change is undone, and the devices have not noticed. */
static void test_cannot_be_had(void **state)
{
	struct scene *s = open_both();
	const uint32_t epoch = scene_status(s).epoch;
	const uint64_t generation = scene_status(s).generation;
	const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int memfd, kept = -1;

	(void)state;
	add_region();
	assert_int_equal(rig.mem.map.regions[rig.mem.map.count - 1].gpa, NEW_GPA);
	memfd = rig.mem.fds[rig.mem.map.count - 1];
	rig.mem.fds[rig.mem.map.count - 1] = fd;
	assert_int_equal(prepare(), -EIO);
	assert_true(strcmp(who, "disk0") == 0 || strcmp(who, "rng0") == 0);
	supervisor_abandon_memory(rig.sup);
	assert_int_equal(move(EPOCH_GONE), 0);
	assert_int_equal(scene_status(s).epoch, epoch);
	assert_int_equal(scene_status(s).generation, generation);
	rig.mem.fds[rig.mem.map.count - 1] = memfd;
	assert_int_equal(guestmem_remove(&rig.mem, NEW_GPA, &kept), 0);
	check_revoked(kept);
	close(fd);
	close_both(s);
}

/* Killed, reset or asked to be replaced at any time of a change. */
static void test_disturbed(void **state)
{
	struct scene *s = open_both();
	struct device_status status;

	(void)state;
	for (uint32_t i = 0; i < 12; i++) {
		if (i % 2 == 0)
			add_region();
		int fd = -1;

		if (i % 2 == 1)
			assert_int_equal(guestmem_remove(&rig.mem, NEW_GPA, &fd), 0);
		device_status(rng.dev, &status);
		if (i % 3 == 0)
			assert_int_equal(kill(status.pid, SIGKILL), 0);
		assert_int_equal(prepare(), 0);
		if (i % 3 == 1)
			assert_int_equal(kill(status.pid, SIGKILL), 0);
		/* -EBUSY: it is being recovered. */
		if (i % 3 == 2)
			(void)device_replace_post(rng.dev, REPLACE_SCHEDULE, false);
		assert_int_equal(move(EPOCH_GONE), 0);
		device_status(rng.dev, &status);
		assert_int_equal(status.epoch, rig.mem.map.epoch);
		if (fd >= 0)
			check_revoked(fd);
	}
	close_both(s);
}

/* One that was given up refuses, from the new map. */
static void test_quarantined(void **state)
{
	const struct boxrig_blk_config config = { .death_budget = 1, .death_window_s = 600 };
	struct scene *s = scene_create(&rig, &config);

	(void)state;
	scene_start(s);
	for (uint64_t i = 0; i < 2; i++) {
		scene_standby(s);
		assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
		if (i == 0)
			(void)scene_replaced(s, 0);
	}
	assert_int_equal(watch_wait(&s->watch, WATCH_BROKEN, 1, SCENE_WAIT_MS), 0);
	while (scene_status(s).pid == 0)
		usleep(100);
	add_region();
	assert_int_equal(prepare(), 0);
	assert_int_equal(move(EPOCH_GONE), 0);
	while (scene_status(s).pid == 0)
		usleep(100);
	assert_string_equal(scene_status(s).state, "quarantined");
	assert_int_equal(scene_status(s).epoch, rig.mem.map.epoch);
	take_region();
	assert_int_equal(device_revive(s->blk.dev), 0);
	scene_await(s, "active");
	scene_end(s);
}

/* A stopped spawner makes nothing: the wait ends by its time, and the same change can be gone on with. */
static void test_late(void **state)
{
	struct scene *s = open_both();

	(void)state;
	assert_int_equal(kill(rig.spawner.pid, SIGSTOP), 0);
	add_region();
	assert_int_equal(supervisor_prepare_memory(rig.sup, memory_now(), 50, who), -ETIMEDOUT);
	supervisor_abandon_memory(rig.sup);
	assert_int_equal(kill(rig.spawner.pid, SIGCONT), 0);
	assert_int_equal(move(EPOCH_GONE), 0);
	int fd = -1;

	assert_int_equal(guestmem_remove(&rig.mem, NEW_GPA, &fd), 0);
	check_revoked(fd);
	close_both(s);
}

/* What a test that failed has left. */
static int clean(void **state)
{
	(void)kill(rig.spawner.pid, SIGCONT);
	boxrig_rng_destroy(&rng);
	(void)scene_teardown(state);
	(void)guestmem_remove(&rig.mem, NEW_GPA, NULL);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	if (boxrig_start(&rig) != 0 || guestmem_add(&rig.mem, 0, BOOT_BYTES, GUESTMEM_4K) != 0)
		return -1;
	return boxrig_supervise(&rig);
}

static int teardown(void **state)
{
	(void)state;
	boxrig_stop(&rig);
	return 0;
}

#define epoch_test(test) cmocka_unit_test_teardown(test, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		epoch_test(test_changes),   epoch_test(test_idle),
		epoch_test(test_audited),   epoch_test(test_rings_given_away),
		epoch_test(test_abandoned), epoch_test(test_cannot_be_had),
		epoch_test(test_disturbed), epoch_test(test_quarantined),
		epoch_test(test_late),
	};

	return cmocka_run_group_tests_name("epochs", tests, setup, teardown);
}
