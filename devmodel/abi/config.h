/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Per-kind configuration, the part of a launch record that only the device program reads.  It is
 * what the operator said, made numeric by the VMM; nothing in it comes from the guest.
 */
#ifndef MAYFLY_ABI_CONFIG_H
#define MAYFLY_ABI_CONFIG_H

#include <stdint.h>

#define BLK_ID_BYTES 20 /* virtio 1.2 section 5.2.6: length of the device id string */
#define BLK_SECTOR 512
#define BLK_SEG_MAX 126                         /* data segments of one request */
#define BLK_REQUEST_MAX (32u << 20)             /* data bytes of one request, one system call */
#define BLK_ZERO_MAX_SECTORS ((8u << 20) / 512) /* discard, write-zeroes: one segment, 8 MiB */

#define BLK_READONLY 1u /* the descriptor is O_RDONLY, writes are answered IOERR */
#define BLK_DIRECT 2u   /* O_DIRECT: buffers and lengths must be multiples of align */
#define BLK_FLUSH 4u    /* a flush is fdatasync; without it the driver is told of no cache */

/* A token bucket: `size` tokens refilled evenly over refill_ms, `burst` spent first, once.  size 0:
 * no limit.  One token is one request (ops) or one byte (bandwidth). */
struct rate_limit {
	uint64_t size;
	uint64_t burst;
	uint64_t refill_ms;
};

struct blk_config {
	uint64_t bytes; /* size of the image, a multiple of BLK_SECTOR */
	uint32_t flags; /* BLK_* */
	uint32_t align; /* alignment that O_DIRECT wants; 1 without it */
	char id[BLK_ID_BYTES];
	uint32_t pad;
	struct rate_limit bandwidth;
	struct rate_limit ops;
};

struct rng_config {
	struct rate_limit bandwidth;
};

/* virtio-mem: the device configuration as it is when the transport is made (hotplug/virtio_mem.h); the
 * program needs none of it. */
struct mem_config {
	uint64_t addr; /* guest physical */
	uint64_t region_bytes;
	uint64_t block_bytes;
	uint64_t usable_bytes;
	uint64_t plugged_bytes;
	uint64_t requested_bytes;
	uint32_t node; /* ACPI proximity domain, at most 65535 */
	uint32_t pad;
};

#define BALLOON_DEFLATE_ON_OOM 1u /* the driver may take pages back rather than run out of memory */
#define BALLOON_STATS 2u
#define BALLOON_REPORTING 4u

struct balloon_config {
	uint32_t pages; /* that it is to hold at first, of 4 KiB */
	uint32_t flags; /* BALLOON_* */
};

union dev_config {
	struct blk_config blk;
	struct rng_config rng;
	struct mem_config mem;
	struct balloon_config balloon;
	uint8_t raw[512];
};

_Static_assert(sizeof(struct blk_config) == 88, "wire format");
_Static_assert(sizeof(struct mem_config) == 56, "wire format");
_Static_assert(sizeof(union dev_config) == 512, "wire format");

#endif
