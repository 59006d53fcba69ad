/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The used side of the ring driver: what the device gave back, and sleeping until it does.
 *
 * Theory of operation.  An element of the used ring is believed only as far as it names a request
 * that is outstanding by the driver's own records; what it says beyond that is counted.  A queue is
 * asleep from an arm that found nothing until it is called; a completion that shows up meanwhile is
 * left lying, as a guest would leave it, and its call is overdue after the grace.  For the memory
 * order see ringdrv.c.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "tests/rig/gaps.h"
#include "tests/rig/ringdrv_priv.h"

static void give_descs(struct ringdrv_queue *q, uint16_t head, uint16_t count)
{
	uint16_t last = head;

	for (uint16_t i = 1; i < count; i++)
		last = q->link[last];
	if (q->free_count == 0)
		q->free_head = head;
	else
		q->link[q->free_tail] = head;
	q->free_tail = last;
	q->free_count = (uint16_t)(q->free_count + count);
}

uint16_t ringdrv_pending(struct ringdrv_queue *q)
{
	if (q->broken)
		return 0;
	uint16_t idx = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
	uint16_t ahead = (uint16_t)(idx - q->used_idx);

	/* More than the ring holds, or going back, which looks like far ahead. */
	if (ahead > q->config.size || ahead < (uint16_t)(q->used_seen - q->used_idx)) {
		complaints_add(&q->complaints, "queue %u: used->idx %u, reaped %u, seen %u",
			       q->config.number, idx, q->used_idx, q->used_seen);
		q->stats.corrupted++;
		q->broken = true;
		return 0;
	}
	q->used_seen = idx;
	return ahead;
}

/* Completions in the order of submission: moves past those that are done. */
static void check_order(struct ringdrv_queue *q, uint16_t head)
{
	if (q->order[q->oldest_seq & ring_mask(q)] != head) {
		complaints_add(&q->complaints, "queue %u: id %u completed out of order",
			       q->config.number, head);
		q->stats.corrupted++;
	}
	while (q->oldest_seq != q->avail_idx) {
		uint16_t oldest = q->order[q->oldest_seq & ring_mask(q)];

		if (q->slots[oldest].state == SLOT_OUTSTANDING &&
		    q->slots[oldest].seq == q->oldest_seq)
			break;
		q->oldest_seq++;
	}
}

/* Whether a used element answers an outstanding request; complains when it does not. */
static bool element_answers(struct ringdrv_queue *q, uint32_t id, uint32_t len)
{
	uint8_t state = id < q->config.size ? q->slots[id].state : SLOT_UNUSED;

	if (state == SLOT_DONE) {
		complaints_add(&q->complaints, "queue %u: id %u completed twice (used %u)",
			       q->config.number, id, q->used_idx);
		q->stats.duplicated++;
	} else if (state == SLOT_UNUSED) {
		complaints_add(&q->complaints, "queue %u: id %u was never given (used %u)",
			       q->config.number, id, q->used_idx);
		q->stats.corrupted++;
	} else if (len > q->slots[id].writable) {
		complaints_add(&q->complaints, "queue %u: id %u: %u bytes written to %u",
			       q->config.number, id, len, q->slots[id].writable);
		q->stats.corrupted++;
	}
	return state == SLOT_OUTSTANDING;
}

static void complete(struct ringdrv_queue *q, uint16_t head, uint32_t len,
		     struct ringdrv_done *done)
{
	struct ringdrv_slot *slot = &q->slots[head];

	done->token = slot->token;
	done->len = len < slot->writable ? len : slot->writable;
	slot->state = SLOT_DONE;
	give_descs(q, head, slot->descs);
	q->outstanding--;
	q->asleep = false; /* the caller looked, called or not */
	q->owed_since_ns = 0;
	q->stats.completed++;
	if (q->config.in_order)
		check_order(q, head);
}

int ringdrv_reap(struct ringdrv_queue *q, struct ringdrv_done *done)
{
	while (!q->broken && (q->used_idx != q->used_seen || ringdrv_pending(q))) {
		struct virtq_used_elem *elem = &q->used->ring[q->used_idx & ring_mask(q)];
		uint32_t id = shared_load(&elem->id), len = shared_load(&elem->len);
		bool answers = element_answers(q, id, len);

		q->used_idx++;
		if (!answers)
			continue;
		complete(q, (uint16_t)id, len, done);
		return 1;
	}
	return 0;
}

int ringdrv_arm(struct ringdrv_queue *q)
{
	if (event_idx(q))
		shared_store(used_event(q), q->used_idx);
	else
		shared_store(&q->avail->flags, 0);
	full_barrier();
	q->asleep = ringdrv_pending(q) == 0;
	return !q->asleep;
}

void ringdrv_disarm(struct ringdrv_queue *q)
{
	/* With event_idx there is nothing to do: used_event lies behind, no step crosses it. */
	if (!event_idx(q))
		shared_store(&q->avail->flags, VIRTQ_AVAIL_F_NO_INTERRUPT);
}

/* Completions lie there and no call has come: a fault of the device once the grace is over. */
static bool call_overdue(struct ringdrv_queue *q)
{
	uint64_t now;

	if (ringdrv_pending(q) == 0)
		return false;
	now = gaps_now();
	if (q->owed_since_ns == 0)
		q->owed_since_ns = now;
	if (now - q->owed_since_ns < q->config.call_grace_ns)
		return false;
	complaints_add(&q->complaints, "queue %u: no call for used %u", q->config.number,
		       q->used_seen);
	q->stats.lost_calls++;
	return true;
}

int ringdrv_called(struct ringdrv_queue *q)
{
	uint64_t count;
	bool called = read(q->fd_call, &count, sizeof(count)) == sizeof(count);

	if (!called && !call_overdue(q))
		return 0;
	q->stats.calls += called;
	q->asleep = false;
	q->owed_since_ns = 0;
	return 1;
}

/* One sleep: until a call, the end, or the grace, so that a lost call is noticed in a long wait. */
static int sleep_on_call(const struct ringdrv_queue *q, uint64_t ns)
{
	uint64_t slice = ns < q->config.call_grace_ns ? ns : q->config.call_grace_ns;
	struct pollfd fd = { .fd = q->fd_call, .events = POLLIN };
	struct timespec left = { .tv_sec = (time_t)(slice / 1000000000u),
				 .tv_nsec = (long)(slice % 1000000000u) };

	return ppoll(&fd, 1, &left, NULL) < 0 && errno != EINTR ? -errno : 0;
}

int ringdrv_wait(struct ringdrv_queue *q, uint64_t timeout_ns)
{
	uint64_t now = gaps_now();
	uint64_t end = timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
	int ret = 0;

	do {
		if (!q->asleep && ringdrv_arm(q))
			return 1;
		ret = sleep_on_call(q, end - now);
		/* A call may be a stale one, for what was reaped before: then there is nothing. */
		if (ret == 0 && ringdrv_called(q) && ringdrv_pending(q))
			return 1;
		now = gaps_now();
	} while (ret == 0 && now < end);
	return ret;
}
