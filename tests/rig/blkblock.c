/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A block is 64 words: its sector, the request number, then an arithmetic
 * sequence that starts at a hash of both, so that a block that is shifted, torn, stale or in the
 * wrong place differs in nearly every word, and filling and comparing run at memory speed.
 */
#include "tests/rig/blkblock.h"

#define STEP 0x9e3779b97f4a7c15ull
#define MIX 0xd6e8feb86659fd93ull

static uint64_t block_hash(uint64_t sector, uint64_t number)
{
	uint64_t x = (sector + 1) * STEP ^ number * MIX;

	x ^= x >> 32;
	return x * MIX;
}

void blkblock_fill(uint64_t *block, uint64_t sector, uint64_t number)
{
	uint64_t hash = block_hash(sector, number);

	block[0] = sector;
	block[1] = number;
	for (uint64_t i = 2; i < BLKBLOCK_WORDS; i++)
		block[i] = hash + i * STEP;
}

/* All differing bits, without a branch in the loop: the compiler makes vector code of it. */
static uint64_t body_differs(const uint64_t *block, uint64_t hash, uint64_t step)
{
	uint64_t bits = 0;

	for (uint64_t i = 2; i < BLKBLOCK_WORDS; i++)
		bits |= block[i] ^ (hash + i * step);
	return bits;
}

bool blkblock_matches(const uint64_t *block, uint64_t sector, uint64_t number, bool full)
{
	if (block[0] != (number ? sector : 0) || block[1] != number)
		return false;
	if (!full)
		return true;
	return body_differs(block, number ? block_hash(sector, number) : 0, number ? STEP : 0) == 0;
}
