/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/cc.h"
#include "core/memfd.h"
#include "core/vhost/memfile.h"
#include "devmodel/abi/launch.h"
#include "devmodel/abi/virtio.h"

/* The most that an entry and a header of any back-end take: ours are of the layout that all use. */
#define BUFFER_MAX (BOX_QUEUES_MAX * 64ull * VIRTQ_SIZE_MAX)

static uint64_t stride(uint32_t size)
{
	const uint64_t bytes = sizeof(struct vhost_user_inflight_queue) +
			       size * sizeof(struct vhost_user_inflight_desc);

	return (bytes + 63) / 64 * 64; /* a cache line, as others have it */
}

static int check_sizes(const struct vhost_user_inflight *i, uint32_t queues)
{
	return i->queues == 0 || i->queues > queues || i->queue_size == 0 ||
			       i->queue_size > VIRTQ_SIZE_MAX
		       ? -EINVAL
		       : 0;
}

int inflight_make(const struct vhost_user_inflight *wanted, uint32_t queues,
		  struct vhost_user_inflight *answer, int *fd)
{
	const struct vhost_user_inflight_queue head = { .version = VHOST_USER_INFLIGHT_VERSION,
							.desc_num = wanted->queue_size };
	cleanup_fd int file = -1;
	uint64_t step;

	if (check_sizes(wanted, queues) != 0)
		return -EINVAL;
	step = stride(wanted->queue_size);
	file = memfd_make("inflight", 0, step * wanted->queues,
			  F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	if (file < 0)
		return file;
	for (uint32_t i = 0; i < wanted->queues; i++) {
		if (pwrite(file, &head, sizeof(head), (off_t)(step * i)) != sizeof(head))
			return -EIO;
	}
	*answer = *wanted;
	answer->mmap_bytes = step * wanted->queues;
	answer->mmap_offset = 0;
	*fd = cc_take_fd(&file);
	return 0;
}

static int fail(int ret, const char **why, const char *text)
{
	*why = text;
	return ret;
}

static int check_queue(const uint8_t *bytes, uint32_t size, const char **why)
{
	const struct vhost_user_inflight_queue *queue =
		(const struct vhost_user_inflight_queue *)bytes;

	if (queue->version > VHOST_USER_INFLIGHT_VERSION)
		return fail(-EINVAL, why, "a buffer of a version that nobody knows");
	if (queue->version != 0 && queue->desc_num != size)
		return fail(-EINVAL, why, "a buffer for rings of another size");
	for (uint32_t i = 0; queue->version != 0 && i < size; i++) {
		if (queue->desc[i].inflight != 0)
			return fail(
				-EBUSY, why,
				"another back-end's requests are in flight: let it finish them");
	}
	return 0;
}

/* A copy is looked at: the front-end has the file as well. */
int inflight_check(const struct vhost_user_inflight *kept, uint32_t queues, int fd,
		   const char **why)
{
	cleanup_free uint8_t *copy = NULL;
	uint64_t page_bytes;
	int ret = 0;

	if (check_sizes(kept, queues) != 0 || kept->mmap_bytes > BUFFER_MAX ||
	    kept->mmap_bytes % (8ull * kept->queues) != 0 ||
	    kept->mmap_bytes / kept->queues < stride(kept->queue_size) - 63 ||
	    kept->mmap_offset > INT64_MAX - kept->mmap_bytes)
		return fail(-EINVAL, why, "a buffer of a size that is none");
	if (memfile_check(fd, kept->mmap_offset + kept->mmap_bytes, &page_bytes, why) != 0)
		return -EBADF;
	copy = malloc(kept->mmap_bytes);
	if (copy == NULL)
		return fail(-ENOMEM, why, "out of memory");
	if (pread(fd, copy, kept->mmap_bytes, (off_t)kept->mmap_offset) !=
	    (ssize_t)kept->mmap_bytes)
		return fail(-EBADF, why, "its buffer is shorter than it says");
	for (uint32_t i = 0; i < kept->queues && ret == 0; i++)
		ret = check_queue(copy + kept->mmap_bytes / kept->queues * i, kept->queue_size,
				  why);
	return ret;
}
