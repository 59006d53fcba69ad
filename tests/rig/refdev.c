/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A request is walked into a flat list of buffers (indirect tables followed),
 * its header copied out, its data copied between the buffers and the disk one after another.  It is
 * completed at once.  The rings are read as the specification has it, and as a driver of ours is
 * known to fill them: a bad ring ends the program.
 */
#include "tests/rig/refdev.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devmodel/abi/virtio.h"

#define SECTOR 512u
#define BUFFERS_MAX 64

struct buffer {
	uint8_t *data;
	uint32_t len;
	bool writable;
};

struct request {
	struct buffer buffers[BUFFERS_MAX];
	uint32_t count;
	uint16_t head;
	struct virtio_blk_outhdr header;
	uint8_t *status;
	uint32_t written; /* data bytes */
	enum refdev_fault fault;
};

static void *must_span(const struct refdev *dev, uint64_t gpa, uint64_t len)
{
	void *ptr = gpa_span(dev->map, gpa_make(gpa), len);

	if (!ptr)
		abort();
	return ptr;
}

static struct virtq_avail *avail_of(const struct refdev *dev)
{
	return must_span(dev, dev->queue.avail_gpa, virtq_avail_bytes(dev->queue.size));
}

static struct virtq_used *used_of(const struct refdev *dev)
{
	return must_span(dev, dev->queue.used_gpa, virtq_used_bytes(dev->queue.size));
}

void refdev_init(struct refdev *dev)
{
	dev->next = dev->queue.next;
	dev->used_idx = dev->queue.next;
	dev->served = 0;
	dev->stop = 0;
	dev->fault_done = dev->mute = dev->held = false;
}

static void walk(struct refdev *dev, struct request *req)
{
	const struct virtq_desc *table =
		must_span(dev, dev->queue.desc_gpa, virtq_desc_bytes(dev->queue.size));
	const struct virtq_desc *desc = &table[req->head];

	if (desc->flags & VIRTQ_DESC_F_INDIRECT)
		desc = table = must_span(dev, desc->addr, desc->len);
	for (;;) {
		if (req->count == BUFFERS_MAX)
			abort();
		req->buffers[req->count++] = (struct buffer){
			.data = must_span(dev, desc->addr, desc->len),
			.len = desc->len,
			.writable = desc->flags & VIRTQ_DESC_F_WRITE,
		};
		if (!(desc->flags & VIRTQ_DESC_F_NEXT))
			break;
		desc = &table[desc->next];
	}
	memcpy(&req->header, req->buffers[0].data, sizeof(req->header));
	req->status = req->buffers[req->count - 1].data;
}

/* The fault that this request suffers; each wants a request that it can show on. */
static enum refdev_fault choose_fault(struct refdev *dev, const struct request *req)
{
	bool read = req->header.type == VIRTIO_BLK_T_IN, fits = true;
	bool write = req->header.type == VIRTIO_BLK_T_OUT;

	if (dev->fault == REFDEV_BIT || dev->fault == REFDEV_STALE)
		fits = read;
	else if (dev->fault >= REFDEV_SKIP && dev->fault <= REFDEV_MISPLACE)
		fits = write && req->header.sector + 40 < dev->sectors;
	if (dev->fault_done || dev->served < dev->fault_at || !fits)
		return REFDEV_NONE;
	dev->fault_done = dev->fault != REFDEV_NONE;
	return dev->fault;
}

static void transfer(struct refdev *dev, struct request *req)
{
	bool in = req->header.type == VIRTIO_BLK_T_IN;
	uint64_t at = (req->header.sector + (req->fault == REFDEV_MISPLACE)) * SECTOR;
	uint64_t total = 0, done = 0;

	for (uint32_t i = 1; i + 1 < req->count; i++)
		total += req->buffers[i].len;
	/* Torn within a sector, not at the edge of one. */
	uint64_t limit = req->fault == REFDEV_TORN ? total / 2 - 8 : total;

	for (uint32_t i = 1; i + 1 < req->count; i++) {
		const struct buffer *b = &req->buffers[i];
		uint64_t left = done < limit ? limit - done : 0;
		uint64_t len = b->len < left ? b->len : left;

		if (in && req->fault != REFDEV_STALE)
			memcpy(b->data, dev->disk + at + done, len);
		else if (!in && req->fault != REFDEV_SKIP)
			memcpy(dev->disk + at + done, b->data, len);
		done += b->len;
	}
	if (req->fault == REFDEV_BIT)
		req->buffers[1].data[req->buffers[1].len / 2] ^= 4;
	req->written = in ? (uint32_t)total : 0;
}

static void zero_range(struct refdev *dev, struct request *req)
{
	struct virtio_blk_discard_write_zeroes range;

	memcpy(&range, req->buffers[1].data, sizeof(range));
	memset(dev->disk + range.sector * SECTOR, 0, (uint64_t)range.num_sectors * SECTOR);
}

static void execute(struct refdev *dev, struct request *req)
{
	uint8_t status = VIRTIO_BLK_S_OK;

	switch (req->header.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		transfer(dev, req);
		break;
	case VIRTIO_BLK_T_FLUSH:
		break;
	case VIRTIO_BLK_T_GET_ID:
		memcpy(req->buffers[1].data, dev->id, sizeof(dev->id));
		req->written = sizeof(dev->id);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		zero_range(dev, req);
		break;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	if (req->fault == REFDEV_IOERR)
		status = VIRTIO_BLK_S_IOERR;
	if (req->fault == REFDEV_OVERRUN)
		req->status[1] = 0;
	if (req->fault != REFDEV_NO_STATUS)
		*req->status = status;
}

static bool call_wanted(const struct refdev *dev, uint16_t old)
{
	struct virtq_avail *avail = avail_of(dev);
	uint16_t event = __atomic_load_n(&avail->ring[dev->queue.size], __ATOMIC_RELAXED);

	if (dev->features & (1ull << VIRTIO_F_RING_EVENT_IDX))
		return virtq_need_event(event, dev->used_idx, old);
	return !(__atomic_load_n(&avail->flags, __ATOMIC_RELAXED) & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

static void call(struct refdev *dev, uint16_t old)
{
	uint64_t one = 1;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!dev->mute && call_wanted(dev, old) &&
	    write(dev->fd_call, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN)
		abort();
}

static void push(struct refdev *dev, uint32_t id, uint32_t len)
{
	struct virtq_used *used = used_of(dev);

	used->ring[dev->used_idx & (dev->queue.size - 1)] =
		(struct virtq_used_elem){ .id = id, .len = len };
	dev->used_idx++;
	__atomic_store_n(&used->idx, dev->used_idx, __ATOMIC_RELEASE);
}

/* A head that the driver has not used yet: with a fresh queue, the last of the table. */
static uint32_t unused_id(const struct refdev *dev)
{
	return dev->queue.size - 1u;
}

static void complete(struct refdev *dev, const struct request *req)
{
	uint32_t len = req->written + 1;
	uint16_t old = dev->used_idx;

	if (req->fault == REFDEV_LOSE)
		return;
	if (req->fault == REFDEV_SWAP) {
		dev->held = true;
		dev->held_id = req->head;
		dev->held_len = len;
		return;
	}
	dev->mute |= req->fault == REFDEV_NO_CALL;
	if (req->fault == REFDEV_UNUSED_ID)
		push(dev, unused_id(dev), len);
	push(dev, req->fault == REFDEV_BAD_ID ? dev->queue.size : req->head,
	     len + (req->fault == REFDEV_LONG) - (req->fault == REFDEV_SHORT));
	if (req->fault == REFDEV_DOUBLE)
		push(dev, req->head, len);
	if (dev->held)
		push(dev, dev->held_id, dev->held_len);
	dev->held = false;
	if (req->fault == REFDEV_BACKWARDS)
		dev->used_idx = (uint16_t)(dev->used_idx - 2);
	if (req->fault == REFDEV_JUMP)
		dev->used_idx = (uint16_t)(dev->used_idx + dev->queue.size + 1);
	if (req->fault == REFDEV_BACKWARDS || req->fault == REFDEV_JUMP)
		__atomic_store_n(&used_of(dev)->idx, dev->used_idx, __ATOMIC_RELEASE);
	call(dev, old);
}

static void serve_one(struct refdev *dev)
{
	struct virtq_avail *avail = avail_of(dev);
	struct request req = { 0 };

	req.head = avail->ring[dev->next & (dev->queue.size - 1)];
	walk(dev, &req);
	req.fault = choose_fault(dev, &req);
	execute(dev, &req);
	complete(dev, &req);
	dev->next++;
	dev->served++;
}

uint32_t refdev_serve(struct refdev *dev)
{
	struct virtq_avail *avail = avail_of(dev);
	uint32_t count = 0;

	while (__atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE) != dev->next) {
		serve_one(dev);
		count++;
	}
	return count;
}

/* Asks for a kick at the next request; true when there is one already. */
static bool ask_for_kick(struct refdev *dev)
{
	struct virtq_used *used = used_of(dev);
	uint16_t *avail_event = (uint16_t *)(void *)&used->ring[dev->queue.size];

	__atomic_store_n(avail_event, dev->next, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&avail_of(dev)->idx, __ATOMIC_ACQUIRE) != dev->next;
}

static void *thread_main(void *arg)
{
	struct refdev *dev = arg;

	while (!__atomic_load_n(&dev->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd fd = { .fd = dev->fd_kick, .events = POLLIN };
		uint64_t count;

		refdev_serve(dev);
		if (ask_for_kick(dev))
			continue;
		if (poll(&fd, 1, -1) == 1 && read(dev->fd_kick, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			abort();
	}
	return NULL;
}

int refdev_start(struct refdev *dev)
{
	return -pthread_create(&dev->thread, NULL, thread_main, dev);
}

void refdev_stop(struct refdev *dev)
{
	uint64_t one = 1;

	__atomic_store_n(&dev->stop, 1, __ATOMIC_RELEASE);
	if (write(dev->fd_kick, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN)
		abort();
	pthread_join(dev->thread, NULL);
}
