/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a memory region, proven: what was its memfd is emptied, sealed against writing, and looked
 * for in every process that this one may look into.  docs/hotplug.md says what each part proves.
 */
#ifndef MAYFLY_HOTPLUG_REVOKE_H
#define MAYFLY_HOTPLUG_REVOKE_H

#include <stdbool.h>
#include <stdint.h>

struct revoke_proof {
	bool sealed; /* F_SEAL_WRITE was taken: no process has it mapped writable, none ever will */
	uint64_t blocks; /* of 512 bytes that it still has, after the last was punched out */
	uint32_t maps;   /* mappings of it in /proc/PID/maps .. */
	uint32_t fds;    /* .. and descriptors in /proc/PID/fd, beside `fd` itself */
	uint32_t hidden; /* processes of other users that could not be looked into */
};

/* fd stays the caller's.  Blocks as long as /proc takes to read.  0; -EBUSY: somebody has it mapped, and
 * nothing was sealed; or another -errno of fallocate(2), fcntl(2), open(2) of /proc. */
int revoke_region(int fd, struct revoke_proof *proof);

/* The same of what lies from `from` on, a multiple of its pages, in a memfd that goes on being used: punched out,
 * and looked for in what others have mapped.  There is no seal for a part: `sealed` and `fds` stay 0.  0 or
 * -errno. */
int revoke_tail(int fd, uint64_t from, struct revoke_proof *proof);

/* Nobody can reach it. */
static inline bool revoke_holds(const struct revoke_proof *proof)
{
	return proof->sealed && proof->blocks == 0 && proof->maps == 0 && proof->fds == 0;
}

#endif
