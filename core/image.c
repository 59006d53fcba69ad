/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock is an open-file-description lock (F_OFD_SETLK), exclusive, or shared for a read-only
 * image.  It belongs to what open() made, not to this process: every descriptor that was sent to
 * the spawner and on to a box is another name for the same description.  So the lock outlives a VMM
 * that was killed exactly as long as one of its boxes could still write, and whoever gets it next
 * knows that nobody else can.  (But for a vhost-user device that its guest has migrated away from, which
 * has let go of it and has the image open still: core/vhost/service.h.  A lock of the process, F_SETLK or one by flock() on a descriptor of
 * its own, would say nothing about the boxes.)
 *
 * The lock is advisory, as all are, and of the inode: two device nodes of one disk, or a file
 * reached by two network mounts, are not seen to be the same.
 */
#include "core/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "core/cc.h"
#include "devmodel/abi/config.h"

#define IMAGE_ALIGN_MAX 4096 /* the most that blk bounces */

#define FAIL(error, ...)                                                                           \
	do {                                                                                       \
		snprintf(why, IMAGE_WHY_MAX, __VA_ARGS__);                                         \
		return -(error);                                                                   \
	} while (0)

static int fail_open(const struct image_config *c, int error, char *why)
{
	switch (error) {
	case ENOENT:
		FAIL(error, "%s does not exist: create it first, for example with truncate -s 10G",
		     c->path);
	case EACCES:
	case EPERM:
		FAIL(error, "%s: not permitted to %s it: %s", c->path,
		     c->readonly ? "read" : "write",
		     c->readonly ? "give this user the right to"
				 : "give this user the right to, or use it read-only");
	case EROFS:
		FAIL(error, "%s is on a read-only file system: use it read-only", c->path);
	case ETXTBSY:
		FAIL(error, "%s is in use as a program or as swap", c->path);
	case EISDIR:
		FAIL(EINVAL, "%s is a directory: a disk is a regular file or a block device",
		     c->path);
	case ENXIO:
		FAIL(EINVAL, "%s is not a disk: a disk is a regular file or a block device",
		     c->path);
	case EINVAL:
		if (c->direct)
			FAIL(error, "%s: its file system has no direct I/O: leave direct off",
			     c->path);
		__attribute__((fallthrough));
	default:
		FAIL(error, "%s cannot be opened: %s", c->path, strerror(error));
	}
}

/* What is at the path may be a FIFO or a tape: O_NONBLOCK so that opening it does not hang. */
static int open_it(const struct image_config *c, int *out, char *why)
{
	const int flags = (c->readonly ? O_RDONLY : O_RDWR) | (c->direct ? O_DIRECT : 0);
	cleanup_fd int fd = open(c->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return fail_open(c, errno, why);
	if (fcntl(fd, F_SETFL, flags) != 0)
		return fail_open(c, errno, why);
	*out = cc_take_fd(&fd);
	return 0;
}

static int find_type(struct image *image, const struct image_config *c, char *why)
{
	struct stat st;

	if (fstat(image->fd, &st) != 0)
		return fail_open(c, errno, why);
	image->block = S_ISBLK(st.st_mode);
	if (!image->block && !S_ISREG(st.st_mode))
		FAIL(EINVAL, "%s is not a disk: a disk is a regular file or a block device",
		     c->path);
	return 0;
}

static int find_size(struct image *image, const struct image_config *c, const struct stat *st,
		     char *why)
{
	image->bytes = (uint64_t)st->st_size;
	if (image->block && ioctl(image->fd, BLKGETSIZE64, &image->bytes) != 0)
		FAIL(errno, "%s: its size cannot be found: %s", c->path, strerror(errno));
	if (image->bytes == 0)
		FAIL(EINVAL, "%s is empty: give it a size, for example with truncate -s 10G",
		     c->path);
	if (image->bytes % BLK_SECTOR != 0)
		FAIL(EINVAL, "%s has %" PRIu64 " bytes, which is no multiple of %u: %s", c->path,
		     image->bytes, BLK_SECTOR, "is it a raw image, and whole?");
	return 0;
}

/* What O_DIRECT wants: what statx says (6.1), else the logical block size, else, for a file, its
 * file system's block size, which is a multiple of that. */
static uint32_t probe_align(const struct image *image, const struct stat *st)
{
	int logical = 0;
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) != 0)
		return stx.stx_dio_mem_align > stx.stx_dio_offset_align ? stx.stx_dio_mem_align
									: stx.stx_dio_offset_align;
#endif
	if (image->block && ioctl(image->fd, BLKSSZGET, &logical) == 0 && logical > 0)
		return (uint32_t)logical;
	return st->st_blksize > 0 && st->st_blksize < UINT32_MAX ? (uint32_t)st->st_blksize
								 : IMAGE_ALIGN_MAX;
}

static int find_align(struct image *image, const struct image_config *c, const struct stat *st,
		      char *why)
{
	image->align = 1;
	if (!c->direct)
		return 0;
	image->align = probe_align(image, st);
	/* 0: statx knows, and there is none on this file. */
	if (image->align == 0)
		FAIL(EINVAL, "%s: its file system has no direct I/O: leave direct off", c->path);
	if (image->align < BLK_SECTOR)
		image->align = BLK_SECTOR;
	if (image->align > IMAGE_ALIGN_MAX || (image->align & (image->align - 1)) != 0)
		FAIL(EINVAL, "%s: direct I/O there is in units of %u bytes: leave direct off",
		     c->path, image->align);
	if (image->bytes % image->align != 0)
		FAIL(EINVAL,
		     "%s has %" PRIu64 " bytes, which is no multiple of %u, as direct I/O wants: "
		     "leave direct off",
		     c->path, image->bytes, image->align);
	return 0;
}

/* A lock that may have to be waited for. */
struct lock_wait {
	int fd;
	struct flock lock;
	int error;
};

static void *wait_for_lock(void *arg)
{
	struct lock_wait *w = arg;

	/* A cancellation point: what ends the wait when it has been long enough. */
	w->error = fcntl(w->fd, F_OFD_SETLKW, &w->lock) == 0 ? 0 : -errno;
	return NULL;
}

/* It goes with the last process that has the other's descriptor, which may take a moment to die.  0, -EBUSY or
 * -errno. */
static int lock_within(struct lock_wait *w, uint32_t ms)
{
	const uint64_t end = now_ns() + ms * NS_PER_MS;
	const struct timespec at = { (time_t)(end / NS_PER_S), (long)(end % NS_PER_S) };
	pthread_t thread;

	w->error = -EBUSY;
	if (ms == 0 || pthread_create(&thread, NULL, wait_for_lock, w) != 0)
		return -EBUSY;
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &at) != 0) {
		pthread_cancel(thread);
		pthread_join(thread, NULL);
	}
	return w->error;
}

static struct flock lock_of(const struct image *image)
{
	return (struct flock){ .l_type = image->readonly ? F_RDLCK : F_WRLCK,
			       .l_whence = SEEK_SET };
}

int image_lock(const struct image *image)
{
	struct flock lock = lock_of(image);

	if (fcntl(image->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int image_unlock(const struct image *image)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	return fcntl(image->fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

static int lock_it(const struct image *image, const struct image_config *c, char *why)
{
	struct lock_wait w = { .fd = image->fd, .lock = lock_of(image) };
	int ret = c->lock_ms == IMAGE_LOCK_LATER ? 0 : image_lock(image);

	if (ret == -EBUSY)
		ret = lock_within(&w, c->lock_ms);
	if (ret == -EBUSY)
		FAIL(EBUSY, "%s is locked: another VMM uses it%s", c->path,
		     c->readonly ? ", and may write" : "");
	if (ret != 0)
		FAIL(-ret, "%s cannot be locked: %s", c->path, strerror(-ret));
	return 0;
}

int image_open(struct image *image, const struct image_config *config, char why[IMAGE_WHY_MAX])
{
	struct stat st;
	int ret;

	*image = (struct image){ .fd = -1, .readonly = config->readonly, .direct = config->direct };
	why[0] = '\0';
	ret = open_it(config, &image->fd, why);
	if (ret == 0)
		ret = find_type(image, config, why);
	if (ret == 0)
		ret = lock_it(image, config, why);
	/* Only now: while it is locked nobody who keeps to the lock resizes it. */
	if (ret == 0 && fstat(image->fd, &st) != 0)
		ret = fail_open(config, errno, why);
	if (ret == 0)
		ret = find_size(image, config, &st, why);
	if (ret == 0)
		ret = find_align(image, config, &st, why);
	if (ret != 0)
		image_close(image);
	return ret;
}

int image_refresh(struct image *image, const struct image_config *config, char why[IMAGE_WHY_MAX])
{
	struct image now = *image;
	struct stat st;
	int ret;

	why[0] = '\0';
	if (fstat(now.fd, &st) != 0)
		return fail_open(config, errno, why);
	ret = find_size(&now, config, &st, why);
	if (ret == 0)
		ret = find_align(&now, config, &st, why);
	if (ret == 0)
		*image = now;
	return ret;
}

void image_close(struct image *image)
{
	cc_close(&image->fd);
}
