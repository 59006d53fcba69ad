/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets for the limits of abi/config.h.  Nothing here keeps time: each call is told what
 * time it is (CLOCK_MONOTONIC, nanoseconds), so all but the two calls at the end are pure.
 *
 * A bucket counts what was *used*, not what is left: 0 is full, limit->size is empty, more than
 * that is debt.  A request passes when what it needs is there, or when it needs more than a whole
 * bucket and the bucket is full; it then leaves a debt that later refills pay first.  So the mean
 * rate holds for requests of any size, and none waits for ever.
 */
#ifndef MAYFLY_DEVMODEL_COMMON_RATE_H
#define MAYFLY_DEVMODEL_COMMON_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/config.h"

#define RATE_SIZE_MAX (1ull << 62)      /* tokens; no sum of two levels overflows */
#define RATE_REFILL_MS_MAX (1ull << 40) /* in nanoseconds still a uint64_t */

struct rate_bucket {
	uint64_t used;
	uint64_t burst; /* what is left of limit->burst, spent before the bucket, never refilled */
	uint64_t last_ns; /* refilled up to here */
};

/* The state of a bucket that a successor is given: class `data`, a kind's state.h has a line for
 * each of its buckets.  Any value in range is harmless, for rate_restore() clamps it: the worst
 * that a hostile predecessor can leave is a full bucket, or one that is empty for one request's
 * time. */
#define RATE_FIELDS(U, bucket)                                                                     \
	U(u64, bucket##_used, 0, INT64_MAX, 1, "tokens taken and not yet refilled")                \
	U(u64, bucket##_burst, 0, INT64_MAX, 1, "what is left of the burst")

/* 0, or -EINVAL: the operator's numbers make no limit. */
int rate_check(const struct rate_limit *limit);

static inline bool rate_limited(const struct rate_limit *limit)
{
	return limit->size != 0;
}

/* The three ways to start: as configured, with nothing, or as a predecessor left it.  most: the
 * greatest cost of one request. */
void rate_fill(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns);
void rate_empty(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns);
void rate_restore(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns,
		  uint64_t used, uint64_t burst, uint64_t most);

/* Refills; then 0: a request of `cost` tokens (at most 2^62) may pass now; else the nanoseconds
 * until it may.  Takes nothing. */
uint64_t rate_wait(const struct rate_limit *limit, struct rate_bucket *b, uint64_t cost,
		   uint64_t now_ns);

/* Takes the tokens of a request that passes. */
void rate_take(const struct rate_limit *limit, struct rate_bucket *b, uint64_t cost);

/* CLOCK_MONOTONIC by system call: a sandbox has no vdso. */
uint64_t rate_now(void);

/* One shot, relative; ns 0 counts as 1, for 0 would disarm. 0 or -errno. */
int rate_timer_set(int fd_timer, uint64_t ns);

/* Takes note that the timer fired. Never blocks. */
void rate_timer_clear(int fd_timer);

#endif
