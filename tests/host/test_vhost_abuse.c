/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile front-end: what it may do to what it has shared, memory, rings and eventfds, and how often it may come
 * and go.  The back-end neither dies, nor waits, nor keeps anything, and serves an honest one afterwards.
 */
#include <ctype.h>
#include <dirent.h>

#include "tests/host/vhost_hostile.h"
#include "tests/rig/fds.h"

/* ---- memory that goes ---- */

static void truncate_memory(struct hostile *h, uint64_t bytes)
{
	assert_int_equal(ftruncate(h->mem.fds[0], (off_t)bytes), 0);
}

/* The device dies of it, is recovered, and given up in the end; the connection stays, and can be closed. */
static void test_memory_truncated_under_a_ring(void **state)
{
	struct hostile *h = hostile_open();
	uint32_t base;

	(void)state;
	hostile_start(h);
	assert_true(hostile_request(h, VHOST_WAIT_NS));
	truncate_memory(h, 0);
	ringdrv_kick_always(&h->ring); /* touches nothing: eventfd_write */
	hostile_await_error(h);
	assert_int_equal(vhostclient_sync(&h->c), 0);
	assert_int_equal(vhostclient_get_vring_base(&h->c, 0, &base), 0);
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

/* The back-end reads used->idx where nothing is any more. */
static void test_memory_truncated_before_a_stop(void **state)
{
	struct hostile *h = hostile_open();
	uint32_t base;

	(void)state;
	hostile_start(h);
	assert_true(hostile_request(h, VHOST_WAIT_NS));
	truncate_memory(h, 0);
	assert_int_equal(vhostclient_set_vring_enable(&h->c, 0, 0), 0);
	assert_int_equal(vhostclient_get_vring_base(&h->c, 0, &base), 0);
	assert_true(base <= UINT16_MAX);
	/* It comes back, and all is as new. */
	truncate_memory(h, EVIL_MEMORY);
	h->c.ring_count = 0;
	h->c.bases_known = false;
	ringdrv_reset(&h->ring);
	hostile_start(h);
	assert_true(hostile_request(h, VHOST_WAIT_NS));
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

static void test_memory_truncated_and_gone(void **state)
{
	struct hostile *h = hostile_open();

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		hostile_start(h);
		truncate_memory(h, PAGE);
		hostile_leave(h);
		truncate_memory(h, EVIL_MEMORY);
		hostile_serve_other(h);
		ringdrv_reset(&h->ring);
	}
	hostile_close(h);
}

/* Told that it cannot be, and served on. */
static void test_memory_of_a_ring_removed(void **state)
{
	struct hostile *h = hostile_open();
	struct vhost_rig *v = h->v;
	struct vhost_user_region r;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_run(v, 50);
	r = v->client.regions[0];
	assert_int_equal(vhostclient_rem_mem_reg(&v->client, &r, -1), -EREMOTEIO);
	assert_int_equal(hostile_lines(h), 1);
	vhost_rig_run(v, 50);
	assert_int_equal(vhostclient_set_mem_table(&v->client, &r, NULL, 0), -EREMOTEIO);
	assert_int_equal(hostile_lines(h), 1);
	vhost_rig_run(v, 50);
	vhost_rig_check(v);
	hostile_close(h);
}

/* ---- rings ---- */

/* On the same connection: with a ring that is right again. */
static void start_again(struct hostile *h)
{
	assert_int_equal(vhostclient_stop(&h->c, NULL), 0);
	h->c.bases_known = false;
	ringdrv_reset(&h->ring);
	hostile_start(h);
	assert_true(hostile_request(h, VHOST_WAIT_NS));
}

static void test_avail_far_ahead(void **state)
{
	struct hostile *h = hostile_open();

	(void)state;
	hostile_start(h);
	for (uint32_t i = 0; i < 3; i++) {
		ringdrv_evil_avail_idx(&h->ring, (uint16_t)(h->ring.avail_idx + 5000));
		ringdrv_kick_always(&h->ring);
		hostile_await_error(h);
		start_again(h);
	}
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

static void test_heads_and_descriptors_of_nonsense(void **state)
{
	const struct virtq_desc far = { UINT64_MAX - 8, UINT32_MAX, VIRTQ_DESC_F_NEXT, 0 };
	struct hostile *h = hostile_open();

	(void)state;
	hostile_start(h);
	ringdrv_evil_avail(&h->ring, h->ring.avail_idx, 999);
	ringdrv_evil_avail_idx(&h->ring, (uint16_t)(h->ring.avail_idx + 1));
	ringdrv_kick_always(&h->ring);
	hostile_await_error(h);
	start_again(h);
	ringdrv_evil_desc(&h->ring, 7, &far);
	ringdrv_evil_avail(&h->ring, h->ring.avail_idx, 7);
	ringdrv_evil_avail_idx(&h->ring, (uint16_t)(h->ring.avail_idx + 1));
	ringdrv_kick_always(&h->ring);
	hostile_await_error(h);
	start_again(h);
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

/* What a successor would go on from. */
static void test_used_moved(void **state)
{
	struct hostile *h = hostile_open();

	(void)state;
	hostile_start(h);
	assert_true(hostile_request(h, VHOST_WAIT_NS));
	ringdrv_evil_used_idx(&h->ring, (uint16_t)(h->ring.used_idx + 3000));
	/* A change, and so a successor. */
	assert_int_equal(vhostclient_set_vring_call(&h->c, 0, h->err), 0);
	hostile_await_error(h);
	start_again(h);
	hostile_leave(h);
	hostile_serve_other(h);
	hostile_close(h);
}

/* ---- eventfds ---- */

/* Full and blocking: whoever writes waits for as long as the front-end likes. */
static void block(int fd)
{
	uint64_t count;

	do /* others may write as well */
		eventfd_read(fd, &count);
	while (eventfd_write(fd, UINT64_MAX - 1) != 0);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

static void test_error_eventfd_that_blocks(void **state)
{
	struct hostile *h = hostile_open();
	const int full = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	hostile_start(h);
	assert_int_equal(vhostclient_set_vring_err(&h->c, 0, full), 0);
	assert_int_equal(vhostclient_set_vring_err(&h->c, 1, h->err), 0);
	block(full);
	ringdrv_evil_avail_idx(&h->ring, (uint16_t)(h->ring.avail_idx + 5000));
	ringdrv_kick_always(&h->ring);
	hostile_await_error(h); /* of the ring after that one */
	assert_int_equal(vhostclient_sync(&h->c), 0);
	start_again(h);
	hostile_leave(h);
	hostile_serve_other(h);
	close(full);
	hostile_close(h);
}

/* The device is the one who waits then, and is replaced: calls are lost to whoever does that, and nobody else. */
static void test_call_eventfd_that_blocks(void **state)
{
	struct hostile *h = hostile_open();
	const int full = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	hostile_start(h);
	assert_int_equal(eventfd_write(full, UINT64_MAX - 1), 0);
	assert_int_equal(vhostclient_set_vring_call(&h->c, 0, full), 0);
	hostile_request(h, NS_PER_MS); /* full: nobody is told */
	assert_int_equal(fcntl(full, F_SETFL, 0), 0);
	hostile_request(h, NS_PER_MS);
	assert_int_equal(vhostclient_sync(&h->c), 0);
	assert_int_equal(vhostclient_set_vring_call(&h->c, 0, h->ring.fd_call), 0);
	start_again(h);
	hostile_leave(h);
	hostile_serve_other(h);
	close(full);
	hostile_close(h);
}

/* The device waits in a call, so that nobody takes the kicks; and who makes kicks good is not to wait, too. */
static void test_kick_eventfd_that_blocks(void **state)
{
	struct hostile *h = hostile_open();
	const int full = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	const int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct device_status status;
	const uint64_t end = now_ns() + VHOST_WAIT_NS;

	(void)state;
	hostile_start(h);
	assert_int_equal(vhostclient_set_vring_call(&h->c, 0, full), 0);
	assert_int_equal(vhostclient_set_vring_kick(&h->c, 0, kick), 0);
	block(full);
	hostile_request(h, NS_PER_MS); /* found by the look that every start begins with */
	block(kick);
	do /* until it was found to hang */
		device_status(h->v->broker.svc.dev, &status);
	while (status.deaths_in_window == 0 && now_ns() < end);
	assert_true(status.deaths_in_window != 0);
	hostile_leave(h);
	hostile_serve_other(h);
	close(full);
	close(kick);
	hostile_close(h);
}

/* Kicks that it takes back itself are made good by the supervisor's look. */
static void test_kicks_that_are_drained(void **state)
{
	struct hostile *h = hostile_open();
	uint64_t count;

	(void)state;
	vhost_rig_connect(h->v);
	vhost_rig_go(h->v);
	for (uint32_t i = 0; i < 2000; i++) {
		eventfd_read(h->v->rings[0].fd_kick, &count);
		eventfd_read(h->v->rings[1].fd_kick, &count);
	}
	vhost_rig_halt(h->v);
	vhost_rig_run(h->v, 50);
	vhost_rig_check(h->v);
	hostile_close(h);
}

/* ---- to come and to go ---- */

struct counts {
	uint32_t fds, maps, processes;
};

static pid_t parent_of(const char *pid)
{
	char path[64], text[512];
	const char *after;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	after = strrchr(text, ')'); /* the name may have anything in it */
	return after == NULL ? 0 : (pid_t)strtol(after + 4, NULL, 10);
}

/* Of this one or of its spawner, which is a child. */
static uint32_t count_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	uint32_t count = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		char parent[24];

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		const pid_t up = parent_of(e->d_name);

		snprintf(parent, sizeof(parent), "%d", up);
		count += up == getpid() || (up > 1 && parent_of(parent) == getpid());
	}
	closedir(dir);
	return count;
}

static uint32_t count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	uint32_t lines = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		lines += strchr(line, '\n') != NULL && strstr(line, "/memfd:") != NULL;
	fclose(f);
	return lines;
}

static struct counts count_all(void)
{
	return (struct counts){ fds_open(0), count_maps(), count_processes() };
}

/* One who has come is served alone: nothing is under way for those before. */
static struct counts count_at_rest(struct hostile *h, const struct counts *like)
{
	const uint64_t end = now_ns() + VHOST_WAIT_NS;
	struct counts c;

	assert_int_equal(vhostclient_connect(&h->c, h->v->path, VHOST_WAIT_NS), 0);
	assert_int_equal(vhostclient_sync(&h->c), 0);
	assert_int_equal(device_wait_standby(h->v->broker.svc.dev, WAIT_MS), 0);
	/* Processes that were replaced end in their own time. */
	do {
		c = count_all();
	} while (like != NULL && memcmp(&c, like, sizeof(c)) != 0 && now_ns() < end);
	hostile_leave(h);
	return c;
}

static void come_and_go(struct hostile *h, uint32_t how)
{
	struct vhostclient_message m;
	const uint64_t index = 0;

	hostile_greet(h);
	if (how % 4 == 1)
		assert_int_equal(vhostclient_set_memory(&h->c, &h->mem), 0);
	if (how % 4 == 2)
		hostile_start(h);
	if (how % 4 == 3) { /* in the middle of a message, with a descriptor */
		vhostclient_fill(&m, VHOST_USER_SET_VRING_CALL, &index, sizeof(index));
		assert_int_equal(vhostclient_send_part(&h->c, &m, 0, 13, &h->err, 1), 0);
	}
	hostile_leave(h);
}

static void test_comes_and_goes(void **state)
{
	struct hostile *h = hostile_open();
	struct counts before, after;
	struct front_end status;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		come_and_go(h, i);
	hostile_serve_other(h);
	before = count_at_rest(h, NULL);
	for (uint32_t i = 0; i < 200; i++)
		come_and_go(h, i);
	after = count_at_rest(h, &before);
	assert_int_equal(after.fds, before.fds);
	assert_int_equal(after.maps, before.maps);
	assert_int_equal(after.processes, before.processes);
	broker_status(&h->v->broker, &status);
	assert_int_equal(status.refused, 0);
	hostile_serve_other(h);
	hostile_close(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_truncated_under_a_ring),
		cmocka_unit_test(test_memory_truncated_before_a_stop),
		cmocka_unit_test(test_memory_truncated_and_gone),
		cmocka_unit_test(test_memory_of_a_ring_removed),
		cmocka_unit_test(test_avail_far_ahead),
		cmocka_unit_test(test_heads_and_descriptors_of_nonsense),
		cmocka_unit_test(test_used_moved),
		cmocka_unit_test(test_error_eventfd_that_blocks),
		cmocka_unit_test(test_call_eventfd_that_blocks),
		cmocka_unit_test(test_kick_eventfd_that_blocks),
		cmocka_unit_test(test_kicks_that_are_drained),
		cmocka_unit_test(test_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
