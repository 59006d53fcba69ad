/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that C lacks: scoped cleanup, checks that stay in release builds, sizes, time. */
#ifndef MAYFLY_CORE_CC_H
#define MAYFLY_CORE_CC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* An invariant of our own, never of a peer: ends the process, also in release builds. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "mayfly: %s:%d: broken invariant: %s\n", __FILE__,         \
				__LINE__, #cond);                                                  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static inline void cc_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void cc_free(void *p)
{
	free(*(void **)p);
}

#define cleanup_fd __attribute__((cleanup(cc_close)))
#define cleanup_free __attribute__((cleanup(cc_free)))

/* Hands a descriptor on: the variable forgets it. */
static inline int cc_take_fd(int *fd)
{
	const int taken = *fd;

	*fd = -1;
	return taken;
}

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

#endif
