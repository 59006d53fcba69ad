/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guestload memory: memory that is filled with blocks that describe themselves, and goes to a disk and back by
 * requests whose buffers it is itself.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/rig/nested/guestblock.h"
#include "tests/rig/nested/guestmemory.h"

#define MEMORY_WRITER 1000u
#define MEMORY_DISK_BLOCKS 4096u /* of it at most, or a quarter, go to the disk and come back */
#define NICENESS (-10)           /* as the hammers, which would leave it little */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_PFN ((UINT64_C(1) << 55) - 1)

static uint64_t memory_wrong(const struct block *memory, unsigned int blocks)
{
	uint64_t wrong = 0;

	for (unsigned int i = 0; i < blocks; i++)
		wrong += !block_holds(&memory[i], MEMORY_WRITER, 1, i, blocks);
	return wrong;
}

/* One request after another, whose buffers are the memory itself. 0 or an error number. */
static int memory_move(struct block *memory, unsigned int blocks, int fd, bool out)
{
	int ret = 0;

	for (unsigned int at = 0; at < blocks && ret == 0; at += CHUNK_BLOCKS) {
		const off_t place = (off_t)at * BLOCK;

		ret = transferred(out ? pwrite(fd, &memory[at], CHUNK_BLOCKS * BLOCK, place)
				      : pread(fd, &memory[at], CHUNK_BLOCKS * BLOCK, place),
				  CHUNK_BLOCKS);
	}
	return ret;
}

/* All of it goes before any of it returns: between the last write to a page by the guest itself and the device's lies
 * as much time as there is, which is when a migration may copy the page. */
static int memory_to_disk(struct block *memory, unsigned int blocks, const char *path)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	int ret = fd < 0 ? errno : memory_move(memory, blocks, fd, true);

	memset(memory, 0, (size_t)blocks * BLOCK);
	if (ret == 0)
		ret = memory_move(memory, blocks, fd, false);
	if (fd >= 0)
		close(fd);
	unlink(path);
	return ret;
}

/* How many of these blocks lie above 4 GiB of the machine's memory: 0 where the kernel does not say. */
static unsigned int memory_high(const struct block *memory, unsigned int blocks)
{
	const int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned int high = 0;

	for (unsigned int i = 0; i < blocks && fd >= 0; i++) {
		uint64_t entry = 0;

		if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)&memory[i] / BLOCK * 8)) !=
		    sizeof(entry))
			break;
		high += (entry & PAGEMAP_PRESENT) != 0 &&
			(entry & PAGEMAP_PFN) >= (UINT64_C(1) << 32) / BLOCK;
	}
	if (fd >= 0)
		close(fd);
	return high;
}

int guestmemory(unsigned int mib, const char *path)
{
	const unsigned int blocks = mib * (1048576 / BLOCK);
	const unsigned int disk_blocks =
		blocks / 4 < MEMORY_DISK_BLOCKS ? blocks / 4 : MEMORY_DISK_BLOCKS;
	struct block *memory = buffer_make(blocks), *part = &memory[blocks - disk_blocks];
	unsigned int high;
	uint64_t wrong;
	int ret;

	if (setpriority(PRIO_PROCESS, 0, NICENESS) != 0)
		printf("guestload: priority: %s\n", strerror(errno));
	for (unsigned int i = 0; i < blocks; i++)
		block_make(&memory[i], MEMORY_WRITER, 1, i, blocks);
	high = memory_high(part, disk_blocks);
	ret = memory_to_disk(part, disk_blocks, path);
	if (ret != 0)
		printf("guestload: %s: %s\n", path, strerror(ret));
	wrong = memory_wrong(memory, blocks);
	printf("DEMO-GUEST: memory mib=%u wrong=%" PRIu64 " disk=%s high_kib=%u\n", mib, wrong,
	       ret == 0 ? "ok" : "errors", high * (BLOCK / 1024));
	return ret != 0 || wrong != 0;
}
