/* SPDX-License-Identifier: Apache-2.0 */
/* core/box/record.c: what a successor is handed, and when it is handed nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/box/internal.h"

#define LANES 2
#define FROM 41

static struct device dev;
static struct record records[LANES * STATE_CLASSES];
static struct state_page pages[LANES];
static struct generation *before, *after;
static uint8_t out[STATE_CLASSES * STATE_RECORD_MAX];
static uint32_t bytes[STATE_CLASSES];

static struct generation *generation(uint64_t number)
{
	struct generation *gen = calloc(1, sizeof(*gen) + LANES * sizeof(gen->boxes[0]));

	assert_non_null(gen);
	gen->dev = &dev;
	gen->number = number;
	gen->lanes = LANES;
	return gen;
}

/* Lane and class can be told from each byte. */
static uint8_t content(uint32_t lane, int c)
{
	return (uint8_t)(0x10 * (lane + 1) + (uint32_t)c);
}

static int setup(void **state)
{
	(void)state;
	memset(records, 0, sizeof(records));
	dev = (struct device){ .spec = { .id = "disk0", .kind = DEV_KIND_BLK, .lanes = LANES },
			       .records = records,
			       .passage = { .from = FROM, .carried = true, .carry = true } };
	before = generation(FROM);
	after = generation(FROM + 1);
	for (uint32_t lane = 0; lane < LANES; lane++) {
		before->boxes[lane] =
			(struct box){ .gen = before,
				      .lane = lane,
				      .page = &pages[lane],
				      .record_bytes = { 100 + lane, STATE_RECORD_MAX } };
		after->boxes[lane] = (struct box){ .gen = after, .lane = lane };
		for (int c = 0; c < STATE_CLASSES; c++)
			memset(pages[lane].record[c], content(lane, c), STATE_RECORD_MAX);
		record_take(&dev, &before->boxes[lane]);
	}
	/* A successor may come when nothing is left of its predecessor. */
	memset(pages, 0xee, sizeof(pages));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(before);
	free(after);
	return 0;
}

static void expect_class(const uint8_t *at, uint32_t n, uint8_t value)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(at[i], value);
}

static void test_both_classes(void **state)
{
	(void)state;
	for (uint32_t lane = 0; lane < LANES; lane++) {
		assert_int_equal(record_give(&after->boxes[lane], out, bytes),
				 100 + lane + STATE_RECORD_MAX);
		assert_int_equal(bytes[STATE_DATA], 100 + lane);
		assert_int_equal(bytes[STATE_CONTROL], STATE_RECORD_MAX);
		expect_class(out, bytes[0], content(lane, STATE_DATA));
		expect_class(out + bytes[0], bytes[1], content(lane, STATE_CONTROL));
	}
}

static void test_data_only(void **state)
{
	(void)state;
	dev.passage.carry = false;
	assert_int_equal(record_give(&after->boxes[1], out, bytes), 101);
	assert_int_equal(bytes[STATE_DATA], 101);
	assert_int_equal(bytes[STATE_CONTROL], 0);
	expect_class(out, 101, content(1, STATE_DATA));
}

static void test_recovery(void **state)
{
	(void)state;
	dev.passage.carried = false;
	assert_int_equal(record_give(&after->boxes[0], out, bytes), 0);
	assert_int_equal(bytes[STATE_DATA] + bytes[STATE_CONTROL], 0);
}

/* Every byte of envelope and record: one that changed is not handed on, the other class is. */
static void test_damage(void **state)
{
	uint8_t *raw = (uint8_t *)&records[STATE_DATA];

	(void)state;
	for (size_t i = 0; i < sizeof(struct envelope) + 100; i++) {
		raw[i] ^= 0x40;
		const uint32_t n = record_give(&after->boxes[0], out, bytes);

		raw[i] ^= 0x40;
		assert_int_equal(bytes[STATE_DATA], 0);
		assert_int_equal(n, STATE_RECORD_MAX);
		expect_class(out, n, content(0, STATE_CONTROL));
	}
	assert_int_equal(record_give(&after->boxes[0], out, bytes), 100 + STATE_RECORD_MAX);
}

/* Whole, but not what this successor is to have. */
static void test_wrong_place(void **state)
{
	const struct record mine = records[0];

	(void)state;
	dev.passage.from = FROM - 1;
	assert_int_equal(record_give(&after->boxes[0], out, bytes), 0);
	dev.passage.from = FROM;
	records[0] = records[STATE_CLASSES]; /* lane 1's */
	assert_int_equal(record_give(&after->boxes[0], out, bytes), STATE_RECORD_MAX);
	records[0] = records[STATE_CONTROL];
	assert_int_equal(record_give(&after->boxes[0], out, bytes), STATE_RECORD_MAX);
	records[0] = mine;
	strcpy(dev.spec.id, "disk1");
	assert_int_equal(record_give(&after->boxes[0], out, bytes), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_classes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recovery, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_place, setup, teardown),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
