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

struct memmap {
	struct box_memory epoch; /* the current one */
};

/* Makes boot RAM: one region below the device hole and, if it does not fit, one from 4 GiB on.
 * 0; -EINVAL: size; -ENOMEM: more than the host has free; -ENOTSUP: pages of that kind; with *what
 * naming the thing and what to do (static text). */
int memmap_create(struct memmap *mm, const struct memmap_config *config, const char **what);
void memmap_destroy(struct memmap *mm);

/* Of a page, or of what is asked of the kernel as one (THP): what sizes are a multiple of. */
uint64_t memmap_page_bytes(enum mem_pages pages);

/* A pointer into guest RAM for the VMM's own writes (boot, ACPI), NULL when out of range. */
void *memmap_at(const struct memmap *mm, uint64_t gpa, uint64_t bytes);

#endif
