/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of guest memory that follows it as the destination of a live migration does: pages go over that
 * this process wrote (the guest's part, which KVM would log; here a write to a protected page traps), and
 * pages that boxes marked in their dirty log.  Once nobody writes and all was fetched the two are alike to
 * the byte, or somebody wrote unmarked.
 *
 * One at a time; its own thread's, while drivers may run on others.  System calls of this process must
 * not write into guest memory while it follows.
 */
#ifndef MAYFLY_RIG_MIRROR_H
#define MAYFLY_RIG_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "tests/rig/guestmem.h"

struct mirror {
	const struct guestmem *mem;
	int fd; /* of the log, at `offset` */
	uint64_t offset;
	uint64_t bytes;   /* up to the last page, and no byte more */
	uint8_t *mapping; /* of all of the file */
	uint64_t *log;    /* of boxes .. */
	uint64_t *guest;  /* .. and of this process */
	uint64_t words;
	uint8_t *copies[MEM_REGIONS_MAX];
	uint64_t marked, written; /* pages fetched of either log */
};

/* From here on the guest's writes are followed; the log begins at `offset` of its file.  0 or -errno; in any
 * case mirror_end(). */
int mirror_begin(struct mirror *m, const struct guestmem *mem, uint64_t offset);
/* Says in an epoch where the log is. */
void mirror_describe(const struct mirror *m, struct box_memory *memory);
/* Copies all there is.  After every box marks, and before the first mirror_fetch(). */
void mirror_copy(struct mirror *m);
/* Fetches both logs, and copies what they say. Pages copied. */
uint64_t mirror_fetch(struct mirror *m);
/* Pages that are not alike; say: of some, on stderr, which. */
uint64_t mirror_differs(const struct mirror *m, bool say);
/* Also where it is all zero. */
void mirror_end(struct mirror *m);

#endif
