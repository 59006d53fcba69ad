/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one histogram of all benchmarks: log-linear buckets over nanoseconds, 0 to HIST_MAX_NS, with
 * a relative error of at most 1 % (below 128 ns it is exact).  Fixed size, no allocation; a
 * zero-initialised struct is an empty histogram.  Not thread-safe: one a thread, then hist_merge().
 */
#ifndef MAYFLY_BENCH_HIST_H
#define MAYFLY_BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 7  /* 128 buckets an octave: 0.8 % wide */
#define HIST_TOP_BITS 37 /* 2^37 ns = 137 s */
#define HIST_BUCKETS ((HIST_TOP_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS)
#define HIST_MAX_NS 100000000000u /* 100 s: the range that the error bound is promised for */

struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t min; /* exact; 0 when empty */
	uint64_t max; /* exact, also beyond the range */
	uint64_t buckets[HIST_BUCKETS];
};

void hist_clear(struct hist *hist);

/* Values beyond the range count in the last bucket; max stays exact. */
void hist_add(struct hist *hist, uint64_t ns);

void hist_merge(struct hist *into, const struct hist *from);

/* The value below or at which the fraction q (0 to 1) of all values lies, by nearest rank: q 0 is
 * the minimum, q 1 the exact maximum.  An empty histogram gives 0. */
uint64_t hist_percentile(const struct hist *hist, double q);

double hist_mean(const struct hist *hist);

#endif
