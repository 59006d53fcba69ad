/* SPDX-License-Identifier: Apache-2.0 */
/* core/vhost/frontend.h: what messages change of what is wanted, and what they may not. */
#include "core/vhost/frontend.h"
#include "tests/unit/vhost.h"

#define USER 0x7f1234000000ull
#define BYTES (64 * PAGE)
#define FEATURES (1ull << 32 | 1ull << 28 | 1ull << 9)
#define QUEUES 2

static struct vhost_offer offer = { .features = FEATURES, .queues = QUEUES, .config_bytes = 60 };
static struct frontend fe;
static struct frontend_result result;
static uint32_t fds_before;

static int setup(void **state)
{
	(void)state;
	fds_before = fds_open(0);
	for (size_t i = 0; i < sizeof(offer.config); i++)
		offer.config[i] = (uint8_t)(i + 1);
	frontend_init(&fe, &offer);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	frontend_clear(&fe);
	assert_int_equal(fds_open(0), fds_before);
	return 0;
}

/* ---- messages ---- */

/* One that message_check() lets through; fd -1: none. What nobody took of it is closed. */
static int take(uint32_t request, const void *payload, size_t bytes, int fd)
{
	struct vhost_message m = message_make(request, payload, bytes);
	const char *why;
	int ret;

	if (fd >= 0)
		message_add_fd(&m, fd);
	assert_int_equal(message_check(&m, VHOST_PROTOCOL_OFFER, &why), 0);
	ret = frontend_take(&fe, &m, &result);
	message_close(&m);
	assert_true(ret == 0 || result.why[0] != '\0');
	if (ret == 0 && message_has_answer(request))
		assert_int_equal(result.out.header.request, request);
	return ret;
}

static int take_u64(uint32_t request, uint64_t value, int fd)
{
	return take(request, &value, sizeof(value), fd);
}

static int take_state(uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhost_user_vring_state s = { index, num };

	return take(request, &s, sizeof(s), -1);
}

static int add_memory(uint64_t gpa, uint64_t user)
{
	const struct vhost_user_single_region r = { 0, { gpa, BYTES, user, 0 } };

	return take(VHOST_USER_ADD_MEM_REG, &r, sizeof(r), memory_make(BYTES));
}

static int remove_memory(uint64_t gpa, uint64_t user)
{
	const struct vhost_user_single_region r = { 0, { gpa, BYTES, user, 0 } };

	return take(VHOST_USER_REM_MEM_REG, &r, sizeof(r), -1);
}

static struct vhost_user_vring_addr addresses(uint32_t index, uint64_t at)
{
	return (struct vhost_user_vring_addr){ .index = index,
					       .desc_user_addr = at,
					       .avail_user_addr = at + PAGE,
					       .used_user_addr = at + 2 * PAGE };
}

static int set_addr(const struct vhost_user_vring_addr *addr)
{
	return take(VHOST_USER_SET_VRING_ADDR, addr, sizeof(*addr), -1);
}

/* The parts of a start, each of which may come when it likes. */
#define PARTS 6

static void start_part(uint32_t part)
{
	const struct vhost_user_vring_addr addr = addresses(0, USER);

	switch (part) {
	case 0:
		assert_int_equal(take_u64(VHOST_USER_SET_FEATURES, FEATURES | 1ull << 30, -1), 0);
		break;
	case 1:
		assert_int_equal(add_memory(0, USER), 0);
		break;
	case 2:
		assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, 0, 128), 0);
		break;
	case 3:
		assert_int_equal(set_addr(&addr), 0);
		break;
	case 4:
		assert_int_equal(take_u64(VHOST_USER_SET_VRING_KICK, 0, event_make(EFD_NONBLOCK)),
				 0);
		break;
	default:
		assert_int_equal(take_state(VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
	}
}

static void start(void)
{
	for (uint32_t part = 0; part < PARTS; part++)
		start_part(part);
}

/* ---- rings ---- */

static void try_order(const uint32_t order[PARTS])
{
	struct ctl_queue q;

	for (uint32_t i = 0; i < PARTS; i++) {
		/* Without memory it is wanted, and cannot be placed. */
		assert_false(frontend_serves(&fe, 0) && frontend_place(&fe, 0, &q) == 0);
		start_part(order[i]);
	}
	assert_true(frontend_serves(&fe, 0) && !frontend_serves(&fe, 1));
	assert_int_equal(frontend_place(&fe, 0, &q), 0);
	assert_int_equal(q.size, 128);
	assert_int_equal(q.desc_gpa, 0);
	assert_int_equal(q.avail_gpa, PAGE);
	assert_int_equal(q.used_gpa, 2 * PAGE);
	frontend_clear(&fe);
}

static void permute(uint32_t order[PARTS], uint32_t from)
{
	if (from == PARTS)
		try_order(order);
	for (uint32_t i = from; i < PARTS; i++) {
		uint32_t swap = order[from];

		order[from] = order[i], order[i] = swap;
		permute(order, from + 1);
		swap = order[from], order[from] = order[i], order[i] = swap;
	}
}

static void test_order_does_not_matter(void **state)
{
	uint32_t order[PARTS] = { 0, 1, 2, 3, 4, 5 };

	(void)state;
	permute(order, 0);
}

/* Without the feature there is no message that enables. */
static void test_enabled_by_its_start(void **state)
{
	(void)state;
	for (uint32_t part = 0; part < 4; part++)
		start_part(part);
	assert_int_equal(take_u64(VHOST_USER_SET_FEATURES, FEATURES, -1), 0);
	assert_false(frontend_serves(&fe, 0));
	start_part(4);
	assert_true(frontend_serves(&fe, 0));
}

static void test_rings_that_there_are_not(void **state)
{
	struct vhost_user_vring_addr addr = addresses(QUEUES, USER);

	(void)state;
	for (uint64_t i = QUEUES; i < 256; i += 253 - QUEUES) {
		addr.index = (uint32_t)i;
		assert_int_equal(set_addr(&addr), -EINVAL);
		assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, (uint32_t)i, 128), -EINVAL);
		assert_int_equal(take_state(VHOST_USER_SET_VRING_BASE, (uint32_t)i, 0), -EINVAL);
		assert_int_equal(take_state(VHOST_USER_GET_VRING_BASE, (uint32_t)i, 0), -EINVAL);
		assert_int_equal(take_state(VHOST_USER_SET_VRING_ENABLE, (uint32_t)i, 1), -EINVAL);
		assert_int_equal(take_u64(VHOST_USER_SET_VRING_KICK, i, event_make(0)), -EINVAL);
		assert_int_equal(take_u64(VHOST_USER_SET_VRING_CALL, i, event_make(0)), -EINVAL);
		assert_int_equal(take_u64(VHOST_USER_SET_VRING_ERR, i, event_make(0)), -EINVAL);
	}
	assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, UINT32_MAX, 128), -EINVAL);
}

static void test_values_of_rings(void **state)
{
	struct vhost_user_vring_addr addr = addresses(0, USER);

	(void)state;
	for (uint32_t size = 1; size <= 1024; size *= 2)
		assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, 0, size), 0);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, 0, 0), -EINVAL);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, 0, 3), -EINVAL);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, 0, 2048), -EINVAL);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_NUM, 0, 1u << 31), -EINVAL);
	assert_int_equal(fe.rings[0].size, 1024);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_BASE, 0, 65535), 0);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_BASE, 0, 65536), -EINVAL);
	assert_int_equal(frontend_base(&fe, 0), 65535);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_ENABLE, 0, 2), -EINVAL);
	addr.flags = 2;
	assert_int_equal(set_addr(&addr), -EINVAL);
	addr = addresses(0, USER), addr.desc_user_addr += 8;
	assert_int_equal(set_addr(&addr), -EINVAL);
	addr = addresses(0, USER), addr.avail_user_addr += 1;
	assert_int_equal(set_addr(&addr), -EINVAL);
	addr = addresses(0, USER), addr.used_user_addr += 2;
	assert_int_equal(set_addr(&addr), -EINVAL);
}

/* Each part, by one byte. */
static void test_rings_out_of_memory(void **state)
{
	const uint64_t end = USER + BYTES;
	struct vhost_user_vring_addr addr;
	struct ctl_queue q;

	(void)state;
	start();
	addr = addresses(0, USER), addr.desc_user_addr = end - 128 * 16;
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == 0);
	addr.desc_user_addr += 16;
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == -EFAULT);
	/* flags, index, ring and an event each: 6 + 2 n and 6 + 8 n bytes */
	addr = addresses(0, USER), addr.avail_user_addr = end - (6 + 2 * 128);
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == 0);
	addr.avail_user_addr += 2;
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == -EFAULT);
	addr = addresses(0, USER), addr.used_user_addr = end - (8 + 8 * 128);
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == 0);
	addr.used_user_addr += 4;
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == -EFAULT);
	addr = addresses(0, UINT64_MAX - 15);
	assert_true(set_addr(&addr) == 0 && frontend_place(&fe, 0, &q) == -EFAULT);
	assert_true(frontend_serves(&fe, 0)); /* wanted all the same */
}

static void write_used(uint16_t idx)
{
	memcpy((uint8_t *)fe.regions.regions[0]->map + 2 * PAGE + 2, &idx, sizeof(idx));
}

static uint16_t base(void)
{
	assert_int_equal(take_state(VHOST_USER_GET_VRING_BASE, 0, 0), 0);
	assert_int_equal(result.errand, FRONTEND_BASE);
	assert_int_equal(result.index, 0);
	return frontend_base(&fe, result.index);
}

static void test_bases(void **state)
{
	(void)state;
	start();
	write_used(77);
	assert_int_equal(take_state(VHOST_USER_SET_VRING_BASE, 0, 5), 0);
	assert_int_equal(base(), 5); /* nobody served it: as it was said */
	assert_false(frontend_serves(&fe, 0));
	start_part(4);
	fe.rings[0].served = true; /* the broker's word */
	assert_int_equal(base(), 77);
	write_used(99);
	assert_int_equal(base(), 77); /* it stands still */
	fe.rings[0].served = true;
	assert_int_equal(remove_memory(0, USER), 0);
	assert_int_equal(base(), 77); /* nowhere to look */
	assert_int_equal(take_state(VHOST_USER_GET_VRING_BASE, 1, 0), 0);
	assert_int_equal(frontend_base(&fe, 1), 0); /* never started */
}

/* ---- eventfds ---- */

static void test_eventfds_are_made_non_blocking(void **state)
{
	const int fd = event_make(0), same = dup(fd);

	(void)state;
	assert_int_equal(take_u64(VHOST_USER_SET_VRING_CALL, 1, fd), 0);
	assert_true((fcntl(same, F_GETFL) & O_NONBLOCK) != 0);
	close(same);
}

static void test_descriptors_that_are_no_eventfds(void **state)
{
	static const uint32_t requests[] = { VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL,
					     VHOST_USER_SET_VRING_ERR };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		const int event = event_make(0);
		int pair[2];

		assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
		assert_int_equal(take_u64(requests[i], 0, pair[0]), -EBADF);
		assert_int_equal(take_u64(requests[i], 0, pair[1]), -EBADF);
		assert_int_equal(take_u64(requests[i], 0, memory_make(PAGE)), -EBADF);
		assert_int_equal(take_u64(requests[i], 0, open("/dev/null", O_RDWR | O_CLOEXEC)),
				 -EBADF);
		/* One that the flag says there is not, one that it says there is, other flags. */
		assert_true(take_u64(requests[i], VHOST_USER_VRING_NOFD, dup(event)) < 0);
		assert_int_equal(take_u64(requests[i], 0, -1), -EINVAL);
		assert_int_equal(take_u64(requests[i], 0x200, event), -EINVAL);
		assert_false(fe.rings[0].started);
	}
}

static void test_no_descriptor(void **state)
{
	(void)state;
	assert_int_equal(take_u64(VHOST_USER_SET_VRING_CALL, 0, event_make(0)), 0);
	assert_int_equal(take_u64(VHOST_USER_SET_VRING_CALL, VHOST_USER_VRING_NOFD, -1), 0);
	assert_int_equal(fe.rings[0].call.fd, -1);
	assert_int_equal(take_u64(VHOST_USER_SET_VRING_ERR, VHOST_USER_VRING_NOFD, -1), 0);
	assert_int_equal(take_u64(VHOST_USER_SET_VRING_KICK, VHOST_USER_VRING_NOFD, -1),
			 -EOPNOTSUPP);
}

static void test_serials_are_never_used_twice(void **state)
{
	uint64_t last;

	(void)state;
	assert_int_equal(take_u64(VHOST_USER_SET_VRING_CALL, 0, event_make(0)), 0);
	last = fe.rings[0].call.serial;
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(take_u64(VHOST_USER_SET_VRING_CALL, i % 2, event_make(0)), 0);
		assert_true(fe.rings[i % 2].call.serial > last);
		last = fe.rings[i % 2].call.serial;
	}
}

/* ---- features, configuration ---- */

static void test_features(void **state)
{
	(void)state;
	assert_int_equal(take(VHOST_USER_GET_FEATURES, NULL, 0, -1), 0);
	assert_int_equal(result.out.payload.u64, FEATURES | 1ull << 30 | 1ull << 26);
	assert_int_equal(take_u64(VHOST_USER_SET_FEATURES, FEATURES | 1ull << 30 | 1ull << 26, -1),
			 0);
	assert_int_equal(frontend_features(&fe), FEATURES);
	assert_int_equal(take_u64(VHOST_USER_SET_FEATURES, FEATURES | 1, -1), -EINVAL);
	assert_int_equal(frontend_features(&fe), FEATURES);
	assert_int_equal(take(VHOST_USER_GET_PROTOCOL_FEATURES, NULL, 0, -1), 0);
	assert_int_equal(result.out.payload.u64, VHOST_PROTOCOL_OFFER);
	assert_int_equal(take_u64(VHOST_USER_SET_PROTOCOL_FEATURES, UINT64_MAX, -1), -EINVAL);
	assert_int_equal(fe.protocol, 0);
	assert_int_equal(take(VHOST_USER_GET_QUEUE_NUM, NULL, 0, -1), 0);
	assert_int_equal(result.out.payload.u64, QUEUES);
	assert_int_equal(take(VHOST_USER_GET_MAX_MEM_SLOTS, NULL, 0, -1), 0);
	assert_int_equal(result.out.payload.u64, VHOST_REGIONS_MAX);
}

static uint32_t get_config(uint32_t offset, uint32_t bytes, size_t sent)
{
	struct vhost_config_payload c = { .head = { .offset = offset, .bytes = bytes } };

	assert_int_equal(take(VHOST_USER_GET_CONFIG, &c, sizeof(c.head) + sent, -1), 0);
	return result.out.header.size;
}

static void test_configuration(void **state)
{
	(void)state;
	assert_int_equal(get_config(0, 60, 60), 72);
	assert_memory_equal(result.out.payload.config.space, offer.config, 60);
	assert_int_equal(get_config(4, 8, 8), 20);
	assert_memory_equal(result.out.payload.config.space, offer.config + 4, 8);
	assert_int_equal(get_config(0, 256, 256), 268);
	assert_int_equal(get_config(255, 1, 1), 13);
	assert_int_equal(get_config(256, 0, 0), 12);
	/* An answer without payload says that it is none. */
	assert_int_equal(get_config(256, 1, 1), 0);
	assert_int_equal(get_config(1, 256, 256), 0);
	assert_int_equal(get_config(0, 257, 256), 0);
	assert_int_equal(get_config(UINT32_MAX, 2, 2), 0);
	assert_int_equal(get_config(2, UINT32_MAX, 256), 0);
	assert_int_equal(get_config(0, 60, 59), 0);
	assert_int_equal(take(VHOST_USER_SET_CONFIG, &(struct vhost_user_config){ 0 }, 12, -1),
			 -EPERM);
}

/* ---- memory ---- */

struct table {
	struct vhost_user_memory head;
	struct vhost_user_region regions[3];
};

static int take_table(const struct table *t, size_t bytes, uint32_t fds)
{
	struct vhost_message m = message_make(VHOST_USER_SET_MEM_TABLE, t, bytes);
	int ret;

	for (uint32_t i = 0; i < fds; i++)
		message_add_fd(&m, memory_make(BYTES));
	ret = frontend_take(&fe, &m, &result);
	message_close(&m);
	assert_int_equal(fds_open(0), fds_before + fe.regions.count);
	return ret;
}

static void test_tables(void **state)
{
	struct table t = { { .count = 3 },
			   { { 0, BYTES, USER, 0 },
			     { BYTES, BYTES, USER + BYTES, 0 },
			     { 2 * BYTES, BYTES, USER + 2 * BYTES, 0 } } };

	(void)state;
	assert_int_equal(take_table(&t, sizeof(t), 3), 0);
	assert_int_equal(fe.regions.count, 3);
	assert_int_equal(take_table(&t, sizeof(t), 2), -EINVAL);
	assert_int_equal(take_table(&t, sizeof(t), 4), -EINVAL);
	assert_int_equal(take_table(&t, sizeof(t) - 8, 3), -EINVAL);
	t.head.count = UINT32_MAX;
	assert_int_equal(take_table(&t, sizeof(t), 3), -EINVAL);
	t.head.count = 2; /* replaces all, also with what was there */
	assert_int_equal(take_table(&t, sizeof(t) - 32, 2), 0);
	assert_int_equal(fe.regions.count, 2);
	t.regions[1].guest_addr = 0;
	assert_int_equal(take_table(&t, sizeof(t) - 32, 2), -EEXIST);
	assert_int_equal(fe.regions.count, 2); /* as it was */
	t.head.count = 0;
	assert_int_equal(take_table(&t, sizeof(t.head), 0), 0);
	assert_int_equal(fe.regions.count, 0);
}

static void test_memory_is_taken_back(void **state)
{
	struct frontend_saved saved;

	(void)state;
	assert_int_equal(add_memory(0, USER), 0);
	frontend_save(&fe, &saved);
	assert_int_equal(add_memory(BYTES, USER + BYTES), 0);
	assert_int_equal(remove_memory(0, USER), 0);
	frontend_undo(&fe, &saved);
	assert_int_equal(fe.regions.count, 1);
	assert_int_equal(fe.regions.regions[0]->gpa, 0);
	frontend_forget(&saved);
	assert_int_equal(fds_open(0), fds_before + 1);
	frontend_save(&fe, &saved);
	assert_int_equal(remove_memory(0, USER), 0);
	frontend_forget(&saved);
	assert_int_equal(fds_open(0), fds_before);
	assert_int_equal(remove_memory(0, USER), -ENOENT);
}

/* REM_MEM_REG may come with a descriptor, which is closed. */
static void test_removal_with_a_descriptor(void **state)
{
	const struct vhost_user_single_region r = { 0, { 0, BYTES, USER, 0 } };

	(void)state;
	assert_int_equal(add_memory(0, USER), 0);
	assert_int_equal(take(VHOST_USER_REM_MEM_REG, &r, sizeof(r), memory_make(BYTES)), 0);
	assert_int_equal(fds_open(0), fds_before);
}

/* ---- log, buffer, channel, state ---- */

static int set_log(uint64_t bytes, uint64_t offset, int fd)
{
	const struct vhost_user_log log = { bytes, offset };

	return take(VHOST_USER_SET_LOG_BASE, &log, sizeof(log), fd);
}

static void test_logs(void **state)
{
	const int memory = memory_make(2 * PAGE);

	(void)state;
	assert_int_equal(set_log(0, 0, dup(memory)), -EINVAL);
	assert_int_equal(set_log(PAGE, 8, dup(memory)), -EINVAL);
	assert_int_equal(set_log(UINT64_MAX, 0, dup(memory)), -EINVAL);
	assert_int_equal(set_log(PAGE, UINT64_MAX - PAGE + 1, dup(memory)), -EINVAL);
	assert_int_equal(set_log(PAGE + 1, PAGE, dup(memory)), -EBADF);
	assert_int_equal(set_log(PAGE, 0, reopen(memory, O_RDONLY)), -EBADF);
	assert_int_equal(set_log(PAGE, 0, event_make(0)), -EBADF);
	assert_int_equal(set_log(PAGE, PAGE, memory), 0);
	assert_false(frontend_logs(&fe)); /* until the feature says so */
	assert_int_equal(take_u64(VHOST_USER_SET_FEATURES, FEATURES | 1ull << 26, -1), 0);
	assert_true(frontend_logs(&fe));
}

static void test_inflight_buffer(void **state)
{
	struct vhost_user_inflight i = { .queues = QUEUES, .queue_size = 128 };
	int fd;

	(void)state;
	assert_int_equal(take(VHOST_USER_GET_INFLIGHT_FD, &i, sizeof(i), -1), 0);
	assert_int_equal(result.out.header.size, sizeof(i));
	i = result.out.payload.inflight;
	fd = result.out_fd;
	assert_true(fd >= 0);
	assert_int_equal(take(VHOST_USER_SET_INFLIGHT_FD, &i, sizeof(i), dup(fd)), 0);
	assert_int_equal(pwrite(fd, &(uint8_t){ 1 }, 1, 16), 1);
	assert_int_equal(take(VHOST_USER_SET_INFLIGHT_FD, &i, sizeof(i), fd), -EBUSY);
	/* As the specification has it: without the padding, so is the answer. */
	assert_int_equal(take(VHOST_USER_GET_INFLIGHT_FD, &i, 20, -1), 0);
	assert_int_equal(result.out.header.size, 20);
	close(result.out_fd);
	i.queues = QUEUES + 1;
	assert_int_equal(take(VHOST_USER_GET_INFLIGHT_FD, &i, sizeof(i), -1), -EINVAL);
	assert_int_equal(result.out_fd, -1);
}

static void test_channels(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(take(VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, event_make(0)), -EBADF);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(take_u64(VHOST_USER_SET_BACKEND_REQ_FD, 0, pair[1]), 0);
		close(pair[0]);
	}
	assert_int_equal(fds_open(0), fds_before + 1);
}

static void test_state_of_what_is_stopped(void **state)
{
	const struct vhost_user_device_state save = { 0, 0 }, wrong = { 2, 0 }, phase = { 0, 1 };

	(void)state;
	assert_int_equal(take(VHOST_USER_SET_DEVICE_STATE_FD, &wrong, 8, event_make(0)), -EINVAL);
	assert_int_equal(take(VHOST_USER_SET_DEVICE_STATE_FD, &phase, 8, event_make(0)), -EINVAL);
	start();
	assert_int_equal(take(VHOST_USER_SET_DEVICE_STATE_FD, &save, 8, event_make(0)), -EBUSY);
	base();
	assert_int_equal(take(VHOST_USER_SET_DEVICE_STATE_FD, &save, 8, event_make(0)), 0);
	assert_int_equal(result.errand, FRONTEND_TRANSFER);
	assert_int_equal(take(VHOST_USER_CHECK_DEVICE_STATE, NULL, 0, -1), 0);
	assert_int_equal(result.errand, FRONTEND_CHECK);
}

static void test_owner_resets(void **state)
{
	(void)state;
	assert_int_equal(take(VHOST_USER_SET_OWNER, NULL, 0, -1), 0);
	start();
	assert_int_equal(take(VHOST_USER_RESET_OWNER, NULL, 0, -1), 0);
	assert_false(frontend_serves(&fe, 0));
	start_part(5);
	assert_true(frontend_serves(&fe, 0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order_does_not_matter),
		TEST(test_enabled_by_its_start),
		TEST(test_rings_that_there_are_not),
		TEST(test_values_of_rings),
		TEST(test_rings_out_of_memory),
		TEST(test_bases),
		TEST(test_eventfds_are_made_non_blocking),
		TEST(test_descriptors_that_are_no_eventfds),
		TEST(test_no_descriptor),
		TEST(test_serials_are_never_used_twice),
		TEST(test_features),
		TEST(test_configuration),
		TEST(test_tables),
		TEST(test_memory_is_taken_back),
		TEST(test_removal_with_a_descriptor),
		TEST(test_logs),
		TEST(test_inflight_buffer),
		TEST(test_channels),
		TEST(test_state_of_what_is_stopped),
		TEST(test_owner_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
