/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets in whole numbers.
 *
 * A refill grants floor(elapsed * size / period) tokens and moves last_ns on by the time that these
 * tokens took, rounded up, not to `now`: the fraction of a token that was not granted stays in the
 * clock, so a bucket that is looked at every microsecond fills as fast as one looked at once, and
 * never faster than its rate.
 *
 * elapsed * size needs 128 bits.  There is no libgcc to divide them here, and none is needed: the
 * whole periods are taken out first, so that every quotient fits 64 bits and one `div` does it.
 */
#include "devmodel/common/rate.h"

#include <linux/errno.h>
#include <linux/time.h>
#include <linux/time_types.h>

#include "devmodel/common/sys.h"

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t sat_add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t sat_mul(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* a * b / c without loss; a < c, or `div` faults. *rem: what is left over. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c, uint64_t *rem)
{
	uint64_t lo, hi, quotient;

	__asm__("mulq %3" : "=a"(lo), "=d"(hi) : "0"(a), "r"(b) : "cc");
	__asm__("divq %4" : "=a"(quotient), "=d"(*rem) : "0"(lo), "1"(hi), "r"(c) : "cc");
	return quotient;
}

static uint64_t period_ns(const struct rate_limit *limit)
{
	return limit->refill_ms * NS_PER_MS;
}

/* Tokens that `ns` bring, rounded down. */
static uint64_t tokens_in(const struct rate_limit *limit, uint64_t ns)
{
	uint64_t period = period_ns(limit);
	uint64_t rem;

	return sat_add(sat_mul(ns / period, limit->size),
		       mul_div(ns % period, limit->size, period, &rem));
}

/* Nanoseconds that `tokens` take, rounded up. */
static uint64_t time_of(const struct rate_limit *limit, uint64_t tokens)
{
	uint64_t period = period_ns(limit);
	uint64_t rem;
	uint64_t part = mul_div(tokens % limit->size, period, limit->size, &rem);

	return sat_add(sat_mul(tokens / limit->size, period), part + (rem != 0));
}

int rate_check(const struct rate_limit *limit)
{
	if (!limit->size)
		return 0;
	if (limit->size > RATE_SIZE_MAX || limit->burst > RATE_SIZE_MAX)
		return -EINVAL;
	return limit->refill_ms && limit->refill_ms <= RATE_REFILL_MS_MAX ? 0 : -EINVAL;
}

void rate_fill(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns)
{
	*b = (struct rate_bucket){ .used = 0, .burst = limit->burst, .last_ns = now_ns };
}

void rate_empty(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns)
{
	*b = (struct rate_bucket){ .used = limit->size, .burst = 0, .last_ns = now_ns };
}

void rate_restore(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns,
		  uint64_t used, uint64_t burst, uint64_t most)
{
	*b = (struct rate_bucket){
		.used = min_u64(used, limit->size + most),
		.burst = min_u64(burst, limit->burst),
		.last_ns = now_ns,
	};
}

static void refill(const struct rate_limit *limit, struct rate_bucket *b, uint64_t now_ns)
{
	uint64_t tokens;

	if (now_ns <= b->last_ns)
		return;
	tokens = tokens_in(limit, now_ns - b->last_ns);
	if (tokens >= b->used) {
		b->used = 0;
		b->last_ns = now_ns;
		return;
	}
	b->used -= tokens;
	b->last_ns += time_of(limit, tokens);
}

uint64_t rate_wait(const struct rate_limit *limit, struct rate_bucket *b, uint64_t cost,
		   uint64_t now_ns)
{
	uint64_t room, begun, wait;

	if (!rate_limited(limit))
		return 0;
	refill(limit, b, now_ns);
	if (cost <= b->burst)
		return 0;
	room = limit->size - min_u64(cost - b->burst, limit->size);
	if (b->used <= room)
		return 0;
	wait = time_of(limit, b->used - room);
	begun = now_ns > b->last_ns ? now_ns - b->last_ns : 0;
	return wait > begun ? wait - begun : 1;
}

void rate_take(const struct rate_limit *limit, struct rate_bucket *b, uint64_t cost)
{
	uint64_t from_burst = min_u64(cost, b->burst);

	if (!rate_limited(limit))
		return;
	b->burst -= from_burst;
	b->used += cost - from_burst;
}

uint64_t rate_now(void)
{
	struct __kernel_timespec ts = { 0 };

	sys_call2(__NR_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

int rate_timer_set(int fd_timer, uint64_t ns)
{
	struct __kernel_itimerspec its = { 0 };

	its.it_value.tv_sec = (int64_t)(ns / NS_PER_S);
	its.it_value.tv_nsec = ns ? (int64_t)(ns % NS_PER_S) : 1;
	return (int)sys_call4(__NR_timerfd_settime, fd_timer, 0, &its, 0);
}

void rate_timer_clear(int fd_timer)
{
	uint64_t expirations;

	sys_read(fd_timer, &expirations, sizeof(expirations));
}
