/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host rig: release device programs under the real supervisor, guest memory of this process, and
 * a driver of ours in the guest's place.  Tests and benchmarks begin with boxrig_start() on their main
 * thread, before they make any other.
 */
#ifndef MAYFLY_RIG_BOXRIG_H
#define MAYFLY_RIG_BOXRIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "tests/rig/blkload.h"
#include "tests/rig/guestmem.h"
#include "tests/rig/ringdrv.h"

struct boxrig {
	struct spawner spawner;
	struct seal_host host;
	struct supervisor *sup;
	struct guestmem mem;
};

/* The programs of build/SET (`dev`, `dev/faulty`, `rogue/blk`), whichever build this executable is of, for
 * every rig that is started from here on.  0; -ENOENT, said on stderr: not built. */
int boxrig_use(const char *set);
/* Reads the programs from $MAYFLY_PROGRAMS or else build/dev beside this executable's build/.
 * Starts the spawner only; guest memory is added by the caller before boxrig_supervise().  0 or
 * -errno, said on stderr. */
int boxrig_start(struct boxrig *rig);
/* The rig's guest memory as it is now, as supervisors want it: large. */
void boxrig_memory(const struct boxrig *rig, struct box_memory *memory);
/* Creates the supervisor on the guest memory as it is now. 0 or -errno. */
int boxrig_supervise(struct boxrig *rig);
/* Ends everything. Devices must have been destroyed. */
void boxrig_stop(struct boxrig *rig);

struct boxrig_blk_config {
	const char *name; /* of the device; NULL: disk0 */
	uint64_t bytes;   /* of the image; 0: 64 MiB */
	const char *dir;  /* of the image; NULL: a memfd */
	bool image_given; /* use and own `image`, of `bytes` bytes, instead */
	int image;
	bool direct; /* O_DIRECT */
	bool readonly;
	uint32_t queues;    /* 0: 1 */
	uint32_t lanes;     /* 0: 1 */
	uint16_t ring_size; /* 0: 256 */
	uint64_t features;  /* RINGDRV_*; 0: all */
	struct rate_limit ops;
	uint32_t death_budget, death_window_s;
	uint32_t poison_limit;
	struct suspect_limits limits;
	uint32_t audit_ms;
	const struct device_hooks *hooks;
	void *ctx;
	enum dev_kind kind; /* with as_kind: spawn another program in blk's place */
	bool as_kind;
};

/* A blk device with an image and driver rings. */
struct boxrig_blk {
	struct boxrig *rig;
	struct device *dev;
	int image;
	uint64_t bytes;
	uint64_t features;
	uint32_t queues;
	struct ringdrv_queue rings[BOX_QUEUES_MAX];
};

/* Makes image, rings and device and waits until its standby is ready; not started. 0 or -errno. */
int boxrig_blk_create(struct boxrig *rig, const struct boxrig_blk_config *config,
		      struct boxrig_blk *blk);
/* As a driver that sets DRIVER_OK. */
int boxrig_blk_go(struct boxrig_blk *blk);
void boxrig_blk_destroy(struct boxrig_blk *blk);

struct boxrig_rng_config {
	const char *id;
	uint16_t ring_size;
	const struct device_hooks *hooks;
	void *ctx;
};

/* An entropy device with the kernel's source and a driver ring, RINGDRV_EVENT_IDX among its features. */
struct boxrig_rng {
	struct ringdrv_queue ring;
	struct device *dev;
	int source;
};

/* As for blk. */
int boxrig_rng_create(struct boxrig *rig, const struct boxrig_rng_config *config,
		      struct boxrig_rng *rng);
int boxrig_rng_go(struct boxrig_rng *rng);
/* Also where creating it failed, or it is all zero. */
void boxrig_rng_destroy(struct boxrig_rng *rng);

/* Names the layers in force, NULL-terminated, for benchmarks. */
void boxrig_seal_names(const struct boxrig *rig, const char **names, uint32_t max);

#endif
