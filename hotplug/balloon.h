/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VMM does for a balloon device (virtio 1.2 section 5.5), and knows of it: releases the ranges
 * that its boxes report, keeps the driver's numbers, and has them asked for every so often.  Size and
 * actual size are in the configuration space, the rest is devmodel/balloon/.
 *
 * balloon_release() and balloon_stat() are called on the supervisor's thread (struct device_hooks),
 * balloon_poll_*() on the loop's, the others on any.
 */
#ifndef MAYFLY_HOTPLUG_BALLOON_H
#define MAYFLY_HOTPLUG_BALLOON_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/loop.h"
#include "devmodel/balloon/state.h"

struct balloon_figures {
	uint64_t released_bytes; /* so far */
	uint64_t kept_bytes;     /* reported, but no whole pages of the host's */
	uint32_t known;          /* bit i: the driver gave number i since the last reset */
	uint64_t number[BALLOON_STAT_COUNT]; /* by tag */
};

struct balloon {
	pthread_mutex_t lock; /* figures */
	struct balloon_figures figures;
	bool complained; /* supervisor's thread: that the host refuses was said */
	struct device *dev;
	struct loop *loop;
	struct loop_timer timer;
	uint32_t every_s;
};

void balloon_init(struct balloon *b);
void balloon_fini(struct balloon *b);

/* As device_hooks have it. */
int balloon_release(struct balloon *b, const struct box_memory *memory, uint64_t gpa,
		    uint32_t pages);
int balloon_stat(struct balloon *b, uint32_t tag, uint64_t value);
/* The driver reset it: its numbers were another's. */
void balloon_forget(struct balloon *b);

void balloon_figures(struct balloon *b, struct balloon_figures *figures);

/* Asks for numbers every so many seconds from now on; 0: never. */
void balloon_poll_start(struct balloon *b, struct loop *loop, struct device *dev, uint32_t every_s);
void balloon_poll_every(struct balloon *b, uint32_t every_s);
void balloon_poll_stop(struct balloon *b);

/* The name of a number, as the API has it. */
const char *balloon_stat_name(uint32_t tag);

#endif
