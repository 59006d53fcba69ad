/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handoffs of release programs under verified load, in every shape a device can have, and planned
 * replacements at the moments when they meet something else.  COUNT=n: handoffs of each shape
 * (100).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "tests/host/scene.h"

#define QUICK 100
#define MOMENT_US 1500

static struct boxrig rig;

/* A planned replacement with nothing in its way.  Returns whether the box was late to park, see
 * scene_late(). */
static bool check_handoff(const struct replacement *r, uint64_t *last)
{
	const bool late = scene_late(r);

	assert_true(r->planned);
	assert_false(r->cold);
	assert_true(late || r->fence == FENCE_PARKED);
	assert_int_equal(r->carried, !late);
	assert_true(r->to > r->from);
	assert_true(r->from >= *last);
	*last = r->to;
	return late;
}

static struct replacement handoff(struct scene *s, bool carry)
{
	struct replacement r;

	assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, carry, &r), 0);
	return r;
}

/* ---- shapes ---- */

struct shape {
	struct boxrig_blk_config device;
	struct blkload_config load;
	bool carry;
	bool slow; /* a file: a flush may take longer than a box is given to park */
};

/* COUNT handoffs under load, each into a standby that is ready. */
static void hand_off_often(const struct shape *shape)
{
	const uint64_t count = scene_count(QUICK);
	struct scene *s = scene_create(&rig, &shape->device);
	uint64_t last = 0, late = 0;

	scene_start(s);
	scene_load(s, &shape->load, SCENE_DEPTH);
	for (uint64_t i = 0; i < count; i++) {
		scene_standby(s);
		usleep((useconds_t)scene_random(s, MOMENT_US));
		const struct replacement r = handoff(s, shape->carry);

		late += check_handoff(&r, &last);
		assert_int_equal(r.reason, REPLACE_OPERATOR);
		assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
	}
	const struct device_status status = scene_status(s);

	assert_true(shape->slow || late <= 1 + count / 50);
	assert_string_equal(status.state, "active");
	assert_int_equal(status.replacements[REPLACE_OPERATOR], count);
	assert_int_equal(status.cold, 0);
	assert_int_equal(status.generation, last);
	scene_close(s);
}

static void test_one_queue(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .carry = true });
}

static void test_no_carry(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .carry = false, .load = { .seed = 2 } });
}

static void test_plain_ring(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .features = RINGDRV_VERSION_1 } });
}

static void test_indirect_only(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .features = RINGDRV_INDIRECT } });
}

static void test_event_idx_only(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .features = RINGDRV_EVENT_IDX } });
}

static void test_small_ring(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .ring_size = 8 }, .load = { .segments = 1 } });
}

static void test_two_queues(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .queues = 2, .lanes = 1 } });
}

static void test_four_lanes(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .queues = 4, .lanes = 4 } });
}

static void test_uneven_lanes(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .queues = 3, .lanes = 2 } });
}

static void test_direct(void **state)
{
	const struct shape shape = {
		.device = { .direct = true, .dir = scene_dir() },
		.load = { .align = 4096 },
		.slow = true,
	};
	char path[4096];

	(void)state;
	snprintf(path, sizeof(path), "%s/direct.XXXXXX", scene_dir());
	cleanup_fd int probe = mkostemp(path, O_CLOEXEC | O_DIRECT);
	const int error = errno;

	unlink(path);
	if (probe < 0 && error == EINVAL) {
		print_message("no direct I/O on %s\n", scene_dir());
		skip();
	}
	assert_true(probe >= 0);
	hand_off_often(&shape);
}

static void test_file(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){ .device = { .dir = scene_dir() }, .slow = true });
}

static void test_discards(void **state)
{
	const struct shape shape = {
		.load = { .weights = { [BLKLOAD_READ] = 40,
				       [BLKLOAD_WRITE] = 30,
				       [BLKLOAD_FLUSH] = 5,
				       [BLKLOAD_GET_ID] = 5,
				       [BLKLOAD_DISCARD] = 10,
				       [BLKLOAD_ZEROES] = 10 },
			  .id = "mayfly-rig" },
	};
	struct shape file = shape;

	(void)state;
	hand_off_often(&shape);
	file.device.dir = scene_dir(); /* where ZERO_RANGE exists */
	file.slow = true;
	hand_off_often(&file);
}

static void test_readonly(void **state)
{
	(void)state;
	hand_off_often(&(struct shape){
		.device = { .readonly = true, .dir = scene_dir() },
		.load = { .weights = { [BLKLOAD_READ] = 9, [BLKLOAD_FLUSH] = 1 } },
		.slow = true,
	});
}

/* ---- without load ---- */

static void test_idle_device(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	const struct blkload_config load = { .seed = 3 };
	struct scene *s = scene_create(&rig, &config);
	uint64_t last = 0;

	(void)state;
	scene_start(s);
	for (int i = 0; i < 20; i++) {
		scene_standby(s);
		const struct replacement r = handoff(s, true);

		check_handoff(&r, &last);
	}
	scene_load(s, &load, SCENE_DEPTH);
	assert_int_equal(loadrun_progress(&s->run, 1000, SCENE_WAIT_MS), 0);
	scene_close(s);
}

/* No driver yet: only the standby is there to be replaced. */
static void test_no_driver(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	const struct blkload_config load = { .seed = 4 };
	struct scene *s = scene_create(&rig, &config);
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		const pid_t before = scene_status(s).standby_pid;
		const struct replacement r = handoff(s, true);

		assert_true(r.planned);
		assert_false(r.carried);
		assert_true(r.from >= last);
		assert_true(r.to > r.from);
		last = r.to;
		assert_int_equal(scene_status(s).generation, 0);
		assert_true(scene_status(s).standby_ready);
		assert_int_not_equal(scene_status(s).standby_pid, before);
	}
	scene_start(s);
	assert_int_equal(scene_status(s).generation, last);
	scene_load(s, &load, SCENE_DEPTH);
	assert_int_equal(loadrun_progress(&s->run, 1000, SCENE_WAIT_MS), 0);
	scene_close(s);
}

/* One request after the other without waiting for a standby: each waits for its own. */
static void test_back_to_back(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s = scene_open(&rig, &config);
	const uint64_t count = scene_count(QUICK);
	uint64_t last = 0, late = 0;

	(void)state;
	for (uint64_t i = 0; i < count; i++) {
		const struct replacement r = handoff(s, i % 2 == 0);

		late += check_handoff(&r, &last);
	}
	assert_true(late <= 1 + count / 50);
	scene_close(s);
}

/* ---- two things at once ---- */

struct replacer {
	struct scene *scene;
	pthread_t thread;
	struct replacement result;
	bool stop; /* shared with the thread */
	uint64_t done, cancelled, refused, other;
	bool again; /* until stop; else once */
};

static void *replacer_main(void *arg)
{
	struct replacer *p = arg;

	do {
		const int ret =
			device_replace(p->scene->blk.dev, REPLACE_OPERATOR, true, &p->result);

		p->done += ret == 0;
		p->cancelled += ret == -ECANCELED;
		p->refused += ret == -EBUSY;
		p->other += ret != 0 && ret != -ECANCELED && ret != -EBUSY;
	} while (p->again && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED));
	return NULL;
}

static void replacer_begin(struct replacer *p, struct scene *s, bool again)
{
	*p = (struct replacer){ .scene = s, .again = again };
	assert_int_equal(pthread_create(&p->thread, NULL, replacer_main, p), 0);
}

static void replacer_end(struct replacer *p)
{
	__atomic_store_n(&p->stop, true, __ATOMIC_RELAXED);
	pthread_join(p->thread, NULL);
	assert_int_equal(p->other, 0);
}

/* The old generation cannot park, for it is stopped, when the driver resets the device. */
static void test_reset_while_handing_off(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	const struct blkload_config load = { .seed = 6, .sectors = 4096 };
	struct scene *s = scene_create(&rig, &config);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct replacer p;

		scene_start(s);
		scene_standby(s);
		assert_int_equal(kill(scene_status(s).pid, SIGSTOP), 0);
		replacer_begin(&p, s, false);
		scene_await(s, "quiescing");
		scene_reset(s);
		replacer_end(&p);
		assert_int_equal(p.cancelled, 1);
		assert_int_equal(scene_status(s).generation, 0);
		assert_int_equal(scene_status(s).pid, 0);
	}
	scene_start(s);
	scene_load(s, &load, SCENE_DEPTH);
	assert_int_equal(loadrun_progress(&s->run, 1000, SCENE_WAIT_MS), 0);
	scene_close(s);
}

/* A driver that starts and resets without end, some requests in between, replacements all along. */
static void test_start_and_reset(void **state)
{
	const struct boxrig_blk_config config = { .queues = 2, .lanes = 2 };
	struct scene *s = scene_create(&rig, &config);
	struct replacer p;

	(void)state;
	replacer_begin(&p, s, true);
	for (uint64_t i = 0; i < 50; i++) {
		const struct blkload_config load = { .seed = i, .sectors = 2048 };

		assert_int_equal(ftruncate(s->blk.image, 0), 0);
		assert_int_equal(ftruncate(s->blk.image, (off_t)s->blk.bytes), 0);
		scene_start(s);
		if (i % 3 == 0) {
			scene_load(s, &load, SCENE_DEPTH);
			assert_int_equal(loadrun_progress(&s->run, 50, SCENE_WAIT_MS), 0);
			scene_finish_load(s);
		}
		scene_reset(s);
	}
	replacer_end(&p);
	assert_true(p.done > 0);
	assert_int_equal(watch_count(&s->watch, WATCH_BROKEN), 0);
	assert_int_equal(watch_count(&s->watch, WATCH_RESET), 50);
	scene_close(s);
}

/* Asked for while a recovery is under way: it begins when that is done, or is refused. */
static void test_replace_during_recovery(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s = scene_open(&rig, &config);
	uint64_t done = 0, last = 0;

	(void)state;
	for (uint64_t i = 0; i < 20; i++) {
		const uint64_t seen = watch_count(&s->watch, WATCH_REPLACED);
		struct replacer p;

		scene_standby(s);
		/* The successor does not come to its first pass until it is let go. */
		const struct device_status before = scene_status(s);

		assert_int_equal(kill(before.standby_pid, SIGSTOP), 0);
		assert_int_equal(kill(before.pid, SIGKILL), 0);
		scene_await(s, "starting");
		replacer_begin(&p, s, false);
		usleep((useconds_t)scene_random(s, MOMENT_US));
		assert_int_equal(kill(before.standby_pid, SIGCONT), 0);
		const struct replacement r = scene_replaced(s, seen);

		assert_false(r.planned);
		assert_int_equal(r.reason, REPLACE_CRASH);
		replacer_end(&p);
		assert_int_equal(p.cancelled, 0);
		if (p.done != 0) {
			const struct replacement planned = scene_replaced(s, seen + 1);

			assert_true(planned.planned);
			assert_int_equal(planned.from, r.to);
			(void)check_handoff(&planned, &last);
		}
		done += p.done;
		assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
	}
	assert_true(done > 0);
	scene_close(s);
}

/* One waits already: the second is refused, the first is done. */
static void test_one_at_a_time(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s = scene_open(&rig, &config);
	struct replacement r;
	struct replacer p;

	(void)state;
	scene_standby(s);
	const struct device_status before = scene_status(s);

	assert_int_equal(kill(before.standby_pid, SIGSTOP), 0);
	assert_int_equal(kill(before.pid, SIGKILL), 0);
	scene_await(s, "starting");
	while (scene_status(s).pid != before.standby_pid)
		usleep(50);
	replacer_begin(&p, s, false);
	usleep(20000);
	assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r), -EBUSY);
	assert_int_equal(kill(before.standby_pid, SIGCONT), 0);
	replacer_end(&p);
	assert_int_equal(p.done, 1);
	scene_close(s);
}

/* ---- rate limits ---- */

#define RATE_OPS 500
#define RATE_BURST 200
#define RATE_MS 1500
#define RATE_SLACK 10

/* Requests completed in RATE_MS while `act` is done every 20 ms. */
static uint64_t limited_run(void (*act)(struct scene *s), uint64_t *acts)
{
	const struct boxrig_blk_config config = {
		.ops = { .size = RATE_OPS, .burst = RATE_BURST, .refill_ms = 1000 },
	};
	const struct blkload_config load = { .seed = 8,
					     .weights = { [BLKLOAD_READ] = 1 },
					     .sectors = 64 };
	struct scene *s = scene_create(&rig, &config);

	scene_start(s);
	const uint64_t begin = now_ns();

	scene_load(s, &load, SCENE_DEPTH);
	for (*acts = 0; now_ns() - begin < RATE_MS * NS_PER_MS; ++*acts) {
		scene_standby(s);
		usleep(20000);
		act(s);
	}
	const uint64_t done = blkload_completed(&s->run.load);
	const uint64_t ms = (now_ns() - begin) / NS_PER_MS;
	const uint64_t refilled = RATE_OPS * ms / 1000;

	/* One full bucket and one burst at the start, the refill since, and not a request more. */
	assert_true(done <= RATE_OPS + RATE_BURST + refilled + RATE_SLACK);
	scene_close(s);
	return done;
}

static void act_handoff(struct scene *s)
{
	(void)handoff(s, false);
}

static void act_kill(struct scene *s)
{
	const uint64_t seen = watch_count(&s->watch, WATCH_REPLACED);

	assert_int_equal(kill(scene_status(s).pid, SIGKILL), 0);
	(void)scene_replaced(s, seen);
}

/* No handoff hands out a fresh burst, and none takes tokens away either. */
static void test_rate_limit(void **state)
{
	uint64_t acts;

	(void)state;
	const uint64_t done = limited_run(act_handoff, &acts);

	assert_true(acts > 20);
	/* Between two generations none accrue, which is long where there is no CPU to be had. */
	assert_true(done > RATE_OPS + RATE_BURST + RATE_OPS * RATE_MS / 1000 / 2);
}

/* Nor does a death. */
static void test_rate_limit_and_deaths(void **state)
{
	uint64_t acts;

	(void)state;
	(void)limited_run(act_kill, &acts);
	assert_true(acts > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_one_queue),
		scene_test(test_no_carry),
		scene_test(test_plain_ring),
		scene_test(test_indirect_only),
		scene_test(test_event_idx_only),
		scene_test(test_small_ring),
		scene_test(test_two_queues),
		scene_test(test_four_lanes),
		scene_test(test_uneven_lanes),
		scene_test(test_direct),
		scene_test(test_file),
		scene_test(test_discards),
		scene_test(test_readonly),
		scene_test(test_idle_device),
		scene_test(test_no_driver),
		scene_test(test_back_to_back),
		scene_test(test_reset_while_handing_off),
		scene_test(test_start_and_reset),
		scene_test(test_replace_during_recovery),
		scene_test(test_one_at_a_time),
		scene_test(test_rate_limit),
		scene_test(test_rate_limit_and_deaths),
	};

	const struct scene_group group = { .name = "handoff", .bytes = 256u << 20 };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
