/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A region is a memfd of its own, so that it can be handed to the processes of
 * a device, and taken back, on its own.  It is sealed against resizing before anybody sees it, else
 * a mapping could end in SIGBUS; F_SEAL_SEAL stays unset, because F_SEAL_WRITE is how the end of a
 * region is proven later.
 *
 * Nothing is faulted in unless asked, with one exception: huge pages that are bound to a node.
 * mmap() reserves huge pages on the host as a whole, so that a node without enough of them would
 * show as SIGBUS in a device, long after the start; faulted in at once, it shows here.
 */
#include "core/machine/memmap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#include "core/cc.h"
#include "core/log.h"
#include "core/machine/layout.h"
#include "core/memfd.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define NODES_MAX 1024u /* the kernel's own limit on x86 */
#define ALIGN_LEAST                                                                                \
	(2 * MIB) /* of mappings: KVM maps large pages only where both addresses agree */
#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

struct mem_kind {
	uint64_t bytes;   /* of a page */
	unsigned memfd;   /* flags */
	bool huge;        /* hugetlb */
	const char *none; /* mmap() found too few */
};

static const struct mem_kind kinds[MEM_PAGES_COUNT] = {
	[MEM_PAGES_4K] = { 4096, 0, false, "memory: the host does not give that much" },
	[MEM_PAGES_THP] = { 2 * MIB, 0, false, "memory: the host does not give that much" },
	[MEM_PAGES_2M] = { 2 * MIB, MFD_HUGETLB | MFD_HUGE_2MB, true,
			   "memory: too few free 2 MiB pages on the host: raise vm.nr_hugepages" },
	[MEM_PAGES_1G] = { GIB, MFD_HUGETLB | MFD_HUGE_1GB, true,
			   "memory: too few free 1 GiB pages on the host: raise nr_hugepages in "
			   "/sys/kernel/mm/hugepages/hugepages-1048576kB" },
};

uint64_t memmap_page_bytes(enum mem_pages pages)
{
	CHECK(pages < MEM_PAGES_COUNT);
	return kinds[pages].bytes;
}

static int fail(const char **what, const char *text, int ret)
{
	*what = text;
	return ret;
}

/* Whether this host gives large pages to shared memory on advice.  Advice that is not followed is
 * no error, pages are then small; the operator is told. */
static void warn_without_thp(void)
{
	cleanup_fd int fd = open(SHMEM_ENABLED, O_RDONLY | O_CLOEXEC);
	char text[128] = "";

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		log_warn(
			"memory: this kernel has no transparent huge pages, pages=thp has no effect");
	else if (strstr(text, "[never]") || strstr(text, "[deny]"))
		log_warn(
			"memory: pages=thp has no effect on this host: write advise to " SHMEM_ENABLED);
}

/* What the host has, or with `now` what it could give at this moment. */
static uint64_t host_bytes(bool now)
{
	struct sysinfo si;
	unsigned long available_kib;
	uint64_t bytes = 0;
	char line[128];

	if (!now)
		return sysinfo(&si) == 0 ? ((uint64_t)si.totalram + si.totalswap) * si.mem_unit
					 : UINT64_MAX;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && bytes == 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %lu kB", &available_kib) == 1)
			bytes = (uint64_t)available_kib << 10;
	if (file)
		fclose(file);
	return bytes ? bytes : UINT64_MAX;
}

static int check_config(const struct memmap_config *config, const char **what)
{
	const struct mem_kind *kind = &kinds[config->pages];

	if (config->bytes == 0)
		return fail(what, "memory: must be more than 0", -EINVAL);
	if (config->bytes % kind->bytes)
		return fail(what, "memory: the size must be a multiple of the page size", -EINVAL);
	if (config->phys_bits < 32 || config->phys_bits > 52)
		return fail(what, "memory: the CPU's physical address width makes no sense",
			    -EINVAL);
	if (config->bytes > LAYOUT_RAM_LOW_END &&
	    config->bytes - LAYOUT_RAM_LOW_END > (1ull << config->phys_bits) - LAYOUT_RAM_HIGH)
		return fail(what, "memory: more than this CPU can address", -EINVAL);
	if (config->node >= (int)NODES_MAX || config->node < -1)
		return fail(what, "memory: no such NUMA node", -EINVAL);
	/* Huge pages are counted by the kernel itself, when they are mapped. */
	if (!kind->huge && config->bytes > host_bytes(false))
		return fail(what, "memory: more than the host has", -ENOMEM);
	if (!kind->huge && config->prealloc && config->bytes > host_bytes(true))
		return fail(what, "memory: more than the host has free", -ENOMEM);
	return 0;
}

static int make_memfd(const struct mem_kind *kind, uint64_t bytes, int *out)
{
	const int fd = memfd_make("guest", kind->memfd, bytes, F_SEAL_SHRINK | F_SEAL_GROW);

	if (fd < 0)
		return fd;
	*out = fd;
	return 0;
}

/* Takes more address space than needed and gives back what lies around the aligned part. */
static int map_aligned(int fd, uint64_t bytes, uint64_t align, int flags, uint64_t *addr)
{
	uint8_t *raw = mmap(NULL, bytes + align, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (raw == MAP_FAILED)
		return -errno;
	const uint64_t before = -(uint64_t)(uintptr_t)raw & (align - 1);
	uint8_t *at = raw + before;

	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | flags, fd, 0) ==
	    MAP_FAILED) {
		int ret = -errno;

		munmap(raw, bytes + align);
		return ret;
	}
	if (before)
		munmap(raw, before);
	if (align - before)
		munmap(at + bytes, align - before);
	*addr = (uint64_t)(uintptr_t)at;
	return 0;
}

/* The policy is the memfd's, not the mapping's: it holds for the devices too. */
static int bind_node(void *at, uint64_t bytes, int node)
{
	unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };
	const unsigned bits = 8 * sizeof(unsigned long);

	mask[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
	/* The kernel takes one bit less than it is told. */
	return syscall(SYS_mbind, at, bytes, MPOL_BIND, mask, NODES_MAX + 1, 0) ? -errno : 0;
}

static int populate(void *at, uint64_t bytes)
{
	while (madvise(at, bytes, MADV_POPULATE_WRITE) != 0)
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	return 0;
}

static int prepare(const struct memmap_config *config, void *at, uint64_t bytes, const char **what)
{
	if (madvise(at, bytes, MADV_DONTDUMP) != 0 || madvise(at, bytes, MADV_DONTFORK) != 0)
		return fail(what, "memory: madvise", -errno);
	if (config->pages == MEM_PAGES_THP)
		(void)madvise(at, bytes, MADV_HUGEPAGE); /* warn_without_thp() has said so */
	if (config->node >= 0 && bind_node(at, bytes, config->node) != 0)
		return fail(what, "memory: no such NUMA node, or it has no memory", -ENOTSUP);
	return 0;
}

/* Pages that are to be there at once. */
static int fault_in(const struct memmap_config *config, void *at, uint64_t bytes, const char **what)
{
	const struct mem_kind *kind = &kinds[config->pages];

	if ((config->prealloc || (kind->huge && config->node >= 0)) && populate(at, bytes) != 0)
		return fail(what, kind->none, -ENOMEM);
	return 0;
}

/* ---- epochs ---- */

static void move_place(struct box_memory *epoch, uint32_t to, uint32_t from)
{
	epoch->map.regions[to] = epoch->map.regions[from];
	epoch->fds[to] = epoch->fds[from];
	epoch->offsets[to] = epoch->offsets[from];
	epoch->page_bytes[to] = epoch->page_bytes[from];
	epoch->slot_bytes[to] = epoch->slot_bytes[from];
}

/* Opens a place in all tables for a region at gpa. */
static uint32_t open_place(struct box_memory *epoch, uint64_t gpa)
{
	uint32_t i = epoch->map.count++;

	for (; i > 0 && epoch->map.regions[i - 1].gpa > gpa; i--)
		move_place(epoch, i, i - 1);
	return i;
}

static void close_place(struct box_memory *epoch, uint32_t i)
{
	for (epoch->map.count--; i < epoch->map.count; i++)
		move_place(epoch, i, i + 1);
}

static uint32_t find_place(const struct box_memory *epoch, uint64_t gpa)
{
	uint32_t i = 0;

	while (i < epoch->map.count && epoch->map.regions[i].gpa != gpa)
		i++;
	return i;
}

int memmap_take(const struct box_memory *over, uint64_t gpa)
{
	const uint32_t i = find_place(over, gpa);

	if (i == over->map.count)
		return -ENOENT;
	munmap((void *)(uintptr_t)over->map.regions[i].addr, over->map.regions[i].bytes);
	return over->fds[i];
}

/* A memfd and where it is mapped; flags of mmap(). */
static int make_memory(enum mem_pages pages, uint64_t bytes, int flags, int *fd, uint64_t *addr,
		       const char **what)
{
	const struct mem_kind *kind = &kinds[pages];
	const uint64_t align = kind->bytes > ALIGN_LEAST ? kind->bytes : ALIGN_LEAST;
	int ret = make_memfd(kind, bytes, fd);

	if (ret != 0)
		return fail(what,
			    kind->huge ? "memory: this kernel has no huge pages of that size"
				       : "memory: memfd_create",
			    kind->huge ? -ENOTSUP : ret);
	if (map_aligned(*fd, bytes, align, flags, addr) == 0)
		return 0;
	close(*fd);
	return fail(what, kind->none, -ENOMEM);
}

/* A new region in `epoch`, which is as it was when this fails. */
static int add_region(struct box_memory *epoch, const struct memmap_config *config, uint64_t gpa,
		      uint64_t bytes, const char **what)
{
	struct mem_region region = { .gpa = gpa, .bytes = bytes };
	int fd = -1, ret;

	ret = make_memory(config->pages, bytes, 0, &fd, &region.addr, what);
	if (ret != 0)
		return ret;
	const uint32_t i = open_place(epoch, gpa);

	epoch->map.regions[i] = region;
	epoch->fds[i] = fd;
	epoch->offsets[i] = epoch->slot_bytes[i] = 0;
	epoch->page_bytes[i] = kinds[config->pages].bytes;
	ret = prepare(config, (void *)(uintptr_t)region.addr, bytes, what);
	if (ret == 0)
		ret = fault_in(config, (void *)(uintptr_t)region.addr, bytes, what);
	if (ret != 0) {
		close(memmap_take(epoch, gpa));
		close_place(epoch, i);
	}
	return ret;
}

int memmap_create(struct memmap *mm, const struct memmap_config *config, const char **what)
{
	int ret;

	memset(mm, 0, sizeof(*mm));
	mm->epoch.map.epoch = mm->last = 1;
	CHECK(config->pages < MEM_PAGES_COUNT);
	ret = check_config(config, what);
	if (ret != 0)
		return ret;
	if (config->pages == MEM_PAGES_THP)
		warn_without_thp();
	const uint64_t low =
		config->bytes < LAYOUT_RAM_LOW_END ? config->bytes : LAYOUT_RAM_LOW_END;

	ret = add_region(&mm->epoch, config, 0, low, what);
	if (ret == 0 && config->bytes > low)
		ret = add_region(&mm->epoch, config, LAYOUT_RAM_HIGH, config->bytes - low, what);
	if (ret != 0)
		memmap_destroy(mm);
	mm->boot = mm->epoch.map;
	return ret;
}

void memmap_destroy(struct memmap *mm)
{
	struct box_memory *epoch = &mm->epoch;

	while (epoch->map.count) {
		if (epoch->slot_bytes[0] == 0)
			close(memmap_take(epoch, epoch->map.regions[0].gpa));
		close_place(epoch, 0);
	}
	while (mm->reserve_count) {
		struct memmap_reserve *r = &mm->reserves[--mm->reserve_count];

		munmap((void *)(uintptr_t)r->addr, r->bytes);
		cc_close(&r->fd);
	}
	mm->boot.count = 0;
}

int memmap_plan_add(struct memmap *mm, const struct memmap_config *config, uint64_t gpa,
		    struct box_memory *next, const char **what)
{
	const struct mem_kind *kind = &kinds[config->pages];

	CHECK(gpa % kind->bytes == 0 && config->bytes % kind->bytes == 0 && config->bytes != 0);
	if (mm->epoch.map.count == MEM_REGIONS_MAX)
		return fail(what, "memory: no more regions", -ENOSPC);
	if (config->node >= (int)NODES_MAX || config->node < -1)
		return fail(what, "memory: no such NUMA node", -EINVAL);
	if (!kind->huge && config->prealloc && config->bytes > host_bytes(true))
		return fail(what, "memory: more than the host has free", -ENOMEM);
	*next = mm->epoch;
	next->map.epoch = ++mm->last;
	return add_region(next, config, gpa, config->bytes, what);
}

int memmap_plan_remove(struct memmap *mm, uint64_t gpa, struct box_memory *next)
{
	const uint32_t i = find_place(&mm->epoch, gpa);

	if (i == mm->epoch.map.count)
		return -ENOENT;
	*next = mm->epoch;
	next->map.epoch = ++mm->last;
	close_place(next, i);
	return 0;
}

int memmap_add_reserve(struct memmap *mm, const struct memmap_config *config, uint64_t gpa,
		       uint64_t slot_bytes, const char **what)
{
	struct memmap_reserve *r = &mm->reserves[mm->reserve_count];
	int ret;

	CHECK(mm->reserve_count < LAYOUT_NODES_MAX);
	CHECK(slot_bytes != 0 && config->bytes != 0 && config->bytes % slot_bytes == 0);
	CHECK(slot_bytes % kinds[config->pages].bytes == 0 &&
	      gpa % kinds[config->pages].bytes == 0);
	*r = (struct memmap_reserve){ .gpa = gpa,
				      .bytes = config->bytes,
				      .page_bytes = kinds[config->pages].bytes,
				      .slot_bytes = slot_bytes,
				      .fd = -1 };
	ret = make_memory(config->pages, r->bytes, MAP_NORESERVE, &r->fd, &r->addr, what);
	if (ret != 0)
		return ret;
	mm->reserve_count++;
	return prepare(config, (void *)(uintptr_t)r->addr, r->bytes, what);
}

int memmap_plan_reserve(struct memmap *mm, uint32_t reserve, uint64_t bytes,
			struct box_memory *next)
{
	const struct memmap_reserve *r = &mm->reserves[reserve];
	uint32_t i = find_place(&mm->epoch, r->gpa);

	CHECK(reserve < mm->reserve_count && bytes <= r->bytes && bytes % r->slot_bytes == 0);
	if (i == mm->epoch.map.count && bytes != 0 && i == MEM_REGIONS_MAX)
		return -ENOSPC;
	*next = mm->epoch;
	next->map.epoch = ++mm->last;
	if (i < mm->epoch.map.count)
		close_place(next, i);
	if (bytes == 0)
		return 0;
	i = open_place(next, r->gpa);
	next->map.regions[i] =
		(struct mem_region){ .gpa = r->gpa, .bytes = bytes, .addr = r->addr };
	next->fds[i] = r->fd;
	next->offsets[i] = 0;
	next->page_bytes[i] = r->page_bytes;
	next->slot_bytes[i] = r->slot_bytes;
	return 0;
}

/* By taking it: the kernel reserves huge pages with the mapping. */
int memmap_check_free(enum mem_pages pages, uint64_t bytes, const char **what)
{
	const uint64_t page = kinds[pages].bytes;
	uint64_t addr = 0;
	int ret, fd = -1;

	if (!kinds[pages].huge)
		return 0;
	bytes += -bytes % page;
	ret = make_memory(pages, bytes, 0, &fd, &addr, what);
	if (ret == 0) {
		munmap((void *)(uintptr_t)addr, bytes);
		close(fd);
	}
	return ret;
}

void memmap_accept(struct memmap *mm, const struct box_memory *next)
{
	mm->epoch = *next;
}

void *memmap_at(const struct memmap *mm, uint64_t gpa, uint64_t bytes)
{
	return gpa_span(&mm->boot, gpa_make(gpa), bytes);
}
