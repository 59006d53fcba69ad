/* SPDX-License-Identifier: Apache-2.0 */
/* core/vhost/inflight.h: the buffer that a front-end keeps. */
#include <sys/stat.h>
#include <sys/statfs.h>

#include "core/vhost/inflight.h"
#include "devmodel/abi/virtio.h"
#include "tests/unit/vhost.h"

#define QUEUES 3

static struct vhost_user_inflight made;
static int buffer = -1;

static int setup(void **state)
{
	const struct vhost_user_inflight wanted = { .queues = QUEUES, .queue_size = 128 };

	(void)state;
	return inflight_make(&wanted, QUEUES, &made, &buffer);
}

static int teardown(void **state)
{
	(void)state;
	cc_close(&buffer);
	return 0;
}

static int check(const struct vhost_user_inflight *kept, int fd)
{
	const uint32_t before = fds_open(0);
	const char *why = NULL;
	const int ret = inflight_check(kept, QUEUES, fd, &why);

	assert_int_equal(fds_open(0), before);
	assert_true(ret == 0 || (why != NULL && why[0] != '\0'));
	return ret;
}

static uint64_t stride(void)
{
	return made.mmap_bytes / QUEUES;
}

static void test_made_and_given_back(void **state)
{
	struct vhost_user_inflight_queue head;
	struct stat st;

	(void)state;
	assert_int_equal(made.queues, QUEUES);
	assert_int_equal(made.queue_size, 128);
	assert_int_equal(made.mmap_offset, 0);
	assert_int_equal(fstat(buffer, &st), 0);
	assert_int_equal(st.st_size, made.mmap_bytes);
	assert_int_equal(fcntl(buffer, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	for (uint64_t i = 0; i < QUEUES; i++) {
		assert_int_equal(pread(buffer, &head, sizeof(head), (off_t)(i * stride())),
				 sizeof(head));
		assert_int_equal(head.version, 1);
		assert_int_equal(head.desc_num, 128);
	}
	assert_int_equal(check(&made, buffer), 0);
}

static void test_limits_of_what_is_made(void **state)
{
	static const struct vhost_user_inflight wrong[] = {
		{ .queues = 0, .queue_size = 128 },
		{ .queues = QUEUES + 1, .queue_size = 128 },
		{ .queues = 1, .queue_size = 0 },
		{ .queues = 1, .queue_size = VIRTQ_SIZE_MAX + 1 },
		{ .queues = UINT16_MAX, .queue_size = UINT16_MAX },
	};
	struct vhost_user_inflight answer;
	const uint32_t before = fds_open(0);
	int fd = -1;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(inflight_make(&wrong[i], QUEUES, &answer, &fd), -EINVAL);
	assert_int_equal(fd, -1);
	assert_int_equal(fds_open(0), before);
}

/* Requests of another back-end, which ours would not know in what order to run. */
static void test_in_flight_is_refused(void **state)
{
	const uint8_t one = 1, none = 0;

	(void)state;
	for (uint64_t queue = 0; queue < QUEUES; queue++) {
		const off_t last = (off_t)(queue * stride() + 16 + 127 * 16);

		assert_int_equal(pwrite(buffer, &one, 1, last), 1);
		assert_int_equal(check(&made, buffer), -EBUSY);
		assert_int_equal(pwrite(buffer, &none, 1, last), 1);
		assert_int_equal(check(&made, buffer), 0);
	}
}

/* Nobody has used it yet: what is in it means nothing. */
static void test_never_used(void **state)
{
	const uint16_t version = 0;
	const uint8_t one = 1;

	(void)state;
	assert_int_equal(pwrite(buffer, &one, 1, 16), 1);
	assert_int_equal(pwrite(buffer, &version, sizeof(version), 8), sizeof(version));
	assert_int_equal(check(&made, buffer), 0);
}

static void test_heads_that_are_none(void **state)
{
	const uint16_t version = 2, size = 64;

	(void)state;
	assert_int_equal(pwrite(buffer, &size, sizeof(size), (off_t)stride() + 10), sizeof(size));
	assert_int_equal(check(&made, buffer), -EINVAL);
	assert_int_equal(pwrite(buffer, &version, sizeof(version), 8), sizeof(version));
	assert_int_equal(check(&made, buffer), -EINVAL);
}

static void test_descriptions_that_are_none(void **state)
{
	struct vhost_user_inflight wrong[9];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		wrong[i] = made;
	wrong[0].queues = 0;
	wrong[1].queues = QUEUES + 1;
	wrong[2].queue_size = 0;
	wrong[3].queue_size = VIRTQ_SIZE_MAX + 1;
	wrong[4].mmap_bytes = 0;
	wrong[5].mmap_bytes = UINT64_MAX / 24 * 24;
	wrong[6].mmap_bytes -= 1;
	wrong[7].mmap_bytes = 1024 * QUEUES; /* less than its entries */
	wrong[8].mmap_offset = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(check(&wrong[i], buffer), -EINVAL);
	made.mmap_offset = 64; /* it is not so long */
	assert_int_equal(check(&made, buffer), -EBADF);
}

/* Nothing that could make the reader wait. */
static void test_descriptors_that_are_no_memory(void **state)
{
	int pair[2];
	const int fds[] = { event_make(0), open("/tmp", O_DIRECTORY | O_CLOEXEC),
			    open("/dev/zero", O_RDWR | O_CLOEXEC), reopen(buffer, O_PATH),
			    open("/proc/self/maps", O_RDONLY | O_CLOEXEC) };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_int_equal(check(&made, fds[i]), -EBADF);
		close(fds[i]);
	}
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(check(&made, pair[0]), -EBADF);
	close(pair[0]);
	close(pair[1]);
}

static void test_a_file_on_a_disk(void **state)
{
	char path[] = "/var/tmp/mayfly-inflight.XXXXXX";
	const int fd = mkstemp(path);
	struct statfs fs = { 0 };

	(void)state;
	assert_true(fd >= 0 && unlink(path) == 0 && fstatfs(fd, &fs) == 0);
	if (fs.f_type == 0x01021994) {
		close(fd);
		print_message("/var/tmp is memory: test skipped\n");
		skip();
	}
	assert_int_equal(ftruncate(fd, (off_t)made.mmap_bytes), 0);
	assert_int_equal(check(&made, fd), -EBADF);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_made_and_given_back),
		TEST(test_limits_of_what_is_made),
		TEST(test_in_flight_is_refused),
		TEST(test_never_used),
		TEST(test_heads_that_are_none),
		TEST(test_descriptions_that_are_none),
		TEST(test_descriptors_that_are_no_memory),
		TEST(test_a_file_on_a_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
