/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges stand in an array, sorted by address.  An access looks its range up under a read lock,
 * counts itself in as a user, and lets go of the lock before it calls the handler: so a handler may
 * take its time, use the bus, and move a range (a guest moves BARs through config space, which is on
 * the same bus as the BARs).
 *
 * Removal takes the range out of the array under the write lock; after that nobody new comes in.
 * Then it marks the user count, and where the count is not zero waits: whoever is last out sees the
 * mark and says so.  The last one touches the range only under wait_lock, so that it is not freed
 * under its hands.
 */
#include "core/bus/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"

#define RANGE_REMOVED 0x80000000u

struct bus_range {
	uint64_t base;
	uint64_t bytes;
	const struct bus_ops *ops;
	void *ctx;
	uint32_t users; /* atomic: running handlers, and RANGE_REMOVED */
	bool idle;      /* under wait_lock: removed, and the last handler has ended */
};

struct bus {
	pthread_rwlock_t lock; /* the array, and base of each range */
	struct bus_range **ranges;
	uint32_t count;
	uint32_t room;
	pthread_mutex_t wait_lock;
	pthread_cond_t idle;
};

int bus_create(struct bus **out)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	pthread_rwlockattr_t attr;

	if (bus == NULL)
		return -ENOMEM;
	/* No access takes the lock twice, and a guest whose CPUs all hammer the bus must not keep
	 * a removal out. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&bus->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&bus->wait_lock, NULL);
	pthread_cond_init(&bus->idle, NULL);
	*out = bus;
	return 0;
}

void bus_destroy(struct bus *bus)
{
	if (bus == NULL)
		return;
	for (uint32_t i = 0; i < bus->count; i++)
		free(bus->ranges[i]);
	free(bus->ranges);
	pthread_cond_destroy(&bus->idle);
	pthread_mutex_destroy(&bus->wait_lock);
	pthread_rwlock_destroy(&bus->lock);
	free(bus);
}

/* The number of ranges that begin at or below addr. */
static uint32_t bus_rank(const struct bus *bus, uint64_t addr)
{
	uint32_t low = 0;
	uint32_t high = bus->count;

	while (low < high) {
		const uint32_t mid = low + (high - low) / 2;

		if (bus->ranges[mid]->base <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool range_meets(const struct bus_range *range, uint64_t base, uint64_t bytes)
{
	return range->base < base ? base - range->base < range->bytes : range->base - base < bytes;
}

/* 0, or why [base, base + bytes) cannot be had. */
static int bus_check(const struct bus *bus, uint64_t base, uint64_t bytes)
{
	if (bytes == 0 || base > UINT64_MAX - bytes)
		return -EINVAL;
	for (uint32_t i = 0; i < bus->count; i++) {
		if (range_meets(bus->ranges[i], base, bytes))
			return -EEXIST;
	}
	return 0;
}

static void bus_insert(struct bus *bus, struct bus_range *range)
{
	const uint32_t at = bus_rank(bus, range->base);

	memmove(bus->ranges + at + 1, bus->ranges + at, (bus->count - at) * sizeof(void *));
	bus->ranges[at] = range;
	bus->count++;
}

/* Takes the range that begins at base out of the array; NULL: there is none. */
static struct bus_range *bus_extract(struct bus *bus, uint64_t base)
{
	const uint32_t rank = bus_rank(bus, base);
	struct bus_range *range = rank != 0 ? bus->ranges[rank - 1] : NULL;

	if (range == NULL || range->base != base)
		return NULL;
	memmove(bus->ranges + rank - 1, bus->ranges + rank, (bus->count - rank) * sizeof(void *));
	bus->count--;
	return range;
}

static int bus_grow(struct bus *bus)
{
	const uint32_t room = bus->room != 0 ? 2 * bus->room : 16;
	struct bus_range **ranges;

	if (bus->count < bus->room)
		return 0;
	ranges = realloc(bus->ranges, room * sizeof(void *));
	if (ranges == NULL)
		return -ENOMEM;
	bus->ranges = ranges;
	bus->room = room;
	return 0;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t bytes, const struct bus_ops *ops, void *ctx)
{
	struct bus_range *range = malloc(sizeof(*range));
	int ret;

	if (range == NULL)
		return -ENOMEM;
	*range = (struct bus_range){ .base = base, .bytes = bytes, .ops = ops, .ctx = ctx };
	pthread_rwlock_wrlock(&bus->lock);
	ret = bus_check(bus, base, bytes);
	if (ret == 0)
		ret = bus_grow(bus);
	if (ret == 0)
		bus_insert(bus, range);
	pthread_rwlock_unlock(&bus->lock);
	if (ret != 0)
		free(range);
	return ret;
}

static void bus_wait_idle(struct bus *bus, const struct bus_range *range)
{
	pthread_mutex_lock(&bus->wait_lock);
	while (!range->idle)
		pthread_cond_wait(&bus->idle, &bus->wait_lock);
	pthread_mutex_unlock(&bus->wait_lock);
}

int bus_remove(struct bus *bus, uint64_t base)
{
	struct bus_range *range;

	pthread_rwlock_wrlock(&bus->lock);
	range = bus_extract(bus, base);
	pthread_rwlock_unlock(&bus->lock);
	if (range == NULL)
		return -ENOENT;
	if (__atomic_fetch_or(&range->users, RANGE_REMOVED, __ATOMIC_ACQ_REL) != 0)
		bus_wait_idle(bus, range);
	free(range);
	return 0;
}

int bus_move(struct bus *bus, uint64_t from, uint64_t to)
{
	struct bus_range *range;
	int ret = -ENOENT;

	pthread_rwlock_wrlock(&bus->lock);
	range = bus_extract(bus, from);
	if (range != NULL) {
		ret = bus_check(bus, to, range->bytes);
		if (ret == 0)
			range->base = to;
		bus_insert(bus, range);
	}
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

/* The range that the access is wholly inside of, with its user counted; NULL: nobody's. */
static struct bus_range *bus_enter(struct bus *bus, uint64_t addr, uint32_t size, uint64_t *offset)
{
	struct bus_range *range = NULL;
	uint32_t rank;

	if (size == 0 || size > 8 || (size & (size - 1)) != 0)
		return NULL;
	pthread_rwlock_rdlock(&bus->lock);
	rank = bus_rank(bus, addr);
	if (rank != 0) {
		range = bus->ranges[rank - 1];
		*offset = addr - range->base;
		if (*offset >= range->bytes || size > range->bytes - *offset)
			range = NULL;
		else
			__atomic_fetch_add(&range->users, 1, __ATOMIC_RELAXED);
	}
	pthread_rwlock_unlock(&bus->lock);
	return range;
}

static void bus_leave(struct bus *bus, struct bus_range *range)
{
	if (__atomic_fetch_sub(&range->users, 1, __ATOMIC_ACQ_REL) != (RANGE_REMOVED | 1))
		return;
	pthread_mutex_lock(&bus->wait_lock);
	range->idle = true;
	pthread_cond_broadcast(&bus->idle);
	pthread_mutex_unlock(&bus->wait_lock);
}

static uint64_t bus_mask(uint32_t size)
{
	return size < 8 ? (1ull << (8 * size)) - 1 : UINT64_MAX;
}

uint64_t bus_read(struct bus *bus, uint64_t addr, uint32_t size)
{
	uint64_t offset, value;
	struct bus_range *range = bus_enter(bus, addr, size, &offset);

	if (range == NULL)
		return bus_mask(size);
	value = range->ops->read(range->ctx, offset, size);
	bus_leave(bus, range);
	return value & bus_mask(size);
}

void bus_write(struct bus *bus, uint64_t addr, uint32_t size, uint64_t value)
{
	uint64_t offset;
	struct bus_range *range = bus_enter(bus, addr, size, &offset);

	if (range == NULL)
		return;
	range->ops->write(range->ctx, offset, size, value & bus_mask(size));
	bus_leave(bus, range);
}
