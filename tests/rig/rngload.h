/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-entropy workload (virtio 1.2 section 5.4): keeps `depth` buffers outstanding on one
 * queue and judges what comes back.  Random bytes cannot be compared with anything, so what is
 * checked is what can be: at least one byte was written, none past the length that the device says,
 * the buffer does not still hold what was there before, and no two answers begin alike.
 * One thread a load.
 */
#ifndef MAYFLY_RIG_RNGLOAD_H
#define MAYFLY_RIG_RNGLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/rig/complaints.h"
#include "tests/rig/gaps.h"
#include "tests/rig/guestmem.h"
#include "tests/rig/ringdrv.h"

#define RNGLOAD_BYTES_MIN 16 /* fewer, and honest answers would be alike now and then */
#define RNGLOAD_BYTES_MAX 65536

struct rngload_stats {
	uint64_t issued;
	uint64_t completed;
	uint64_t bytes;
	uint64_t lost;       /* outstanding when rngload_drain() gave up, and lost calls */
	uint64_t duplicated; /* answered twice */
	uint64_t corrupted;  /* wrong length, bytes past it, stale or repeated content */
};

struct rngload {
	struct guestmem *mem;
	struct ringdrv_queue *ring;
	uint64_t buffers_gpa;
	uint8_t *buffers;
	uint16_t *free; /* stack of buffer numbers */
	uint16_t free_count;
	uint16_t depth;
	uint32_t bytes;     /* of a buffer */
	uint64_t last_word; /* how the last answer began */
	struct gaps gaps;
	struct rngload_stats stats; /* this side's share: use rngload_stats() */
	struct complaints complaints;
};

/* `bytes` each request.  The ring must outlive the load.  0, -EINVAL or -ENOMEM. */
int rngload_init(struct rngload *load, struct guestmem *mem, struct ringdrv_queue *ring,
		 uint16_t depth, uint32_t bytes);
/* May be called twice. */
void rngload_free(struct rngload *load);

/* Submits up to the depth; requests submitted. */
uint32_t rngload_fill(struct rngload *load);
/* Waits up to timeout_ns for a call and takes completions: their number, 0: timed out; -errno. */
int rngload_reap(struct rngload *load, uint64_t timeout_ns);
/* Both. */
int rngload_step(struct rngload *load, uint64_t timeout_ns);
/* Reaps until nothing is outstanding.  0, or -ETIMEDOUT: what is left counts as lost. */
int rngload_drain(struct rngload *load, uint64_t timeout_ns);

void rngload_stats(const struct rngload *load, struct rngload_stats *stats);
/* True when nothing is lost, duplicated or corrupted. */
bool rngload_clean(const struct rngload *load);

#endif
