/* SPDX-License-Identifier: Apache-2.0 */
/* Handoffs of release programs under verified load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/log.h"
#include "tests/rig/boxrig.h"

static struct boxrig rig;

static void test_starts_and_serves(void **state)
{
	struct boxrig_blk blk;
	struct blkload load;
	const struct blkload_config lc = { .sectors = 65536, .seed = 7 };
	const struct boxrig_blk_config bc = { 0 };

	(void)state;
	assert_int_equal(boxrig_blk_create(&rig, &bc, &blk), 0);
	assert_int_equal(blkload_init(&load, &rig.mem, &lc), 0);
	assert_int_equal(blkload_add_queue(&load, &blk.rings[0], 8), 0);
	assert_int_equal(boxrig_blk_go(&blk), 0);
	const uint64_t end = now_ns() + NS_PER_S;
	uint64_t handoffs = 0;

	while (now_ns() < end) {
		for (int i = 0; i < 20; i++)
			blkload_step(&load, NS_PER_S);
		struct replacement r;
		const int ret = device_replace(blk.dev, REPLACE_OPERATOR, true, &r);

		if (ret == 0) {
			if (handoffs++ % 20 == 0) fprintf(stderr, "from %lu to %lu fence %s drain %u switch %u cold %d\n", r.from, r.to, fence_name(r.fence), r.drain_us, r.switch_us, r.cold);
		} else
			fprintf(stderr, "replace: %d\n", ret);
	}
	fprintf(stderr, "handoffs %lu completed %lu\n", handoffs, blkload_completed(&load));
	assert_int_equal(blkload_drain(&load, 5 * NS_PER_S), 0);
	assert_int_equal(blkload_verify(&load, 5 * NS_PER_S), 0);
	assert_true(blkload_clean(&load));
	blkload_free(&load);
	boxrig_blk_destroy(&blk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_and_serves),
	};
	int ret;
	log_open(2, getenv("DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);

	if (boxrig_start(&rig) != 0 || guestmem_add(&rig.mem, 0, 256u << 20, GUESTMEM_4K) != 0 ||
	    boxrig_supervise(&rig) != 0)
		return 1;
	ret = cmocka_run_group_tests_name("handoff", tests, NULL, NULL);
	boxrig_stop(&rig);
	return ret;
}
