/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of device model. One line a kind: NAME, name, virtio device id (virtio 1.2 section 5; 0
 * for a register device), queues that carry requests from the driver (a bit each; on the others it
 * only offers room).  The numbers travel in launch records and state envelopes: append only.
 */
#ifndef MAYFLY_ABI_KINDS_H
#define MAYFLY_ABI_KINDS_H

#include <stdbool.h>
#include <stdint.h>

#define DEV_KINDS(X)                                                                               \
	X(BLK, blk, 2, 0xffff)                                                                     \
	X(RNG, rng, 4, 0)                                                                          \
	X(CONSOLE, console, 3, 2)                                                                  \
	X(SERIAL, serial, 0, 0)                                                                    \
	X(BALLOON, balloon, 5, 3)                                                                  \
	X(MEM, mem, 24, 1)

enum dev_kind {
#define DEV_KIND_ENUM(NAME, name, virtio_id, outward) DEV_KIND_##NAME,
	DEV_KINDS(DEV_KIND_ENUM)
#undef DEV_KIND_ENUM
		DEV_KIND_COUNT
};

/* Whether the driver asks for something on this queue, so that work left undone there is a fault. */
static inline bool dev_kind_is_outward(uint32_t kind, uint32_t queue)
{
	static const uint32_t outward[DEV_KIND_COUNT] = {
#define DEV_KIND_OUTWARD(NAME, name, virtio_id, outward) outward,
		DEV_KINDS(DEV_KIND_OUTWARD)
#undef DEV_KIND_OUTWARD
	};

	return kind < DEV_KIND_COUNT && queue < 32 && (outward[kind] >> queue & 1) != 0;
}

#endif
