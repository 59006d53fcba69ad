/* SPDX-License-Identifier: Apache-2.0 */
/* dev: balloon */
/*
 * A balloon's queue as a hostile driver may write it: page numbers, page ranges, statistics.  The input
 * says which queue it is, where its rings are, what was negotiated, and what is in memory.  What the
 * device then tells the VMM must be what message.h allows, and no request may be published before the
 * VMM has answered for its pages.  Around each region nothing is mapped.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/balloon/state.h"
#include "devmodel/common/dev.h"
#include "tests/fuzz/fuzz.h"

#define A_GPA 0x10000u
#define A_BYTES 0x10000u
#define B_GPA (A_GPA + A_BYTES) /* follows A for the guest, not here */
#define B_BYTES 0x4000u
#define B_PAGE 0x2000u /* of the host's, as if they were large */
#define POLLS 4

/* What an input begins with; the rest is the memory, from A_GPA on. */
struct head {
	uint16_t size;
	uint16_t next;
	uint32_t desc_gpa;
	uint32_t avail_gpa;
	uint32_t used_gpa;
	uint8_t features; /* HEAD_* */
	uint8_t queue;
};
enum {
	HEAD_INDIRECT = 1,
	HEAD_EVENT_IDX = 2,
	HEAD_STATS = 4,
	HEAD_REPORTING = 8,
	HEAD_REFUSE = 16
};

static struct launch_record launch;
static uint32_t unsynced, stats;

/* ---- the VMM ---- */

static void check_release(uint64_t gpa, uint32_t pages)
{
	const uint64_t bytes = (uint64_t)pages * RELEASE_PAGE;

	FUZZ_CHECK(pages != 0 && gpa % RELEASE_PAGE == 0);
	FUZZ_CHECK(gpa_span(&launch.map, gpa_make(gpa), bytes) != NULL); /* within one region */
	FUZZ_CHECK(pages <= RELEASE_PAGES_MAX);
	FUZZ_CHECK(++unsynced <= RELEASES_PER_SYNC);
}

int dev_report(struct dev *dev, enum report_type type, uint32_t value, uint64_t detail)
{
	(void)dev;
	if (type == REPORT_RELEASE) {
		check_release(detail, value);
	} else {
		FUZZ_CHECK(type == REPORT_STAT && value < BALLOON_STAT_COUNT);
		FUZZ_CHECK(++stats <= STATS_PER_POLL);
	}
	return 0;
}

int dev_sync(struct dev *dev)
{
	(void)dev;
	FUZZ_CHECK(unsynced != 0);
	unsynced = 0;
	return 0;
}

/* ---- memory ---- */

static uint64_t guarded(uint64_t bytes)
{
	uint8_t *p = mmap(NULL, bytes + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FUZZ_CHECK(p != MAP_FAILED && mprotect(p + 4096, bytes, PROT_READ | PROT_WRITE) == 0);
	return (uint64_t)(uintptr_t)p + 4096;
}

static void setup(void)
{
	launch.kind = DEV_KIND_BALLOON;
	launch.queues = 4;
	launch.fd_kick = (uint16_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	launch.fd_call = (uint16_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	launch.map.count = 2;
	launch.map.regions[0] = (struct mem_region){ A_GPA, A_BYTES, guarded(A_BYTES) };
	launch.map.regions[1] = (struct mem_region){ B_GPA, B_BYTES, guarded(B_BYTES) };
	launch.region_page[0] = 4096;
	launch.region_page[1] = B_PAGE;
}

static void reset(const uint8_t *data, size_t size)
{
	uint8_t *a = (uint8_t *)(uintptr_t)launch.map.regions[0].addr;
	uint8_t *b = (uint8_t *)(uintptr_t)launch.map.regions[1].addr;
	const size_t first = size < A_BYTES ? size : A_BYTES;
	const size_t second = size - first < B_BYTES ? size - first : B_BYTES;

	memset(a, 0, A_BYTES);
	memset(b, 0, B_BYTES);
	memcpy(a, data, first);
	memcpy(b, data + first, second);
}

/* ---- a run ---- */

/* Until there is nothing to do, or it waits for POLL. */
static uint32_t serve(struct dev *dev, struct virtq *q, bool refuse)
{
	uint32_t done = 0;

	for (;;) {
		const uint16_t before = q->next;
		const enum serve_result result =
			refuse ? dev_program.refuse(dev, q) : dev_program.serve(dev, q);

		FUZZ_CHECK(unsynced == 0); /* what is published, or broken off, is answered */
		FUZZ_CHECK(!refuse || stats == 0);
		FUZZ_CHECK(result != SERVE_ENDED);
		FUZZ_CHECK((result == SERVE_BROKEN) == (q->error != RING_ERROR_NONE));
		FUZZ_CHECK(q->next == (uint16_t)(before + (result == SERVE_DONE)));
		if (result != SERVE_DONE)
			return done;
		done++;
		FUZZ_CHECK(done <= VIRTQ_SIZE_MAX);
	}
}

static uint64_t features_of(const struct head *head)
{
	static const uint8_t bits[] = { VIRTIO_F_RING_INDIRECT_DESC, VIRTIO_F_RING_EVENT_IDX,
					VIRTIO_BALLOON_F_STATS_VQ, VIRTIO_BALLOON_F_REPORTING };
	uint64_t features = 0;

	for (size_t i = 0; i < sizeof(bits); i++)
		features |= (uint64_t)(head->features >> i & 1) << bits[i];
	return features;
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

	memset(&dev, 0, sizeof(dev));
	unsynced = stats = 0;
	dev.launch = &launch;
	dev.features = features_of(head);
	FUZZ_CHECK(dev_program.init(&dev) == 0);
	q->number = head->queue % 4;
	q->fd_kick = launch.fd_kick;
	q->fd_call = launch.fd_call;
	if (virtq_init(q, &launch.map, &cfg, dev.features) != 0 || virtq_activate(q) != 0)
		return;
	for (int i = 0; i < POLLS; i++) {
		FUZZ_CHECK(serve(&dev, q, head->features & HEAD_REFUSE) <= cfg.size);
		if (q->error != RING_ERROR_NONE)
			return;
		stats = 0;
		dev_program.poll(&dev);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct head head;

	if (size < sizeof(head))
		return -1;
	if (launch.queues == 0)
		setup();
	memcpy(&head, data, sizeof(head));
	reset(data + sizeof(head), size - sizeof(head));
	run(&head);
	return 0;
}
