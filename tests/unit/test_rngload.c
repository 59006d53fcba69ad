/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy workload: the test is the device, a right one and several wrong ones.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#include "tests/rig/rngload.h"

#define MS 1000000ull
#define BYTES 64

static struct guestmem mem;
static struct ringdrv_queue ring;
static struct rngload load;
static uint16_t served;

static int setup(void **state)
{
	struct ringdrv_config config = { .size = 8, .in_order = true, .quiet = true };

	(void)state;
	guestmem_init(&mem);
	served = 0;
	return guestmem_add(&mem, 0, 1 << 20, GUESTMEM_4K) || ringdrv_init(&ring, &mem, &config) ||
	       rngload_init(&load, &mem, &ring, 4, BYTES);
}

static int teardown(void **state)
{
	(void)state;
	rngload_free(&load);
	rngload_free(&load);
	ringdrv_free(&ring);
	guestmem_free(&mem);
	return 0;
}

static uint8_t *next_buffer(void)
{
	const struct virtq_desc *desc = &ring.desc[ring.avail->ring[served & 7]];

	assert_int_not_equal(ring.avail->idx, served);
	assert_int_equal(desc->flags, VIRTQ_DESC_F_WRITE);
	assert_int_equal(desc->len, BYTES);
	return guestmem_ptr(&mem, gpa_make(desc->addr), desc->len);
}

static void push(uint32_t len)
{
	ringdrv_evil_used(&ring, served, ring.avail->ring[served & 7], len);
	served++;
	ringdrv_evil_used_idx(&ring, served);
}

static void answer_right(uint32_t len)
{
	assert_int_equal(getrandom(next_buffer(), len, 0), len);
	push(len);
}

static uint64_t corrupted(void)
{
	struct rngload_stats stats;

	rngload_stats(&load, &stats);
	return stats.corrupted;
}

static void test_right_device(void **state)
{
	(void)state;
	for (int round = 0; round < 1000; round++) {
		assert_int_equal(rngload_fill(&load), round ? 3 : 4);
		for (uint32_t i = 0; i < 3; i++)
			answer_right(1 + (uint32_t)(round + 7 * (int)i) % BYTES);
		assert_int_equal(rngload_reap(&load, 100 * MS), 3);
	}
	answer_right(BYTES);
	assert_int_equal(rngload_drain(&load, 100 * MS), 0);
	assert_true(rngload_clean(&load));
	assert_int_equal(load.stats.completed, 3001);
	assert_int_equal(load.stats.issued, 3001);
}

static void test_wrong_answers(void **state)
{
	uint8_t copy[BYTES];

	(void)state;
	assert_int_equal(rngload_fill(&load), 4);
	push(0);
	assert_int_equal(rngload_reap(&load, 100 * MS), 1);
	assert_int_equal(corrupted(), 1);
	push(BYTES); /* said to be written, was not */
	assert_int_equal(rngload_reap(&load, 100 * MS), 1);
	assert_int_equal(corrupted(), 2);
	assert_int_equal(getrandom(next_buffer(), BYTES, 0), BYTES);
	memcpy(copy, next_buffer(), BYTES);
	push(BYTES - 1); /* one byte more than said, unless it is 0x5c by chance */
	assert_int_equal(rngload_reap(&load, 100 * MS), 1);
	assert_int_equal(corrupted(), 2 + (copy[BYTES - 1] != 0x5c));
	rngload_fill(&load);
	for (uint64_t before = corrupted(), i = 0; i < 2; i++) {
		memcpy(next_buffer(), copy, BYTES);
		push(BYTES);
		assert_int_equal(rngload_reap(&load, 100 * MS), 1);
		assert_int_equal(corrupted(), before + i); /* the second is a repetition */
	}
	answer_right(BYTES);
	push(BYTES + 1);
	assert_int_equal(rngload_reap(&load, 100 * MS), 2);
	assert_true(corrupted() >= 4);
}

static void test_lost(void **state)
{
	struct rngload_stats stats;

	(void)state;
	assert_int_equal(rngload_fill(&load), 4);
	answer_right(BYTES);
	assert_int_equal(rngload_drain(&load, 2 * MS), -ETIMEDOUT);
	rngload_stats(&load, &stats);
	assert_int_equal(stats.lost, 3);
	assert_false(rngload_clean(&load));
}

static void test_bad_arguments(void **state)
{
	struct rngload bad;

	(void)state;
	assert_int_equal(rngload_init(&bad, &mem, &ring, 0, BYTES), -EINVAL);
	assert_int_equal(rngload_init(&bad, &mem, &ring, 9, BYTES), -EINVAL);
	assert_int_equal(rngload_init(&bad, &mem, &ring, 4, 8), -EINVAL);
	assert_int_equal(rngload_init(&bad, &mem, &ring, 8, 1 << 20), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_right_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_arguments, setup, teardown),
	};

	return cmocka_run_group_tests_name("rngload", tests, NULL, NULL);
}
