/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices whose programs play at random (tests/rig/rogue), each with a thread that is their driver and
 * operator at once: it offers requests, resets what is broken, revives what is quarantined, and asks for
 * replacements, condemns and resets while they play.  A round is a number of sequences, played by
 * whichever device is ready for one, and ends when each device has come back: reset, and served by a
 * program that plays no more, a sector written to it reads the same.
 *
 *   rogues_begin(&rogues, &rig, table, count);
 *   rogues_round(&rogues, limit);   // again and again
 *   rogues_end(&rogues);
 */
#ifndef MAYFLY_RIG_ROGUES_H
#define MAYFLY_RIG_ROGUES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "benchmarks/hist.h"
#include "tests/rig/boxrig.h"
#include "tests/rig/rogue/rogue.h"
#include "tests/rig/watch.h"

#define ROGUES_MAX 6
#define ROGUES_LANES_MAX 2

/* What the driver saw or did: NAME, name in reports. */
#define ROGUES_FIGURES(X)                                                                          \
	X(GENERATIONS, generations) /* sealed, standbys included */                                \
	X(BROKEN, broken)                                                                          \
	X(QUARANTINED, quarantined)                                                                \
	X(RESETS, resets)                                                                          \
	X(REVIVALS, revivals)                                                                      \
	X(REPLACED, replaced)                                                                      \
	X(CONDEMNED, condemned)                                                                    \
	X(OUTSAT, outsat)                                                                          \
	X(COMEBACKS, comebacks)

enum rogues_figure {
#define ROGUES_FIGURE_ENUM(NAME, name) ROGUES_##NAME,
	ROGUES_FIGURES(ROGUES_FIGURE_ENUM)
#undef ROGUES_FIGURE_ENUM
		ROGUES_FIGURE_COUNT
};

struct rogues;

struct rogue_device {
	struct rogues *all;
	struct boxrig_blk blk;
	struct watch *watch;
	struct rogue_slot *slots[ROGUES_LANES_MAX]; /* a lane each */
	uint32_t lanes;
	const char *name;
	uint64_t buffers_gpa; /* of its requests, where rogues write */
	uint64_t calm_gpa;    /* of those that must come out right */
	pthread_t thread;
	bool running;
	uint64_t random;
	uint64_t generation; /* as last seen, active .. */
	uint64_t since_ns;   /* .. since; or the state is another, since */
	uint64_t away_since_ns;
	uint64_t patience_ns;
	uint64_t figures[ROGUES_FIGURE_COUNT];
	struct hist status_ns; /* what device_status() took */
	struct hist away_ns;   /* neither active, nor broken or given up: how long in one piece */
	/* Shared. */
	uint64_t done;     /* the round that it has come back from */
	const char *fault; /* what was not as it must be; its place is `line` */
	int line;
};

struct rogues {
	struct boxrig *rig;
	struct rogue_page *page;
	struct rogue_device devices[ROGUES_MAX];
	uint32_t count;
	/* Shared. */
	uint64_t round; /* 0: none yet */
	bool stop;
};

/* Makes and starts the devices, by these configurations; `first` is the first sequence's number. 0 or
 * -errno; in any case rogues_end(). */
int rogues_begin(struct rogues *rogues, struct boxrig *rig, const struct boxrig_blk_config *configs,
		 uint32_t count, uint64_t first);
/* The next sequence that will be begun. */
uint64_t rogues_next(const struct rogues *rogues);
/* Sequences up to limit may be played from now on. */
void rogues_round(struct rogues *rogues, uint64_t limit);
/* 1: each device has come back; 0: not yet; -1: one is at fault. */
int rogues_round_over(const struct rogues *rogues);
/* On stderr: what each device is at, and how its last sequences are played again. */
void rogues_tell(const struct rogues *rogues);
/* The same first, whatever signal ends this program. */
void rogues_watch_signals(const struct rogues *rogues);
/* Ends the threads; figures and histograms stay, devices do, too. */
void rogues_stop(struct rogues *rogues);
void rogues_end(struct rogues *rogues);

#endif
