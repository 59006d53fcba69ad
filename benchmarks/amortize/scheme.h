/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways of one device program to reach guest memory that comes and goes.  Each scheme has a blk device,
 * an image, guest memory and a load of its own, alike in all; how the device learns of a change, and what
 * it has in its hands before and after, is struct scheme_ops.
 *
 * Guest memory: rings and request headers in [0, SCHEME_LOW_BYTES), data at SCHEME_DATA_GPA, both always
 * there; and above all else, at SCHEME_NEW_GPA, the region that comes and goes.  Buffers lie at random
 * addresses, half of them in that region while it is there: in SCHEME_LENT_BYTES of it, elsewhere each time,
 * since most of what is measured would else be how fast this host finds and clears pages.
 */
#ifndef MAYFLY_BENCH_AMORTIZE_SCHEME_H
#define MAYFLY_BENCH_AMORTIZE_SCHEME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "benchmarks/amortize/backend.h"
#include "benchmarks/common.h"
#include "benchmarks/hist.h"
#include "tests/rig/bareblk.h"
#include "tests/rig/blkload.h"
#include "tests/rig/boxrig.h"

#define SCHEME_LOW_BYTES (1ull << 20)
#define SCHEME_DATA_GPA (1ull << 30)
#define SCHEME_DATA_BYTES (64ull << 20)
#define SCHEME_NEW_GPA (8ull << 30)
#define SCHEME_NEW_BYTES (128ull << 20)
#define SCHEME_LENT_BYTES (4ull << 20)
#define SCHEME_IMAGE_BYTES (16u << 20)
#define SCHEME_DEPTH 8

struct scheme;

struct scheme_ops {
	const char *letter; /* as docs/benchmarks.md has them */
	const char *name;
	const char *cannot; /* be promised, however fast it is */
	/* While this process has one thread: what has to be forked. NULL: nothing. */
	int (*fork)(struct scheme *s);
	/* The device serves from here on, with no new region.  NULL: it does already. */
	int (*start)(struct scheme *s);
	/* The region is in s->rig.mem: the device may be given addresses in it from the return on. NULL:
	 * nobody needs to be told. */
	int (*added)(struct scheme *s);
	/* The region is no longer in s->rig.mem, and nothing is asked of the device there: at the return it
	 * is out of its reach, as far as the scheme can bring that about.  May be NULL. */
	int (*taken)(struct scheme *s);
	/* Of the process that the device runs in. NULL: the backend's, or this one. */
	pid_t (*pid)(const struct scheme *s);
	/* Until what a change leaves to be done in the background is done. May be NULL. */
	int (*rest)(struct scheme *s);
	/* What scheme_stop() does not see to; also after a failure. May be NULL. */
	void (*stop)(struct scheme *s);
};

struct scheme {
	const struct scheme_ops *ops;
	const struct dev_ops *program; /* of the hosted build */
	uint64_t seed;                 /* of the load */
	uint64_t random;               /* where the next region is lent */
	struct boxrig rig;             /* guest memory; the rest of it where boxes are sealed */
	struct boxrig_blk box;         /* a sealed device, or .. */
	struct bareblk bare;           /* .. one of the hosted build */
	struct backend backend;        /* that it runs in, if it does */
	struct dev_ops wrapped; /* the program, for schemes that set a serve() of their own */
	void *own;              /* of the scheme's file */
	struct blkload load;
	struct lentmem lent;
	int store;         /* the memfd that regions are a part of; -1: each has its own */
	bool there;        /* the new region */
	bool lie;          /* the device is to keep what it says it let go */
	struct hist *took; /* how long changes take; may be NULL */
	/* Removals after which the kernel sealed the region's memfd against writing, which it does when no
	 * process has it mapped writable; and those after which it did not. */
	uint64_t revoked, not_revoked;
	struct bench_fences fences; /* of replacements */
};

extern const struct scheme_ops scheme_vmm, scheme_static, scheme_mmap, scheme_rpc, scheme_rebirth;

/* Functions below return 0 or -errno, and belong to one thread, but for scheme_change(). */

/* This for all schemes, then the start of all; scheme_stop() in any case. */
int scheme_fork(struct scheme *s, const struct scheme_ops *ops, const struct dev_ops *program,
		uint64_t seed);
int scheme_start(struct scheme *s);
void scheme_stop(struct scheme *s);

/* The region comes if it is not there, else it goes; on any thread, while the load is stepped or drained
 * on its own.  The ctx is the scheme: a pacer's event. */
int scheme_change(void *ctx);
/* Without the region, and nothing left to be done.  The load is drained. */
int scheme_rest(struct scheme *s);

/* Of the process that the device runs in; 0: this one. */
pid_t scheme_pid(const struct scheme *s);

/* ---- for the schemes' files ---- */

/* What is always there of guest memory, all of it populated. */
int scheme_add_memory(struct scheme *s);
/* The load, with `ring`; `image` is filled, so that nobody pays for its first touch. */
int scheme_add_load(struct scheme *s, struct ringdrv_queue *ring, int image);
/* Memory, ring, image and load of a device of the hosted build. */
int scheme_add_bare(struct scheme *s);

/* The region in a map that a device walks meanwhile: the last one there, it is seen whole or not at all. */
void scheme_map_add(struct mem_map *map, uint64_t addr);
void scheme_map_take(struct mem_map *map);

#endif
