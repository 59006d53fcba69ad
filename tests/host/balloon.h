/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balloon of the release program with a driver of ours, and memory of its own to give away: a region
 * of POOL_PAGES pages, of which the test knows what is in each.  What the boxes report is released by
 * hotplug/balloon.c, as in a VM, and written down.
 *
 * A page that was given away reads as zero once its request is answered, and is written anew at once, as
 * a guest may do; one that was not given away never changes.  So a release that comes too late, or of
 * anything else, shows for good.
 */
#ifndef MAYFLY_TESTS_HOST_BALLOON_H
#define MAYFLY_TESTS_HOST_BALLOON_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"
#include "devmodel/balloon/state.h"
#include "hotplug/balloon.h"
#include "tests/host/scene.h"

#define POOL_GPA (1ull << 32)
#define POOL_PAGES 4096u
#define POOL_BYTES (POOL_PAGES * 4096ull)
#define POOL_PFN (POOL_GPA / 4096)

#define BALLOON_QUEUES 4
enum { INFLATE, DEFLATE, STATS, REPORTING };
#define BALLOON_FEATURES                                                                           \
	(RINGDRV_VERSION_1 | RINGDRV_EVENT_IDX | 1ull << VIRTIO_BALLOON_F_STATS_VQ |               \
	 1ull << VIRTIO_BALLOON_F_REPORTING)
#define PFNS_MAX 2048u

struct balloon_scene {
	struct watch watch; /* first: what the hooks get */
	struct balloon balloon;
	struct device *dev;
	struct ringdrv_queue rings[BALLOON_QUEUES];
	uint64_t features;
	uint32_t *pfns; /* in guest memory, PFNS_MAX */
	uint64_t pfns_gpa;
	uint8_t *stats; /* likewise, of 256 bytes */
	uint64_t stats_gpa;
	uint64_t token;
	/* Written by the supervisor's thread. */
	uint64_t releases; /* atomic */
	uint64_t stat_reports;
	/* By the test: how long a release takes, before it is done. */
	uint32_t delay_us;            /* atomic */
	uint8_t given[POOL_PAGES];    /* 1: the device has it, or had it; it may be zero */
	uint32_t content[POOL_PAGES]; /* what each page begins with, 0: nothing */
};

static struct balloon_scene bs;
static struct suspect_limits bs_limits; /* of the next that is opened */

/* ---- hooks ---- */

static int bs_release(void *ctx, const struct box_memory *memory, uint64_t gpa, uint32_t pages)
{
	struct balloon_scene *s = container_of(ctx, struct balloon_scene, watch);
	const uint32_t delay_us = __atomic_load_n(&s->delay_us, __ATOMIC_RELAXED);

	if (delay_us != 0)
		usleep(delay_us);
	__atomic_fetch_add(&s->releases, 1, __ATOMIC_RELAXED);
	return balloon_release(&s->balloon, memory, gpa, pages);
}

static int bs_stat(void *ctx, uint32_t tag, uint64_t value)
{
	struct balloon_scene *s = container_of(ctx, struct balloon_scene, watch);

	__atomic_fetch_add(&s->stat_reports, 1, __ATOMIC_RELAXED);
	return balloon_stat(&s->balloon, tag, value);
}

static struct device_hooks bs_hooks;

/* ---- the pool ---- */

static inline uint32_t *pool_page(struct boxrig *r, uint32_t page)
{
	return guestmem_ptr(&r->mem, gpa_make(POOL_GPA + page * 4096ull), 4096);
}

static inline void pool_write(struct boxrig *r, uint32_t page)
{
	static uint32_t fresh;
	uint32_t *words = pool_page(r, page);

	bs.content[page] = ++fresh;
	for (uint32_t i = 0; i < 1024; i += 128)
		words[i] = bs.content[page];
	words[1023] = bs.content[page];
}

static inline void pool_check_page(struct boxrig *r, uint32_t page)
{
	const uint32_t *words = pool_page(r, page);

	for (uint32_t i = 0; i < 1024; i += 128)
		if (words[i] != bs.content[page])
			fail_msg("page %u: %u, not %u", page, words[i], bs.content[page]);
	assert_int_equal(words[1023], bs.content[page]);
}

static inline void pool_check(struct boxrig *r)
{
	for (uint32_t i = 0; i < POOL_PAGES; i++)
		pool_check_page(r, i);
}

static inline int pool_fd(const struct boxrig *r)
{
	return r->mem.fds[r->mem.map.count - 1];
}

/* Whether the host has it, without touching it. */
static inline bool pool_is_there(const struct boxrig *r, uint32_t page)
{
	const off_t at = (off_t)page * 4096;

	return lseek(pool_fd(r), at, SEEK_DATA) == at;
}

/* Exactly those that were written and not given away are there. */
static inline void pool_check_holes(struct boxrig *r)
{
	for (uint32_t i = 0; i < POOL_PAGES; i++)
		if (pool_is_there(r, i) != (bs.content[i] != 0))
			fail_msg("page %u is %s", i, bs.content[i] ? "gone" : "there");
}

static inline void pool_fill(struct boxrig *r)
{
	for (uint32_t i = 0; i < POOL_PAGES; i++)
		pool_write(r, i);
}

/* ---- requests ---- */

static inline void bs_submit(uint32_t queue, const struct ringdrv_seg *segs, uint16_t readable,
			     uint16_t writable)
{
	const struct ringdrv_chain chain = { .seg = segs,
					     .readable = readable,
					     .writable = writable,
					     .indirect = true,
					     .token = ++bs.token };

	assert_int_equal(ringdrv_add(&bs.rings[queue], &chain), 0);
	ringdrv_publish(&bs.rings[queue]);
	ringdrv_kick(&bs.rings[queue]);
}

static inline void bs_await(uint32_t queue)
{
	struct ringdrv_done done;

	while (ringdrv_reap(&bs.rings[queue], &done) == 0)
		assert_int_equal(ringdrv_wait(&bs.rings[queue], SCENE_WAIT_MS * NS_PER_MS), 1);
	assert_int_equal(done.token, bs.token);
	assert_int_equal(done.len, 0);
}

/* Pages of the pool, in this order. */
static inline void bs_give(uint32_t queue, const uint32_t *pages, uint32_t count)
{
	const struct ringdrv_seg seg = { bs.pfns_gpa, count * 4 };

	assert_true(count <= PFNS_MAX);
	for (uint32_t i = 0; i < count; i++)
		bs.pfns[i] = (uint32_t)(POOL_PFN + pages[i]);
	bs_submit(queue, &seg, 1, 0);
}

/* What is answered reads as zero, and belongs to the guest again. */
static inline void bs_taken(struct boxrig *r, const uint32_t *pages, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		bs.content[pages[i]] = 0;
		pool_check_page(r, pages[i]);
	}
}

/* Blocks of the pool, in bytes. */
static inline void bs_report(const struct ringdrv_seg *blocks, uint16_t count)
{
	bs_submit(REPORTING, blocks, 0, count);
}

/* ---- life ---- */

static inline void bs_open(struct boxrig *r, uint64_t features)
{
	struct device_spec spec = { .id = "balloon",
				    .kind = DEV_KIND_BALLOON,
				    .queues = BALLOON_QUEUES,
				    .lanes = 1,
				    .guest_memory = true,
				    .limits = bs_limits,
				    .hooks = &bs_hooks,
				    .ctx = &bs.watch };
	gpa_t gpa;

	memset(&bs, 0, sizeof(bs));
	watch_init(&bs.watch);
	balloon_init(&bs.balloon);
	bs_hooks = watch_hooks;
	bs_hooks.release = bs_release;
	bs_hooks.stat = bs_stat;
	bs.features = features;
	spec.config.balloon.flags = BALLOON_STATS | BALLOON_REPORTING;
	assert_int_equal(guestmem_alloc_in(&r->mem, 0, PFNS_MAX * 4 + 256, 64, &gpa), 0);
	bs.pfns_gpa = gpa.raw;
	bs.pfns = guestmem_ptr(&r->mem, gpa, PFNS_MAX * 4);
	bs.stats_gpa = gpa.raw + PFNS_MAX * 4;
	bs.stats = (uint8_t *)bs.pfns + PFNS_MAX * 4;
	for (uint32_t i = 0; i < BALLOON_QUEUES; i++) {
		const struct ringdrv_config rc = {
			.features = features, .size = 32, .number = (uint16_t)i, .in_order = true
		};

		assert_int_equal(ringdrv_init(&bs.rings[i], &r->mem, &rc), 0);
		spec.kick[i] = bs.rings[i].fd_kick;
		spec.call[i] = bs.rings[i].fd_call;
	}
	assert_int_equal(device_create(r->sup, &spec, &bs.dev), 0);
	assert_int_equal(device_wait_standby(bs.dev, SCENE_WAIT_MS), 0);
}

/* As a driver that sets DRIVER_OK; queues that are not negotiated are not there. */
static inline void bs_start(void)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };
	const uint64_t started = watch_count(&bs.watch, WATCH_STARTED);
	const bool stats = bs.features >> VIRTIO_BALLOON_F_STATS_VQ & 1;
	const bool reporting = bs.features >> VIRTIO_BALLOON_F_REPORTING & 1;

	for (uint32_t i = 0; i < 2u + stats + reporting; i++)
		ringdrv_describe(&bs.rings[i], &queues[i]);
	assert_int_equal(device_start(bs.dev, bs.features, queues), 0);
	assert_int_equal(watch_wait(&bs.watch, WATCH_STARTED, started + 1, SCENE_WAIT_MS), 0);
}

static inline void bs_close(void)
{
	device_destroy(bs.dev);
	for (uint32_t i = 0; i < BALLOON_QUEUES; i++)
		ringdrv_free(&bs.rings[i]);
	balloon_fini(&bs.balloon);
	watch_free(&bs.watch);
	memset(&bs, 0, sizeof(bs));
}

static inline struct device_status bs_status(void)
{
	struct device_status status;

	device_status(bs.dev, &status);
	return status;
}

/* All that the supervisor had to do when this was called is done. */
static inline void bs_settle(void)
{
	bs_status();
}

static inline void bs_check_rings(void)
{
	for (uint32_t i = 0; i < BALLOON_QUEUES; i++) {
		assert_int_equal(bs.rings[i].stats.duplicated, 0);
		assert_int_equal(bs.rings[i].stats.corrupted, 0);
		assert_int_equal(bs.rings[i].stats.lost_calls, 0);
	}
}

static inline int pool_add(struct boxrig *r)
{
	return guestmem_add(&r->mem, POOL_GPA, POOL_BYTES, GUESTMEM_4K);
}

#endif
