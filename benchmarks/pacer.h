/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event at a steady rate, on a thread of its own, so that whoever measures what it costs does
 * nothing else.
 */
#ifndef MAYFLY_BENCH_PACER_H
#define MAYFLY_BENCH_PACER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct pacer {
	int (*event)(void *ctx); /* on the pacer's thread; 0, or -errno: the run is over */
	void *ctx;
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	bool on, quit;
	uint64_t interval_ns, begin_ns, end_ns;
	uint64_t done; /* since it was last waited for */
	int error;
};

void pacer_init(struct pacer *pacer, int (*event)(void *ctx), void *ctx);
/* 0 or -errno; pacer_stop() in either case. */
int pacer_start(struct pacer *pacer);
void pacer_stop(struct pacer *pacer);

/* From now until end_ns: one event in each interval, the first in the middle of its own.  One that takes
 * longer than the interval delays the rest: there is never more than one at a time, and none is made up
 * for.  Returns at once.  What the event does may be set before it, and after pacer_wait(). */
void pacer_run(struct pacer *pacer, uint64_t interval_ns, uint64_t end_ns);
/* Until the run, if there is one, is over.  Adds to *done how many events there were.  0 or -errno of
 * the one that failed. */
int pacer_wait(struct pacer *pacer, uint64_t *done);

#endif
