/* SPDX-License-Identifier: Apache-2.0 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cc.h"
#include "hotplug/revoke.h"

#define BYTES (4u << 20)

static int make(void)
{
	const int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	assert_int_equal(pwrite(fd, "x", 1, BYTES - 1), 1);
	return fd;
}

static void test_nobody(void **state)
{
	cleanup_fd int fd = make();
	struct revoke_proof proof;

	(void)state;
	assert_int_equal(revoke_region(fd, &proof), 0);
	assert_true(revoke_holds(&proof));
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_true(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
}

static void test_mapped(void **state)
{
	cleanup_fd int fd = make();
	struct revoke_proof proof;
	void *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)state;
	assert_true(at != MAP_FAILED);
	assert_int_equal(revoke_region(fd, &proof), -EBUSY);
	assert_false(revoke_holds(&proof));
	assert_int_equal(munmap(at, BYTES), 0);
	assert_int_equal(revoke_region(fd, &proof), 0);
	assert_true(revoke_holds(&proof));
}

/* What the seal lets pass: mappings that only read, and descriptors; here and in another process. */
static void test_kept(void **state)
{
	cleanup_fd int fd = make();
	cleanup_fd int other = dup(fd);
	struct revoke_proof proof;
	int ready[2];
	pid_t pid;
	char byte;

	(void)state;
	assert_true(other >= 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		const void *at = mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE, fd, 0);

		if (at != MAP_FAILED && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_true(pid > 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(revoke_region(fd, &proof), 0);
	assert_true(proof.sealed);
	assert_int_equal(proof.maps, 1);
	assert_int_equal(proof.fds, 3); /* ours that was copied, and both of the child */
	assert_false(revoke_holds(&proof));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(ready[0]);
	close(ready[1]);
}

/* Only what reaches into the tail counts, and only in others. */
static void test_tail(void **state)
{
	cleanup_fd int fd = make();
	void *own = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct revoke_proof proof;
	int go[2], how;
	char byte;

	(void)state;
	assert_true(own != MAP_FAILED);
	assert_int_equal(pwrite(fd, "y", 1, 0), 1);
	assert_int_equal(revoke_tail(fd, BYTES / 2, &proof), 0);
	assert_true(proof.blocks == 0 && proof.maps == 0);
	assert_int_equal(pread(fd, &byte, 1, BYTES - 1), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, 'y');
	for (uint32_t reaches = 0; reaches < 2; reaches++) {
		assert_int_equal(pipe(go), 0);
		const pid_t pid = fork();

		if (pid == 0) {
			munmap(own, BYTES);
			if (mmap(NULL, BYTES / 2, PROT_READ, MAP_SHARED, fd, reaches ? 4096 : 0) ==
			    MAP_FAILED)
				_exit(1);
			close(go[1]);
			pause();
		}
		close(go[1]);
		assert_int_equal(read(go[0], &byte, 1), 0); /* it has mapped */
		close(go[0]);
		assert_int_equal(revoke_tail(fd, BYTES / 2, &proof), 0);
		assert_int_equal(proof.maps, reaches);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &how, 0), pid);
	}
	assert_int_equal(revoke_tail(fd, BYTES, &proof), 0); /* none */
	munmap(own, BYTES);
}

static void test_wrong(void **state)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct revoke_proof proof;

	(void)state;
	assert_true(revoke_region(null, &proof) < 0);
	assert_false(revoke_holds(&proof));
	assert_int_equal(revoke_region(-1, &proof), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody), cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_kept),   cmocka_unit_test(test_tail),
		cmocka_unit_test(test_wrong),
	};

	return cmocka_run_group_tests_name("revoke", tests, NULL, NULL);
}
