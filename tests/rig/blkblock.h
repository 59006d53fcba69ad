/* SPDX-License-Identifier: Apache-2.0 */
/* The content of one 512-byte block: says which sector it belongs to and which request wrote it. */
#ifndef MAYFLY_RIG_BLKBLOCK_H
#define MAYFLY_RIG_BLKBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define BLKBLOCK_WORDS 64 /* of 8 bytes */

/* The block that request `number` (from 1) writes to `sector`. */
void blkblock_fill(uint64_t *block, uint64_t sector, uint64_t number);

/* Whether it is that block; number 0: all zeroes.  Not full: only its first two words count. */
bool blkblock_matches(const uint64_t *block, uint64_t sector, uint64_t number, bool full);

#endif
