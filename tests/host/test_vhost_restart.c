/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly vhost-user` as its users have it, under a front-end's verified load: killed and started again, told to
 * end and started again, its image grown, each device replaced more often than figures are kept.  COUNT=n: how
 * often it is killed (10).
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/box/box.h"
#include "core/cc.h"
#include "tests/host/apidoc.h"
#include "tests/rig/blkload.h"
#include "tests/rig/mayfly.h"
#include "tests/rig/vhostclient.h"

#define IMAGE_BYTES (16ull << 20)
#define MEMORY_BYTES (64ull << 20)
#define WAIT_NS (20 * NS_PER_S)
#define STEP_NS (50 * NS_PER_MS)
#define QUICK 10

static char dir[64], words[512], socket_path[96];
static int err = -1, log_fd = -1;
static pid_t pid;
static struct guestmem mem;
static struct ringdrv_queue rings[2];
static struct vhostclient client;
static struct blkload load;

static void start(void)
{
	assert_int_equal(mayfly_start(words, sock, err, &pid), 0);
}

static void connect_it(void)
{
	assert_int_equal(vhostclient_connect(&client, socket_path, WAIT_NS), 0);
	assert_int_equal(vhostclient_start(&client, &mem, rings, 2), 0);
}

static void run(uint64_t requests)
{
	const uint64_t goal = blkload_completed(&load) + requests;
	const uint64_t end = now_ns() + WAIT_NS;

	while (blkload_completed(&load) < goal && now_ns() < end)
		assert_true(blkload_step(&load, STEP_NS) >= 0);
	assert_true(blkload_completed(&load) >= goal);
}

static void check(void)
{
	assert_int_equal(blkload_drain(&load, WAIT_NS), 0);
	assert_int_equal(blkload_verify(&load, WAIT_NS), 0);
	if (!blkload_clean(&load))
		fail_msg("%s", blkload_complaint(&load));
	blkload_resume(&load);
}

/* The next begins while processes of the last may still be dying: their image is waited for. */
static void test_killed(void **state)
{
	const char *text = getenv("COUNT");
	const uint64_t count = text != NULL ? strtoull(text, NULL, 10) : QUICK;

	(void)state;
	for (uint64_t i = 0; i < count; i++) {
		run(50 + i * 37 % 200);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		vhostclient_drop(&client);
		start();
		connect_it();
	}
	run(300);
	check();
}

static void test_told_to_end(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		run(100);
		assert_int_equal(mayfly_stop(pid), 0);
		assert_int_equal(vhostclient_wait_closed(&client, WAIT_NS), 0);
		vhostclient_drop(&client);
		start();
		connect_it();
	}
	run(300);
	check();
}

/* Somebody still has the image, as a process of a killed back-end that waits for its storage does. */
static void test_image_is_waited_for(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[96];
	pid_t holder;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/disk.img", dir);
	run(100);
	assert_int_equal(mayfly_stop(pid), 0);
	vhostclient_drop(&client);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	holder = fork();
	if (holder == 0) {
		usleep(300000);
		_exit(0);
	}
	assert_true(holder > 0);
	close(fd);
	start();
	assert_int_equal(waitpid(holder, NULL, 0), holder);
	connect_it();
	run(100);
	check();
}

/* With requests outstanding.  That its writes are logged is what tells a migration from any other stop. */
static void move(struct vhostclient *from, struct vhostclient *to)
{
	uint32_t bases[2];

	run(50);
	assert_int_equal(vhostclient_set_log_base(from, MEMORY_BYTES / VHOST_USER_LOG_PAGE / 8, 0,
						  log_fd),
			 0);
	assert_int_equal(vhostclient_set_features(from, from->features | 1ull << VHOST_F_LOG_ALL),
			 0);
	assert_int_equal(vhostclient_stop(from, bases), 0);
	vhostclient_set_bases(to, bases, 2);
	assert_int_equal(vhostclient_start(to, &mem, rings, 2), 0);
}

static void is_refused(struct vhostclient *c, const char *path)
{
	assert_int_equal(vhostclient_connect(c, path, WAIT_NS), 0);
	assert_int_equal(vhostclient_start(c, &mem, rings, 2), -ECONNRESET);
	vhostclient_drop(c);
}

/* A guest that migrates has a back-end on both sides, which take turns at the image; no third one gets it. */
static void test_moves(void **state)
{
	char target_words[640], incoming_words[660], target_sock[96], target_socket[96];
	struct mayfly_result third;
	struct vhostclient target;
	pid_t target_pid;

	(void)state;
	snprintf(target_sock, sizeof(target_sock), "%s/target-api.sock", dir);
	snprintf(target_socket, sizeof(target_socket), "%s/target.sock", dir);
	snprintf(target_words, sizeof(target_words),
		 "vhost-user blk --socket %s --disk id=disk0,path=%s/disk.img,queues=2 "
		 "--state-dir %s/target --api-socket %s",
		 target_socket, dir, dir, target_sock);
	assert_int_equal(mayfly_call(target_words, &third), 0);
	assert_int_equal(third.status, 1);
	assert_non_null(
		strstr(third.err,
		       "disk.img is locked: another VMM or back-end uses it: end that, or give"));
	snprintf(incoming_words, sizeof(incoming_words), "%s --incoming", target_words);
	assert_int_equal(mayfly_start(incoming_words, target_sock, err, &target_pid), 0);
	vhostclient_init(&target);
	target.wanted_protocol |= VHOST_USER_PROTOCOL_BIT(LOG_SHMFD);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_int_equal(ftruncate(log_fd, MEMORY_BYTES / VHOST_USER_LOG_PAGE / 8), 0);
	/* Not while the other side serves, nor when that has only stopped, as in a reboot .. */
	run(100);
	is_refused(&target, target_socket);
	assert_int_equal(vhostclient_stop(&client, NULL), 0);
	is_refused(&target, target_socket);
	assert_int_equal(vhostclient_start(&client, &mem, rings, 2), 0);
	run(100);
	assert_int_equal(vhostclient_connect(&target, target_socket, WAIT_NS), 0);
	/* .. then there and back. */
	for (uint32_t i = 0; i < QUICK; i++) {
		move(&client, &target);
		vhostclient_drop(&client);
		is_refused(&client, socket_path);
		assert_int_equal(vhostclient_connect(&client, socket_path, WAIT_NS), 0);
		move(&target, &client);
	}
	check();
	vhostclient_free(&target);
	close(log_fd);
	assert_int_equal(mayfly_stop(target_pid), 0);
}

static void test_grows(void **state)
{
	char path[96], body[192];
	struct vhostclient_message m;
	uint64_t capacity;

	(void)state;
	snprintf(path, sizeof(path), "%s/disk.img", dir);
	snprintf(body, sizeof(body), "{\"drive_id\":\"disk0\",\"path_on_host\":\"%s\"}", path);
	assert_int_equal(truncate(path, 2 * IMAGE_BYTES), 0);
	run(50);
	takes("PATCH", "/drives/disk0", body);
	assert_int_equal(vhostclient_backend_receive(&client, &m), 0);
	assert_int_equal(m.header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(vhostclient_get_config(&client, 0, &capacity, sizeof(capacity)), 0);
	assert_int_equal(capacity, 2 * IMAGE_BYTES / 512);
	refuses("PATCH", "/drives/disk0",
		"{\"drive_id\":\"disk0\",\"path_on_host\":\"/etc/passwd\"}", 400,
		"path_on_host: a back-end opens no other image");
	run(50);
	check();
}

/* More than DEVICE_SAMPLES: what is made of them must not ask the kernel for anything. */
static void test_figures(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < DEVICE_SAMPLES + 10; i++) {
		run(5);
		takes("POST", "/devices/disk0/replace", NULL);
	}
	takes("GET", "/devices/disk0", NULL);
	answer_fits("GET", "/devices/{id}");
	check();
}

static int setup(void **state)
{
	const struct blkload_config mix = { .sectors = IMAGE_BYTES / 512, .seed = 21 };
	struct ringdrv_config ring = { .features = RINGDRV_INDIRECT | RINGDRV_EVENT_IDX |
						   RINGDRV_VERSION_1,
				       .size = 128,
				       .in_order = true };
	char path[96];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-vhost-XXXXXX");
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	err = memfd_create("err", MFD_CLOEXEC);
	if (document == NULL || err < 0 || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	snprintf(socket_path, sizeof(socket_path), "%s/disk.sock", dir);
	snprintf(path, sizeof(path), "%s/disk.img", dir);
	snprintf(words, sizeof(words),
		 "vhost-user blk --socket %s --disk id=disk0,path=%s,queues=2 --state-dir %s/state "
		 "--api-socket %s",
		 socket_path, path, dir, sock);
	close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	assert_int_equal(truncate(path, IMAGE_BYTES), 0);
	guestmem_init(&mem);
	assert_int_equal(guestmem_add(&mem, 0, MEMORY_BYTES, GUESTMEM_4K), 0);
	vhostclient_init(&client);
	client.wanted_protocol |= VHOST_USER_PROTOCOL_BIT(LOG_SHMFD);
	assert_int_equal(blkload_init(&load, &mem, &mix), 0);
	for (uint16_t i = 0; i < 2; i++) {
		ring.number = i;
		assert_int_equal(ringdrv_init(&rings[i], &mem, &ring), 0);
		assert_int_equal(blkload_add_queue(&load, &rings[i], 16), 0);
	}
	start();
	connect_it();
	return 0;
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	if (mayfly_stop(pid) != 0)
		return -1;
	blkload_free(&load);
	ringdrv_free(&rings[0]);
	ringdrv_free(&rings[1]);
	vhostclient_free(&client);
	guestmem_free(&mem);
	json_decref(answer);
	json_decref(document);
	close(err);
	snprintf(path, sizeof(path), "%s/disk.img", dir);
	unlink(path);
	return rmdir(dir); /* sockets and state went with it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_told_to_end),
		cmocka_unit_test(test_image_is_waited_for),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_figures),
	};

	return cmocka_run_group_tests_name("vhost restart", tests, setup, teardown);
}
