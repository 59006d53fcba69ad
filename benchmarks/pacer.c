/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/pacer.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "core/cc.h"

#define WAIT_MS 20000

static void on_replaced(void *ctx, const struct replacement *r)
{
	struct pacer *pacer = ctx;

	if (!r->planned)
		sem_post(&pacer->replaced);
}

const struct device_hooks pacer_hooks = { .replaced = on_replaced };

static void sleep_until(uint64_t ns)
{
	const struct timespec ts = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static int wait_recovered(struct pacer *pacer)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WAIT_MS / 1000;
	while (sem_clockwait(&pacer->replaced, CLOCK_MONOTONIC, &end) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int replace(struct pacer *pacer)
{
	struct replacement r;

	if (!pacer->kill)
		return device_replace(pacer->dev, REPLACE_SCHEDULE, false, &r);
	device_status(pacer->dev, &pacer->status);
	if (kill(pacer->status.pid, SIGKILL) != 0)
		return -errno;
	return wait_recovered(pacer);
}

static int pace(struct pacer *pacer, uint64_t *done)
{
	uint64_t next = pacer->begin_ns + pacer->interval_ns / 2;
	int ret = 0;

	while (ret == 0 && next < pacer->end_ns) {
		sleep_until(next);
		ret = replace(pacer);
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

void pacer_init(struct pacer *pacer)
{
	pthread_mutex_init(&pacer->lock, NULL);
	pthread_cond_init(&pacer->changed, NULL);
	sem_init(&pacer->replaced, 0, 0);
}

int pacer_start(struct pacer *pacer, struct device *dev)
{
	int ret;

	pacer->dev = dev;
	ret = -pthread_create(&pacer->thread, NULL, pacer_main, pacer);
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
	sem_destroy(&pacer->replaced);
	pthread_cond_destroy(&pacer->changed);
	pthread_mutex_destroy(&pacer->lock);
}

void pacer_run(struct pacer *pacer, uint64_t interval_ns, bool kill, uint64_t end_ns)
{
	pthread_mutex_lock(&pacer->lock);
	pacer->interval_ns = interval_ns;
	pacer->begin_ns = now_ns();
	pacer->end_ns = end_ns;
	pacer->kill = kill;
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
	return ret != 0 ? ret : device_wait_standby(pacer->dev, WAIT_MS);
}
