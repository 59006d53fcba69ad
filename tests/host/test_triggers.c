/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Suspicions that the VMM raises by itself: each seen to fire on a release program that was brought to
 * it from outside, and seen not to where it must not.  Crash, forbidden call and malformed report are
 * test_recovery's and test_adversary's.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "devmodel/abi/policy.h"
#include "core/box/fault.h"
#include "tests/host/scene.h"
#include "tests/rig/inject.h"

#define HANG_MS 100
#define STORM_MS 100
#define SLOW_BYTES (2L << 30) /* that take the kernel a while */
#define NEVER_MS 20000        /* longer than a test */

static struct boxrig rig;

static struct scene *open_scene(uint32_t hang_ms, uint32_t storm_ms, bool loaded)
{
	const struct boxrig_blk_config config = { .limits = { hang_ms, storm_ms } };

	if (loaded)
		return scene_open(&rig, &config);
	struct scene *s = scene_create(&rig, &config);

	scene_start(s);
	return s;
}

/* The first and only replacement is a recovery for this reason. */
static void expect_one(struct scene *s, enum replace_reason reason)
{
	const struct replacement r = scene_replaced(s, 0);
	const struct device_status status = scene_status(s);

	assert_false(r.planned);
	assert_string_equal(replace_reason_name(r.reason), replace_reason_name(reason));
	assert_int_equal(status.deaths_by_reason[reason], 1);
	assert_int_equal(watch_count(&s->watch, WATCH_REPLACED), 1);
}

static void expect_none(struct scene *s)
{
	const struct device_status status = scene_status(s);

	assert_int_equal(watch_count(&s->watch, WATCH_REPLACED), 0);
	assert_int_equal(status.generation, 1);
	assert_string_equal(status.state, "active");
}

/* ---- hang ---- */

/* Asleep for ever: with requests before it, and with nothing to do (only a message shows it). */
static void test_stopped(void **state)
{
	(void)state;
	for (int loaded = 0; loaded <= 1; loaded++) {
		struct scene *s = open_scene(HANG_MS, 0, loaded != 0);

		assert_int_equal(kill(scene_status(s).pid, SIGSTOP), 0);
		expect_one(s, REPLACE_HANG);
		scene_close(s);
	}
}

/* In a loop within a request. */
static void test_spins(void **state)
{
	struct scene *s = open_scene(HANG_MS, 0, true);

	(void)state;
	assert_int_equal(hand_spin(scene_status(s).pid), 0);
	expect_one(s, REPLACE_HANG);
	assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	scene_close(s);
}

/* A standby does not serve; that it hangs shows when it should. */
static void test_first_pass(void **state)
{
	struct scene *s = open_scene(HANG_MS, 0, true);

	(void)state;
	scene_standby(s);
	assert_int_equal(kill(scene_status(s).standby_pid, SIGSTOP), 0);
	assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
	assert_int_equal(watch_wait(&s->watch, WATCH_REPLACED, 1, SCENE_WAIT_MS), 0);
	assert_int_equal(scene_status(s).deaths_by_reason[REPLACE_HANG], 1);
	scene_close(s);
}

/* The driver's kick was lost: that is no fault of the box, and is made good. */
static void test_kick_lost(void **state)
{
	const struct blkload_config load = { .seed = 3, .sectors = 4096 };
	struct scene *s = open_scene(HANG_MS, 0, false);
	struct ringdrv_queue *ring = &s->blk.rings[0];
	struct ringdrv_done done;
	gpa_t gpa;

	(void)state;
	assert_int_equal(guestmem_alloc(&rig.mem, 64, 64, &gpa), 0);
	const struct ringdrv_seg segs[] = { { gpa.raw, 16 }, { gpa.raw + 16, 1 } };
	const struct ringdrv_chain chain = { .seg = segs, .readable = 1, .writable = 1 };

	memset(guestmem_ptr(&rig.mem, gpa, 64), 0, 64);
	*(uint32_t *)guestmem_ptr(&rig.mem, gpa, 4) = 4; /* flush */
	assert_int_equal(ringdrv_add(ring, &chain), 0);
	ringdrv_publish(ring);
	while (ringdrv_reap(ring, &done) == 0)
		assert_in_range(ringdrv_wait(ring, SCENE_WAIT_MS * NS_PER_MS), 0, 1);
	expect_none(s);
	scene_load(s, &load, SCENE_DEPTH);
	scene_close(s);
}

static void test_idle_is_no_hang(void **state)
{
	struct scene *s = open_scene(HANG_MS / 4, STORM_MS / 4, false);

	(void)state;
	usleep(20 * HANG_MS * 1000);
	expect_none(s);
	scene_close(s);
}

static void test_busy_is_no_hang(void **state)
{
	struct scene *s = open_scene(HANG_MS / 4, STORM_MS / 4, true);

	(void)state;
	usleep(20 * HANG_MS * 1000);
	expect_none(s);
	scene_close(s);
}

/* So few requests a second are let through that all others wait longer than a hang may last. */
static void test_limited_is_no_hang(void **state)
{
	const struct boxrig_blk_config config = { .limits = { HANG_MS, STORM_MS },
						  .ops = { .size = 2, .refill_ms = 1000 } };
	struct scene *s = scene_open(&rig, &config);

	(void)state;
	assert_int_equal(loadrun_progress(&s->run, 6, SCENE_WAIT_MS), 0);
	expect_none(s);
	s->loaded = false;
	loadrun_abandon(&s->run);
	scene_end(s);
}

/* A queue on which the driver only offers room: no entropy is asked for, none is owed. */
static void test_offered_room_is_no_work(void **state)
{
	const struct ringdrv_config config = { .features = RINGDRV_VERSION_1, .size = 64 };
	struct device_spec spec = { .id = "rng",
				    .kind = DEV_KIND_RNG,
				    .queues = 1,
				    .lanes = 1,
				    .backend_count = 1,
				    .guest_memory = true,
				    .limits = { HANG_MS, STORM_MS } };
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };
	struct ringdrv_queue ring;
	struct device_status status;
	struct device *dev;
	int source[2];
	gpa_t gpa;

	(void)state;
	assert_int_equal(pipe2(source, O_CLOEXEC | O_NONBLOCK), 0); /* that never yields anything */
	assert_int_equal(ringdrv_init(&ring, &rig.mem, &config), 0);
	assert_int_equal(guestmem_alloc(&rig.mem, 64, 64, &gpa), 0);
	spec.backends[0] = source[0];
	spec.policy_when = POLICY_IF_TIMER;
	spec.kick[0] = ring.fd_kick;
	spec.call[0] = ring.fd_call;
	ringdrv_describe(&ring, &queues[0]);
	assert_int_equal(device_create(rig.sup, &spec, &dev), 0);
	assert_int_equal(device_start(dev, config.features, queues), 0);
	const struct ringdrv_seg seg = { gpa.raw, 64 };

	assert_int_equal(ringdrv_add(&ring, &(struct ringdrv_chain){ .seg = &seg, .writable = 1 }),
			 0);
	ringdrv_publish(&ring);
	ringdrv_kick(&ring);
	usleep(10 * HANG_MS * 1000);
	device_status(dev, &status);
	assert_int_equal(status.generation, 1);
	assert_string_equal(status.state, "active");
	device_destroy(dev);
	ringdrv_free(&ring);
	close(source[0]);
	close(source[1]);
}

/* ---- slow ---- */

/* Somebody else's long work on the image: writes wait for it inside the kernel, many times as long as
 * a hang may last. */
static void test_slow_is_no_hang(void **state)
{
	struct scene *s = open_scene(10, 10, true);
	const uint64_t begin = now_ns();

	(void)state;
	while (scene_status(s).slow == 0) {
		assert_true(now_ns() - begin < SCENE_WAIT_MS * NS_PER_MS);
		assert_int_equal(fallocate(s->blk.image, FALLOC_FL_KEEP_SIZE, (off_t)s->blk.bytes,
					   SLOW_BYTES),
				 0);
		assert_int_equal(fallocate(s->blk.image, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
					   (off_t)s->blk.bytes, SLOW_BYTES),
				 0);
	}
	expect_none(s);
	assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	scene_close(s);
}

/* ---- storm ---- */

/* It burns a CPU, and there is nothing to do. */
static void test_burns(void **state)
{
	struct scene *s = open_scene(NEVER_MS, STORM_MS, false);

	(void)state;
	assert_int_equal(hand_spin(scene_status(s).pid), 0);
	expect_one(s, REPLACE_STORM);
	scene_close(s);
}

/* ---- ring ---- */

/* used->idx beyond what was asked for: a recovery, in which nothing can be gone on with. */
static void test_ring_ahead(void **state)
{
	struct scene *s = open_scene(HANG_MS, 0, false);

	(void)state;
	ringdrv_evil_used_idx(&s->blk.rings[0], 77);
	assert_int_equal(watch_wait(&s->watch, WATCH_BROKEN, 1, SCENE_WAIT_MS), 0);
	assert_int_equal(scene_status(s).deaths_by_reason[REPLACE_RING], 1);
	assert_string_equal(scene_status(s).state, "broken");
	scene_close(s);
}

/* ---- audit ---- */

/* A limit of the seal that was changed behind the VMM's back. */
static void test_audit(void **state)
{
	const struct boxrig_blk_config config = { .audit_ms = 50 };
	struct scene *s = scene_create(&rig, &config);
	const struct rlimit lower = { 1, 1 };

	(void)state;
	scene_start(s);
	usleep(500000);
	expect_none(s); /* nothing wrong, ten times */
	if (prlimit(scene_status(s).pid, RLIMIT_NOFILE, &lower, NULL) != 0) {
		assert_int_equal(errno, EPERM);
		print_message("skipped: no right to change another user's limits\n");
		skip();
	}
	expect_one(s, REPLACE_AUDIT);
	/* The next one's standby: lost before it can serve. */
	scene_standby(s);
	const pid_t standby = scene_status(s).standby_pid;

	assert_int_equal(prlimit(standby, RLIMIT_NOFILE, &lower, NULL), 0);
	while (scene_status(s).standby_pid == standby)
		usleep(1000);
	scene_standby(s);
	assert_int_equal(watch_count(&s->watch, WATCH_REPLACED), 1);
	scene_close(s);
}

/* ---- switches ---- */

static void test_off(void **state)
{
	struct scene *s = open_scene(0, 0, true);

	(void)state;
	assert_int_equal(kill(scene_status(s).pid, SIGSTOP), 0);
	usleep(10 * HANG_MS * 1000);
	expect_none(s);
	assert_int_equal(kill(scene_status(s).pid, SIGCONT), 0);
	scene_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_stopped),
		scene_test(test_spins),
		scene_test(test_first_pass),
		scene_test(test_kick_lost),
		scene_test(test_idle_is_no_hang),
		scene_test(test_busy_is_no_hang),
		scene_test(test_limited_is_no_hang),
		scene_test(test_offered_room_is_no_work),
		scene_test(test_slow_is_no_hang),
		scene_test(test_burns),
		scene_test(test_ring_ahead),
		scene_test(test_audit),
		scene_test(test_off),
	};

	const struct scene_group group = { .name = "triggers", .bytes = 256u << 20 };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
