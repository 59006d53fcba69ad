/* SPDX-License-Identifier: Apache-2.0 */
/* Images: what is refused and how that is said, alignment, whom the lock keeps out and how long. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/image.h"

static char dir[4000];

static const char *path_of(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* A file of that size and mode; its path. */
static const char *make_file(const char *name, off_t bytes, mode_t mode)
{
	const char *path = path_of(name);
	cleanup_fd int fd = -1;

	unlink(path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	return path;
}

/* Opening must fail with this error, and say the path and `hint`. */
static void refused(const struct image_config *config, int error, const char *hint)
{
	char why[IMAGE_WHY_MAX];
	struct image image;

	assert_int_equal(image_open(&image, config, why), -error);
	assert_int_equal(image.fd, -1);
	if (strstr(why, config->path) == NULL || strstr(why, hint) == NULL)
		fail_msg("says \"%s\", not \"%s\"", why, hint);
	assert_null(strchr(why, '\n'));
	image_close(&image);
}

static struct image opened(const struct image_config *config)
{
	char why[IMAGE_WHY_MAX];
	struct image image;

	if (image_open(&image, config, why) != 0)
		fail_msg("%s", why);
	assert_string_equal(why, "");
	assert_true(image.fd >= 0);
	return image;
}

static void test_opens(void **state)
{
	const struct image_config config = { .path = make_file("disk", 1 << 20, 0600) };
	struct image image = opened(&config);

	(void)state;
	assert_int_equal(image.bytes, 1 << 20);
	assert_int_equal(image.align, 1);
	assert_false(image.readonly || image.direct || image.block);
	assert_int_equal(fcntl(image.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_DIRECT), O_RDWR);
	assert_int_equal(fcntl(image.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(pwrite(image.fd, "x", 1, 511), 1);
	image_close(&image);
	image_close(&image);
}

static void test_opens_readonly(void **state)
{
	const struct image_config config = { .path = make_file("disk", 4096, 0400),
					     .readonly = true };
	struct image image = opened(&config);

	(void)state;
	assert_true(image.readonly);
	assert_int_equal(fcntl(image.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	image_close(&image);
}

static void test_missing(void **state)
{
	(void)state;
	unlink(path_of("none"));
	refused(&(struct image_config){ .path = path_of("none") }, ENOENT,
		"does not exist: create it");
	make_file("disk", 4096, 0600);
	refused(&(struct image_config){ .path = path_of("disk/x") }, ENOTDIR, "cannot be opened");
}

static void test_unreadable(void **state)
{
	const char *path = make_file("disk", 4096, 0400);

	(void)state;
	if (geteuid() == 0) /* whom no mode stops */
		assert_int_equal(seteuid(1000), 0);
	refused(&(struct image_config){ .path = path }, EACCES, "not permitted to write it");
	assert_int_equal(seteuid(getuid()), 0);
	path = make_file("disk", 4096, 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(1000), 0);
	refused(&(struct image_config){ .path = path, .readonly = true }, EACCES,
		"not permitted to read it");
}

static void test_not_a_disk(void **state)
{
	static const char *const hint = "a disk is a regular file or a block device";
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	cleanup_fd int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	for (int readonly = 0; readonly < 2; readonly++) {
		refused(&(struct image_config){ .path = dir, .readonly = readonly }, EINVAL, hint);
		refused(&(struct image_config){ .path = "/dev/null", .readonly = readonly }, EINVAL,
			hint);
		unlink(path_of("fifo"));
		assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
		refused(&(struct image_config){ .path = path_of("fifo"), .readonly = readonly },
			EINVAL, hint);
	}
	if (strlen(path_of("socket")) >= sizeof(un.sun_path))
		return;
	snprintf(un.sun_path, sizeof(un.sun_path), "%.107s", path_of("socket"));
	unlink(un.sun_path);
	assert_int_equal(bind(socket_fd, (struct sockaddr *)&un, sizeof(un)), 0);
	refused(&(struct image_config){ .path = un.sun_path }, EINVAL, hint);
}

static void test_odd_size(void **state)
{
	(void)state;
	refused(&(struct image_config){ .path = make_file("disk", 0, 0600) }, EINVAL, "is empty");
	refused(&(struct image_config){ .path = make_file("disk", 511, 0600) }, EINVAL,
		"has 511 bytes");
	refused(&(struct image_config){ .path = make_file("disk", 513, 0600) }, EINVAL,
		"no multiple of 512");
}

/* The alignment that is said must be enough: reads at it succeed. */
static void test_direct(void **state)
{
	const struct image_config config = { .path = make_file("disk", 1 << 20, 0600),
					     .direct = true };
	char why[IMAGE_WHY_MAX];
	struct image image;
	void *buffer = NULL;

	(void)state;
	if (image_open(&image, &config, why) == -EINVAL && strstr(why, "no direct I/O") != NULL) {
		print_message("no direct I/O on %s\n", dir);
		skip();
	}
	image_close(&image);
	image = opened(&config);
	assert_true(image.direct);
	assert_true(image.align >= 512 && image.align <= 4096);
	assert_int_equal(image.align & (image.align - 1), 0);
	assert_int_equal(fcntl(image.fd, F_GETFL) & O_DIRECT, O_DIRECT);
	assert_int_equal(posix_memalign(&buffer, 8192, 8192), 0);
	memset(buffer, 7, 8192);
	uint8_t *at = (uint8_t *)buffer + image.align;

	assert_int_equal(pwrite(image.fd, at, image.align, image.align), image.align);
	assert_int_equal(pread(image.fd, at, image.align, image.align), image.align);
	const uint32_t align = image.align;

	image_close(&image);
	if (align > 512)
		refused(&(struct image_config){ .path = make_file("disk", 512, 0600),
						.direct = true },
			EINVAL, "as direct I/O wants");
	free(buffer);
}

static void test_no_direct(void **state)
{
	(void)state;
	/* Of a file system without it. */
	refused(&(struct image_config){ .path = "/proc/self/status",
					.readonly = true,
					.direct = true },
		EINVAL, "no direct I/O: leave direct off");
}

/* ---- block devices ---- */

/* A loop device on a file, as root where there are any; else -1. */
static int attach_loop(const char *file, char *node, size_t room)
{
	cleanup_fd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	cleanup_fd int back = open(file, O_RDWR | O_CLOEXEC);
	const int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

	if (n < 0)
		return -1;
	snprintf(node, room, "/dev/loop%d", n);
	cleanup_fd int fd = open(node, O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, LOOP_SET_FD, back) != 0)
		return -1;
	return cc_take_fd(&fd);
}

static void test_block_device(void **state)
{
	char node[64];
	cleanup_fd int device = attach_loop(make_file("disk", 1 << 20, 0600), node, sizeof(node));

	(void)state;
	if (device < 0) {
		print_message("no loop device to be had\n");
		skip();
	}
	struct image image = opened(&(struct image_config){ .path = node });

	assert_true(image.block);
	assert_int_equal(image.bytes, 1 << 20);
	refused(&(struct image_config){ .path = node }, EBUSY, "is locked");
	image_close(&image);
	image = opened(&(struct image_config){ .path = node, .direct = true });
	assert_int_equal(image.align & (image.align - 1), 0);
	assert_true(image.align >= 512);
	image_close(&image);
	assert_int_equal(ioctl(device, LOOP_CLR_FD), 0);
}

/* ---- the lock ---- */

static void test_lock(void **state)
{
	const struct image_config write = { .path = make_file("disk", 4096, 0600) };
	const struct image_config read = { .path = write.path, .readonly = true };
	struct image a = opened(&write), b;

	(void)state;
	refused(&write, EBUSY, "is locked: another VMM uses it");
	refused(&read, EBUSY, "and may write");
	image_close(&a);
	a = opened(&read);
	b = opened(&read);
	refused(&write, EBUSY, "is locked");
	image_close(&a);
	refused(&write, EBUSY, "is locked");
	image_close(&b);
	a = opened(&write);
	image_close(&a);
}

/* One that is there for two, each of whom has it at times. */
static void test_lock_in_turns(void **state)
{
	const struct image_config now = { .path = make_file("disk", 4096, 0600) };
	const struct image_config later = { .path = now.path, .lock_ms = IMAGE_LOCK_LATER };
	struct image a = opened(&now), b = opened(&later);

	(void)state;
	assert_int_equal(image_lock(&b), -EBUSY);
	assert_int_equal(image_lock(&a), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(image_unlock(&a), 0);
		assert_int_equal(image_lock(&b), 0);
		assert_int_equal(image_lock(&a), -EBUSY);
		assert_int_equal(image_unlock(&b), 0);
		assert_int_equal(image_lock(&a), 0);
	}
	image_close(&a);
	image_close(&b);
}

/* What a box is to the VMM: another process with descriptors of the same descriptions. */
static pid_t hold_descriptors(void)
{
	const pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

static void end_process(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Held until the last of them is dead, whoever opened it and in whatever order they go. */
static void test_lock_outlives_its_owner(void **state)
{
	const struct image_config config = { .path = make_file("disk", 4096, 0600) };
	struct image image = opened(&config);
	const pid_t first = hold_descriptors(), second = hold_descriptors();

	(void)state;
	image_close(&image);
	refused(&config, EBUSY, "is locked");
	end_process(first);
	refused(&config, EBUSY, "is locked");
	end_process(second);
	image = opened(&config);
	image_close(&image);
}

/* The same for a descriptor that is still on its way. */
static void test_lock_in_flight(void **state)
{
	const struct image_config config = { .path = make_file("disk", 4096, 0600) };
	struct image image = opened(&config);
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char[]){ 'x' }, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control.room) };
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
					   .cmsg_level = SOL_SOCKET,
					   .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), &image.fd, sizeof(int));
	assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
	image_close(&image);
	refused(&config, EBUSY, "is locked");
	close(pair[0]);
	close(pair[1]);
	image = opened(&config);
	image_close(&image);
}

/* A descriptor that somebody opened and closed for himself takes no lock with it, as those of the
 * process would. */
static void test_lock_survives_a_close(void **state)
{
	const struct image_config config = { .path = make_file("disk", 4096, 0600) };
	struct image image = opened(&config);
	int other = open(config.path, O_RDWR | O_CLOEXEC);

	(void)state;
	assert_true(other >= 0);
	close(other);
	refused(&config, EBUSY, "is locked");
	image_close(&image);
}

/* A test that failed may have left them so. */
static int be_root_again(void **state)
{
	(void)state;
	return getuid() == 0 ? seteuid(0) : 0;
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/image.XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(dir) == NULL)
		return -1;
	return chmod(dir, 0777); /* as root, one test is somebody else for a while */
}

/* Waited for: until its last holder is dead, which here takes some time; and no longer than was said. */
static void test_lock_is_waited_for(void **state)
{
	const char *path = make_file("disk", 4096, 0600);
	const struct image_config config = { .path = path, .lock_ms = 20000 };
	const struct image_config hasty = { .path = path, .lock_ms = 20 };
	struct image image = opened(&config);
	const pid_t holder = fork();

	(void)state;
	if (holder == 0) {
		usleep(100000);
		_exit(0);
	}
	assert_true(holder > 0);
	image_close(&image);
	refused(&hasty, EBUSY, "is locked");
	image = opened(&config);
	assert_int_equal(waitpid(holder, NULL, 0), holder);
	image_close(&image);
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "disk", "fifo", "socket" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlink(path_of(names[i]));
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opens),
		cmocka_unit_test(test_opens_readonly),
		cmocka_unit_test(test_missing),
		cmocka_unit_test_teardown(test_unreadable, be_root_again),
		cmocka_unit_test(test_not_a_disk),
		cmocka_unit_test(test_odd_size),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_no_direct),
		cmocka_unit_test(test_block_device),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_lock_in_turns),
		cmocka_unit_test(test_lock_outlives_its_owner),
		cmocka_unit_test(test_lock_in_flight),
		cmocka_unit_test(test_lock_survives_a_close),
		cmocka_unit_test(test_lock_is_waited_for),
	};

	return cmocka_run_group_tests_name("image", tests, make_dir, remove_dir);
}
