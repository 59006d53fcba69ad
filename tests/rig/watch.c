/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation: none beyond the header.  The hooks run on the supervisor's thread. */
#include "tests/rig/watch.h"

#include <errno.h>
#include <string.h>

#include "core/cc.h"

static void watch_note(struct watch *watch, enum watch_event event)
{
	watch->counts[event]++;
	pthread_cond_broadcast(&watch->changed);
	pthread_mutex_unlock(&watch->lock);
}

static void on_started(void *ctx)
{
	struct watch *watch = ctx;

	pthread_mutex_lock(&watch->lock);
	watch_note(watch, WATCH_STARTED);
}

static void on_reset(void *ctx)
{
	struct watch *watch = ctx;

	pthread_mutex_lock(&watch->lock);
	watch_note(watch, WATCH_RESET);
}

static void on_broken(void *ctx, const char *why)
{
	struct watch *watch = ctx;

	pthread_mutex_lock(&watch->lock);
	watch->why = why;
	watch_note(watch, WATCH_BROKEN);
}

static void on_replaced(void *ctx, const struct replacement *r)
{
	struct watch *watch = ctx;

	pthread_mutex_lock(&watch->lock);
	watch->log[watch->counts[WATCH_REPLACED] % WATCH_LOG] = *r;
	watch_note(watch, WATCH_REPLACED);
}

static int on_release(void *ctx, const struct box_memory *memory, uint64_t gpa, uint32_t pages)
{
	(void)ctx, (void)memory, (void)gpa, (void)pages;
	return 0;
}

static int on_stat(void *ctx, uint32_t tag, uint64_t value)
{
	(void)ctx, (void)tag, (void)value;
	return 0;
}

#define WATCH_HOOKS                                                                                \
	.started = on_started, .reset_done = on_reset, .needs_reset = on_broken,                   \
	.replaced = on_replaced

const struct device_hooks watch_hooks = { WATCH_HOOKS };
const struct device_hooks watch_errand_hooks = { WATCH_HOOKS, .release = on_release,
						 .stat = on_stat };

void watch_init(struct watch *watch)
{
	pthread_condattr_t attr;

	memset(watch, 0, sizeof(*watch));
	pthread_mutex_init(&watch->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watch->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void watch_free(struct watch *watch)
{
	pthread_cond_destroy(&watch->changed);
	pthread_mutex_destroy(&watch->lock);
}

uint64_t watch_count(struct watch *watch, enum watch_event event)
{
	pthread_mutex_lock(&watch->lock);
	const uint64_t count = watch->counts[event];

	pthread_mutex_unlock(&watch->lock);
	return count;
}

int watch_wait(struct watch *watch, enum watch_event event, uint64_t count, uint32_t timeout_ms)
{
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
	const struct timespec ts = { (time_t)(end / NS_PER_S), (long)(end % NS_PER_S) };
	int ret = 0;

	pthread_mutex_lock(&watch->lock);
	while (watch->counts[event] < count && ret == 0)
		ret = -pthread_cond_timedwait(&watch->changed, &watch->lock, &ts);
	if (watch->counts[event] >= count)
		ret = 0;
	pthread_mutex_unlock(&watch->lock);
	return ret;
}

int watch_replacement(struct watch *watch, uint64_t at, struct replacement *out)
{
	int ret = -ENODATA;

	pthread_mutex_lock(&watch->lock);
	const uint64_t count = watch->counts[WATCH_REPLACED];

	if (at < count && count - at <= WATCH_LOG) {
		*out = watch->log[at % WATCH_LOG];
		ret = 0;
	}
	pthread_mutex_unlock(&watch->lock);
	return ret;
}

const char *watch_why(struct watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	const char *why = watch->why;

	pthread_mutex_unlock(&watch->lock);
	return why;
}
