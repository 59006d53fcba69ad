/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM of the rig, and the record of gaps between completions.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/rig/gaps.h"
#include "tests/rig/guestmem.h"

#define MIB (1ull << 20)

static struct guestmem mem;

static int setup(void **state)
{
	(void)state;
	guestmem_init(&mem);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guestmem_free(&mem);
	guestmem_free(&mem);
	return 0;
}

static void test_regions_are_sorted_and_apart(void **state)
{
	(void)state;
	assert_int_equal(guestmem_add(&mem, 8 * MIB, MIB, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_add(&mem, 0, MIB, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_add(&mem, 4 * MIB, MIB, GUESTMEM_4K), 0);
	assert_int_equal(mem.map.count, 3);
	assert_int_equal(mem.map.epoch, 4);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(mem.map.regions[i].gpa, i * 4 * MIB);
		memset(guestmem_ptr(&mem, gpa_make(i * 4 * MIB), MIB), (int)i + 1, MIB);
	}
	for (uint32_t i = 0; i < 3; i++) { /* each descriptor is that of its region */
		uint8_t byte = 0;

		assert_int_equal(pread(mem.fds[i], &byte, 1, 4096), 1);
		assert_int_equal(byte, i + 1);
	}
	assert_int_equal(guestmem_add(&mem, 4 * MIB + 4096, 4096, GUESTMEM_4K), -EINVAL);
	assert_int_equal(guestmem_add(&mem, 3 * MIB, 2 * MIB, GUESTMEM_4K), -EINVAL);
	assert_int_equal(guestmem_add(&mem, 5 * MIB, 100, GUESTMEM_4K), -EINVAL);
	assert_int_equal(guestmem_add(&mem, UINT64_MAX - 4095, 8192, GUESTMEM_4K), -EINVAL);
	assert_int_equal(guestmem_add(&mem, 5 * MIB, MIB, GUESTMEM_4K), 0); /* adjoining */
	assert_int_equal(mem.map.regions[2].gpa, 5 * MIB);
}

static void test_alloc(void **state)
{
	gpa_t a, b, c;

	(void)state;
	assert_int_equal(guestmem_add(&mem, 0, 16384, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_add(&mem, MIB, MIB, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_alloc(&mem, 100, 16, &a), 0);
	assert_int_equal(guestmem_alloc(&mem, 100, 4096, &b), 0);
	assert_int_equal(a.raw, 4096); /* never 0 */
	assert_int_equal(b.raw, 8192);
	assert_int_equal(guestmem_alloc(&mem, 8192, 8, &c), 0);
	assert_int_equal(c.raw, MIB); /* the first region has too little left */
	assert_int_equal(guestmem_alloc_in(&mem, MIB, MIB - 8192, 1, &c), 0);
	assert_int_equal(guestmem_alloc_in(&mem, MIB, 1, 1, &c), -ENOMEM);
	assert_int_equal(guestmem_alloc_in(&mem, 4096, 1, 1, &c), -ENOENT);
	assert_int_equal(guestmem_alloc(&mem, UINT64_MAX, 4096, &c), -ENOMEM);
	assert_int_equal(guestmem_alloc(&mem, 1, 3, &c), -EINVAL);
	assert_int_equal(guestmem_alloc(&mem, 0, 8, &c), -EINVAL);
}

static void test_removal_is_provable(void **state)
{
	int fd = -1;

	(void)state;
	assert_int_equal(guestmem_add(&mem, 0, MIB, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_add(&mem, MIB, MIB, GUESTMEM_4K), 0);
	assert_int_equal(ftruncate(mem.fds[0], 4096), -1); /* sealed against resizing */
	assert_int_equal(fcntl(mem.fds[0], F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EBUSY); /* mapped here */
	assert_int_equal(guestmem_remove(&mem, 0, &fd), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(mem.map.count, 1);
	assert_int_equal(mem.map.regions[0].gpa, MIB);
	assert_null(guestmem_ptr(&mem, gpa_make(0), 1));
	assert_int_equal(guestmem_remove(&mem, 0, NULL), -ENOENT);
}

/* A part of a memfd comes, goes and comes again with what it holds. */
static void test_a_descriptor_given(void **state)
{
	int fd = memfd_create("store", MFD_CLOEXEC);
	char byte = 0;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	assert_int_equal(guestmem_add(&mem, 0, MIB, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_add_fd(&mem, 0, MIB, fd), -EINVAL);
	assert_int_equal(guestmem_add_fd(&mem, 8 * MIB, MIB, fd), 0);
	assert_null(guestmem_ptr(&mem, gpa_make(9 * MIB), 1));
	*(char *)guestmem_ptr(&mem, gpa_make(9 * MIB - 1), 1) = 'x';
	assert_int_equal(guestmem_remove(&mem, 8 * MIB, &fd), 0);
	assert_int_equal(pread(fd, &byte, 1, MIB - 1), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(guestmem_add_fd(&mem, 2 * MIB, MIB, fd), 0);
	assert_int_equal(*(char *)guestmem_ptr(&mem, gpa_make(3 * MIB - 1), 1), 'x');
}

static void test_populate(void **state)
{
	unsigned char resident[256];

	(void)state;
	assert_int_equal(guestmem_add(&mem, 0, MIB, GUESTMEM_4K), 0);
	assert_int_equal(guestmem_populate(&mem), 0);
	assert_int_equal(mincore(guestmem_ptr(&mem, gpa_make(0), MIB), MIB, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		assert_int_equal(resident[i] & 1, 1);
}

static void test_huge_pages(void **state)
{
	struct guestmem_huge huge = { 0 };
	int ret = guestmem_huge_reserve(&huge, 4 * MIB);

	(void)state;
	if (ret != 0) { /* not root, or memory too fragmented */
		assert_int_equal(huge.added, 0);
		print_message("2 MiB pages cannot be had here: errno %d\n", -ret);
		skip();
	}
	assert_int_equal(guestmem_add(&mem, 4096, 4 * MIB, GUESTMEM_2M), -EINVAL);
	assert_int_equal(guestmem_add(&mem, 0, 4 * MIB, GUESTMEM_2M), 0);
	assert_int_equal(guestmem_add(&mem, 32 * MIB, MIB, GUESTMEM_4K), 0);
	assert_int_equal(mem.page_bytes[0], 2 * MIB);
	assert_int_equal(mem.page_bytes[1], 4096);
	assert_int_equal(guestmem_populate(&mem), 0);
	memset(guestmem_ptr(&mem, gpa_make(0), 4 * MIB), 1, 4 * MIB);
	guestmem_free(&mem);
	guestmem_huge_restore(&huge);
	assert_int_equal(huge.added, 0);
}

static void test_too_few_huge_pages(void **state)
{
	(void)state;
	assert_int_equal(guestmem_add(&mem, 0, 1ull << 40, GUESTMEM_2M), -ENOMEM);
	assert_int_equal(mem.map.count, 0);
}

static uint64_t longest(const struct gaps *gaps, uint64_t t0, uint64_t t1)
{
	uint64_t gap = 0;

	assert_int_equal(gaps_longest(gaps, t0, t1, &gap), 0);
	return gap;
}

static void test_gaps(void **state)
{
	struct gaps gaps;
	uint64_t gap;

	(void)state;
	assert_int_equal(gaps_init(&gaps, 5), 0); /* 8 */
	assert_int_equal(longest(&gaps, 100, 150), 50);
	for (uint64_t t = 1000; t <= 1040; t += 10)
		gaps_record(&gaps, t); /* 1000 1010 1020 1030 1040 */
	gaps_record(&gaps, 1100);
	assert_int_equal(longest(&gaps, 1000, 1040), 10);
	assert_int_equal(longest(&gaps, 1035, 1050), 60); /* whole, not cut */
	assert_int_equal(longest(&gaps, 1060, 1060), 60);
	assert_int_equal(longest(&gaps, 1100, 1300), 200); /* nothing since */
	assert_int_equal(longest(&gaps, 900, 1010), 100);  /* before the first */
	assert_int_equal(gaps_longest(&gaps, 2, 1, &gap), -EINVAL);
	assert_int_equal(gaps_longest_from(&gaps, 1075, 1100, &gap), 0);
	assert_int_equal(gap, 25); /* cut at its beginning */
	assert_int_equal(gaps_longest_from(&gaps, 1035, 1050, &gap), 0);
	assert_int_equal(gap, 60); /* a later one: whole */
	for (uint64_t t = 1110; t <= 1200; t += 10)
		gaps_record(&gaps, t);
	assert_int_equal(longest(&gaps, 1150, 1200), 10);
	assert_int_equal(gaps_longest(&gaps, 1010, 1200, &gap), -ENODATA);
	gaps_free(&gaps);
	gaps_free(&gaps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_regions_are_sorted_and_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alloc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removal_is_provable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_descriptor_given, setup, teardown),
		cmocka_unit_test_setup_teardown(test_populate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_huge_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_few_huge_pages, setup, teardown),
		cmocka_unit_test(test_gaps),
	};

	return cmocka_run_group_tests_name("guestmem", tests, NULL, NULL);
}
