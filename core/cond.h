/* SPDX-License-Identifier: Apache-2.0 */
/* Condition variables whose deadlines are times of now_ns(): no clock that is set moves them. */
#ifndef MAYFLY_CORE_COND_H
#define MAYFLY_CORE_COND_H

#include <pthread.h>
#include <stdint.h>

#include "core/cc.h"

static inline void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* Like pthread_cond_timedwait(), of one that cond_init() made. 0 or -ETIMEDOUT. */
static inline int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t end_ns)
{
	const struct timespec end = { (time_t)(end_ns / NS_PER_S), (long)(end_ns % NS_PER_S) };

	return -pthread_cond_timedwait(cond, mutex, &end);
}

#endif
