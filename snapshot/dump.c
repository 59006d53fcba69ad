/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A record is decoded by the codec into a scratch struct first, so that what
 * is printed is what a device would have accepted; the schema then says where each field lies in
 * it.  Field names are C identifiers and need no quoting.  Errors of the stream are sticky: they
 * are looked at once, at the end.
 */
#include "snapshot/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/codec.h"

static const char *const dump_types[] = {
	[STATE_U8] = "u8",   [STATE_U16] = "u16",     [STATE_U32] = "u32",
	[STATE_U64] = "u64", [STATE_BYTES] = "bytes",
};

static uint64_t dump_number(const struct state_field *field, const uint8_t *live)
{
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;

	switch (field->type) {
	case STATE_U8:
		return live[0];
	case STATE_U16:
		memcpy(&u16, live, sizeof(u16));
		return u16;
	case STATE_U64:
		memcpy(&u64, live, sizeof(u64));
		return u64;
	default: /* STATE_U32, and the length of bytes */
		memcpy(&u32, live, sizeof(u32));
		return u32;
	}
}

static void dump_field(FILE *out, const struct state_field *field, const uint8_t *live)
{
	uint64_t number = dump_number(field, live);

	if (field->type != STATE_BYTES) {
		fprintf(out, "\"%s\":%" PRIu64, field->name, number);
		return;
	}
	fprintf(out, "\"%s\":\"", field->name);
	for (uint64_t i = 0; i < number; i++)
		fprintf(out, "%02x", live[sizeof(uint32_t) + i]);
	fputc('"', out);
}

/* The record was decoded: it has a header, and the version in it is one that the schema knows. */
static uint16_t dump_version(const uint8_t *record)
{
	uint16_t version;

	memcpy(&version, record + sizeof(uint32_t), sizeof(version));
	return version;
}

int state_dump(FILE *out, const struct state_schema *schema, const uint8_t *record, size_t len)
{
	uint8_t *live = calloc(1, schema->live_bytes + 1); /* + 1: a schema may have no field */
	const char *comma = "";

	if (!live)
		return -ENOMEM;
	if (state_decode(schema, record, len, live)) {
		free(live);
		return -EBADMSG;
	}
	uint16_t version = dump_version(record);

	fprintf(out, "{\"schema\":\"%s\",\"version\":%u,\"fields\":{", schema->name, version);
	for (uint16_t i = 0; i < schema->count; i++) {
		const struct state_field *field = &schema->fields[i];

		if (field->since > version)
			continue;
		fputs(comma, out);
		dump_field(out, field, live + field->offset);
		comma = ",";
	}
	fputs("}}\n", out);
	free(live);
	return ferror(out) ? -EIO : 0;
}

/* A bar would end the cell. */
static void dump_cell(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			fputc('\\', out);
		fputc(*text, out);
	}
}

int state_describe(FILE *out, const struct state_schema *schema)
{
	fputs("| field | type | range | since | meaning |\n|---|---|---|---|---|\n", out);
	for (uint16_t i = 0; i < schema->count; i++) {
		const struct state_field *field = &schema->fields[i];

		fprintf(out, "| `%s` | %s | ", field->name, dump_types[field->type]);
		if (field->type == STATE_BYTES)
			fprintf(out, "up to %" PRIu64 " bytes", field->max);
		else
			fprintf(out, "%" PRIu64 " to %" PRIu64, field->min, field->max);
		fprintf(out, " | %u | ", field->since);
		dump_cell(out, field->text);
		fputs(" |\n", out);
	}
	return ferror(out) ? -EIO : 0;
}
