/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/regions.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/vhost/guard.h"
#include "core/vhost/memfile.h"
#include "devmodel/abi/virtio.h"

#define PAGE 4096ull
#define HUGE_PAGE_MAX (1ull << 30)
#define ADDRESS_MAX (1ull << 52) /* guest physical: MAXPHYADDR is never more */

static int fail(int ret, const char **why, const char *text)
{
	*why = text;
	return ret;
}

/* ---- what a message says ---- */

static bool range_wraps(uint64_t start, uint64_t bytes)
{
	return bytes > UINT64_MAX - start;
}

static bool ranges_meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

static int check_wire(const struct vhost_user_region *wire, const char **why)
{
	if (wire->bytes == 0)
		return fail(-EINVAL, why, "a region of no bytes");
	if (range_wraps(wire->guest_addr, wire->bytes) ||
	    range_wraps(wire->user_addr, wire->bytes) ||
	    range_wraps(wire->mmap_offset, wire->bytes) ||
	    wire->mmap_offset + wire->bytes > INT64_MAX)
		return fail(-EINVAL, why, "a region that wraps");
	if (wire->guest_addr + wire->bytes > ADDRESS_MAX)
		return fail(-EINVAL, why, "a region beyond all guest physical addresses");
	/* The front-end's address as well: what is aligned there has to be aligned here. */
	if (wire->guest_addr % PAGE != 0 || wire->bytes % PAGE != 0 ||
	    wire->user_addr % PAGE != 0 || wire->mmap_offset % PAGE != 0)
		return fail(-EINVAL, why, "a region that is not of whole pages");
	return 0;
}

/* By guest physical address, and by the front-end's own: either would make one address mean two. */
static int check_overlap(const struct vhost_regions *table, const struct vhost_user_region *wire,
			 const char **why)
{
	for (uint32_t i = 0; i < table->count; i++) {
		const struct vhost_region *r = table->regions[i];

		if (ranges_meet(r->gpa, r->bytes, wire->guest_addr, wire->bytes))
			return fail(-EEXIST, why, "a region that overlaps another");
		if (ranges_meet(r->user, r->bytes, wire->user_addr, wire->bytes))
			return fail(-EEXIST, why,
				    "a region that overlaps another in the front-end");
	}
	return 0;
}

/* ---- what its descriptor is ---- */

static int check_file(struct vhost_region *r, const char **why)
{
	const int ret = memfile_check(r->fd, r->offset + r->bytes, &r->page_bytes, why);

	if (ret != 0)
		return ret;
	if (r->page_bytes > HUGE_PAGE_MAX || r->offset % r->page_bytes != 0 ||
	    r->bytes % r->page_bytes != 0)
		return fail(-EINVAL, why, "a region that is not of whole huge pages");
	return 0;
}

static int map_it(struct vhost_region *r, const char **why)
{
	r->map = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->fd,
		      (off_t)r->offset);
	if (r->map == MAP_FAILED) {
		const int ret = -errno;

		r->map = NULL;
		return fail(ret, why, "its file cannot be mapped");
	}
	madvise(r->map, r->bytes, MADV_DONTDUMP);
	if (!guard_add(r->map, r->bytes, r->page_bytes))
		return fail(-ENOSPC, why, "too many regions of all front-ends");
	return 0;
}

/* ---- regions ---- */

static void region_drop(struct vhost_region *r)
{
	if (--r->references != 0)
		return;
	if (r->map != NULL) {
		guard_remove(r->map);
		munmap(r->map, r->bytes);
	}
	close(r->fd);
	free(r);
}

static struct vhost_region *region_make(const struct vhost_user_region *wire, int fd)
{
	struct vhost_region *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	*r = (struct vhost_region){
		.references = 1,
		.gpa = wire->guest_addr,
		.bytes = wire->bytes,
		.user = wire->user_addr,
		.offset = wire->mmap_offset,
		.fd = fd,
	};
	return r;
}

static uint64_t table_bytes(const struct vhost_regions *table)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < table->count; i++)
		bytes += table->regions[i]->bytes;
	return bytes;
}

static void table_insert(struct vhost_regions *table, struct vhost_region *r)
{
	uint32_t at = table->count++;

	for (; at > 0 && table->regions[at - 1]->gpa > r->gpa; at--)
		table->regions[at] = table->regions[at - 1];
	table->regions[at] = r;
}

int regions_add(struct vhost_regions *table, const struct vhost_user_region *wire, int fd,
		const char **why)
{
	struct vhost_region *r = region_make(wire, fd);
	int ret;

	if (r == NULL) {
		close(fd);
		return fail(-ENOMEM, why, "out of memory");
	}
	if (table->count == VHOST_REGIONS_MAX)
		ret = fail(-ENOSPC, why, "more regions than GET_MAX_MEM_SLOTS says");
	else
		ret = check_wire(wire, why);
	if (ret == 0 && wire->bytes > VHOST_MEMORY_MAX - table_bytes(table))
		ret = fail(-ENOSPC, why, "more memory than a front-end may share here, 2 TiB");
	if (ret == 0)
		ret = check_overlap(table, wire, why);
	if (ret == 0)
		ret = check_file(r, why);
	if (ret == 0)
		ret = map_it(r, why);
	if (ret == 0)
		table_insert(table, r);
	else
		region_drop(r);
	return ret;
}

int regions_remove(struct vhost_regions *table, const struct vhost_user_region *wire)
{
	for (uint32_t i = 0; i < table->count; i++) {
		struct vhost_region *r = table->regions[i];

		if (r->gpa != wire->guest_addr || r->bytes != wire->bytes ||
		    r->user != wire->user_addr)
			continue;
		table->count--;
		for (uint32_t k = i; k < table->count; k++)
			table->regions[k] = table->regions[k + 1];
		region_drop(r);
		return 0;
	}
	return -ENOENT;
}

void regions_copy(struct vhost_regions *to, const struct vhost_regions *from)
{
	CHECK(to->count == 0);
	*to = *from;
	for (uint32_t i = 0; i < to->count; i++)
		to->regions[i]->references++;
}

void regions_clear(struct vhost_regions *table)
{
	while (table->count > 0)
		region_drop(table->regions[--table->count]);
}

bool regions_equal(const struct vhost_regions *a, const struct vhost_regions *b)
{
	return a->count == b->count && regions_within(a, b);
}

bool regions_within(const struct vhost_regions *part, const struct vhost_regions *whole)
{
	uint32_t n = 0;

	/* Both are in the same order. */
	for (uint32_t i = 0; i < whole->count && n < part->count; i++)
		n += part->regions[n] == whole->regions[i];
	return n == part->count;
}

/* The region that [user, user + bytes) lies in; NULL: in none wholly. */
static const struct vhost_region *region_at(const struct vhost_regions *table, uint64_t user,
					    uint64_t bytes)
{
	for (uint32_t i = 0; i < table->count; i++) {
		const struct vhost_region *r = table->regions[i];

		if (user >= r->user && bytes <= r->bytes && user - r->user <= r->bytes - bytes)
			return r;
	}
	return NULL;
}

int regions_gpa(const struct vhost_regions *table, uint64_t user, uint64_t bytes, uint64_t *gpa)
{
	const struct vhost_region *r = region_at(table, user, bytes);

	if (r == NULL)
		return -EFAULT;
	*gpa = r->gpa + (user - r->user);
	return 0;
}

int regions_used(const struct vhost_regions *table, uint64_t user, uint16_t *idx)
{
	const struct vhost_region *r = region_at(table, user, offsetof(struct virtq_used, ring));
	const struct virtq_used *used;

	if (r == NULL)
		return -EFAULT;
	used = (const struct virtq_used *)((const uint8_t *)r->map + (user - r->user));
	*idx = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
	return 0;
}

void regions_memory(const struct vhost_regions *table, uint32_t epoch, struct box_memory *memory)
{
	*memory = (struct box_memory){ .map = { .epoch = epoch, .count = table->count } };
	for (uint32_t i = 0; i < table->count; i++) {
		const struct vhost_region *r = table->regions[i];

		memory->map.regions[i] =
			(struct mem_region){ r->gpa, r->bytes, (uint64_t)(uintptr_t)r->map };
		memory->fds[i] = r->fd;
		memory->offsets[i] = r->offset;
		memory->page_bytes[i] = r->page_bytes;
	}
}
