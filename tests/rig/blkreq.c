/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Before a read its buffer is overwritten, so that the content of an earlier
 * read is never taken for an answer; behind each buffer and the status byte lie guard bytes.  An
 * answer is right when the status was written, the used length is exactly what the request type
 * demands, the guards are whole and the content is what the shadow says.
 *
 * A write, discard or write-zeroes that failed may have been done in part: its sectors are of
 * unknown content until they are written again.  So are discarded ones, by the specification.
 */
#include "tests/rig/blkreq.h"

#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rig/blkblock.h"

#define SECTOR 512u
#define ID_BYTES 20u
#define STATUS_UNSET 0xff
#define GUARD_BYTE 0xa5
#define STALE_BYTE 0x5c
#define TRIES 16 /* random places looked at before a fill gives up for now */

static const struct op_info {
	const char *name;
	uint32_t type;
} op_info[BLKLOAD_OP_COUNT] = {
#define OP_INFO(NAME, type_, weight) [BLKLOAD_##NAME] = { .name = #NAME, .type = (type_) },
	BLKLOAD_OPS(OP_INFO)
#undef OP_INFO
};

_Static_assert(sizeof(struct blk_head) == 32, "header, status, guard");

static uint64_t random_next(struct blkload *load)
{
	uint64_t x = load->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	load->random = x;
	return x;
}

/* 0 to n - 1; the top bits, by multiplication: no division in the fast path. */
static uint64_t random_below(struct blkload *load, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)random_next(load) * n) >> 64);
}

bool blkreq_block_right(struct blkload *load, const uint64_t *block, uint64_t sector,
			const char *where)
{
	uint64_t number = load->shadow[sector - load->config.first_sector];
	bool full = load->config.verify == BLKLOAD_FULL;

	if (number == BLKREQ_ANY || blkblock_matches(block, sector, number, full))
		return true;
	complaints_add(&load->complaints,
		       "%s: sector %llu must be of request %llu, says sector %llu request %llu%s",
		       where, (unsigned long long)sector, (unsigned long long)number,
		       (unsigned long long)block[0], (unsigned long long)block[1],
		       blkblock_matches(block, sector, number, false) ? ", damaged within" : "");
	return false;
}

static bool op_writes(uint8_t op)
{
	return op == BLKLOAD_WRITE || op == BLKLOAD_DISCARD || op == BLKLOAD_ZEROES;
}

static bool op_has_sectors(uint8_t op)
{
	return op == BLKLOAD_READ || op_writes(op);
}

static bool claim(struct blkload *load, const struct blkload_slot *slot)
{
	uint8_t *busy = &load->busy[slot->sector - load->config.first_sector];
	uint8_t limit = op_writes(slot->op) ? 0 : BLKREQ_WRITER - 2;

	for (uint32_t i = 0; i < slot->sectors; i++)
		if (busy[i] > limit)
			return false;
	for (uint32_t i = 0; i < slot->sectors; i++)
		busy[i] = op_writes(slot->op) ? BLKREQ_WRITER : (uint8_t)(busy[i] + 1);
	return true;
}

static void unclaim(struct blkload *load, const struct blkload_slot *slot)
{
	uint8_t *busy = &load->busy[slot->sector - load->config.first_sector];

	for (uint32_t i = 0; i < slot->sectors; i++)
		busy[i] = op_writes(slot->op) ? 0 : (uint8_t)(busy[i] - 1);
}

static uint8_t choose_op(struct blkload *load)
{
	uint32_t at = (uint32_t)random_below(load, load->weight_sum);
	uint8_t op = 0;

	while (at >= load->config.weights[op])
		at -= load->config.weights[op++];
	return op;
}

static void choose_place(struct blkload *load, struct blkload_slot *slot)
{
	const struct blkload_config *c = &load->config;
	uint32_t unit = c->align / SECTOR;
	uint64_t lengths = (c->max_bytes - c->min_bytes) / c->align + 1;

	slot->sectors = c->min_bytes / SECTOR + unit * (uint32_t)random_below(load, lengths);
	slot->sector = c->first_sector +
		       unit * random_below(load, (c->sectors - slot->sectors) / unit + 1);
}

static bool choose_scan(struct blkload *load, struct blkload_slot *slot)
{
	uint64_t end = load->config.first_sector + load->config.sectors;
	uint64_t left = end - load->scan_sector;
	uint32_t most = load->config.max_bytes / SECTOR;

	slot->op = BLKLOAD_READ;
	slot->sector = load->scan_sector;
	slot->sectors = left < most ? (uint32_t)left : most;
	load->scan_sector += slot->sectors;
	return left != 0 && claim(load, slot);
}

static bool choose(struct blkload *load, struct blkload_slot *slot)
{
	if (load->scanning)
		return choose_scan(load, slot);
	slot->op = choose_op(load);
	slot->sectors = 0;
	slot->sector = load->config.first_sector;
	if (!op_has_sectors(slot->op))
		return true;
	for (int i = 0; i < TRIES; i++) {
		choose_place(load, slot);
		if (claim(load, slot))
			return true;
	}
	return false;
}

/* Bytes of data that go to the device, and that come from it. */
static uint32_t bytes_out(const struct blkload_slot *slot)
{
	if (slot->op == BLKLOAD_WRITE)
		return slot->sectors * SECTOR;
	if (slot->op == BLKLOAD_DISCARD || slot->op == BLKLOAD_ZEROES)
		return sizeof(struct virtio_blk_discard_write_zeroes);
	return 0;
}

static uint32_t bytes_in(const struct blkload_slot *slot)
{
	if (slot->op == BLKLOAD_READ)
		return slot->sectors * SECTOR;
	return slot->op == BLKLOAD_GET_ID ? ID_BYTES : 0;
}

static void fill_write(const struct blkload *load, struct blkload_slot *slot)
{
	uint64_t *block = (uint64_t *)(void *)slot->data;

	for (uint32_t i = 0; i < slot->sectors; i++, block += BLKBLOCK_WORDS) {
		if (load->config.verify == BLKLOAD_FULL) {
			blkblock_fill(block, slot->sector + i, slot->number);
		} else {
			block[0] = slot->sector + i;
			block[1] = slot->number;
		}
	}
}

static void fill_range(struct blkload *load, struct blkload_slot *slot)
{
	struct virtio_blk_discard_write_zeroes range = {
		.sector = slot->sector,
		.num_sectors = slot->sectors,
	};

	if (slot->op == BLKLOAD_ZEROES && (random_next(load) & 1))
		range.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	memcpy(slot->data, &range, sizeof(range));
}

/* What an earlier request left in the buffer must not pass for this one's answer. */
static void fill_stale(const struct blkload *load, struct blkload_slot *slot)
{
	uint32_t bytes = bytes_in(slot);
	uint32_t step = load->config.verify == BLKLOAD_FULL ? bytes : SECTOR;
	uint32_t part = load->config.verify == BLKLOAD_FULL ? bytes : 16;

	if (slot->op == BLKLOAD_GET_ID)
		step = part = bytes;
	for (uint32_t off = 0; off < bytes; off += step)
		memset(slot->data + off, STALE_BYTE, part);
	memset(slot->data + bytes, GUARD_BYTE, BLKREQ_GUARD);
}

static uint64_t next_place(struct blkload *load, struct blkload_slot *slot, uint64_t places)
{
	if (load->config.scatter)
		return random_below(load, places);
	slot->place = slot->place + 1 < places ? slot->place + 1 : 0;
	return slot->place;
}

/* Whether the next buffer lies in lent memory, which it then holds on to. */
static bool borrow(struct blkload *load, uint64_t *base, uint64_t *bytes)
{
	return load->config.lent && (random_next(load) & 1) &&
	       lentmem_use(load->config.lent, base, bytes);
}

static void give_back(struct blkload *load, struct blkload_slot *slot)
{
	if (slot->lent)
		lentmem_done(load->config.lent);
	slot->lent = false;
}

/* Another of the slot's places: a slot owns its own, so no two requests ever share one. */
static void move_on(struct blkload *load, struct blkload_queue *queue, struct blkload_slot *slot)
{
	uint64_t first = (uint64_t)(slot - queue->slots);
	uint64_t base = queue->base_gpa, places = queue->places, bytes = 0;

	slot->lent = borrow(load, &base, &bytes);
	if (slot->lent)
		places = bytes / load->stride / queue->depth;
	slot->data_gpa = base + (first * places + next_place(load, slot, places)) * load->stride;
	slot->data = guestmem_ptr(load->mem, gpa_make(slot->data_gpa), load->stride);
}

bool blkreq_prepare(struct blkload *load, struct blkload_queue *queue, struct blkload_slot *slot)
{
	if (!choose(load, slot))
		return false;
	if (queue->places > 1 || load->config.lent)
		move_on(load, queue, slot);
	slot->number = load->next_number++;
	if (slot->op == BLKLOAD_WRITE)
		fill_write(load, slot);
	else if (slot->op == BLKLOAD_DISCARD || slot->op == BLKLOAD_ZEROES)
		fill_range(load, slot);
	else if (bytes_in(slot))
		fill_stale(load, slot);
	*slot->head = (struct blk_head){
		.type = op_info[slot->op].type,
		.sector = slot->op == BLKLOAD_READ || slot->op == BLKLOAD_WRITE ? slot->sector : 0,
		.status = STATUS_UNSET,
	};
	memset(slot->head->guard, GUARD_BYTE, sizeof(slot->head->guard));
	return true;
}

void blkreq_cancel(struct blkload *load, struct blkload_slot *slot)
{
	if (load->scanning)
		load->scan_sector = slot->sector; /* nothing was chosen after it */
	unclaim(load, slot);
	give_back(load, slot);
}

/* Splits the data at random multiples of the alignment. Returns the segments made. */
static uint16_t split_data(struct blkload *load, const struct blkload_slot *slot,
			   struct ringdrv_seg *seg, uint32_t bytes)
{
	uint32_t units = bytes / load->config.align, at = 0;
	uint16_t count = 1;

	if (units > 1 && load->config.segments > 1) {
		uint64_t most = units < load->config.segments ? units : load->config.segments;

		count = (uint16_t)(1 + random_below(load, most));
	}
	for (uint16_t i = 0; i < count; i++) {
		uint32_t left = (uint32_t)(count - i - 1);
		uint32_t room = bytes - at - left * load->config.align;
		uint32_t len = room;

		if (left)
			len = load->config.align *
			      (1 + (uint32_t)random_below(load, room / load->config.align));
		seg[i] = (struct ringdrv_seg){ slot->data_gpa + at, len };
		at += len;
	}
	return count;
}

void blkreq_chain(struct blkload *load, const struct blkload_slot *slot, struct ringdrv_seg *seg,
		  struct ringdrv_chain *chain)
{
	uint32_t out = bytes_out(slot), in = bytes_in(slot);
	uint16_t data = 0;

	seg[0] = (struct ringdrv_seg){ slot->head_gpa, offsetof(struct blk_head, status) };
	if (out || in)
		data = split_data(load, slot, seg + 1, out + in);
	seg[1 + data] =
		(struct ringdrv_seg){ slot->head_gpa + offsetof(struct blk_head, status), 1 };
	chain->seg = seg;
	chain->readable = (uint16_t)(1 + (out ? data : 0));
	chain->writable = (uint16_t)(1 + (in ? data : 0));
	/* One in eight the other way, so that both are always exercised. */
	chain->indirect = !load->config.direct_only && (slot->number & 7) != 7;
}

static bool guard_whole(const uint8_t *bytes, uint32_t count)
{
	uint8_t bits = 0;

	for (uint32_t i = 0; i < count; i++)
		bits |= (uint8_t)(bytes[i] ^ GUARD_BYTE);
	return bits == 0;
}

static bool complain(struct blkload *load, const struct blkload_slot *slot, const char *what,
		     uint32_t value)
{
	complaints_add(&load->complaints, "request %llu (%s, sector %llu + %u): %s (%u)",
		       (unsigned long long)slot->number, op_info[slot->op].name,
		       (unsigned long long)slot->sector, slot->sectors, what, value);
	return false;
}

static bool content_right(struct blkload *load, const struct blkload_slot *slot)
{
	const uint64_t *block = (const uint64_t *)(const void *)slot->data;
	bool right = true;

	if (slot->op == BLKLOAD_GET_ID && load->config.id)
		return strncmp((const char *)slot->data, load->config.id, ID_BYTES) == 0 ||
		       complain(load, slot, "wrong id", 0);
	if (slot->op != BLKLOAD_READ)
		return true;
	for (uint32_t i = 0; i < slot->sectors && right; i++, block += BLKBLOCK_WORDS)
		right = blkreq_block_right(load, block, slot->sector + i, "read");
	return right;
}

static bool answer_right(struct blkload *load, const struct blkload_slot *slot, uint8_t status,
			 uint32_t len)
{
	uint32_t in = bytes_in(slot);

	if (status == STATUS_UNSET)
		return complain(load, slot, "completed without a status", len);
	if (status > VIRTIO_BLK_S_UNSUPP)
		return complain(load, slot, "impossible status", status);
	if (!guard_whole(slot->head->guard, sizeof(slot->head->guard)) ||
	    (in && !guard_whole(slot->data + in, BLKREQ_GUARD)))
		return complain(load, slot, "written past the end of a buffer", len);
	if (status != VIRTIO_BLK_S_OK)
		return true; /* how much of the data was written is not specified then */
	if (len != in + 1)
		return complain(load, slot, "wrong used length", len);
	return content_right(load, slot);
}

static void shadow_set(struct blkload *load, const struct blkload_slot *slot, uint64_t number)
{
	uint64_t first = slot->sector - load->config.first_sector;

	for (uint32_t i = 0; i < slot->sectors; i++)
		load->shadow[first + i] = number;
}

static void shadow_update(struct blkload *load, const struct blkload_slot *slot, bool ok)
{
	if (!ok || slot->op == BLKLOAD_DISCARD)
		shadow_set(load, slot, BLKREQ_ANY);
	else
		shadow_set(load, slot, slot->op == BLKLOAD_WRITE ? slot->number : 0);
}

void blkreq_finish(struct blkload *load, struct blkload_slot *slot, uint32_t len)
{
	uint8_t status = __atomic_load_n(&slot->head->status, __ATOMIC_RELAXED);
	bool ok = status == VIRTIO_BLK_S_OK;

	if (!answer_right(load, slot, status, len))
		load->stats.corrupted++;
	if (op_writes(slot->op))
		shadow_update(load, slot, ok);
	if (!ok && status != STATUS_UNSET) {
		load->stats.errors++;
		if (load->stats.errors == 1)
			complain(load, slot, "answered with an error", status);
	}
	if (ok && (slot->op == BLKLOAD_READ || slot->op == BLKLOAD_WRITE))
		load->stats.bytes += (uint64_t)slot->sectors * SECTOR;
	unclaim(load, slot);
	give_back(load, slot);
}
