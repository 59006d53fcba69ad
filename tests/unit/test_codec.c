/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot/codec.c and dump.c: what goes in comes out, and whatever is not exactly a record of the
 * schema is refused.  Three schemas stand for three versions of one device.
 */
#include "snapshot/codec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "snapshot/dump.h"

#define CAP 9

#define ALL_V1(U, B)                                                                               \
	U(u8, byte, 3, 200, 1, "a byte")                                                           \
	U(u16, half, 10, 60000, 1, "half|word")                                                    \
	B(blob, CAP, 1, "bytes")                                                                   \
	U(u64, quad, 1, UINT64_MAX - 1, 1, "long")

/* A younger field need not stand last. */
#define ALL_V2(U, B)                                                                               \
	U(u32, word, 7, 4000000000, 2, "a word")                                                   \
	ALL_V1(U, B)

#define ALL_V3(U, B)                                                                               \
	ALL_V2(U, B)                                                                               \
	B(tail, 2, 3, "a short tail")                                                              \
	U(u8, whole, 0, UINT8_MAX, 3, "every value")

#define NO_FIELD(U, B)

STATE_STRUCT(all_v1, ALL_V1);
STATE_STRUCT(all_v2, ALL_V2);
STATE_STRUCT(all_v3, ALL_V3);
STATE_STRUCT(no_field, NO_FIELD);
STATE_SCHEMA(all_v1, ALL_V1);
STATE_SCHEMA(all_v2, ALL_V2);
STATE_SCHEMA(all_v3, ALL_V3);
STATE_SCHEMA(no_field, NO_FIELD);

#define RECORD_MAX STATE_WIRE_MAX(ALL_V3)

/* Offsets in a record of all_v3 whose blob is full and whose tail has one byte. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_FIELDS = 6,
	AT_BYTES = 8,
	AT_WORD = 12,
	AT_BYTE = 16,
	AT_HALF = 17,
	AT_BLOB_LEN = 19,
	AT_BLOB = 23,
	AT_QUAD = AT_BLOB + CAP,
	AT_TAIL_LEN = AT_QUAD + 8,
	AT_END = AT_TAIL_LEN + 4 + 1 + 1,
};

static struct all_v3 sample(void)
{
	return (struct all_v3){
		.word = 0x89abcdef,
		.byte = 0x55,
		.half = 0x1234,
		.blob_len = CAP,
		.blob = { 0, 1, 2, 3, 4, 5, 6, 7, 255 },
		.quad = 0x0123456789abcdef,
		.tail_len = 1,
		.tail = { 0x77, 0 },
		.whole = 255,
	};
}

static size_t encode(const struct all_v3 *live, uint8_t *buf)
{
	int len = state_encode(&all_v3_schema, live, buf, RECORD_MAX);

	assert_true(len > 0);
	return (size_t)len;
}

static void put(uint8_t *at, uint64_t value, size_t width)
{
	for (size_t i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

/* The sample's record, `width` bytes of it replaced: must be refused. */
static void refused(size_t at, uint64_t value, size_t width)
{
	struct all_v3 live = sample();
	uint8_t buf[RECORD_MAX];
	size_t len = encode(&live, buf);

	put(buf + at, value, width);
	assert_int_equal(state_decode(&all_v3_schema, buf, len, &live), -EBADMSG);
}

static void accepted(const struct all_v3 *live)
{
	struct all_v3 back;
	uint8_t buf[RECORD_MAX], again[RECORD_MAX];
	size_t len = encode(live, buf);

	memset(&back, 0xa5, sizeof(back));
	assert_int_equal(state_decode(&all_v3_schema, buf, len, &back), 0);
	assert_int_equal(encode(&back, again), len);
	assert_memory_equal(buf, again, len);
	assert_int_equal(back.word, live->word);
	assert_int_equal(back.byte, live->byte);
	assert_int_equal(back.half, live->half);
	assert_int_equal(back.quad, live->quad);
	assert_int_equal(back.whole, live->whole);
	assert_int_equal(back.blob_len, live->blob_len);
	assert_memory_equal(back.blob, live->blob, live->blob_len);
	assert_int_equal(back.tail_len, live->tail_len);
	assert_memory_equal(back.tail, live->tail, live->tail_len);
}

static void test_schema(void **state)
{
	(void)state;
	assert_string_equal(all_v3_schema.name, "all_v3");
	assert_int_equal(all_v1_schema.version, 1);
	assert_int_equal(all_v2_schema.version, 2);
	assert_int_equal(all_v3_schema.version, 3);
	assert_int_equal(all_v3_schema.count, 7);
	assert_int_equal(all_v3_schema.live_bytes, sizeof(struct all_v3));
	assert_int_equal(all_v3_schema.fields[3].offset, offsetof(struct all_v3, blob_len));
	assert_int_equal(offsetof(struct all_v3, blob), offsetof(struct all_v3, blob_len) + 4);
	assert_int_equal(no_field_schema.version, 1);
	assert_int_equal(no_field_schema.count, 0);
	assert_int_equal(RECORD_MAX, AT_END + 1);
}

static void test_round_trip(void **state)
{
	struct all_v3 live = sample();

	(void)state;
	accepted(&live);
	live.blob_len = 0;
	live.tail_len = 0;
	accepted(&live);
	for (live.blob_len = 1; live.blob_len <= CAP; live.blob_len++)
		accepted(&live);
}

/* The layout is a promise to files: byte for byte. */
static void test_wire_layout(void **state)
{
	/* clang-format off */
	static const uint8_t want[AT_END] = {
		'M', 'F', 'S', 'T', 3, 0, 7, 0, AT_END - 12, 0, 0, 0, /* header */
		0xef, 0xcd, 0xab, 0x89, 0x55, 0x34, 0x12,             /* word, byte, half */
		CAP, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 255,            /* blob */
		0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,       /* quad */
		1, 0, 0, 0, 0x77, 255,                                /* tail, whole */
	};
	/* clang-format on */
	struct all_v3 live = sample();
	uint8_t buf[RECORD_MAX];

	(void)state;
	assert_int_equal(encode(&live, buf), AT_END);
	assert_memory_equal(buf, want, AT_END);
}

static void test_no_field(void **state)
{
	uint8_t buf[16] = { 0 }, live = 0x5a;

	(void)state;
	assert_int_equal(state_encode(&no_field_schema, &live, buf, 12), 12);
	assert_int_equal(state_decode(&no_field_schema, buf, 12, &live), 0);
	assert_int_equal(live, 0x5a);
	assert_int_equal(state_decode(&no_field_schema, buf, 13, &live), -EBADMSG);
}

static void test_boundaries_accepted(void **state)
{
	struct all_v3 low = sample(), high = sample();

	(void)state;
	low.word = 7;
	low.byte = 3;
	low.half = 10;
	low.quad = 1;
	low.whole = 0;
	accepted(&low);
	high.word = 4000000000;
	high.byte = 200;
	high.half = 60000;
	high.quad = UINT64_MAX - 1;
	high.tail_len = 2;
	accepted(&high);
}

static void test_out_of_range_refused(void **state)
{
	(void)state;
	refused(AT_WORD, 6, 4);
	refused(AT_WORD, 4000000001, 4);
	refused(AT_BYTE, 2, 1);
	refused(AT_BYTE, 201, 1);
	refused(AT_HALF, 9, 2);
	refused(AT_HALF, 60001, 2);
	refused(AT_QUAD, 0, 8);
	refused(AT_QUAD, UINT64_MAX, 8);
	refused(AT_BLOB_LEN, CAP + 1, 4);
	refused(AT_BLOB_LEN, UINT32_MAX, 4);
	refused(AT_BLOB_LEN, 0x80000000u + CAP, 4);
	refused(AT_BLOB_LEN, CAP - 1, 4); /* in range, but then all that follows is shifted */
	refused(AT_TAIL_LEN, 0, 4);       /* one byte too many is left */
	refused(AT_TAIL_LEN, 2, 4);       /* one byte too few */
}

static void test_header_refused(void **state)
{
	(void)state;
	refused(AT_MAGIC, STATE_MAGIC ^ 1, 4);
	refused(AT_VERSION, 0, 2);
	refused(AT_VERSION, 1, 2); /* the fields are not that version's */
	refused(AT_VERSION, 4, 2);
	refused(AT_VERSION, UINT16_MAX, 2);
	refused(AT_FIELDS, 6, 2);
	refused(AT_FIELDS, 8, 2);
	refused(AT_FIELDS, 0, 2);
	refused(AT_BYTES, AT_END - 11, 4);
	refused(AT_BYTES, AT_END - 13, 4);
	refused(AT_BYTES, UINT32_MAX, 4);
}

/* A record of version 0 would have no field, so only the version speaks against this one. */
static void test_version_0_refused(void **state)
{
	uint8_t buf[STATE_WIRE_HEADER] = { 0 };
	struct all_v3 live = sample();

	(void)state;
	put(buf + AT_MAGIC, STATE_MAGIC, 4);
	assert_int_equal(state_decode(&all_v3_schema, buf, sizeof(buf), &live), -EBADMSG);
	assert_int_equal(state_decode(&no_field_schema, buf, sizeof(buf), &live), -EBADMSG);
	put(buf + AT_VERSION, 1, 2);
	assert_int_equal(state_decode(&no_field_schema, buf, sizeof(buf), &live), 0);
}

/* Each buffer is of the exact length on the heap, so that ASan sees a read past it. */
static void test_truncated(void **state)
{
	struct all_v3 live = sample(), out;
	uint8_t buf[RECORD_MAX];
	size_t len = encode(&live, buf);

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *copy = malloc(cut + (cut == 0));

		assert_non_null(copy);
		memcpy(copy, buf, cut);
		assert_int_equal(state_decode(&all_v3_schema, copy, cut, &out), -EBADMSG);
		if (cut >= 12) { /* a header that agrees with the length helps nothing */
			put(copy + AT_BYTES, cut - 12, 4);
			assert_int_equal(state_decode(&all_v3_schema, copy, cut, &out), -EBADMSG);
		}
		free(copy);
	}
}

static void test_trailing_bytes(void **state)
{
	struct all_v3 live = sample(), out;
	uint8_t buf[RECORD_MAX + 1] = { 0 };
	size_t len = encode(&live, buf);

	(void)state;
	assert_int_equal(state_decode(&all_v3_schema, buf, len + 1, &out), -EBADMSG);
	put(buf + AT_BYTES, len + 1 - 12, 4);
	assert_int_equal(state_decode(&all_v3_schema, buf, len + 1, &out), -EBADMSG);
}

/* A flipped bit is refused, or is another valid state that encodes to just those bytes. */
static void test_bit_flips(void **state)
{
	struct all_v3 live = sample();
	uint8_t buf[RECORD_MAX], again[RECORD_MAX];
	size_t len = encode(&live, buf), valid = 0;

	(void)state;
	for (size_t bit = 0; bit < len * 8; bit++) {
		struct all_v3 out;

		buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		if (state_decode(&all_v3_schema, buf, len, &out) == 0) {
			assert_true(bit / 8 >= STATE_WIRE_HEADER);
			assert_int_equal(encode(&out, again), len);
			assert_memory_equal(buf, again, len);
			valid++;
		}
		buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	assert_true(valid / 8 > CAP + 2); /* all in bytes and in `whole`, some in numbers */
}

static void test_older_keeps_defaults(void **state)
{
	const struct all_v1 v1 = { .byte = 9, .half = 99, .blob_len = 1, .blob = { 8 }, .quad = 7 };
	const struct all_v2 v2 = { .word = 70, .byte = 9, .half = 99, .quad = 7 };
	struct all_v3 live = sample();
	uint8_t buf[RECORD_MAX];
	int len = state_encode(&all_v1_schema, &v1, buf, sizeof(buf));

	(void)state;
	assert_true(len > 0);
	assert_int_equal(state_decode(&all_v3_schema, buf, (size_t)len, &live), 0);
	assert_int_equal(live.byte, 9);
	assert_int_equal(live.half, 99);
	assert_int_equal(live.quad, 7);
	assert_int_equal(live.blob_len, 1);
	assert_int_equal(live.blob[0], 8);
	assert_int_equal(live.blob[CAP - 1], 0); /* nothing of the former content is left */
	assert_int_equal(live.word, 0x89abcdef);
	assert_int_equal(live.tail_len, 1);
	assert_int_equal(live.tail[0], 0x77);
	assert_int_equal(live.whole, 255);

	len = state_encode(&all_v2_schema, &v2, buf, sizeof(buf));
	assert_true(len > 0);
	assert_int_equal(state_decode(&all_v3_schema, buf, (size_t)len, &live), 0);
	assert_int_equal(live.word, 70);
	assert_int_equal(live.whole, 255);
}

static void test_newer_refused(void **state)
{
	struct all_v3 live = sample();
	struct all_v1 old = { 0 };
	uint8_t buf[RECORD_MAX];
	size_t len = encode(&live, buf);

	(void)state;
	assert_int_equal(state_decode(&all_v1_schema, buf, len, &old), -EBADMSG);
	assert_int_equal(state_decode(&all_v2_schema, buf, len, &live), -EBADMSG);
}

static void test_encode_no_space(void **state)
{
	struct all_v3 live = sample();

	(void)state;
	for (size_t cap = 0; cap < AT_END; cap++) {
		uint8_t *buf = malloc(cap + (cap == 0));

		assert_non_null(buf);
		assert_int_equal(state_encode(&all_v3_schema, &live, buf, cap), -ENOSPC);
		free(buf);
	}
}

static void encode_refused(const struct all_v3 *live)
{
	uint8_t buf[RECORD_MAX];

	assert_int_equal(state_encode(&all_v3_schema, live, buf, sizeof(buf)), -ERANGE);
}

static void test_encode_out_of_range(void **state)
{
	struct all_v3 live = sample();

	(void)state;
	live.byte = 2;
	encode_refused(&live);
	live = sample();
	live.half = 60001;
	encode_refused(&live);
	live = sample();
	live.word = UINT32_MAX;
	encode_refused(&live);
	live = sample();
	live.quad = 0;
	encode_refused(&live);
	live = sample();
	live.blob_len = CAP + 1;
	encode_refused(&live);
	live.blob_len = UINT32_MAX;
	encode_refused(&live);
}

/* What state_dump() or state_describe() (len 0) writes; the caller frees it. */
static char *dump(const uint8_t *record, size_t len, int want)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	assert_int_equal(len ? state_dump(out, &all_v3_schema, record, len)
			     : state_describe(out, &all_v3_schema),
			 want);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void test_dump(void **state)
{
	struct all_v3 live = sample();
	uint8_t buf[RECORD_MAX];
	size_t len = encode(&live, buf);
	char *text = dump(buf, len, 0);

	(void)state;
	assert_string_equal(text, "{\"schema\":\"all_v3\",\"version\":3,\"fields\":{"
				  "\"word\":2309737967,\"byte\":85,\"half\":4660,"
				  "\"blob\":\"0001020304050607ff\",\"quad\":81985529216486895,"
				  "\"tail\":\"77\",\"whole\":255}}\n");
	free(text);
	text = dump(buf, len - 1, -EBADMSG);
	assert_string_equal(text, "");
	free(text);
}

static void test_dump_older(void **state)
{
	const struct all_v1 v1 = { .byte = 9, .half = 99, .quad = 7 };
	uint8_t buf[RECORD_MAX];
	int len = state_encode(&all_v1_schema, &v1, buf, sizeof(buf));

	(void)state;
	assert_true(len > 0);
	char *text = dump(buf, (size_t)len, 0);

	assert_string_equal(text, "{\"schema\":\"all_v3\",\"version\":1,\"fields\":{"
				  "\"byte\":9,\"half\":99,\"blob\":\"\",\"quad\":7}}\n");
	free(text);
}

static void test_describe(void **state)
{
	char *text = dump(NULL, 0, 0);

	(void)state;
	assert_string_equal(text, "| field | type | range | since | meaning |\n"
				  "|---|---|---|---|---|\n"
				  "| `word` | u32 | 7 to 4000000000 | 2 | a word |\n"
				  "| `byte` | u8 | 3 to 200 | 1 | a byte |\n"
				  "| `half` | u16 | 10 to 60000 | 1 | half\\|word |\n"
				  "| `blob` | bytes | up to 9 bytes | 1 | bytes |\n"
				  "| `quad` | u64 | 1 to 18446744073709551614 | 1 | long |\n"
				  "| `tail` | bytes | up to 2 bytes | 3 | a short tail |\n"
				  "| `whole` | u8 | 0 to 255 | 3 | every value |\n");
	free(text);
}

static void test_dump_reports_write_error(void **state)
{
	struct all_v3 live = sample();
	uint8_t buf[RECORD_MAX];
	size_t len = encode(&live, buf);
	FILE *full = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(full);
	assert_int_equal(setvbuf(full, NULL, _IONBF, 0), 0);
	assert_int_equal(state_dump(full, &all_v3_schema, buf, len), -EIO);
	assert_int_equal(state_describe(full, &all_v3_schema), -EIO);
	fclose(full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_wire_layout),
		cmocka_unit_test(test_no_field),
		cmocka_unit_test(test_boundaries_accepted),
		cmocka_unit_test(test_out_of_range_refused),
		cmocka_unit_test(test_header_refused),
		cmocka_unit_test(test_version_0_refused),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_trailing_bytes),
		cmocka_unit_test(test_bit_flips),
		cmocka_unit_test(test_older_keeps_defaults),
		cmocka_unit_test(test_newer_refused),
		cmocka_unit_test(test_encode_no_space),
		cmocka_unit_test(test_encode_out_of_range),
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_dump_older),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_dump_reports_write_error),
	};

	return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
