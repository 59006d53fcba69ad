/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  All that the driver must know of a request is in memory of its own (slots,
 * link, order): the rings are write-only for it, but for the used ring and avail_event, each value
 * of which is read once.  Free descriptors are taken from the head of a list and given back at its
 * tail, so that a head is not used again soon: a second completion of it is then seen as such.
 * When it was used again, the order of completions gives the doubled one away (in_order).
 *
 * Memory order: avail->idx is stored with release after what it covers; used->idx is loaded with
 * acquire before what it covers; between a store that the device looks at and the load of what the
 * device answers with there is a full barrier (kick: avail->idx, avail_event; arm: used_event,
 * used->idx).  The used side is in ringdrv_used.c.
 */
#include "tests/rig/ringdrv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/rig/ringdrv_priv.h"

#define INDIRECT_DEFAULT 34

static uint64_t indirect_bytes(const struct ringdrv_queue *q)
{
	if (!(q->config.features & RINGDRV_INDIRECT))
		return 0;
	return sizeof(struct virtq_desc) * (uint64_t)q->config.size * q->config.indirect_max;
}

static int take(struct guestmem *mem, uint64_t bytes, uint64_t align, uint64_t *gpa, void *where)
{
	gpa_t at;
	int ret = guestmem_alloc(mem, bytes, align, &at);

	if (ret != 0)
		return ret;
	void *ptr = guestmem_ptr(mem, at, bytes);

	memcpy(where, &ptr, sizeof(ptr));
	*gpa = at.raw;
	return 0;
}

static int alloc_rings(struct ringdrv_queue *q)
{
	uint16_t size = q->config.size;
	uint64_t tables = indirect_bytes(q);
	int ret = take(q->mem, virtq_desc_bytes(size), 4096, &q->desc_gpa, &q->desc);

	if (ret == 0)
		ret = take(q->mem, virtq_avail_bytes(size), 64, &q->avail_gpa, &q->avail);
	if (ret == 0)
		ret = take(q->mem, virtq_used_bytes(size), 64, &q->used_gpa, &q->used);
	if (ret == 0 && tables)
		ret = take(q->mem, tables, 64, &q->indirect_gpa, &q->indirect);
	return ret;
}

static int alloc_private(struct ringdrv_queue *q)
{
	q->slots = calloc(q->config.size, sizeof(*q->slots));
	q->link = calloc(q->config.size, sizeof(*q->link));
	q->order = calloc(q->config.size, sizeof(*q->order));
	return q->slots && q->link && q->order ? 0 : -ENOMEM;
}

static int make_fds(struct ringdrv_queue *q)
{
	if (q->config.fds_given) {
		q->fd_kick = q->config.fd_kick;
		q->fd_call = q->config.fd_call;
		return 0;
	}
	q->owns_fds = true;
	q->fd_kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->fd_call = q->fd_kick < 0 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return q->fd_call < 0 ? -errno : 0;
}

int ringdrv_init(struct ringdrv_queue *q, struct guestmem *mem, const struct ringdrv_config *config)
{
	uint16_t size = config->size;

	memset(q, 0, sizeof(*q));
	if (size == 0 || size > VIRTQ_SIZE_MAX || (size & (size - 1)))
		return -EINVAL;
	q->mem = mem;
	q->config = *config;
	q->complaints.quiet = config->quiet;
	if (q->config.indirect_max == 0)
		q->config.indirect_max = INDIRECT_DEFAULT;
	if (q->config.call_grace_ns == 0)
		q->config.call_grace_ns = RINGDRV_CALL_GRACE_NS;
	int ret = make_fds(q);

	if (ret == 0)
		ret = alloc_private(q);
	if (ret == 0)
		ret = alloc_rings(q);
	if (ret == 0)
		ringdrv_reset(q);
	else
		ringdrv_free(q);
	return ret;
}

void ringdrv_free(struct ringdrv_queue *q)
{
	free(q->slots);
	free(q->link);
	free(q->order);
	if (q->owns_fds && q->fd_kick >= 0)
		close(q->fd_kick);
	if (q->owns_fds && q->fd_call >= 0)
		close(q->fd_call);
	q->slots = NULL;
	q->link = q->order = NULL;
	q->owns_fds = false;
	q->fd_kick = q->fd_call = -1;
}

void ringdrv_reset(struct ringdrv_queue *q)
{
	uint16_t size = q->config.size, idx = q->config.first_idx;

	memset(q->desc, 0, virtq_desc_bytes(size));
	memset(q->avail, 0, virtq_avail_bytes(size));
	memset(q->used, 0, virtq_used_bytes(size));
	memset(q->slots, 0, size * sizeof(*q->slots));
	for (uint16_t i = 0; i < size; i++)
		q->link[i] = (uint16_t)(i + 1);
	q->free_head = 0;
	q->free_tail = (uint16_t)(size - 1);
	q->free_count = size;
	q->outstanding = 0;
	q->avail_idx = q->kicked_idx = q->used_idx = q->used_seen = q->oldest_seq = idx;
	q->broken = false;
	q->asleep = false;
	q->owed_since_ns = 0;
	q->avail->idx = idx;
	q->used->idx = idx;
	if (event_idx(q)) { /* both sides begin by wanting to hear of the first */
		*used_event(q) = idx;
		*avail_event(q) = idx;
	}
}

void ringdrv_describe(const struct ringdrv_queue *q, struct ctl_queue *out)
{
	*out = (struct ctl_queue){
		.desc_gpa = q->desc_gpa,
		.avail_gpa = q->avail_gpa,
		.used_gpa = q->used_gpa,
		.size = q->config.size,
		.next = q->config.first_idx,
	};
}

static struct virtq_desc desc_of(const struct ringdrv_chain *chain, uint32_t i)
{
	return (struct virtq_desc){
		.addr = chain->seg[i].gpa,
		.len = chain->seg[i].len,
		.flags = i >= chain->readable ? VIRTQ_DESC_F_WRITE : 0,
	};
}

/* Takes `count` descriptors off the free list; they stay linked. */
static uint16_t take_descs(struct ringdrv_queue *q, uint32_t count)
{
	uint16_t head = q->free_head;

	for (uint32_t i = 0; i < count; i++)
		q->free_head = q->link[q->free_head];
	q->free_count = (uint16_t)(q->free_count - count);
	return head;
}

static void fill_direct(struct ringdrv_queue *q, const struct ringdrv_chain *chain, uint16_t head,
			uint32_t count)
{
	uint16_t at = head;

	for (uint32_t i = 0; i < count; i++) {
		struct virtq_desc desc = desc_of(chain, i);

		if (i + 1 < count) {
			desc.flags |= VIRTQ_DESC_F_NEXT;
			desc.next = q->link[at];
		}
		q->desc[at] = desc;
		at = q->link[at];
	}
}

static void fill_indirect(struct ringdrv_queue *q, const struct ringdrv_chain *chain, uint16_t head,
			  uint32_t count)
{
	uint64_t first = (uint64_t)head * q->config.indirect_max;

	for (uint32_t i = 0; i < count; i++) {
		struct virtq_desc desc = desc_of(chain, i);

		if (i + 1 < count) {
			desc.flags |= VIRTQ_DESC_F_NEXT;
			desc.next = (uint16_t)(i + 1);
		}
		q->indirect[first + i] = desc;
	}
	q->desc[head] = (struct virtq_desc){
		.addr = q->indirect_gpa + first * sizeof(struct virtq_desc),
		.len = count * (uint32_t)sizeof(struct virtq_desc),
		.flags = VIRTQ_DESC_F_INDIRECT,
	};
}

static uint32_t writable_bytes(const struct ringdrv_chain *chain, uint32_t count)
{
	uint32_t sum = 0;

	for (uint32_t i = chain->readable; i < count; i++)
		sum += chain->seg[i].len;
	return sum;
}

int ringdrv_add(struct ringdrv_queue *q, const struct ringdrv_chain *chain)
{
	uint32_t count = (uint32_t)chain->readable + chain->writable;
	bool indirect = chain->indirect && q->indirect && count <= q->config.indirect_max;
	uint16_t descs = indirect ? 1 : (uint16_t)count;

	if (count == 0 || count > q->config.size)
		return -EINVAL;
	if (descs > q->free_count)
		return -ENOSPC;
	uint16_t head = take_descs(q, descs);

	if (indirect)
		fill_indirect(q, chain, head, count);
	else
		fill_direct(q, chain, head, count);
	q->slots[head] = (struct ringdrv_slot){
		.token = chain->token,
		.writable = writable_bytes(chain, count),
		.descs = descs,
		.seq = q->avail_idx,
		.state = SLOT_OUTSTANDING,
	};
	q->order[q->avail_idx & ring_mask(q)] = head;
	shared_store(&q->avail->ring[q->avail_idx & ring_mask(q)], head);
	q->avail_idx++;
	q->outstanding++;
	q->stats.added++;
	return 0;
}

void ringdrv_publish(struct ringdrv_queue *q)
{
	__atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
}

void ringdrv_kick_always(struct ringdrv_queue *q)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is full, which is as good as signalled. */
	if (write(q->fd_kick, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN)
		complaints_add(&q->complaints, "queue %u: kick: errno %d", q->config.number, errno);
	q->stats.kicks++;
}

int ringdrv_kick(struct ringdrv_queue *q)
{
	uint16_t old = q->kicked_idx, idx = q->avail_idx;
	bool wanted;

	if (old == idx)
		return 0;
	full_barrier();
	q->kicked_idx = idx;
	if (event_idx(q))
		wanted = virtq_need_event(shared_load(avail_event(q)), idx, old);
	else
		wanted = !(shared_load(&q->used->flags) & VIRTQ_USED_F_NO_NOTIFY);
	if (wanted)
		ringdrv_kick_always(q);
	else
		q->stats.kicks_saved++;
	return wanted;
}

void ringdrv_evil_desc(struct ringdrv_queue *q, uint16_t at, const struct virtq_desc *desc)
{
	q->desc[at & ring_mask(q)] = *desc;
}

void ringdrv_evil_avail(struct ringdrv_queue *q, uint16_t at, uint16_t head)
{
	shared_store(&q->avail->ring[at & ring_mask(q)], head);
}

void ringdrv_evil_avail_idx(struct ringdrv_queue *q, uint16_t idx)
{
	__atomic_store_n(&q->avail->idx, idx, __ATOMIC_RELEASE);
}

void ringdrv_evil_avail_flags(struct ringdrv_queue *q, uint16_t flags)
{
	shared_store(&q->avail->flags, flags);
}

void ringdrv_evil_used_event(struct ringdrv_queue *q, uint16_t event)
{
	shared_store(used_event(q), event);
}

void ringdrv_evil_used(struct ringdrv_queue *q, uint16_t at, uint32_t id, uint32_t len)
{
	struct virtq_used_elem *elem = &q->used->ring[at & ring_mask(q)];

	shared_store(&elem->id, id);
	shared_store(&elem->len, len);
}

void ringdrv_evil_used_idx(struct ringdrv_queue *q, uint16_t idx)
{
	__atomic_store_n(&q->used->idx, idx, __ATOMIC_RELEASE);
}

uint16_t ringdrv_peek_used_idx(const struct ringdrv_queue *q)
{
	return __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
}
