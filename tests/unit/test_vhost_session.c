/* SPDX-License-Identifier: Apache-2.0 */
/* core/vhost/session.h: bytes and descriptors of a socket into whole messages, and answers back. */
#include "core/vhost/session.h"
#include "tests/unit/vhost.h"

#define MANY 40 /* descriptors: more than any message has */

static struct session session;
static int peer;
static uint32_t fds_before;

static int setup(void **state)
{
	int pair[2];

	(void)state;
	fds_before = fds_open(0);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return -1;
	peer = pair[0];
	session_open(&session, pair[1]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	session_close(&session);
	assert_int_equal(session.fd, -1);
	cc_close(&peer);
	assert_int_equal(fds_open(0), fds_before);
	return 0;
}

/* ---- the front-end ---- */

struct wire {
	struct vhost_user_header header;
	uint8_t payload[8];
};

static const struct wire sample = { { VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8 },
				    { 1, 2, 3, 4, 5, 6, 7, 8 } };

/* So many eventfds go with it. */
static void put(const void *bytes, size_t count, uint32_t fds)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(MANY * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)bytes, count };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (struct cmsghdr *)control;
	int passed[MANY];

	for (uint32_t i = 0; i < fds; i++)
		passed[i] = event_make(0);
	if (fds != 0) {
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		*c = (struct cmsghdr){ CMSG_LEN(fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(c), passed, fds * sizeof(int));
	}
	assert_int_equal(sendmsg(peer, &h, MSG_NOSIGNAL), count);
	while (fds > 0)
		close(passed[--fds]);
}

static int receive(void)
{
	const char *why = NULL;
	const int ret = session_receive(&session, &why);

	assert_true(ret != -EPROTO || (why != NULL && why[0] != '\0'));
	return ret;
}

static void assert_sample(uint32_t fds)
{
	assert_memory_equal(&session.in.header, &sample.header, sizeof(sample.header));
	assert_memory_equal(session.in.payload.bytes, sample.payload, sizeof(sample.payload));
	for (size_t i = sizeof(sample.payload); i < VHOST_USER_PAYLOAD_MAX; i++)
		assert_int_equal(session.in.payload.bytes[i], 0);
	assert_int_equal(session.in.fd_count, fds);
	for (uint32_t i = 0; i < fds; i++)
		assert_int_equal(fcntl(session.in.fds[i], F_GETFD), FD_CLOEXEC);
}

/* ---- in ---- */

static void test_cut_at_every_byte(void **state)
{
	(void)state;
	for (size_t cut = 1; cut < sizeof(sample); cut++) {
		put(&sample, cut, 1);
		assert_int_equal(receive(), 0);
		assert_int_equal(receive(), 0);
		put((const uint8_t *)&sample + cut, sizeof(sample) - cut, 0);
		assert_int_equal(receive(), 1);
		assert_sample(1);
	}
	assert_int_equal(receive(), 0);
}

static void test_byte_by_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(sample); i++) {
		assert_int_equal(receive(), 0);
		put((const uint8_t *)&sample + i, 1, 0);
	}
	assert_int_equal(receive(), 1);
	assert_sample(0);
}

static void test_several_in_one_write(void **state)
{
	const struct vhost_user_header bare = { VHOST_USER_SET_OWNER, VHOST_USER_VERSION, 0 };
	uint8_t bytes[2 * sizeof(sample) + sizeof(bare)];

	(void)state;
	memcpy(bytes, &sample, sizeof(sample));
	memcpy(bytes + sizeof(sample), &bare, sizeof(bare));
	memcpy(bytes + sizeof(sample) + sizeof(bare), &sample, sizeof(sample));
	put(bytes, sizeof(bytes), 0);
	assert_int_equal(receive(), 1);
	assert_sample(0);
	assert_int_equal(receive(), 1);
	assert_int_equal(session.in.header.request, VHOST_USER_SET_OWNER);
	/* Nothing of the one before is left in it. */
	assert_int_equal(session.in.payload.u64, 0);
	assert_int_equal(receive(), 1);
	assert_sample(0);
	assert_int_equal(receive(), 0);
}

/* Each has its own descriptors, however close they come. */
static void test_descriptors_of_each(void **state)
{
	(void)state;
	put(&sample, sizeof(sample), 2);
	put(&sample, sizeof(sample), 0);
	put(&sample, sizeof(sample), VHOST_USER_FDS_MAX);
	assert_int_equal(receive(), 1);
	assert_sample(2);
	const int taken = message_take_fd(&session.in, 0);

	assert_int_equal(receive(), 1); /* closes the other one */
	assert_sample(0);
	assert_int_equal(fcntl(taken, F_GETFD), FD_CLOEXEC);
	close(taken);
	assert_int_equal(fds_open(0), fds_before + 2);
	assert_int_equal(receive(), 1);
	assert_sample(VHOST_USER_FDS_MAX);
}

static void test_descriptors_in_the_middle(void **state)
{
	(void)state;
	put(&sample, 4, 0);
	assert_int_equal(receive(), 0);
	put((const uint8_t *)&sample + 4, sizeof(sample) - 4, 1);
	assert_int_equal(receive(), -EPROTO);
}

static void test_descriptors_in_the_payload(void **state)
{
	(void)state;
	put(&sample, sizeof(sample.header), 0);
	put(sample.payload, sizeof(sample.payload), 1);
	assert_int_equal(receive(), -EPROTO);
}

/* teardown(): none of either is left. */
static void test_descriptors_in_two_parts(void **state)
{
	(void)state;
	put(&sample, 4, 3);
	assert_int_equal(receive(), 0);
	put((const uint8_t *)&sample + 4, sizeof(sample) - 4, VHOST_USER_FDS_MAX);
	assert_int_equal(receive(), -EPROTO);
}

static void test_more_descriptors_than_any_message(void **state)
{
	(void)state;
	put(&sample, sizeof(sample), VHOST_USER_FDS_MAX + 1);
	assert_int_equal(receive(), -EPROTO);
}

static void test_many_more_descriptors(void **state)
{
	(void)state;
	put(&sample, sizeof(sample), MANY);
	assert_int_equal(receive(), -EPROTO);
}

static void test_headers_that_are_none(void **state)
{
	const struct vhost_user_header wrong = { 1, VHOST_USER_VERSION, UINT32_MAX };

	(void)state;
	put(&wrong, sizeof(wrong), 1);
	assert_int_equal(receive(), -EPROTO);
}

static void test_longest(void **state)
{
	struct {
		struct vhost_user_header header;
		uint8_t payload[VHOST_USER_PAYLOAD_MAX];
	} m = { { 1, VHOST_USER_VERSION, VHOST_USER_PAYLOAD_MAX }, { 0 } };

	(void)state;
	memset(m.payload, 0x5a, sizeof(m.payload));
	put(&m, sizeof(m), 1);
	put(&sample, sizeof(sample), 0);
	assert_int_equal(receive(), 1);
	assert_memory_equal(session.in.payload.bytes, m.payload, sizeof(m.payload));
	assert_int_equal(receive(), 1);
	assert_sample(0);
}

static void test_gone(void **state)
{
	(void)state;
	put(&sample, sizeof(sample), 0);
	put(&sample, 5, 1);
	cc_close(&peer);
	assert_int_equal(receive(), 1);
	assert_int_equal(receive(), -EPIPE);
	assert_int_equal(receive(), -EPIPE);
}

/* ---- out ---- */

static void test_answers(void **state)
{
	struct vhost_message out;
	struct wire got;

	(void)state;
	put(&sample, sizeof(sample), 0);
	assert_int_equal(receive(), 1);
	message_answer(&session.in, sizeof(got.payload), &out);
	out.payload.u64 = 77;
	assert_int_equal(session_send(&session, &out, -1), 0);
	assert_int_equal(recv(peer, &got, sizeof(got), 0), sizeof(got));
	assert_int_equal(got.header.request, VHOST_USER_SET_FEATURES);
	assert_int_equal(got.header.flags, 5);
	assert_int_equal(got.payload[0], 77);
	assert_int_equal(recv(peer, &got, sizeof(got), 0), -1);
}

static void test_peer_that_does_not_read(void **state)
{
	const struct vhost_message asked = { .header = { VHOST_USER_GET_CONFIG, 1, 12 } };
	struct vhost_message out;
	int ret = 0;

	(void)state;
	message_answer(&asked, 256, &out);
	for (uint32_t i = 0; i < 100000 && ret == 0; i++)
		ret = session_send(&session, &out, i % 2 == 0 ? session.fd : -1);
	assert_int_equal(ret, -EAGAIN);
	cc_close(&peer);
	assert_int_equal(session_send(&session, &out, -1), -EPIPE);
}

static void test_tells_of_a_configuration(void **state)
{
	struct vhost_user_header got;

	(void)state;
	assert_int_equal(session_tell_config(session.fd), 0);
	assert_int_equal(recv(peer, &got, sizeof(got), 0), sizeof(got));
	assert_int_equal(got.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(got.flags, VHOST_USER_VERSION);
	assert_int_equal(got.size, 0);
	cc_close(&peer);
	assert_int_equal(session_tell_config(session.fd), -EPIPE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cut_at_every_byte),
		TEST(test_byte_by_byte),
		TEST(test_several_in_one_write),
		TEST(test_descriptors_of_each),
		TEST(test_descriptors_in_the_middle),
		TEST(test_descriptors_in_the_payload),
		TEST(test_descriptors_in_two_parts),
		TEST(test_more_descriptors_than_any_message),
		TEST(test_many_more_descriptors),
		TEST(test_headers_that_are_none),
		TEST(test_longest),
		TEST(test_gone),
		TEST(test_answers),
		TEST(test_peer_that_does_not_read),
		TEST(test_tells_of_a_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
