/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest physical addresses.  A gpa_t is a struct so that no code can dereference or compare it by
 * accident: only gpa_span() makes a pointer of it, and only after the range check.
 */
#ifndef MAYFLY_ABI_GPA_H
#define MAYFLY_ABI_GPA_H

#include <stddef.h>
#include <stdint.h>

struct gpa {
	uint64_t raw;
};
typedef struct gpa gpa_t; /* the one typedef of a struct: it is a number with a type of its own */

/* The most regions one memory epoch can have: boot RAM below and above the PCI hole, 64 memory
 * slots, virtio-mem devices, and room. */
#define MEM_REGIONS_MAX 80

/* One contiguous range of guest RAM as a process sees it. */
struct mem_region {
	uint64_t gpa;   /* first guest physical address */
	uint64_t bytes; /* length, a multiple of 4096 */
	uint64_t addr;  /* where this process has it mapped */
};

/* One memory epoch as a process sees it: regions sorted by gpa, no two overlapping. */
struct mem_map {
	uint32_t epoch;
	uint32_t count;
	struct mem_region regions[MEM_REGIONS_MAX];
};

static inline gpa_t gpa_make(uint64_t raw)
{
	return (gpa_t){ raw };
}

/* A pointer to [gpa, gpa + len), or NULL when the range is not wholly inside one region.  Never
 * blocks, has no side effect.  len 0 is refused: there is nothing to point at. */
static inline void *gpa_span(const struct mem_map *map, gpa_t gpa, uint64_t len)
{
	for (uint32_t i = 0; i < map->count; i++) {
		const struct mem_region *r = &map->regions[i];

		if (gpa.raw < r->gpa)
			return NULL;
		uint64_t off = gpa.raw - r->gpa;

		if (off < r->bytes && len != 0 && len <= r->bytes - off)
			return (void *)(uintptr_t)(r->addr + off);
	}
	return NULL;
}

#endif
