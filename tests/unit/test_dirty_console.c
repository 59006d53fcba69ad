/* SPDX-License-Identifier: Apache-2.0 */
/* dev: console */
/* devmodel/console: input lies in marked pages, whenever these are fetched; so does what only may have come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "devmodel/console/state.h"
#include "tests/unit/dirty.h"

#define FD_STREAMS 500 /* input, and output behind it */
#define BUFFER_GPA (RING_DATA_GPA + 4090)

static struct ring ring;
static struct launch_record launch;
static struct dev dev;
static struct dirty_log room;
static struct virtq *const q = &dev.queues[0];
static int typed; /* the end that is written to */

static int setup(void **state)
{
	int ends[2];

	(void)state;
	ring_open(&ring, 16, 0);
	launch.queues = 1;
	launch.backends = 2;
	launch.fd_backend = FD_STREAMS;
	dev.launch = &launch;
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0 || dup3(ends[0], FD_STREAMS, O_CLOEXEC) < 0 ||
	    dup3(ends[1], FD_STREAMS + 1, O_CLOEXEC) < 0)
		return -1;
	close(ends[0]);
	typed = ends[1];
	dirty_open_log(&ring, &launch, &room, q);
	return dev_program.init(&dev);
}

static int teardown(void **state)
{
	(void)state;
	dirty_close_log();
	close(typed);
	close(FD_STREAMS);
	close(FD_STREAMS + 1);
	ring_close(&ring);
	return 0;
}

/* Input comes to the first segment that has room, across the end of a page. */
static void type(enum dirty_watch watch)
{
	const struct ring_part parts[] = { { 0, 0, RING_W },
					   { BUFFER_GPA, 100, RING_W },
					   { RING_B_GPA, 100, RING_W } };
	const struct dirty_log *log = q->log;

	assert_int_equal(ring_queue(&ring, q), 0);
	q->log = log;
	memset(ring_at(&ring, BUFFER_GPA, 100), 0, 100);
	ring_post(&ring, parts, 3);
	dirty_begin(watch);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_BLOCKED);
	dirty_end();
	assert_int_equal(write(typed, "typed text", 10), 10);
	dirty_begin(watch);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	dirty_end();
	assert_memory_equal(ring_at(&ring, BUFFER_GPA, 10), "typed text", 10);
	ring.cfg.next = ring.posted;
}

static void test_looked_at(void **state)
{
	(void)state;
	type(DIRTY_LOOK);
	assert_int_equal(dirty_marked(), 3); /* and the used ring */
}

static void test_fetched(void **state)
{
	(void)state;
	type(DIRTY_FETCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_looked_at, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fetched, setup, teardown),
	};

	return cmocka_run_group_tests_name("dirty_console", tests, NULL, NULL);
}
