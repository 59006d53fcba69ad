/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot/envelope.c: damage of any kind is found, and a whole record in the wrong place is. */
#include "snapshot/envelope.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#define RECORD "forty-two bytes of a state record, or so.."
#define RECORD_BYTES (sizeof(RECORD) - 1)

static struct envelope make(void)
{
	struct envelope env = {
		.provenance = ENVELOPE_HANDOFF,
		.state_class = 1,
		.kind = 2,
		.generation = 17,
		.lane = 3,
		.device = "disk0",
	};

	envelope_seal(&env, RECORD, RECORD_BYTES);
	return env;
}

static void test_whole(void **state)
{
	const struct envelope env = make();
	struct envelope want = { .state_class = 1, .kind = 2, .lane = 3, .device = "disk0" };

	(void)state;
	assert_int_equal(env.magic, ENVELOPE_MAGIC);
	assert_int_equal(env.version, ENVELOPE_VERSION);
	assert_int_equal(env.bytes, RECORD_BYTES);
	assert_int_equal(env.generation, 17);
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), 0);
}

/* The hash as the header promises it, computed another way. */
static uint64_t hash_of(struct envelope env)
{
	uint8_t both[sizeof(env) + RECORD_BYTES];

	env.xxh3 = 0;
	memcpy(both, &env, sizeof(env));
	memcpy(both + sizeof(env), RECORD, RECORD_BYTES);
	return XXH3_64bits(both, sizeof(both));
}

static void test_hash_is_over_both(void **state)
{
	const struct envelope env = make();

	(void)state;
	assert_int_equal(env.xxh3, hash_of(env));
}

static void test_empty_record(void **state)
{
	struct envelope env = make();

	(void)state;
	envelope_seal(&env, NULL, 0);
	assert_int_equal(env.bytes, 0);
	assert_int_equal(envelope_open(&env, NULL, 0, &env), 0);
	assert_int_equal(envelope_open(&env, "x", 1, &env), -EBADMSG);
}

static void test_longest_device_name(void **state)
{
	struct envelope env = make(), want;

	(void)state;
	memset(env.device, 'd', sizeof(env.device));
	envelope_seal(&env, RECORD, RECORD_BYTES);
	want = env;
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), 0);
	want.device[ENVELOPE_ID_MAX - 1] = 'e';
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), -EINVAL);
}

static void test_flips_of_envelope(void **state)
{
	const struct envelope good = make();

	(void)state;
	for (size_t bit = 0; bit < sizeof(good) * 8; bit++) {
		uint8_t bytes[sizeof(good)];
		struct envelope bad;

		memcpy(bytes, &good, sizeof(good));
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		memcpy(&bad, bytes, sizeof(bad));
		assert_int_equal(envelope_open(&bad, RECORD, RECORD_BYTES, &good), -EBADMSG);
	}
}

static void test_flips_of_record(void **state)
{
	const struct envelope env = make();
	uint8_t record[RECORD_BYTES];

	(void)state;
	memcpy(record, RECORD, RECORD_BYTES);
	for (size_t bit = 0; bit < RECORD_BYTES * 8; bit++) {
		record[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(envelope_open(&env, record, RECORD_BYTES, &env), -EBADMSG);
		record[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	assert_int_equal(envelope_open(&env, record, RECORD_BYTES, &env), 0);
}

static void test_other_length(void **state)
{
	const struct envelope env = make();
	uint8_t record[RECORD_BYTES + 1] = RECORD;

	(void)state;
	for (size_t bytes = 0; bytes <= RECORD_BYTES + 1; bytes++) {
		int want = bytes == RECORD_BYTES ? 0 : -EBADMSG;

		assert_int_equal(envelope_open(&env, record, bytes, &env), want);
	}
}

static void hashed(struct envelope env, int want)
{
	env.xxh3 = hash_of(env);
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &env), want);
}

/* What no damage but a writer did: refused also where the hash agrees. */
static void test_foreign_but_hashed(void **state)
{
	struct envelope env = make();

	(void)state;
	env.provenance = ENVELOPE_SNAPSHOT;
	hashed(env, 0);
	env.provenance = 0;
	hashed(env, -EBADMSG);
	env.provenance = ENVELOPE_SNAPSHOT + 1;
	hashed(env, -EBADMSG);
	env = make();
	env.version = ENVELOPE_VERSION + 1;
	hashed(env, -EBADMSG);
	env = make();
	env.magic ^= 1;
	hashed(env, -EBADMSG);
	env = make();
	env.bytes--;
	hashed(env, -EBADMSG);
}

static void test_wrong_place(void **state)
{
	const struct envelope env = make();
	struct envelope want = env;

	(void)state;
	want.kind++;
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), -EINVAL);
	want = env;
	want.lane++;
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), -EINVAL);
	want = env;
	want.state_class = 0;
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), -EINVAL);
	want = env;
	want.device[4] = '1';
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), -EINVAL);
}

/* Generation and provenance are for the reader to judge, not conditions. */
static void test_not_compared(void **state)
{
	const struct envelope env = make();
	struct envelope want = env;

	(void)state;
	want.generation = 99;
	want.provenance = ENVELOPE_SNAPSHOT;
	assert_int_equal(envelope_open(&env, RECORD, RECORD_BYTES, &want), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_hash_is_over_both),
		cmocka_unit_test(test_empty_record),
		cmocka_unit_test(test_longest_device_name),
		cmocka_unit_test(test_flips_of_envelope),
		cmocka_unit_test(test_flips_of_record),
		cmocka_unit_test(test_other_length),
		cmocka_unit_test(test_foreign_but_hashed),
		cmocka_unit_test(test_wrong_place),
		cmocka_unit_test(test_not_compared),
	};

	return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
