/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: where regions lie, what is refused and in which words, seals, pages, nodes. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/machine/layout.h"
#include "core/cc.h"
#include "core/machine/memmap.h"
#include "tests/rig/guestmem.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static const struct memmap_config base = { .bytes = 16 * MIB, .node = -1, .phys_bits = 40 };

static void make(struct memmap *mm, const struct memmap_config *config)
{
	const char *what = "";

	if (memmap_create(mm, config, &what) != 0)
		fail_msg("memmap_create: %s", what);
}

static void assert_refused(const struct memmap_config *config, int ret, const char *word)
{
	const char *what = "";
	struct memmap mm;

	assert_int_equal(memmap_create(&mm, config, &what), ret);
	if (!strstr(what, word))
		fail_msg("'%s' does not speak of '%s'", what, word);
	assert_int_equal(mm.epoch.map.count, 0);
}

static uint64_t host_bytes(void)
{
	struct sysinfo si;

	assert_int_equal(sysinfo(&si), 0);
	return ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
}

static void test_one_region(void **state)
{
	struct memmap mm;
	uint8_t *p;

	(void)state;
	make(&mm, &base);
	assert_int_equal(mm.epoch.map.epoch, 1);
	assert_int_equal(mm.epoch.map.count, 1);
	assert_int_equal(mm.epoch.map.regions[0].gpa, 0);
	assert_int_equal(mm.epoch.map.regions[0].bytes, 16 * MIB);
	assert_int_equal(mm.epoch.map.regions[0].addr % (2 * MIB), 0);
	assert_int_equal(mm.epoch.page_bytes[0], 4096);
	p = memmap_at(&mm, 16 * MIB - 1, 1);
	assert_non_null(p);
	*p = 0x5a;
	/* The memfd is what is mapped. */
	uint8_t byte = 0;

	assert_int_equal(pread(mm.epoch.fds[0], &byte, 1, 16 * MIB - 1), 1);
	assert_int_equal(byte, 0x5a);
	assert_null(memmap_at(&mm, 16 * MIB - 1, 2));
	assert_null(memmap_at(&mm, 16 * MIB, 1));
	assert_null(memmap_at(&mm, UINT64_MAX, 2));
	memmap_destroy(&mm);
	memmap_destroy(&mm);
	assert_null(memmap_at(&mm, 0, 1));
}

/* Nothing is faulted in, so that much can be asked for. */
static void test_hole(void **state)
{
	struct memmap_config config = base;
	struct memmap mm;
	uint64_t bytes = LAYOUT_RAM_LOW_END + 8 * MIB;

	(void)state;
	if (bytes > host_bytes()) {
		puts("the host has less than 3 GiB of memory");
		skip();
	}
	config.bytes = bytes;
	make(&mm, &config);
	assert_int_equal(mm.epoch.map.count, 2);
	assert_int_equal(mm.epoch.map.regions[0].bytes, LAYOUT_RAM_LOW_END);
	assert_int_equal(mm.epoch.map.regions[1].gpa, LAYOUT_RAM_HIGH);
	assert_int_equal(mm.epoch.map.regions[1].bytes, 8 * MIB);
	assert_non_null(memmap_at(&mm, LAYOUT_RAM_LOW_END - 1, 1));
	assert_null(memmap_at(&mm, LAYOUT_RAM_LOW_END - 1, 2));
	assert_null(memmap_at(&mm, LAYOUT_RAM_LOW_END, 1));
	assert_non_null(memmap_at(&mm, LAYOUT_RAM_HIGH, 8 * MIB));
	memmap_destroy(&mm);
	config.bytes = LAYOUT_RAM_LOW_END; /* fits just so */
	make(&mm, &config);
	assert_int_equal(mm.epoch.map.count, 1);
	memmap_destroy(&mm);
}

static void test_refusals(void **state)
{
	struct memmap_config config = base;

	(void)state;
	config.bytes = 0;
	assert_refused(&config, -EINVAL, "more than 0");
	config.bytes = 4096 + 1;
	assert_refused(&config, -EINVAL, "multiple of the page size");
	config.bytes = (host_bytes() + 4096) & ~4095ull;
	assert_refused(&config, -ENOMEM, "more than the host has");
	config.bytes = 1ull << 62;
	assert_refused(&config, -EINVAL, "more than this CPU can address");
	config = base;
	config.phys_bits = 0;
	assert_refused(&config, -EINVAL, "address width");
	config = base;
	config.node = 1 << 20;
	assert_refused(&config, -EINVAL, "NUMA node");
	config.node = 1000;
	assert_refused(&config, -ENOTSUP, "NUMA node");
	config.node = -2;
	assert_refused(&config, -EINVAL, "NUMA node");
	for (int pages = MEM_PAGES_THP; pages < MEM_PAGES_COUNT; pages++) {
		config = base;
		config.pages = (enum mem_pages)pages;
		config.bytes = 2 * MIB + 4096;
		assert_refused(&config, -EINVAL, "multiple of the page size");
	}
}

/* Regions come and go at any place, and nothing but memmap_accept() changes the map. */
static void test_plans(void **state)
{
	static struct box_memory next, over;
	struct memmap_config config = base;
	struct memmap mm;
	const char *what = "";
	const uint64_t gpas[] = { 8ull << 30, 4ull << 30, 6ull << 30 }; /* last, first, between */
	uint32_t epoch = 1;

	(void)state;
	make(&mm, &base);
	config.bytes = 4 * MIB;
	for (size_t i = 0; i < ARRAY_SIZE(gpas); i++) {
		assert_int_equal(memmap_plan_add(&mm, &config, gpas[i], &next, &what), 0);
		assert_int_equal(next.map.epoch, ++epoch);
		assert_int_equal(mm.epoch.map.count, 1 + i);
		memmap_accept(&mm, &next);
	}
	for (uint32_t i = 0; i < 3; i++) {
		const struct mem_region *r = &mm.epoch.map.regions[i + 1];
		char byte = 1;

		assert_int_equal(r->gpa, (4ull + 2 * i) << 30);
		*(char *)(uintptr_t)(r->addr + r->bytes - 1) = (char)(i + 1);
		assert_int_equal(pread(mm.epoch.fds[i + 1], &byte, 1, (off_t)r->bytes - 1), 1);
		assert_int_equal(byte, i + 1);
	}
	assert_int_equal(mm.boot.count, 1);
	assert_null(memmap_at(&mm, 4ull << 30, 1)); /* boot RAM is what the VMM writes to */
	/* One that is not accepted leaves nothing. */
	assert_int_equal(memmap_plan_add(&mm, &config, 10ull << 30, &next, &what), 0);
	close(memmap_take(&next, 10ull << 30));
	assert_int_equal(memmap_take(&mm.epoch, 10ull << 30), -ENOENT);
	assert_int_equal(memmap_plan_remove(&mm, 10ull << 30, &next), -ENOENT);
	assert_int_equal(memmap_plan_remove(&mm, 6ull << 30, &next), 0);
	assert_int_equal(next.map.epoch, epoch + 2);
	over = mm.epoch;
	memmap_accept(&mm, &next);
	assert_int_equal(mm.epoch.map.count, 3);
	assert_int_equal(mm.epoch.map.regions[2].gpa, 8ull << 30);
	const int fd = memmap_take(&over, 6ull << 30);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	close(fd);
	memmap_destroy(&mm);
}

/* What cannot be had is said, and leaves the map, its descriptors and its numbers of regions as they were. */
static void test_plans_refused(void **state)
{
	static struct box_memory next;
	struct memmap_config config = base;
	struct memmap mm;
	const char *what = "";

	(void)state;
	make(&mm, &base);
	config.bytes = 2 * MIB;
	config.node = 1000;
	assert_int_equal(memmap_plan_add(&mm, &config, 4ull << 30, &next, &what), -ENOTSUP);
	assert_non_null(strstr(what, "NUMA node"));
	config.node = -2;
	assert_int_equal(memmap_plan_add(&mm, &config, 4ull << 30, &next, &what), -EINVAL);
	config = base;
	config.bytes = 1ull << 40;
	config.prealloc = true;
	assert_int_equal(memmap_plan_add(&mm, &config, 4ull << 30, &next, &what), -ENOMEM);
	config.prealloc = false;
	config.bytes = 2 * MIB;
	for (uint64_t i = 1; i < MEM_REGIONS_MAX; i++) {
		assert_int_equal(memmap_plan_add(&mm, &config, (4 + i) << 30, &next, &what), 0);
		memmap_accept(&mm, &next);
	}
	assert_int_equal(memmap_plan_add(&mm, &config, 4ull << 30, &next, &what), -ENOSPC);
	memmap_destroy(&mm);
}

/* An epoch has the first so many bytes; the memory is the same, whatever comes and goes around it. */
static void test_reserve(void **state)
{
	static struct box_memory next;
	struct memmap_config config = base;
	const uint64_t at = 8ull << 30;
	struct memmap mm;
	const char *what = "";

	(void)state;
	make(&mm, &base);
	config.bytes = 64 * MIB;
	config.prealloc = true;
	assert_int_equal(memmap_add_reserve(&mm, &config, at, 16 * MIB, &what), 0);
	assert_int_equal(mm.epoch.map.count, 1);
	for (uint64_t i = 0; i < 20; i++) {
		const uint64_t bytes = i * 7 % 5 * 16 * MIB;
		const struct mem_region *r = &next.map.regions[1];

		assert_int_equal(memmap_plan_reserve(&mm, 0, bytes, &next), 0);
		assert_int_equal(next.map.epoch, 2 + i);
		assert_int_equal(next.map.count, bytes != 0 ? 2 : 1);
		if (bytes != 0)
			assert_true(r->gpa == at && r->bytes == bytes &&
				    r->addr == mm.reserves[0].addr &&
				    next.fds[1] == mm.reserves[0].fd &&
				    next.slot_bytes[1] == 16 * MIB);
		memmap_accept(&mm, &next);
	}
	config.bytes = 4 * MIB;
	config.prealloc = false;
	assert_int_equal(memmap_plan_add(&mm, &config, 4ull << 30, &next, &what), 0);
	memmap_accept(&mm, &next);
	assert_int_equal(memmap_plan_reserve(&mm, 0, 16 * MIB, &next), 0);
	assert_int_equal(next.map.count, 3);
	memmap_accept(&mm, &next);
	assert_int_equal(memmap_plan_remove(&mm, 4ull << 30, &next), 0);
	assert_int_equal(next.map.count, 2);
	assert_int_equal(next.slot_bytes[1], 16 * MIB);
	/* With what of it is in the map, and what is not. */
	memmap_destroy(&mm);
}

/* Of huge pages there are so many; of the others nobody knows. */
static void test_check_free(void **state)
{
	const char *what = "";

	(void)state;
	assert_int_equal(memmap_check_free(MEM_PAGES_4K, 1ull << 50, &what), 0);
	assert_int_equal(memmap_check_free(MEM_PAGES_THP, 1ull << 50, &what), 0);
	if (access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK) == 0) {
		assert_int_equal(memmap_check_free(MEM_PAGES_2M, 1ull << 39, &what), -ENOMEM);
		assert_non_null(strstr(what, "too few free 2 MiB pages"));
	}
}

/* 32 address bits end where high RAM begins. */
static void test_addressable(void **state)
{
	struct memmap_config config = base;

	(void)state;
	config.phys_bits = 32;
	config.bytes = LAYOUT_RAM_LOW_END + 4096;
	assert_refused(&config, -EINVAL, "more than this CPU can address");
	config.phys_bits = 40;
	config.bytes = (1ull << 40) - LAYOUT_RAM_HIGH + LAYOUT_RAM_LOW_END + 4096;
	assert_refused(&config, -EINVAL, "more than this CPU can address");
	config.bytes -= 4096;
	if (config.bytes > host_bytes())
		assert_refused(&config, -ENOMEM, "more than the host has");
}

static void test_seals(void **state)
{
	struct memmap mm;
	struct mem_region *r;
	int seals;

	(void)state;
	make(&mm, &base);
	r = &mm.epoch.map.regions[0];
	seals = fcntl(mm.epoch.fds[0], F_GET_SEALS);
	assert_int_equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(seals & (F_SEAL_SEAL | F_SEAL_WRITE), 0);
	assert_int_equal(ftruncate(mm.epoch.fds[0], 0), -1);
	assert_int_equal(ftruncate(mm.epoch.fds[0], 32 * MIB), -1);
	assert_int_equal(fcntl(mm.epoch.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	/* The proof that nobody has it mapped any more. */
	assert_int_equal(fcntl(mm.epoch.fds[0], F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(munmap((void *)(uintptr_t)r->addr, r->bytes), 0);
	assert_int_equal(fcntl(mm.epoch.fds[0], F_ADD_SEALS, F_SEAL_WRITE), 0);
	close(mm.epoch.fds[0]);
}

/* What /proc/self/smaps says in `VmFlags` of the mapping that begins at addr. */
static void vm_flags(uint64_t addr, char *flags, size_t bytes)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[512], want[32];
	int found = 0;

	assert_non_null(file);
	snprintf(want, sizeof(want), "%llx-", (unsigned long long)addr);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), file)) {
		found |= strncmp(line, want, strlen(want)) == 0;
		if (found && strncmp(line, "VmFlags:", 8) == 0) {
			snprintf(flags, bytes, "%s", line);
			break;
		}
	}
	fclose(file);
}

static void test_advice(void **state)
{
	struct memmap_config config = base;
	struct memmap mm;
	char flags[512];

	(void)state;
	config.pages = MEM_PAGES_THP;
	make(&mm, &config);
	vm_flags(mm.epoch.map.regions[0].addr, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd")); /* not in core dumps */
	assert_non_null(strstr(flags, " dc")); /* not in children */
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0)
		assert_non_null(strstr(flags, " hg"));
	assert_int_equal(mm.epoch.page_bytes[0], 2 * MIB);
	memmap_destroy(&mm);
}

static uint64_t resident_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void test_prealloc(void **state)
{
	struct memmap_config config = base;
	struct memmap mm;

	(void)state;
	make(&mm, &config);
	assert_int_equal(resident_bytes(mm.epoch.fds[0]), 0);
	memmap_destroy(&mm);
	config.prealloc = true;
	make(&mm, &config);
	assert_int_equal(resident_bytes(mm.epoch.fds[0]), 16 * MIB);
	memmap_destroy(&mm);
	config.bytes = host_bytes() & ~4095ull; /* all of it cannot be free */
	assert_refused(&config, -ENOMEM, "free");
}

static void test_node(void **state)
{
	struct memmap_config config = base;
	struct memmap mm;

	(void)state;
	if (access("/sys/devices/system/node/node0", F_OK) != 0) {
		puts("a kernel without NUMA");
		skip();
	}
	config.node = 0;
	config.prealloc = true;
	make(&mm, &config);
	assert_int_equal(resident_bytes(mm.epoch.fds[0]), 16 * MIB);
	memmap_destroy(&mm);
}

static void test_huge(void **state)
{
	struct memmap_config config = base;
	struct guestmem_huge huge = { 0 };
	struct memmap mm;

	(void)state;
	config.pages = MEM_PAGES_2M;
	config.bytes = 1ull << 39; /* no host of ours keeps half a TiB for this */
	if (access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK) != 0) {
		assert_refused(&config, -ENOTSUP, "no huge pages of that size");
		puts("a kernel without 2 MiB pages");
		skip();
	}
	assert_refused(&config, -ENOMEM, "too few free 2 MiB pages");
	config.bytes = 16 * MIB;
	if (guestmem_huge_reserve(&huge, config.bytes) != 0) {
		puts("no huge pages, and none to be had");
		skip();
	}
	for (int node = -1; node <= 0; node++) {
		config.node = node;
		make(&mm, &config);
		assert_int_equal(mm.epoch.page_bytes[0], 2 * MIB);
		memset(memmap_at(&mm, 0, 16 * MIB), 1, 16 * MIB);
		memmap_destroy(&mm);
	}
	guestmem_huge_restore(&huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_region),    cmocka_unit_test(test_hole),
		cmocka_unit_test(test_refusals),      cmocka_unit_test(test_plans),
		cmocka_unit_test(test_plans_refused), cmocka_unit_test(test_addressable),
		cmocka_unit_test(test_reserve),       cmocka_unit_test(test_check_free),
		cmocka_unit_test(test_seals),         cmocka_unit_test(test_advice),
		cmocka_unit_test(test_prealloc),      cmocka_unit_test(test_node),
		cmocka_unit_test(test_huge),
	};

	return cmocka_run_group_tests_name("memmap", tests, NULL, NULL);
}
