/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rogue device programs: release blk with another main loop.  Up to QUIESCE one serves as it
 * should, and watches for others that do; what it does then, a test chooses by the page that both
 * see in guest memory.  NAME, what it does.
 *
 * RANDOM is taken over from the start: each activation takes the next sequence number, which is the
 * seed of what it does, until there are no more; then it serves, as it should.
 *
 * Each generation counts every step it takes in its place of `beats`, and an active one looks at
 * the places of all others: a step there is a fenced generation that was not fenced.
 */
#ifndef MAYFLY_RIG_ROGUE_ROGUE_H
#define MAYFLY_RIG_ROGUE_ROGUE_H

#include <stdint.h>

#include "tests/rig/rogue/deeds.h"

#define ROGUE_BEHAVIOURS(X)                                                                        \
	X(HONEST, "parks")                                                                         \
	X(KICKS, "takes kicks for a while, then parks")                                            \
	X(KICKS_ON, "says that it parked, and goes on taking kicks")                               \
	X(CALL_FULL, "fills the call eventfd, then parks")                                         \
	X(USED_AHEAD, "moves used->idx beyond what was asked for, then parks")                     \
	X(USED_BACK, "moves used->idx far back, then parks")                                       \
	X(USED_ON, "says that it parked, and goes on writing used->idx and elements")              \
	X(ELEMENTS, "overwrites all used elements, then parks")                                    \
	X(PARKS_TWICE, "says twice that it parked, then does")                                     \
	X(EMPTY, "sends an empty message")                                                         \
	X(OVERSIZED, "sends a page")                                                               \
	X(ORDER, "sends reports of its youth")                                                     \
	X(UNKNOWN, "sends a report of no known type")                                              \
	X(FLOOD, "sends harmless reports without end")                                             \
	X(DEAF, "serves on")                                                                       \
	X(LIES, "says that it parked, and serves on")                                              \
	X(SPINS, "spins, and says nothing")                                                        \
	X(WRITES, "writes to the image without end")                                               \
	X(CALLS, "makes a forbidden call")                                                         \
	X(CRASHES, "reads address 0")                                                              \
	X(EXITS, "exits")                                                                          \
	X(GARBAGE, "parks with a record of noise")                                                 \
	X(RANGE, "parks with a record one value of which is out of range")                         \
	X(LONG, "parks and says that its record is a page long")                                   \
	X(LENGTH, "says that it parked with a record longer than can be")                          \
	X(UNREAD, "says that it parked, then reads QUIESCE, and spins")                            \
	X(SYNCS, "asks for an answer that crosses QUIESCE, waits for it, then parks")              \
	X(SYNC_UNHEARD, "the same, but says that it parked before it hears the answer")            \
	X(SYNC_LATE, "asks for an answer once it has said that it parked, hears it, and spins")    \
	X(NO_BYTES, "says that it parked, and reads no bytes of what is not there, on and on")     \
	X(RANDOM, "from activation on plays a random sequence of deeds: deeds.h")

enum rogue_behaviour {
#define ROGUE_ENUM(NAME, text) ROGUE_##NAME,
	ROGUE_BEHAVIOURS(ROGUE_ENUM)
#undef ROGUE_ENUM
		ROGUE_BEHAVIOUR_COUNT
};

#define ROGUE_PAGE_GPA 0 /* which guest memory never hands out */
#define ROGUE_SLOTS 8
#define ROGUE_BEATS 32 /* generation n has place n % ROGUE_BEATS */

struct rogue_slot {
	/* The test writes. */
	uint64_t used_gpa;  /* of queue 0: which device this slot is about; 0: none */
	uint32_t behaviour; /* enum rogue_behaviour, looked at when QUIESCE comes */
	uint32_t pad;
	/* The programs write. */
	uint64_t activations;
	uint64_t misdeeds;    /* begun */
	uint64_t two_active;  /* steps of another generation that an active one saw */
	uint64_t two_writing; /* the same, of its mark in the image's last sector */
	uint64_t beats[ROGUE_BEATS];
	uint64_t sequence; /* RANDOM: the last that was begun */
	uint64_t honest;   /* RANDOM: the last generation that had none to play */
};

/* What all that play at random have in common. */
struct rogue_dice {
	/* The test writes. */
	uint64_t limit;      /* the sequences below this are to be played */
	uint64_t wild_gpa;   /* guest memory that they may write into, .. */
	uint64_t wild_bytes; /* .. behind which is nothing that anybody uses */
	/* The programs write. */
	uint64_t next;                    /* sequence */
	uint64_t deeds[ROGUE_DEED_COUNT]; /* done */
};

struct rogue_page {
	struct rogue_slot slots[ROGUE_SLOTS];
	struct rogue_dice dice;
};

_Static_assert(sizeof(struct rogue_page) <= 4096, "one page");

#endif
