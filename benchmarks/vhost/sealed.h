/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the mayfly that was measured is what a user gets: asked over its API, as a user would, while its
 * device "bench" serves.
 */
#ifndef MAYFLY_BENCH_VHOST_SEALED_H
#define MAYFLY_BENCH_VHOST_SEALED_H

#include <stdbool.h>
#include <stdint.h>

#include "benchmarks/common.h"
#include "benchmarks/vhost/server.h"
#include "devmodel/abi/seal.h"

struct sealed {
	uint32_t layers; /* bit i: enum seal_layer i was in force, in every server */
	uint64_t looks;  /* servers that were looked at */
	struct bench_fences fences;
	uint64_t recoveries; /* generations that had to be replaced while nobody asked for it */
};

/* Before the measuring.  -EPERM, said on stderr: the seal is not the production default; -EPROTO: the API
 * said what it should not; -errno of asking. */
int sealed_look(struct sealed *sealed, const struct server *server);
/* After it: counts what happened to the device by itself, and has it replaced once, for how that is
 * fenced; what follows is served by the successor.  0, -EPROTO, -errno. */
int sealed_replace(struct sealed *sealed, const struct server *server);
/* "seal", "fence", "recoveries".  False, said on stderr: not what a user gets, or not looked at. */
bool sealed_report(struct report *report, const struct sealed *sealed);

#endif
