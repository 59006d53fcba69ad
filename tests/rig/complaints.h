/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rig found wrong: the last complaint is kept for tests to look at, the first
 * COMPLAINTS_PRINTED are printed on stderr, so that a flood does not drown the cause.
 */
#ifndef MAYFLY_RIG_COMPLAINTS_H
#define MAYFLY_RIG_COMPLAINTS_H

#include <stdbool.h>
#include <stdint.h>

#define COMPLAINTS_PRINTED 20

struct complaints {
	bool quiet; /* a test provokes them: keep, but do not print */
	uint64_t count;
	char last[200];
};

__attribute__((format(printf, 2, 3))) void complaints_add(struct complaints *complaints,
							  const char *format, ...);

#endif
