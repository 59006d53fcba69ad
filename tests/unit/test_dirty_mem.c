/* SPDX-License-Identifier: Apache-2.0 */
/* dev: mem */
/* devmodel/mem: the response lies in marked pages, whenever these are fetched. */
#include "devmodel/abi/mem.h"
#include "tests/unit/dirty.h"
#include "tests/unit/hosted.h"

#define RESP_GPA (RING_DATA_GPA + 2 * 4096 - 7) /* across the end of a page, in two parts */

static void answer_one(enum dirty_watch watch)
{
	const struct mem_req req = { .type = MEM_STATE, .addr = 4096, .blocks = 1 };
	const struct ring_part parts[] = { { RING_DATA_GPA, sizeof(req), 0 },
					   { 0, 0, RING_W },
					   { RESP_GPA, 9, RING_W },
					   { RING_B_GPA, 4096, RING_W } };
	const struct ctl_answer answer = { { CTL_ANSWER, mem_answer_value(MEM_ACK, 0xffff) }, 1 };
	struct dirty_log room;
	struct virtq none;

	launch.queues = 1;
	launch.kind = DEV_KIND_MEM;
	dirty_open_log(&rings[0], &launch, &room, &none);
	memcpy(ring_at(&rings[0], RING_DATA_GPA, sizeof(req)), &req, sizeof(req));
	memset(ring_at(&rings[0], RESP_GPA, 9), 0xa5, 9);
	*(uint8_t *)ring_at(&rings[0], RING_B_GPA, 1) = 0xa5;
	ring_post(&rings[0], parts, 4);
	dirty_begin(watch);
	start();
	activate();
	assert_int_equal(hear().type, REPORT_ASK);
	tell(&answer, sizeof(answer));
	expect_report(REPORT_ACTIVATED, 0, 1);
	tell_type(CTL_QUIESCE, 2);
	assert_int_equal(hear().type, REPORT_PARKED);
	dirty_end();
	if (watch == DIRTY_LOOK)
		assert_int_equal(dirty_marked(), 2 + 1 + 1); /* and the used ring */
	assert_int_equal(*(uint8_t *)ring_at(&rings[0], RING_B_GPA, 1), 0xff);
	dirty_close_log();
}

static void test_looked_at(void **state)
{
	(void)state;
	answer_one(DIRTY_LOOK);
}

static void test_fetched(void **state)
{
	(void)state;
	answer_one(DIRTY_FETCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_looked_at, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fetched, setup, teardown),
	};

	return cmocka_run_group_tests_name("dirty_mem", tests, NULL, NULL);
}
