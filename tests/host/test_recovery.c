/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of release programs under verified load: killed, faulted, held, stopped, at random
 * moments and at each awkward one.  COUNT=n sets how many random deaths of each kind (200).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "core/box/fault.h"
#include "tests/host/scene.h"
#include "tests/rig/inject.h"

#define QUICK 200
#define MOMENT_US 3000 /* a random moment is within so long after the standby is ready */

static struct boxrig rig;

static pid_t active_pid(struct scene *s)
{
	const pid_t pid = scene_status(s).pid;

	assert_true(pid > 0);
	return pid;
}

static void random_moment(struct scene *s)
{
	scene_standby(s);
	usleep((useconds_t)scene_random(s, MOMENT_US));
}

/* What every recovery must be. */
static void check_recovery(const struct replacement *r, enum replace_reason reason)
{
	assert_false(r->planned);
	assert_false(r->carried);
	assert_int_equal(r->reason, reason);
	assert_true(r->to > r->from);
	assert_true(r->fence == FENCE_HELD || r->fence == FENCE_STOPPED ||
		    r->fence == FENCE_EXITING || r->fence == FENCE_DEAD);
}

/* ---- random deaths ---- */

static int kill_it(pid_t pid)
{
	return kill(pid, SIGKILL) == 0 ? 0 : -errno;
}

static int trap_it(pid_t pid)
{
	return hand_call(pid, SYS_getpid);
}

/* COUNT deaths by `end`, each recovered into a standby; fences[] counts what they rested on. */
static void die_often(const struct boxrig_blk_config *config, int (*end)(pid_t),
		      enum replace_reason reason, uint64_t *fences)
{
	const uint64_t count = scene_count(QUICK);
	struct scene *s;
	uint64_t last = 0;

	s = scene_open(&rig, config);
	for (uint64_t i = 0; i < count; i++) {
		random_moment(s);
		assert_int_equal(end(active_pid(s)), 0);
		const struct replacement r = scene_replaced(s, i);

		check_recovery(&r, reason);
		assert_false(r.cold);
		assert_true(r.from >= last);
		last = r.to;
		fences[r.fence]++;
		assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
	}
	assert_int_equal(scene_status(s).replacements[reason], count);
	scene_close(s);
}

static void test_killed(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	uint64_t fences[FENCE_COUNT] = { 0 };

	(void)state;
	die_often(&config, kill_it, REPLACE_CRASH, fences);
	/* A killed process is past its last system call before anybody could stop it. */
	assert_int_equal(fences[FENCE_HELD], 0);
}

static void test_killed_without_event_idx(void **state)
{
	const struct boxrig_blk_config config = { .features = RINGDRV_VERSION_1, .ring_size = 64 };
	uint64_t fences[FENCE_COUNT] = { 0 };

	(void)state;
	die_often(&config, kill_it, REPLACE_CRASH, fences);
}

static void test_faulted(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	uint64_t fences[FENCE_COUNT] = { 0 };

	(void)state;
	die_often(&config, hand_fault, REPLACE_CRASH, fences);
}

static void test_forbidden_call(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	uint64_t fences[FENCE_COUNT] = { 0 };

	(void)state;
	if (!rig.host.listener) {
		print_message("no seccomp listener on this kernel\n");
		skip();
	}
	die_often(&config, trap_it, REPLACE_SECCOMP, fences);
	assert_int_equal(fences[FENCE_HELD] + fences[FENCE_STOPPED], scene_count(QUICK));
	assert_true(fences[FENCE_HELD] > 0);
}

/* Four lanes: any child but the spawner dies, be it a lane or one of a standby. */
static void test_any_lane_killed(void **state)
{
	const struct boxrig_blk_config config = { .queues = 4, .lanes = 4 };
	const uint64_t count = scene_count(QUICK);
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < count; i++) {
		pid_t pids[64];
		const int n = inject_children(pids, ARRAY_SIZE(pids));

		assert_true(n > 0);
		const pid_t victim = pids[scene_random(s, (uint64_t)n)];

		if (victim != rig.spawner.pid)
			kill(victim, SIGKILL);
		assert_int_equal(loadrun_progress(&s->run, 1 + scene_random(s, 200), SCENE_WAIT_MS),
				 0);
	}
	scene_await(s, "active");
	assert_true(scene_status(s).replacements[REPLACE_CRASH] > 0);
	scene_close(s);
}

/* ---- awkward moments ---- */

/* The spawner does not answer, so that no standby can be made until it goes on. */
static void hold_spawner(bool hold)
{
	assert_int_equal(kill(rig.spawner.pid, hold ? SIGSTOP : SIGCONT), 0);
}

static void lose_standby(struct scene *s)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	scene_standby(s);
	const pid_t pid = scene_status(s).standby_pid;

	assert_int_equal(kill(pid, SIGKILL), 0);
	while (scene_status(s).standby_pid == pid && now_ns() < end)
		usleep(100);
	assert_int_not_equal(scene_status(s).standby_pid, pid);
}

static void test_cold(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < 20; i++) {
		scene_standby(s);
		hold_spawner(true);
		lose_standby(s);
		assert_int_equal(kill(active_pid(s), SIGKILL), 0);
		scene_await(s, "starting");
		usleep((useconds_t)scene_random(s, MOMENT_US));
		hold_spawner(false);
		const struct replacement r = scene_replaced(s, i);

		check_recovery(&r, REPLACE_CRASH);
		assert_true(r.cold);
		assert_int_equal(scene_status(s).cold, i + 1);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	}
	scene_close(s);
}

/* A second death right after the first, whatever state the refill is in. */
static void test_second_death(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	const uint64_t count = scene_count(QUICK) / 4;
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < count; i++) {
		const uint64_t seen = watch_count(&s->watch, WATCH_REPLACED);

		random_moment(s);
		assert_int_equal(kill(active_pid(s), SIGKILL), 0);
		(void)scene_replaced(s, seen);
		assert_int_equal(kill(active_pid(s), SIGKILL), 0);
		const struct replacement r = scene_replaced(s, seen + 1);

		check_recovery(&r, REPLACE_CRASH);
		assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
	}
	assert_true(scene_status(s).cold > 0);
	scene_close(s);
}

/* More deaths of standbys than any back-off or limit on failures in a row: each of them was ready
 * before it died, so the device must not be given up, nor wait long for the next. */
static void test_standby_dies(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (int i = 0; i < 30; i++)
		lose_standby(s);
	assert_int_equal(watch_count(&s->watch, WATCH_REPLACED), 0);
	scene_standby(s);
	assert_int_equal(kill(active_pid(s), SIGKILL), 0);
	const struct replacement r = scene_replaced(s, 0);

	check_recovery(&r, REPLACE_CRASH);
	assert_int_equal(watch_count(&s->watch, WATCH_BROKEN), 0);
	scene_close(s);
}

/* The successor is stopped before it is activated, and killed before its first pass. */
static void test_dies_starting(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < 20; i++) {
		random_moment(s);
		const struct device_status before = scene_status(s);

		assert_int_equal(kill(before.standby_pid, SIGSTOP), 0);
		assert_int_equal(kill(before.pid, SIGKILL), 0);
		scene_await(s, "starting");
		while (scene_status(s).pid != before.standby_pid)
			usleep(50);
		assert_int_equal(watch_count(&s->watch, WATCH_REPLACED), i);
		assert_int_equal(kill(before.standby_pid, SIGKILL), 0);
		const struct replacement r = scene_replaced(s, i);

		check_recovery(&r, REPLACE_CRASH);
		assert_int_equal(r.from, before.generation + 1);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	}
	scene_close(s);
}

struct replacer {
	struct device *dev;
	pthread_t thread;
	struct replacement result;
	int ret;
};

static void *replacer_main(void *arg)
{
	struct replacer *p = arg;

	p->ret = device_replace(p->dev, REPLACE_OPERATOR, true, &p->result);
	return NULL;
}

static void replace_begin(struct replacer *p, struct scene *s)
{
	p->dev = s->blk.dev;
	assert_int_equal(pthread_create(&p->thread, NULL, replacer_main, p), 0);
}

static int replace_end(struct replacer *p)
{
	pthread_join(p->thread, NULL);
	return p->ret;
}

/* It cannot park, for it is stopped; then it dies. */
static void test_dies_quiescing(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < 20; i++) {
		struct replacer p;

		random_moment(s);
		const pid_t pid = active_pid(s);

		assert_int_equal(kill(pid, SIGSTOP), 0);
		replace_begin(&p, s);
		scene_await(s, "quiescing");
		usleep((useconds_t)scene_random(s, MOMENT_US));
		assert_int_equal(kill(pid, SIGKILL), 0);
		/* Who asked gets the generation that the recovery made. */
		assert_int_equal(replace_end(&p), 0);
		const struct replacement r = scene_replaced(s, i);

		check_recovery(&r, REPLACE_CRASH);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	}
	scene_close(s);
}

/* Handoffs and deaths at once, without regard for each other. */
static void test_dies_while_replaced(void **state)
{
	const struct boxrig_blk_config config = { .queues = 2 };
	const uint64_t count = scene_count(QUICK);
	uint64_t recovered = 0;
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < count; i++) {
		struct replacer p;

		random_moment(s);
		const pid_t pid = active_pid(s);

		replace_begin(&p, s);
		usleep((useconds_t)scene_random(s, 300));
		kill(pid, SIGKILL);
		const int ret = replace_end(&p);

		assert_true(ret == 0 || ret == -EBUSY);
		recovered += ret == 0 && !p.result.planned;
		assert_int_equal(loadrun_progress(&s->run, 1, SCENE_WAIT_MS), 0);
	}
	assert_true(recovered > 0);
	scene_await(s, "active");
	scene_close(s);
}

/* ---- stopped from outside ---- */

static void test_stopped_and_continued(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (int i = 0; i < 20; i++) {
		random_moment(s);
		const pid_t pid = active_pid(s);

		assert_int_equal(kill(pid, SIGSTOP), 0);
		usleep(10000);
		assert_int_equal(kill(pid, SIGCONT), 0);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
		assert_int_equal(active_pid(s), pid);
	}
	assert_int_equal(watch_count(&s->watch, WATCH_REPLACED), 0);
	scene_close(s);
}

/* Stopped when it is to be replaced: the fence does not need its help.  When it is let go
 * afterwards nothing of it may be left to go on. */
static void test_stopped_and_replaced(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (int i = 0; i < 5; i++) {
		struct replacement r;

		random_moment(s);
		const pid_t pid = active_pid(s);

		assert_int_equal(kill(pid, SIGSTOP), 0);
		assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r), 0);
		kill(pid, SIGCONT);
		assert_true(r.planned);
		assert_false(r.carried);
		assert_int_equal(r.fence, FENCE_STOPPED);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	}
	scene_close(s);
}

/*
 * Fenced by SIGSTOP, then let go from outside before the successor has made its first pass: the
 * successor is stopped too, so whatever completes now was done by the fenced one.
 */
static void test_fenced_and_continued(void **state)
{
	const struct boxrig_blk_config config = { 0 };
	struct scene *s;

	(void)state;
	s = scene_open(&rig, &config);
	for (uint64_t i = 0; i < 20; i++) {
		random_moment(s);
		const struct device_status before = scene_status(s);

		assert_int_equal(kill(before.standby_pid, SIGSTOP), 0);
		assert_int_equal(device_condemn(s->blk.dev, REPLACE_HANG), 0);
		while (scene_status(s).pid != before.standby_pid)
			usleep(50);
		const uint16_t used = ringdrv_peek_used_idx(&s->blk.rings[0]);

		for (int n = 0; n < 50; n++) {
			kill(before.pid, SIGCONT);
			usleep(100);
		}
		assert_int_equal(ringdrv_peek_used_idx(&s->blk.rings[0]), used);
		assert_int_equal(kill(before.standby_pid, SIGCONT), 0);
		const struct replacement r = scene_replaced(s, i);

		check_recovery(&r, REPLACE_HANG);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	}
	scene_close(s);
}

/* ---- budget ---- */

/* The driver may reset a device that was given up. */
static void test_quarantine_and_reset(void **state)
{
	const struct boxrig_blk_config config = { .death_budget = 1, .death_window_s = 600 };
	const struct blkload_config load = { .seed = 5, .sectors = 4096 };
	struct scene *s;

	(void)state;
	s = scene_create(&rig, &config);
	scene_start(s);
	for (int i = 0; i < 2; i++) {
		scene_await(s, "active");
		scene_standby(s);
		assert_int_equal(kill(active_pid(s), SIGKILL), 0);
		usleep(10000);
	}
	scene_await(s, "quarantined");
	scene_reset(s);
	scene_start(s);
	scene_load(s, &load, SCENE_DEPTH);
	assert_int_equal(loadrun_progress(&s->run, 1000, SCENE_WAIT_MS), 0);
	scene_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_killed),
		scene_test(test_killed_without_event_idx),
		scene_test(test_faulted),
		scene_test(test_forbidden_call),
		scene_test(test_any_lane_killed),
		scene_test(test_cold),
		scene_test(test_second_death),
		scene_test(test_standby_dies),
		scene_test(test_dies_starting),
		scene_test(test_dies_quiescing),
		scene_test(test_dies_while_replaced),
		scene_test(test_stopped_and_continued),
		scene_test(test_stopped_and_replaced),
		scene_test(test_fenced_and_continued),
		scene_test(test_quarantine_and_reset),
	};

	const struct scene_group group = { .name = "recovery", .bytes = 256u << 20 };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
