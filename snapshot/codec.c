/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A schema says where each field lives in the live struct, how wide it is and
 * which values it may have; the codec walks the schema and never the record, so nothing that a
 * record says can make it look elsewhere.  A cursor holds what is left of the buffer, and
 * codec_take() is the one place that moves it: no length is trusted before it was compared with
 * that.
 *
 * There is one encoding of each state: no padding, no optional field, no second form of a number.
 * So a record of the current version that decodes encodes again to the same bytes, which the fuzzer
 * checks.
 *
 * Device programs link this file freestanding: memcpy and memset are all it may call.
 */
#include "snapshot/codec.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "numbers are copied as they lie in memory");

struct codec_header {
	uint32_t magic;
	uint16_t version;
	uint16_t fields;
	uint32_t bytes;
};

_Static_assert(sizeof(struct codec_header) == STATE_WIRE_HEADER, "wire format");

struct codec_cursor {
	uint8_t *at;
	size_t left;
};

/* Width of a field's number on the wire and in memory; of bytes: of their length. */
static const uint8_t codec_width[] = {
	[STATE_U8] = 1, [STATE_U16] = 2, [STATE_U32] = 4, [STATE_U64] = 8, [STATE_BYTES] = 4,
};

static uint8_t *codec_take(struct codec_cursor *cursor, size_t bytes)
{
	uint8_t *at = cursor->at;

	if (bytes > cursor->left)
		return NULL;
	cursor->at += bytes;
	cursor->left -= bytes;
	return at;
}

static uint64_t codec_load(const uint8_t *at, size_t width)
{
	uint64_t value = 0;

	memcpy(&value, at, width);
	return value;
}

static bool codec_in_range(const struct state_field *field, uint64_t value)
{
	return value >= field->min && value <= field->max;
}

/* How many fields a record of `version` has. */
static uint16_t codec_count(const struct state_schema *schema, uint16_t version)
{
	uint16_t count = 0;

	for (uint16_t i = 0; i < schema->count; i++)
		if (schema->fields[i].since <= version)
			count++;
	return count;
}

static int codec_encode_field(struct codec_cursor *out, const struct state_field *field,
			      const uint8_t *live)
{
	size_t width = codec_width[field->type];
	uint64_t value = codec_load(live, width);
	size_t content = field->type == STATE_BYTES ? value : 0;

	if (!codec_in_range(field, value))
		return -ERANGE;
	uint8_t *to = codec_take(out, width + content);

	if (!to)
		return -ENOSPC;
	memcpy(to, live, width + content);
	return 0;
}

static int codec_decode_field(struct codec_cursor *in, const struct state_field *field,
			      uint8_t *live)
{
	size_t width = codec_width[field->type];
	const uint8_t *from = codec_take(in, width);

	if (!from)
		return -EBADMSG;
	uint64_t value = codec_load(from, width);

	if (!codec_in_range(field, value))
		return -EBADMSG;
	if (field->type == STATE_BYTES) {
		const uint8_t *content = codec_take(in, value);

		if (!content)
			return -EBADMSG;
		memcpy(live + width, content, value);
		memset(live + width + value, 0, field->max - value);
	}
	memcpy(live, &value, width);
	return 0;
}

int state_encode(const struct state_schema *schema, const void *live, uint8_t *buf, size_t cap)
{
	struct codec_cursor out = { buf, cap < INT_MAX ? cap : INT_MAX };
	uint8_t *start = codec_take(&out, sizeof(struct codec_header));

	if (!start)
		return -ENOSPC;
	for (uint16_t i = 0; i < schema->count; i++) {
		const struct state_field *field = &schema->fields[i];
		int ret = codec_encode_field(&out, field, (const uint8_t *)live + field->offset);

		if (ret)
			return ret;
	}
	size_t len = (size_t)(out.at - buf);
	const struct codec_header header = {
		.magic = STATE_MAGIC,
		.version = schema->version,
		.fields = schema->count,
		.bytes = (uint32_t)(len - sizeof(header)),
	};

	memcpy(start, &header, sizeof(header));
	return (int)len;
}

static int codec_check_header(const struct state_schema *schema, const struct codec_header *header,
			      size_t bytes)
{
	if (header->magic != STATE_MAGIC)
		return -EBADMSG;
	if (header->version == 0 || header->version > schema->version)
		return -EBADMSG;
	if (header->fields != codec_count(schema, header->version))
		return -EBADMSG;
	return header->bytes == bytes ? 0 : -EBADMSG;
}

int state_decode(const struct state_schema *schema, const uint8_t *buf, size_t len, void *live)
{
	/* The cursor serves both directions; decoding only reads through it. */
	struct codec_cursor in = { (uint8_t *)buf, len };
	const uint8_t *start = codec_take(&in, sizeof(struct codec_header));
	struct codec_header header;

	if (!start)
		return -EBADMSG;
	memcpy(&header, start, sizeof(header));
	if (codec_check_header(schema, &header, in.left))
		return -EBADMSG;
	for (uint16_t i = 0; i < schema->count; i++) {
		const struct state_field *field = &schema->fields[i];

		if (field->since > header.version)
			continue;
		if (codec_decode_field(&in, field, (uint8_t *)live + field->offset))
			return -EBADMSG;
	}
	return in.left == 0 ? 0 : -EBADMSG;
}
