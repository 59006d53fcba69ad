/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory goes back to the host: a hole in the memfd of its region, which unmaps the pages from the
 * VMM, from KVM and from every box.  The guest finds zeroes there when it touches them again.
 *
 * On any thread; the hole blocks for as long as the kernel takes (docs/benchmarks.md has figures).
 */
#ifndef MAYFLY_HOTPLUG_RELEASE_H
#define MAYFLY_HOTPLUG_RELEASE_H

#include <stdint.h>

#include "core/box/box.h"

/* A range of one region's memfd. */
struct release_hole {
	int fd;
	uint64_t offset, bytes; /* of whole pages of the region; bytes 0: there is none in it */
};

/* What may be punched for `pages` pages of RELEASE_PAGE bytes from gpa on, a box's word.  Pure.  0; -EPROTO:
 * not aligned, none, more than one release may be (devmodel/abi/message.h), or not wholly within one
 * region. */
int release_find(const struct box_memory *memory, uint64_t gpa, uint32_t pages,
		 struct release_hole *hole);

/* Punches it. Bytes released; -errno of fallocate. */
int64_t release_punch(const struct release_hole *hole);

#endif
