/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the ring driver share: ringdrv.c gives, ringdrv_used.c takes back. */
#ifndef MAYFLY_RIG_RINGDRV_PRIV_H
#define MAYFLY_RIG_RINGDRV_PRIV_H

#include "tests/rig/ringdrv.h"

enum slot_state {
	SLOT_UNUSED, /* never a head */
	SLOT_OUTSTANDING,
	SLOT_DONE,
};

#define shared_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define shared_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define full_barrier() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static inline uint16_t ring_mask(const struct ringdrv_queue *q)
{
	return (uint16_t)(q->config.size - 1);
}

static inline uint16_t *used_event(const struct ringdrv_queue *q)
{
	return &q->avail->ring[q->config.size];
}

/* avail_event stands behind the last used element. */
static inline uint16_t *avail_event(const struct ringdrv_queue *q)
{
	return (uint16_t *)(void *)&q->used->ring[q->config.size];
}

static inline bool event_idx(const struct ringdrv_queue *q)
{
	return q->config.features & RINGDRV_EVENT_IDX;
}

#endif
