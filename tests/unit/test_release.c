/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug/release.c and balloon.c: which ranges may be released, and that nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"
#include "devmodel/abi/message.h"
#include "hotplug/balloon.h"
#include "hotplug/release.h"

#define PAGE 4096ull
#define MIB (1ull << 20)

/* Two regions that touch, of 4 KiB pages; a hole; one of 2 MiB pages that begins within its memfd; one of
 * 1 GiB pages at the end of what can be addressed. */
static struct box_memory memory;

static void region(uint64_t gpa, uint64_t bytes, int fd, uint64_t offset, uint64_t page)
{
	const uint32_t i = memory.map.count++;

	memory.map.regions[i] = (struct mem_region){ gpa, bytes, 0 };
	memory.fds[i] = fd;
	memory.offsets[i] = offset;
	memory.page_bytes[i] = page;
}

static int setup(void **state)
{
	(void)state;
	memset(&memory, 0, sizeof(memory));
	region(0, 4 * MIB, 10, 0, PAGE);
	region(4 * MIB, 4 * MIB, 11, 1 * MIB, PAGE);
	region(64 * MIB, 16 * MIB, 12, 2 * MIB, 2 * MIB);
	region(1ull << 51, 2ull << 30, 13, 0, 1ull << 30);
	return 0;
}

static int find(uint64_t gpa, uint32_t pages, struct release_hole *hole)
{
	memset(hole, 0xee, sizeof(*hole));
	return release_find(&memory, gpa, pages, hole);
}

static void expect(uint64_t gpa, uint32_t pages, int fd, uint64_t offset, uint64_t bytes)
{
	struct release_hole hole;

	assert_int_equal(find(gpa, pages, &hole), 0);
	assert_int_equal(hole.bytes, bytes);
	assert_int_equal(hole.fd, fd);
	if (bytes != 0)
		assert_int_equal(hole.offset, offset);
}

static void refuse(uint64_t gpa, uint32_t pages)
{
	struct release_hole hole;

	assert_int_equal(find(gpa, pages, &hole), -EPROTO);
}

static void test_pages(void **state)
{
	(void)state;
	expect(0, 1, 10, 0, PAGE);
	expect(PAGE, 64, 10, PAGE, 64 * PAGE);
	expect(4 * MIB - PAGE, 1, 10, 4 * MIB - PAGE, PAGE);
	expect(4 * MIB, 1, 11, 1 * MIB, PAGE);
	expect(8 * MIB - 64 * PAGE, 64, 11, 5 * MIB - 64 * PAGE, 64 * PAGE);
}

static void test_refused(void **state)
{
	(void)state;
	refuse(0, 0);
	refuse(0, 65); /* it would hold us up */
	refuse(0, UINT32_MAX);
	for (uint64_t off = 1; off < PAGE; off *= 2)
		refuse(PAGE + off, 1);
	refuse(4 * MIB - PAGE, 2); /* over the edge, to a region that follows */
	refuse(8 * MIB - PAGE, 2); /* and to none */
	refuse(8 * MIB, 1);
	refuse(64 * MIB - PAGE, 2);
	refuse(64 * MIB - PAGE, 1);
	refuse(80 * MIB, 1);
	refuse(UINT64_MAX - PAGE + 1, 1);
	refuse(UINT64_MAX - PAGE + 1, 64);
	refuse((1ull << 51) + (2ull << 30), 1);
	refuse((1ull << 51) + (2ull << 30) - PAGE, UINT32_MAX);
	memory.map.count = 0;
	refuse(0, 1);
}

/* Only whole pages of the host's. */
static void test_large_pages(void **state)
{
	const uint64_t gpa = 64 * MIB;

	(void)state;
	expect(gpa, 512, 12, 2 * MIB, 2 * MIB);
	expect(gpa + 14 * MIB, 512, 12, 16 * MIB, 2 * MIB);
	expect(gpa, 511, 12, 0, 0);
	expect(gpa + PAGE, 512, 12, 0, 0); /* of two, none whole */
	expect(gpa + PAGE, 64, 12, 0, 0);
	refuse(gpa, 513);
	refuse(gpa + 16 * MIB - PAGE, 512);
	expect((1ull << 51) + (1ull << 30), 1u << 18, 13, 1ull << 30, 1ull << 30);
	expect(1ull << 51, (1u << 18) - 1, 13, 0, 0);
	refuse(1ull << 51, (1u << 18) + 1);
}

/* Whatever is asked for: what is found lies within the request and within the region. */
static void test_any(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15;

	(void)state;
	for (uint32_t n = 0; n < 2000000; n++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		const struct mem_region *r = &memory.map.regions[random % 4];
		const uint64_t gpa =
			r->gpa - 8 * PAGE + (random >> 8) % (r->bytes / PAGE + 16) * PAGE;
		const uint32_t pages = (uint32_t)(random >> 40) % 600;
		struct release_hole hole;

		if (find(gpa, pages, &hole) != 0 || hole.bytes == 0)
			continue;
		uint32_t i = 0;

		while (memory.fds[i] != hole.fd)
			i++;
		r = &memory.map.regions[i];
		const uint64_t at = r->gpa + (hole.offset - memory.offsets[i]);

		assert_true(at >= gpa && at + hole.bytes <= gpa + pages * PAGE);
		assert_true(at >= r->gpa && at + hole.bytes <= r->gpa + r->bytes);
		assert_true(hole.offset % memory.page_bytes[i] == 0 &&
			    hole.bytes % memory.page_bytes[i] == 0);
	}
}

/* ---- holes ---- */

static int make_memory(uint64_t bytes, uint8_t **at)
{
	const int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	*at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(*at, MAP_FAILED);
	memset(*at, 0xaa, bytes);
	return fd;
}

static void test_punch(void **state)
{
	uint8_t *at;
	cleanup_fd int fd = make_memory(64 * PAGE, &at);
	const struct release_hole hole = { fd, 3 * PAGE, 5 * PAGE }, none = { fd, 0, 0 };

	(void)state;
	assert_int_equal(release_punch(&none), 0);
	assert_int_equal(release_punch(&hole), 5 * PAGE);
	for (uint64_t i = 0; i < 64 * PAGE; i += PAGE)
		assert_int_equal(at[i], i >= 3 * PAGE && i < 8 * PAGE ? 0 : 0xaa);
	assert_int_equal(lseek(fd, 0, SEEK_END), 64 * PAGE);
	munmap(at, 64 * PAGE);
	assert_int_equal(release_punch(&(struct release_hole){ -1, 0, PAGE }), -EBADF);
}

/* ---- what a balloon keeps ---- */

static void test_figures(void **state)
{
	struct balloon_figures f;
	struct balloon b;
	uint8_t *at;
	cleanup_fd int fd = make_memory(4 * MIB, &at);

	(void)state;
	memory.fds[0] = fd;
	memory.fds[2] = -1; /* it cannot be punched: counts as kept */
	balloon_init(&b);
	assert_int_equal(balloon_release(&b, &memory, 0, 3), 0);
	assert_int_equal(balloon_release(&b, &memory, 64 * MIB, 1), 0);
	assert_int_equal(balloon_release(&b, &memory, 64 * MIB, 512), 0);
	assert_int_equal(balloon_release(&b, &memory, 0, 65), -EPROTO);
	balloon_figures(&b, &f);
	assert_int_equal(f.released_bytes, 3 * PAGE);
	assert_int_equal(f.kept_bytes, 513 * PAGE);
	assert_int_equal(f.known, 0);
	for (uint32_t tag = 0; tag < BALLOON_STAT_COUNT; tag++)
		assert_int_equal(balloon_stat(&b, tag, 100 + tag), 0);
	assert_int_equal(balloon_stat(&b, BALLOON_STAT_COUNT, 1), -EPROTO);
	assert_int_equal(balloon_stat(&b, UINT32_MAX, 1), -EPROTO);
	balloon_figures(&b, &f);
	assert_int_equal(f.known, (1u << BALLOON_STAT_COUNT) - 1);
	assert_int_equal(f.number[4], 104);
	assert_string_equal(balloon_stat_name(4), "free_memory");
	balloon_forget(&b);
	balloon_figures(&b, &f);
	assert_int_equal(f.known, 0);
	balloon_fini(&b);
	munmap(at, 4 * MIB);
}

#define RELEASE_TEST(test) cmocka_unit_test_setup(test, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RELEASE_TEST(test_pages),       RELEASE_TEST(test_refused),
		RELEASE_TEST(test_large_pages), RELEASE_TEST(test_any),
		RELEASE_TEST(test_punch),       RELEASE_TEST(test_figures),
	};

	return cmocka_run_group_tests_name("release", tests, NULL, NULL);
}
