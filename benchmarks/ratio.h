/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throughput of the sealed program against the same code in a thread of the client's own process:
 * one client, one image each, paired runs that take turns in going first, client and device each on
 * a CPU of its own.
 */
#ifndef MAYFLY_BENCH_RATIO_H
#define MAYFLY_BENCH_RATIO_H

#include <stdint.h>

#include "devmodel/common/dev.h"
#include "tests/rig/boxrig.h"

#define RATIO_PAIRS_MAX 200

struct ratio {
	uint32_t depth;
	uint32_t pairs;
	double sealed_iops; /* medians */
	double inproc_iops;
	double median;    /* of the pairs' ratios, sealed by in-process */
	double low, high; /* their quartiles */
	bool clean;       /* every answer was right */
};

/* The rig's guest memory and supervisor are used; `ops` is dev_program of the hosted build.  0 or
 * -errno. */
int ratio_measure(struct boxrig *rig, const struct dev_ops *ops, uint32_t depth, uint32_t pairs,
		  uint32_t run_ms, struct ratio *ratio);

#endif
