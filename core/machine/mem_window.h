/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in guest physical space memory can be added: one window above boot RAM, and places in it.
 * Pure functions; nothing here blocks.  The guest is told of the window in the SRAT
 * (core/machine/acpi.h), from which Linux takes how far its memory may reach.
 *
 * Bases and sizes are multiples of the guest's memory block: Linux adds and takes away memory in whole
 * blocks, of 128 MiB, or of up to 2 GiB when its boot RAM ends at 64 GiB or above, which is from 63 GiB of
 * it on (arch/x86/mm/init_64.c, probe_memory_block_size()).
 */
#ifndef MAYFLY_CORE_MACHINE_MEM_WINDOW_H
#define MAYFLY_CORE_MACHINE_MEM_WINDOW_H

#include <stdint.h>

#include "devmodel/abi/gpa.h"

struct mem_window_config {
	uint64_t boot_bytes; /* RAM that the guest boots with */
	uint64_t max_bytes;  /* the most that it may have in all */
	uint32_t slots;      /* ranges that there can be at once, 1 .. LAYOUT_DIMMS_MAX */
	uint8_t phys_bits;   /* of guest addresses; 32 .. 52 */
};

/* All zero: none. */
struct mem_window {
	uint64_t base; /* a multiple of 1 GiB and of block_bytes */
	uint64_t end;  /* the first address behind it */
	uint64_t block_bytes;
};

/* The window has room for max_bytes - boot_bytes however the ranges are aligned to pages of up to
 * 1 GiB.  0; -EINVAL with *what (static text) naming the thing and what to do; *window is none then. */
int mem_window_make(struct mem_window *window, const struct mem_window_config *config,
		    const char **what);

/* The lowest place for a range of `bytes` in the window that meets none of the `count` regions, which
 * may be in any order and lie anywhere; aligned to page_bytes (a power of two) too.  0; -EINVAL: bytes
 * is 0, not a multiple of the block or of the page; -ENOSPC: no such gap; with *what as above. */
int mem_window_place(const struct mem_window *window, const struct mem_region *regions,
		     uint32_t count, uint64_t bytes, uint64_t page_bytes, uint64_t *gpa,
		     const char **what);

/* Where a range of `bytes` goes that is never taken away, behind boot RAM and *end, which becomes its end
 * (0: nothing yet).  It is aligned as a window is, and to page_bytes.  0; -EINVAL: the CPU has no such
 * addresses, with *what as above. */
int mem_window_reserve(const struct mem_window_config *config, uint64_t bytes, uint64_t page_bytes,
		       uint64_t *end, uint64_t *gpa, const char **what);

#endif
