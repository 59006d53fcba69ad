/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile front-end: what it may say.  Each thing that is wrong is answered with an error or by the end of the
 * connection, and told in one line; after each an honest front-end is served on the same socket.
 */
#include "tests/host/vhost_hostile.h"

/* ---- memory ---- */

static struct vhost_user_region good_region(const struct hostile *h)
{
	return (struct vhost_user_region){ .guest_addr = 0,
					   .bytes = EVIL_MEMORY,
					   .user_addr = h->mem.map.regions[0].addr };
}

static int add(struct hostile *h, const struct vhost_user_region *r)
{
	return vhostclient_add_mem_reg(&h->c, r, h->mem.fds[0]);
}

static int play_overlap(struct hostile *h)
{
	struct vhost_user_region r = good_region(h);

	assert_int_equal(add(h, &r), 0);
	r.user_addr += EVIL_MEMORY;
	r.guest_addr += EVIL_MEMORY - PAGE;
	r.bytes = PAGE * 2;
	return add(h, &r);
}

static int play_overlap_of_users(struct hostile *h)
{
	struct vhost_user_region r = good_region(h);

	assert_int_equal(add(h, &r), 0);
	r.guest_addr += EVIL_MEMORY;
	return add(h, &r);
}

static int play_wrap(struct hostile *h)
{
	struct vhost_user_region r = good_region(h);

	r.guest_addr = UINT64_MAX - PAGE + 1;
	return add(h, &r);
}

static int play_wrap_of_offset(struct hostile *h)
{
	struct vhost_user_region r = good_region(h);

	r.mmap_offset = UINT64_MAX - PAGE + 1;
	return add(h, &r);
}

static int play_beyond_file(struct hostile *h)
{
	struct vhost_user_region r = good_region(h);

	r.mmap_offset = PAGE;
	return add(h, &r);
}

static int play_no_memory(struct hostile *h)
{
	const struct vhost_user_region r = good_region(h);

	return vhostclient_add_mem_reg(&h->c, &r, h->err);
}

static int play_unknown_region(struct hostile *h)
{
	const struct vhost_user_region r = good_region(h);

	return vhostclient_rem_mem_reg(&h->c, &r, -1);
}

static int play_huge_table(struct hostile *h)
{
	const struct vhost_user_memory memory = { .count = UINT32_MAX };

	return vhostclient_tell(&h->c, VHOST_USER_SET_MEM_TABLE, &memory, sizeof(memory), NULL, 0);
}

static int play_table_without_descriptors(struct hostile *h)
{
	struct {
		struct vhost_user_memory head;
		struct vhost_user_region region;
	} table = { { .count = 1 }, good_region(h) };

	return vhostclient_tell(&h->c, VHOST_USER_SET_MEM_TABLE, &table, sizeof(table), NULL, 0);
}

/* ---- rings ---- */

static int play_num_255(struct hostile *h)
{
	return vhostclient_set_vring_num(&h->c, 255, 128);
}

static int play_base_255(struct hostile *h)
{
	return vhostclient_set_vring_base(&h->c, 255, 0);
}

static int play_addr_255(struct hostile *h)
{
	return vhostclient_set_vring_addr(&h->c, &(struct vhost_user_vring_addr){ .index = 255 });
}

static int play_kick_255(struct hostile *h)
{
	return vhostclient_set_vring_kick(&h->c, 255, h->err);
}

static int play_get_base_255(struct hostile *h)
{
	uint32_t base;

	return vhostclient_get_vring_base(&h->c, 255, &base);
}

static int play_huge_num(struct hostile *h)
{
	return vhostclient_set_vring_num(&h->c, 0, 1u << 31);
}

static int play_kick_that_is_none(struct hostile *h)
{
	return vhostclient_set_vring_kick(&h->c, 0, h->mem.fds[0]);
}

static int play_odd_address(struct hostile *h)
{
	return vhostclient_set_vring_addr(&h->c,
					  &(struct vhost_user_vring_addr){ .desc_user_addr = 1 });
}

/* QEMU enables rings that it never sets up. */
static int play_enable_alone(struct hostile *h)
{
	const int ret = vhostclient_set_vring_enable(&h->c, 1, 1);

	return ret == 0 ? vhostclient_sync(&h->c) : ret;
}

static int play_base_of_none(struct hostile *h)
{
	uint32_t base = 1;
	const int ret = vhostclient_get_vring_base(&h->c, 1, &base);

	assert_int_equal(base, 0);
	return ret;
}

/* All is said, and each thing for itself can be; then it is to run. */
static int play_ring_outside(struct hostile *h)
{
	const struct vhost_user_region r = good_region(h);
	const struct vhost_user_vring_addr addr = { .desc_user_addr = r.user_addr,
						    .avail_user_addr = r.user_addr + PAGE,
						    .used_user_addr =
							    r.user_addr + EVIL_MEMORY - 64 };
	int ret = vhostclient_set_features(&h->c, h->c.offered);

	if (ret == 0)
		ret = add(h, &r);
	if (ret == 0)
		ret = vhostclient_set_vring_num(&h->c, 0, 128);
	if (ret == 0)
		ret = vhostclient_set_vring_addr(&h->c, &addr);
	if (ret == 0)
		ret = vhostclient_set_vring_kick(&h->c, 0, h->ring.fd_kick);
	assert_int_equal(ret, 0);
	return vhostclient_set_vring_enable(&h->c, 0, 1);
}

/* ---- others ---- */

static int play_features(struct hostile *h)
{
	return vhostclient_set_features(&h->c, UINT64_MAX);
}

static int play_not_served(struct hostile *h)
{
	return vhostclient_tell(&h->c, VHOST_USER_POSTCOPY_LISTEN, NULL, 0, NULL, 0);
}

static int play_not_served_unasked(struct hostile *h)
{
	h->c.acks = VHOSTCLIENT_ACK_NONE;
	assert_int_equal(vhostclient_tell(&h->c, 1000, NULL, 0, NULL, 0), 0);
	return vhostclient_sync(&h->c);
}

static int play_config_range(struct hostile *h)
{
	uint8_t space[256];

	return vhostclient_get_config(&h->c, 200, space, sizeof(space));
}

static int play_inflight_of_another(struct hostile *h)
{
	struct vhost_user_inflight i = { .queues = 1, .queue_size = 128 };
	cleanup_fd int fd = -1;

	assert_int_equal(vhostclient_get_inflight_fd(&h->c, &i, &fd), 0);
	assert_int_equal(pwrite(fd, &(uint8_t){ 1 }, 1, 16), 1);
	return vhostclient_set_inflight_fd(&h->c, &i, fd);
}

/* ---- no messages at all ---- */

static int send_raw(struct hostile *h, struct vhost_user_header header, const int *fds,
		    uint32_t count)
{
	struct vhostclient_message m = { .header = header };

	assert_int_equal(vhostclient_send_part(&h->c, &m, 0, sizeof(header), fds, count), 0);
	return vhostclient_wait_closed(&h->c, VHOST_WAIT_NS) == 0 ? -ECONNRESET : 0;
}

static int play_garbage(struct hostile *h)
{
	return send_raw(h, (struct vhost_user_header){ 0xdeadbeef, 0xffffffff, 0xffffffff }, NULL,
			0);
}

static int play_long_payload(struct hostile *h)
{
	return send_raw(h, (struct vhost_user_header){ 5, 1, VHOST_USER_PAYLOAD_MAX + 1 }, NULL, 0);
}

static int play_many_descriptors(struct hostile *h)
{
	int fds[200];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = h->err;
	return send_raw(h, (struct vhost_user_header){ 3, 1, 0 }, fds, ARRAY_SIZE(fds));
}

static int play_needless_descriptor(struct hostile *h)
{
	return send_raw(h, (struct vhost_user_header){ 3, 1, 0 }, &h->err, 1);
}

static int play_short_payload(struct hostile *h)
{
	return send_raw(h, (struct vhost_user_header){ VHOST_USER_SET_VRING_ADDR, 1, 0 }, NULL, 0);
}

static int play_descriptors_in_the_middle(struct hostile *h)
{
	struct vhostclient_message m;
	const uint64_t index = 0;

	vhostclient_fill(&m, VHOST_USER_SET_VRING_CALL, &index, sizeof(index));
	assert_int_equal(vhostclient_send_part(&h->c, &m, 0, 12, NULL, 0), 0);
	assert_int_equal(vhostclient_send_part(&h->c, &m, 12, 20, &h->err, 1), 0);
	return vhostclient_wait_closed(&h->c, VHOST_WAIT_NS) == 0 ? -ECONNRESET : 0;
}

static int play_never_reads(struct hostile *h)
{
	struct vhostclient_message m;
	int ret = 0;

	vhostclient_fill(&m, VHOST_USER_GET_FEATURES, NULL, 0);
	while (ret == 0)
		ret = vhostclient_send(&h->c, &m, NULL, 0);
	return ret;
}

/* ---- all of them ---- */

#define ERROR (-EREMOTEIO)
#define CLOSED (-ECONNRESET)

static const struct play {
	const char *name;
	int (*run)(struct hostile *h);
	int want;
	uint32_t lines;
} plays[] = {
	{ "regions that overlap", play_overlap, ERROR, 1 },
	{ "regions that overlap in the front-end", play_overlap_of_users, ERROR, 1 },
	{ "a region that wraps", play_wrap, ERROR, 1 },
	{ "an offset that wraps", play_wrap_of_offset, ERROR, 1 },
	{ "a region beyond its file", play_beyond_file, ERROR, 1 },
	{ "an eventfd as memory", play_no_memory, ERROR, 1 },
	{ "a region that there is not", play_unknown_region, ERROR, 1 },
	{ "a table of 2^32 - 1 regions", play_huge_table, ERROR, 1 },
	{ "a table without descriptors", play_table_without_descriptors, ERROR, 1 },
	{ "NUM of ring 255", play_num_255, ERROR, 1 },
	{ "BASE of ring 255", play_base_255, ERROR, 1 },
	{ "ADDR of ring 255", play_addr_255, ERROR, 1 },
	{ "KICK of ring 255", play_kick_255, ERROR, 1 },
	{ "GET_VRING_BASE of ring 255", play_get_base_255, CLOSED, 1 },
	{ "a ring of 2^31", play_huge_num, ERROR, 1 },
	{ "memory as a kick", play_kick_that_is_none, ERROR, 1 },
	{ "an address that is odd", play_odd_address, ERROR, 1 },
	{ "ENABLE of a ring that is not set up", play_enable_alone, 0, 0 },
	{ "GET_VRING_BASE of one that never started", play_base_of_none, 0, 0 },
	{ "a ring outside its memory", play_ring_outside, CLOSED, 1 },
	{ "features that were not offered", play_features, ERROR, 1 },
	{ "a request that is not served", play_not_served, ERROR, 1 },
	{ "the same, without asking", play_not_served_unasked, CLOSED, 1 },
	{ "a range beyond the configuration", play_config_range, ERROR, 0 },
	{ "requests in flight of another back-end", play_inflight_of_another, ERROR, 1 },
	{ "a header of garbage", play_garbage, CLOSED, 1 },
	{ "a payload longer than any", play_long_payload, CLOSED, 1 },
	{ "200 descriptors", play_many_descriptors, CLOSED, 1 },
	{ "a descriptor too many", play_needless_descriptor, CLOSED, 1 },
	{ "no payload", play_short_payload, CLOSED, 1 },
	{ "descriptors in the middle", play_descriptors_in_the_middle, CLOSED, 1 },
	{ "one that never reads", play_never_reads, CLOSED, 1 },
};

#define BURST 10 /* lines that the back-end may write at once: core/vhost/broker.c */

static void try_play(struct hostile *h, const struct play *p)
{
	hostile_greet(h);
	h->c.acks = VHOSTCLIENT_ACK_ALL;
	assert_int_equal(hostile_lines(h), 0);
	const int got = p->run(h);
	const uint32_t lines = hostile_lines(h);

	if (got != p->want || lines != p->lines)
		fail_msg("%s: %d, not %d; %u lines, not %u", p->name, got, p->want, lines,
			 p->lines);
	if (got != CLOSED)
		assert_int_equal(vhostclient_sync(&h->c), 0);
	hostile_leave(h);
	hostile_serve_other(h);
}

static void test_what_it_says(void **state)
{
	(void)state;
	for (size_t begin = 0; begin < ARRAY_SIZE(plays); begin += BURST) {
		struct hostile *h = hostile_open();

		for (size_t i = begin; i < begin + BURST && i < ARRAY_SIZE(plays); i++)
			try_play(h, &plays[i]);
		hostile_close(h);
	}
}

/* ---- how it says it ---- */

static void test_silence_in_the_middle(void **state)
{
	struct hostile *h = hostile_open();
	struct front_end status;
	struct vhostclient_message m;
	struct vhostclient second;
	const uint64_t features = 0;

	(void)state;
	hostile_greet(h);
	vhostclient_fill(&m, VHOST_USER_SET_FEATURES, &features, sizeof(features));
	assert_int_equal(vhostclient_send_part(&h->c, &m, 0, 15, NULL, 0), 0);
	vhostclient_init(&second);
	assert_int_equal(vhostclient_connect(&second, h->v->path, VHOST_WAIT_NS), 0);
	assert_int_equal(vhostclient_wait_closed(&second, VHOST_WAIT_NS), 0);
	vhostclient_free(&second);
	broker_status(&h->v->broker, &status);
	assert_true(status.connected);
	/* The rest, after all. */
	assert_int_equal(vhostclient_send_part(&h->c, &m, 15, 20, NULL, 0), 0);
	assert_int_equal(vhostclient_sync(&h->c), 0);
	broker_status(&h->v->broker, &status);
	assert_int_equal(status.refused, 1);
	assert_int_equal(hostile_lines(h), 1);
	assert_int_equal(vhostclient_send_part(&h->c, &m, 0, 1, NULL, 0), 0);
	broker_stop(&h->v->broker, VHOST_STOP_MS);
	assert_int_equal(vhostclient_wait_closed(&h->c, VHOST_WAIT_NS), 0);
	assert_int_equal(hostile_lines(h), 0); /* nothing that did not end */
	hostile_close(h);
}

static void test_very_many_messages(void **state)
{
	struct hostile *h = hostile_open();
	struct front_end before, after;

	(void)state;
	hostile_greet(h);
	h->c.acks = VHOSTCLIENT_ACK_NONE;
	broker_status(&h->v->broker, &before);
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(vhostclient_set_vring_base(&h->c, i % 2, i & 0xffff), 0);
	assert_int_equal(vhostclient_sync(&h->c), 0);
	broker_status(&h->v->broker, &after);
	assert_int_equal(after.handoffs, before.handoffs);
	assert_int_equal(hostile_lines(h), 0);
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

/* What is wrong, very often: the log does not fill. */
static void test_very_many_errors(void **state)
{
	struct hostile *h = hostile_open();
	const uint64_t begin = now_ns();
	uint32_t lines;

	(void)state;
	hostile_greet(h);
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(vhostclient_set_vring_num(&h->c, 255, 128), ERROR);
	lines = hostile_lines(h);
	assert_true(lines >= 1 && lines <= 20 + 10 * ((now_ns() - begin) / NS_PER_S + 1));
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

/* A channel that nobody reads, and one that is the connection itself: a changed configuration is told, or not. */
static void test_channel_that_nobody_reads(void **state)
{
	struct hostile *h = hostile_open();
	struct device_spec device;
	const char *why = "";

	(void)state;
	hostile_greet(h);
	vhost_rig_device(h->v, &device);
	assert_int_equal(vhostclient_set_backend_req_fd(&h->c, h->c.sock), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(broker_configure(&h->v->broker, VHOST_IMAGE, &device.config, &why),
				 0);
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_it_says),
		cmocka_unit_test(test_silence_in_the_middle),
		cmocka_unit_test(test_very_many_messages),
		cmocka_unit_test(test_very_many_errors),
		cmocka_unit_test(test_channel_that_nobody_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
