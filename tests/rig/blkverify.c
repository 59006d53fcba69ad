/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  After a drain the shadow says what every sector must hold: it is compared
 * with what the device reads (the load's own step, with a sequential scan in place of the random
 * mix, so that every check of a read applies) or with the image file itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/rig/blkblock.h"
#include "tests/rig/blkreq.h"

#define SECTOR 512u
#define CHUNK (1u << 20)

int blkload_verify(struct blkload *load, uint64_t timeout_ns)
{
	uint64_t end = load->config.first_sector + load->config.sectors;
	int ret = 1;

	if (load->outstanding)
		return -EBUSY;
	load->scanning = true;
	load->stopped = false;
	load->scan_sector = load->config.first_sector;
	while (ret > 0 && (load->scan_sector != end || load->outstanding))
		ret = blkload_step(load, timeout_ns);
	load->scanning = false;
	if (ret > 0)
		load->stats.sectors_verified += load->config.sectors;
	return ret < 0 ? ret : blkload_drain(load, 0);
}

static int read_fully(int fd, uint8_t *buffer, size_t bytes, uint64_t off)
{
	while (bytes) {
		ssize_t got = pread(fd, buffer, bytes, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		buffer += got;
		off += (uint64_t)got;
		bytes -= (size_t)got;
	}
	return 0;
}

static void verify_chunk(struct blkload *load, const uint8_t *chunk, uint64_t first, uint64_t count)
{
	const uint64_t *block = (const uint64_t *)(const void *)chunk;

	for (uint64_t i = 0; i < count; i++, block += BLKBLOCK_WORDS)
		if (!blkreq_block_right(load, block, first + i, "image"))
			load->stats.corrupted++;
	load->stats.sectors_verified += count;
}

int blkload_verify_image(struct blkload *load, int fd)
{
	uint64_t sector = load->config.first_sector, end = sector + load->config.sectors;
	uint8_t *chunk = aligned_alloc(4096, CHUNK); /* the descriptor may be O_DIRECT */
	int ret = chunk ? 0 : -ENOMEM;

	if (load->outstanding)
		ret = -EBUSY;
	while (ret == 0 && sector < end) {
		uint64_t count = end - sector < CHUNK / SECTOR ? end - sector : CHUNK / SECTOR;

		ret = read_fully(fd, chunk, count * SECTOR, sector * SECTOR);
		if (ret == 0)
			verify_chunk(load, chunk, sector, count);
		sector += count;
	}
	free(chunk);
	return ret;
}
