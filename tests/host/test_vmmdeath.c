/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMM is killed.  A child process plays it: spawner, supervisor, device and load on an image
 * file that it has locked.  This process is the subreaper of all that, so that whatever the child
 * leaves behind becomes its own child: when waitpid() says ECHILD, no box, standby or spawner of it
 * is left, and none can have been overlooked.  A second VMM that gets the lock knows the same of
 * everything that could write.  COUNT=n sets how many die of each kind (10).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/image.h"
#include "tests/host/scene.h"
#include "tests/rig/inject.h"

#define QUICK 10
#define IMAGE_BYTES (8u << 20)
#define LIMIT_NS NS_PER_S /* all must be gone, and the lock free, within this */

/* What a child tells; in memory shared with it, so that it is known after its death too. */
enum stage { STAGE_NONE, STAGE_LOCKED, STAGE_SERVING, STAGE_ALONE, STAGE_ENDED };

static struct shared {
	uint32_t stage;
	bool go; /* the parent's word: PART_CLOSE may give up the boxes */
	uint64_t completed;
} * shared;

/* How a child plays its part. */
enum part {
	PART_SERVE, /* replaces its device without end */
	PART_STOP,  /* and stops box after box from outside */
	PART_ONCE,  /* serves for a while, looks at every sector and ends */
	PART_CLOSE, /* gives its own descriptor up, later the boxes too */
};

static char path[4096];

static void tell(enum stage stage)
{
	__atomic_store_n(&shared->stage, stage, __ATOMIC_RELEASE);
}

static uint32_t told(void)
{
	return __atomic_load_n(&shared->stage, __ATOMIC_ACQUIRE);
}

static int await_stage(enum stage stage)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	while (told() < stage && now_ns() < end)
		usleep(100);
	return told() >= stage ? 0 : -ETIMEDOUT;
}

/* Tries until it gets it: those who have it are dying. 0 or -errno; *took_ns: how long it took. */
static int take_image(struct image *image, uint64_t since_ns, uint64_t *took_ns)
{
	const struct image_config config = { .path = path };
	char why[IMAGE_WHY_MAX];
	int ret;

	while ((ret = image_open(image, &config, why)) == -EBUSY &&
	       now_ns() - since_ns < 2 * LIMIT_NS)
		usleep(100);
	*took_ns = now_ns() - since_ns;
	if (ret != 0)
		fprintf(stderr, "%s\n", why);
	return ret;
}

/* ---- the VMM ---- */

static struct boxrig rig;

static void die(const char *what)
{
	fprintf(stderr, "the VMM: %s\n", what);
	_exit(1);
}

static void vmm_serve(struct boxrig_blk *blk, const struct blkload *load, bool stops)
{
	for (uint32_t i = 0;; i++) {
		struct device_status status;
		struct replacement r;

		if (device_replace(blk->dev, REPLACE_OPERATOR, true, &r) != 0)
			die("cannot replace");
		shared->completed = blkload_completed(load);
		if (blkload_completed(load) > 200)
			tell(STAGE_SERVING);
		if (!stops || i % 8 != 0)
			continue;
		device_status(blk->dev, &status);
		kill(status.pid, SIGSTOP);
	}
}

/* The boxes alone hold the image; then nobody does. */
static void vmm_close(struct boxrig_blk *blk)
{
	if (device_wait_standby(blk->dev, SCENE_WAIT_MS) != 0)
		die("no standby");
	cc_close(&blk->image);
	tell(STAGE_ALONE);
	while (!__atomic_load_n(&shared->go, __ATOMIC_ACQUIRE))
		usleep(100);
	device_destroy(blk->dev);
	tell(STAGE_ENDED);
	for (;;)
		pause();
}

static void vmm_once(struct loadrun *run)
{
	const bool went = loadrun_progress(run, 500, SCENE_WAIT_MS) == 0;

	_exit(went && loadrun_finish(run, -1) ? 0 : 1);
}

_Noreturn static void vmm_main(enum part part)
{
	struct boxrig_blk_config config = { .bytes = IMAGE_BYTES, .image_given = true };
	const struct blkload_config load = { .sectors = IMAGE_BYTES / 512 };
	struct boxrig_blk blk;
	struct loadrun run;
	struct image image;
	uint64_t took;

	if (boxrig_start(&rig) != 0 || guestmem_add(&rig.mem, 0, 64u << 20, GUESTMEM_4K) != 0)
		die("cannot start");
	if (take_image(&image, now_ns(), &took) != 0 ||
	    fallocate(image.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, IMAGE_BYTES) != 0)
		die("cannot have the image");
	tell(STAGE_LOCKED);
	config.image = image.fd;
	if (boxrig_supervise(&rig) != 0 || boxrig_blk_create(&rig, &config, &blk) != 0 ||
	    boxrig_blk_go(&blk) != 0)
		die("cannot make the device");
	if (part == PART_CLOSE)
		vmm_close(&blk);
	if (loadrun_start(&run, &rig.mem, &load, blk.rings, 1, SCENE_DEPTH) != 0)
		die("cannot load it");
	if (part == PART_ONCE)
		vmm_once(&run);
	vmm_serve(&blk, &run.load, part == PART_STOP);
	_exit(0);
}

static pid_t vmm_begin(enum part part)
{
	memset(shared, 0, sizeof(*shared));
	fflush(NULL);
	const pid_t pid = fork();

	if (pid == 0)
		vmm_main(part);
	assert_true(pid > 0);
	return pid;
}

/* ---- what is left of it ---- */

/* Reaps until there is nobody; how many there were. */
static uint32_t reap_all(uint64_t since_ns, uint64_t *took_ns)
{
	uint32_t count = 0;

	for (;;) {
		const pid_t pid = waitpid(-1, NULL, WNOHANG | __WALL);

		count += pid > 0;
		if (pid == 0)
			usleep(100);
		*took_ns = now_ns() - since_ns;
		if (pid < 0) {
			assert_int_equal(errno, ECHILD);
			return count;
		}
		if (*took_ns > 10 * LIMIT_NS)
			fail_msg("something of the VMM is alive after 10 s");
	}
}

static uint64_t hash_image(int fd)
{
	static uint8_t bytes[IMAGE_BYTES];

	assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	return XXH3_64bits(bytes, sizeof(bytes));
}

static uint64_t kill_vmm(pid_t pid)
{
	const uint64_t now = now_ns();

	assert_int_equal(kill(pid, SIGKILL), 0);
	return now;
}

/* The lock comes free, and from then on the image does not change. */
static void check_death(uint64_t since_ns, uint32_t least)
{
	struct image image;
	uint64_t lock_ns, reap_ns;

	assert_int_equal(take_image(&image, since_ns, &lock_ns), 0);
	const uint64_t before = hash_image(image.fd);
	const uint32_t reaped = reap_all(since_ns, &reap_ns);

	assert_true(hash_image(image.fd) == before);
	image_close(&image);
	assert_true(lock_ns < LIMIT_NS);
	assert_true(reap_ns < LIMIT_NS);
	assert_true(reaped >= least);
}

static uint64_t random_us(uint64_t below)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % below;
}

/* Anywhere from the first instruction on: the spawner half made, a box half sealed. */
static void test_dies_at_birth(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < scene_count(QUICK); i++) {
		const pid_t pid = vmm_begin(PART_SERVE);

		usleep((useconds_t)random_us(20000));
		check_death(kill_vmm(pid), 1);
	}
}

static void dies_serving(enum part part)
{
	for (uint64_t i = 0; i < scene_count(QUICK); i++) {
		const pid_t pid = vmm_begin(part);

		assert_int_equal(await_stage(STAGE_SERVING), 0);
		usleep((useconds_t)random_us(20000));
		assert_true(shared->completed > 0);
		check_death(kill_vmm(pid), 3); /* itself, its spawner, a box at least */
	}
}

static void test_dies_serving(void **state)
{
	(void)state;
	dies_serving(PART_SERVE);
}

/* A box that is stopped dies with it all the same. */
static void test_dies_with_stopped_boxes(void **state)
{
	(void)state;
	dies_serving(PART_STOP);
}

/* The next one is there at once and takes the image as soon as it can.  It zeroes it and then knows
 * what every sector must hold: a late write of the old one would show. */
static void test_is_followed(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < scene_count(QUICK); i++) {
		const pid_t first = vmm_begin(PART_SERVE);
		int status;

		assert_int_equal(await_stage(STAGE_SERVING), 0);
		usleep((useconds_t)random_us(10000));
		(void)kill_vmm(first);
		const pid_t second = vmm_begin(PART_ONCE);
		uint64_t took;

		assert_int_equal(waitpid(second, &status, 0), second);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		(void)reap_all(now_ns(), &took);
	}
}

/* The lock is the boxes' as much as the VMM's: it is free when the last of them is gone. */
static void test_boxes_hold_the_lock(void **state)
{
	const struct image_config config = { .path = path };
	const pid_t pid = vmm_begin(PART_CLOSE);
	char why[IMAGE_WHY_MAX];
	struct image image;

	(void)state;
	assert_int_equal(await_stage(STAGE_ALONE), 0);
	assert_int_equal(image_open(&image, &config, why), -EBUSY);
	__atomic_store_n(&shared->go, true, __ATOMIC_RELEASE);
	assert_int_equal(await_stage(STAGE_ENDED), 0);
	assert_int_equal(image_open(&image, &config, why), 0);
	image_close(&image);
	check_death(kill_vmm(pid), 2);
}

/* Nothing of a test that failed may trouble the next. */
static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		pid_t pids[64];
		const int n = inject_children(pids, ARRAY_SIZE(pids));

		for (int k = 0; k < n; k++)
			kill(pids[k], SIGKILL);
		while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
			;
		if (n <= 0)
			return 0;
		usleep(10000);
	}
	return -1;
}

static int make_image(void **state)
{
	const char *dir = getenv("TMPDIR");

	(void)state;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		return -1;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	snprintf(path, sizeof(path), "%s/vmmdeath.XXXXXX", dir != NULL ? dir : "/tmp");
	cleanup_fd int fd = mkostemp(path, O_CLOEXEC);

	return fd < 0 || ftruncate(fd, IMAGE_BYTES) != 0 || shared == MAP_FAILED ? -1 : 0;
}

static int remove_image(void **state)
{
	(void)state;
	return unlink(path);
}

#define vmm_test(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		vmm_test(test_dies_at_birth),           vmm_test(test_dies_serving),
		vmm_test(test_dies_with_stopped_boxes), vmm_test(test_is_followed),
		vmm_test(test_boxes_hold_the_lock),
	};

	log_open(2, getenv("DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("vmmdeath", tests, make_image, remove_image);
}
