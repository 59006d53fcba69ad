/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line a kind, and for a kind with a configuration space a function that fills it in.
 *
 * blk.  Whatever a driver may do within what is said here, the device program can do: no request is
 * longer than BLK_REQUEST_MAX (size_max times seg_max), none has more segments than BLK_SEG_MAX, and
 * with O_DIRECT the logical block is what the host's alignment wants.  Discard and write-zeroes take
 * one segment of up to BLK_ZERO_MAX_SECTORS.
 */
#include "core/bus/virtio_kinds.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/cc.h"
#include "devmodel/abi/virtio.h"
#include "devmodel/balloon/state.h"

#define FEATURE(bit) (1ull << (bit))
#define TRANSPORT_FEATURES                                                                         \
	(FEATURE(VIRTIO_F_RING_INDIRECT_DESC) | FEATURE(VIRTIO_F_RING_EVENT_IDX) |                 \
	 FEATURE(VIRTIO_F_VERSION_1))

#define PAGE_BYTES 4096u
/* Whole pages: Linux rounds a segment down to them, and wants at least one. */
#define BLK_SIZE_MAX (BLK_REQUEST_MAX / BLK_SEG_MAX / PAGE_BYTES * PAGE_BYTES)

_Static_assert(BLK_SIZE_MAX >= PAGE_BYTES, "segments of a page at least");
_Static_assert(offsetof(struct virtio_blk_space, blk_size) == 20, "virtio 1.2 section 5.2.4");
_Static_assert(offsetof(struct virtio_blk_space, num_queues) == 34, "virtio 1.2 section 5.2.4");
_Static_assert(offsetof(struct virtio_blk_space, write_zeroes_may_unmap) == 56,
	       "virtio 1.2 section 5.2.4");

static uint64_t blk_features(const struct blk_config *cfg, uint32_t queues)
{
	uint64_t features = FEATURE(VIRTIO_BLK_F_SIZE_MAX) | FEATURE(VIRTIO_BLK_F_SEG_MAX) |
			    FEATURE(VIRTIO_BLK_F_BLK_SIZE) | FEATURE(VIRTIO_BLK_F_TOPOLOGY);

	if (cfg->flags & BLK_READONLY)
		features |= FEATURE(VIRTIO_BLK_F_RO);
	else
		features |= FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	if (cfg->flags & BLK_FLUSH)
		features |= FEATURE(VIRTIO_BLK_F_FLUSH);
	if (queues > 1)
		features |= FEATURE(VIRTIO_BLK_F_MQ);
	return features;
}

static int blk_describe(const union dev_config *config, struct virtio_pci_spec *spec)
{
	const struct blk_config *cfg = &config->blk;
	const bool direct = cfg->flags & BLK_DIRECT && cfg->align > BLK_SECTOR;
	const uint32_t block = direct ? cfg->align : BLK_SECTOR;
	struct virtio_blk_space space = {
		.capacity = cfg->bytes / BLK_SECTOR,
		.size_max = BLK_SIZE_MAX,
		.seg_max = BLK_SEG_MAX,
		.blk_size = block,
		.num_queues = (uint16_t)spec->queues,
	};

	if (block > PAGE_BYTES || (block & (block - 1)) != 0)
		return -EINVAL;
	space.physical_block_exp = (uint8_t)__builtin_ctz(PAGE_BYTES / block);
	space.min_io_size = (uint16_t)(PAGE_BYTES / block);
	if (!(cfg->flags & BLK_READONLY)) {
		space.max_discard_sectors = space.max_write_zeroes_sectors = BLK_ZERO_MAX_SECTORS;
		space.max_discard_seg = space.max_write_zeroes_seg = 1;
		space.discard_sector_alignment = block / BLK_SECTOR;
		space.write_zeroes_may_unmap = 1;
	}
	spec->features |= blk_features(cfg, spec->queues);
	spec->config_bytes = VIRTIO_BLK_SPACE_BYTES;
	memcpy(spec->config, &space, VIRTIO_BLK_SPACE_BYTES);
	return 0;
}

void virtio_mem_space(const struct mem_config *config, struct virtio_mem_space *space)
{
	*space = (struct virtio_mem_space){
		.block_size = config->block_bytes,
		.node_id = (uint16_t)config->node,
		.addr = config->addr,
		.region_size = config->region_bytes,
		.usable_region_size = config->usable_bytes,
		.plugged_size = config->plugged_bytes,
		.requested_size = config->requested_bytes,
	};
}

static int mem_describe(const union dev_config *config, struct virtio_pci_spec *spec)
{
	struct virtio_mem_space space;

	if (config->mem.node > UINT16_MAX)
		return -EINVAL;
	virtio_mem_space(&config->mem, &space);
	spec->features |=
		FEATURE(VIRTIO_MEM_F_ACPI_PXM) | FEATURE(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
	spec->required |= FEATURE(VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
	spec->config_bytes = sizeof(space);
	memcpy(spec->config, &space, sizeof(space));
	return 0;
}

static int balloon_describe(const union dev_config *config, struct virtio_pci_spec *spec)
{
	const struct balloon_config *cfg = &config->balloon;
	const struct virtio_balloon_space space = { .num_pages = cfg->pages };

	if (cfg->flags & BALLOON_DEFLATE_ON_OOM)
		spec->features |= FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (cfg->flags & BALLOON_STATS)
		spec->features |= FEATURE(VIRTIO_BALLOON_F_STATS_VQ);
	if (cfg->flags & BALLOON_REPORTING)
		spec->features |= FEATURE(VIRTIO_BALLOON_F_REPORTING);
	spec->config_bytes = sizeof(space);
	memcpy(spec->config, &space, sizeof(space));
	memset(spec->config_writable + offsetof(struct virtio_balloon_space, actual), 0xff,
	       sizeof(space.actual));
	return 0;
}

/* What a kind is, class codes as of PCI Code and ID Assignment 1.11.  A console has one port, and
 * rng nothing to say: neither has a configuration space. */
static const struct virtio_kind {
	uint32_t class;
	uint16_t queue_size;
	uint8_t queues_min;
	uint8_t queues_max;
	int (*describe)(const union dev_config *config, struct virtio_pci_spec *spec);
} kinds[DEV_KIND_COUNT] = {
	[DEV_KIND_BLK] = { 0x018000, 256, 1, BOX_QUEUES_MAX, blk_describe },
	[DEV_KIND_RNG] = { 0xff0000, 64, 1, 1, NULL },
	[DEV_KIND_CONSOLE] = { 0x078000, 128, 2, 2, NULL },
	[DEV_KIND_MEM] = { 0xff0000, 16, 1, 1, mem_describe },
	[DEV_KIND_BALLOON] = { 0xff0000, 128, 2, 4, balloon_describe },
};

static const uint16_t virtio_ids[DEV_KIND_COUNT] = {
#define VIRTIO_ID(NAME, name, virtio_id, outward) [DEV_KIND_##NAME] = (virtio_id),
	DEV_KINDS(VIRTIO_ID)
#undef VIRTIO_ID
};

void virtio_kind_queues(enum dev_kind kind, uint32_t *least, uint32_t *most)
{
	const bool known = kind < DEV_KIND_COUNT;

	*least = known ? kinds[kind].queues_min : 0;
	*most = known ? kinds[kind].queues_max : 0;
}

int virtio_kind_describe(enum dev_kind kind, const union dev_config *config, uint32_t queues,
			 struct virtio_pci_spec *spec)
{
	const struct virtio_kind *k;

	if (kind >= DEV_KIND_COUNT || kinds[kind].queues_max == 0 || virtio_ids[kind] == 0)
		return -ENODEV;
	k = &kinds[kind];
	if (queues < k->queues_min || queues > k->queues_max)
		return -EINVAL;
	spec->virtio_id = virtio_ids[kind];
	spec->class = k->class;
	spec->features = TRANSPORT_FEATURES;
	spec->required = FEATURE(VIRTIO_F_VERSION_1);
	spec->queues = queues;
	spec->queue_size = k->queue_size;
	spec->config_bytes = 0;
	memset(spec->config, 0, sizeof(spec->config));
	memset(spec->config_writable, 0, sizeof(spec->config_writable));
	return k->describe != NULL ? k->describe(config, spec) : 0;
}
