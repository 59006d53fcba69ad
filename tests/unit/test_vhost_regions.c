/* SPDX-License-Identifier: Apache-2.0 */
/* core/vhost/regions.h: which regions count, where an address lies, and who closes and unmaps what. */
#include "core/vhost/guard.h"
#include "core/vhost/regions.h"
#include "devmodel/abi/virtio.h"
#include "tests/rig/guestmem.h"
#include "tests/unit/vhost.h"

#define USER 0x7f1234000000ull
#define BYTES (16 * PAGE)

static struct vhost_regions table;

static int setup(void **state)
{
	(void)state;
	table.count = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	regions_clear(&table);
	return 0;
}

static struct vhost_user_region region(uint64_t gpa, uint64_t user)
{
	return (struct vhost_user_region){ .guest_addr = gpa, .bytes = BYTES, .user_addr = user };
}

static int add_fd(struct vhost_user_region wire, int fd)
{
	const uint32_t before = fds_open(0), count = table.count;
	const char *why = NULL;
	const int ret = regions_add(&table, &wire, fd, &why);

	/* Taken over whatever comes of it. */
	assert_int_equal(fds_open(0), before - (ret != 0));
	assert_int_equal(table.count, count + (ret == 0));
	assert_true(ret == 0 || (why != NULL && why[0] != '\0'));
	return ret;
}

static int add(struct vhost_user_region wire)
{
	return add_fd(wire, memory_make(64 * PAGE));
}

/* ---- what it says ---- */

static void test_sizes(void **state)
{
	static const struct vhost_user_region wrong[] = {
		{ 0, 0, USER, 0 },
		{ 1, BYTES, USER, 0 },
		{ PAGE, BYTES + 1, USER, 0 },
		{ PAGE, BYTES, USER + 4, 0 },
		{ PAGE, BYTES, USER, 512 },
		{ UINT64_MAX - BYTES + 1 + PAGE, BYTES, USER, 0 },
		{ PAGE, BYTES, UINT64_MAX - PAGE + 1, 0 },
		{ PAGE, BYTES, USER, UINT64_MAX - PAGE + 1 },
		{ PAGE, BYTES, USER, INT64_MAX - PAGE + 1 },
		{ PAGE, UINT64_MAX - PAGE + 1, USER, 0 },
		{ 1ull << 52, BYTES, USER, 0 },
		{ (1ull << 52) - BYTES + PAGE, BYTES, USER, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(add(wrong[i]), -EINVAL);
	assert_int_equal(add((struct vhost_user_region){ (1ull << 52) - BYTES, BYTES, USER, 0 }),
			 0);
}

static void test_within_its_file(void **state)
{
	struct vhost_user_region wire = region(0, USER);

	(void)state;
	wire.mmap_offset = 49 * PAGE;
	assert_int_equal(add(wire), -EBADF);
	wire.mmap_offset = 48 * PAGE;
	assert_int_equal(add(wire), 0);
	wire = region(1ull << 30, USER + (1ull << 30));
	wire.bytes = 65 * PAGE;
	assert_int_equal(add(wire), -EBADF);
}

static void test_overlaps(void **state)
{
	(void)state;
	assert_int_equal(add(region(BYTES, USER)), 0);
	/* One page in, from both ends, the same, and around it. */
	assert_int_equal(add(region(PAGE, USER + 2 * BYTES)), -EEXIST);
	assert_int_equal(add(region(2 * BYTES - PAGE, USER + 2 * BYTES)), -EEXIST);
	assert_int_equal(add(region(BYTES, USER + 2 * BYTES)), -EEXIST);
	assert_int_equal(add((struct vhost_user_region){ 0, 3 * BYTES, USER + 2 * BYTES, 0 }),
			 -EEXIST);
	assert_int_equal(add(region(4 * BYTES, USER + BYTES - PAGE)), -EEXIST);
	assert_int_equal(add(region(4 * BYTES, USER - PAGE)), -EEXIST);
	/* Side by side. */
	assert_int_equal(add(region(2 * BYTES, USER + BYTES)), 0);
	assert_int_equal(add(region(0, USER - BYTES)), 0);
}

static void test_table_is_full(void **state)
{
	(void)state;
	for (uint64_t i = VHOST_REGIONS_MAX; i > 0; i--)
		assert_int_equal(add(region(i * BYTES, USER + i * 2 * BYTES)), 0);
	assert_int_equal(add(region(0, USER)), -ENOSPC);
	for (uint32_t i = 1; i < table.count; i++)
		assert_true(table.regions[i - 1]->gpa < table.regions[i]->gpa);
}

/* ---- what its descriptor is ---- */

static void test_descriptors_that_are_no_memory(void **state)
{
	const int memory = memory_make(64 * PAGE);
	const struct vhost_user_region wire = region(0, USER);
	int pair[2];

	(void)state;
	assert_int_equal(add_fd(wire, reopen(memory, O_RDONLY)), -EBADF);
	assert_int_equal(add_fd(wire, reopen(memory, O_WRONLY)), -EBADF);
	assert_int_equal(add_fd(wire, reopen(memory, O_PATH)), -EBADF);
	assert_int_equal(add_fd(wire, open("/tmp", O_DIRECTORY | O_CLOEXEC)), -EBADF);
	assert_int_equal(add_fd(wire, open("/dev/null", O_RDWR | O_CLOEXEC)), -EBADF);
	assert_int_equal(add_fd(wire, open("/proc/self/comm", O_RDWR | O_CLOEXEC)), -EBADF);
	assert_int_equal(add_fd(wire, event_make(0)), -EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(add_fd(wire, pair[0]), -EBADF);
	assert_int_equal(add_fd(wire, pair[1]), -EBADF);
	assert_int_equal(add_fd(wire, memory), 0);
}

/* It may not be written to: what a device has to do. */
static void test_sealed_against_writing(void **state)
{
	const int memory = memory_make(64 * PAGE);

	(void)state;
	assert_int_equal(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(add_fd(region(0, USER), memory), -EPERM);
}

/* Whole pages, of those that it is of. */
static void test_huge_pages(void **state)
{
	const uint64_t huge = 2ull << 20;
	struct vhost_user_region wire = { 0, huge, USER, 0 };
	struct guestmem mem;

	(void)state;
	guestmem_init(&mem);
	if (guestmem_add(&mem, 0, 2 * huge, GUESTMEM_2M) != 0) {
		print_message("no two huge pages are free: test skipped\n");
		skip();
	}
	wire.mmap_offset = PAGE;
	assert_int_equal(add_fd(wire, dup(mem.fds[0])), -EINVAL);
	wire = (struct vhost_user_region){ 0, PAGE, USER, 0 };
	assert_int_equal(add_fd(wire, dup(mem.fds[0])), -EINVAL);
	wire = (struct vhost_user_region){ 0, huge, USER, huge };
	assert_int_equal(add_fd(wire, dup(mem.fds[0])), 0);
	assert_int_equal(table.regions[0]->page_bytes, huge);
	guestmem_free(&mem);
}

/* ---- addresses ---- */

static int gpa_of(uint64_t user, uint64_t bytes, uint64_t *gpa)
{
	*gpa = 1;
	return regions_gpa(&table, user, bytes, gpa);
}

static void test_translation(void **state)
{
	uint64_t gpa;

	(void)state;
	/* Side by side for the front-end, and not for the guest. */
	assert_int_equal(add(region(1ull << 32, USER)), 0);
	assert_int_equal(add(region(0, USER + BYTES)), 0);
	assert_int_equal(gpa_of(USER, BYTES, &gpa), 0);
	assert_int_equal(gpa, 1ull << 32);
	assert_int_equal(gpa_of(USER + BYTES - 1, 1, &gpa), 0);
	assert_int_equal(gpa, (1ull << 32) + BYTES - 1);
	assert_int_equal(gpa_of(USER + BYTES, 1, &gpa), 0);
	assert_int_equal(gpa, 0);
	assert_int_equal(gpa_of(USER + BYTES - 1, 2, &gpa), -EFAULT);
	assert_int_equal(gpa_of(USER - 1, 2, &gpa), -EFAULT);
	assert_int_equal(gpa_of(USER + 2 * BYTES - 1, 2, &gpa), -EFAULT);
	assert_int_equal(gpa_of(USER, BYTES + 1, &gpa), -EFAULT);
	assert_int_equal(gpa_of(USER + 8, UINT64_MAX - 4, &gpa), -EFAULT);
	assert_int_equal(gpa_of(UINT64_MAX, 1, &gpa), -EFAULT);
	assert_int_equal(gpa_of(0, 1, &gpa), -EFAULT);
}

static void test_used_index(void **state)
{
	const int memory = memory_make(64 * PAGE);
	const uint16_t value = 0xabcd;
	const size_t at = offsetof(struct virtq_used, idx);
	struct vhost_user_region wire = region(0, USER);
	uint16_t idx = 0;

	(void)state;
	wire.mmap_offset = PAGE;
	assert_int_equal(pwrite(memory, &value, sizeof(value), (off_t)(PAGE + 64 + at)),
			 sizeof(value));
	assert_int_equal(add_fd(wire, memory), 0);
	assert_int_equal(regions_used(&table, USER + 64, &idx), 0);
	assert_int_equal(idx, value);
	assert_int_equal(regions_used(&table, USER + BYTES - 4, &idx), 0);
	assert_int_equal(idx, 0);
	assert_int_equal(regions_used(&table, USER + BYTES, &idx), -EFAULT);
	assert_int_equal(regions_used(&table, USER - 4, &idx), -EFAULT);
}

/* Truncated while it is mapped: it reads as zeroes, and nobody dies. */
static void test_memory_that_went(void **state)
{
	const int memory = memory_make(64 * PAGE), other = dup(memory);
	uint16_t idx = 1;

	(void)state;
	assert_int_equal(guard_begin(), 0);
	assert_int_equal(pwrite(memory, &idx, sizeof(idx), 2), sizeof(idx));
	assert_int_equal(add_fd(region(0, USER), memory), 0);
	assert_int_equal(ftruncate(other, 0), 0);
	assert_int_equal(regions_used(&table, USER, &idx), 0);
	assert_int_equal(idx, 0);
	close(other);
}

/* ---- tables ---- */

static void test_removal(void **state)
{
	const struct vhost_user_region first = region(0, USER),
				       second = region(BYTES, USER + BYTES);
	struct vhost_user_region wrong;
	const uint32_t before = fds_open(0);

	(void)state;
	assert_int_equal(add(first), 0);
	assert_int_equal(add(second), 0);
	wrong = first, wrong.guest_addr += PAGE;
	assert_int_equal(regions_remove(&table, &wrong), -ENOENT);
	wrong = first, wrong.bytes -= PAGE;
	assert_int_equal(regions_remove(&table, &wrong), -ENOENT);
	wrong = first, wrong.user_addr += PAGE;
	assert_int_equal(regions_remove(&table, &wrong), -ENOENT);
	wrong = first, wrong.mmap_offset += PAGE; /* does not name it */
	assert_int_equal(regions_remove(&table, &wrong), 0);
	assert_int_equal(regions_remove(&table, &first), -ENOENT);
	assert_int_equal(table.count, 1);
	assert_int_equal(table.regions[0]->gpa, BYTES);
	assert_int_equal(regions_remove(&table, &second), 0);
	assert_int_equal(fds_open(0), before);
}

static void test_copies_keep_what_they_have(void **state)
{
	struct vhost_regions copy = { .count = 0 };
	const struct vhost_user_region first = region(0, USER),
				       second = region(BYTES, USER + BYTES);
	const uint32_t before = fds_open(0);

	(void)state;
	assert_int_equal(add(first), 0);
	regions_copy(&copy, &table);
	assert_true(regions_equal(&copy, &table));
	assert_int_equal(add(second), 0);
	assert_false(regions_equal(&copy, &table));
	assert_true(regions_within(&copy, &table));
	assert_false(regions_within(&table, &copy));
	assert_int_equal(regions_remove(&table, &first), 0);
	assert_false(regions_within(&copy, &table));
	/* A region of the same numbers is another one: its file may be. */
	assert_int_equal(add(first), 0);
	assert_false(regions_within(&copy, &table));
	assert_int_equal(*(uint8_t *)copy.regions[0]->map, 0);
	assert_int_equal(fds_open(0), before + 3);
	regions_clear(&copy);
	assert_int_equal(fds_open(0), before + 2);
	regions_clear(&table);
	assert_int_equal(fds_open(0), before);
	assert_true(regions_within(&copy, &table) && regions_equal(&copy, &table));
}

static void test_as_devices_are_given_it(void **state)
{
	struct vhost_user_region wire = region(3 * BYTES, USER);
	struct box_memory memory;

	(void)state;
	wire.mmap_offset = 5 * PAGE;
	assert_int_equal(add(wire), 0);
	assert_int_equal(add(region(0, USER + BYTES)), 0);
	regions_memory(&table, 7, &memory);
	assert_int_equal(memory.map.epoch, 7);
	assert_int_equal(memory.map.count, 2);
	assert_int_equal(memory.map.regions[1].gpa, 3 * BYTES);
	assert_int_equal(memory.map.regions[1].bytes, BYTES);
	assert_ptr_equal(memory.map.regions[1].addr, table.regions[1]->map);
	assert_int_equal(memory.offsets[1], 5 * PAGE);
	assert_int_equal(memory.page_bytes[1], PAGE);
	assert_int_equal(memory.fds[1], table.regions[1]->fd);
	assert_int_equal(memory.log_bytes, 0);
}

/* Sparse files cost their owner nothing, and would take all addresses of this process. */
static void test_all_of_it(void **state)
{
	const uint64_t half = VHOST_MEMORY_MAX / 2;
	struct vhost_user_region wire = { .guest_addr = 0, .bytes = half, .user_addr = USER };

	(void)state;
	assert_int_equal(add_fd(wire, memory_make(half)), 0);
	wire.guest_addr = wire.bytes = half;
	wire.user_addr += half;
	wire.bytes += PAGE;
	assert_int_equal(add_fd(wire, memory_make(half + PAGE)), -ENOSPC);
	wire.bytes -= PAGE;
	assert_int_equal(add_fd(wire, memory_make(half)), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes),
		TEST(test_within_its_file),
		TEST(test_overlaps),
		TEST(test_table_is_full),
		TEST(test_all_of_it),
		TEST(test_descriptors_that_are_no_memory),
		TEST(test_sealed_against_writing),
		TEST(test_huge_pages),
		TEST(test_translation),
		TEST(test_used_index),
		TEST(test_memory_that_went),
		TEST(test_removal),
		TEST(test_copies_keep_what_they_have),
		TEST(test_as_devices_are_given_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
