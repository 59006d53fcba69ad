/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a box is born with: the launch record and its descriptors.  The part that is the same in all
 * generations of a device (numbers, configuration, compiled filter) is made once; addresses and the
 * canary are drawn anew for each box, so that nothing that leaks from one helps against the next.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "core/box/internal.h"
#include "core/box/policy.h"
#include "core/cc.h"
#include "devmodel/abi/policy.h"
#include "devmodel/abi/virtio.h"

/* Between where a program is loaded at the lowest and the highest: the kernel puts a static-pie at
 * 0x55.. and its own things at 0x7f.., so nothing else is here. */
#define LAYOUT_LOW (64ull << 30)
#define LAYOUT_HIGH (80ull << 40)
#define LAYOUT_GAP (2ull << 20) /* unmapped on both sides of everything */

struct layout {
	uint32_t count;
	struct {
		uint64_t start, end;
	} taken[MEM_REGIONS_MAX + 3];
};

static uint64_t random_u64(void)
{
	uint64_t value;

	CHECK(getrandom(&value, sizeof(value), 0) == sizeof(value));
	return value;
}

static bool layout_free(const struct layout *layout, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		if (start < layout->taken[i].end + LAYOUT_GAP &&
		    layout->taken[i].start < end + LAYOUT_GAP)
			return false;
	}
	return true;
}

/* 64 TiB for at most some TiB of guest memory: a second try is rare, a fifth does not happen. */
static uint64_t layout_place(struct layout *layout, uint64_t bytes, uint64_t align)
{
	uint64_t start;

	do
		start = (LAYOUT_LOW + random_u64() % (LAYOUT_HIGH - LAYOUT_LOW - bytes)) &
			~(align - 1);
	while (start < LAYOUT_LOW || !layout_free(layout, start, start + bytes));
	layout->taken[layout->count].start = start;
	layout->taken[layout->count].end = start + bytes;
	layout->count++;
	return start;
}

/* Queues of a lane: q with q % lanes == lane. */
static uint16_t lane_queues(const struct device_spec *spec, uint32_t lane, uint16_t *index)
{
	uint16_t n = 0;

	for (uint32_t q = lane; q < spec->queues; q += spec->lanes)
		index[n++] = (uint16_t)q;
	return n;
}

/* Descriptor numbers, by how many of each there are. */
static void launch_numbers(const struct device *dev, uint32_t lane, struct launch_record *l)
{
	const bool timer = dev->timer_fd >= 0;

	l->queues = lane_queues(&dev->spec, lane, l->queue_index);
	l->backends = (uint16_t)dev->spec.backend_count;
	l->fd_control = BOX_FD_CONTROL;
	l->fd_kick = BOX_FD_CONTROL + 1;
	l->fd_call = (uint16_t)(l->fd_kick + l->queues);
	l->fd_timer = (uint16_t)(l->fd_call + l->queues);
	l->fd_backend = (uint16_t)(l->fd_timer + (timer ? 1 : 0));
	l->fd_held = (uint16_t)(l->fd_backend + l->backends);
	if (!timer)
		l->fd_timer = l->fd_held;
}

/* 1 and not 0: a pipe that takes core dumps gets them at 0.  Where the VMM was started with 0 for
 * ever, nobody can raise it again; what is left is that a box is not dumpable. */
uint32_t launch_core_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0 ? 0 : 1;
}

static int launch_lane(struct device *dev, uint32_t lane)
{
	const struct seal_host *host = &dev->sup->host;
	struct launch_record *l = &dev->launch[lane];

	l->magic = LAUNCH_MAGIC;
	l->version = LAUNCH_VERSION;
	l->kind = dev->spec.kind;
	l->lane = lane;
	l->lanes = dev->spec.lanes;
	launch_numbers(dev, lane, l);
	l->seal = host->seal;
	l->uid = host->uid;
	l->gid = host->gid;
	l->landlock = host->landlock;
	l->landlock_net = host->landlock_net;
	l->landlock_scope = host->landlock_scope;
	l->fsize = dev->spec.fsize;
	l->core_limit = dev->sup->core_limit;
	l->config = dev->spec.config;
	return policy_compile(l, dev->spec.policy_when);
}

int launch_prepare(struct device *dev)
{
	int ret = 0;

	dev->launch = calloc(dev->spec.lanes, sizeof(*dev->launch));
	if (dev->launch == NULL)
		return -ENOMEM;
	for (uint32_t lane = 0; lane < dev->spec.lanes && ret == 0; lane++)
		ret = launch_lane(dev, lane);
	return ret;
}

/* The rings of the driver that is there now; a reset may make them others. */
static void launch_warm(const struct device *dev, struct launch_record *l)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < l->queues && dev->spec.guest_memory; i++) {
		const struct ctl_queue *q = &shape_queues(dev)[l->queue_index[i]];

		if (q->size == 0)
			continue;
		l->warm[n++] = (struct launch_warm){ q->desc_gpa, virtq_desc_bytes(q->size) };
		l->warm[n++] = (struct launch_warm){ q->avail_gpa, virtq_avail_bytes(q->size) };
		l->warm[n++] = (struct launch_warm){ q->used_gpa, virtq_used_bytes(q->size) };
	}
}

static void launch_memory(const struct box_memory *memory, struct launch_record *l,
			  struct layout *layout)
{
	/* Only what counts: behind it may lie addresses of the VMM's own mappings. */
	l->map.count = memory->map.count;
	for (uint32_t i = 0; i < l->map.count; i++) {
		/* At least 2 MiB, so that large pages can be mapped as such. */
		const uint64_t align =
			memory->page_bytes[i] > LAYOUT_GAP ? memory->page_bytes[i] : LAYOUT_GAP;

		l->map.regions[i] = memory->map.regions[i];
		l->map.regions[i].addr = layout_place(layout, l->map.regions[i].bytes, align);
		l->region_offset[i] = memory->offsets[i];
		l->region_page[i] = memory->page_bytes[i];
	}
}

/* As much of it as the map can make a box mark: how long it is in all, others say. */
static void launch_log(const struct box_memory *memory, struct launch_record *l,
		       struct layout *layout)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < l->map.count; i++) {
		const struct mem_region *r = &l->map.regions[i];
		const uint64_t end = r->gpa / LOG_PAGE + r->bytes / LOG_PAGE;

		pages = end > pages ? end : pages;
	}
	l->log_bytes = (pages + 7) / 8;
	if (memory->log_bytes < l->log_bytes)
		l->log_bytes = memory->log_bytes;
	if (l->log_bytes == 0)
		return;
	l->log_offset = memory->log_offset;
	l->log_addr = layout_place(layout, launch_log_span(l), 4096);
}

void launch_fill(const struct box *box, struct launch_record *l)
{
	const struct device *dev = box->gen->dev;
	const struct box_memory *memory = &dev->sup->memory;
	struct layout layout = { 0 };

	*l = dev->launch[box->lane];
	l->generation = box->gen->number;
	for (size_t i = 0; i < ARRAY_SIZE(l->canary); i++)
		l->canary[i] = random_u64();
	l->map.epoch = memory->map.epoch;
	if (dev->spec.guest_memory) {
		launch_memory(memory, l, &layout);
		launch_log(memory, l, &layout);
	}
	launch_warm(dev, l);
	l->state_addr = layout_place(&layout, STATE_PAGE_BYTES, 4096);
	l->stack_addr = layout_place(&layout, BOX_STACK_BYTES, 4096);
}

uint32_t launch_fds(const struct box *box, const struct launch_record *l, int *fds)
{
	const struct device *dev = box->gen->dev;
	const struct device_wiring *wiring = &box->gen->wiring;
	uint32_t n = 0;

	fds[n++] = box->child_socket;
	for (uint32_t i = 0; i < l->queues; i++)
		fds[n++] = wiring->kick[l->queue_index[i]];
	for (uint32_t i = 0; i < l->queues; i++)
		fds[n++] = wiring->call[l->queue_index[i]];
	if (l->fd_timer != l->fd_held)
		fds[n++] = dev->timer_fd;
	for (uint32_t i = 0; i < l->backends; i++)
		fds[n++] = dev->spec.backends[i];
	CHECK(n == l->fd_held);
	fds[n++] = box->child_socket; /* holds the free number until it is closed */
	fds[n++] = box->child_state;
	for (uint32_t i = 0; i < l->map.count; i++)
		fds[n++] = dev->sup->memory.fds[i];
	if (l->log_bytes != 0)
		fds[n++] = dev->sup->memory.log_fd;
	return n;
}
