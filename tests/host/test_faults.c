/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on order, and what is told of them (core/box/news.h): the faulty set of programs under the real
 * supervisor, with a verified load.  Each fault is seen to be noticed as what it is, and to lose nothing.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "core/box/fault.h"
#include "core/box/news.h"
#include "tests/host/scene.h"

#define PATROL_MS 100
#define WINDOW 8
#define DEADLY 5
#define GET_ID 8u

static struct boxrig rig;     /* with the faulty set */
static struct boxrig release; /* with release programs, which it takes for others */
static struct news *news;

static int inject(struct scene *s, enum fault fault)
{
	const struct fault_order order = { .fault = fault };
	uint64_t generation;

	return device_fault(s->blk.dev, &order, &generation);
}

static struct scene *open_scene(struct boxrig *r)
{
	const struct boxrig_blk_config config = { .limits = { PATROL_MS, PATROL_MS } };

	return scene_open(r, &config);
}

/* ---- each fault ---- */

static const struct {
	enum fault fault;
	bool planned; /* asked to hand off, which is when it shows */
	enum replace_reason reason;
} expected[] = {
	{ FAULT_KILL, false, REPLACE_CRASH },
	{ FAULT_STOP, false, REPLACE_HANG },
	{ FAULT_SEGV, false, REPLACE_CRASH },
	{ FAULT_HANG, false, REPLACE_HANG },
	{ FAULT_FORBIDDEN_CALL, false, REPLACE_SECCOMP },
	{ FAULT_CORRUPT_STATE, true,
	  REPLACE_PROTOCOL }, /* the successor refuses it, and is replaced */
	{ FAULT_LIE_ON_QUIESCE, true, REPLACE_OPERATOR },
};

static void test_each(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		struct scene *s = open_scene(&rig);
		struct replacement r;

		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
		assert_int_equal(inject(s, expected[i].fault), 0);
		if (expected[i].planned)
			assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r), 0);
		else
			r = scene_replaced(s, 0);
		assert_string_equal(replace_reason_name(r.reason),
				    replace_reason_name(expected[i].reason));
		assert_int_equal(scene_status(s).faults, 1);
		assert_true(scene_status(s).faulty);
		assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
		scene_close(s);
	}
}

/* It said that it had parked: the record of one that has to be stopped is worth nothing. */
static void test_liar_carries_nothing(void **state)
{
	struct scene *s = open_scene(&rig);
	struct replacement r;

	(void)state;
	assert_int_equal(inject(s, FAULT_LIE_ON_QUIESCE), 0);
	assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r), 0);
	assert_false(r.carried);
	assert_true(r.fence >= FENCE_STOPPED);
	scene_close(s);
}

/* The guest must not be told of what was never done: broken, until its driver begins anew.  Without load
 * before: the next request that is done would put the index right again, and what it wrote stayed there. */
static void test_bad_used_index(void **state)
{
	const struct boxrig_blk_config config = { .limits = { PATROL_MS, PATROL_MS } };
	struct scene *s = scene_create(&rig, &config);

	(void)state;
	scene_start(s);
	assert_int_equal(inject(s, FAULT_BAD_USED_INDEX), 0);
	scene_await(s, "broken");
	scene_reset(s);
	scene_start(s);
	scene_load(s, &(struct blkload_config){ .seed = 2 }, SCENE_DEPTH);
	assert_int_equal(loadrun_progress(&s->run, 100, SCENE_WAIT_MS), 0);
	scene_close(s);
}

static void test_storm(void **state)
{
	const struct boxrig_blk_config config = { .limits = { 0, PATROL_MS } };
	struct scene *s = scene_create(&rig, &config);

	(void)state;
	scene_start(s);
	assert_int_equal(inject(s, FAULT_INTERRUPT_STORM), 0);
	assert_int_equal(scene_replaced(s, 0).reason, REPLACE_STORM);
	scene_load(s, &(struct blkload_config){ .seed = 2 }, SCENE_DEPTH);
	scene_close(s);
}

/* ---- a request that kills ---- */

struct request { /* as it lies in guest memory */
	uint32_t type, ioprio;
	uint64_t sector;
	uint8_t id[20];
	uint8_t status;
	uint8_t pad[3];
};

static void submit(struct scene *s, struct request *window, uint64_t gpa)
{
	for (uint32_t i = 0; i < WINDOW; i++) {
		const uint64_t here = gpa + i * sizeof(*window);
		const struct ringdrv_seg segs[] = {
			{ here, 16 },
			{ here + offsetof(struct request, id), sizeof(window->id) },
			{ here + offsetof(struct request, status), 1 },
		};
		const struct ringdrv_chain chain = {
			.seg = segs, .readable = 1, .writable = 2, .token = i
		};

		window[i] = (struct request){ .type = GET_ID, .status = 0xff };
		assert_int_equal(ringdrv_add(&s->blk.rings[0], &chain), 0);
	}
	ringdrv_publish(&s->blk.rings[0]);
	ringdrv_kick(&s->blk.rings[0]);
}

/* Its successors die of it, too, until poison is what it is: exactly that one fails. */
static void test_die_on_request(void **state)
{
	const struct boxrig_blk_config config = { .poison_limit = 2 };
	const struct fault_order order = { .fault = FAULT_DIE_ON_REQUEST, .after = DEADLY };
	struct scene *s = scene_create(&rig, &config);
	struct request *window;
	struct ringdrv_done done;
	uint64_t generation;
	gpa_t gpa;

	(void)state;
	scene_start(s);
	assert_int_equal(guestmem_alloc(&rig.mem, WINDOW * sizeof(*window), 64, &gpa), 0);
	window = guestmem_ptr(&rig.mem, gpa, WINDOW * sizeof(*window));
	assert_int_equal(device_fault(s->blk.dev, &order, &generation), 0);
	assert_int_equal(generation, 1);
	submit(s, window, gpa.raw);
	for (uint32_t i = 0; i < WINDOW; i++) {
		while (ringdrv_reap(&s->blk.rings[0], &done) == 0)
			assert_in_range(ringdrv_wait(&s->blk.rings[0], SCENE_WAIT_MS * NS_PER_MS),
					0, 1);
		assert_int_equal(done.token, i);
		assert_int_equal(window[i].status, i == DEADLY);
	}
	assert_int_equal(scene_status(s).poisoned, 1);
	assert_int_equal(scene_status(s).deaths_by_reason[REPLACE_CRASH], 2);
	scene_close(s);
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
	const struct fault_order far_queue = { .fault = FAULT_KILL, .queue = 1 };
	const struct fault_order far_lane = { .fault = FAULT_KILL, .lane = 1 };
	struct scene *s = open_scene(&rig);
	uint64_t generation;

	(void)state;
	assert_int_equal(device_fault(s->blk.dev, &far_queue, &generation), -EINVAL);
	assert_int_equal(device_fault(s->blk.dev, &far_lane, &generation), -EINVAL);
	assert_int_equal(inject(s, FAULT_COUNT), -EINVAL);
	scene_finish_load(s);
	scene_reset(s);
	assert_int_equal(inject(s, FAULT_KILL), -EBUSY);
	assert_int_equal(scene_status(s).faults, 0);
	scene_close(s);
}

/* A release program does not know the message, and a VMM that has those does not send it. */
static void test_release_programs(void **state)
{
	struct scene *s = open_scene(&release);

	(void)state;
	assert_int_equal(inject(s, FAULT_KILL), -EPERM);
	supervisor_allow_faults(release.sup, false);
	assert_int_equal(inject(s, FAULT_CORRUPT_STATE), -ENOTSUP);
	assert_int_equal(scene_status(s).generation, 1);
	supervisor_allow_faults(release.sup, true); /* which is not so */
	assert_int_equal(inject(s, FAULT_CORRUPT_STATE), 0);
	assert_int_equal(scene_replaced(s, 0).reason, REPLACE_CRASH);
	scene_close(s);
}

/* ---- what is told ---- */

/* The next event. */
static struct news_event next_event(struct news_reader *reader)
{
	struct pollfd pfd = { .fd = news_wake_fd(reader), .events = POLLIN };
	struct news_event event;
	uint64_t lost;

	for (;;) {
		const int ret = news_take(reader, &event, &lost);

		assert_in_range(ret, 0, 1);
		if (ret == 1)
			return event;
		if (ret == 0)
			assert_int_equal(poll(&pfd, 1, SCENE_WAIT_MS), 1);
	}
}

static void test_told(void **state)
{
	static const enum news_kind kinds[] = { NEWS_FAULT, NEWS_SUSPECT, NEWS_REPLACED,
						NEWS_REPLACED, NEWS_RESET };
	struct news_reader *reader;
	struct scene *s = open_scene(&rig);
	struct replacement r;
	uint64_t seq = 0;

	(void)state;
	assert_int_equal(news_subscribe(news, &reader), 0);
	assert_int_equal(inject(s, FAULT_SEGV), 0);
	(void)scene_replaced(s, 0);
	assert_int_equal(device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r), 0);
	scene_finish_load(s);
	scene_reset(s);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct news_event event = next_event(reader);

		assert_int_equal(event.kind, kinds[i]);
		assert_string_equal(event.device, "disk0");
		assert_true(event.seq > seq);
		seq = event.seq;
		if (i < 2)
			assert_int_equal(event.generation, 1);
		if (event.kind == NEWS_REPLACED)
			assert_int_equal(event.replacement.to, event.generation);
	}
	news_unsubscribe(reader);
	scene_close(s);
}

/* ---- both rigs ---- */

static int start_rig(struct boxrig *r)
{
	if (boxrig_start(r) != 0 || guestmem_add(&r->mem, 0, 64u << 20, GUESTMEM_4K) != 0)
		return -1;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_each),           scene_test(test_liar_carries_nothing),
		scene_test(test_bad_used_index), scene_test(test_storm),
		scene_test(test_die_on_request), scene_test(test_refused),
		scene_test(test_told),           scene_test(test_release_programs),
	};
	int ret = 1;

	cmocka_set_test_filter(getenv("TEST"));
	log_open(2, getenv("DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	/* Both spawners before any thread. */
	if (news_create(&news) != 0 || start_rig(&release) != 0 || boxrig_use("dev/faulty") != 0 ||
	    start_rig(&rig) != 0 || boxrig_supervise(&release) != 0 || boxrig_supervise(&rig) != 0)
		return 1;
	supervisor_tell(rig.sup, news);
	supervisor_allow_faults(rig.sup, true);
	ret = cmocka_run_group_tests_name("faults", tests, NULL, NULL);
	boxrig_stop(&rig);
	boxrig_stop(&release);
	news_destroy(news);
	return ret;
}
