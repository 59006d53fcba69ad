/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of the servers that are compared, and the client that drives it: guest memory, connection, rings,
 * and for each size of request a verified load on a part of the image of its own.
 */
#ifndef MAYFLY_BENCH_VHOST_SIDE_H
#define MAYFLY_BENCH_VHOST_SIDE_H

#include <signal.h>
#include <stdint.h>

#include "benchmarks/hist.h"
#include "benchmarks/vhost/server.h"
#include "tests/rig/blkload.h"
#include "tests/rig/vhostclient.h"

#define SIDE_QUEUES_MAX 2
#define SIDE_DEPTH_MAX 128 /* of all queues together */

enum { SIDE_4K, SIDE_64K, SIDE_SIZES };

extern const uint32_t side_bytes[SIDE_SIZES];

/* Set by SIGINT and SIGTERM: whatever waits or measures ends with -EINTR. */
extern volatile sig_atomic_t side_interrupted;

struct side {
	const char *name;          /* NULL: not begun */
	struct server_setup setup; /* image_bytes is the side's to choose */
	struct server server;
	struct guestmem mem;
	struct vhostclient client;
	struct ringdrv_queue rings[SIDE_QUEUES_MAX];
	struct blkload loads[SIDE_SIZES];
};

/* What was measured of one side in one cell, added up over its windows. */
struct side_figures {
	uint64_t requests;
	uint64_t cpu_ns;
	struct hist latency;
};

/* Server, image, connection, rings, loads: all ready.  0 or -errno, said on stderr; side_end() in either
 * case. */
int side_begin(struct side *s, const char *name, const struct server_setup *setup);

/* Requests of each size, many outstanding, until guest memory and page cache have been touched. 0 or -errno. */
int side_warm(struct side *s);

/* ns of `depth` requests outstanding, then until they are answered.  *iops of the ns alone; figures may
 * be NULL. 0 or -errno. */
int side_run(struct side *s, uint32_t size, uint32_t depth, uint64_t ns, double *iops,
	     struct side_figures *figures);

/* Reads all back through the server, disconnects, ends the server, compares the image. 0; -EIO: an answer
 * or the image is wrong; -errno.  Adds what the loads counted to *sum. */
int side_finish(struct side *s, struct blkload_stats *sum);

/* May be called twice, and on zeroes. */
void side_end(struct side *s);

#endif
