/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A burst is issued and wholly reaped before the next, so every request of it
 * belongs to the phase in which the burst began, and none waits while its load rests.
 */
#include "tests/rig/neighbours.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"

#define DEPTH 4
#define REST_US 500
#define SLICE_NS (20 * NS_PER_MS)
#define DRAIN_NS (60 * NS_PER_S)
#define SECTORS 16384
#define RNG_BYTES 256

static bool goes_on(const struct neighbours *n)
{
	return !__atomic_load_n(&n->stop, __ATOMIC_RELAXED);
}

static enum neighbours_phase phase_of(const struct neighbours *n)
{
	return __atomic_load_n(&n->phase, __ATOMIC_RELAXED);
}

static void rest(struct neighbours *n, uint32_t which, bool clean)
{
	if (!clean)
		__atomic_store_n(&n->wrong[which], true, __ATOMIC_RELAXED);
	__atomic_fetch_add(&n->bursts[which], 1, __ATOMIC_RELAXED);
	usleep(REST_US);
}

static void *blk_main(void *arg)
{
	struct neighbours *n = arg;
	struct blkload *load = &n->blk_load;

	while (goes_on(n)) {
		load->config.latency = &n->blk_latency[phase_of(n)];
		blkload_fill(load);
		while (load->outstanding != 0 && goes_on(n))
			blkload_reap(load, SLICE_NS);
		rest(n, 0, blkload_clean(load));
	}
	return NULL;
}

static void *rng_main(void *arg)
{
	struct neighbours *n = arg;
	struct rngload *load = &n->rng_load;

	while (goes_on(n)) {
		struct hist *latency = &n->rng_latency[phase_of(n)];
		const uint64_t begin = now_ns();

		rngload_fill(load);
		while (load->free_count < load->depth && goes_on(n))
			rngload_reap(load, SLICE_NS);
		hist_add(latency, now_ns() - begin);
		rest(n, 1, rngload_clean(load));
	}
	return NULL;
}

/* ---- begin ---- */

static int begin_rng(struct neighbours *n, struct boxrig *rig)
{
	const struct boxrig_rng_config config = { .id = "honest-rng", .ring_size = 64 };
	int ret = boxrig_rng_create(rig, &config, &n->rng);

	if (ret == 0)
		ret = rngload_init(&n->rng_load, &rig->mem, &n->rng.ring, DEPTH, RNG_BYTES);
	return ret == 0 ? boxrig_rng_go(&n->rng) : ret;
}

static int begin_blk(struct neighbours *n, struct boxrig *rig, const char *name)
{
	const struct boxrig_blk_config blk = { .name = name };
	const struct blkload_config load = { .sectors = SECTORS, .seed = 1 };
	int ret = boxrig_blk_create(rig, &blk, &n->blk);

	if (ret == 0)
		ret = boxrig_blk_go(&n->blk);
	if (ret == 0)
		ret = blkload_init(&n->blk_load, &rig->mem, &load);
	return ret != 0 ? ret : blkload_add_queue(&n->blk_load, &n->blk.rings[0], DEPTH);
}

int neighbours_begin(struct neighbours *n, struct boxrig *rig, const char *blk_name)
{
	static void *(*const mains[])(void *) = { blk_main, rng_main };
	int ret;

	n->begun = true;
	n->phase = NEIGHBOURS_BETWEEN;
	ret = begin_blk(n, rig, blk_name);
	if (ret == 0)
		ret = begin_rng(n, rig);
	for (uint32_t i = 0; i < ARRAY_SIZE(mains) && ret == 0; i++) {
		ret = -pthread_create(&n->threads[i], NULL, mains[i], n);
		n->running += ret == 0;
	}
	return ret;
}

void neighbours_phase(struct neighbours *n, enum neighbours_phase phase)
{
	__atomic_store_n(&n->phase, phase, __ATOMIC_RELAXED);
}

/* ---- judgement ---- */

int neighbours_progress(const struct neighbours *n, uint64_t bursts, uint32_t timeout_ms)
{
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;

	for (uint32_t i = 0; i < ARRAY_SIZE(n->bursts); i++) {
		const uint64_t want = __atomic_load_n(&n->bursts[i], __ATOMIC_RELAXED) + bursts;

		while (__atomic_load_n(&n->bursts[i], __ATOMIC_RELAXED) < want) {
			if (now_ns() > end)
				return -ETIMEDOUT;
			usleep(200);
		}
	}
	return 0;
}

const char *neighbours_check(const struct neighbours *n)
{
	struct device *const devices[] = { n->blk.dev, n->rng.dev };

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		struct device_status status;

		device_status(devices[i], &status);
		if (strcmp(status.state, "active") != 0)
			return "an honest device is not active";
		if (status.generation != 1)
			return "an honest device is not served by its first generation";
		if (__atomic_load_n(&n->wrong[i], __ATOMIC_RELAXED))
			return "an honest device lost, doubled or corrupted something";
	}
	return NULL;
}

static void stop(struct neighbours *n)
{
	__atomic_store_n(&n->stop, true, __ATOMIC_RELAXED);
	while (n->running > 0)
		pthread_join(n->threads[--n->running], NULL);
}

bool neighbours_finish(struct neighbours *n)
{
	struct blkload_stats s;

	stop(n);
	n->blk_load.config.latency = NULL;
	const bool blk_clean = blkload_drain(&n->blk_load, DRAIN_NS) == 0 &&
			       blkload_verify(&n->blk_load, DRAIN_NS) == 0 &&
			       blkload_verify_image(&n->blk_load, n->blk.image) == 0 &&
			       blkload_clean(&n->blk_load);
	const bool rng_clean =
		rngload_drain(&n->rng_load, DRAIN_NS) == 0 && rngload_clean(&n->rng_load);

	blkload_stats(&n->blk_load, &s);
	if (!blk_clean)
		fprintf(stderr,
			"honest blk: lost %llu duplicated %llu corrupted %llu errors %llu: %s\n",
			(unsigned long long)s.lost, (unsigned long long)s.duplicated,
			(unsigned long long)s.corrupted, (unsigned long long)s.errors,
			blkload_complaint(&n->blk_load));
	if (!rng_clean)
		fprintf(stderr, "honest rng: %s\n", n->rng_load.complaints.last);
	return blk_clean && rng_clean;
}

void neighbours_end(struct neighbours *n)
{
	if (!n->begun)
		return;
	stop(n);
	if (n->blk.rig != NULL)
		boxrig_blk_destroy(&n->blk);
	boxrig_rng_destroy(&n->rng);
	blkload_free(&n->blk_load);
	rngload_free(&n->rng_load);
}
