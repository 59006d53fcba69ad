/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user back-end with sealed release programs, and a front-end as QEMU is one: started, stopped, left,
 * come back, its memory and its eventfds changed under load, and replaced all the while.
 */
#include "tests/host/vhost.h"
#include "tests/rig/mirror.h"

/* A back-end that ends does not wait for a change that takes too long; the supervisor, which goes on with it, is left
 * what it needs: memory and eventfds of a front-end that is gone. */
static void test_cut_short(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	struct device_status before, after;
	const uint64_t by = now_ns() + VHOST_WAIT_NS;

	(void)state;
	device_status(v->broker.svc.dev, &before);
	assert_true(before.pid > 1);
	assert_int_equal(kill(before.pid, SIGSTOP), 0); /* it does not park, and has to be killed */
	service_stop(&v->broker.svc);
	assert_int_equal(vhostclient_connect(&v->client, v->path, VHOST_WAIT_NS), 0);
	assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, 1), -ECONNRESET);
	do {
		usleep(10000);
		device_status(v->broker.svc.dev, &after);
	} while (after.generation == before.generation && now_ns() < by);
	assert_true(after.generation > before.generation);
	vhost_rig_stop(v);
}

static void test_serves(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 1);
	vhost_rig_run(v, 2000);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* The base is where each ring stands, and it goes on there. */
static void test_stops_and_goes_on(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });
	uint32_t bases[2];

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 2);
	for (uint32_t n = 0; n < 5; n++) {
		vhost_rig_run(v, 300);
		assert_int_equal(vhostclient_stop(&v->client, bases), 0);
		for (uint32_t i = 0; i < 2; i++)
			assert_int_equal(bases[i], ringdrv_peek_used_idx(&v->rings[i]));
		assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, 2), 0);
	}
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* A driver that resets its device puts its rings back where they were, at 0, and asks before they are served: what was
 * seen of them before says nothing of that. */
static void test_begins_anew(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	struct replacement r;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 12);
	for (uint32_t n = 0; n < 3; n++) {
		assert_true(blkload_fill(&v->load) > 0);
		assert_int_equal(blkload_drain(&v->load, VHOST_WAIT_NS), 0);
		/* Looks at the ring when as much is done as will be asked. */
		assert_int_equal(device_replace(v->broker.svc.dev, REPLACE_OPERATOR, true, &r), 0);
		assert_int_equal(vhostclient_stop(&v->client, NULL), 0);
		ringdrv_reset(&v->rings[0]);
		blkload_resume(&v->load);
		assert_true(blkload_fill(&v->load) > 0);
		assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, 1), 0);
		assert_int_equal(blkload_drain(&v->load, VHOST_WAIT_NS), 0);
		assert_int_equal(vhostclient_stop(&v->client, NULL), 0);
		ringdrv_reset(&v->rings[0]);
		blkload_resume(&v->load);
		assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, 1), 0);
	}
	vhost_rig_run(v, 200);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

static void test_leaves_and_returns(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 3);
	for (uint32_t n = 0; n < 10; n++) {
		vhost_rig_go(v);
		usleep(20000);
		vhostclient_drop(&v->client);
		vhost_rig_connect(v);
		vhost_rig_halt(v);
	}
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

static void test_memory_comes_and_goes(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });
	struct front_end before, after;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 4);
	vhost_rig_go(v);
	broker_status(&v->broker, &before);
	for (uint32_t n = 0; n < 20; n++) {
		assert_int_equal(guestmem_add(&v->mem, 4ull << 30, 32ull << 20, GUESTMEM_4K), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
		assert_int_equal(guestmem_remove(&v->mem, 4ull << 30, NULL), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
	}
	broker_status(&v->broker, &after);
	assert_true(after.handoffs >= before.handoffs + 40);
	vhost_rig_halt(v);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* As QEMU does when the guest masks an interrupt: the ring runs on, and no call is lost. */
static void test_call_changes(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	const int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 5);
	vhost_rig_go(v);
	for (uint32_t n = 0; n < 20; n++) {
		assert_int_equal(vhostclient_set_vring_call(&v->client, 0, other), 0);
		assert_int_equal(vhostclient_set_vring_call(&v->client, 0, v->rings[0].fd_call), 0);
	}
	vhost_rig_halt(v);
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	close(other);
	vhost_rig_stop(v);
}

/* Mappings of that file in all processes that are children of this one, and in this one but for the rig's. */
static uint32_t mappings_of(const struct vhost_rig *v, ino_t ino)
{
	char path[64], line[512];
	struct device_status *s = malloc(sizeof(*s));
	uint32_t n = 0;

	assert_non_null(s);
	device_status(v->broker.svc.dev, s);
	const pid_t pids[] = { s->pid, s->standby_pid, getpid() };

	free(s);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		FILE *maps;
		unsigned long long inode;

		snprintf(path, sizeof(path), "/proc/%d/maps", pids[i]);
		maps = fopen(path, "re");
		while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
			n += sscanf(line, "%*s %*s %*s %*s %llu", &inode) == 1 && inode == ino;
		if (maps != NULL)
			fclose(maps);
	}
	return n;
}

/* After REM_MEM_REG is answered nobody has it: no write seal can be set on a file that somebody could write. */
static void test_removed_is_gone(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	struct stat st;
	int fd = -1;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 6);
	vhost_rig_go(v);
	assert_int_equal(guestmem_add(&v->mem, 4ull << 30, 32ull << 20, GUESTMEM_4K), 0);
	assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
	assert_int_equal(fstat(v->mem.fds[1], &st), 0);
	assert_true(mappings_of(v, st.st_ino) >= 3); /* the rig's, the broker's, a box's */
	assert_int_equal(guestmem_remove(&v->mem, 4ull << 30, &fd), 0);
	assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
	assert_int_equal(mappings_of(v, st.st_ino), 0);
	close(fd);
	/* Nor those that served before, which nobody asks for any more. */
	for (uint32_t n = 0; n < 20; n++) {
		assert_int_equal(guestmem_add(&v->mem, 4ull << 30, 32ull << 20, GUESTMEM_4K), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
		assert_int_equal(guestmem_remove(&v->mem, 4ull << 30, &fd), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
		close(fd);
	}
	vhost_rig_halt(v);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* Regions that are sent without waiting for the answers are one change. */
static void test_changes_share_one(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	struct front_end before, after;

	(void)state;
	v->client.acks = VHOSTCLIENT_ACK_NONE;
	vhost_rig_connect(v);
	broker_status(&v->broker, &before);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(guestmem_add(&v->mem, (4 + i) << 30, 2ull << 20, GUESTMEM_4K), 0);
	assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
	assert_int_equal(vhostclient_sync(&v->client), 0);
	broker_status(&v->broker, &after);
	assert_int_equal(after.regions, 9);
	assert_true(after.handoffs >= before.handoffs + 1);
	assert_true(after.handoffs <= before.handoffs + 3); /* as they came; 8 if each were one */
	vhost_rig_load(v, 7);
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* Replaced and killed while its memory changes. */
static void test_in_the_midst(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });
	struct device *dev = v->broker.svc.dev;
	struct replacement r;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 8);
	vhost_rig_go(v);
	for (uint32_t n = 0; n < 30; n++) {
		const bool in = n % 2 == 0;

		if (n % 3 == 0)
			device_condemn(dev, REPLACE_OPERATOR);
		else
			device_replace_post(dev, REPLACE_SCHEDULE, false);
		if (in)
			assert_int_equal(guestmem_add(&v->mem, 4ull << 30, 8ull << 20, GUESTMEM_4K),
					 0);
		else
			assert_int_equal(guestmem_remove(&v->mem, 4ull << 30, NULL), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
	}
	vhost_rig_halt(v);
	assert_int_equal(device_replace(dev, REPLACE_OPERATOR, true, &r), 0);
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* A larger image: the device has it, its front-end is told and reads the new size. */
static void test_resize(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	union dev_config config = {
		.blk = { .bytes = 2 * VHOST_IMAGE, .flags = BLK_FLUSH, .align = 1 }
	};
	struct vhostclient_message m;
	uint64_t capacity;
	const char *why;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 9);
	vhost_rig_go(v);
	assert_int_equal(vhostclient_get_config(&v->client, 0, &capacity, sizeof(capacity)), 0);
	assert_int_equal(capacity, VHOST_IMAGE / 512);
	assert_int_equal(ftruncate(v->image, 2 * VHOST_IMAGE), 0);
	assert_int_equal(broker_configure(&v->broker, 2 * VHOST_IMAGE, &config, &why), 0);
	assert_int_equal(vhostclient_backend_receive(&v->client, &m), 0);
	assert_int_equal(m.header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(vhostclient_get_config(&v->client, 0, &capacity, sizeof(capacity)), 0);
	assert_int_equal(capacity, 2 * VHOST_IMAGE / 512);
	vhost_rig_halt(v);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* ---- migration ---- */

static void expect_alike(struct mirror *mirror)
{
	const uint64_t end = now_ns() + VHOST_WAIT_NS;
	uint64_t differs;

	do {
		usleep(1000);
		mirror_fetch(mirror);
		differs = mirror_differs(mirror, now_ns() > end);
	} while (differs != 0 && now_ns() < end);
	assert_int_equal(differs, 0);
}

/* The log comes while its rings run, as QEMU has it: the log, then the feature.  A copy of guest memory that
 * follows what is marked is alike to the byte whenever all is quiet, through replacements and deaths. */
static void test_log(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	struct device *dev = v->broker.svc.dev;
	struct mirror mirror;

	(void)state;
	v->client.wanted_protocol |= VHOST_USER_PROTOCOL_BIT(LOG_SHMFD);
	vhost_rig_connect(v);
	vhost_rig_load(v, 10);
	vhost_rig_run(v, 100);
	assert_int_equal(mirror_begin(&mirror, &v->mem, 4096), 0);
	assert_int_equal(vhostclient_set_log_base(&v->client, mirror.bytes, 4096, mirror.fd), 0);
	assert_int_equal(vhostclient_set_features(&v->client,
						  v->client.features | 1ull << VHOST_F_LOG_ALL),
			 0);
	assert_int_equal(vhostclient_sync(&v->client), 0);
	mirror_copy(&mirror);
	for (uint32_t n = 0; n < 12; n++) {
		if (n % 3 == 1)
			device_replace_post(dev, REPLACE_SCHEDULE, false);
		if (n % 3 == 2)
			device_condemn(dev, REPLACE_OPERATOR);
		vhost_rig_run(v, 200);
		assert_int_equal(blkload_drain(&v->load, VHOST_WAIT_NS), 0);
		expect_alike(&mirror);
		blkload_resume(&v->load);
	}
	assert_true(mirror.marked > 0);
	assert_int_equal(vhostclient_set_features(&v->client, v->client.features), 0);
	assert_int_equal(vhostclient_sync(&v->client), 0);
	mirror_end(&mirror);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* A ring that stops has nobody who would mark it later, so that is done then, whatever was marked before. */
static void test_stopped_is_marked(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	const uint64_t page = v->rings[0].used_gpa / 4096, bytes = VHOST_MEMORY / 4096 / 8;
	const int fd = memfd_create("log", MFD_CLOEXEC);
	uint8_t *log;

	(void)state;
	assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	log = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(log != MAP_FAILED);
	v->client.wanted_protocol |= VHOST_USER_PROTOCOL_BIT(LOG_SHMFD);
	vhost_rig_connect(v);
	vhost_rig_load(v, 13);
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	assert_int_equal(vhostclient_set_log_base(&v->client, bytes, 0, fd), 0);
	assert_int_equal(vhostclient_set_features(&v->client,
						  v->client.features | 1ull << VHOST_F_LOG_ALL),
			 0);
	assert_int_equal(vhostclient_sync(&v->client), 0);
	usleep(20000); /* the new one has said that it wants kicks, and sleeps */
	memset(log, 0, bytes);
	assert_int_equal(vhostclient_stop(&v->client, NULL), 0);
	assert_int_equal(log[page / 8] >> page % 8 & 1, 1);
	munmap(log, bytes);
	close(fd);
	vhost_rig_stop(v);
}

/* What it has beside its rings goes to another back-end and is taken there; of another disk it is not. */
static void test_state(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	uint64_t good = 1;
	uint8_t stream[4096];
	ssize_t n;
	int pair[2], back;

	(void)state;
	v->client.wanted_protocol |= VHOST_USER_PROTOCOL_BIT(DEVICE_STATE);
	vhost_rig_connect(v);
	vhost_rig_load(v, 11);
	vhost_rig_run(v, 100);
	assert_int_equal(vhostclient_stop(&v->client, NULL), 0);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(vhostclient_set_device_state_fd(&v->client, VHOST_USER_STATE_SAVE, pair[1],
							 &back),
			 0);
	close(pair[1]);
	n = read(pair[0], stream, sizeof(stream));
	assert_true(n > 40);
	assert_int_equal(vhostclient_check_device_state(&v->client, &good), 0);
	assert_int_equal(good, 0);
	close(pair[0]);
	for (uint32_t damage = 0; damage < 3; damage++) {
		assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
		assert_int_equal(vhostclient_set_device_state_fd(&v->client, VHOST_USER_STATE_LOAD,
								 pair[0], &back),
				 0);
		stream[24] ^= (uint8_t)(damage == 1); /* the hash of the configuration */
		stream[n - 1] ^= (uint8_t)(damage == 2);
		assert_int_equal(write(pair[1], stream, (size_t)n), n);
		close(pair[1]);
		close(pair[0]);
		assert_int_equal(vhostclient_check_device_state(&v->client, &good), 0);
		assert_int_equal(good != 0, damage != 0);
		stream[24] ^= (uint8_t)(damage == 1);
		stream[n - 1] ^= (uint8_t)(damage == 2);
	}
	assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, 1), 0);
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_serves),
		cmocka_unit_test(test_stops_and_goes_on),
		cmocka_unit_test(test_begins_anew),
		cmocka_unit_test(test_leaves_and_returns),
		cmocka_unit_test(test_memory_comes_and_goes),
		cmocka_unit_test(test_call_changes),
		cmocka_unit_test(test_removed_is_gone),
		cmocka_unit_test(test_changes_share_one),
		cmocka_unit_test(test_in_the_midst),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_stopped_is_marked),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
