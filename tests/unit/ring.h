/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver's half of one virtqueue, for unit tests of device code: two regions of guest memory with
 * nothing mapped around them, a queue in the first, and calls that write descriptors by hand, right
 * or wrong.  The regions follow each other in guest memory but not in this process, so a buffer
 * that crosses from one to the other must be refused.  Used by one thread.
 */
#ifndef MAYFLY_TESTS_UNIT_RING_H
#define MAYFLY_TESTS_UNIT_RING_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devmodel/common/dev.h"

#define RING_A_GPA 0x100000ull
#define RING_A_BYTES 0x200000ull
#define RING_B_GPA (RING_A_GPA + RING_A_BYTES)
#define RING_B_BYTES 0x10000ull
#define RING_DESC_GPA (RING_A_GPA + 0x1000)
#define RING_AVAIL_GPA (RING_A_GPA + 0x8000)
#define RING_USED_GPA (RING_A_GPA + 0xa000)
#define RING_DATA_GPA (RING_A_GPA + 0x10000) /* tests put buffers from here on */
#define RING_END_GPA (RING_B_GPA + RING_B_BYTES)

#define RING_GUARD 4096ull
#define RING_W VIRTQ_DESC_F_WRITE
#define RING_N VIRTQ_DESC_F_NEXT

struct ring {
	struct mem_map map;
	struct ctl_queue cfg;
	uint64_t features;
	int kick;
	int call;
	uint16_t posted; /* avail->idx as the driver has it */
};

static inline uint64_t ring_map(uint64_t bytes)
{
	uint8_t *p =
		mmap(NULL, bytes + 2 * RING_GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + RING_GUARD, bytes, PROT_READ | PROT_WRITE))
		abort();
	return (uint64_t)(uintptr_t)p + RING_GUARD;
}

static inline void ring_open(struct ring *r, uint16_t size, uint64_t features)
{
	*r = (struct ring){ .features = features };
	r->map.count = 2;
	r->map.regions[0] = (struct mem_region){ RING_A_GPA, RING_A_BYTES, ring_map(RING_A_BYTES) };
	r->map.regions[1] = (struct mem_region){ RING_B_GPA, RING_B_BYTES, ring_map(RING_B_BYTES) };
	r->cfg = (struct ctl_queue){ .desc_gpa = RING_DESC_GPA,
				     .avail_gpa = RING_AVAIL_GPA,
				     .used_gpa = RING_USED_GPA,
				     .size = size };
	r->kick = eventfd(0, EFD_NONBLOCK);
	r->call = eventfd(0, EFD_NONBLOCK);
	if (r->kick < 0 || r->call < 0)
		abort();
}

static inline void ring_close(struct ring *r)
{
	for (uint32_t i = 0; i < r->map.count; i++)
		munmap((uint8_t *)(uintptr_t)r->map.regions[i].addr - RING_GUARD,
		       r->map.regions[i].bytes + 2 * RING_GUARD);
	close(r->kick);
	close(r->call);
}

/* Guest memory, for the driver; aborts where there is none: a bug of the test. */
static inline void *ring_at(const struct ring *r, uint64_t gpa, uint64_t len)
{
	void *p = gpa_span(&r->map, gpa_make(gpa), len);

	if (!p)
		abort();
	return p;
}

static inline struct virtq_avail *ring_avail(const struct ring *r)
{
	return ring_at(r, r->cfg.avail_gpa, virtq_avail_bytes(r->cfg.size));
}

static inline struct virtq_used *ring_used(const struct ring *r)
{
	return ring_at(r, r->cfg.used_gpa, virtq_used_bytes(r->cfg.size));
}

static inline uint16_t *ring_used_event(const struct ring *r)
{
	return &ring_avail(r)->ring[r->cfg.size];
}

static inline uint16_t *ring_avail_event(const struct ring *r)
{
	return (uint16_t *)&ring_used(r)->ring[r->cfg.size];
}

static inline void ring_desc_at(const struct ring *r, uint64_t table_gpa, uint32_t i, uint64_t addr,
				uint32_t len, uint16_t flags, uint16_t next)
{
	struct virtq_desc d = { addr, len, flags, next };

	memcpy(ring_at(r, table_gpa + 16ull * i, 16), &d, sizeof(d));
}

static inline void ring_desc(const struct ring *r, uint32_t i, uint64_t addr, uint32_t len,
			     uint16_t flags, uint16_t next)
{
	ring_desc_at(r, r->cfg.desc_gpa, i, addr, len, flags, next);
}

/* Makes the chain that begins at head available. */
static inline void ring_offer(struct ring *r, uint16_t head)
{
	struct virtq_avail *avail = ring_avail(r);

	avail->ring[r->posted % r->cfg.size] = head;
	__atomic_store_n(&avail->idx, ++r->posted, __ATOMIC_RELEASE);
}

struct ring_part {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags; /* RING_W or 0 */
};

/* Writes a chain of n descriptors from descriptor 0 on, and offers it. */
static inline void ring_post(struct ring *r, const struct ring_part *parts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		ring_desc(r, i, parts[i].gpa, parts[i].len,
			  (uint16_t)(parts[i].flags | (i + 1 < n ? RING_N : 0)), (uint16_t)(i + 1));
	ring_offer(r, 0);
}

/* Signals since the last look. */
static inline uint64_t ring_signals(const struct ring *r)
{
	uint64_t count = 0;

	return read(r->call, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* Sets up a queue as the main loop does, at cfg.next. */
static inline int ring_queue(const struct ring *r, struct virtq *q)
{
	*q = (struct virtq){ .fd_kick = r->kick, .fd_call = r->call };
	return virtq_init(q, &r->map, &r->cfg, r->features);
}

#endif
