/* SPDX-License-Identifier: Apache-2.0 */
/* core/box/channel.c against everything that the other end of a control socket can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "tests/rig/fds.h"

static struct box box;
static struct state_page page;
static int other; /* the box's end */

static int setup(void **state)
{
	int pair[2];

	(void)state;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -1;
	memset(&page, 0, sizeof(page));
	box = (struct box){ .control = pair[0], .page = &page };
	other = pair[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cc_close(&box.control);
	cc_close(&other);
	return 0;
}

static void say(const void *data, size_t bytes)
{
	assert_int_equal(send(other, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL), bytes);
}

static void report(uint32_t type, uint32_t value, uint64_t detail)
{
	const struct box_report r = { type, value, detail };

	say(&r, sizeof(r));
}

static int receive(void)
{
	struct box_report r;

	return channel_receive(&box, &r);
}

/* Past the budget of this second, as time passes it. */
static void second_later(void)
{
	box.reports_since -= 2 * NS_PER_S;
}

/* ---- reports ---- */

static void test_nothing_there(void **state)
{
	(void)state;
	assert_int_equal(receive(), 0);
	assert_int_equal(receive(), 0);
}

static void test_every_type(void **state)
{
	(void)state;
	for (uint32_t type = 1; type < REPORT_TYPE_END; type++) {
		struct box_report r;

		if (!report_is_known(type))
			continue;
		report(type, 0xfffffff0u + type, UINT64_MAX - type);
		assert_int_equal(channel_receive(&box, &r), 1);
		assert_int_equal(r.type, type);
		assert_int_equal(r.value, 0xfffffff0u + type);
		assert_true(r.detail == UINT64_MAX - type);
	}
	assert_int_equal(receive(), 0);
}

static void test_unknown_types(void **state)
{
	static const uint32_t types[] = { REPORT_TYPE_END, REPORT_TYPE_END + 1, 255, 256, 0x10001,
					  1u << 31,        UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		report(types[i], 0, 0);
		assert_int_equal(receive(), -EPROTO);
	}
	for (uint32_t type = 0; type < REPORT_TYPE_END; type++) { /* and those between */
		if (report_is_known(type))
			continue;
		report(type, 0, 0);
		assert_int_equal(receive(), -EPROTO);
	}
}

/* Every length but one, with a good type at its head; what follows is not read as a message. */
static void test_lengths(void **state)
{
	uint8_t bytes[4096] = { REPORT_PONG };

	(void)state;
	for (size_t n = 1; n <= sizeof(bytes); n += n < 40 ? 1 : 507) {
		second_later();
		say(bytes, n);
		assert_int_equal(receive(), n == sizeof(struct box_report) ? 1 : -EPROTO);
		assert_int_equal(receive(), 0);
	}
}

/* The policy allows no empty message; it would read as an end, and then nothing more is heard. */
static void test_empty_message(void **state)
{
	(void)state;
	say("", 0);
	assert_int_equal(receive(), -EPIPE);
}

static void test_closed(void **state)
{
	(void)state;
	report(REPORT_PONG, 1, 2);
	cc_close(&other);
	assert_int_equal(receive(), 1); /* what was said before it is heard */
	assert_int_equal(receive(), -EPIPE);
	assert_int_equal(receive(), -EPIPE);
}

/* It ends with something unread: the kernel says so first; its last words are heard all the same. */
static void test_closed_with_unread(void **state)
{
	const struct ctl_header message = { CTL_QUIESCE, 0 };

	(void)state;
	assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
	report(REPORT_PONG, 1, 2);
	cc_close(&other);
	assert_int_equal(receive(), 1);
	assert_int_equal(receive(), -EPIPE);
}

static void test_flood(void **state)
{
	uint32_t taken = 0;

	(void)state;
	while (taken < 1000) {
		report(REPORT_PONG, 0, 0);
		if (receive() != 1)
			break;
		taken++;
	}
	assert_int_equal(taken, 64);
	report(REPORT_PONG, 0, 0);
	assert_int_equal(receive(), -EPROTO);
	second_later();
	report(REPORT_PONG, 0, 0);
	assert_int_equal(receive(), 1);
}

/* They have bounds of their own (test_errand.c), and do not keep a PONG from being heard. */
static void test_errands_do_not_count(void **state)
{
	static const uint32_t types[] = { REPORT_RELEASE, REPORT_SYNC, REPORT_STAT, REPORT_ASK };

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		report(types[i % ARRAY_SIZE(types)], i, i);
		assert_int_equal(receive(), 1);
	}
	for (uint32_t i = 0; i < 64; i++) {
		report(REPORT_PONG, 0, 0);
		assert_int_equal(receive(), 1);
	}
	report(REPORT_PONG, 0, 0);
	assert_int_equal(receive(), -EPROTO);
}

/* A descriptor that comes with a report is dropped by the kernel; the report counts. */
static void test_descriptors_attached(void **state)
{
	struct box_report r = { REPORT_PONG, 5, 6 };
	struct iovec iov = { &r, sizeof(r) };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control = { .header = { CMSG_LEN(4 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	const struct msghdr msg = { .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = &control,
				    .msg_controllen = sizeof(control.room) };
	const int fds[4] = { other, other, 0, 1 };
	const uint32_t before = fds_open(0);

	(void)state;
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	assert_int_equal(sendmsg(other, &msg, MSG_DONTWAIT | MSG_NOSIGNAL), sizeof(r));
	assert_int_equal(receive(), 1);
	assert_int_equal(fds_open(0), before);
}

/* ---- messages ---- */

static void test_send_rings_bell_after(void **state)
{
	const struct ctl_header message = { CTL_PING, 7 };
	struct ctl_header got;

	(void)state;
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
		assert_int_equal(page.bell, i);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(recv(other, &got, sizeof(got), MSG_DONTWAIT), sizeof(got));
		assert_memory_equal(&got, &message, sizeof(got));
	}
}

/* The bell is in memory that the box writes: whatever it holds is counted up and not believed. */
static void test_bell_is_not_believed(void **state)
{
	const struct ctl_header message = { CTL_PING, 7 };

	(void)state;
	page.bell = UINT32_MAX;
	assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
	assert_int_equal(page.bell, 0);
	box.page = NULL;
	assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
}

/* A box that reads nothing: at some point it is suspect, and the VMM has not waited for it. */
static void test_send_to_full(void **state)
{
	static uint8_t message[CTL_BYTES_MAX];
	uint32_t sent = 0;

	(void)state;
	while (sent < 10000 && channel_send(&box, message, sizeof(message)) == 0)
		sent++;
	assert_in_range(sent, 1, 9999);
	assert_int_equal(channel_send(&box, message, sizeof(message)), -EPROTO);
	assert_int_equal(page.bell, sent);
}

/* Who dies with something unread resets the connection first.  Neither is a breach of protocol: what it
 * died of is told elsewhere. */
static void test_send_to_closed(void **state)
{
	const struct ctl_header message = { CTL_QUIESCE, 0 };

	(void)state;
	assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
	cc_close(&other);
	assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
	assert_int_equal(channel_send(&box, &message, sizeof(message)), 0);
	assert_int_equal(page.bell, 1);
}

int main(void)
{
#define CHANNEL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CHANNEL_TEST(test_nothing_there),         CHANNEL_TEST(test_every_type),
		CHANNEL_TEST(test_unknown_types),         CHANNEL_TEST(test_lengths),
		CHANNEL_TEST(test_empty_message),         CHANNEL_TEST(test_closed),
		CHANNEL_TEST(test_closed_with_unread),    CHANNEL_TEST(test_flood),
		CHANNEL_TEST(test_errands_do_not_count),  CHANNEL_TEST(test_descriptors_attached),
		CHANNEL_TEST(test_send_rings_bell_after), CHANNEL_TEST(test_bell_is_not_believed),
		CHANNEL_TEST(test_send_to_full),          CHANNEL_TEST(test_send_to_closed),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
