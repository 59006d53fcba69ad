/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * dev_sync() of devmodel/common/run.c, hosted: a device made up here releases a page for each request
 * and publishes it once the VMM's end, which is this test, has answered.
 */
#include "tests/unit/hosted.h"

#include <errno.h>

#define NONCE 0x5eedu /* of QUIESCE */
#define LATER 0xa5a5u /* of ANSWER */
#define GPA 0x12345000u
#define A_WHILE_US 50000

static bool polled; /* POLL was heard, by the device's thread */
static bool with_poll;

static int sync_init(struct dev *d)
{
	(void)d;
	return 0;
}

static int sync_check(const struct dev *d)
{
	(void)d;
	return 0;
}

static enum serve_result sync_serve(struct dev *d, struct virtq *q)
{
	static struct virtq_chain chain;

	if (virtq_peek(q, &chain) != 1)
		return q->error ? SERVE_BROKEN : SERVE_IDLE;
	if (dev_report(d, REPORT_RELEASE, 1, GPA) != 0 || dev_sync(d) != 0)
		return SERVE_ENDED;
	virtq_push(q, chain.head, 0);
	return SERVE_DONE;
}

static void sync_poll(struct dev *d)
{
	(void)d;
	__atomic_store_n(&polled, true, __ATOMIC_RELEASE);
}

/* Activated, a request taken, its SYNC heard; the number of that. */
static uint32_t begin(void)
{
	static struct dev_ops syncer;

	syncer = (struct dev_ops){ .name = "sync",
				   .kind = DEV_KIND_BLK,
				   .init = sync_init,
				   .check = sync_check,
				   .serve = sync_serve,
				   .poll = with_poll ? sync_poll : NULL };
	ops = &syncer;
	polled = false;
	start();
	activate();
	expect_report(REPORT_ACTIVATED, 0, 0);
	request(0);
	kick(0);
	expect_report(REPORT_RELEASE, 1, GPA);
	const struct box_report sync = hear();

	assert_int_equal(sync.type, REPORT_SYNC);
	return sync.value;
}

static void answer(uint32_t number)
{
	const struct ctl_answer message = { { CTL_ANSWER, number }, LATER };

	tell(&message, sizeof(message));
}

static void expect_unpublished(void)
{
	usleep(A_WHILE_US);
	assert_int_equal(used_idx(0), 0);
}

static void expect_published(uint16_t count)
{
	for (int ms = 0; used_idx(0) != count && ms < WAIT_MS; ms++)
		usleep(1000);
	assert_int_equal(used_idx(0), count);
}

static int setup_sync(void **state)
{
	with_poll = true;
	return setup(state);
}

/* A guest may use a page again that is published: not before it is released. */
static void test_publishes_after_the_answer(void **state)
{
	(void)state;
	const uint32_t first = begin();

	expect_unpublished();
	answer(first);
	expect_published(1);
	request(0);
	kick(0);
	expect_report(REPORT_RELEASE, 1, GPA);
	const struct box_report sync = hear();

	assert_int_equal(sync.type, REPORT_SYNC);
	assert_int_not_equal(sync.value, first);
	answer(sync.value);
	expect_published(2);
	expect_silence();
}

static void test_hears_all_meanwhile(void **state)
{
	(void)state;
	const uint32_t number = begin();

	tell_type(CTL_PING, 77);
	expect_report(REPORT_PONG, 77, 0);
	tell_type(CTL_POLL, 0);
	tell_type(CTL_PING, 78);
	expect_report(REPORT_PONG, 78, 0);
	assert_true(__atomic_load_n(&polled, __ATOMIC_ACQUIRE));
	expect_unpublished();
	answer(number);
	expect_published(1);
	tell_type(CTL_QUIESCE, NONCE);
	expect_report(REPORT_PARKED, NONCE, 0);
}

/* QUIESCE and ANSWER cross: it ends its request, then parks with the nonce that came last. */
static void test_quiesce_before_the_answer(void **state)
{
	(void)state;
	const uint32_t number = begin();

	tell_type(CTL_QUIESCE, NONCE);
	expect_unpublished();
	expect_silence();
	answer(number);
	expect_report(REPORT_PARKED, LATER, 0);
	assert_int_equal(used_idx(0), 1);
}

/* Work that is there still is left to a successor. */
static void test_parks_after_that_request(void **state)
{
	(void)state;
	const uint32_t number = begin();

	request(0);
	request(1);
	tell_type(CTL_QUIESCE, NONCE);
	answer(number);
	expect_report(REPORT_PARKED, LATER, 0);
	assert_int_equal(used_idx(0), 1);
	assert_int_equal(used_idx(1), 0);
}

static void test_quiesce_after_the_answer(void **state)
{
	(void)state;
	answer(begin());
	tell_type(CTL_QUIESCE, NONCE);
	expect_report(REPORT_PARKED, NONCE, 0);
	assert_int_equal(used_idx(0), 1);
}

/* ---- what is out of place ends it, with nothing published ---- */

static void expect_end(int error)
{
	assert_int_equal(finish(), error);
	assert_int_equal(used_idx(0), 0);
}

static void test_wrong_number(void **state)
{
	(void)state;
	answer(begin() + 1);
	expect_end(-EPROTO);
}

static void test_wrong_length(void **state)
{
	const struct ctl_header header = { CTL_ANSWER, begin() };

	(void)state;
	tell(&header, sizeof(header));
	expect_end(-EPROTO);
}

static void test_answer_unasked(void **state)
{
	(void)state;
	answer(begin());
	expect_published(1);
	answer(1);
	assert_int_equal(finish(), -EPROTO);
}

static void test_poll_where_nothing_is_held(void **state)
{
	(void)state;
	with_poll = false;
	begin();
	tell_type(CTL_POLL, 0);
	expect_end(-EPROTO);
}

static void test_vmm_goes_away(void **state)
{
	(void)state;
	begin();
	shutdown(vmm, SHUT_RDWR);
	expect_end(-EPIPE);
}

#define SYNC_TEST(test) cmocka_unit_test_setup_teardown(test, setup_sync, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYNC_TEST(test_publishes_after_the_answer),
		SYNC_TEST(test_hears_all_meanwhile),
		SYNC_TEST(test_quiesce_before_the_answer),
		SYNC_TEST(test_parks_after_that_request),
		SYNC_TEST(test_quiesce_after_the_answer),
		SYNC_TEST(test_wrong_number),
		SYNC_TEST(test_wrong_length),
		SYNC_TEST(test_answer_unasked),
		SYNC_TEST(test_poll_where_nothing_is_held),
		SYNC_TEST(test_vmm_goes_away),
	};

	return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
