/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtio-blk request of a blkload: what it asks, and whether the answer is right.  Private to
 * blkload.c.
 */
#ifndef MAYFLY_RIG_BLKREQ_H
#define MAYFLY_RIG_BLKREQ_H

#include "tests/rig/blkload.h"

#define BLKREQ_WRITER 255      /* busy[]: a write in flight */
#define BLKREQ_ANY UINT64_MAX  /* shadow[]: content unknown */
#define BLKREQ_SEGMENTS_MAX 32 /* of data */
#define BLKREQ_GUARD 64        /* bytes behind each buffer that the device must leave alone */

/* Header and status of a request, in guest memory. */
struct blk_head {
	uint32_t type;
	uint32_t ioprio;
	uint64_t sector;
	uint8_t status;
	uint8_t guard[15]; /* must stay as it was set */
};

/* Whether a block is what the shadow says of its sector; complains when not. */
bool blkreq_block_right(struct blkload *load, const uint64_t *block, uint64_t sector,
			const char *where);

/* Decides on the next request, claims its sectors and writes header, data and guards.  False: there
 * is none to be had now (sectors all busy, or the scan is at its end). */
bool blkreq_prepare(struct blkload *load, struct blkload_queue *queue, struct blkload_slot *slot);
/* Takes back what prepare did when the ring has no room. */
void blkreq_cancel(struct blkload *load, struct blkload_slot *slot);
/* The request's descriptors in seg, at least BLKREQ_SEGMENTS_MAX + 2 of them. */
void blkreq_chain(struct blkload *load, const struct blkload_slot *slot, struct ringdrv_seg *seg,
		  struct ringdrv_chain *chain);
/* Judges the answer, brings the shadow up to date, gives the sectors back. */
void blkreq_finish(struct blkload *load, struct blkload_slot *slot, uint32_t len);

#endif
