/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller of a device that only watches: hooks that count what happens and keep every finished
 * replacement, and waiting for them.  One watch a device; watch_hooks and the watch go into its
 * spec.
 */
#ifndef MAYFLY_RIG_WATCH_H
#define MAYFLY_RIG_WATCH_H

#include <pthread.h>
#include <stdint.h>

#include "core/box/box.h"

#define WATCH_LOG 8192 /* replacements kept */

/* NAME, meaning. */
#define WATCH_EVENTS(X)                                                                            \
	X(STARTED, "first pass after a start")                                                     \
	X(RESET, "a reset is complete")                                                            \
	X(BROKEN, "it needs a reset or a revival")                                                 \
	X(REPLACED, "a replacement is done")

enum watch_event {
#define WATCH_EVENT_ENUM(NAME, text) WATCH_##NAME,
	WATCH_EVENTS(WATCH_EVENT_ENUM)
#undef WATCH_EVENT_ENUM
		WATCH_EVENT_COUNT
};

struct watch {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t counts[WATCH_EVENT_COUNT];
	const char *why;                   /* of the last BROKEN */
	struct replacement log[WATCH_LOG]; /* a ring, REPLACED so far */
};

extern const struct device_hooks watch_hooks;
/* The same for one that may ask for errands: nothing comes of them. */
extern const struct device_hooks watch_errand_hooks;

void watch_init(struct watch *watch);
void watch_free(struct watch *watch);

uint64_t watch_count(struct watch *watch, enum watch_event event);
/* Waits until the event has happened `count` times in all. 0 or -ETIMEDOUT. */
int watch_wait(struct watch *watch, enum watch_event event, uint64_t count, uint32_t timeout_ms);
/* Replacement number `at`, from 0; -ENODATA: not finished yet, or no longer kept. */
int watch_replacement(struct watch *watch, uint64_t at, struct replacement *out);
/* Why it broke; NULL: it never did. */
const char *watch_why(struct watch *watch);

#endif
