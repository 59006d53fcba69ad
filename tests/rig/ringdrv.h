/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver side of one split virtqueue (virtio 1.2 section 2.7), for tests and benchmarks that
 * play the guest.  The device may be wrong or hostile: everything it writes is read once and
 * bounded, each used element must answer exactly one outstanding request, and what does not fit is
 * counted and described, never followed.
 *
 * Life of a request: ringdrv_add(), ringdrv_publish(), ringdrv_kick(), then ringdrv_reap().  When
 * there is nothing to do: ringdrv_arm(), sleep on fd_call, ringdrv_called(); or ringdrv_wait(), for
 * all three.  As a guest does, a sleeping driver does not look at the ring before it is called: a
 * call that never comes is a fault of the device (lost_calls).
 *
 * One thread a queue.  Nothing blocks but ringdrv_wait().
 */
#ifndef MAYFLY_RIG_RINGDRV_H
#define MAYFLY_RIG_RINGDRV_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/message.h"
#include "devmodel/abi/virtio.h"
#include "tests/rig/complaints.h"
#include "tests/rig/guestmem.h"

#define RINGDRV_INDIRECT (1ull << VIRTIO_F_RING_INDIRECT_DESC)
#define RINGDRV_EVENT_IDX (1ull << VIRTIO_F_RING_EVENT_IDX)
#define RINGDRV_VERSION_1 (1ull << VIRTIO_F_VERSION_1)

/* Longer than any replacement may take: what was completed just before one is called for after. */
#define RINGDRV_CALL_GRACE_NS 5000000000ull

struct ringdrv_config {
	uint64_t features;     /* RINGDRV_* as negotiated; other bits are ignored */
	uint16_t size;         /* a power of two, at most VIRTQ_SIZE_MAX */
	uint16_t number;       /* of the queue, for messages */
	uint16_t indirect_max; /* descriptors of an indirect table; 0: 34 */
	uint16_t first_idx;    /* where both indices start: near 65535 they wrap soon */
	bool in_order;  /* complain of completions out of order: a device of ours promises it */
	bool quiet;     /* do not print complaints */
	bool fds_given; /* use fd_kick and fd_call below; else eventfds are made and owned */
	int fd_kick;
	int fd_call;
	uint64_t call_grace_ns; /* a call later than this is lost; 0: RINGDRV_CALL_GRACE_NS */
};

struct ringdrv_stats {
	uint64_t added;
	uint64_t completed;   /* used elements that answered an outstanding request */
	uint64_t kicks;       /* written to fd_kick */
	uint64_t kicks_saved; /* the device did not want them */
	uint64_t calls;       /* wake-ups by fd_call */
	uint64_t lost_calls;  /* the device owed a call for longer than the grace */
	uint64_t duplicated;  /* an element named a request that had been completed before */
	uint64_t corrupted;   /* impossible id, length, order or index */
};

/* What the driver remembers of the request whose head is this descriptor. */
struct ringdrv_slot {
	uint64_t token;
	uint32_t writable; /* bytes that the device may write */
	uint16_t descs;    /* of the ring itself: 1 for an indirect request */
	uint16_t seq;      /* its avail index */
	uint8_t state;     /* enum slot_state */
};

struct ringdrv_queue {
	struct guestmem *mem;
	struct ringdrv_config config;
	uint64_t desc_gpa;
	uint64_t avail_gpa;
	uint64_t used_gpa;
	uint64_t indirect_gpa;
	/* Shared with the device. */
	struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	struct virtq_desc *indirect;
	/* The driver's own. */
	struct ringdrv_slot *slots;
	uint16_t *link;  /* next descriptor, of free ones and within a chain */
	uint16_t *order; /* heads by avail index, as submitted */
	uint16_t free_head;
	uint16_t free_tail;
	uint16_t free_count;
	uint16_t outstanding; /* requests */
	uint16_t avail_idx;   /* next to be added */
	uint16_t kicked_idx;  /* avail_idx when the need of a kick was last looked at */
	uint16_t used_idx;    /* next to be reaped */
	uint16_t used_seen;   /* the device's index when last read */
	uint16_t oldest_seq;  /* with in_order: what must complete next */
	bool broken;          /* the device's index was impossible: nothing is reaped any more */
	bool asleep;          /* armed, nothing was there, not called since */
	bool owns_fds;
	int fd_kick;
	int fd_call;
	uint64_t owed_since_ns; /* when a completion without a call was first seen; 0: none */
	struct ringdrv_stats stats;
	struct complaints complaints;
};

/* Allocates rings (and indirect tables) from mem, all zero, and the eventfds unless they are given.
 * 0, -EINVAL: the size; -ENOMEM; -errno of eventfd.  On failure nothing needs to be freed. */
int ringdrv_init(struct ringdrv_queue *q, struct guestmem *mem,
		 const struct ringdrv_config *config);
/* May be called twice, and on a queue of zeroes.  Guest memory is not given back. */
void ringdrv_free(struct ringdrv_queue *q);
/* As a driver after a device reset: rings zeroed, all requests forgotten; counters go on. */
void ringdrv_reset(struct ringdrv_queue *q);
/* The queue as an ACTIVATE message wants it; `next` is where the ring began. */
void ringdrv_describe(const struct ringdrv_queue *q, struct ctl_queue *out);

struct ringdrv_seg {
	uint64_t gpa;
	uint32_t len;
};

struct ringdrv_chain {
	const struct ringdrv_seg *seg; /* first the device-readable ones, then the writable */
	uint16_t readable;
	uint16_t writable;
	bool indirect;  /* use an indirect table, where negotiated and long enough */
	uint64_t token; /* given back by ringdrv_reap() */
};

/* Puts a request on the ring; the device sees it after ringdrv_publish().  0, -ENOSPC: too few free
 * descriptors now; -EINVAL: no segment, or more than the queue has descriptors. */
int ringdrv_add(struct ringdrv_queue *q, const struct ringdrv_chain *chain);
void ringdrv_publish(struct ringdrv_queue *q);
/* Kicks if anything was published since the last time and the device wants to know. 1: kicked. */
int ringdrv_kick(struct ringdrv_queue *q);
/* Kicks whatever the device wants. */
void ringdrv_kick_always(struct ringdrv_queue *q);

struct ringdrv_done {
	uint64_t token;
	uint32_t len; /* bytes written, as the device says; at most the request's writable bytes */
};

/* Used elements that are there to be reaped, 0 on a broken queue.  Reads the device's index. */
uint16_t ringdrv_pending(struct ringdrv_queue *q);
/* The next completion.  1: *done is filled; 0: there is none.  Elements that answer no outstanding
 * request are counted and skipped. */
int ringdrv_reap(struct ringdrv_queue *q, struct ringdrv_done *done);

/* Asks for a call at the next completion.  1: there is one already, do not sleep; 0: sleep. */
int ringdrv_arm(struct ringdrv_queue *q);
/* While awake: calls are not needed. */
void ringdrv_disarm(struct ringdrv_queue *q);
/* After poll: takes the call from fd_call.  1: called (or a call is overdue: counted, complained
 * of), the ring is to be reaped; 0: sleep on. */
int ringdrv_called(struct ringdrv_queue *q);
/* arm, poll, called.  1: completions are there; 0: none, or not yet called for, within
 * timeout_ns; -errno of poll. */
int ringdrv_wait(struct ringdrv_queue *q, uint64_t timeout_ns);

/*
 * For hostile-guest tests: writes to shared memory as they stand, past the driver's own records.
 * After one of these the queue's accounting is void until ringdrv_reset().  Positions are taken
 * modulo the ring's size, so that the test itself stays within its memory.
 */
void ringdrv_evil_desc(struct ringdrv_queue *q, uint16_t at, const struct virtq_desc *desc);
void ringdrv_evil_avail(struct ringdrv_queue *q, uint16_t at, uint16_t head);
void ringdrv_evil_avail_idx(struct ringdrv_queue *q, uint16_t idx);
void ringdrv_evil_avail_flags(struct ringdrv_queue *q, uint16_t flags);
void ringdrv_evil_used_event(struct ringdrv_queue *q, uint16_t event);
void ringdrv_evil_used(struct ringdrv_queue *q, uint16_t at, uint32_t id, uint32_t len);
void ringdrv_evil_used_idx(struct ringdrv_queue *q, uint16_t idx);
/* used->idx as it stands now; leaves the driver asleep or awake as it is. */
uint16_t ringdrv_peek_used_idx(const struct ringdrv_queue *q);

#endif
