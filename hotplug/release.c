/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page that the host backs the region with is released as a whole or not at all: of a huge page a part
 * would at best be zeroed, at the price of the huge page.
 */
#include "hotplug/release.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "devmodel/abi/message.h"

static const struct mem_region *find_region(const struct mem_map *map, uint64_t gpa, uint64_t bytes,
					    uint32_t *index)
{
	for (uint32_t i = 0; i < map->count; i++) {
		const struct mem_region *r = &map->regions[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->bytes &&
		    bytes <= r->bytes - (gpa - r->gpa)) {
			*index = i;
			return r;
		}
	}
	return NULL;
}

int release_find(const struct box_memory *memory, uint64_t gpa, uint32_t pages,
		 struct release_hole *hole)
{
	const uint64_t bytes = (uint64_t)pages * RELEASE_PAGE;
	const struct mem_region *region;
	uint32_t i = 0;

	if (pages == 0 || gpa % RELEASE_PAGE != 0)
		return -EPROTO;
	region = find_region(&memory->map, gpa, bytes, &i);
	if (region == NULL)
		return -EPROTO;
	const uint64_t page = memory->page_bytes[i];

	if (pages > RELEASE_PAGES_MAX && bytes > page)
		return -EPROTO;
	const uint64_t at = memory->offsets[i] + (gpa - region->gpa);
	const uint64_t first = (at + page - 1) / page * page;
	const uint64_t end = (at + bytes) / page * page;

	*hole = (struct release_hole){ memory->fds[i], first, end > first ? end - first : 0 };
	return 0;
}

int64_t release_punch(const struct release_hole *hole)
{
	if (hole->bytes == 0)
		return 0;
	if (fallocate(hole->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)hole->offset,
		      (off_t)hole->bytes) != 0)
		return -errno;
	return (int64_t)hole->bytes;
}
