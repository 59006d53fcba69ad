/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes into the codec, against a schema with every type and three versions.  What it accepts
 * must be in range and have exactly one encoding; the input is the record, so a seed is a record.
 */
#include <errno.h>
#include <string.h>

#include "snapshot/codec.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_STATE(U, B)                                                                           \
	U(u8, byte, 3, 200, 1, "")                                                                 \
	B(blob, 16, 1, "")                                                                         \
	U(u64, quad, 1, UINT64_MAX - 1, 1, "")                                                     \
	U(u32, word, 7, 4000000000, 2, "")                                                         \
	U(u16, half, 10, 60000, 2, "")                                                             \
	B(tail, 4, 3, "")                                                                          \
	U(u8, whole, 0, UINT8_MAX, 3, "")

STATE_STRUCT(fuzz_state, FUZZ_STATE);
STATE_SCHEMA(fuzz_state, FUZZ_STATE);

static const struct fuzz_state defaults = { .word = 7, .half = 10 };

static void check_ranges(const struct fuzz_state *live)
{
	FUZZ_CHECK(live->byte >= 3 && live->byte <= 200);
	FUZZ_CHECK(live->quad >= 1 && live->quad <= UINT64_MAX - 1);
	FUZZ_CHECK(live->word >= 7 && live->word <= 4000000000);
	FUZZ_CHECK(live->half >= 10 && live->half <= 60000);
	FUZZ_CHECK(live->blob_len <= sizeof(live->blob));
	FUZZ_CHECK(live->tail_len <= sizeof(live->tail));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_state live = defaults, back = defaults;
	uint8_t again[STATE_WIRE_MAX(FUZZ_STATE)], third[STATE_WIRE_MAX(FUZZ_STATE)];
	uint16_t version;
	int ret = state_decode(&fuzz_state_schema, data, size, &live);

	if (ret) {
		FUZZ_CHECK(ret == -EBADMSG);
		return 0;
	}
	check_ranges(&live);
	int len = state_encode(&fuzz_state_schema, &live, again, sizeof(again));

	FUZZ_CHECK(len > 0);
	memcpy(&version, data + 4, sizeof(version));
	FUZZ_CHECK(version >= 1 && version <= fuzz_state_schema.version);
	if (version == fuzz_state_schema.version)
		FUZZ_CHECK((size_t)len == size && memcmp(again, data, size) == 0);
	FUZZ_CHECK(state_decode(&fuzz_state_schema, again, (size_t)len, &back) == 0);
	FUZZ_CHECK(state_encode(&fuzz_state_schema, &back, third, sizeof(third)) == len);
	FUZZ_CHECK(memcmp(again, third, (size_t)len) == 0);
	return 0;
}
