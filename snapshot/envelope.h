/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The envelope: what the VMM puts around a state record whose content it never reads.  It says
 * whose the record is and finds damage; it is no MAC and proves nothing about what a hostile
 * writer put in.  Leaf module: libc and xxhash only.  All fields little-endian.
 */
#ifndef MAYFLY_SNAPSHOT_ENVELOPE_H
#define MAYFLY_SNAPSHOT_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#define ENVELOPE_MAGIC 0x564e454d46 /* "FMENV" */
#define ENVELOPE_VERSION 1
#define ENVELOPE_ID_MAX 64

/* Where a record came from: how far it is to be trusted. */
enum envelope_provenance {
	ENVELOPE_HANDOFF = 1,  /* written by a generation that parked when asked */
	ENVELOPE_SNAPSHOT = 2, /* the same, for a file */
};

struct envelope {
	uint64_t magic;
	uint16_t version;
	uint8_t provenance;
	uint8_t state_class; /* enum state_class */
	uint32_t kind;       /* enum dev_kind */
	uint64_t generation;
	uint32_t lane;
	uint32_t bytes;               /* of the record */
	char device[ENVELOPE_ID_MAX]; /* NUL-padded, no NUL needed at full length */
	uint64_t xxh3;                /* over the envelope with this field 0, then the record */
};

_Static_assert(sizeof(struct envelope) == 104, "wire format");

/* Fills in magic, version, bytes and xxh3; the caller has set the rest. */
void envelope_seal(struct envelope *env, const void *record, size_t bytes);

/* 0, or -EBADMSG: damaged or of another version; -EINVAL: whole, but not for this device, kind,
 * lane and class.  want: device, kind, lane and state_class are compared. */
int envelope_open(const struct envelope *env, const void *record, size_t bytes,
		  const struct envelope *want);

#endif
