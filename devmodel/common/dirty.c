/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks are atomic ORs of bytes: the other side exchanges whole words for 0, and boxes of all devices
 * mark beside each other.
 *
 * Why a bit is not looked at first, and left alone where it is set.  After a write that is wrong:
 *
 *   box                                      who copies
 *   writes the page (still on its way)
 *   sees the bit set: nothing to do          fetches the bit, copies the page as it was
 *   (the write is there)
 *
 * and nobody copies it again.  A store and a later load of another place are what x86 does reorder, so
 * the look would want a full barrier before it, which costs what the OR does, being one itself.  Before
 * a write it would be right, and would save a box that has the line to itself next to nothing.
 *
 * The OR is a full barrier to the compiler, too: the write stays between its marks.
 */
#include "devmodel/common/dirty.h"

#include "devmodel/abi/launch.h"

const struct dirty_log *dirty_open(struct dirty_log *room, const struct launch_record *launch)
{
	*room = (struct dirty_log){
		.bits = (uint8_t *)(uintptr_t)launch->log_addr,
		.bytes = launch->log_bytes,
		.map = &launch->map,
	};
	return room->bytes != 0 ? room : NULL;
}

void dirty_set(const struct dirty_log *log, uint64_t gpa, uint64_t bytes)
{
	const uint64_t last = (gpa + bytes - 1) / LOG_PAGE;
	uint64_t page = gpa / LOG_PAGE;

	while (page <= last && page / 8 < log->bytes) {
		const uint64_t upto = last < (page | 7) ? last : page | 7;
		const uint32_t mask = 0xffu << page % 8 & 0xffu >> (7 - upto % 8);

		__atomic_fetch_or(&log->bits[page / 8], (uint8_t)mask, __ATOMIC_SEQ_CST);
		page = upto + 1;
	}
}

static const struct mem_region *region_at(const struct mem_map *map, uint64_t addr)
{
	for (uint32_t i = 0; i < map->count; i++) {
		/* Below wraps to beyond. */
		if (addr - map->regions[i].addr < map->regions[i].bytes)
			return &map->regions[i];
	}
	/* A write that is not to guest memory has no business here, and one that nobody can mark must
	 * not be made. */
	__builtin_trap();
}

/* Segments of two regions that lie one after the other here, but not in the guest, may have become one. */
void dirty_set_at(const struct dirty_log *log, const void *at, uint64_t bytes)
{
	uint64_t addr = (uintptr_t)at;

	while (bytes != 0) {
		const struct mem_region *r = region_at(log->map, addr);
		const uint64_t off = addr - r->addr;
		const uint64_t n = bytes < r->bytes - off ? bytes : r->bytes - off;

		dirty_set(log, r->gpa + off, n);
		addr += n;
		bytes -= n;
	}
}
