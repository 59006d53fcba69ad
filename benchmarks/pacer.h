/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacements of one device at a steady rate, on a thread of their own, so that whoever measures
 * what they cost does nothing else.
 */
#ifndef MAYFLY_BENCH_PACER_H
#define MAYFLY_BENCH_PACER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"

struct pacer {
	struct device *dev;
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	bool on, quit;
	bool kill;
	uint64_t interval_ns, begin_ns, end_ns;
	uint64_t done; /* since it was last waited for */
	int error;
	sem_t replaced;
	struct device_status status; /* large */
};

/* The hooks that the device must have, with the pacer as their ctx. */
extern const struct device_hooks pacer_hooks;

/* Before the device exists. */
void pacer_init(struct pacer *pacer);
/* 0 or -errno; pacer_stop() in either case. */
int pacer_start(struct pacer *pacer, struct device *dev);
void pacer_stop(struct pacer *pacer);

/* From now until end_ns: one replacement in each interval, the first in the middle of its own;
 * planned, or the active process is killed.  One that takes longer than the interval delays the
 * rest: there is never more than one at a time, and none is made up for.  Returns at once. */
void pacer_run(struct pacer *pacer, uint64_t interval_ns, bool kill, uint64_t end_ns);
/* Until the run, if there is one, is over and the device has a standby.  Adds to *done how many there
 * were.  0 or
 * -errno of the one that failed. */
int pacer_wait(struct pacer *pacer, uint64_t *done);

#endif
