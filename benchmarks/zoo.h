/* SPDX-License-Identifier: Apache-2.0 */
/* One device of any kind, as a VMM would make it, with nobody on the other side. */
#ifndef MAYFLY_BENCH_ZOO_H
#define MAYFLY_BENCH_ZOO_H

#include <stdint.h>

#include "core/box/box.h"
#include "tests/rig/boxrig.h"

#define ZOO_FDS_MAX 16

/* What devices of one kind are given; any number of idle ones may share it. */
struct zoo_kit {
	struct device_spec spec;
	enum dev_kind kind;
	uint32_t fd_count;
	int fds[ZOO_FDS_MAX];
};

/* The kinds there are programs for, and their names. */
#define ZOO_KINDS 4
extern const enum dev_kind zoo_kinds[ZOO_KINDS];
const char *zoo_name(enum dev_kind kind);

/* Opens backends and eventfds.  0 or -errno; zoo_close() in either case. */
int zoo_open(struct zoo_kit *kit, enum dev_kind kind);
void zoo_close(struct zoo_kit *kit);

/* A device on the kit's descriptors, its standby asked for. 0 or -errno. */
int zoo_create(struct boxrig *rig, const struct zoo_kit *kit, struct device **dev);

/* Starts it with no queue enabled. 0 or -errno. */
int zoo_start(const struct zoo_kit *kit, struct device *dev);

#endif
