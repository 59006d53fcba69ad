/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of the guest that leads to the VMM: ports or MMIO.  Accesses come from vCPU
 * threads, several at once; handlers lock for themselves, and may use the bus.  Ranges do not
 * overlap.  What nobody claims reads as ones and ignores writes.
 */
#ifndef MAYFLY_CORE_BUS_BUS_H
#define MAYFLY_CORE_BUS_BUS_H

#include <stdint.h>

struct bus;

/* size: 1, 2, 4 or 8; offset + size stays within the range.  An access that straddles the end of a
 * range, or has another size, is unclaimed.  Values are in the low bytes. */
struct bus_ops {
	uint64_t (*read)(void *ctx, uint64_t offset, uint32_t size);
	void (*write)(void *ctx, uint64_t offset, uint32_t size, uint64_t value);
};

/* 0 or -ENOMEM. */
int bus_create(struct bus **out);
/* Nobody uses it any more; ranges that are left are forgotten. */
void bus_destroy(struct bus *bus);

/* 0; -EEXIST: overlaps another range; -EINVAL: empty or wraps; -ENOMEM.  ctx is borrowed. */
int bus_add(struct bus *bus, uint64_t base, uint64_t bytes, const struct bus_ops *ops, void *ctx);
/* -ENOENT: no range begins there.  Returns when no handler of it runs any more; so not from within
 * a handler of the same range. */
int bus_remove(struct bus *bus, uint64_t base);
/* Moves a range in one step; waits for no handler, so it may be called from within one.  0; -ENOENT:
 * no range begins at `from`; -EEXIST: overlaps another; -EINVAL: wraps. */
int bus_move(struct bus *bus, uint64_t from, uint64_t to);

uint64_t bus_read(struct bus *bus, uint64_t addr, uint32_t size);
void bus_write(struct bus *bus, uint64_t addr, uint32_t size, uint64_t value);

#endif
