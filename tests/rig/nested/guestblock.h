/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that describe themselves, of guestload.c and guestmemory.c: one that was lost, torn, misplaced, or is
 * from an earlier round, shows when it is looked at.
 */
#ifndef MAYFLY_RIG_NESTED_GUESTBLOCK_H
#define MAYFLY_RIG_NESTED_GUESTBLOCK_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

#define BLOCK 4096u
#define CHUNK_BLOCKS 32u /* the largest single write or read */
#define MAGIC 0x6d6179666c793031ull

struct block {
	uint64_t magic;
	uint64_t writer;
	uint64_t round;
	uint64_t number;
	uint64_t blocks; /* of the file */
	uint64_t body[BLOCK / 8 - 5];
};
_Static_assert(sizeof(struct block) == BLOCK, "a block is a block");

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

static void block_make(struct block *b, uint64_t writer, uint64_t round, uint64_t n,
		       uint64_t blocks)
{
	const uint64_t step = mix(writer << 48 ^ round << 16 ^ n) | 1;
	uint64_t word = step;

	*b = (struct block){ MAGIC, writer, round, n, blocks, { 0 } };
	for (size_t i = 0; i < sizeof(b->body) / sizeof(b->body[0]); i++, word += step)
		b->body[i] = word;
}

static bool block_holds(const struct block *b, uint64_t writer, uint64_t round, uint64_t n,
			uint64_t blocks)
{
	struct block want;

	block_make(&want, writer, round, n, blocks);
	return memcmp(b, &want, sizeof(want)) == 0;
}

/* What a read or write of n blocks returned, as an error number. */
static int transferred(ssize_t ret, unsigned int n)
{
	if (ret < 0)
		return errno;
	return (size_t)ret == (size_t)n * BLOCK ? 0 : EIO;
}

static struct block *buffer_make(unsigned int blocks)
{
	void *p = mmap(NULL, (size_t)blocks * BLOCK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

#endif
