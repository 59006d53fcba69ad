/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A region is a memfd of its own, so that it can be handed to a device
 * process, and taken back, on its own.  F_SEAL_SEAL is not set: adding F_SEAL_WRITE later is how a
 * test proves that nobody has a region mapped any more.  A hugetlb mapping reserves its pages at
 * mmap(), so a shortage shows as ENOMEM there and not as SIGBUS in the middle of a test.
 */
#include "tests/rig/guestmem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memfd.h"

#define PAGE_4K 4096ull
#define PAGE_2M (2ull << 20)
#define NR_HUGEPAGES "/proc/sys/vm/nr_hugepages"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

void guestmem_init(struct guestmem *mem)
{
	memset(mem, 0, sizeof(*mem));
	mem->map.epoch = 1;
}

void guestmem_free(struct guestmem *mem)
{
	while (mem->map.count)
		guestmem_remove(mem, mem->map.regions[0].gpa, NULL);
}

static int make_file(enum guestmem_pages pages, uint64_t bytes)
{
	return memfd_make("guest", pages == GUESTMEM_2M ? MFD_HUGETLB | MFD_HUGE_2MB : 0, bytes,
			  pages == GUESTMEM_LOOSE ? 0 : F_SEAL_SHRINK | F_SEAL_GROW);
}

/* Where a new region goes in the sorted table, or -EINVAL when it would overlap. */
static int slot_for(const struct mem_map *map, uint64_t gpa, uint64_t bytes)
{
	uint32_t i = 0;

	while (i < map->count && map->regions[i].gpa < gpa)
		i++;
	if (i > 0 && gpa - map->regions[i - 1].gpa < map->regions[i - 1].bytes)
		return -EINVAL;
	if (i < map->count && map->regions[i].gpa - gpa < bytes)
		return -EINVAL;
	return (int)i;
}

/* Opens (by = 1) or closes (by = -1) the place `at` in the parallel tables. */
static void shift(struct guestmem *mem, uint32_t at, int by)
{
	uint32_t from = by > 0 ? at : at + 1;
	uint32_t to = by > 0 ? at + 1 : at;
	size_t n = mem->map.count - from;

	memmove(&mem->map.regions[to], &mem->map.regions[from], n * sizeof(mem->map.regions[0]));
	memmove(&mem->fds[to], &mem->fds[from], n * sizeof(mem->fds[0]));
	memmove(&mem->used[to], &mem->used[from], n * sizeof(mem->used[0]));
	memmove(&mem->page_bytes[to], &mem->page_bytes[from], n * sizeof(mem->page_bytes[0]));
	mem->map.count = by > 0 ? mem->map.count + 1 : mem->map.count - 1;
	mem->map.epoch++;
}

/* The place of a new region in the table, or -errno. */
static int place_for(const struct guestmem *mem, uint64_t gpa, uint64_t bytes, uint64_t page)
{
	if (bytes == 0 || bytes % page || gpa % page || gpa + bytes < gpa || bytes > INT64_MAX)
		return -EINVAL;
	if (mem->map.count == MEM_REGIONS_MAX)
		return -ENOSPC;
	return slot_for(&mem->map, gpa, bytes);
}

static int map_at(struct guestmem *mem, uint32_t at, const struct mem_region *region, int fd)
{
	void *addr = mmap(NULL, region->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (addr == MAP_FAILED)
		return -errno;
	(void)madvise(addr, region->bytes, MADV_DONTDUMP);
	shift(mem, at, 1);
	mem->map.regions[at] = *region;
	mem->map.regions[at].addr = (uint64_t)(uintptr_t)addr;
	mem->fds[at] = fd;
	mem->used[at] = region->gpa == 0 ? PAGE_4K : 0;
	return 0;
}

int guestmem_add(struct guestmem *mem, uint64_t gpa, uint64_t bytes, enum guestmem_pages pages)
{
	const struct mem_region region = { .gpa = gpa, .bytes = bytes };
	const uint64_t page = pages == GUESTMEM_2M ? PAGE_2M : PAGE_4K;
	const int at = place_for(mem, gpa, bytes, page);
	const int fd = at < 0 ? at : make_file(pages, bytes);
	int ret;

	if (fd < 0)
		return fd;
	ret = map_at(mem, (uint32_t)at, &region, fd);
	if (ret != 0)
		close(fd);
	else
		mem->page_bytes[at] = page;
	return ret;
}

int guestmem_add_fd(struct guestmem *mem, uint64_t gpa, uint64_t bytes, int fd)
{
	const struct mem_region region = { .gpa = gpa, .bytes = bytes };
	const int at = place_for(mem, gpa, bytes, PAGE_4K);
	const int ret = at < 0 ? at : map_at(mem, (uint32_t)at, &region, fd);

	if (ret == 0)
		mem->page_bytes[at] = PAGE_4K;
	return ret;
}

static int region_at(const struct guestmem *mem, uint64_t gpa)
{
	for (uint32_t i = 0; i < mem->map.count; i++)
		if (mem->map.regions[i].gpa == gpa)
			return (int)i;
	return -ENOENT;
}

int guestmem_remove(struct guestmem *mem, uint64_t gpa, int *fd)
{
	int at = region_at(mem, gpa);

	if (at < 0)
		return at;
	const struct mem_region *r = &mem->map.regions[at];

	munmap((void *)(uintptr_t)r->addr, r->bytes);
	if (fd)
		*fd = mem->fds[at];
	else
		close(mem->fds[at]);
	shift(mem, (uint32_t)at, -1);
	return 0;
}

int guestmem_populate(const struct guestmem *mem)
{
	for (uint32_t i = 0; i < mem->map.count; i++) {
		const struct mem_region *r = &mem->map.regions[i];
		volatile uint8_t *bytes = (volatile uint8_t *)(uintptr_t)r->addr;

		if (madvise((void *)(uintptr_t)r->addr, r->bytes, MADV_POPULATE_WRITE) == 0)
			continue;
		if (errno != EINVAL)
			return -errno;
		for (uint64_t off = 0; off < r->bytes; off += PAGE_4K) /* before 5.14 */
			bytes[off] = bytes[off];
	}
	return 0;
}

static int alloc_at(struct guestmem *mem, uint32_t i, uint64_t bytes, uint64_t align, gpa_t *gpa)
{
	const struct mem_region *r = &mem->map.regions[i];
	uint64_t first = r->gpa + mem->used[i];
	uint64_t start = (first + align - 1) & ~(align - 1);

	if (start < first || start - r->gpa > r->bytes || bytes > r->bytes - (start - r->gpa))
		return -ENOMEM;
	mem->used[i] = start - r->gpa + bytes;
	*gpa = gpa_make(start);
	return 0;
}

static bool alloc_valid(uint64_t bytes, uint64_t align)
{
	return bytes != 0 && align != 0 && (align & (align - 1)) == 0;
}

int guestmem_alloc(struct guestmem *mem, uint64_t bytes, uint64_t align, gpa_t *gpa)
{
	if (!alloc_valid(bytes, align))
		return -EINVAL;
	for (uint32_t i = 0; i < mem->map.count; i++)
		if (alloc_at(mem, i, bytes, align, gpa) == 0)
			return 0;
	return -ENOMEM;
}

int guestmem_alloc_in(struct guestmem *mem, uint64_t region_gpa, uint64_t bytes, uint64_t align,
		      gpa_t *gpa)
{
	int at = region_at(mem, region_gpa);

	if (at < 0)
		return at;
	if (!alloc_valid(bytes, align))
		return -EINVAL;
	return alloc_at(mem, (uint32_t)at, bytes, align, gpa);
}

/* One "Name:   value" line of /proc/meminfo; 0 when it is not there. */
static uint64_t meminfo(const char *name)
{
	char line[128];
	unsigned long long value = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0 &&
		    sscanf(line + strlen(name), ": %llu", &value) == 1)
			break;
	if (file)
		fclose(file);
	return value;
}

static int nr_hugepages_write(uint64_t pages)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)pages);
	int fd = open(NR_HUGEPAGES, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == EACCES ? -EPERM : -errno;
	int ret = write(fd, text, (size_t)len) == len ? 0 : -errno;

	close(fd);
	return ret;
}

static uint64_t huge_free(void)
{
	uint64_t pages = meminfo("HugePages_Free"), reserved = meminfo("HugePages_Rsvd");

	return pages > reserved ? pages - reserved : 0;
}

int guestmem_huge_reserve(struct guestmem_huge *huge, uint64_t bytes)
{
	uint64_t want = (bytes + PAGE_2M - 1) / PAGE_2M;
	uint64_t have = huge_free(), total = meminfo("HugePages_Total");

	huge->added = 0;
	if (meminfo("Hugepagesize") != PAGE_2M >> 10)
		return -ENOTSUP;
	if (have >= want)
		return 0;
	int ret = nr_hugepages_write(total + want - have);

	if (ret != 0)
		return ret;
	uint64_t now = meminfo("HugePages_Total");

	huge->added = now > total ? now - total : 0;
	fprintf(stderr, "guestmem: nr_hugepages raised from %llu to %llu\n",
		(unsigned long long)total, (unsigned long long)now);
	if (huge_free() >= want)
		return 0;
	guestmem_huge_restore(huge);
	return -ENOMEM;
}

void guestmem_huge_restore(struct guestmem_huge *huge)
{
	uint64_t now = meminfo("HugePages_Total");

	if (huge->added == 0)
		return;
	/* Relative, not to the old value: another process may have raised it in between. */
	uint64_t back = now > huge->added ? now - huge->added : 0;

	huge->added = 0;
	if (nr_hugepages_write(back) == 0)
		fprintf(stderr, "guestmem: nr_hugepages back to %llu\n", (unsigned long long)back);
}
