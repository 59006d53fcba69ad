/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a compiled filter allows, as text: found in the filter alone, without a look at the policy
 * that it came from.  One line a set of calls; the golden files are made of it.
 */
#ifndef MAYFLY_ESCAPE_SUMMARY_H
#define MAYFLY_ESCAPE_SUMMARY_H

#include <stdint.h>

#include "devmodel/abi/launch.h"

#define SUMMARY_LINES_MAX 512

/* Each argument within [low, high]. */
struct allowed {
	uint32_t nr;
	uint64_t low[6];
	uint64_t high[6];
};

struct summary {
	uint32_t count;
	uint32_t actions[4]; /* of all that is not allowed, each once */
	uint32_t action_count;
	const char *odd; /* NULL, or why the filter cannot be put in these words */
	struct allowed allowed[SUMMARY_LINES_MAX];
};

/* Sorted, as few lines as adjoining sets can be put in.  0 or -EINVAL with s->odd. */
int summary_make(struct summary *s, const struct launch_record *launch);

/* The text of a golden file, at most `room` bytes. */
void summary_print(const struct summary *s, const struct launch_record *launch, const char *name,
		   char *buffer, size_t room);

#endif
