/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/errand.c: what a box may ask for, how often, and when it is answered.  On a real socket and a
 * loop that does not run; the reports are given as channel.c would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define SPENT_NS (3 * NS_PER_MS)

static struct supervisor sup;
static struct device dev = { .sup = &sup };
static struct generation *gen;
static struct state_page page;
static int other; /* the box's end */

static struct {
	uint64_t gpa;
	uint32_t pages, releases;
	uint32_t tag, stats;
	uint64_t value;
	int ret;       /* what the hooks say */
	uint64_t busy; /* how long they take, ns */
} seen;

static int on_release(void *ctx, const struct box_memory *memory, uint64_t gpa, uint32_t pages)
{
	const uint64_t end = now_ns() + seen.busy;

	assert_ptr_equal(ctx, &seen);
	assert_ptr_equal(memory, &sup.memory);
	seen.gpa = gpa;
	seen.pages = pages;
	seen.releases++;
	while (now_ns() < end)
		;
	return seen.ret;
}

static int on_stat(void *ctx, uint32_t tag, uint64_t value)
{
	assert_ptr_equal(ctx, &seen);
	seen.tag = tag;
	seen.value = value;
	seen.stats++;
	return seen.ret;
}

static const struct device_hooks hooks = { .release = on_release, .stat = on_stat };

static struct box *the_box(void)
{
	return &gen->boxes[0];
}

static int setup(void **state)
{
	int pair[2];

	(void)state;
	memset(&seen, 0, sizeof(seen));
	gen = calloc(1, sizeof(*gen) + sizeof(gen->boxes[0]));
	if (gen == NULL || loop_create(&sup.loop) != 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -1;
	dev.spec.hooks = &hooks;
	dev.spec.ctx = &seen;
	sup.memory.map.epoch = 3;
	gen->dev = &dev;
	gen->lanes = 1;
	gen->epoch = 3;
	box_init(the_box(), gen, 0);
	the_box()->control = pair[0];
	the_box()->page = &page;
	the_box()->state = BOX_ACTIVE;
	other = pair[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	loop_disarm(sup.loop, &the_box()->errands.answer);
	loop_destroy(sup.loop);
	cc_close(&the_box()->control);
	cc_close(&other);
	free(gen);
	return 0;
}

static int say(uint32_t type, uint32_t value, uint64_t detail)
{
	return errand_do(the_box(), &(struct box_report){ type, value, detail });
}

/* The timer of the ANSWER, as the loop would. */
static void fire(void)
{
	struct loop_timer *timer = &the_box()->errands.answer;

	assert_true(timer->armed);
	loop_disarm(sup.loop, timer);
	timer->fire(timer);
}

static bool nothing_sent(void)
{
	int unread = -1;

	assert_int_equal(ioctl(the_box()->control, SIOCOUTQ, &unread), 0);
	return unread == 0;
}

static struct ctl_answer hear_answer(void)
{
	struct ctl_answer answer;

	assert_int_equal(recv(other, &answer, sizeof(answer), MSG_DONTWAIT), sizeof(answer));
	assert_int_equal(answer.header.type, CTL_ANSWER);
	return answer;
}

/* ---- releases, answers ---- */

static void test_release(void **state)
{
	(void)state;
	assert_int_equal(say(REPORT_RELEASE, 7, 0x123000), 0);
	assert_int_equal(seen.releases, 1);
	assert_int_equal(seen.gpa, 0x123000);
	assert_int_equal(seen.pages, 7);
	seen.ret = -EPROTO; /* what the owner says of it counts */
	assert_int_equal(say(REPORT_RELEASE, 7, 0x123001), -EPROTO);
}

/* A box of an earlier epoch does not know what has gone since. */
static void test_release_of_an_earlier_epoch(void **state)
{
	(void)state;
	gen->epoch = 2;
	seen.ret = -EPROTO;
	assert_int_equal(say(REPORT_RELEASE, 1, 0x5000), 0);
}

static void test_answer_comes_after(void **state)
{
	(void)state;
	assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), 0);
	assert_int_equal(say(REPORT_SYNC, 42, 0), 0);
	assert_true(nothing_sent());
	const uint32_t bell = page.bell;

	fire();
	assert_int_equal(hear_answer().header.value, 42);
	assert_int_equal(page.bell, bell + 1);
	assert_false(the_box()->errands.answer.armed);
	assert_int_equal(errand_answer(the_box()), 0); /* none is owed any more */
	assert_true(nothing_sent());
}

/* Three times as long as it took. */
static void test_answer_is_late(void **state)
{
	(void)state;
	seen.busy = SPENT_NS;
	assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), 0);
	const uint64_t before = now_ns();

	assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
	assert_true(the_box()->errands.answer.at_ns >= before + 3 * SPENT_NS);
	fire();
	const uint64_t after = now_ns();

	/* And what one SYNC was held back for, the next is not. */
	assert_int_equal(say(REPORT_SYNC, 2, 0), 0);
	assert_true(the_box()->errands.answer.at_ns < after + 3 * SPENT_NS);
}

static void test_one_sync_at_a_time(void **state)
{
	(void)state;
	assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
	assert_int_equal(say(REPORT_SYNC, 1, 0), -EPROTO);
	assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), -EPROTO); /* it waits */
	fire();
	assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), 0);
	assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
}

static void test_releases_are_counted(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < RELEASES_PER_SYNC; i++)
			assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), 0);
		assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
		fire();
	}
	for (uint32_t i = 0; i < RELEASES_PER_SYNC; i++)
		assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), 0);
	assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), -EPROTO);
	assert_int_equal(seen.releases, 4 * RELEASES_PER_SYNC);
}

/* While it parks nothing is held back; and the nonce of QUIESCE is void: who has it need not have read
 * the ANSWER. */
static void test_answer_while_quiescing(void **state)
{
	(void)state;
	the_box()->state = BOX_QUIESCING;
	for (uint32_t nonce = 1; nonce < 20; nonce++) {
		the_box()->nonce = nonce;
		assert_int_equal(say(REPORT_SYNC, nonce, 0), 0);
		const struct ctl_answer answer = hear_answer();

		assert_int_equal(answer.header.value, nonce);
		assert_int_equal(answer.nonce, the_box()->nonce);
		assert_false(the_box()->errands.answer.armed);
	}
	assert_int_not_equal(the_box()->nonce, 19);
}

/* Unread, it keeps a look from being a proof (fence.c). */
static void test_unread_answer_is_seen(void **state)
{
	(void)state;
	the_box()->state = BOX_QUIESCING;
	assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
	assert_false(nothing_sent());
	assert_false(fence_parked(the_box()));
	hear_answer();
	assert_true(nothing_sent());
}

/* Whoever is being fenced meanwhile gets no answer: it could go on. */
static void test_no_answer_for_the_fenced(void **state)
{
	static const enum box_state states[] = { BOX_PARKING, BOX_STOPPING, BOX_PENDING,
						 BOX_FENCED,  BOX_DYING,    BOX_DEAD };

	(void)state;
	assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		the_box()->state = states[i];
		errand_due(&the_box()->errands.answer);
		assert_true(nothing_sent());
	}
}

/* ---- statistics ---- */

static void test_stats_are_granted(void **state)
{
	(void)state;
	assert_int_equal(say(REPORT_STAT, 4, 99), -EPROTO); /* nobody asked */
	errand_grant_stats(the_box());
	for (uint32_t i = 0; i < STATS_PER_POLL; i++)
		assert_int_equal(say(REPORT_STAT, i, UINT64_MAX - i), 0);
	assert_int_equal(seen.tag, STATS_PER_POLL - 1);
	assert_true(seen.value == UINT64_MAX - (STATS_PER_POLL - 1));
	assert_int_equal(say(REPORT_STAT, 4, 99), -EPROTO);
	for (int i = 0; i < 1000; i++) /* it does not read POLL: it cannot save them up */
		errand_grant_stats(the_box());
	assert_true(the_box()->errands.stats <= 4 * STATS_PER_POLL);
	seen.ret = -EPROTO;
	assert_int_equal(say(REPORT_STAT, 4, 99), -EPROTO);
}

/* ---- whose business it is ---- */

static void test_not_for_all_kinds(void **state)
{
	static const struct device_hooks none = { 0 };
	static const struct device_hooks *const without[] = { NULL, &none };

	(void)state;
	errand_grant_stats(the_box());
	for (size_t i = 0; i < ARRAY_SIZE(without); i++) {
		dev.spec.hooks = without[i];
		assert_int_equal(say(REPORT_RELEASE, 1, 0x1000), -EPROTO);
		assert_int_equal(say(REPORT_SYNC, 1, 0), -EPROTO);
		assert_int_equal(say(REPORT_STAT, 1, 0), -EPROTO);
	}
	assert_true(nothing_sent());
	assert_int_equal(seen.releases + seen.stats, 0);
}

static void test_full_socket(void **state)
{
	const struct ctl_header message = { CTL_PING, 0 };

	(void)state;
	assert_int_equal(say(REPORT_SYNC, 1, 0), 0);
	while (send(the_box()->control, &message, sizeof(message), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(errand_answer(the_box()), -EPROTO);
}

#define ERRAND_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ERRAND_TEST(test_release),
		ERRAND_TEST(test_release_of_an_earlier_epoch),
		ERRAND_TEST(test_answer_comes_after),
		ERRAND_TEST(test_answer_is_late),
		ERRAND_TEST(test_one_sync_at_a_time),
		ERRAND_TEST(test_releases_are_counted),
		ERRAND_TEST(test_answer_while_quiescing),
		ERRAND_TEST(test_unread_answer_is_seen),
		ERRAND_TEST(test_no_answer_for_the_fenced),
		ERRAND_TEST(test_stats_are_granted),
		ERRAND_TEST(test_not_for_all_kinds),
		ERRAND_TEST(test_full_socket),
	};

	return cmocka_run_group_tests_name("errand", tests, NULL, NULL);
}
