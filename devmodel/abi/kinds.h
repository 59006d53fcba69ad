/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of device model. One line a kind: NAME, name, virtio device id (virtio 1.2 section 5),
 * 0 for a register device.  The numbers travel in launch records and state envelopes: append only.
 */
#ifndef MAYFLY_ABI_KINDS_H
#define MAYFLY_ABI_KINDS_H

#define DEV_KINDS(X)                                                                               \
	X(BLK, blk, 2)                                                                             \
	X(RNG, rng, 4)                                                                             \
	X(CONSOLE, console, 3)                                                                     \
	X(SERIAL, serial, 0)

enum dev_kind {
#define DEV_KIND_ENUM(NAME, name, virtio_id) DEV_KIND_##NAME,
	DEV_KINDS(DEV_KIND_ENUM)
#undef DEV_KIND_ENUM
		DEV_KIND_COUNT
};

#endif
