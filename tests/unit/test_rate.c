/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/common/rate.c, mostly against exact arithmetic in 128 bits: over any stretch of time no
 * more passes than the bucket and its rate allow, and after the wait that was named a request
 * passes.
 */
#include "devmodel/common/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

__extension__ typedef unsigned __int128 wide;

#define MS 1000000ull
#define NOW (1ull << 40)

static void test_check(void **state)
{
	(void)state;
	assert_int_equal(rate_check(&(struct rate_limit){ 0, 0, 0 }), 0);
	assert_int_equal(rate_check(&(struct rate_limit){ 0, 1, 0 }), 0);
	assert_int_equal(rate_check(&(struct rate_limit){ 1, 0, 1 }), 0);
	assert_int_equal(rate_check(&(struct rate_limit){ 1, 0, 0 }), -EINVAL);
	assert_int_equal(rate_check(&(struct rate_limit){ RATE_SIZE_MAX, RATE_SIZE_MAX,
							  RATE_REFILL_MS_MAX }),
			 0);
	assert_int_equal(rate_check(&(struct rate_limit){ RATE_SIZE_MAX + 1, 0, 1 }), -EINVAL);
	assert_int_equal(rate_check(&(struct rate_limit){ 1, RATE_SIZE_MAX + 1, 1 }), -EINVAL);
	assert_int_equal(rate_check(&(struct rate_limit){ 1, 0, RATE_REFILL_MS_MAX + 1 }), -EINVAL);
}

static void test_no_limit(void **state)
{
	const struct rate_limit limit = { 0 };
	struct rate_bucket b = { 0 };

	(void)state;
	assert_true(rate_wait(&limit, &b, UINT64_MAX >> 2, NOW) == 0);
	rate_take(&limit, &b, UINT64_MAX >> 2);
	assert_true(rate_wait(&limit, &b, UINT64_MAX >> 2, NOW) == 0);
}

static void test_burst_then_bucket(void **state)
{
	const struct rate_limit limit = { .size = 10, .burst = 5, .refill_ms = 10 };
	struct rate_bucket b;

	(void)state;
	rate_fill(&limit, &b, NOW);
	for (int i = 0; i < 15; i++) {
		assert_true(rate_wait(&limit, &b, 1, NOW) == 0);
		rate_take(&limit, &b, 1);
	}
	assert_true(rate_wait(&limit, &b, 1, NOW) == MS);
	assert_true(rate_wait(&limit, &b, 1, NOW + MS - 1) == 1);
	assert_true(rate_wait(&limit, &b, 1, NOW + MS) == 0);
	assert_true(rate_wait(&limit, &b, 2, NOW + MS) == MS);
	/* The burst does not come back, and the bucket holds its size and no more. */
	assert_true(rate_wait(&limit, &b, 10, NOW + 1000 * MS) == 0);
	rate_take(&limit, &b, 10);
	assert_true(rate_wait(&limit, &b, 1, NOW + 1000 * MS) == MS);
	/* A clock that stands still or steps back gives nothing and takes nothing. */
	assert_true(rate_wait(&limit, &b, 1, NOW) == MS);
	assert_true(b.used == 10);
}

static void test_larger_than_the_bucket(void **state)
{
	const struct rate_limit limit = { .size = 100, .burst = 0, .refill_ms = 100 };
	struct rate_bucket b;

	(void)state;
	rate_fill(&limit, &b, NOW);
	assert_true(rate_wait(&limit, &b, 1000, NOW) == 0); /* full: it passes */
	rate_take(&limit, &b, 1000);
	assert_true(rate_wait(&limit, &b, 1, NOW) == 901 * MS); /* and the debt is paid first */
	assert_true(rate_wait(&limit, &b, 1000, NOW) == 1000 * MS);
	assert_true(rate_wait(&limit, &b, 1, NOW + 901 * MS) == 0);
	rate_take(&limit, &b, 1);
	assert_true(rate_wait(&limit, &b, 1000, NOW + 901 * MS) == 100 * MS); /* not full */
	assert_true(rate_wait(&limit, &b, 1000, NOW + 1001 * MS) == 0);
}

static void test_starts(void **state)
{
	const struct rate_limit limit = { .size = 8, .burst = 4, .refill_ms = 8 };
	struct rate_bucket b;

	(void)state;
	rate_empty(&limit, &b, NOW);
	assert_true(rate_wait(&limit, &b, 1, NOW) == MS);
	rate_restore(&limit, &b, NOW, 3, 2, 100);
	assert_true(b.used == 3 && b.burst == 2 && b.last_ns == NOW);
	assert_true(rate_wait(&limit, &b, 7, NOW) == 0);
	assert_true(rate_wait(&limit, &b, 8, NOW) == MS);
	/* Whatever a predecessor left: no burst that was not configured, no wait without end. */
	rate_restore(&limit, &b, NOW, UINT64_MAX, UINT64_MAX, 100);
	assert_true(b.used == 108 && b.burst == 4);
	assert_true(rate_wait(&limit, &b, 5, NOW) == 101 * MS);
}

static uint64_t random_below(uint64_t n)
{
	uint64_t r = (uint64_t)random() << 62 ^ (uint64_t)random() << 31 ^ (uint64_t)random();

	return n ? r % n : 0;
}

/* A number of any magnitude up to 2^bits. */
static uint64_t random_size(unsigned int bits)
{
	return random_below((1ull << random_below(bits + 1)) + 1);
}

/* Tokens that pass in `ns` at most: what the bucket and burst held, and what came in. */
static wide allowance(const struct rate_limit *limit, uint64_t ns)
{
	return (wide)limit->size + limit->burst + (wide)ns * limit->size / (limit->refill_ms * MS);
}

/* One bucket, looked at at random times; each request waits as it is told, or comes early. */
static void run_random(void)
{
	const struct rate_limit limit = { .size = 1 + random_size(61),
					  .burst = random_size(61),
					  .refill_ms = 1 + random_size(30) };
	uint64_t now = NOW, most = 0;
	struct rate_bucket b;
	wide taken = 0;

	assert_int_equal(rate_check(&limit), 0);
	rate_fill(&limit, &b, now);
	for (int i = 0; i < 300; i++) {
		uint64_t cost = random_below(4) ? random_size(25) : random_below(limit.size + 1);
		uint64_t wait = rate_wait(&limit, &b, cost, now);

		if (wait > UINT64_MAX / 4 - now)
			return; /* longer than the clock runs */
		if (wait > 1) {
			struct rate_bucket early = b;
			uint64_t left = rate_wait(&limit, &early, cost, now + wait / 2);

			assert_true(left && left <= wait - wait / 2 + 1);
		}
		now += wait;
		assert_true(rate_wait(&limit, &b, cost, now) == 0);
		rate_take(&limit, &b, cost);
		most = cost > most ? cost : most;
		taken += cost;
		/* A request larger than the bucket may be ahead of its tokens, once. */
		assert_true(taken <= allowance(&limit, now - NOW) + most);
		now += random_size(40);
	}
}

static void test_random(void **state)
{
	(void)state;
	srandom(1);
	for (int i = 0; i < 3000; i++)
		run_random();
}

/* A device that asks again and again, a microsecond apart, gets the rate: no fraction is lost. */
static void test_frequent_looks(void **state)
{
	const struct rate_limit limits[] = {
		{ .size = 7, .refill_ms = 1 },
		{ .size = 1000003, .refill_ms = 997 },
		{ .size = 999999999, .refill_ms = 1000 },
		{ .size = 12345678901, .refill_ms = 1000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const struct rate_limit *l = &limits[i];
		uint64_t cost = l->size / 1000000 + 1, taken = 0, now = NOW;
		wide due;
		struct rate_bucket b;

		rate_empty(l, &b, now);
		for (; now < NOW + 1000 * MS; now += 1009) {
			while (rate_wait(l, &b, cost, now) == 0) {
				rate_take(l, &b, cost);
				taken += cost;
			}
		}
		due = allowance(l, now - NOW) - l->size;
		assert_true(taken <= due);
		assert_true(taken >= due - due / 500 - 2 * cost);
	}
}

static void test_timer(void **state)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t before = rate_now();

	(void)state;
	rate_timer_clear(fd); /* not fired: does not block */
	assert_int_equal(rate_timer_set(fd, 20 * MS), 0);
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_true(rate_now() - before >= 20 * MS);
	rate_timer_clear(fd);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(rate_timer_set(fd, 0), 0); /* fires, does not disarm */
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(rate_timer_set(fd, UINT64_MAX), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(rate_timer_set(-1, 1), -EBADF);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_burst_then_bucket),
		cmocka_unit_test(test_larger_than_the_bucket),
		cmocka_unit_test(test_starts),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_frequent_looks),
		cmocka_unit_test(test_timer),
	};

	return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
