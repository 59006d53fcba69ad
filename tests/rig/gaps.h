/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The longest gap between completions: what API.md calls pause_us.  One thread records the times
 * (CLOCK_MONOTONIC, ns) at which it saw completions; any thread may ask about a window of them.
 * Only the last `size` times are kept; a window that reaches further back is refused, not guessed.
 */
#ifndef MAYFLY_RIG_GAPS_H
#define MAYFLY_RIG_GAPS_H

#include <stdint.h>
#include <time.h>

struct gaps {
	uint64_t *times;
	uint64_t size;  /* a power of two */
	uint64_t count; /* recorded so far; the next goes to times[count % size] */
};

/* CLOCK_MONOTONIC in ns. */
static inline uint64_t gaps_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Room for `size` times, rounded up to a power of two (0: 65536).  0, -EINVAL or -ENOMEM. */
int gaps_init(struct gaps *gaps, uint32_t size);
void gaps_free(struct gaps *gaps);

/* Records one time; times never go back.  Times are recorded when a batch of completions is first
 * seen, so completions of one batch have a gap of 0 between them. */
static inline void gaps_record(struct gaps *gaps, uint64_t ns)
{
	uint64_t count = gaps->count; /* only this thread writes it */

	__atomic_store_n(&gaps->times[count & (gaps->size - 1)], ns, __ATOMIC_RELAXED);
	__atomic_store_n(&gaps->count, count + 1, __ATOMIC_RELEASE);
}

/* The longest gap that lies at least partly in [t0, t1], whole, not cut at the window's edges: from
 * the last completion at or before t0 to the first at or after t1.  Where no completion has come
 * since, the gap ends at t1; before the first one ever, it begins at t0.  0, -EINVAL (t1 < t0), or
 * -ENODATA: the window is no longer covered by the times that are kept. */
int gaps_longest(const struct gaps *gaps, uint64_t t0, uint64_t t1, uint64_t *gap_ns);
/* The same, but the first gap begins at t0: for a window that begins in a gap by design. */
int gaps_longest_from(const struct gaps *gaps, uint64_t t0, uint64_t t1, uint64_t *gap_ns);

#endif
