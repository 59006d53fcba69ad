/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one codec of device state: encodes, decodes and range-checks a live struct by its schema
 * (devmodel/abi/schema.h).  Used by replacement and by snapshots, linked into device programs and
 * into tools; freestanding, no allocation, no errno, never blocks.
 *
 * Wire format, little-endian, no padding: u32 magic, u16 version, u16 fields, u32 bytes (of all
 * that follows), then each field in schema order: a number in its own width, bytes as u32 length
 * and content.  A record is refused as a whole when anything in it is wrong: magic, a version that
 * is 0 or newer than the schema, a field count that is not that version's, a length that does not
 * agree, a value out of range, trailing bytes.
 */
#ifndef MAYFLY_SNAPSHOT_CODEC_H
#define MAYFLY_SNAPSHOT_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "devmodel/abi/schema.h"

#define STATE_MAGIC 0x5453464d /* "MFST" */

/* Encodes `live` into buf.  Returns the record's length, or -ENOSPC when cap is too small, or
 * -ERANGE when a live value is outside its declared range (a bug of the device). */
int state_encode(const struct state_schema *schema, const void *live, uint8_t *buf, size_t cap);

/* Decodes a record into `live`, which the caller has initialised with defaults; fields younger than
 * the record keep them.  Returns 0, or -EBADMSG; then *live may be partly changed: decode into a
 * scratch copy where that matters. */
int state_decode(const struct state_schema *schema, const uint8_t *buf, size_t len, void *live);

#endif
