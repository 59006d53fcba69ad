/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/pacer.h"

#include <errno.h>
#include <time.h>

#include "core/cc.h"

static void sleep_until(uint64_t ns)
{
	const struct timespec ts = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static int pace(struct pacer *pacer, uint64_t *done)
{
	uint64_t next = pacer->begin_ns + pacer->interval_ns / 2;
	int ret = 0;

	while (ret == 0 && next < pacer->end_ns) {
		sleep_until(next);
		ret = pacer->event(pacer->ctx);
		*done += ret == 0;
		const uint64_t now = now_ns();

		next += pacer->interval_ns;
		next = next > now ? next : now;
	}
	return ret;
}

static void *pacer_main(void *arg)
{
	struct pacer *pacer = arg;

	pthread_mutex_lock(&pacer->lock);
	while (!pacer->quit) {
		uint64_t done = 0;
		int ret;

		if (!pacer->on) {
			pthread_cond_wait(&pacer->changed, &pacer->lock);
			continue;
		}
		/* What it is to do changes only while it is off. */
		pthread_mutex_unlock(&pacer->lock);
		ret = pace(pacer, &done);
		pthread_mutex_lock(&pacer->lock);
		pacer->done = done;
		pacer->error = ret;
		pacer->on = false;
		pthread_cond_broadcast(&pacer->changed);
	}
	pthread_mutex_unlock(&pacer->lock);
	return NULL;
}

void pacer_init(struct pacer *pacer, int (*event)(void *ctx), void *ctx)
{
	pacer->event = event;
	pacer->ctx = ctx;
	pthread_mutex_init(&pacer->lock, NULL);
	pthread_cond_init(&pacer->changed, NULL);
}

int pacer_start(struct pacer *pacer)
{
	const int ret = -pthread_create(&pacer->thread, NULL, pacer_main, pacer);

	pacer->running = ret == 0;
	return ret;
}

void pacer_stop(struct pacer *pacer)
{
	if (pacer->running) {
		pthread_mutex_lock(&pacer->lock);
		pacer->quit = true;
		pthread_cond_broadcast(&pacer->changed);
		pthread_mutex_unlock(&pacer->lock);
		pthread_join(pacer->thread, NULL);
	}
	pthread_cond_destroy(&pacer->changed);
	pthread_mutex_destroy(&pacer->lock);
}

void pacer_run(struct pacer *pacer, uint64_t interval_ns, uint64_t end_ns)
{
	pthread_mutex_lock(&pacer->lock);
	pacer->interval_ns = interval_ns;
	pacer->begin_ns = now_ns();
	pacer->end_ns = end_ns;
	pacer->on = true;
	pthread_cond_broadcast(&pacer->changed);
	pthread_mutex_unlock(&pacer->lock);
}

int pacer_wait(struct pacer *pacer, uint64_t *done)
{
	int ret;

	pthread_mutex_lock(&pacer->lock);
	while (pacer->on)
		pthread_cond_wait(&pacer->changed, &pacer->lock);
	*done += pacer->done;
	pacer->done = 0;
	ret = pacer->error;
	pthread_mutex_unlock(&pacer->lock);
	return ret;
}
