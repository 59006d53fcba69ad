/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blk device of the hosted build (inproc.h), with an image in shared memory and a driver ring: what
 * boxrig_blk is of the sealed one, without seal and supervisor.
 */
#ifndef MAYFLY_RIG_BAREBLK_H
#define MAYFLY_RIG_BAREBLK_H

#include <stdint.h>

#include "tests/rig/guestmem.h"
#include "tests/rig/inproc.h"
#include "tests/rig/ringdrv.h"

#define BAREBLK_FEATURES (RINGDRV_VERSION_1 | RINGDRV_INDIRECT | RINGDRV_EVENT_IDX)

struct bareblk {
	struct ringdrv_queue ring;
	struct inproc inproc;
	int image;
	uint64_t bytes; /* of it */
};

/* Ring and image.  0 or -errno; bareblk_destroy() in either case. */
int bareblk_create(struct bareblk *blk, struct guestmem *mem, uint64_t bytes);
/* The device, in a thread of the calling process: `ops` is dev_program of the hosted build, and `mem` its
 * guest memory, see inproc.h. */
int bareblk_go(struct bareblk *blk, const struct guestmem *mem, const struct dev_ops *ops, int cpu);
/* Also where creating it failed, or it is all zero. */
void bareblk_destroy(struct bareblk *blk);

#endif
