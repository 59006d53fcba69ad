/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/vhost/message.h: what each request may have with it, told here once more, from the specification and from
 * what QEMU and Cloud Hypervisor send.
 */
#include "tests/unit/vhost.h"

#define F(NAME) VHOST_USER_PROTOCOL_BIT(NAME)
#define CONFIG_MOST (12 + 256)

static const struct expected {
	uint32_t request;
	uint32_t min, max, fds_min, fds_max;
	uint64_t needs;
	bool answers;
} served[] = {
	{ VHOST_USER_GET_FEATURES, 0, 0, 0, 0, 0, true },
	{ VHOST_USER_SET_FEATURES, 8, 8, 0, 0, 0, false },
	{ VHOST_USER_SET_OWNER, 0, 0, 0, 0, 0, false },
	{ VHOST_USER_RESET_OWNER, 0, 0, 0, 0, 0, false },
	{ VHOST_USER_SET_MEM_TABLE, 8, 8 + 32 * 32, 0, 32, 0, false },
	{ VHOST_USER_SET_LOG_BASE, 16, 16, 1, 1, F(LOG_SHMFD), true },
	{ VHOST_USER_SET_VRING_NUM, 8, 8, 0, 0, 0, false },
	{ VHOST_USER_SET_VRING_ADDR, 40, 40, 0, 0, 0, false },
	{ VHOST_USER_SET_VRING_BASE, 8, 8, 0, 0, 0, false },
	{ VHOST_USER_GET_VRING_BASE, 8, 8, 0, 0, 0, true },
	{ VHOST_USER_SET_VRING_KICK, 8, 8, 0, 1, 0, false },
	{ VHOST_USER_SET_VRING_CALL, 8, 8, 0, 1, 0, false },
	{ VHOST_USER_SET_VRING_ERR, 8, 8, 0, 1, 0, false },
	{ VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0, 0, 0, 0, true },
	{ VHOST_USER_SET_PROTOCOL_FEATURES, 8, 8, 0, 0, 0, false },
	{ VHOST_USER_GET_QUEUE_NUM, 0, 0, 0, 0, F(MQ), true },
	{ VHOST_USER_SET_VRING_ENABLE, 8, 8, 0, 0, 0, false },
	{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 8, 1, 1, F(BACKEND_REQ), false },
	{ VHOST_USER_GET_CONFIG, 12, CONFIG_MOST, 0, 0, F(CONFIG), true },
	{ VHOST_USER_SET_CONFIG, 12, CONFIG_MOST, 0, 0, F(CONFIG), false },
	{ VHOST_USER_GET_INFLIGHT_FD, 20, 24, 0, 0, F(INFLIGHT_SHMFD), true },
	{ VHOST_USER_SET_INFLIGHT_FD, 20, 24, 1, 1, F(INFLIGHT_SHMFD), false },
	{ VHOST_USER_GET_MAX_MEM_SLOTS, 0, 0, 0, 0, F(CONFIGURE_MEM_SLOTS), true },
	{ VHOST_USER_ADD_MEM_REG, 40, 40, 1, 1, F(CONFIGURE_MEM_SLOTS), false },
	{ VHOST_USER_REM_MEM_REG, 40, 40, 0, 1, F(CONFIGURE_MEM_SLOTS), false },
	{ VHOST_USER_SET_DEVICE_STATE_FD, 8, 8, 1, 1, F(DEVICE_STATE), true },
	{ VHOST_USER_CHECK_DEVICE_STATE, 0, 0, 0, 0, F(DEVICE_STATE), true },
};

static int check(uint32_t request, uint32_t bytes, uint32_t fds, uint64_t protocol)
{
	struct vhost_message m = { .header = { request, VHOST_USER_VERSION, bytes },
				   .fd_count = fds };
	const char *why = NULL;
	const int ret = message_check(&m, protocol, &why);

	assert_true(ret == 0 || (why != NULL && why[0] != '\0'));
	return ret;
}

static void test_sizes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
		const struct expected *e = &served[i];

		assert_int_equal(check(e->request, e->min, e->fds_min, VHOST_PROTOCOL_OFFER), 0);
		assert_int_equal(check(e->request, e->max, e->fds_max, VHOST_PROTOCOL_OFFER), 0);
		assert_int_equal(check(e->request, e->max + 1, e->fds_max, VHOST_PROTOCOL_OFFER),
				 -EPROTO);
		if (e->min != 0)
			assert_int_equal(check(e->request, e->min - 1, e->fds_min,
					       VHOST_PROTOCOL_OFFER),
					 -EPROTO);
	}
}

static void test_descriptors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
		const struct expected *e = &served[i];

		assert_int_equal(check(e->request, e->min, e->fds_max + 1, VHOST_PROTOCOL_OFFER),
				 -EPROTO);
		if (e->fds_min != 0)
			assert_int_equal(check(e->request, e->min, e->fds_min - 1,
					       VHOST_PROTOCOL_OFFER),
					 -EPROTO);
	}
}

/* What it needs, and nothing else. */
static void test_features(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
		const struct expected *e = &served[i];

		assert_int_equal(check(e->request, e->min, e->fds_min, e->needs), 0);
		assert_int_equal(check(e->request, e->min, e->fds_min, ~e->needs),
				 e->needs != 0 ? -EOPNOTSUPP : 0);
		assert_int_equal(e->needs & ~VHOST_PROTOCOL_OFFER, 0);
	}
}

static const struct expected *find(uint32_t request)
{
	for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
		if (served[i].request == request)
			return &served[i];
	}
	return NULL;
}

static void test_others_are_refused(void **state)
{
	(void)state;
	for (uint32_t request = 0; request < 300; request++) {
		const struct expected *e = find(request);

		assert_int_equal(message_has_answer(request), e != NULL && e->answers);
		if (e == NULL)
			assert_int_equal(check(request, 0, 0, UINT64_MAX), -EOPNOTSUPP);
	}
	assert_int_equal(check(UINT32_MAX, 8, 0, UINT64_MAX), -EOPNOTSUPP);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(message_name(VHOST_USER_GET_FEATURES), "GET_FEATURES");
	assert_string_equal(message_name(VHOST_USER_CHECK_DEVICE_STATE), "CHECK_DEVICE_STATE");
	for (uint32_t request = 1; request < VHOST_USER_REQUEST_COUNT; request++)
		assert_non_null(message_name(request));
	assert_string_equal(message_name(0), "unknown request");
	assert_string_equal(message_name(VHOST_USER_REQUEST_COUNT), "unknown request");
	assert_string_equal(message_name(UINT32_MAX), "unknown request");
}

static int check_header(uint32_t flags, uint32_t size)
{
	const struct vhost_user_header header = { VHOST_USER_SET_FEATURES, flags, size };
	const char *why = NULL;
	const int ret = message_check_header(&header, &why);

	assert_true(ret == 0 || why != NULL);
	return ret;
}

static void test_headers(void **state)
{
	(void)state;
	assert_int_equal(check_header(1, 8), 0);
	assert_int_equal(check_header(9, VHOST_USER_PAYLOAD_MAX), 0);
	assert_int_equal(check_header(1, VHOST_USER_PAYLOAD_MAX + 1), -EPROTO);
	assert_int_equal(check_header(1, UINT32_MAX), -EPROTO);
	for (uint32_t version = 0; version < 4; version++)
		assert_int_equal(check_header(version, 8), version == 1 ? 0 : -EPROTO);
	for (uint32_t bit = 2; bit < 32; bit++)
		assert_int_equal(check_header(1 | 1u << bit, 8), bit == 3 ? 0 : -EPROTO);
}

static void test_acknowledgements(void **state)
{
	struct vhost_message m = message_make(VHOST_USER_SET_OWNER, NULL, 0);

	(void)state;
	assert_false(message_wants_ack(&m, VHOST_PROTOCOL_OFFER));
	m.header.flags |= VHOST_USER_NEED_REPLY;
	assert_true(message_wants_ack(&m, VHOST_PROTOCOL_OFFER));
	assert_false(message_wants_ack(&m, VHOST_PROTOCOL_OFFER & ~F(REPLY_ACK)));
	m.header.request = VHOST_USER_GET_FEATURES; /* has an answer */
	assert_false(message_wants_ack(&m, VHOST_PROTOCOL_OFFER));
	m.header.request = VHOST_USER_GPU_SET_SOCKET; /* not served: who waits is told */
	assert_true(message_wants_ack(&m, VHOST_PROTOCOL_OFFER));
}

static void test_descriptors_are_taken_or_closed(void **state)
{
	struct vhost_message m = message_make(VHOST_USER_SET_MEM_TABLE, NULL, 0);
	const uint32_t before = fds_open(0);
	int taken;

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		message_add_fd(&m, event_make(0));
	taken = message_take_fd(&m, 1);
	assert_int_equal(m.fds[1], -1);
	message_close(&m);
	message_close(&m);
	assert_int_equal(m.fd_count, 0);
	assert_int_equal(fds_open(0), before + 1);
	close(taken);
}

static void test_answers(void **state)
{
	const struct vhost_message asked = { .header = { VHOST_USER_GET_CONFIG, 9, 12 } };
	struct vhost_message out;

	(void)state;
	memset(&out, 0xff, sizeof(out));
	message_answer(&asked, 20, &out);
	assert_int_equal(out.header.request, VHOST_USER_GET_CONFIG);
	assert_int_equal(out.header.flags, 5); /* what QEMU wants, exactly */
	assert_int_equal(out.header.size, 20);
	for (uint32_t i = 0; i < sizeof(out.payload); i++)
		assert_int_equal(out.payload.bytes[i], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_others_are_refused),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_acknowledgements),
		cmocka_unit_test(test_descriptors_are_taken_or_closed),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
