/* SPDX-License-Identifier: Apache-2.0 */
/* Chance of a rogue that plays at random: all of it comes from the number of its sequence. */
#ifndef MAYFLY_RIG_ROGUE_DICE_H
#define MAYFLY_RIG_ROGUE_DICE_H

#include <stdbool.h>

#include "tests/rig/rogue/act.h"

struct player {
	struct rogue *r;
	struct rogue_dice *dice;
	uint64_t random;
	bool plays; /* else: as it should */
	bool told;  /* ACTIVATED */
	uint8_t bytes[512];
};

/* splitmix64: neighbouring seeds have nothing in common. */
static inline uint64_t dice_roll(struct player *p)
{
	uint64_t x = p->random += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static inline uint64_t dice_below(struct player *p, uint64_t n)
{
	return dice_roll(p) % n;
}

static inline bool dice_one_in(struct player *p, uint64_t n)
{
	return dice_below(p, n) == 0;
}

/* A number: any, small, or next to a power of two, where mistakes live. */
static inline uint64_t dice_number(struct player *p)
{
	switch (dice_below(p, 4)) {
	case 0:
		return dice_roll(p);
	case 1:
		return dice_below(p, 20);
	case 2:
		return 0 - dice_below(p, 20);
	default:
		return (1ull << dice_below(p, 64)) - 2 + dice_below(p, 5);
	}
}

/* deeds.c: one deed. */
void deed_do(struct player *p, enum rogue_deed deed);
/* QUIESCE was read: what it does then.  Returns, if it goes on. */
void deed_quiesce(struct player *p);
/* One of those of enum rogue_deed, by weight, among those whose bit is set. */
enum rogue_deed deed_choose(struct player *p, uint64_t among);

#endif
