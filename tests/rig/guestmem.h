/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM without a guest: one memfd a region, mapped in this process, and described as a struct
 * mem_map (addr: this process's mapping) with the descriptor of each region beside it, at offset 0.
 * The memfds are sealed against resizing and left out of core dumps.  A bump allocator hands out
 * guest-physical ranges; nothing is ever given back.  Not thread-safe.
 *
 * Regions may be added and removed while queues run in the others: a mapping never moves.  Each
 * change counts map.epoch up.
 */
#ifndef MAYFLY_RIG_GUESTMEM_H
#define MAYFLY_RIG_GUESTMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/gpa.h"

enum guestmem_pages {
	GUESTMEM_4K,
	GUESTMEM_2M,    /* hugetlb: see guestmem_huge_reserve() */
	GUESTMEM_LOOSE, /* 4 KiB, not sealed against resizing: its pages can be taken away */
};

struct guestmem {
	struct mem_map map;
	int fds[MEM_REGIONS_MAX];       /* the memfd of each region, in the order of map.regions */
	uint64_t used[MEM_REGIONS_MAX]; /* bytes of each region that are handed out */
	uint64_t page_bytes[MEM_REGIONS_MAX]; /* of each region: 4096 or 2 MiB */
};

/* No regions, epoch 1.  Owned by the caller until guestmem_free(), which may be called twice. */
void guestmem_init(struct guestmem *mem);
void guestmem_free(struct guestmem *mem);

/* Adds [gpa, gpa + bytes), zeroed.  0, or -EINVAL: not aligned to the page size, or overlapping;
 * -ENOSPC: MEM_REGIONS_MAX; -ENOMEM: no memory, or fewer free 2 MiB pages than the region wants;
 * -ENOSYS, -ENOTSUP: the kernel has no hugetlb memfd; other -errno of memfd_create and mmap. */
int guestmem_add(struct guestmem *mem, uint64_t gpa, uint64_t bytes, enum guestmem_pages pages);

/* The same of the first `bytes` of a memfd in 4 KiB pages that is there already: fd becomes the region's.  On
 * error it stays the caller's. */
int guestmem_add_fd(struct guestmem *mem, uint64_t gpa, uint64_t bytes, int fd);

/* Removes the region that begins at gpa: unmapped here, its descriptor closed.  *fd, when fd is not
 * NULL, receives the descriptor instead (the caller closes it).  0 or -ENOENT. */
int guestmem_remove(struct guestmem *mem, uint64_t gpa, int *fd);

/* Faults in every page of every region, in this process.  0 or -errno of madvise. */
int guestmem_populate(const struct guestmem *mem);

/* Takes `bytes` aligned to `align` (a power of two) from the first region that has them.  Never
 * hands out gpa 0.  0, -EINVAL, or -ENOMEM. */
int guestmem_alloc(struct guestmem *mem, uint64_t bytes, uint64_t align, gpa_t *gpa);
/* The same from the region that begins at region_gpa; -ENOENT: there is none. */
int guestmem_alloc_in(struct guestmem *mem, uint64_t region_gpa, uint64_t bytes, uint64_t align,
		      gpa_t *gpa);

/* This process's pointer to a range, NULL when it is not wholly inside one region. */
static inline void *guestmem_ptr(const struct guestmem *mem, gpa_t gpa, uint64_t len)
{
	return gpa_span(&mem->map, gpa, len);
}

/* 2 MiB pages.  As root, raises /proc/sys/vm/nr_hugepages until `bytes` are free, and says so on
 * stderr.  0: they are free; -EPERM: too few and not root; -ENOMEM: the kernel could not find
 * enough (what it did find is given back); -ENOTSUP: the default huge page is not 2 MiB. */
struct guestmem_huge {
	uint64_t added; /* pages that this process added */
};

int guestmem_huge_reserve(struct guestmem_huge *huge, uint64_t bytes);
/* Takes back what guestmem_huge_reserve() added; after guestmem_free().  May be called twice. */
void guestmem_huge_restore(struct guestmem_huge *huge);

#endif
