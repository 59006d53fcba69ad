/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * Guest memory as a hostile driver may write it: the virtqueue walk and the blk device on top.  The
 * input says where the rings are, what was negotiated, and what is in memory; the device then
 * serves a first pass and some more.  Around each region nothing is mapped, so a touch outside it
 * ends the run, and so does anything of this: a pass that does not end, a request that is done
 * and not counted, an image whose size changed, a queue that is broken without saying why.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/common/dev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define A_GPA 0x10000u
#define A_BYTES 0x10000u
#define B_GPA (A_GPA + A_BYTES) /* follows A for the guest, not here */
#define B_BYTES 0x4000u
#define IMAGE_BYTES 0x8000u
#define MORE_REQUESTS 64 /* after the first pass */

/* What an input begins with; the rest is the memory, from A_GPA on. */
struct head {
	uint16_t size;
	uint16_t next;
	uint32_t desc_gpa;
	uint32_t avail_gpa;
	uint32_t used_gpa;
	uint8_t features; /* HEAD_* */
	uint8_t flags;    /* BLK_* */
	uint8_t align_shift;
	uint8_t pad;
};
enum { HEAD_INDIRECT = 1, HEAD_EVENT_IDX = 2 };

static struct launch_record launch;

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

static uint64_t guarded(uint64_t bytes)
{
	uint8_t *p = mmap(NULL, bytes + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED);
	MUST(!mprotect(p + 4096, bytes, PROT_READ | PROT_WRITE));
	return (uint64_t)(uintptr_t)p + 4096;
}

static void setup(void)
{
	launch.kind = DEV_KIND_BLK;
	launch.queues = 1;
	launch.backends = 1;
	launch.fd_backend = (uint16_t)memfd_create("image", MFD_CLOEXEC);
	launch.fd_kick = (uint16_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	launch.fd_call = (uint16_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	launch.config.blk.bytes = IMAGE_BYTES;
	memcpy(launch.config.blk.id, "fuzzed", 6);
	launch.map.count = 2;
	launch.map.regions[0] = (struct mem_region){ A_GPA, A_BYTES, guarded(A_BYTES) };
	launch.map.regions[1] = (struct mem_region){ B_GPA, B_BYTES, guarded(B_BYTES) };
}

/* The same start for the same input: memory and image are written anew. */
static void reset(const uint8_t *data, size_t size)
{
	uint8_t *a = (uint8_t *)(uintptr_t)launch.map.regions[0].addr;
	uint8_t *b = (uint8_t *)(uintptr_t)launch.map.regions[1].addr;
	static uint8_t image[IMAGE_BYTES];
	size_t first = size < A_BYTES ? size : A_BYTES;
	size_t second = size - first < B_BYTES ? size - first : B_BYTES;

	memset(a, 0, A_BYTES);
	memset(b, 0, B_BYTES);
	memcpy(a, data, first);
	memcpy(b, data + first, second);
	memset(image, 0x11, sizeof(image));
	MUST(pwrite(launch.fd_backend, image, sizeof(image), 0) == (ssize_t)sizeof(image));
}

/* At most `most` requests. How many were done. */
static uint32_t serve(struct dev *dev, struct virtq *q, uint32_t most)
{
	uint32_t done = 0;

	while (done < most) {
		uint16_t before = q->next;

		switch (dev_program.serve(dev, q)) {
		case SERVE_DONE:
			done++;
			MUST(q->next == (uint16_t)(before + 1));
			break;
		case SERVE_BROKEN:
			MUST(q->error != RING_ERROR_NONE && q->next == before);
			return done;
		case SERVE_IDLE:
			MUST(q->error == RING_ERROR_NONE && q->next == before);
			return done;
		case SERVE_BLOCKED: /* no limit is set */
		case SERVE_ENDED:   /* and nothing is asked of the VMM */
			abort();
		}
	}
	return done;
}

static void run(const struct head *head)
{
	const struct ctl_queue cfg = { .desc_gpa = head->desc_gpa,
				       .avail_gpa = head->avail_gpa,
				       .used_gpa = head->used_gpa,
				       .size = head->size,
				       .next = head->next };
	static struct dev dev;
	struct virtq *q = &dev.queues[0];
	uint64_t features = 0;

	if (head->features & HEAD_INDIRECT)
		features |= 1ull << VIRTIO_F_RING_INDIRECT_DESC;
	if (head->features & HEAD_EVENT_IDX)
		features |= 1ull << VIRTIO_F_RING_EVENT_IDX;
	memset(&dev, 0, sizeof(dev));
	dev.launch = &launch;
	if (dev_program.init(&dev))
		return;
	q->fd_kick = launch.fd_kick;
	q->fd_call = launch.fd_call;
	if (virtq_init(q, &launch.map, &cfg, features))
		return;
	dev_program.activate(&dev);
	if (virtq_activate(q))
		return;
	MUST(serve(&dev, q, VIRTQ_SIZE_MAX + 1) <= cfg.size);
	q->limited = false;
	virtq_disarm(q);
	serve(&dev, q, MORE_REQUESTS);
	virtq_arm(q);
	dev_program.quiesce(&dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct head head;
	struct stat st;

	if (size < sizeof(head))
		return -1;
	if (!launch.queues)
		setup();
	memcpy(&head, data, sizeof(head));
	launch.config.blk.flags = head.flags & (BLK_READONLY | BLK_DIRECT | BLK_FLUSH);
	launch.config.blk.align = 1u << (head.align_shift & 15);
	reset(data + sizeof(head), size - sizeof(head));
	run(&head);
	MUST(!fstat(launch.fd_backend, &st) && st.st_size == IMAGE_BYTES);
	return 0;
}
