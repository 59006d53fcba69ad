/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A request is one writable buffer, its token the buffer's number.  Before it
 * is given away the buffer is filled with one byte value; behind it lie guard bytes of the same
 * value that belong to no request.
 */
#include "tests/rig/rngload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STALE_BYTE 0x5c
#define STALE_WORD 0x5c5c5c5c5c5c5c5cull
#define GUARD 64u

static uint64_t stride(const struct rngload *load)
{
	return (load->bytes + GUARD + 63u) & ~63ull;
}

int rngload_init(struct rngload *load, struct guestmem *mem, struct ringdrv_queue *ring,
		 uint16_t depth, uint32_t bytes)
{
	gpa_t gpa;

	memset(load, 0, sizeof(*load));
	if (depth == 0 || depth > ring->config.size)
		return -EINVAL;
	if (bytes < RNGLOAD_BYTES_MIN || bytes > RNGLOAD_BYTES_MAX)
		return -EINVAL;
	load->mem = mem;
	load->ring = ring;
	load->depth = depth;
	load->bytes = bytes;
	load->complaints.quiet = ring->config.quiet;
	int ret = guestmem_alloc(mem, depth * stride(load), 64, &gpa);

	if (ret == 0)
		ret = gaps_init(&load->gaps, 0);
	load->free = calloc(depth, sizeof(*load->free));
	if (ret != 0 || !load->free) {
		rngload_free(load);
		return ret ? ret : -ENOMEM;
	}
	load->buffers_gpa = gpa.raw;
	load->buffers = guestmem_ptr(mem, gpa, depth * stride(load));
	while (load->free_count < depth) {
		load->free[load->free_count] = load->free_count;
		load->free_count++;
	}
	return 0;
}

void rngload_free(struct rngload *load)
{
	gaps_free(&load->gaps);
	free(load->free);
	load->free = NULL;
	load->free_count = 0;
}

uint32_t rngload_fill(struct rngload *load)
{
	uint16_t first = load->free_count;

	while (load->free_count) {
		uint16_t at = load->free[load->free_count - 1];
		struct ringdrv_seg seg = { load->buffers_gpa + at * stride(load), load->bytes };
		struct ringdrv_chain chain = { .seg = &seg, .writable = 1, .token = at };

		memset(load->buffers + at * stride(load), STALE_BYTE, stride(load));
		if (ringdrv_add(load->ring, &chain) != 0)
			break;
		load->free_count--;
		load->stats.issued++;
	}
	if (load->free_count != first) {
		ringdrv_publish(load->ring);
		ringdrv_kick(load->ring);
	}
	return (uint32_t)(first - load->free_count);
}

/* NULL when the answer is right, else what is wrong. */
static const char *answer_wrong(struct rngload *load, const uint8_t *buffer, uint32_t len)
{
	uint64_t word;

	if (len == 0)
		return "no byte written";
	for (uint64_t i = len; i < stride(load); i++)
		if (buffer[i] != STALE_BYTE)
			return "bytes written past the used length";
	if (len < sizeof(word)) /* too short to tell chance from fault */
		return NULL;
	memcpy(&word, buffer, sizeof(word));
	if (word == STALE_WORD)
		return "the buffer was not written";
	if (word == load->last_word)
		return "the same answer twice";
	load->last_word = word;
	return NULL;
}

static void finish(struct rngload *load, const struct ringdrv_done *done)
{
	const char *wrong =
		answer_wrong(load, load->buffers + done->token * stride(load), done->len);

	if (wrong) {
		complaints_add(&load->complaints, "entropy: %s (%u)", wrong, done->len);
		load->stats.corrupted++;
	}
	load->free[load->free_count++] = (uint16_t)done->token;
	load->stats.completed++;
	load->stats.bytes += done->len;
}

int rngload_reap(struct rngload *load, uint64_t timeout_ns)
{
	struct ringdrv_done done;
	int count = 0, ret = ringdrv_wait(load->ring, timeout_ns);

	if (ret <= 0)
		return ret;
	ringdrv_disarm(load->ring);
	gaps_record(&load->gaps, gaps_now());
	while (ringdrv_reap(load->ring, &done)) {
		finish(load, &done);
		count++;
	}
	return count;
}

int rngload_step(struct rngload *load, uint64_t timeout_ns)
{
	rngload_fill(load);
	return rngload_reap(load, timeout_ns);
}

int rngload_drain(struct rngload *load, uint64_t timeout_ns)
{
	uint64_t begin = gaps_now(), spent = 0;

	while (load->free_count < load->depth && spent < timeout_ns) {
		int ret = rngload_reap(load, timeout_ns - spent);

		if (ret < 0)
			return ret;
		spent = gaps_now() - begin;
	}
	load->stats.lost = (uint64_t)(load->depth - load->free_count);
	return load->stats.lost ? -ETIMEDOUT : 0;
}

void rngload_stats(const struct rngload *load, struct rngload_stats *stats)
{
	*stats = load->stats;
	stats->lost += load->ring->stats.lost_calls;
	stats->duplicated += load->ring->stats.duplicated;
	stats->corrupted += load->ring->stats.corrupted;
}

bool rngload_clean(const struct rngload *load)
{
	struct rngload_stats stats;

	rngload_stats(load, &stats);
	return !stats.lost && !stats.duplicated && !stats.corrupted;
}
