/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a successor goes on.  used->idx says what is done, but lies in memory that the predecessor
 * could write.  It is accepted only between what was seen before and what the driver offered; a
 * value outside would have requests run twice that were answered, or answered that were never made.
 */
#include <errno.h>
#include <stddef.h>

#include "core/box/internal.h"
#include "devmodel/abi/virtio.h"

static int ring_indices(const struct mem_map *map, const struct ctl_queue *q, uint16_t *used,
			uint16_t *avail)
{
	const struct virtq_used *u = gpa_span(map, gpa_make(q->used_gpa), virtq_used_bytes(q->size));
	const struct virtq_avail *a =
		gpa_span(map, gpa_make(q->avail_gpa), virtq_avail_bytes(q->size));

	if (u == NULL || a == NULL)
		return -EPROTO;
	*used = __atomic_load_n(&u->idx, __ATOMIC_ACQUIRE);
	*avail = __atomic_load_n(&a->idx, __ATOMIC_ACQUIRE);
	return 0;
}

int ring_resume(struct device *dev, uint32_t *queue)
{
	dev->passage.in_flight = 0;
	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		struct ctl_queue *q = &dev->queues[i];
		uint16_t used, avail;

		*queue = i;
		if (q->size == 0)
			continue;
		if (dev->fresh) {
			q->next = dev->audited[i] = 0;
			continue;
		}
		if (ring_indices(&dev->sup->memory.map, q, &used, &avail) != 0)
			return -EPROTO;
		/* All modulo 2^16: audited <= used <= avail, and no more than size in flight. */
		if ((uint16_t)(used - dev->audited[i]) > (uint16_t)(avail - dev->audited[i]) ||
		    (uint16_t)(avail - used) > q->size)
			return -EPROTO;
		q->next = dev->audited[i] = used;
		dev->passage.in_flight += (uint16_t)(avail - used);
	}
	return 0;
}
