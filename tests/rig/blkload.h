/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk workload that knows what every sector must hold.  It keeps `depth` requests
 * outstanding on each of its queues: a seeded random mix of reads, writes, flushes, discards,
 * write-zeroes and get-ids on a range of sectors.  Each written 512-byte block carries its sector
 * number, the number of the request that wrote it, and a pattern made of both; a shadow array holds
 * the last acknowledged request number of each sector.  So every read is verified by content, and a
 * write that was lost, doubled late, torn or misplaced shows when its sectors are next read, at the
 * latest in blkload_verify() or blkload_verify_image().  No request touches a sector that a write
 * in flight touches, and no write one that a read in flight touches: so each answer has only one
 * right content.
 *
 * One thread a load, except where said.  Several loads may share a disk on disjoint ranges.
 *
 *   blkload_init(&load, &mem, &config);
 *   blkload_add_queue(&load, &ring, 8);
 *   while (...)
 *           blkload_step(&load, timeout_ns);
 *   blkload_drain(&load, deadline_ns);
 *   blkload_verify(&load, timeout_ns);
 *   blkload_stats(&load, &stats);   // lost, duplicated, corrupted must be 0
 */
#ifndef MAYFLY_RIG_BLKLOAD_H
#define MAYFLY_RIG_BLKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "benchmarks/hist.h"
#include "tests/rig/complaints.h"
#include "tests/rig/gaps.h"
#include "tests/rig/guestmem.h"
#include "tests/rig/lentmem.h"
#include "tests/rig/ringdrv.h"

/* NAME, virtio request type (virtio 1.2 section 5.2.6), weight in the default mix. */
#define BLKLOAD_OPS(X)                                                                             \
	X(READ, 0, 48)                                                                             \
	X(WRITE, 1, 48)                                                                            \
	X(FLUSH, 4, 4)                                                                             \
	X(GET_ID, 8, 0)                                                                            \
	X(DISCARD, 11, 0)                                                                          \
	X(ZEROES, 13, 0)

enum blkload_op {
#define BLKLOAD_OP_ENUM(NAME, type, weight) BLKLOAD_##NAME,
	BLKLOAD_OPS(BLKLOAD_OP_ENUM)
#undef BLKLOAD_OP_ENUM
		BLKLOAD_OP_COUNT
};

enum blkload_verify {
	BLKLOAD_FULL,   /* every byte is written and compared */
	BLKLOAD_HEADER, /* sector and request number of each block only: for throughput */
};

struct blkload_config {
	uint64_t first_sector;
	uint64_t sectors; /* the range; all zero on the disk when the load begins */
	uint64_t seed;
	uint32_t min_bytes; /* of a read, write, discard, ..: multiples of align; 0: 512 */
	uint32_t max_bytes; /* 0: 16384; at most 1 MiB */
	uint32_t align;     /* of offset, length and memory, a power of two; 0: 512 (4096 with
			     * min_bytes = max_bytes = 4096 is the classic random 4 KiB) */
	uint16_t segments;  /* data is split over up to so many descriptors; 0: 4; at most 32 */
	uint16_t weights[BLKLOAD_OP_COUNT]; /* all 0: the default mix */
	enum blkload_verify verify;
	bool quiet;           /* do not print complaints */
	bool direct_only;     /* never use indirect descriptors, even where negotiated */
	const char *id;       /* what get-id must answer, zero-padded to 20; NULL: not checked */
	uint64_t roam_bytes;  /* spread each queue's buffers over so much guest memory; 0: as little
			      * as possible */
	uint64_t spin_ns;     /* look at the ring for so long before sleeping; 0: sleep at once */
	uint32_t gap_times;   /* completion times kept, see gaps.h; 0: 65536 */
	struct hist *latency; /* submission to seen, ns, of each request; may be NULL */
	bool scatter;         /* buffers at random places of roam_bytes, not one after the other */
	/* Every other buffer lies there while there is some: at least max_bytes + 2 * align for each
	 * request outstanding; one queue only.  May be NULL. */
	struct lentmem *lent;
};

struct blkload_stats {
	uint64_t issued;
	uint64_t completed;
	uint64_t lost;       /* outstanding when blkload_drain() gave up, and lost calls */
	uint64_t duplicated; /* answered twice */
	uint64_t corrupted;  /* wrong content, length, status, order, or bytes past a buffer */
	uint64_t errors;     /* answered with an error status */
	uint64_t bytes;      /* of completed reads and writes */
	uint64_t sectors_verified; /* by blkload_verify() and blkload_verify_image() */
};

struct blkload_slot {
	uint64_t number; /* of the request, from 1 */
	uint64_t sector;
	uint64_t issued_ns;
	uint64_t data_gpa; /* of the place in use */
	uint64_t head_gpa; /* struct blk_head */
	uint8_t *data;
	struct blk_head *head;
	uint32_t sectors;
	uint32_t place; /* of config.roam_bytes */
	uint8_t op;     /* enum blkload_op */
	bool lent;      /* it lies in config.lent */
};

struct blkload_queue {
	struct ringdrv_queue *ring;
	struct blkload_slot *slots;
	uint16_t *free; /* stack of slot numbers */
	uint16_t free_count;
	uint16_t depth;
	uint16_t limit;       /* of them in use: blkload_limit() */
	uint32_t places;      /* data buffers of each slot */
	uint64_t base_gpa;    /* of all data buffers */
	uint64_t progress_ns; /* last completion seen, for spin_ns */
};

struct blkload {
	struct guestmem *mem;
	struct blkload_config config;
	struct blkload_queue queues[BOX_QUEUES_MAX];
	uint32_t queue_count;
	uint32_t stride; /* bytes of a data buffer, its guard included */
	uint32_t weight_sum;
	uint64_t random; /* xorshift state */
	uint64_t next_number;
	uint64_t outstanding;
	uint64_t *shadow;     /* a sector: last acknowledged request; 0: zeroes; UINT64_MAX: any */
	uint8_t *busy;        /* a sector: readers in flight, or BLKLOAD_WRITER */
	bool scanning;        /* blkload_verify() is on: sequential reads instead of the mix */
	bool stopped;         /* submit nothing */
	uint64_t scan_sector; /* next */
	struct gaps gaps;
	struct blkload_stats stats; /* this side's share: use blkload_stats() */
	struct complaints complaints;
};

/* 0, -EINVAL: the configuration makes no sense; -ENOMEM. On failure nothing needs to be freed. */
int blkload_init(struct blkload *load, struct guestmem *mem, const struct blkload_config *config);
/* May be called twice.  Rings stay the caller's. */
void blkload_free(struct blkload *load);

/* Adds a queue with `depth` requests outstanding, 1 to its size; buffers come from load's guest
 * memory.  The ring must outlive the load and must be used by nobody else. Any time before
 * blkload_drain().  0, -EINVAL, -ENOSPC: BOX_QUEUES_MAX; -ENOMEM. */
int blkload_add_queue(struct blkload *load, struct ringdrv_queue *ring, uint16_t depth);

/* From the next step on, no more than so many requests outstanding in all, split over the queues
 * evenly, none beyond its depth: for several depths with one history of what the disk must hold.  What is
 * outstanding already is not taken back. */
void blkload_limit(struct blkload *load, uint32_t outstanding);

/* Submits until every queue is at its depth, waits up to timeout_ns for a call, takes what has
 * completed.  Returns completions (0: timed out, every queue is armed and asleep: a caller with
 * descriptors of its own to wait for may now poll those and fd_call of the rings), or -errno of
 * poll.  After completions submission is left to the next step: step until it returns 0 before
 * sleeping elsewhere. */
int blkload_step(struct blkload *load, uint64_t timeout_ns);

/* The halves of a step, for a device that runs in the same thread.  blkload_fill() returns requests
 * submitted; blkload_reap() waits and takes completions as blkload_step() does. */
uint32_t blkload_fill(struct blkload *load);
int blkload_reap(struct blkload *load, uint64_t timeout_ns);

/* Stops submission and steps until nothing is outstanding or timeout_ns have passed.  What is left
 * then is lost: 0, or -ETIMEDOUT.  blkload_resume() lets the next step submit again. */
int blkload_drain(struct blkload *load, uint64_t timeout_ns);
void blkload_resume(struct blkload *load);

/* After a drain: reads the whole range through the device and compares every block; leaves the load
 * drained.  0: read (what was wrong is in the stats); -ETIMEDOUT: no completion for timeout_ns,
 * what is outstanding counts as lost; -EBUSY: not drained. */
int blkload_verify(struct blkload *load, uint64_t timeout_ns);
/* The same with pread on the image file. 0; -EIO: short; -errno of pread; -EBUSY. */
int blkload_verify_image(struct blkload *load, int fd);

/* The counters of the load and its rings as they stand. */
void blkload_stats(const struct blkload *load, struct blkload_stats *stats);
/* True when nothing is lost, duplicated, corrupted or answered with an error. */
bool blkload_clean(const struct blkload *load);
/* The last complaint of the load or of one of its rings; "" when there is none. */
const char *blkload_complaint(const struct blkload *load);
/* Requests completed so far; from any thread. */
uint64_t blkload_completed(const struct blkload *load);
/* pause_us of API.md, in ns: gaps_longest() on the completions of all queues together (to see one
 * queue's pause while others run on, give it a load of its own); from any thread. */
int blkload_pause(const struct blkload *load, uint64_t t0, uint64_t t1, uint64_t *pause_ns);

#endif
