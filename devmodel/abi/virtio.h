/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a split virtqueue looks like in guest memory (virtio 1.2 section 2.7) and the feature bits
 * common to all devices (section 6).  All fields are little-endian; mayfly runs on x86-64 only.
 */
#ifndef MAYFLY_ABI_VIRTIO_H
#define MAYFLY_ABI_VIRTIO_H

#include <stdint.h>

#define VIRTQ_SIZE_MAX 1024 /* mayfly's own limit; the specification allows 32768 */

#define VIRTQ_DESC_F_NEXT 1
#define VIRTQ_DESC_F_WRITE 2
#define VIRTQ_DESC_F_INDIRECT 4

#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
#define VIRTQ_USED_F_NO_NOTIFY 1

#define VIRTIO_F_RING_INDIRECT_DESC 28
#define VIRTIO_F_RING_EVENT_IDX 29
#define VIRTIO_F_VERSION_1 32

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct virtq_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* size entries, then used_event */
};

struct virtq_used_elem {
	uint32_t id;
	uint32_t len;
};

struct virtq_used {
	uint16_t flags;
	uint16_t idx;
	struct virtq_used_elem ring[]; /* size entries, then avail_event */
};

_Static_assert(sizeof(struct virtq_desc) == 16, "virtio 1.2 section 2.7.5");
_Static_assert(sizeof(struct virtq_avail) == 4, "virtio 1.2 section 2.7.6");
_Static_assert(sizeof(struct virtq_used) == 4, "virtio 1.2 section 2.7.8");

/* Bytes of each part of a queue with `size` entries, event fields included. */
static inline uint64_t virtq_desc_bytes(uint16_t size)
{
	return sizeof(struct virtq_desc) * (uint64_t)size;
}

static inline uint64_t virtq_avail_bytes(uint16_t size)
{
	return sizeof(struct virtq_avail) + 2 * (uint64_t)size + 2;
}

static inline uint64_t virtq_used_bytes(uint16_t size)
{
	return sizeof(struct virtq_used) + sizeof(struct virtq_used_elem) * (uint64_t)size + 2;
}

/* Whether the other side, which asked for an event at `event`, must be told of the step from
 * old_idx to new_idx (virtio 1.2 section 2.7.7.1 and 2.7.10; all modulo 2^16). */
static inline int virtq_need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

#endif
