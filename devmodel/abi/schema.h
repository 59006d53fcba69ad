/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State schemas.  A device declares each class of its state once, as an X-macro with a line a field:
 *
 *   #define RTC_CONTROL(U, B)                       \
 *           U(u8, index, 0, 127, 1, "last index")   \
 *           B(cmos, 128, 2, "contents")
 *
 * U(type, name, min, max, since, text): an unsigned number u8, u16, u32 or u64, min <= value <= max.
 * B(name, cap, since, text): up to cap bytes, of any value.  `since` is the schema version that
 * brought the field; decoding an older record leaves a younger field as the caller initialised it.
 * From it STATE_STRUCT(TAG, FIELDS); makes the live struct, where bytes are `uint32_t NAME_len` and
 * `uint8_t NAME[cap]`, and STATE_SCHEMA(TAG, FIELDS); the table that snapshot/codec.h encodes,
 * decodes and dumps by.  Nobody writes a save or load function.
 */
#ifndef MAYFLY_ABI_SCHEMA_H
#define MAYFLY_ABI_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

enum state_type { STATE_U8, STATE_U16, STATE_U32, STATE_U64, STATE_BYTES };

struct state_field {
	const char *name;
	const char *text;
	uint64_t min; /* numbers: least value */
	uint64_t max; /* numbers: greatest value; bytes: capacity */
	uint16_t type;
	uint16_t since;
	uint16_t offset; /* in the live struct; bytes: of their uint32_t length, they follow it */
};

struct state_schema {
	const char *name;
	uint16_t version; /* the greatest `since` */
	uint16_t count;
	uint32_t live_bytes; /* sizeof the live struct */
	const struct state_field *fields;
};

#define STATE_STRUCT_U(type, name, min, max, since, text) uint_##type name;
#define STATE_STRUCT_B(name, cap, since, text)                                                     \
	uint32_t name##_len;                                                                       \
	uint8_t name[cap];
typedef uint8_t uint_u8; /* so that a schema line can name its type once */
typedef uint16_t uint_u16;
typedef uint32_t uint_u32;
typedef uint64_t uint_u64;

#define STATE_TYPE_u8 STATE_U8
#define STATE_TYPE_u16 STATE_U16
#define STATE_TYPE_u32 STATE_U32
#define STATE_TYPE_u64 STATE_U64

/* struct TAG { ... }; */
#define STATE_STRUCT(tag, FIELDS)                                                                  \
	struct tag {                                                                               \
		FIELDS(STATE_STRUCT_U, STATE_STRUCT_B)                                             \
	}

/*
 * STATE_SCHEMA(TAG, FIELDS); at file scope makes `static const struct state_schema TAG_schema`.
 *
 * A field's line does not name the struct that it belongs to, so STATE_SCHEMA hands FIELDS two
 * things for U: STATE_OF(TAG), which has already become the start of an initialiser,
 * `{ .offset = ...&((struct TAG *)0)->`, and the name of the macro that ends it.  (offsetof would
 * put half a pair of parentheses there, and then one list of fields could not include another.)
 */
/* Halves of an initialiser: */
/* clang-format off */
#define STATE_OF(tag) { .offset = (uint16_t)(uintptr_t)&((struct tag *)0)->
#define STATE_FIELD_U(t, n, lo, hi, since_, txt)                                                   \
	n, .name = #n, .text = (txt), .min = (lo), .max = (hi), .type = STATE_TYPE_##t,            \
	   .since = (since_) },
#define STATE_FIELD_B(n, cap, since_, txt)                                                         \
	n##_len, .name = #n, .text = (txt), .max = (cap), .type = STATE_BYTES, .since = (since_) },
/* clang-format on */

/* The greatest `since`, as the size of the longest of some arrays; 1 where there is no field.  The
 * same lines refuse a range that is empty or wider than its type, and a `since` of 0. */
#define STATE_SINCE_U(type, name, min, max, since, text)                                           \
	_Static_assert((since) >= 1 && (since) <= UINT16_MAX, #name ": since");                    \
	_Static_assert((uint64_t)(min) <= (max) && (uint_##type)(max) == (max), #name ": range");  \
	char name[since];
#define STATE_SINCE_B(name, cap, since, text)                                                      \
	_Static_assert((since) >= 1 && (since) <= UINT16_MAX, #name ": since");                    \
	char name[since];
#define STATE_VERSION(FIELDS)                                                                      \
	sizeof(union {                                                                             \
		char state_no_field;                                                               \
		FIELDS(STATE_SINCE_U, STATE_SINCE_B)                                               \
	})

/* The greatest length of a record: for buffers, and for an assertion against STATE_RECORD_MAX. */
#define STATE_WIRE_HEADER 12
#define STATE_WIRE_U(type, name, min, max, since, text) +sizeof(uint_##type)
#define STATE_WIRE_B(name, cap, since, text) +(sizeof(uint32_t) + (cap))
#define STATE_WIRE_MAX(FIELDS) (STATE_WIRE_HEADER FIELDS(STATE_WIRE_U, STATE_WIRE_B))

#define STATE_SCHEMA(tag, FIELDS)                                                                  \
	_Static_assert(sizeof(struct tag) <= UINT16_MAX, #tag ": offsets are 16 bits");            \
	static const struct state_field tag##_fields[] = { FIELDS(STATE_OF(tag) STATE_FIELD_U,     \
								  STATE_OF(tag) STATE_FIELD_B) };  \
	static const struct state_schema tag##_schema = {                                          \
		.name = #tag,                                                                      \
		.version = STATE_VERSION(FIELDS),                                                  \
		.count = sizeof(tag##_fields) / sizeof(struct state_field),                        \
		.live_bytes = sizeof(struct tag),                                                  \
		.fields = tag##_fields,                                                            \
	}

#endif
