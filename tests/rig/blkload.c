/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A slot is one request's worth of buffers; a queue has `depth` of them, and
 * a request's token is its slot.  A step fills every queue, sleeps in ppoll on the call eventfds
 * while all rings are asleep, and takes what is there.  A ring that had completions stays awake, so
 * that a loaded one is looked at again, after the next fill, without a system call; it is armed
 * when a look finds nothing.  What a request asks and whether its answer is right is blkreq.c.
 */
#include "tests/rig/blkload.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rig/blkreq.h"

#define SECTOR 512u
#define MAX_BYTES_LIMIT (1u << 20)

static const uint16_t default_weights[BLKLOAD_OP_COUNT] = {
#define DEFAULT_WEIGHT(NAME, type, weight) [BLKLOAD_##NAME] = (weight),
	BLKLOAD_OPS(DEFAULT_WEIGHT)
#undef DEFAULT_WEIGHT
};

static uint32_t weight_sum(const struct blkload_config *config)
{
	uint32_t sum = 0;

	for (int i = 0; i < BLKLOAD_OP_COUNT; i++)
		sum += config->weights[i];
	return sum;
}

static void set_defaults(struct blkload_config *config)
{
	if (config->align == 0)
		config->align = SECTOR;
	if (config->min_bytes == 0)
		config->min_bytes = config->align;
	if (config->max_bytes == 0)
		config->max_bytes = config->min_bytes > 16384 ? config->min_bytes : 16384;
	if (config->segments == 0)
		config->segments = 4;
	if (weight_sum(config) == 0)
		memcpy(config->weights, default_weights, sizeof(config->weights));
}

static bool config_valid(const struct blkload_config *c)
{
	if (c->align < SECTOR || c->align > MAX_BYTES_LIMIT || (c->align & (c->align - 1)))
		return false;
	if (c->min_bytes % c->align || c->max_bytes % c->align)
		return false;
	if (c->min_bytes > c->max_bytes || c->max_bytes > MAX_BYTES_LIMIT)
		return false;
	if (c->segments > BLKREQ_SEGMENTS_MAX)
		return false;
	if (c->first_sector % (c->align / SECTOR) || c->sectors % (c->align / SECTOR))
		return false;
	if (c->first_sector + c->sectors < c->first_sector)
		return false;
	return c->sectors >= c->max_bytes / SECTOR;
}

static uint32_t round_up(uint32_t value, uint32_t unit)
{
	return (value + unit - 1) / unit * unit;
}

int blkload_init(struct blkload *load, struct guestmem *mem, const struct blkload_config *config)
{
	memset(load, 0, sizeof(*load));
	load->config = *config;
	set_defaults(&load->config);
	if (!config_valid(&load->config))
		return -EINVAL;
	load->mem = mem;
	load->complaints.quiet = config->quiet;
	load->weight_sum = weight_sum(&load->config);
	load->stride = round_up(load->config.max_bytes + BLKREQ_GUARD, load->config.align);
	/* xorshift must not start at 0, and small seeds must not start alike. */
	load->random = (config->seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	load->next_number = 1;
	load->shadow = calloc(load->config.sectors, sizeof(*load->shadow));
	load->busy = calloc(load->config.sectors, 1);
	if (!load->shadow || !load->busy || gaps_init(&load->gaps, config->gap_times) != 0) {
		blkload_free(load);
		return -ENOMEM;
	}
	return 0;
}

static void queue_free(struct blkload_queue *queue)
{
	free(queue->slots);
	free(queue->free);
	queue->slots = NULL;
	queue->free = NULL;
}

void blkload_free(struct blkload *load)
{
	for (uint32_t i = 0; i < load->queue_count; i++)
		queue_free(&load->queues[i]);
	free(load->shadow);
	free(load->busy);
	gaps_free(&load->gaps);
	load->shadow = NULL;
	load->busy = NULL;
	load->queue_count = 0;
}

static int alloc_buffers(struct blkload *load, struct blkload_queue *queue, uint64_t *heads)
{
	uint64_t unit = (uint64_t)queue->depth * load->stride;
	uint64_t align = load->config.align > 4096 ? load->config.align : 4096;
	uint64_t places = load->config.roam_bytes / unit;
	gpa_t gpa;

	if (places > UINT32_MAX)
		return -EINVAL;
	queue->places = places ? (uint32_t)places : 1;
	int ret = guestmem_alloc(load->mem, unit * queue->places, align, &gpa);

	if (ret != 0)
		return ret;
	queue->base_gpa = gpa.raw;
	ret = guestmem_alloc(load->mem, queue->depth * sizeof(struct blk_head), 64, &gpa);
	*heads = gpa.raw;
	return ret;
}

static void init_slots(struct blkload *load, struct blkload_queue *queue, uint64_t heads)
{
	for (uint16_t i = 0; i < queue->depth; i++) {
		struct blkload_slot *slot = &queue->slots[i];

		slot->head_gpa = heads + i * sizeof(struct blk_head);
		slot->head =
			guestmem_ptr(load->mem, gpa_make(slot->head_gpa), sizeof(struct blk_head));
		slot->data_gpa = queue->base_gpa + (uint64_t)i * queue->places * load->stride;
		slot->data = guestmem_ptr(load->mem, gpa_make(slot->data_gpa), load->stride);
		queue->free[i] = i;
	}
	queue->free_count = queue->depth;
}

int blkload_add_queue(struct blkload *load, struct ringdrv_queue *ring, uint16_t depth)
{
	struct blkload_queue *queue = &load->queues[load->queue_count];
	uint64_t heads = 0;

	if (load->queue_count == BOX_QUEUES_MAX)
		return -ENOSPC;
	if (depth == 0 || depth > ring->config.size)
		return -EINVAL;
	*queue = (struct blkload_queue){ .ring = ring, .depth = depth, .limit = depth };
	queue->slots = calloc(depth, sizeof(*queue->slots));
	queue->free = calloc(depth, sizeof(*queue->free));
	int ret = queue->slots && queue->free ? alloc_buffers(load, queue, &heads) : -ENOMEM;

	if (ret != 0) {
		queue_free(queue);
		return ret;
	}
	init_slots(load, queue, heads);
	load->queue_count++;
	return 0;
}

void blkload_limit(struct blkload *load, uint32_t outstanding)
{
	const uint32_t each = outstanding / load->queue_count;
	const uint32_t more = outstanding % load->queue_count;

	for (uint32_t i = 0; i < load->queue_count; i++) {
		const uint32_t limit = each + (i < more ? 1 : 0);

		load->queues[i].limit =
			limit < load->queues[i].depth ? (uint16_t)limit : load->queues[i].depth;
	}
}

/* Puts one more request on the queue's ring; false when there is none to be had or no room. */
static bool submit(struct blkload *load, struct blkload_queue *queue)
{
	struct ringdrv_seg seg[BLKREQ_SEGMENTS_MAX + 2];
	uint16_t at = queue->free[queue->free_count - 1];
	struct blkload_slot *slot = &queue->slots[at];
	struct ringdrv_chain chain = { .token = at };

	if (!blkreq_prepare(load, queue, slot))
		return false;
	blkreq_chain(load, slot, seg, &chain);
	if (ringdrv_add(queue->ring, &chain) != 0) {
		blkreq_cancel(load, slot);
		return false;
	}
	queue->free_count--;
	load->outstanding++;
	load->stats.issued++;
	return true;
}

static uint32_t fill_queue(struct blkload *load, struct blkload_queue *queue)
{
	uint16_t first = queue->free_count;
	uint64_t now = load->config.latency && first ? gaps_now() : 0;

	while (queue->free_count > queue->depth - queue->limit) {
		struct blkload_slot *slot = &queue->slots[queue->free[queue->free_count - 1]];

		slot->issued_ns = now;
		if (!submit(load, queue))
			break;
	}
	if (queue->free_count != first) {
		ringdrv_publish(queue->ring);
		ringdrv_kick(queue->ring);
	}
	return (uint32_t)(first - queue->free_count);
}

uint32_t blkload_fill(struct blkload *load)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < load->queue_count && !load->stopped; i++)
		count += fill_queue(load, &load->queues[i]);
	return count;
}

static void finish(struct blkload *load, struct blkload_queue *queue,
		   const struct ringdrv_done *done, uint64_t now)
{
	struct blkload_slot *slot = &queue->slots[done->token];

	blkreq_finish(load, slot, done->len);
	if (load->config.latency)
		hist_add(load->config.latency, now - slot->issued_ns);
	queue->free[queue->free_count++] = (uint16_t)done->token;
	load->outstanding--;
	__atomic_store_n(&load->stats.completed, load->stats.completed + 1, __ATOMIC_RELAXED);
}

/* Takes what an awake queue has; arms it when that is nothing. */
static int reap_queue(struct blkload *load, struct blkload_queue *queue)
{
	struct ringdrv_done done;
	int count = 0;
	uint16_t pending = ringdrv_pending(queue->ring);
	uint64_t now = pending || load->config.spin_ns ? gaps_now() : 0;

	if (pending == 0) {
		if (load->config.spin_ns && now - queue->progress_ns < load->config.spin_ns)
			__builtin_ia32_pause();
		else
			ringdrv_arm(queue->ring);
		return 0;
	}
	queue->progress_ns = now;
	while (pending-- && ringdrv_reap(queue->ring, &done)) {
		finish(load, queue, &done, now);
		count++;
	}
	if (count)
		gaps_record(&load->gaps, now);
	return count;
}

static bool any_awake(const struct blkload *load)
{
	for (uint32_t i = 0; i < load->queue_count; i++)
		if (!load->queues[i].ring->asleep)
			return true;
	return false;
}

/* How long to sleep in one go: not past the time when a call would be overdue. */
static struct timespec sleep_slice(const struct blkload *load, uint64_t ns)
{
	uint64_t slice = any_awake(load) ? 0 : ns;

	for (uint32_t i = 0; i < load->queue_count; i++) {
		uint64_t grace = load->queues[i].ring->config.call_grace_ns;

		slice = slice < grace ? slice : grace;
	}
	return (struct timespec){ .tv_sec = (time_t)(slice / 1000000000u),
				  .tv_nsec = (long)(slice % 1000000000u) };
}

/* Wakes the rings that were called; sleeps for at most ns when none is awake. */
static int wake_queues(struct blkload *load, uint64_t ns)
{
	struct pollfd fds[BOX_QUEUES_MAX];

	if (load->queue_count == 1 && !load->queues[0].ring->asleep)
		return 0; /* the fast path of a loaded ring: no system call */
	for (uint32_t i = 0; i < load->queue_count; i++)
		fds[i] = (struct pollfd){ .fd = load->queues[i].ring->fd_call, .events = POLLIN };
	struct timespec left = sleep_slice(load, ns);

	if (ppoll(fds, load->queue_count, &left, NULL) < 0)
		return errno == EINTR ? 0 : -errno;
	for (uint32_t i = 0; i < load->queue_count; i++) {
		struct ringdrv_queue *ring = load->queues[i].ring;

		/* Without a call, too: it may be overdue. */
		if (ring->asleep && ringdrv_called(ring))
			ringdrv_disarm(ring);
	}
	return 0;
}

int blkload_reap(struct blkload *load, uint64_t timeout_ns)
{
	uint64_t begin = gaps_now(), spent = 0;
	int count = 0;

	do {
		int ret = wake_queues(load, spent < timeout_ns ? timeout_ns - spent : 0);

		if (ret < 0)
			return ret;
		for (uint32_t i = 0; i < load->queue_count; i++)
			if (!load->queues[i].ring->asleep)
				count += reap_queue(load, &load->queues[i]);
		if (count == 0)
			spent = gaps_now() - begin;
	} while (count == 0 && (spent < timeout_ns || any_awake(load)));
	return count;
}

int blkload_step(struct blkload *load, uint64_t timeout_ns)
{
	blkload_fill(load);
	return blkload_reap(load, timeout_ns);
}

/* Nothing is stepped any more: counts what is left, and what the device gave back beyond it. */
static int settle(struct blkload *load)
{
	struct ringdrv_done done;

	load->stopped = true;
	load->stats.lost = load->outstanding;
	if (load->outstanding) {
		complaints_add(&load->complaints, "%llu requests never completed",
			       (unsigned long long)load->outstanding);
		return -ETIMEDOUT;
	}
	for (uint32_t i = 0; i < load->queue_count; i++)
		(void)ringdrv_reap(load->queues[i].ring, &done); /* nothing can be due */
	return 0;
}

int blkload_drain(struct blkload *load, uint64_t timeout_ns)
{
	uint64_t begin = gaps_now(), spent = 0;

	load->stopped = true;
	while (load->outstanding && spent < timeout_ns) {
		int ret = blkload_reap(load, timeout_ns - spent);

		if (ret < 0)
			return ret;
		spent = gaps_now() - begin;
	}
	return settle(load);
}

void blkload_resume(struct blkload *load)
{
	load->stopped = false;
	load->stats.lost = 0;
}

void blkload_stats(const struct blkload *load, struct blkload_stats *stats)
{
	*stats = load->stats;
	for (uint32_t i = 0; i < load->queue_count; i++) {
		const struct ringdrv_stats *ring = &load->queues[i].ring->stats;

		stats->lost += ring->lost_calls;
		stats->duplicated += ring->duplicated;
		stats->corrupted += ring->corrupted;
	}
}

bool blkload_clean(const struct blkload *load)
{
	struct blkload_stats stats;

	blkload_stats(load, &stats);
	return !stats.lost && !stats.duplicated && !stats.corrupted && !stats.errors;
}

const char *blkload_complaint(const struct blkload *load)
{
	if (load->complaints.last[0])
		return load->complaints.last;
	for (uint32_t i = 0; i < load->queue_count; i++)
		if (load->queues[i].ring->complaints.last[0])
			return load->queues[i].ring->complaints.last;
	return "";
}

uint64_t blkload_completed(const struct blkload *load)
{
	return __atomic_load_n(&load->stats.completed, __ATOMIC_RELAXED);
}

int blkload_pause(const struct blkload *load, uint64_t t0, uint64_t t1, uint64_t *pause_ns)
{
	return gaps_longest(&load->gaps, t0, t1, pause_ns);
}
