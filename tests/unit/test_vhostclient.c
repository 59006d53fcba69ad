/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user front-end alone: the test plays the back-end on the other end of a socket pair.  Most of
 * its answers are put there before the question is asked, so that one thread does.  What real back-ends do
 * with the messages is tried elsewhere; here is what the client must refuse of them, and what it sends.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/rig/fds.h"
#include "tests/rig/vhostclient.h"

#define MS 1000000ull
#define ANSWER (VHOST_USER_VERSION | VHOST_USER_REPLY)

static struct vhostclient client, peer; /* the peer is one, too, but only sends and receives */
static uint32_t fds_before;

static int setup(void **state)
{
	int pair[2];

	(void)state;
	fds_before = fds_open(0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	vhostclient_init(&client);
	vhostclient_init(&peer);
	client.sock = pair[0];
	peer.sock = pair[1];
	client.timeout_ns = 50 * MS;
	peer.timeout_ns = 50 * MS;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vhostclient_free(&client);
	vhostclient_free(&client);
	vhostclient_free(&peer);
	assert_int_equal(fds_open(0), fds_before);
	return 0;
}

static void answer_with(uint32_t request, uint32_t flags, const void *payload, size_t bytes,
			const int *fds, uint32_t fd_count)
{
	struct vhostclient_message m;

	vhostclient_fill(&m, request, payload, bytes);
	m.header.flags = flags;
	assert_int_equal(vhostclient_send(&peer, &m, fds, fd_count), 0);
}

static void answer_u64(uint32_t request, uint64_t value)
{
	answer_with(request, ANSWER, &value, sizeof(value), NULL, 0);
}

/* The next message that the client sent, with so many descriptors, which are closed. */
static struct vhostclient_message asked(uint32_t request, uint32_t want_fds)
{
	struct vhostclient_message m;
	uint32_t count = VHOST_USER_FDS_MAX;
	int fds[VHOST_USER_FDS_MAX];

	assert_int_equal(vhostclient_receive(&peer, &m, fds, &count), 0);
	assert_int_equal(m.header.request, request);
	assert_int_equal(count, want_fds);
	while (count > 0)
		close(fds[--count]);
	return m;
}

/* ---- answers ---- */

static void test_get(void **state)
{
	uint64_t value = 0;

	(void)state;
	answer_u64(VHOST_USER_GET_FEATURES, 0x140000000);
	assert_int_equal(vhostclient_get_features(&client, &value), 0);
	assert_int_equal(value, 0x140000000);
	const struct vhostclient_message m = asked(VHOST_USER_GET_FEATURES, 0);

	assert_int_equal(m.header.flags, VHOST_USER_VERSION);
	assert_int_equal(m.header.size, 0);
}

static void test_wrong_answers(void **state)
{
	const uint64_t v = 0;
	uint64_t got;

	(void)state;
	answer_u64(VHOST_USER_GET_QUEUE_NUM, 1);
	assert_int_equal(vhostclient_get_features(&client, &got), -EPROTO);
	answer_with(VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, &v, sizeof(v), NULL, 0);
	assert_int_equal(vhostclient_get_features(&client, &got), -EPROTO);
	answer_with(VHOST_USER_GET_FEATURES, ANSWER | VHOST_USER_NEED_REPLY, &v, sizeof(v), NULL,
		    0);
	assert_int_equal(vhostclient_get_features(&client, &got), -EPROTO);
	answer_with(VHOST_USER_GET_FEATURES, ANSWER, &v, 4, NULL, 0);
	assert_int_equal(vhostclient_get_features(&client, &got), -EPROTO);
}

static void test_too_long_an_answer(void **state)
{
	struct vhostclient_message m;
	uint64_t got;

	(void)state;
	vhostclient_fill(&m, VHOST_USER_GET_FEATURES, NULL, 0);
	m.header.flags = ANSWER;
	m.header.size = UINT32_MAX;
	assert_int_equal(vhostclient_send_part(&peer, &m, 0, sizeof(m.header), NULL, 0), 0);
	assert_int_equal(vhostclient_get_features(&client, &got), -EPROTO);
}

static void test_no_answer(void **state)
{
	struct vhostclient_message m;
	uint64_t got;

	(void)state;
	assert_int_equal(vhostclient_get_features(&client, &got), -ETIMEDOUT);
	vhostclient_fill(&m, VHOST_USER_GET_FEATURES, NULL, 0);
	assert_int_equal(vhostclient_send_part(&peer, &m, 0, 7, NULL, 0), 0);
	assert_int_equal(vhostclient_get_features(&client, &got), -ETIMEDOUT);
	vhostclient_drop(&peer);
	assert_int_equal(vhostclient_get_features(&client, &got), -ECONNRESET);
}

static void test_hang_up_is_noticed(void **state)
{
	(void)state;
	assert_int_equal(vhostclient_wait_closed(&client, 5 * MS), -ETIMEDOUT);
	answer_u64(VHOST_USER_GET_FEATURES, 0);
	assert_int_equal(vhostclient_wait_closed(&client, 5 * MS), -EBUSY);
	assert_int_equal(vhostclient_sync(&client), 0);
	vhostclient_drop(&peer);
	assert_int_equal(vhostclient_wait_closed(&client, 5 * MS), 0);
}

static void test_descriptors_that_nobody_wants(void **state)
{
	struct vhost_user_inflight d = { .mmap_bytes = 4096, .queues = 1, .queue_size = 8 };
	const uint64_t v = 0;
	const int fds[2] = { STDERR_FILENO, STDERR_FILENO };
	uint64_t got;
	int fd;

	(void)state;
	answer_with(VHOST_USER_GET_FEATURES, ANSWER, &v, sizeof(v), fds, 1);
	assert_int_equal(vhostclient_get_features(&client, &got), -EPROTO);
	vhostclient_free(&client);
	vhostclient_free(&peer);
	assert_int_equal(setup(state), 0);
	answer_with(VHOST_USER_GET_INFLIGHT_FD, ANSWER, &d, sizeof(d), fds, 2);
	assert_int_equal(vhostclient_get_inflight_fd(&client, &d, &fd), -EPROTO);
	assert_int_equal(fd, -1);
}

/* ---- acknowledgements ---- */

static void test_acknowledged(void **state)
{
	(void)state;
	client.protocol = VHOST_USER_PROTOCOL_BIT(REPLY_ACK);
	answer_u64(VHOST_USER_SET_VRING_NUM, 0);
	assert_int_equal(vhostclient_set_vring_num(&client, 3, 128), 0);
	const struct vhostclient_message m = asked(VHOST_USER_SET_VRING_NUM, 0);
	const struct vhost_user_vring_state want = { .index = 3, .num = 128 };

	assert_int_equal(m.header.flags, VHOST_USER_VERSION | VHOST_USER_NEED_REPLY);
	assert_int_equal(m.header.size, sizeof(want));
	assert_memory_equal(m.payload, &want, sizeof(want));
	answer_u64(VHOST_USER_SET_OWNER, 1);
	assert_int_equal(vhostclient_set_owner(&client), -EREMOTEIO);
}

static void test_as_few_as_qemu(void **state)
{
	const struct vhost_user_region region = { .bytes = 4096 };

	(void)state;
	client.protocol = VHOST_USER_PROTOCOL_BIT(REPLY_ACK);
	client.acks = VHOSTCLIENT_ACK_MEMORY;
	assert_int_equal(vhostclient_set_owner(&client), 0);
	assert_int_equal(asked(VHOST_USER_SET_OWNER, 0).header.flags, VHOST_USER_VERSION);
	assert_int_equal(vhostclient_rem_mem_reg(&client, &region, -1), -ETIMEDOUT);
	answer_u64(VHOST_USER_ADD_MEM_REG, 0);
	assert_int_equal(vhostclient_add_mem_reg(&client, &region, STDERR_FILENO), 0);
	asked(VHOST_USER_REM_MEM_REG, 0);
	assert_int_equal(asked(VHOST_USER_ADD_MEM_REG, 1).header.size, 40);
}

/* ---- what is sent ---- */

static void test_eventfds(void **state)
{
	const uint64_t two = 2, none = 2 | VHOST_USER_VRING_NOFD;

	(void)state;
	assert_int_equal(vhostclient_set_vring_kick(&client, 2, STDERR_FILENO), 0);
	struct vhostclient_message m = asked(VHOST_USER_SET_VRING_KICK, 1);

	assert_memory_equal(m.payload, &two, sizeof(two));
	assert_int_equal(vhostclient_set_vring_err(&client, 2, -1), 0);
	m = asked(VHOST_USER_SET_VRING_ERR, 0);
	assert_memory_equal(m.payload, &none, sizeof(none));
}

static void test_in_two_pieces(void **state)
{
	struct vhostclient_message m, got;
	uint32_t count = 0;
	const uint64_t value = 7;

	(void)state;
	vhostclient_fill(&m, VHOST_USER_SET_FEATURES, &value, sizeof(value));
	assert_int_equal(vhostclient_send_part(&client, &m, 0, 15, NULL, 0), 0);
	assert_int_equal(vhostclient_receive(&peer, &got, NULL, &count), -ETIMEDOUT);
	assert_int_equal(vhostclient_send_part(&client, &m, 15, 20, NULL, 0), 0);
	assert_int_equal(vhostclient_send_part(&client, &m, 20, 20, NULL, 0), -EMSGSIZE);
	m.header.size = sizeof(m.payload) + 1;
	assert_int_equal(vhostclient_send(&client, &m, NULL, 0), -EMSGSIZE);
}

static void test_memory_table(void **state)
{
	struct vhost_user_region regions[VHOST_USER_MEM_TABLE_MAX + 1] = { { .bytes = 1 } };
	int fds[VHOST_USER_MEM_TABLE_MAX + 1];

	(void)state;
	for (uint32_t i = 0; i <= VHOST_USER_MEM_TABLE_MAX; i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(vhostclient_set_mem_table(&client, regions, fds, 32), 0);
	assert_int_equal(asked(VHOST_USER_SET_MEM_TABLE, 32).header.size, 8 + 32 * 32);
	assert_int_equal(vhostclient_set_mem_table(&client, regions, fds, 33), -ENOSPC);
}

static void test_config(void **state)
{
	const struct vhost_user_config header = { .offset = 4, .bytes = 8 };
	static const uint8_t capacity[8] = { 0, 0, 2 };
	uint8_t answer[sizeof(header) + sizeof(capacity)], space[8];

	(void)state;
	memcpy(answer, &header, sizeof(header));
	memcpy(answer + sizeof(header), capacity, sizeof(capacity));
	answer_with(VHOST_USER_GET_CONFIG, ANSWER, answer, sizeof(answer), NULL, 0);
	assert_int_equal(vhostclient_get_config(&client, 4, space, 8), 0);
	assert_memory_equal(space, capacity, sizeof(capacity));
	assert_int_equal(asked(VHOST_USER_GET_CONFIG, 0).header.size, sizeof(answer));
	answer_with(VHOST_USER_GET_CONFIG, ANSWER, NULL, 0, NULL, 0);
	assert_int_equal(vhostclient_get_config(&client, 4, space, 8), -EREMOTEIO);
}

static void test_device_state(void **state)
{
	const uint64_t ours = VHOST_USER_STATE_NOFD, error = VHOST_USER_STATE_NOFD | 1, theirs = 0;
	const uint32_t request = VHOST_USER_SET_DEVICE_STATE_FD;
	const int fd = STDERR_FILENO;
	int back;

	(void)state;
	answer_u64(request, ours);
	assert_int_equal(vhostclient_set_device_state_fd(&client, 0, fd, &back), 0);
	assert_int_equal(back, -1);
	answer_u64(request, error);
	assert_int_equal(vhostclient_set_device_state_fd(&client, 0, fd, &back), -EREMOTEIO);
	answer_u64(request, theirs);
	assert_int_equal(vhostclient_set_device_state_fd(&client, 0, fd, &back), -EPROTO);
	answer_with(request, ANSWER, &theirs, sizeof(theirs), &fd, 1);
	assert_int_equal(vhostclient_set_device_state_fd(&client, 0, fd, &back), 0);
	assert_true(back >= 0);
	close(back);
	for (int i = 0; i < 4; i++)
		asked(request, 1);
}

/* ---- as QEMU does it ---- */

static void test_memory_by_regions(void **state)
{
	struct guestmem mem;

	(void)state;
	guestmem_init(&mem);
	client.protocol = VHOST_USER_PROTOCOL_BIT(CONFIGURE_MEM_SLOTS);
	client.mem_slots = 2;
	assert_int_equal(guestmem_add(&mem, 0, 4096, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_add(&mem, 8192, 4096, GUESTMEM_4K), 0);
	assert_int_equal(vhostclient_set_memory(&client, &mem), 0);
	asked(VHOST_USER_ADD_MEM_REG, 1);
	asked(VHOST_USER_ADD_MEM_REG, 1);
	assert_int_equal(guestmem_remove(&mem, 0, NULL), 0);
	assert_int_equal(guestmem_add(&mem, 65536, 4096, GUESTMEM_4K), 0);
	assert_int_equal(vhostclient_set_memory(&client, &mem), 0);
	asked(VHOST_USER_REM_MEM_REG, 0);
	asked(VHOST_USER_ADD_MEM_REG, 1);
	assert_int_equal(vhostclient_set_memory(&client, &mem), 0); /* nothing is new */
	assert_int_equal(guestmem_add(&mem, 0, 4096, GUESTMEM_4K), 0);
	assert_int_equal(vhostclient_set_memory(&client, &mem), -ENOSPC);
	client.protocol = 0;
	assert_int_equal(vhostclient_set_memory(&client, &mem), 0);
	asked(VHOST_USER_SET_MEM_TABLE, 3);
	guestmem_free(&mem);
}

static void test_back_ends_too_old(void **state)
{
	(void)state;
	answer_u64(VHOST_USER_GET_FEATURES, 1ull << 32);
	assert_int_equal(vhostclient_negotiate(&client, 1), -ENOTSUP);
	answer_u64(VHOST_USER_GET_FEATURES, 1ull << 32 | 1ull << 30);
	answer_u64(VHOST_USER_GET_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_BIT(CONFIG));
	assert_int_equal(vhostclient_negotiate(&client, 2), -ENOTSUP);
}

static void test_back_end_channel(void **state)
{
	struct vhostclient_message m;
	const uint64_t zero = 0;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	client.sock_backend = pair[0];
	peer.sock_backend = pair[1];
	vhostclient_fill(&m, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, NULL, 0);
	assert_int_equal(send(pair[1], &m, sizeof(m.header), 0), sizeof(m.header));
	assert_int_equal(vhostclient_backend_receive(&client, &m), 0);
	assert_int_equal(m.header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(vhostclient_backend_answer(&client, &m, 0), 0); /* none is wanted */
	assert_int_equal(vhostclient_backend_receive(&peer, &m), -ETIMEDOUT);
	m.header.flags |= VHOST_USER_NEED_REPLY;
	assert_int_equal(vhostclient_backend_answer(&client, &m, 0), 0);
	assert_int_equal(vhostclient_backend_receive(&peer, &m), 0);
	assert_int_equal(m.header.flags, ANSWER);
	assert_memory_equal(m.payload, &zero, sizeof(zero));
}

static void test_connect(void **state)
{
	char dir[] = "/tmp/mayfly-vhostclient-XXXXXX", path[64];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct vhostclient other;
	int listener;

	(void)state;
	vhostclient_init(&other);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	assert_int_equal(vhostclient_connect(&other, path, 5 * MS), -ETIMEDOUT);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(vhostclient_connect(&other, path, 5 * MS), -ETIMEDOUT);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(vhostclient_connect(&other, path, 1500 * MS), 0);
	assert_int_equal(vhostclient_connect(&other, path, 5 * MS), -EISCONN);
	vhostclient_free(&other);
	close(listener);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(get),
		TEST(wrong_answers),
		TEST(too_long_an_answer),
		TEST(no_answer),
		TEST(hang_up_is_noticed),
		TEST(descriptors_that_nobody_wants),
		TEST(acknowledged),
		TEST(as_few_as_qemu),
		TEST(eventfds),
		TEST(in_two_pieces),
		TEST(memory_table),
		TEST(config),
		TEST(device_state),
		TEST(memory_by_regions),
		TEST(back_ends_too_old),
		TEST(back_end_channel),
		TEST(connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
