/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blkload on a thread of its own, so that a test can hand off, kill and wait meanwhile.  While it
 * runs, only blkload_completed() and blkload_pause() of run->load may be used, and the functions
 * here.  Guest memory is taken in loadrun_start() only, by the calling thread.
 */
#ifndef MAYFLY_RIG_LOADRUN_H
#define MAYFLY_RIG_LOADRUN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/rig/blkload.h"

struct loadrun {
	struct blkload load;
	pthread_t thread;
	bool stop; /* shared with the thread */
	bool running;
	int error;                  /* of a step */
	struct blkload_stats stats; /* once it is finished */
};

/* Load on `rings` rings, `depth` requests on each. The device may be started before or after.
 * 0 or -errno; on failure nothing needs to be ended. */
int loadrun_start(struct loadrun *run, struct guestmem *mem, const struct blkload_config *config,
		  struct ringdrv_queue *rings, uint32_t count, uint16_t depth);

/* Waits until `more` further requests have completed. 0 or -ETIMEDOUT. */
int loadrun_progress(const struct loadrun *run, uint64_t more, uint32_t timeout_ms);

/* Stops, waits for what is outstanding, reads all back through the device and frees the load.  True
 * when nothing was lost, duplicated, corrupted or answered with an error; else says on stderr what
 * was.  With image >= 0 the image file is compared, too. */
bool loadrun_finish(struct loadrun *run, int image);
/* Stops and frees without waiting for anything: for a device that is broken. */
void loadrun_abandon(struct loadrun *run);

#endif
