/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The release virtio-mem program under the real supervisor: requests are answered as hotplug/virtio_mem
 * says, once, whatever happens between the question and the answer.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "tests/host/scene.h"
#include "tests/rig/memrig.h"

#define WANTED 64u /* blocks */

static struct boxrig rig;
static struct memrig mem;
static struct device_spec like; /* what is to be else than usual */

static int setup(void **state)
{
	(void)state;
	like = (struct device_spec){ 0 };
	return memrig_create(&rig, &mem, WANTED, &like);
}

static int teardown(void **state)
{
	(void)state;
	memrig_destroy(&mem);
	return 0;
}

#define expect(answer, request, block, blocks)                                                     \
	do {                                                                                       \
		struct mem_resp resp_;                                                             \
                                                                                                   \
		assert_int_equal(memrig_do(&mem, MEM_##request, block, blocks, &resp_), 0);        \
		assert_int_equal(resp_.type, MEM_##answer);                                        \
	} while (0)

static void expect_state(enum mem_state state, uint64_t block, uint16_t blocks)
{
	struct mem_resp resp;

	assert_int_equal(memrig_do(&mem, MEM_STATE, block, blocks, &resp), 0);
	assert_int_equal(resp.type, MEM_ACK);
	assert_int_equal(resp.state, state);
}

static struct device_status status_now(void)
{
	struct device_status status;

	device_status(mem.dev, &status);
	return status;
}

static void await_state(const char *state)
{
	const uint64_t end_ns = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	while (strcmp(status_now().state, state) != 0) {
		if (now_ns() > end_ns)
			fail_msg("state is %s, not %s", status_now().state, state);
		usleep(100);
	}
}

static struct replacement await_replacement(uint64_t seen)
{
	struct replacement r;

	assert_int_equal(watch_wait(&mem.watch, WATCH_REPLACED, seen + 1, SCENE_WAIT_MS), 0);
	assert_int_equal(watch_replacement(&mem.watch, seen, &r), 0);
	return r;
}

/* ---- a request whose answer is waited for ---- */

static void await_questions(uint64_t count)
{
	const uint64_t end_ns = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	for (;;) {
		pthread_mutex_lock(&mem.lock);
		const uint64_t now = mem.questions;

		pthread_mutex_unlock(&mem.lock);
		if (now >= count)
			return;
		assert_true(now_ns() < end_ns);
		usleep(100);
	}
}

/* Questions are held from here on; a PLUG of blocks 0 to 3 is asked about. */
static void plug_held(void)
{
	const uint64_t before = mem.questions; /* nothing is asked: the ring is empty */

	mem.hold = true;
	assert_int_equal(memrig_add(&mem, MEM_PLUG, 0, 4, 77), 0);
	ringdrv_publish(&mem.ring);
	(void)ringdrv_kick(&mem.ring);
	await_questions(before + 1);
}

/* It is answered, once, and well. */
static void check_plugged(void)
{
	struct ringdrv_done done;
	struct mem_resp resp;

	while (ringdrv_reap(&mem.ring, &done) != 1)
		assert_int_equal(ringdrv_wait(&mem.ring, SCENE_WAIT_MS * NS_PER_MS), 1);
	assert_int_equal(done.token, 77);
	assert_int_equal(memrig_answer(&mem, &done, &resp), 0);
	assert_int_equal(resp.type, MEM_ACK);
	mem.hold = false;
	expect_state(MEM_PLUGGED, 0, 4);
	assert_int_equal(mem.v.plugged_bytes, 4 * MEMRIG_BLOCK);
	assert_int_equal(mem.ring.stats.completed, mem.ring.stats.added);
	assert_int_equal(mem.ring.stats.duplicated + mem.ring.stats.corrupted, 0);
}

/* ---- */

static void test_requests(void **state)
{
	(void)state;
	expect(ACK, PLUG, 0, 16);
	expect_state(MEM_PLUGGED, 0, 16);
	expect_state(MEM_MIXED, 15, 2);
	expect_state(MEM_UNPLUGGED, 16, 1);
	expect(ERROR, PLUG, 15, 2);
	expect(NACK, PLUG, 16, WANTED);
	expect(ACK, UNPLUG, 3, 5);
	expect(ERROR, UNPLUG, 3, 1);
	expect_state(MEM_MIXED, 0, 16);
	expect(ERROR, OTHER, 0, 1);  /* and what has a number of ours is no more known .. */
	expect(ERROR, REFUSE, 0, 1); /* .. than this */
	expect(ERROR, PLUG, MEMRIG_BLOCKS, 1);
	expect(ACK, UNPLUG_ALL, 0, 0);
	expect_state(MEM_UNPLUGGED, 0, WANTED);
	assert_int_equal(mem.v.plugged_bytes, 0);
	assert_int_equal(mem.questions, mem.ring.stats.added);
	assert_int_equal(mem.repeated + mem.late, 0);
}

/* The box that reads QUIESCE first goes on waiting, ends the request, and parks. */
static void test_replaced_while_it_waits(void **state)
{
	(void)state;
	plug_held();
	assert_int_equal(device_replace_post(mem.dev, REPLACE_SCHEDULE, false), 0);
	await_state("quiescing");
	usleep(20000); /* QUIESCE is read by now */
	assert_int_equal(memrig_release(&mem), 0);
	const struct replacement r = await_replacement(0);

	check_plugged();
	if (scene_late(&r))
		return;
	assert_true(r.planned && r.fence == FENCE_PARKED);
	assert_int_equal(mem.repeated, 0);
	assert_int_equal(mem.questions, 2); /* with that for the state */
}

/* An answer that is late for the deadline: the box is stopped, and its successor asks. */
static void test_replaced_and_late(void **state)
{
	(void)state;
	plug_held();
	assert_int_equal(device_replace_post(mem.dev, REPLACE_SCHEDULE, false), 0);
	const struct device_question first = mem.held;

	await_questions(2);
	assert_int_equal(device_answer_question(mem.dev, &first, mem_answer_value(MEM_ERROR, 0)),
			 -ESTALE);
	assert_int_equal(memrig_release(&mem), 0);
	check_plugged();
	assert_int_equal(mem.repeated, 0); /* the first was never judged */
}

/* The VMM has done it, and before it could say so the box died. */
static void test_killed_before_the_answer(void **state)
{
	(void)state;
	plug_held();
	const struct device_question first = mem.held;

	kill(status_now().pid, SIGKILL);
	await_questions(2);
	assert_int_equal(memrig_release(&mem), 0); /* to the second .. */
	check_plugged();
	assert_int_equal(device_answer_question(mem.dev, &first, 0), -ESTALE);
	assert_int_equal(mem.repeated, 0);

	expect(ACK, UNPLUG, 0, 4);
	mem.questions = 0;
	mem.hold = true;
	plug_held();
	struct vmem_result result; /* .. and now to the first, as if it had got lost */
	struct mem_ask ask;

	assert_true(mem_ask_parse(mem.held.value, mem.held.detail, &ask));
	vmem_ask(&mem.v, &ask, &result);
	assert_int_equal(result.answer, mem_answer_value(MEM_ACK, 0));
	kill(status_now().pid, SIGKILL);
	await_questions(2);
	assert_int_equal(memrig_release(&mem), 0);
	check_plugged();
	assert_int_equal(mem.repeated, 1);
}

static void test_reset_while_it_waits(void **state)
{
	(void)state;
	expect(ACK, PLUG, 8, 1); /* stands where the first one will */
	plug_held();
	const struct device_question first = mem.held;

	assert_int_equal(memrig_restart(&mem), 0);
	assert_int_equal(device_answer_question(mem.dev, &first, 0), -ESTALE);
	mem.hold = false;
	expect_state(MEM_PLUGGED, 8, 1); /* blocks stay as they are */
	expect_state(MEM_UNPLUGGED, 0, 4);
	expect(ACK, PLUG, 0, 4);
	assert_int_equal(mem.repeated, 0);
}

/* The VMM takes its time: that is no fault of the box, which answers PINGs meanwhile. */
static void test_slow_answer_is_no_hang(void **state)
{
	(void)state;
	memrig_destroy(&mem);
	like.limits = (struct suspect_limits){ .hang_ms = 100 };
	assert_int_equal(memrig_create(&rig, &mem, WANTED, &like), 0);
	plug_held();
	usleep(1000000);
	assert_int_equal(watch_count(&mem.watch, WATCH_REPLACED), 0);
	assert_string_equal(status_now().state, "active");
	assert_int_equal(memrig_release(&mem), 0);
	check_plugged();
	assert_int_equal(watch_count(&mem.watch, WATCH_REPLACED), 0);
}

/* More than the ration: nothing is refused or suspect, it only takes its time. */
static void test_many_requests(void **state)
{
	const uint64_t from = now_ns();

	(void)state;
	for (int i = 0; i < 1000; i++)
		expect_state(MEM_UNPLUGGED, 0, WANTED);
	assert_true(now_ns() - from > 700 * NS_PER_MS); /* 256 at once, then 1,000 a second */
	assert_int_equal(watch_count(&mem.watch, WATCH_REPLACED), 0);
	assert_int_equal(mem.repeated, 0);
}

/* A driver that gives no room for the answer has broken a rule. */
static void test_short_chain(void **state)
{
	const struct ringdrv_seg segs[] = { { mem.gpa, sizeof(struct mem_req) },
					    { mem.gpa + 64, sizeof(struct mem_resp) - 1 } };
	const struct ringdrv_chain chain = { .seg = segs, .readable = 1, .writable = 1 };

	(void)state;
	assert_int_equal(ringdrv_add(&mem.ring, &chain), 0);
	ringdrv_publish(&mem.ring);
	(void)ringdrv_kick(&mem.ring);
	assert_int_equal(watch_wait(&mem.watch, WATCH_BROKEN, 1, SCENE_WAIT_MS), 0);
	assert_int_equal(mem.questions, 0);
	assert_int_equal(memrig_restart(&mem), 0);
	expect(ACK, PLUG, 0, 4);
}

/* Who died too often is quarantined: a generation that refuses asks, too, and the driver is told to try
 * again; revived, it does. */
static void test_quarantined(void **state)
{
	(void)state;
	memrig_destroy(&mem);
	like.death_budget = 2;
	like.death_window_s = 3600;
	assert_int_equal(memrig_create(&rig, &mem, WANTED, &like), 0);
	expect(ACK, PLUG, 0, 4);
	while (strcmp(status_now().state, "quarantined") != 0) {
		const struct device_status s = status_now();

		if (strcmp(s.state, "active") == 0 && s.pid > 0)
			kill(s.pid, SIGKILL);
		usleep(1000);
	}
	expect(BUSY, PLUG, 4, 4);
	expect(BUSY, UNPLUG_ALL, 0, 0);
	assert_int_equal(mem.v.plugged_bytes, 4 * MEMRIG_BLOCK);
	assert_int_equal(device_revive(mem.dev), 0);
	await_state("active");
	expect(ACK, PLUG, 4, 4);
	expect_state(MEM_PLUGGED, 0, 8);
}

#define mem_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		mem_test(test_requests),
		mem_test(test_replaced_while_it_waits),
		mem_test(test_replaced_and_late),
		mem_test(test_killed_before_the_answer),
		mem_test(test_reset_while_it_waits),
		mem_test(test_slow_answer_is_no_hang),
		mem_test(test_many_requests),
		mem_test(test_short_chain),
		mem_test(test_quarantined),
	};
	const struct scene_group group = { .name = "mem", .bytes = 64u << 20 };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
