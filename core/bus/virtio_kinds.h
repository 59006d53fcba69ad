/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each kind of ring device looks like to the guest: PCI class, features, queues, and the device
 * configuration that follows from what the operator said.
 */
#ifndef MAYFLY_CORE_BUS_VIRTIO_KINDS_H
#define MAYFLY_CORE_BUS_VIRTIO_KINDS_H

#include "core/bus/virtio_pci.h"
#include "devmodel/abi/config.h"
#include "devmodel/abi/kinds.h"

/* Feature bits and configuration of blk (virtio 1.2 sections 5.2.3, 5.2.4). */
#define VIRTIO_BLK_F_SIZE_MAX 1
#define VIRTIO_BLK_F_SEG_MAX 2
#define VIRTIO_BLK_F_RO 5
#define VIRTIO_BLK_F_BLK_SIZE 6
#define VIRTIO_BLK_F_FLUSH 9
#define VIRTIO_BLK_F_TOPOLOGY 10
#define VIRTIO_BLK_F_MQ 12
#define VIRTIO_BLK_F_DISCARD 13
#define VIRTIO_BLK_F_WRITE_ZEROES 14

struct virtio_blk_space {
	uint64_t capacity; /* in sectors of 512 bytes, whatever blk_size is */
	uint32_t size_max;
	uint32_t seg_max;
	uint8_t geometry[4];
	uint32_t blk_size;
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
};

_Static_assert(sizeof(struct virtio_blk_space) == 64, "60 bytes and tail padding");
#define VIRTIO_BLK_SPACE_BYTES 60 /* up to where secure erase would begin */

/* Feature bits and configuration of mem (virtio 1.2 sections 5.15.3, 5.15.4).  A driver that does not
 * accept UNPLUGGED_INACCESSIBLE may read what is not plugged, and is not let in (5.15.5.2). */
#define VIRTIO_MEM_F_ACPI_PXM 0
#define VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE 1

struct virtio_mem_space {
	uint64_t block_size;
	uint16_t node_id;
	uint8_t padding[6];
	uint64_t addr;
	uint64_t region_size;
	uint64_t usable_region_size;
	uint64_t plugged_size;
	uint64_t requested_size;
};

_Static_assert(sizeof(struct virtio_mem_space) == 56, "virtio 1.2 section 5.15.4");

/* For virtio_pci_config_changed() where usable_region_size or requested_size changed, else for
 * virtio_pci_config_set(). */
void virtio_mem_space(const struct mem_config *config, struct virtio_mem_space *space);

/* Of a balloon (section 5.5.4), up to what needs features that are not offered. */
struct virtio_balloon_space {
	uint32_t num_pages; /* the VMM's: how many it is to hold */
	uint32_t actual;    /* the driver's: how many it holds */
};

/* The fewest and the most queues that a kind may have; 0 and 0: not a ring device, or not known. */
void virtio_kind_queues(enum dev_kind kind, uint32_t *least, uint32_t *most);

/* Fills in virtio_id, class, features, required, queues, queue_size and the device configuration of spec, and
 * leaves the rest.  0; -ENODEV: not a ring device; -EINVAL: number of queues, or a block size that
 * no guest understands, or a node that has no number there. */
int virtio_kind_describe(enum dev_kind kind, const union dev_config *config, uint32_t queues,
			 struct virtio_pci_spec *spec);

#endif
