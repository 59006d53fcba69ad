/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket (SOCK_SEQPACKET, one message a record).  After the launch record:
 *
 * VMM to box: a ctl_header, then what the type says.  A message is announced by adding one to the
 * `bell` of the state page *after* it was sent, so that a box that never sleeps finds it too.
 *
 * Box to VMM: a box_report, always 16 bytes, written in one call.  The VMM reads nothing else from
 * a box but the state page, and believes none of it: a report is a hint or a request, never proof.
 */
#ifndef MAYFLY_ABI_MESSAGE_H
#define MAYFLY_ABI_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/launch.h"
#include "devmodel/abi/statepage.h"

/* VMM to box: NAME, number, meaning. */
#define CTL_TYPES(X)                                                                                 \
	X(ACTIVATE, 1, "serve these queues from here on; struct ctl_activate and state records")     \
	X(QUIESCE, 2, "finish what was begun, write the state records, park; value: a nonce")        \
	X(PING, 3, "answer PONG with the same value")                                                \
	X(GO, 4,                                                                                     \
	  "the listener is taken: make the agreed call; during the seal only, without a bell")       \
	X(FAULT, 5, "misbehave; only to the faulty set of programs, struct ctl_fault (fault.h)")     \
	X(ANSWER, 6,                                                                                 \
	  "to SYNC: all that was reported before it is done; to ASK: the answer; struct ctl_answer") \
	X(POLL, 7, "give back what is held for this, as a balloon holds its statistics buffer")

enum ctl_type {
#define CTL_ENUM(NAME, number, text) CTL_##NAME = (number),
	CTL_TYPES(CTL_ENUM)
#undef CTL_ENUM
};

struct ctl_header {
	uint32_t type;
	/* PING: any; QUIESCE: a number that cannot be guessed; ANSWER: SYNC's, or the answer to ASK; else 0 */
	uint32_t value;
};

#define CTL_REFUSE_ALL UINT32_MAX

struct ctl_queue {
	uint64_t desc_gpa;
	uint64_t avail_gpa;
	uint64_t used_gpa;
	uint16_t size; /* a power of two, at most VIRTQ_SIZE_MAX; 0: the queue is not enabled */
	uint16_t next; /* the first avail index to serve, equal to used->idx: 0 after a reset */
	uint32_t
		refuse; /* requests to answer with an error before any is served, or CTL_REFUSE_ALL */
};

struct ctl_activate {
	struct ctl_header header;
	uint64_t features;                       /* as negotiated */
	uint32_t record_bytes[STATE_CLASSES];    /* the records that follow, in this order */
	struct ctl_queue queues[BOX_QUEUES_MAX]; /* in the order of queue_index */
	uint8_t shadow[REG_SHADOW_BYTES];        /* register devices: see statepage.h */
	uint32_t reg_seq;                        /* the last access that was answered */
	uint32_t doomed; /* faulty programs: 1 + the queue whose first request kills; else 0 */
};

/* Its nonce stands for that of QUIESCE where it comes after it: PARKED has to bring back the last. */
struct ctl_answer {
	struct ctl_header header;
	uint32_t nonce;
};

#define CTL_BYTES_MAX (sizeof(struct ctl_activate) + STATE_CLASSES * STATE_RECORD_MAX)

/* Box to VMM: NAME, number, meaning of value and detail. */
#define REPORT_TYPES(X)                                                                            \
	X(HELLO, 1, "the death signal is armed")                                                   \
	X(HALF, 2, "filter in force; value: the listener's descriptor number")                     \
	X(SEALED, 3, "all layers in force, waiting")                                               \
	X(FAILED, 4, "a seal step failed; value: step, detail: errno")                             \
	X(ACTIVATED, 5, "first pass over all queues done; detail: requests served in it")          \
	X(PARKED, 6,                                                                               \
	  "value: the nonce of the last QUIESCE or ANSWER; detail: CTL_PARKED_BYTES of the "       \
	  "two records")                                                                           \
	X(PONG, 7, "value: as in PING")                                                            \
	X(BROKEN, 8, "the driver broke a rule; value: queue, detail: enum ring_error")             \
	X(REFUSED, 9, "a carried state record does not fit its schema")                            \
	X(RELEASE, 10,                                                                             \
	  "value: pages of guest memory that hold nothing; detail: address of the first")          \
	X(SYNC, 11, "value: any; ANSWER brings it back when all reported before is done")          \
	X(STAT, 12, "value: which number of the driver's, detail: the number")                     \
	X(ASK, 13, "a request that the VMM has to answer; value and detail: the kind's (mem.h)")

enum report_type {
#define REPORT_ENUM(NAME, number, text) REPORT_##NAME = (number),
	REPORT_TYPES(REPORT_ENUM)
#undef REPORT_ENUM
		REPORT_TYPE_END
};

/* Numbers are not without gaps. */
static inline bool report_is_known(uint32_t type)
{
	switch (type) {
#define REPORT_CASE(NAME, number, text) case REPORT_##NAME:
		REPORT_TYPES(REPORT_CASE)
#undef REPORT_CASE
		return true;
	default:
		return false;
	}
}

struct box_report {
	uint32_t type;
	uint32_t value;
	uint64_t detail;
};

/*
 * Errands: RELEASE, SYNC, STAT, of kinds that have them.  How often they may come:
 *
 * RELEASE  at most RELEASES_PER_SYNC between an ANSWER and the next SYNC; each of whole pages of
 *          RELEASE_PAGE bytes, at most RELEASE_PAGES_MAX of them or what the region's own page is
 *          (launch_record.region_page), whichever is more.
 * SYNC     one at a time.  The VMM takes its time for the ANSWER when there was much to do.
 * STAT     at most STATS_PER_POLL for each ACTIVATE and each POLL.
 */
#define RELEASE_PAGE 4096u
#define RELEASE_PAGES_MAX 64u
#define RELEASES_PER_SYNC 128u
#define STATS_PER_POLL 16u

/* PARKED: how long the records are that the box left in its state page. */
#define CTL_PARKED_BYTES(data, control) ((uint64_t)(data) | (uint64_t)(control) << 32)
#define CTL_PARKED_DATA(detail) ((uint32_t)(detail))
#define CTL_PARKED_CONTROL(detail) ((uint32_t)((detail) >> 32))

/* What a driver can do wrong with a ring: ends service of the device until it is reset. */
#define RING_ERRORS(X)                                                                             \
	X(NONE, "no error")                                                                        \
	X(ADDRESS, "a ring lies outside guest memory or is not aligned")                           \
	X(SIZE, "the queue size is 0, not a power of two or too large")                            \
	X(AVAIL, "avail->idx is further ahead than the queue is long")                             \
	X(HEAD, "a descriptor index lies outside the table")                                       \
	X(LOOP, "a descriptor chain is longer than the queue")                                     \
	X(INDIRECT, "an indirect table is nested, empty, oversized or not a multiple of 16")       \
	X(ORDER, "a device-readable descriptor follows a writable one")                            \
	X(SPAN, "a buffer lies outside guest memory or crosses regions")                           \
	X(SHORT, "the chain is too short for a request of this kind")

enum ring_error {
#define RING_ERROR_ENUM(NAME, text) RING_ERROR_##NAME,
	RING_ERRORS(RING_ERROR_ENUM)
#undef RING_ERROR_ENUM
		RING_ERROR_COUNT
};

_Static_assert(sizeof(struct ctl_queue) == 32, "wire format");
_Static_assert(sizeof(struct ctl_activate) == 64 + 32 * BOX_QUEUES_MAX, "wire format");
_Static_assert(sizeof(struct ctl_answer) == 12, "wire format");
_Static_assert(sizeof(struct box_report) == 16, "the policy pins this length");

#endif
