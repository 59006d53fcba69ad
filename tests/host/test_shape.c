/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that gets other rings, eventfds and configuration while it serves (core/box/shape.c), with release
 * programs under verified work; and changes that cannot be had, which leave all as it was, also where whoever
 * served died in between and came back in what is to be abandoned.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/box/epoch.h"
#include "tests/host/scene.h"

#define WAIT_MS 10000
#define STEP_NS (50 * NS_PER_MS)
#define NEW_GPA (4ull << 30)

static struct boxrig rig;
static char who[DEVICE_ID_MAX + 1];
static struct blkload work;

static struct box_memory memory_next(void)
{
	struct box_memory memory;

	rig.mem.map.epoch++;
	boxrig_memory(&rig, &memory);
	return memory;
}

/* As the device has it now. */
static struct device_shape shape_of(const struct scene *s)
{
	const struct boxrig_blk *blk = &s->blk;
	struct device_shape shape = { .features = blk->features, .fsize = blk->bytes };

	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		shape.wiring.kick[i] = shape.wiring.call[i] = -1;
	for (uint32_t i = 0; i < blk->queues; i++) {
		ringdrv_describe(&blk->rings[i], &shape.queues[i]);
		shape.wiring.kick[i] = blk->rings[i].fd_kick;
		shape.wiring.call[i] = blk->rings[i].fd_call;
	}
	shape.config.blk =
		(struct blk_config){ .bytes = blk->bytes, .flags = BLK_FLUSH, .align = 1 };
	return shape;
}

static int change(const struct scene *s, const struct device_shape *shape)
{
	const struct box_memory memory = memory_next();

	return supervisor_prepare_shape(rig.sup, &memory, REPLACE_RINGS, s->blk.dev, shape, WAIT_MS,
					who);
}

static void move(enum epoch_until until)
{
	assert_int_equal(supervisor_move_memory(rig.sup, until, WAIT_MS, who), 0);
}

static void run(uint64_t requests)
{
	const uint64_t goal = blkload_completed(&work) + requests;
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	while (blkload_completed(&work) < goal && now_ns() < end)
		assert_true(blkload_step(&work, STEP_NS) >= 0);
	assert_true(blkload_completed(&work) >= goal);
}

static struct scene *open_loaded(void)
{
	const struct blkload_config mix = { .sectors = SCENE_SECTORS, .seed = 3 };
	struct scene *s = scene_create(&rig, &(struct boxrig_blk_config){ .queues = 2 });

	scene_start(s);
	assert_int_equal(blkload_init(&work, &rig.mem, &mix), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(blkload_add_queue(&work, &s->blk.rings[i], 8), 0);
	run(100);
	return s;
}

static void close_loaded(struct scene *s)
{
	assert_int_equal(blkload_drain(&work, SCENE_WAIT_MS * NS_PER_MS), 0);
	assert_int_equal(blkload_verify_image(&work, s->blk.image), 0);
	if (!blkload_clean(&work))
		fail_msg("%s", blkload_complaint(&work));
	blkload_free(&work);
	scene_end(s);
}

/* One queue is not served for a while: what is asked there waits, and is answered when it is again. */
static void test_queue_rests(void **state)
{
	struct scene *s = open_loaded();
	struct device_shape shape = shape_of(s), less = shape;

	(void)state;
	less.queues[1].size = 0;
	for (uint32_t n = 0; n < 5; n++) {
		assert_int_equal(change(s, &less), 0);
		move(EPOCH_GONE);
		const uint16_t used = ringdrv_peek_used_idx(&s->blk.rings[1]);

		run(50);
		assert_int_equal(ringdrv_peek_used_idx(&s->blk.rings[1]), used);
		assert_int_equal(change(s, &shape), 0);
		move(EPOCH_GONE);
		run(100);
		assert_int_not_equal(ringdrv_peek_used_idx(&s->blk.rings[1]), used);
	}
	assert_int_equal(scene_status(s).replacements[REPLACE_RINGS], 10);
	close_loaded(s);
}

/* A device that grew and shrank; what lies beyond its end is refused, and within it is served. */
static void test_configuration(void **state)
{
	struct scene *s = open_loaded();
	struct device_shape shape = shape_of(s), large = shape;

	(void)state;
	large.fsize = large.config.blk.bytes = 2 * s->blk.bytes;
	assert_int_equal(ftruncate(s->blk.image, (off_t)(2 * s->blk.bytes)), 0);
	for (uint32_t n = 0; n < 4; n++) {
		assert_int_equal(change(s, n % 2 == 0 ? &large : &shape), 0);
		move(EPOCH_MOVED);
		run(100);
	}
	close_loaded(s);
}

/* A region that is no memory: no process can be born, nothing is changed. */
static void cannot_be_had(bool killed)
{
	struct scene *s = open_loaded();
	struct device_shape shape = shape_of(s), other = shape;
	struct box_memory memory = memory_next();
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	const uint32_t epoch = scene_status(s).epoch;

	other.queues[1].size = 0;
	other.wiring.call[0] = call;
	other.fsize = other.config.blk.bytes = 512;
	memory.map.regions[memory.map.count] = (struct mem_region){ NEW_GPA, 1u << 20, 0 };
	memory.page_bytes[memory.map.count] = 4096;
	memory.fds[memory.map.count++] = killed ? rig.mem.fds[0] : null;
	assert_int_equal(supervisor_prepare_shape(rig.sup, &memory, REPLACE_RINGS, s->blk.dev,
						  &other, WAIT_MS, who),
			 killed ? 0 : -EIO);
	if (killed) { /* it comes back in what is to be abandoned */
		const uint64_t generation = scene_status(s).generation;
		const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

		kill(scene_status(s).pid, SIGKILL);
		while (scene_status(s).generation <= generation && now_ns() < end)
			usleep(1000);
		assert_int_not_equal(scene_status(s).epoch, epoch);
	}
	supervisor_abandon_memory(rig.sup);
	move(EPOCH_GONE);
	assert_int_equal(scene_status(s).epoch, epoch);
	run(300);
	close(null);
	close(call);
	close_loaded(s);
}

static void test_cannot_be_had(void **state)
{
	(void)state;
	cannot_be_had(false);
}

static void test_abandoned(void **state)
{
	(void)state;
	cannot_be_had(true);
}

static int begin(void **state)
{
	(void)state;
	if (boxrig_start(&rig) != 0 || guestmem_add(&rig.mem, 0, 64ull << 20, GUESTMEM_4K) != 0)
		return -1;
	return boxrig_supervise(&rig);
}

static int stop(void **state)
{
	(void)state;
	boxrig_stop(&rig);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_queue_rests, begin, stop),
		cmocka_unit_test_setup_teardown(test_configuration, begin, stop),
		cmocka_unit_test_setup_teardown(test_cannot_be_had, begin, stop),
		cmocka_unit_test_setup_teardown(test_abandoned, begin, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
