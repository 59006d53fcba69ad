/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host tests begin and end with: a blk device of release programs, watched, with a
 * verified load on a thread of its own.  Failures are cmocka assertions, so these are for the
 * test's thread.
 */
#ifndef MAYFLY_TESTS_HOST_SCENE_H
#define MAYFLY_TESTS_HOST_SCENE_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/log.h"
#include "tests/rig/boxrig.h"
#include "tests/rig/loadrun.h"
#include "tests/rig/watch.h"

#define SCENE_WAIT_MS 10000 /* for what takes milliseconds: longer is a failure */
#define SCENE_DEPTH 8
#define SCENE_SECTORS 32768

struct scene {
	struct scene *next; /* of those that are open */
	struct boxrig_blk blk;
	struct watch watch;
	struct loadrun run;
	bool loaded;
	uint64_t random; /* xorshift */
};

/* How often: $COUNT, or what is quick. */
static inline uint64_t scene_count(uint64_t quick)
{
	const char *text = getenv("COUNT");
	const uint64_t count = text != NULL ? strtoull(text, NULL, 10) : 0;

	return count != 0 ? count : quick;
}

static inline uint64_t scene_random(struct scene *s, uint64_t below)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random % below;
}

static struct scene *scenes_open;

/* Device and rings; nothing started.  Hooks of a config are watch.h's. */
static inline struct scene *scene_create(struct boxrig *rig, const struct boxrig_blk_config *config)
{
	struct boxrig_blk_config c = *config;
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->next = scenes_open;
	scenes_open = s;
	s->random = 0x2545f4914f6cdd1d;
	watch_init(&s->watch);
	c.hooks = config->hooks != NULL ? config->hooks : &watch_hooks;
	c.ctx = &s->watch;
	assert_int_equal(boxrig_blk_create(rig, &c, &s->blk), 0);
	return s;
}

/* As a driver that is ready; waits for the first pass. */
static inline void scene_start(struct scene *s)
{
	const uint64_t started = watch_count(&s->watch, WATCH_STARTED);

	assert_int_equal(boxrig_blk_go(&s->blk), 0);
	assert_int_equal(watch_wait(&s->watch, WATCH_STARTED, started + 1, SCENE_WAIT_MS), 0);
}

static inline void scene_load(struct scene *s, const struct blkload_config *config, uint16_t depth)
{
	struct blkload_config c = *config;

	if (c.sectors == 0)
		c.sectors = SCENE_SECTORS;
	assert_int_equal(loadrun_start(&s->run, &s->blk.rig->mem, &c, s->blk.rings, s->blk.queues,
				       depth),
			 0);
	s->loaded = true;
}

/* All three, with the defaults for the load. */
static inline struct scene *scene_open(struct boxrig *rig, const struct boxrig_blk_config *config)
{
	const struct blkload_config load = { .seed = 1 };
	struct scene *s = scene_create(rig, config);

	scene_start(s);
	scene_load(s, &load, SCENE_DEPTH);
	return s;
}

/* Nothing lost, doubled or corrupted, seen through the device and in the image. */
static inline void scene_finish_load(struct scene *s)
{
	s->loaded = false;
	assert_true(loadrun_finish(&s->run, s->blk.image));
}

static inline void scene_end(struct scene *s)
{
	struct scene **p = &scenes_open;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	boxrig_blk_destroy(&s->blk);
	watch_free(&s->watch);
	free(s);
}

static inline void scene_close(struct scene *s)
{
	if (s->loaded)
		scene_finish_load(s);
	scene_end(s);
}

/* Teardown: what a test that failed has left open. */
static inline int scene_teardown(void **state)
{
	(void)state;
	while (scenes_open != NULL) {
		kill(scenes_open->blk.rig->spawner.pid, SIGCONT); /* some stop it */
		if (scenes_open->loaded)
			loadrun_abandon(&scenes_open->run);
		scene_end(scenes_open);
	}
	return 0;
}

#define scene_test(test) cmocka_unit_test_teardown(test, scene_teardown)

/* As a driver that writes 0 to the status and begins anew with its rings. */
static inline void scene_reset(struct scene *s)
{
	const uint64_t resets = watch_count(&s->watch, WATCH_RESET);

	device_reset(s->blk.dev);
	assert_int_equal(watch_wait(&s->watch, WATCH_RESET, resets + 1, SCENE_WAIT_MS), 0);
	for (uint32_t i = 0; i < s->blk.queues; i++)
		ringdrv_reset(&s->blk.rings[i]);
}

static inline struct device_status scene_status(struct scene *s)
{
	struct device_status status;

	device_status(s->blk.dev, &status);
	return status;
}

static inline void scene_standby(struct scene *s)
{
	assert_int_equal(device_wait_standby(s->blk.dev, SCENE_WAIT_MS), 0);
}

/* Waits until the device's state has this API name. */
static inline void scene_await(struct scene *s, const char *state)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	while (strcmp(scene_status(s).state, state) != 0) {
		if (now_ns() > end)
			fail_msg("state is %s, not %s", scene_status(s).state, state);
		usleep(100);
	}
}

/* The next replacement to finish after the first `seen`. */
static inline struct replacement scene_replaced(struct scene *s, uint64_t seen)
{
	struct replacement r;

	assert_int_equal(watch_wait(&s->watch, WATCH_REPLACED, seen + 1, SCENE_WAIT_MS), 0);
	assert_int_equal(watch_replacement(&s->watch, seen, &r), 0);
	return r;
}

/* A box that gets no CPU within the deadlines of QUIESCING and PARKING is stopped or killed instead.
 * That is as it must be, on a machine that is busy with other things, but must be rare. */
static inline bool scene_late(const struct replacement *r)
{
	return r->planned && r->fence >= FENCE_STOPPED && r->drain_us + r->switch_us >= 50000;
}

/* Where images that are files go. */
static inline const char *scene_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir != NULL ? dir : "/tmp";
}

/* A group of tests on one rig with `bytes` of guest memory.  The functions may be NULL. */
struct scene_group {
	const char *name;
	uint64_t bytes;
	int (*more_memory)(struct boxrig *rig); /* 0: added */
	CMFixtureFunction begin, end;
};

/* cmocka's own answer does not count a group's begin and end: one whose end finds something lost
 * would pass. */
static const struct scene_group *scene_group;
static bool scene_group_failed;

static inline int scene_group_run(CMFixtureFunction fixture, void **state)
{
	const int ret = fixture != NULL ? fixture(state) : 0;

	scene_group_failed = scene_group_failed || ret != 0;
	return ret;
}

static inline int scene_group_begin(void **state)
{
	return scene_group_run(scene_group->begin, state);
}

static inline int scene_group_end(void **state)
{
	return scene_group_run(scene_group->end, state);
}

/* $TEST: a pattern of the names of those to run. */
static inline int scene_main(const struct scene_group *group, struct boxrig *rig,
			     const struct CMUnitTest *tests, size_t count)
{
	int ret;

	cmocka_set_test_filter(getenv("TEST"));
	log_open(2, getenv("DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	if (boxrig_start(rig) != 0 || guestmem_add(&rig->mem, 0, group->bytes, GUESTMEM_4K) != 0 ||
	    (group->more_memory != NULL && group->more_memory(rig) != 0) ||
	    boxrig_supervise(rig) != 0)
		return 1;
	scene_group = group;
	ret = _cmocka_run_group_tests(group->name, tests, count, scene_group_begin,
				      scene_group_end);
	boxrig_stop(rig);
	return ret == 0 && scene_group_failed ? 1 : ret;
}

#endif
