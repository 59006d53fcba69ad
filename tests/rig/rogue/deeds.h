/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rogue that plays at random can do: NAME, how often compared with others, what it does.
 * All that the policy lets a box do, with values of its own choice, and what it does not.
 */
#ifndef MAYFLY_RIG_ROGUE_DEEDS_H
#define MAYFLY_RIG_ROGUE_DEEDS_H

#define ROGUE_DEEDS(X)                                                                             \
	X(SERVE, serve, 30, "serves some requests, as it should")                                  \
	X(HEAR, hear, 30, "reads what the bell announced; answers truly, wrongly or not at all")   \
	X(REPORT, report, 4, "a report of a known type, with any values")                          \
	X(BABBLE, babble, 1, "a report of no known type")                                          \
	X(PONG, pong, 4, "PONG: of the last message, or of none")                                  \
	X(PARKED, parked, 4,                                                                       \
	  "PARKED: with the last nonce or another, lengths in and out of range")                   \
	X(BROKE, broke, 1, "BROKEN: a queue and an error that can be")                             \
	X(FLOOD, flood, 1, "reports up to thousands")                                              \
	X(WORD, word, 30, "writes a word of its state page")                                       \
	X(FIELD, field, 30, "writes a field of its state page: bell, served, busy, slots")         \
	X(RECORD, record, 15, "writes a state record: noise, or a good one with a flaw")           \
	X(DESC, desc, 20, "writes a descriptor")                                                   \
	X(AVAIL, avail, 15, "writes the avail ring, its flags or its event")                       \
	X(AVAIL_IDX, avail_idx, 4, "writes avail->idx")                                            \
	X(ELEMENT, element, 20, "writes a used element")                                           \
	X(USED_IDX, used_idx, 10, "writes used->idx: a little off, or anywhere")                   \
	X(EVENT, event, 10, "writes the used ring's flags and event")                              \
	X(PUSH, push, 20, "completes whatever it likes, as a device would")                        \
	X(MEMORY, memory, 20, "writes into guest memory that belongs to nobody else")              \
	X(CALL, call, 20, "signals the driver, any count")                                         \
	X(CALL_FULL, call_full, 8, "fills call eventfds")                                          \
	X(KICKS, kicks, 20, "takes kicks")                                                         \
	X(WRITE, write, 20, "writes to its backend")                                               \
	X(READ, read, 15, "reads its backend, to anywhere")                                        \
	X(PUNCH, punch, 10, "punches and zeroes its backend")                                      \
	X(FLUSH, flush, 5, "flushes its backend")                                                  \
	X(ODD_READ, odd_read, 5, "reads its control socket to nowhere, or no bytes of it")         \
	X(SPIN, spin, 15, "spins for a while")                                                     \
	X(SLEEP, sleep, 1, "sleeps until there is a kick or a message")                            \
	X(WAIT, wait, 1, "waits for a message, whether one will come or not")                      \
	X(CALLS, calls, 1, "makes any system call with any arguments")                             \
	X(CRASH, crash, 1, "dies of a fault")                                                      \
	X(EXIT, exit, 1, "exits, with any code")

enum rogue_deed {
#define ROGUE_DEED_ENUM(NAME, name, weight, text) ROGUE_DEED_##NAME,
	ROGUE_DEEDS(ROGUE_DEED_ENUM)
#undef ROGUE_DEED_ENUM
		ROGUE_DEED_COUNT
};

#endif
