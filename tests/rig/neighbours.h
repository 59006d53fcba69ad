/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two honest devices, blk and rng, each under a verified load of its own thread, to see what others
 * beside them do to them: nothing may be lost, doubled or corrupted, no generation may end, and what a
 * request takes is kept apart by the phase that it falls into.  The loads rest after each burst: they
 * are to be there, not to fill a CPU.
 */
#ifndef MAYFLY_RIG_NEIGHBOURS_H
#define MAYFLY_RIG_NEIGHBOURS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "benchmarks/hist.h"
#include "tests/rig/blkload.h"
#include "tests/rig/boxrig.h"
#include "tests/rig/rngload.h"

enum neighbours_phase { NEIGHBOURS_QUIET, NEIGHBOURS_BUSY, NEIGHBOURS_BETWEEN, NEIGHBOURS_PHASES };

struct neighbours {
	bool begun;
	struct boxrig_blk blk;
	struct blkload blk_load;
	struct boxrig_rng rng;
	struct rngload rng_load;
	pthread_t threads[2];
	uint32_t running; /* threads */
	/* Shared with the threads. */
	bool stop;
	enum neighbours_phase phase;
	uint64_t bursts[2];
	bool wrong[2]; /* something was lost, doubled or corrupted */
	/* A thread each, a phase each: of a request (blk), of a burst (rng). */
	struct hist blk_latency[NEIGHBOURS_PHASES];
	struct hist rng_latency[NEIGHBOURS_PHASES];
};

/* The blk device has this name.  n is all zero; 0 or -errno. */
int neighbours_begin(struct neighbours *n, struct boxrig *rig, const char *blk_name);
void neighbours_phase(struct neighbours *n, enum neighbours_phase phase);
/* Waits until each has been served `bursts` more times. 0 or -ETIMEDOUT. */
int neighbours_progress(const struct neighbours *n, uint64_t bursts, uint32_t timeout_ms);
/* NULL: both are served by their first generation, and well so far; else what is wrong (static text). */
const char *neighbours_check(const struct neighbours *n);
/* Stops the loads, reads everything back.  True: nothing was lost, doubled or corrupted; else says
 * on stderr what was.  The histograms are the caller's from here on. */
bool neighbours_finish(struct neighbours *n);
/* Also when they never began, or not all. */
void neighbours_end(struct neighbours *n);

#endif
