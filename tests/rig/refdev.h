/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reference virtio-blk device in the plainest way: one queue, a disk in memory, no care for speed
 * or for hostile drivers.  It shares no code with the devices under test.  The rig is verified
 * against it: each of its faults is one that the rig must notice.
 */
#ifndef MAYFLY_RIG_REFDEV_H
#define MAYFLY_RIG_REFDEV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/gpa.h"
#include "devmodel/abi/message.h"

/* NAME, what happens to one request. */
#define REFDEV_FAULTS(X)                                                                           \
	X(NONE, "nothing")                                                                         \
	X(LOSE, "served, never completed")                                                         \
	X(DOUBLE, "completed twice")                                                               \
	X(BIT, "one bit of the data read is wrong")                                                \
	X(STALE, "a read succeeds without writing the buffer")                                     \
	X(SKIP, "a write succeeds without being done")                                             \
	X(TORN, "the second half of a write is not done")                                          \
	X(MISPLACE, "a write goes to the next sector")                                             \
	X(LONG, "used length one too long")                                                        \
	X(SHORT, "used length one too short")                                                      \
	X(NO_STATUS, "completed without a status")                                                 \
	X(IOERR, "answered with an error")                                                         \
	X(OVERRUN, "a byte written past the status")                                               \
	X(BAD_ID, "used id outside the table")                                                     \
	X(UNUSED_ID, "used id that was never given, besides the right one")                        \
	X(BACKWARDS, "used->idx goes back by one")                                                 \
	X(JUMP, "used->idx leaps by more than the queue size")                                     \
	X(SWAP, "completed after its successor")                                                   \
	X(NO_CALL, "completed, and never again a call")

enum refdev_fault {
#define REFDEV_ENUM(NAME, text) REFDEV_##NAME,
	REFDEV_FAULTS(REFDEV_ENUM)
#undef REFDEV_ENUM
		REFDEV_FAULT_COUNT
};

struct refdev {
	const struct mem_map *map;
	struct ctl_queue queue;
	uint64_t features;
	int fd_kick;
	int fd_call;
	uint8_t *disk;
	uint64_t sectors;
	char id[20];
	enum refdev_fault fault; /* happens to the first fitting request at or after fault_at */
	uint64_t fault_at;
	/* Its own. */
	uint16_t next;
	uint64_t served;
	bool fault_done;
	bool mute; /* NO_CALL happened */
	bool held; /* SWAP: a completion is kept back */
	uint16_t held_id;
	uint32_t held_len;
	uint16_t used_idx;
	int stop;
	pthread_t thread;
};

/* After the caller has set the fields above the comment: takes up the ring. */
void refdev_init(struct refdev *dev);
/* Serves what is available now, and calls the driver where it wants that.  Requests served. */
uint32_t refdev_serve(struct refdev *dev);

/* The same in a thread that sleeps on fd_kick.  0 or -errno. */
int refdev_start(struct refdev *dev);
void refdev_stop(struct refdev *dev);

#endif
