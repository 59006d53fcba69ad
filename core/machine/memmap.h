/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: regions, each a memfd sealed against resizing, and the memory epochs they make.  The
 * only writer of the map.
 */
#ifndef MAYFLY_CORE_MACHINE_MEMMAP_H
#define MAYFLY_CORE_MACHINE_MEMMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/machine/layout.h"

/* NAME, word on the command line. */
#define MEM_PAGES(X)                                                                               \
	X(4K, "4k")                                                                                \
	X(THP, "thp")                                                                              \
	X(2M, "2m")                                                                                \
	X(1G, "1g")

enum mem_pages {
#define MEM_PAGES_ENUM(NAME, word) MEM_PAGES_##NAME,
	MEM_PAGES(MEM_PAGES_ENUM)
#undef MEM_PAGES_ENUM
		MEM_PAGES_COUNT
};

struct memmap_config {
	uint64_t bytes; /* a multiple of 4 KiB, or of the page kind */
	enum mem_pages pages;
	int node;          /* host NUMA node to bind to; -1: none */
	bool prealloc;     /* fault everything in now */
	uint8_t phys_bits; /* MAXPHYADDR that the guest sees */
};

/* Memory of which an epoch has the first so many bytes: a memfd as large as it may ever become, mapped
 * here as a whole.  Nothing of it is taken from the host before it is touched, huge pages neither. */
struct memmap_reserve {
	uint64_t gpa, bytes;
	uint64_t addr; /* here */
	uint64_t page_bytes;
	uint64_t slot_bytes; /* an epoch has a multiple of it */
	int fd;
};

struct memmap {
	struct mem_map boot; /* what the machine starts with; never changes */
	struct box_memory
		epoch; /* the current one: of the thread that changes it, see hotplug/memory.h */
	uint32_t last; /* number that was given to an epoch */
	struct memmap_reserve reserves[LAYOUT_NODES_MAX];
	uint32_t reserve_count;
};

/* Makes boot RAM: one region below the device hole and, if it does not fit, one from 4 GiB on.
 * 0; -EINVAL: size; -ENOMEM: more than the host has free; -ENOTSUP: pages of that kind; with *what
 * naming the thing and what to do (static text). */
int memmap_create(struct memmap *mm, const struct memmap_config *config, const char **what);
/* With every region that is left. */
void memmap_destroy(struct memmap *mm);

/* The next epoch, in *next: the current one and a new region at gpa, which must be free; config->bytes and
 * gpa are multiples of the page kind, phys_bits does not count.  The map itself stays as it is until
 * memmap_accept().  0, or as memmap_create(); -ENOSPC: no more regions; nothing is left then. */
int memmap_plan_add(struct memmap *mm, const struct memmap_config *config, uint64_t gpa,
		    struct box_memory *next, const char **what);
/* The same without the region that begins at gpa. 0 or -ENOENT. */
int memmap_plan_remove(struct memmap *mm, uint64_t gpa, struct box_memory *next);
/* Makes a reserve, whose index is how many there were; no epoch has anything of it yet.  bytes is a multiple
 * of slot_bytes, and that and gpa of the page kind; prealloc and phys_bits do not count.  As
 * memmap_create(). */
int memmap_add_reserve(struct memmap *mm, const struct memmap_config *config, uint64_t gpa,
		       uint64_t slot_bytes, const char **what);
/* The next epoch, in *next: the current one, but that it has the first `bytes` of the reserve, a multiple of
 * slot_bytes; 0: nothing. 0; -ENOSPC: no more regions. */
int memmap_plan_reserve(struct memmap *mm, uint32_t reserve, uint64_t bytes,
			struct box_memory *next);
/* Whether the host could give so many bytes just now. 0, also where it cannot be known (small pages are
 * overcommitted); -ENOMEM with *what. */
int memmap_check_free(enum mem_pages pages, uint64_t bytes, const char **what);
/* It is the current one from now on. */
void memmap_accept(struct memmap *mm, const struct box_memory *next);
/* The region at gpa of an epoch that is over, or was never accepted: unmapped here; its memfd, which is the
 * caller's from now on, or -ENOENT. */
int memmap_take(const struct box_memory *over, uint64_t gpa);

/* Of a page, or of what is asked of the kernel as one (THP): what sizes are a multiple of. */
uint64_t memmap_page_bytes(enum mem_pages pages);

/* A pointer into boot RAM for the VMM's own writes (boot, ACPI), NULL when out of range. */
void *memmap_at(const struct memmap *mm, uint64_t gpa, uint64_t bytes);

#endif
