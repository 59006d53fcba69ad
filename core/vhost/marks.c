/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/marks.h"

#include <sys/mman.h>

#include "core/vhost/guard.h"
#include "devmodel/abi/virtio.h"

#define PAGE 4096ull

/* Mapped for as long as it takes: the front-end clears bits meanwhile, so that a mark has to be an atomic or. */
static void mark_page(const struct vhost_log_area *log, uint64_t gpa)
{
	const uint64_t bit = gpa / PAGE, byte = bit / 8, at = byte / PAGE * PAGE;
	uint8_t *map;

	if (byte >= log->bytes)
		return;
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd,
		   (off_t)(log->offset + at));
	if (map == MAP_FAILED)
		return;
	if (guard_add(map, PAGE, PAGE)) {
		__atomic_fetch_or(&map[byte - at], (uint8_t)(1u << bit % 8), __ATOMIC_SEQ_CST);
		guard_remove(map);
	}
	munmap(map, PAGE);
}

void marks_used(const struct vhost_log_area *log, const struct ctl_queue *queue)
{
	const uint64_t end = queue->used_gpa + virtq_used_bytes(queue->size);

	for (uint64_t gpa = queue->used_gpa / PAGE * PAGE; gpa < end; gpa += PAGE)
		mark_page(log, gpa);
}
