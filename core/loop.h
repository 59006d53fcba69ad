/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop: descriptors, deadlines to the microsecond, and calls from other threads.  All
 * callbacks run on the thread in loop_run(); sources and timers belong to their owners, who embed
 * them, and may be removed from within any callback.
 */
#ifndef MAYFLY_CORE_LOOP_H
#define MAYFLY_CORE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

struct loop_source {
	void (*ready)(struct loop_source *source, uint32_t events); /* EPOLL* bits */
	int fd; /* borrowed; -1: not in a loop */
};

struct loop_timer {
	void (*fire)(struct loop_timer *timer);
	uint64_t at_ns; /* CLOCK_MONOTONIC; meaningful while armed */
	bool armed;
	struct loop_timer *next;
};

/* 0 or -errno. */
int loop_create(struct loop **out);
/* Not while loop_run() runs. */
void loop_destroy(struct loop *loop);

/* Runs until loop_stop(); blocks. */
void loop_run(struct loop *loop);
/* From any thread, also before loop_run(). */
void loop_stop(struct loop *loop);

/* Loop thread only.  loop_add: 0 or -errno; the source stays the caller's. */
int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events);
void loop_remove(struct loop *loop, struct loop_source *source);
void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
void loop_disarm(struct loop *loop, struct loop_timer *timer);

/* From another thread: runs fn(arg) on the loop thread and waits for it.  On the loop thread
 * itself: just calls it. */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* From any thread, also the loop's: runs fn(arg) on the loop thread later, without waiting; in the
 * order of posting.  What was posted and not run when the loop is destroyed never runs. */
void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);

/* As loop_call(), for threads that outlive the loop's running.  False: it has ended, and fn was not run. */
bool loop_ask(struct loop *loop, void (*fn)(void *arg), void *arg);
/* On its thread, when loop_run() will not be called any more: who waits is answered, loop_ask() says no
 * from now on. */
void loop_end(struct loop *loop);

#endif
