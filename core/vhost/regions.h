/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that a front-end shares: regions as its messages gave them, each checked before it counts.  A
 * table is a small array of references, so that one can be changed as a whole or not at all, and so that the
 * memory of a table that is no longer in force stays mapped until nobody uses it any more.
 *
 * A region is mapped here for one purpose: to read the indices of rings (core/box/ring.c).  The front-end may
 * truncate a file that is not sealed against it: core/vhost/guard.h keeps that from being our end.
 */
#ifndef MAYFLY_CORE_VHOST_REGIONS_H
#define MAYFLY_CORE_VHOST_REGIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/vhost/protocol.h"

/* All regions of one front-end together: devices of one process share its addresses, so that one may not take them
 * all. */
#define VHOST_MEMORY_MAX (2ull << 40)
#define VHOST_REGIONS_MAX 64 /* as GET_MAX_MEM_SLOTS answers */

_Static_assert(VHOST_REGIONS_MAX <= MEM_REGIONS_MAX, "a box has room for them");

struct vhost_region {
	uint32_t references;
	uint64_t gpa, bytes;
	uint64_t user;   /* where the front-end has it mapped: ring addresses are in these */
	uint64_t offset; /* in the file */
	uint64_t page_bytes;
	int fd;    /* owned */
	void *map; /* ours, of `bytes` */
};

struct vhost_regions {
	uint32_t count;
	struct vhost_region *regions[VHOST_REGIONS_MAX]; /* by gpa */
};

/* The region of a message, with its descriptor, which is taken over whatever comes of it.  0, or with *why
 * (static text): -EINVAL sizes, addresses, alignment; -EBADF not a file that can be shared memory, or not open
 * for writing; -ENOSPC the table is full, or
 * larger than VHOST_MEMORY_MAX in all; -EEXIST it overlaps another; -errno of mmap(2). */
int regions_add(struct vhost_regions *table, const struct vhost_user_region *wire, int fd,
		const char **why);
/* 0; -ENOENT: no region is exactly that one. */
int regions_remove(struct vhost_regions *table, const struct vhost_user_region *wire);

/* A second table of the same regions; `to` is empty. */
void regions_copy(struct vhost_regions *to, const struct vhost_regions *from);
/* All references go; what is nobody's any more is unmapped and closed. */
void regions_clear(struct vhost_regions *table);
/* The very same regions. */
bool regions_equal(const struct vhost_regions *a, const struct vhost_regions *b);
/* Every region of `part` is in `whole`, too. */
bool regions_within(const struct vhost_regions *part, const struct vhost_regions *whole);

/* The guest physical address of [user, user + bytes). 0; -EFAULT: not wholly in one region. */
int regions_gpa(const struct vhost_regions *table, uint64_t user, uint64_t bytes, uint64_t *gpa);

/* used->idx of the ring whose used part is there, read once.  0; -EFAULT: not in one region. */
int regions_used(const struct vhost_regions *table, uint64_t user, uint16_t *idx);

/* As devices are given it; descriptors stay the table's. */
void regions_memory(const struct vhost_regions *table, uint32_t epoch, struct box_memory *memory);

#endif
