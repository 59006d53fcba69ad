/* SPDX-License-Identifier: Apache-2.0 */
/* core/loop.c: timers in order, removal from within callbacks, calls from other threads, stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "core/cc.h"
#include "core/loop.h"

static struct loop *loop;
static char order[64]; /* what happened, a letter each */

static int setup(void **state)
{
	(void)state;
	memset(order, 0, sizeof(order));
	return loop_create(&loop);
}

static int teardown(void **state)
{
	(void)state;
	loop_destroy(loop);
	return 0;
}

static void note(char c)
{
	const size_t n = strlen(order);

	assert_true(n + 1 < sizeof(order));
	order[n] = c;
}

/* ---- timers ---- */

struct timer {
	struct loop_timer timer;
	char name;
	uint64_t fired_ns;
	struct timer *disarms;
	bool stops;
};

static void timer_fire(struct loop_timer *t)
{
	struct timer *timer = container_of(t, struct timer, timer);

	assert_false(t->armed);
	timer->fired_ns = now_ns();
	assert_true(timer->fired_ns >= t->at_ns);
	note(timer->name);
	if (timer->disarms != NULL)
		loop_disarm(loop, &timer->disarms->timer);
	if (timer->stops)
		loop_stop(loop);
}

static struct timer timer_make(char name)
{
	return (struct timer){ .timer = { .fire = timer_fire }, .name = name };
}

static void test_timers_in_order(void **state)
{
	const uint64_t at = now_ns() + 2 * NS_PER_MS;
	struct timer a = timer_make('a'), b = timer_make('b'), c = timer_make('c'),
		     d = timer_make('d');

	(void)state;
	d.stops = true;
	loop_arm(loop, &c.timer, at + NS_PER_MS);
	loop_arm(loop, &a.timer, at);
	loop_arm(loop, &d.timer, at + 2 * NS_PER_MS);
	loop_arm(loop, &b.timer, at); /* as a: the one armed first is first */
	loop_run(loop);
	assert_string_equal(order, "abcd");
}

static void test_timer_moves(void **state)
{
	const uint64_t now = now_ns();
	struct timer a = timer_make('a'), b = timer_make('b'), c = timer_make('c');

	(void)state;
	c.stops = true;
	loop_arm(loop, &a.timer, now + NS_PER_MS);
	loop_arm(loop, &b.timer, now + 2 * NS_PER_MS);
	loop_arm(loop, &c.timer, now + 4 * NS_PER_MS);
	loop_arm(loop, &a.timer, now + 3 * NS_PER_MS); /* armed already: moved */
	loop_run(loop);
	assert_string_equal(order, "bac");
}

/* Two that are due at once: the first takes the second away. */
static void test_timer_disarmed_by_another(void **state)
{
	const uint64_t at = now_ns();
	struct timer a = timer_make('a'), b = timer_make('b'), c = timer_make('c');

	(void)state;
	a.disarms = &b;
	c.stops = true;
	loop_arm(loop, &a.timer, at);
	loop_arm(loop, &b.timer, at);
	loop_arm(loop, &c.timer, at);
	loop_disarm(loop, &c.timer);
	loop_disarm(loop, &c.timer); /* twice is nothing */
	loop_arm(loop, &c.timer, at);
	loop_run(loop);
	assert_string_equal(order, "ac");
	assert_false(b.timer.armed);
}

struct greedy {
	struct loop_timer timer;
	struct loop_source source;
	int fd;
	uint32_t fired;
};

static void greedy_fire(struct loop_timer *t)
{
	struct greedy *g = container_of(t, struct greedy, timer);
	const uint64_t one = 1;

	if (g->fired++ == 0)
		assert_int_equal(write(g->fd, &one, sizeof(one)), sizeof(one));
	loop_arm(loop, t, 1); /* long past */
}

static void greedy_ready(struct loop_source *source, uint32_t events)
{
	assert_int_equal(events, EPOLLIN);
	loop_disarm(loop, &container_of(source, struct greedy, source)->timer);
	loop_stop(loop);
}

/* A timer that is always due leaves the descriptors their turn. */
static void test_timer_does_not_starve(void **state)
{
	struct greedy g = { .timer = { .fire = greedy_fire },
			    .source = { greedy_ready, -1 },
			    .fd = eventfd(0, EFD_NONBLOCK) };

	(void)state;
	assert_int_equal(loop_add(loop, &g.source, g.fd, EPOLLIN), 0);
	loop_arm(loop, &g.timer, 1);
	loop_run(loop);
	assert_true(g.fired > 0);
	loop_remove(loop, &g.source);
	close(g.fd);
}

/* ---- sources ---- */

struct source {
	struct loop_source source;
	int fd;
	char name;
	struct source **removes; /* and frees */
};

static struct source *source_make(char name, bool ready)
{
	struct source *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	*s = (struct source){ .source = { NULL, -1 },
			      .fd = eventfd(ready, EFD_NONBLOCK),
			      .name = name };
	return s;
}

static void source_drop(struct source **s)
{
	if (*s == NULL)
		return;
	loop_remove(loop, &(*s)->source);
	loop_remove(loop, &(*s)->source); /* twice is nothing */
	assert_int_equal((*s)->source.fd, -1);
	close((*s)->fd);
	free(*s);
	*s = NULL;
}

static void source_ready(struct loop_source *source, uint32_t events)
{
	struct source *s = container_of(source, struct source, source);
	struct source **removes = s->removes;

	assert_true((events & EPOLLIN) != 0);
	note(s->name);
	source_drop(removes);
	loop_stop(loop);
}

/* Both are ready in one round; whichever is first frees the other. */
static void test_source_removed_by_another(void **state)
{
	struct source *a = source_make('a', true), *b = source_make('b', true);

	(void)state;
	a->removes = &b;
	b->removes = &a;
	a->source.ready = b->source.ready = source_ready;
	assert_int_equal(loop_add(loop, &a->source, a->fd, EPOLLIN), 0);
	assert_int_equal(loop_add(loop, &b->source, b->fd, EPOLLIN), 0);
	loop_run(loop);
	assert_int_equal(strlen(order), 1);
	assert_true((a == NULL) != (b == NULL));
	source_drop(&a);
	source_drop(&b);
}

static void test_source_removes_itself(void **state)
{
	struct source *a = source_make('a', true);

	(void)state;
	a->removes = &a;
	a->source.ready = source_ready;
	assert_int_equal(loop_add(loop, &a->source, a->fd, EPOLLIN), 0);
	loop_run(loop);
	assert_string_equal(order, "a");
	assert_null(a);
}

static void test_source_errors(void **state)
{
	struct source *a = source_make('a', false);

	(void)state;
	assert_int_equal(loop_add(loop, &a->source, -1, EPOLLIN), -EBADF);
	assert_int_equal(a->source.fd, -1);
	assert_int_equal(loop_add(loop, &a->source, a->fd, EPOLLIN), 0);
	struct loop_source again = { NULL, -1 };

	assert_int_equal(loop_add(loop, &again, a->fd, EPOLLIN), -EEXIST);
	source_drop(&a);
}

/* ---- calls ---- */

#define CALLERS 4
#define CALLS 2000

static struct {
	pthread_t loop_thread;
	uint32_t count; /* on the loop thread only */
} calls;

static void *run_loop(void *arg)
{
	(void)arg;
	loop_run(loop);
	return NULL;
}

static void call_nested(void *arg)
{
	++*(uint32_t *)arg;
}

static void call_count(void *arg)
{
	uint32_t *own = arg;
	const uint32_t before = *own;

	assert_true(pthread_equal(pthread_self(), calls.loop_thread));
	calls.count++;
	loop_call(loop, call_nested, own); /* from the loop's thread: at once */
	assert_int_equal(*own, before + 1);
}

static void *caller(void *arg)
{
	uint32_t own = 0;

	(void)arg;
	for (uint32_t i = 0; i < CALLS; i++) {
		loop_call(loop, call_count, &own);
		assert_int_equal(own, i + 1);
	}
	return NULL;
}

static void test_calls_from_threads(void **state)
{
	pthread_t threads[CALLERS];

	(void)state;
	calls.count = 0;
	assert_int_equal(pthread_create(&calls.loop_thread, NULL, run_loop, NULL), 0);
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, caller, NULL), 0);
	for (int i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	loop_stop(loop);
	pthread_join(calls.loop_thread, NULL);
	assert_int_equal(calls.count, CALLERS * CALLS);
}

static void call_stop(void *arg)
{
	*(bool *)arg = true;
	loop_stop(loop);
}

static void *caller_stops(void *arg)
{
	loop_call(loop, call_stop, arg);
	return NULL;
}

/* The call may come before the loop runs: it waits for it. */
static void test_call_before_run(void **state)
{
	pthread_t thread;
	bool called = false;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, caller_stops, &called), 0);
	loop_run(loop);
	pthread_join(thread, NULL);
	assert_true(called);
}

static void test_stop_before_run(void **state)
{
	(void)state;
	loop_stop(loop);
	loop_run(loop); /* returns */
}

/* ---- posts ---- */

static void post_note(void *arg)
{
	note(*(const char *)arg);
}

static void post_stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void test_posts_in_order(void **state)
{
	(void)state;
	loop_post(loop, post_note, "a");
	loop_post(loop, post_note, "b");
	loop_post(loop, post_stop, NULL);
	loop_post(loop, post_note, "c");
	loop_run(loop);
	assert_string_equal(order, "abc");
	loop_post(loop, post_note, "d"); /* never runs, and is not leaked */
}

static uint32_t posted;

static void post_again(void *arg)
{
	posted++;
	loop_post(loop, post_again, arg);
}

/* Mail that posts mail leaves timers and descriptors their turn. */
static void test_post_does_not_starve(void **state)
{
	struct timer t = timer_make('t');

	(void)state;
	t.stops = true;
	posted = 0;
	loop_arm(loop, &t.timer, now_ns() + NS_PER_MS);
	loop_post(loop, post_again, NULL);
	loop_run(loop);
	assert_string_equal(order, "t");
	assert_true(posted > 1);
}

int main(void)
{
#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_timers_in_order),
		LOOP_TEST(test_timer_moves),
		LOOP_TEST(test_timer_disarmed_by_another),
		LOOP_TEST(test_timer_does_not_starve),
		LOOP_TEST(test_source_removed_by_another),
		LOOP_TEST(test_source_removes_itself),
		LOOP_TEST(test_source_errors),
		LOOP_TEST(test_calls_from_threads),
		LOOP_TEST(test_call_before_run),
		LOOP_TEST(test_stop_before_run),
		LOOP_TEST(test_posts_in_order),
		LOOP_TEST(test_post_does_not_starve),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
