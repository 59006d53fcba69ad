/* SPDX-License-Identifier: Apache-2.0 */
/* What readers of events get, and that nobody waits for them. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "core/box/news.h"
#include "core/cc.h"

static struct news *news;

static int setup(void **state)
{
	(void)state;
	return news_create(&news);
}

static int teardown(void **state)
{
	(void)state;
	news_destroy(news);
	return 0;
}

static void post(enum news_kind kind, uint32_t number)
{
	news_post(news, &(struct news_event){ .kind = kind, .device = "d", .number = number });
}

static bool is_awake(const struct news_reader *reader)
{
	struct pollfd pfd = { .fd = news_wake_fd(reader), .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

static struct news_reader *subscribe(void)
{
	struct news_reader *reader;
	struct news_event event;
	uint64_t lost;

	assert_int_equal(news_subscribe(news, &reader), 0);
	assert_int_equal(news_take(reader, &event, &lost), 0);
	assert_false(is_awake(reader));
	return reader;
}

/* A reader gets what came after it, in order, each once. */
static void test_order(void **state)
{
	struct news_reader *first, *second;
	struct news_event event;
	uint64_t lost;

	(void)state;
	post(NEWS_SLOW, 0);
	first = subscribe();
	post(NEWS_POISONED, 1);
	second = subscribe();
	post(NEWS_POISONED, 2);
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(news_take(first, &event, &lost), 1);
		assert_int_equal(event.number, i);
		assert_int_equal(event.seq, i + 1);
		assert_true(event.t_us != 0 && event.wall_ns > 1500000000 * NS_PER_S);
	}
	assert_int_equal(news_take(first, &event, &lost), 0);
	assert_int_equal(news_take(second, &event, &lost), 1);
	assert_int_equal(event.number, 2);
	news_unsubscribe(first);
	news_unsubscribe(second);
}

/* What begins a pause wakes nobody, what ends it does. */
static void test_wake(void **state)
{
	struct news_reader *reader = subscribe();
	struct news_event event;
	uint64_t lost;

	(void)state;
	post(NEWS_SUSPECT, 0);
	assert_false(is_awake(reader));
	post(NEWS_REPLACED, 0);
	assert_true(is_awake(reader));
	assert_int_equal(news_take(reader, &event, &lost), 1);
	assert_int_equal(event.kind, NEWS_SUSPECT);
	assert_int_equal(news_take(reader, &event, &lost), 1);
	assert_int_equal(news_take(reader, &event, &lost), 0);
	assert_false(is_awake(reader));
	news_unsubscribe(reader);
}

/* One that sleeps through many is told how many, and goes on with those that are kept. */
static void test_slow_reader(void **state)
{
	struct news_reader *reader = subscribe();
	struct news_event event;
	uint64_t lost = 0;

	(void)state;
	for (uint32_t i = 0; i < NEWS_KEPT + 7; i++)
		post(NEWS_SLOW, i);
	assert_int_equal(news_take(reader, &event, &lost), -EOVERFLOW);
	assert_int_equal(lost, 7);
	for (uint32_t i = 7; i < NEWS_KEPT + 7; i++) {
		assert_int_equal(news_take(reader, &event, &lost), 1);
		assert_int_equal(event.number, i);
	}
	assert_int_equal(news_take(reader, &event, &lost), 0);
	news_unsubscribe(reader);
}

static void test_places(void **state)
{
	struct news_reader *readers[NEWS_READERS_MAX], *more;

	(void)state;
	for (int i = 0; i < NEWS_READERS_MAX; i++)
		readers[i] = subscribe();
	assert_int_equal(news_subscribe(news, &more), -EBUSY);
	news_unsubscribe(readers[3]);
	readers[3] = subscribe();
	for (int i = 0; i < NEWS_READERS_MAX; i++)
		news_unsubscribe(readers[i]);
}

static void *read_on(void *arg)
{
	struct news_reader *reader = arg;
	struct pollfd pfd = { .fd = news_wake_fd(reader), .events = POLLIN };
	struct news_event event;
	uintptr_t got = 0;
	uint64_t lost;
	int ret;

	while ((ret = news_take(reader, &event, &lost)) != -EPIPE) {
		got += ret == 1;
		if (ret == 0)
			poll(&pfd, 1, -1);
	}
	news_unsubscribe(reader);
	return (void *)got; /* NOLINT(performance-no-int-to-ptr) */
}

/* Who reads comes to it after all news; who comes later is there. */
static void test_end(void **state)
{
	struct news_reader *reader = subscribe(), *idle = subscribe();
	struct news_event event;
	pthread_t thread;
	uint64_t lost;
	void *got;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, read_on, reader), 0);
	post(NEWS_SLOW, 0);
	news_end(news);
	pthread_join(thread, &got);
	assert_int_equal((uintptr_t)got, 1);
	assert_int_equal(news_take(idle, &event, &lost), 1);
	assert_int_equal(news_take(idle, &event, &lost), -EPIPE);
	news_unsubscribe(idle);
	assert_int_equal(news_subscribe(news, &idle), 0);
	assert_true(is_awake(idle));
	assert_int_equal(news_take(idle, &event, &lost), -EPIPE);
	news_unsubscribe(idle);
}

static void test_nobody(void **state)
{
	(void)state;
	news_post(NULL, &(struct news_event){ .kind = NEWS_SLOW });
}

int main(void)
{
#define NEWS_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		NEWS_TEST(test_order),  NEWS_TEST(test_wake), NEWS_TEST(test_slow_reader),
		NEWS_TEST(test_places), NEWS_TEST(test_end),  cmocka_unit_test(test_nobody),
	};

	return cmocka_run_group_tests_name("news", tests, NULL, NULL);
}
