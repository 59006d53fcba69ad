/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A ring of times with one writer.  A reader walks backwards from the newest
 * time until it is at or before t0, and remembers the longest step that touches the window.  Then
 * it looks at `count` again: when the writer may have come round to what was read, the answer is
 * ENODATA.
 */
#include "tests/rig/gaps.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define GAPS_DEFAULT 65536u

int gaps_init(struct gaps *gaps, uint32_t size)
{
	uint64_t rounded = 2;

	if (size > 1u << 26)
		return -EINVAL;
	while (rounded < (size ? size : GAPS_DEFAULT))
		rounded *= 2;
	*gaps = (struct gaps){ .times = calloc(rounded, sizeof(uint64_t)), .size = rounded };
	return gaps->times ? 0 : -ENOMEM;
}

void gaps_free(struct gaps *gaps)
{
	free(gaps->times);
	*gaps = (struct gaps){ 0 };
}

static uint64_t time_at(const struct gaps *gaps, uint64_t i)
{
	return __atomic_load_n(&gaps->times[i & (gaps->size - 1)], __ATOMIC_RELAXED);
}

/* cut: the first gap counts from t0. */
static int longest(const struct gaps *gaps, uint64_t t0, uint64_t t1, bool cut, uint64_t *gap_ns)
{
	uint64_t count = __atomic_load_n(&gaps->count, __ATOMIC_ACQUIRE);
	/* One less than the size: the writer may be at work on the oldest. */
	uint64_t oldest = count >= gaps->size ? count - gaps->size + 1 : 0;
	uint64_t end = t1, most = 0, i = count;
	bool reached = false;

	if (t1 < t0)
		return -EINVAL;
	while (i > oldest && !reached) {
		const uint64_t at = time_at(gaps, --i);
		const uint64_t begin = cut && at < t0 ? t0 : at;

		if (begin < t1 && end > begin && end - begin > most)
			most = end - begin;
		reached = at <= t0;
		end = begin;
	}
	if (!reached && oldest > 0)
		return -ENODATA;
	if (!reached && end - t0 > most) /* before the first completion ever */
		most = end - t0;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&gaps->count, __ATOMIC_RELAXED) >= i + gaps->size)
		return -ENODATA;
	*gap_ns = most;
	return 0;
}

int gaps_longest(const struct gaps *gaps, uint64_t t0, uint64_t t1, uint64_t *gap_ns)
{
	return longest(gaps, t0, t1, false, gap_ns);
}

int gaps_longest_from(const struct gaps *gaps, uint64_t t0, uint64_t t1, uint64_t *gap_ns)
{
	return longest(gaps, t0, t1, true, gap_ns);
}
