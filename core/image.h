/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk image or block device, opened once by the VMM and handed to the boxes of its device: raw,
 * never probed for a format, locked against other VMMs, from the start or (IMAGE_LOCK_LATER) at times.
 */
#ifndef MAYFLY_CORE_IMAGE_H
#define MAYFLY_CORE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_WHY_MAX 320

struct image {
	int fd; /* owned */
	uint64_t bytes;
	uint32_t align; /* of offsets, lengths and memory; 1 without direct */
	bool readonly;
	bool direct;
	bool block; /* a block device */
};

struct image_config {
	const char *path;
	bool readonly; /* O_RDONLY, and a lock that other readers may share */
	bool direct;   /* O_DIRECT */
	/* So long a lock that another has is waited for; 0: not at all.  Then a thread is made, and gone on
	 * return. */
	uint32_t lock_ms;
};

#define IMAGE_LOCK_LATER UINT32_MAX /* lock_ms: not locked; the size is what it is just now */

/*
 * Opens and, as lock_ms says, locks it.  0, or -errno and in `why` one line that names the path and what to do:
 *   -ENOENT, -EACCES, ..  as open(2) has it
 *   -EINVAL  neither a regular file nor a block device; a size that is 0 or no multiple of 512;
 *            with direct: no direct I/O there, or a size or alignment that does not suit it
 *   -EBUSY   locked: by another VMM, or by a box of one that has just died (it will be gone soon)
 *   -ENOLCK  the file system cannot lock
 * May block as open(2) and stat(2) do, and for the lock no longer than lock_ms.  On failure nothing needs to be closed.
 */
int image_open(struct image *image, const struct image_config *config, char why[IMAGE_WHY_MAX]);

/* Looks again how large it is, after whoever it belongs to has made it larger or smaller.  0, or as
 * image_open(), the image being what it was. */
int image_refresh(struct image *image, const struct image_config *config, char why[IMAGE_WHY_MAX]);

/* The lock by itself; once more is no error.  Does not block.  0; -EBUSY: another has it; -errno. */
int image_lock(const struct image *image);
/* Lets others have it: for when nobody who has the descriptor, boxes included, has anything to do with it.  0 or
 * -errno: it is locked still. */
int image_unlock(const struct image *image);

/* May be called twice.  The lock, if there is one, stays until the last box that has the descriptor is gone. */
void image_close(struct image *image);

#endif
