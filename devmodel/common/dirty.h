/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty log: a device program marks in it which pages of guest memory it writes, for somebody who
 * copies that memory while the guest runs, fetches the bits and clears them, from other processes, at
 * any time (docs/contract.md).  Whoever writes marks the bytes before and once more after:
 *
 *   before   a program that dies between its write and the second mark has not written unmarked
 *   after    the bit may have been fetched, and the page copied, before the write was there
 *
 * Both at once leave a hole: fetched in between, and dead.  What was being written then is no request
 * that was published, so it is carried out again by a successor, and marked again.  So the second mark
 * of all that belongs to a request comes before it is published; of the used ring itself it cannot,
 * and virtq_activate() marks that ring as a whole.
 *
 * Without a log (NULL) a mark is one branch.
 */
#ifndef MAYFLY_DEVMODEL_COMMON_DIRTY_H
#define MAYFLY_DEVMODEL_COMMON_DIRTY_H

#include <stddef.h>
#include <stdint.h>

#include "devmodel/abi/gpa.h"

struct launch_record;

struct dirty_log {
	uint8_t *bits; /* shared with other processes */
	uint64_t bytes;
	const struct mem_map *map;
};

/* The log that the record names; NULL: none.  *room has to last as long. */
const struct dirty_log *dirty_open(struct dirty_log *room, const struct launch_record *launch);

/* With a log: bytes, not 0, from gpa on, all in guest memory.  What the log does not reach is passed over. */
void dirty_set(const struct dirty_log *log, uint64_t gpa, uint64_t bytes);
/* The same by address of this process; 0 bytes are none. */
void dirty_set_at(const struct dirty_log *log, const void *at, uint64_t bytes);

static inline void dirty_mark(const struct dirty_log *log, const void *at, uint64_t bytes)
{
	if (__builtin_expect(log != NULL, 0))
		dirty_set_at(log, at, bytes);
}

static inline void dirty_mark_gpa(const struct dirty_log *log, uint64_t gpa, uint64_t bytes)
{
	if (__builtin_expect(log != NULL, 0))
		dirty_set(log, gpa, bytes);
}

#endif
