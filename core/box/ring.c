/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a successor goes on.  used->idx says what is done, but lies in memory that the predecessor
 * could write.  It is accepted only between what was seen before and what the driver offered; a
 * value outside would have requests run twice that were answered, or answered that were never made.
 *
 * Indices wrap.  When the predecessor may have served so many requests that avail->idx has passed the
 * last audit's value again, that value says nothing any more, and the distance to avail->idx, which
 * always holds, is all that is looked at.  How many it served is its own word; a lie gets it the
 * weaker check, with which it can harm only what it could have harmed before.  Likewise a ring that comes to
 * us from somebody else (box/shape.c), and was never audited.
 */
#include <errno.h>
#include <stddef.h>

#include "core/box/internal.h"
#include "devmodel/abi/virtio.h"

#define RING_LAP 65535u /* requests; the one in progress may be done and not counted */

static int ring_indices(const struct mem_map *map, const struct ctl_queue *q, uint16_t *used,
			uint16_t *avail)
{
	const struct virtq_used *u =
		gpa_span(map, gpa_make(q->used_gpa), virtq_used_bytes(q->size));
	const struct virtq_avail *a =
		gpa_span(map, gpa_make(q->avail_gpa), virtq_avail_bytes(q->size));

	/* The guest chose the addresses; what is not aligned is not read in one piece. */
	if (u == NULL || a == NULL || q->used_gpa % 4 != 0 || q->avail_gpa % 2 != 0)
		return -EPROTO;
	*used = __atomic_load_n(&u->idx, __ATOMIC_ACQUIRE);
	*avail = __atomic_load_n(&a->idx, __ATOMIC_ACQUIRE);
	return 0;
}

/*
 * used->idx moves while it is looked at, so it is sampled twice, around avail->idx: what the driver
 * offered by then cannot lie behind the first sample, nor more than a queue's length beyond the second.
 * That a taken-over box moved it back within what is in flight does not show here; ring_resume() has
 * the last word.
 */
int ring_audit(struct device *dev, uint32_t *queue)
{
	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		const struct ctl_queue *q = &dev->queues[i];
		struct ring_seen *seen = &dev->seen[i];
		uint16_t before, used, avail, ignored;

		*queue = i;
		if (q->size == 0 || !dev->spec.guest_memory)
			continue;
		/* A ring that cannot be is the driver's fault, which the box tells. */
		if (ring_indices(&dev->sup->memory.map, q, &before, &avail) != 0 ||
		    ring_indices(&dev->sup->memory.map, q, &used, &ignored) != 0)
			continue;
		if ((uint16_t)(avail - before) > (uint32_t)(uint16_t)(used - before) + q->size)
			return -EPROTO;
		seen->progress = used != seen->used;
		seen->work = avail != used;
		seen->used = used;
	}
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
		dev->passage.rings[i] =
			(struct autopsy_ring){ q->size, dev->audited[i], used, avail };
		/* All modulo 2^16: audited <= used <= avail, and no more than size in flight. */
		const bool lapped =
			dev->passage.served >= RING_LAP - q->size || (dev->unseen >> i & 1) != 0;

		if ((uint16_t)(avail - used) > q->size ||
		    (!lapped &&
		     (uint16_t)(used - dev->audited[i]) > (uint16_t)(avail - dev->audited[i])))
			return -EPROTO;
		q->next = dev->audited[i] = used;
		dev->passage.in_flight += (uint16_t)(avail - used);
	}
	dev->unseen = 0;
	return 0;
}
