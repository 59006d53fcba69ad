/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Two blk devices of one configuration on two images in shared memory (page
 * cache without a disk behind it, whose writeback would be measured else): one played by a sealed
 * process, one by inproc.h.  Both wait throughout; a run submits to one of them for run_ms, drains,
 * and counts completions.  What the host does to both halves of a pair alike drops out of their
 * ratio.  Each block carries its sector and request number, which are checked; not every byte is,
 * for then the client would be the bottleneck.
 */
#include "benchmarks/ratio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/common.h"
#include "core/cc.h"
#include "tests/rig/bareblk.h"

#define IMAGE_BYTES (64u << 20)
#define ROAM_BYTES (16u << 20)
#define DRAIN_NS (10 * NS_PER_S)
#define WARM_MS 50

struct side {
	struct blkload load;
	double iops[RATIO_PAIRS_MAX];
};

struct pairing {
	struct boxrig_blk blk; /* the sealed one, with its ring */
	struct bareblk bare;
	struct side sealed, inproc;
	double ratios[RATIO_PAIRS_MAX];
};

static int side_init(struct side *side, struct boxrig *rig, struct ringdrv_queue *ring,
		     uint32_t depth)
{
	const struct blkload_config config = {
		.sectors = IMAGE_BYTES / BLK_SECTOR,
		.seed = 11,
		.min_bytes = 4096,
		.max_bytes = 4096,
		.align = 4096,
		.segments = 1,
		.weights = { [BLKLOAD_READ] = 1, [BLKLOAD_WRITE] = 1 },
		.verify = BLKLOAD_HEADER,
		.roam_bytes = ROAM_BYTES,
	};
	const int ret = blkload_init(&side->load, &rig->mem, &config);

	return ret != 0 ? ret : blkload_add_queue(&side->load, ring, (uint16_t)depth);
}

static int start_sealed(struct pairing *p, struct boxrig *rig)
{
	const struct boxrig_blk_config config = { .bytes = IMAGE_BYTES };
	struct device_status *status = malloc(sizeof(*status));
	int ret = status == NULL ? -ENOMEM : boxrig_blk_create(rig, &config, &p->blk);

	if (ret == 0) {
		device_status(p->blk.dev, status);
		ret = bench_pin(status->standby_pid, 1);
	}
	if (ret == 0)
		ret = boxrig_blk_go(&p->blk);
	free(status);
	return ret;
}

/* Every page there from the start: neither side is to pay for the first touch. */
static int fill_images(const struct pairing *p)
{
	if (fallocate(p->bare.image, 0, 0, IMAGE_BYTES) != 0 ||
	    fallocate(p->blk.image, 0, 0, IMAGE_BYTES) != 0)
		return -errno;
	return 0;
}

/* Completions a second of one run. */
static int run(struct side *side, uint32_t run_ms, double *iops)
{
	int ret;

	blkload_resume(&side->load);
	ret = bench_window(&side->load, run_ms * NS_PER_MS, iops);
	return ret != 0 ? ret : blkload_drain(&side->load, DRAIN_NS);
}

static int run_pairs(struct pairing *p, uint32_t pairs, uint32_t run_ms)
{
	double ignored;
	int ret = run(&p->sealed, WARM_MS, &ignored);

	if (ret == 0)
		ret = run(&p->inproc, WARM_MS, &ignored);
	for (uint32_t i = 0; i < pairs && ret == 0; i++) {
		struct side *first = i & 1 ? &p->sealed : &p->inproc;
		struct side *second = i & 1 ? &p->inproc : &p->sealed;

		ret = run(first, run_ms, &first->iops[i]);
		if (ret == 0)
			ret = run(second, run_ms, &second->iops[i]);
		p->ratios[i] = p->sealed.iops[i] / p->inproc.iops[i];
	}
	return ret;
}

static void summarize(struct pairing *p, struct ratio *r)
{
	r->low = bench_quantile(p->ratios, r->pairs, 0.25);
	r->median = bench_quantile(p->ratios, r->pairs, 0.5);
	r->high = bench_quantile(p->ratios, r->pairs, 0.75);
	r->sealed_iops = bench_quantile(p->sealed.iops, r->pairs, 0.5);
	r->inproc_iops = bench_quantile(p->inproc.iops, r->pairs, 0.5);
	r->clean = blkload_clean(&p->sealed.load) && blkload_clean(&p->inproc.load);
}

static int measure(struct pairing *p, struct boxrig *rig, const struct dev_ops *ops,
		   struct ratio *r, uint32_t run_ms)
{
	int ret = start_sealed(p, rig);

	if (ret == 0)
		ret = bareblk_create(&p->bare, &rig->mem, IMAGE_BYTES);
	if (ret == 0)
		ret = bareblk_go(&p->bare, &rig->mem, ops, 1);
	if (ret == 0)
		ret = fill_images(p);
	if (ret == 0)
		ret = side_init(&p->sealed, rig, &p->blk.rings[0], r->depth);
	if (ret == 0)
		ret = side_init(&p->inproc, rig, &p->bare.ring, r->depth);
	if (ret == 0)
		ret = bench_pin(0, 0);
	if (ret == 0)
		ret = run_pairs(p, r->pairs, run_ms);
	bench_unpin(0);
	if (ret == 0)
		summarize(p, r);
	return ret;
}

int ratio_measure(struct boxrig *rig, const struct dev_ops *ops, uint32_t depth, uint32_t pairs,
		  uint32_t run_ms, struct ratio *r)
{
	struct pairing *p = calloc(1, sizeof(*p));
	int ret;

	if (p == NULL)
		return -ENOMEM;
	p->blk.image = -1;
	*r = (struct ratio){ .depth = depth,
			     .pairs = pairs < RATIO_PAIRS_MAX ? pairs : RATIO_PAIRS_MAX };
	ret = measure(p, rig, ops, r, run_ms);
	boxrig_blk_destroy(&p->blk);
	blkload_free(&p->sealed.load);
	blkload_free(&p->inproc.load);
	bareblk_destroy(&p->bare);
	free(p);
	return ret;
}
