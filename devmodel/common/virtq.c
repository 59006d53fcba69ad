/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of a split virtqueue.
 *
 * All three ring parts and every descriptor lie in memory that the driver writes while we read it.
 * So each shared value is fetched exactly once into a local (ring_read, desc_fetch), bounded, and
 * only the local is used after.  Positions are our own: q->next is never read back from used->idx.
 *
 * The order of memory accesses, and what each barrier is for:
 *
 *   peek      avail->idx is loaded with acquire: the ring entry and the descriptors that the driver
 *             wrote before it are then seen whole.
 *   push      used->idx is stored with release: the used element, the status byte and the data are
 *             there before it.  Then a full barrier, and only then used_event or the avail flags
 *             are read: a driver that arms and then looks at used->idx must not be missed by both
 *             sides.
 *   arm       avail_event or the used flags are stored, then a full barrier, and only then
 *             avail->idx is read again: the same race, seen from the other end.
 *
 * What is written to the used ring is marked in the dirty log, before and after (dirty.h).
 */
#include "devmodel/common/virtq.h"

#include <linux/errno.h>

#include "devmodel/common/sys.h"

#define RING_READ(lvalue) (*(const volatile __typeof__(lvalue) *)&(lvalue))
#define RING_WRITE(lvalue, value) (*(volatile __typeof__(lvalue) *)&(lvalue) = (value))

static inline void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline uint16_t avail_idx(const struct virtq *q)
{
	return __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
}

/* The two event fields lie behind the ring of the side that writes them. */
static inline uint16_t used_event(const struct virtq *q)
{
	return RING_READ(q->avail->ring[q->size]);
}

/* `bytes` of the used ring from `at` on. */
static inline void used_mark(const struct virtq *q, const void *at, uint64_t bytes)
{
	dirty_mark_gpa(q->log, q->used_gpa + ((uintptr_t)at - (uintptr_t)q->used), bytes);
}

static inline void avail_event_write(const struct virtq *q, uint16_t idx)
{
	void *event = &q->used->ring[q->size];

	used_mark(q, event, sizeof(idx));
	RING_WRITE(*(uint16_t *)event, idx);
	used_mark(q, event, sizeof(idx));
}

static inline void used_flags_write(const struct virtq *q, uint16_t flags)
{
	used_mark(q, q->used, sizeof(*q->used));
	RING_WRITE(q->used->flags, flags);
	used_mark(q, q->used, sizeof(*q->used));
}

/* One descriptor, read once.  An indirect table may be unaligned, so it is a copy; the empty asm
 * makes the copy opaque, or the compiler could read the guest's bytes again where it is used. */
static inline struct virtq_desc desc_fetch(const uint8_t *table, uint32_t at)
{
	struct virtq_desc d;

	__builtin_memcpy(&d, table + sizeof(d) * at, sizeof(d));
	__asm__ volatile("" : "+m"(d));
	return d;
}

int virtq_break(struct virtq *q, enum ring_error error)
{
	if (q->error == RING_ERROR_NONE)
		q->error = error;
	return -EINVAL;
}

static void *ring_part(const struct mem_map *map, uint64_t gpa, uint64_t align, uint64_t bytes)
{
	return gpa % align ? NULL : gpa_span(map, gpa_make(gpa), bytes);
}

int virtq_init(struct virtq *q, const struct mem_map *map, const struct ctl_queue *cfg,
	       uint64_t features)
{
	uint16_t size = cfg->size;

	q->map = map;
	q->size = 0;
	q->next = cfg->next;
	q->limit = cfg->next;
	q->limited = false;
	q->refuse = cfg->refuse;
	q->event_idx = features >> VIRTIO_F_RING_EVENT_IDX & 1;
	q->indirect = features >> VIRTIO_F_RING_INDIRECT_DESC & 1;
	q->error = RING_ERROR_NONE;
	if (!size)
		return 0;
	if (size > VIRTQ_SIZE_MAX || (size & (size - 1)))
		return virtq_break(q, RING_ERROR_SIZE);
	q->desc = ring_part(map, cfg->desc_gpa, 16, virtq_desc_bytes(size));
	q->avail = ring_part(map, cfg->avail_gpa, 2, virtq_avail_bytes(size));
	q->used = ring_part(map, cfg->used_gpa, 4, virtq_used_bytes(size));
	q->used_gpa = cfg->used_gpa;
	if (!q->desc || !q->avail || !q->used)
		return virtq_break(q, RING_ERROR_ADDRESS);
	q->size = size;
	return 0;
}

int virtq_activate(struct virtq *q)
{
	if (q->error)
		return -EINVAL;
	if (!q->size)
		return 0;
	/* What a dead predecessor published nobody does again, though it may have died before the second
	 * mark. */
	used_mark(q, q->used, virtq_used_bytes(q->size));
	/* It may have left either of them saying "no kicks, please". */
	used_flags_write(q, 0);
	avail_event_write(q, q->next);
	full_barrier();
	q->limit = avail_idx(q);
	q->limited = true;
	if ((uint16_t)(q->limit - q->next) > q->size)
		return virtq_break(q, RING_ERROR_AVAIL);
	return 0;
}

/* The table that an indirect descriptor points to, or NULL with q->error set. */
static const uint8_t *indirect_table(struct virtq *q, const struct virtq_desc *d, bool nested)
{
	uint32_t entries = d->len / (uint32_t)sizeof(*d);
	const uint8_t *table;

	/* Section 2.7.5.3: never with NEXT, never within a table; WRITE is to be ignored. */
	if (!q->indirect || nested || (d->flags & VIRTQ_DESC_F_NEXT) || !entries ||
	    d->len % sizeof(*d) || entries > VIRTQ_SIZE_MAX) {
		virtq_break(q, RING_ERROR_INDIRECT);
		return NULL;
	}
	table = gpa_span(q->map, gpa_make(d->addr), d->len);
	if (!table)
		virtq_break(q, RING_ERROR_SPAN);
	return table;
}

static int chain_add(struct virtq *q, struct virtq_chain *chain, const struct virtq_desc *d)
{
	struct virtq_segment *seg = &chain->seg[chain->segments];

	if (chain->segments == VIRTQ_SEGMENTS_MAX)
		return virtq_break(q, RING_ERROR_LOOP);
	seg->len = d->len;
	seg->data = d->len ? gpa_span(q->map, gpa_make(d->addr), d->len) : NULL;
	if (d->len && !seg->data)
		return virtq_break(q, RING_ERROR_SPAN);
	if (d->flags & VIRTQ_DESC_F_WRITE) {
		chain->write_bytes += d->len;
	} else {
		if (chain->segments != chain->readable)
			return virtq_break(q, RING_ERROR_ORDER);
		chain->read_bytes += d->len;
		chain->readable++;
	}
	chain->segments++;
	return 0;
}

/* Follows the chain from q->desc[at].  Ends: each step adds a segment, of which there can be
 * VIRTQ_SEGMENTS_MAX, but for the one that enters an indirect table. */
static int chain_walk(struct virtq *q, struct virtq_chain *chain, uint32_t at)
{
	const uint8_t *table = (const uint8_t *)q->desc;
	uint32_t entries = q->size;
	uint32_t left = entries;
	bool nested = false;

	for (;;) {
		if (at >= entries)
			return virtq_break(q, RING_ERROR_HEAD);
		if (left-- == 0)
			return virtq_break(q, RING_ERROR_LOOP);
		struct virtq_desc d = desc_fetch(table, at);

		if (d.flags & VIRTQ_DESC_F_INDIRECT) {
			table = indirect_table(q, &d, nested);
			if (!table)
				return -EINVAL;
			entries = left = d.len / (uint32_t)sizeof(d);
			nested = true;
			at = 0;
			continue;
		}
		if (chain_add(q, chain, &d))
			return -EINVAL;
		if (!(d.flags & VIRTQ_DESC_F_NEXT))
			return 0;
		at = d.next;
	}
}

int virtq_peek(struct virtq *q, struct virtq_chain *chain)
{
	uint16_t pending;

	if (q->error)
		return -EINVAL;
	if (!q->size || (q->limited && q->next == q->limit))
		return 0;
	pending = (uint16_t)(avail_idx(q) - q->next);
	if (!pending)
		return 0;
	if (pending > q->size)
		return virtq_break(q, RING_ERROR_AVAIL);
	chain->head = RING_READ(q->avail->ring[q->next & (q->size - 1)]);
	chain->readable = 0;
	chain->segments = 0;
	chain->read_bytes = 0;
	chain->write_bytes = 0;
	return chain_walk(q, chain, chain->head) ? -EINVAL : 1;
}

void virtq_signal(const struct virtq *q)
{
	uint64_t one = 1;

	sys_write(q->fd_call, &one, sizeof(one));
}

/* Whether the driver wants to hear of the step to q->next.  After the barrier only. */
static bool driver_waits(const struct virtq *q)
{
	if (q->event_idx)
		return virtq_need_event(used_event(q), q->next, (uint16_t)(q->next - 1));
	return !(RING_READ(q->avail->flags) & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

static inline void push_mark(const struct virtq *q, const struct virtq_used_elem *elem)
{
	used_mark(q, elem, sizeof(*elem));
	used_mark(q, q->used, sizeof(*q->used));
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	struct virtq_used_elem *elem = &q->used->ring[q->next & (q->size - 1)];

	push_mark(q, elem);
	RING_WRITE(elem->id, (uint32_t)head);
	RING_WRITE(elem->len, written);
	q->next++;
	__atomic_store_n(&q->used->idx, q->next, __ATOMIC_RELEASE);
	push_mark(q, elem);
	full_barrier();
	if (driver_waits(q))
		virtq_signal(q);
}

int virtq_arm(struct virtq *q)
{
	if (!q->size || q->error)
		return 0;
	if (q->event_idx)
		avail_event_write(q, q->next);
	else
		used_flags_write(q, 0);
	full_barrier();
	return avail_idx(q) != q->next;
}

void virtq_disarm(struct virtq *q)
{
	/* With EVENT_IDX there is nothing to say: avail_event stands at an index already passed. */
	if (q->size && !q->error && !q->event_idx)
		used_flags_write(q, VIRTQ_USED_F_NO_NOTIFY);
}
