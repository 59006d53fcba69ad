/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device program in a thread of this process: the hosted build of the same sources, with no seal
 * and no supervisor, on the same rings and eventfds.  What a sealed one costs is the difference.
 *
 * One at a time and kind: device programs keep their buffers in static memory.  Functions of one
 * struct inproc belong to one thread.
 */
#ifndef MAYFLY_RIG_INPROC_H
#define MAYFLY_RIG_INPROC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/launch.h"
#include "devmodel/abi/statepage.h"
#include "devmodel/common/dev.h"
#include "tests/rig/guestmem.h"

struct inproc_config {
	const struct dev_ops *ops;  /* dev_program of the hosted archive that is linked */
	const struct guestmem *mem; /* must not change while it runs */
	uint32_t queues;
	const int *kick; /* eventfds of each queue, EFD_NONBLOCK; borrowed */
	const int *call;
	const int *backends; /* borrowed */
	uint32_t backend_count;
	const union dev_config *config;
	uint64_t features;             /* as negotiated */
	const struct ctl_queue *rings; /* of each queue */
	int cpu;                       /* run on this one only; -1: on any */
};

struct inproc {
	struct launch_record launch;
	struct dev dev;
	const struct dev_ops *ops;
	struct state_page *page;
	pthread_t thread;
	bool running;
	int control; /* the supervisor's end */
	int ret;     /* of dev_run() */
	int cpu;
};

/* Returns when the first pass over the queues is done.  0; -EMFILE: no run of free descriptor
 * numbers; -EINVAL: the program refuses the configuration; -EPROTO: it reports anything else;
 * -errno. On failure nothing is left. */
int inproc_start(struct inproc *in, const struct inproc_config *config);

/* Parks it and ends the thread; may be called twice.  0, or -EPROTO: it ended in another way than a
 * parked program whose supervisor goes away. */
int inproc_stop(struct inproc *in);

#endif
