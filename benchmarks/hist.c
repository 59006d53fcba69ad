/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A value v >= 128 with its top bit at position t falls into octave t, which
 * is cut into 128 equal buckets by the 7 bits below the top one; values below 128 have a bucket
 * each.  Index and bucket edge are a shift and a mask.  A percentile reports the middle of its
 * bucket, at most 0.4 % from any value in it, pulled into [min, max], which are exact.
 */
#include "benchmarks/hist.h"

#include <string.h>

#define HIST_SUB (1u << HIST_SUB_BITS)

static uint32_t bucket_of(uint64_t ns)
{
	if (ns < HIST_SUB)
		return (uint32_t)ns;
	if (ns >> HIST_TOP_BITS)
		return HIST_BUCKETS - 1;

	uint32_t shift = 63u - (uint32_t)__builtin_clzll(ns) - HIST_SUB_BITS;

	return (shift << HIST_SUB_BITS) + (uint32_t)(ns >> shift);
}

static uint64_t bucket_middle(uint32_t bucket)
{
	if (bucket < HIST_SUB)
		return bucket;

	uint32_t shift = (bucket >> HIST_SUB_BITS) - 1;
	uint64_t low = (uint64_t)(HIST_SUB + (bucket & (HIST_SUB - 1))) << shift;

	return low + ((1ull << shift) >> 1);
}

void hist_clear(struct hist *hist)
{
	memset(hist, 0, sizeof(*hist));
}

void hist_add(struct hist *hist, uint64_t ns)
{
	if (hist->count == 0 || ns < hist->min)
		hist->min = ns;
	if (ns > hist->max)
		hist->max = ns;
	hist->count++;
	hist->sum += ns;
	hist->buckets[bucket_of(ns)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	if (from->count == 0)
		return;
	if (into->count == 0 || from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	into->count += from->count;
	into->sum += from->sum;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
	return value < low ? low : value > high ? high : value;
}

uint64_t hist_percentile(const struct hist *hist, double q)
{
	uint64_t seen = 0;

	if (!(q > 0.0)) /* and NaN */
		return hist->min;
	if (q >= 1.0)
		return hist->max;

	double exact = q * (double)hist->count;
	uint64_t rank = (uint64_t)exact;

	if ((double)rank < exact) /* ceil() would need libm */
		rank++;
	if (rank >= hist->count)
		return hist->max;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		seen += hist->buckets[i];
		if (seen >= rank)
			return clamp(bucket_middle(i), hist->min, hist->max);
	}
	return hist->max;
}

double hist_mean(const struct hist *hist)
{
	return hist->count ? (double)hist->sum / (double)hist->count : 0.0;
}
