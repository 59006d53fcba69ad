/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One deed each.  Nothing here asks whether it makes sense, but for two things: guest memory is
 * written only where no other device has its rings and buffers, since harm done there is a guest's to
 * itself and no business of the VMM's; and most of what blocks waits for the bell first, or nearly all
 * sequences would end by waiting.
 */
#include "tests/rig/rogue/deeds.h"

#include <linux/falloc.h>

#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"
#include "tests/rig/rogue/dice.h"

static const struct launch_record *launch_of(const struct player *p)
{
	return p->r->dev->launch;
}

static struct state_page *page_of(const struct player *p)
{
	return p->r->dev->page;
}

/* One of its queues. NULL: that one has no rings. */
static struct virtq *any_queue(struct player *p)
{
	struct virtq *q = &p->r->dev->queues[dice_below(p, launch_of(p)->queues)];

	return q->size != 0 ? q : NULL;
}

static void fill(struct player *p, void *at, uint32_t bytes)
{
	uint8_t *to = at;

	for (uint32_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)dice_roll(p);
}

/* A guest physical address: where it may write, next to the end of a region, or any but those below,
 * which are somebody's. */
static uint64_t any_gpa(struct player *p)
{
	const struct mem_map *map = &launch_of(p)->map;
	const struct mem_region *region = &map->regions[dice_below(p, map->count)];
	const uint64_t any = dice_number(p);

	switch (dice_below(p, 4)) {
	case 0:
		return region->gpa + region->bytes - dice_below(p, 8192);
	case 1:
		return any < p->dice->wild_gpa ? any + p->dice->wild_gpa : any;
	default:
		return p->dice->wild_gpa + dice_below(p, p->dice->wild_bytes);
	}
}

/* Where it may write: 4096 bytes. */
static uint8_t *wild_place(struct player *p)
{
	const uint64_t at = dice_below(p, p->dice->wild_bytes - 4096);

	return gpa_span(&launch_of(p)->map, gpa_make(p->dice->wild_gpa + at), 4096);
}

/* ---- the control socket ---- */

static void deed_report(struct player *p)
{
	static const uint32_t types[] = {
#define DEED_TYPE(NAME, number, text) REPORT_##NAME,
		REPORT_TYPES(DEED_TYPE)
#undef DEED_TYPE
	};

	rogue_report(p->r, types[dice_below(p, sizeof(types) / sizeof(types[0]))],
		     (uint32_t)dice_number(p), dice_number(p));
}

static void deed_babble(struct player *p)
{
	const uint32_t types[] = { 0, REPORT_TYPE_END, (uint32_t)dice_number(p) };

	rogue_report(p->r, types[dice_below(p, 3)], (uint32_t)dice_number(p), dice_number(p));
}

static void deed_pong(struct player *p)
{
	const uint32_t value = dice_one_in(p, 2) ? (uint32_t)dice_number(p) : p->r->nonce;

	rogue_report(p->r, REPORT_PONG, value, dice_number(p));
}

static uint64_t any_lengths(struct player *p)
{
	if (dice_one_in(p, 4))
		return dice_number(p);
	return CTL_PARKED_BYTES(dice_below(p, STATE_RECORD_MAX + 2),
				dice_below(p, STATE_RECORD_MAX + 2));
}

static void deed_parked(struct player *p)
{
	const uint32_t value = dice_one_in(p, 2) ? (uint32_t)dice_number(p) : p->r->nonce;

	rogue_report(p->r, REPORT_PARKED, value, any_lengths(p));
}

static void deed_broke(struct player *p)
{
	rogue_report(p->r, REPORT_BROKEN, launch_of(p)->queue_index[0],
		     dice_below(p, RING_ERROR_COUNT));
}

static void deed_flood(struct player *p)
{
	const uint32_t type = dice_one_in(p, 2) ? REPORT_PONG : (uint32_t)dice_below(p, 12);

	for (uint64_t n = 1ull << dice_below(p, 13); n > 0; n--) {
		rogue_beat(p->r);
		rogue_report(p->r, type, p->r->nonce, n);
	}
}

/* PING is answered well most of the time, or no sequence would see a second one. */
static void hear_ping(struct player *p)
{
	if (dice_one_in(p, 8))
		deed_pong(p);
	else if (!dice_one_in(p, 8))
		rogue_report(p->r, REPORT_PONG, p->r->nonce, 0);
}

/* For longer than a successor takes to begin, and to see it. */
static void go_on(struct player *p)
{
	for (uint64_t n = 1ull << (10 + dice_below(p, 12)); n > 0; n--)
		rogue_beat(p->r);
}

/* Parks; says so, and goes on; or eats it. */
void deed_quiesce(struct player *p)
{
	const uint64_t how = dice_below(p, 8);

	if (how == 0)
		return;
	if (how < 4) {
		deed_parked(p);
	} else {
		const uint32_t bytes = rogue_write_record(p->r);

		rogue_say_parked(p->r, bytes, 0);
	}
	if (how % 3 == 1)
		go_on(p);
	else
		rogue_wait_for_ever(p->r);
}

static void deed_hear(struct player *p)
{
	if (!rogue_bell_rings(p->r) || rogue_receive(p->r) < 0)
		return;
	if (p->r->type == CTL_PING)
		hear_ping(p);
	else if (p->r->type == CTL_QUIESCE)
		deed_quiesce(p);
}

static void deed_odd_read(struct player *p)
{
	void *const places[] = { NULL, (void *)(uintptr_t)dice_roll(p), wild_place(p) };
	const uint64_t bytes = dice_one_in(p, 2) ? 0 : dice_below(p, CTL_BYTES_MAX + 1);

	if (bytes == 0 || rogue_bell_rings(p->r))
		sys_read(launch_of(p)->fd_control, places[dice_below(p, 3)], bytes);
}

static void deed_wait(struct player *p)
{
	rogue_receive(p->r);
}

static void deed_sleep(struct player *p)
{
	rogue_sleep(p->r);
}

/* ---- the state page ---- */

static void deed_word(struct player *p)
{
	uint32_t *words = (uint32_t *)page_of(p);

	words[dice_below(p, STATE_PAGE_BYTES / sizeof(*words))] = (uint32_t)dice_number(p);
}

static void deed_field(struct player *p)
{
	struct state_page *page = page_of(p);

	switch (dice_below(p, 6)) {
	case 0:
		page->bell += (uint32_t)dice_below(p, 4) - 1;
		break;
	case 1:
		page->bell = (uint32_t)dice_number(p);
		break;
	case 2:
		page->served = dice_number(p);
		break;
	case 3:
		page->busy = (uint32_t)dice_number(p);
		break;
	case 4:
		page->busy = launch_of(p)->queue_index[0] + 1u;
		break;
	default:
		fill(p, &page->request, sizeof(page->request) + sizeof(page->slots));
	}
}

static void deed_record(struct player *p)
{
	uint8_t *record = page_of(p)->record[dice_below(p, STATE_CLASSES)];

	if (dice_one_in(p, 2)) {
		fill(p, record, (uint32_t)dice_below(p, STATE_RECORD_MAX));
	} else if (dice_one_in(p, 4)) {
		rogue_write_record(p->r);
	} else {
		record[dice_below(p, 64)] ^= (uint8_t)(1u << dice_below(p, 8));
	}
}

/* ---- rings ---- */

static void deed_desc(struct player *p)
{
	const struct virtq *q = any_queue(p);

	if (q == NULL)
		return;
	((struct virtq_desc *)q->desc)[dice_below(p, q->size)] = (struct virtq_desc){
		any_gpa(p),
		(uint32_t)(dice_one_in(p, 2) ? dice_number(p) : dice_below(p, 8192)),
		(uint16_t)(dice_one_in(p, 4) ? dice_number(p) : dice_below(p, 8)),
		(uint16_t)(dice_one_in(p, 4) ? dice_number(p) : dice_below(p, q->size)),
	};
}

static void deed_avail(struct player *p)
{
	const struct virtq *q = any_queue(p);

	if (q == NULL)
		return;
	if (dice_one_in(p, 4))
		q->avail->flags = (uint16_t)dice_number(p);
	else /* the last is used_event */
		q->avail->ring[dice_below(p, q->size + 1u)] = (uint16_t)dice_number(p);
}

static void deed_avail_idx(struct player *p)
{
	const struct virtq *q = any_queue(p);

	if (q != NULL)
		__atomic_store_n(&q->avail->idx, (uint16_t)dice_number(p), __ATOMIC_SEQ_CST);
}

static void deed_element(struct player *p)
{
	const struct virtq *q = any_queue(p);

	if (q == NULL)
		return;
	q->used->ring[dice_below(p, q->size)] = (struct virtq_used_elem){
		(uint32_t)(dice_one_in(p, 2) ? dice_number(p) : dice_below(p, q->size)),
		(uint32_t)dice_number(p),
	};
}

static void deed_used_idx(struct player *p)
{
	const struct virtq *q = any_queue(p);

	if (q == NULL)
		return;
	if (dice_one_in(p, 4))
		__atomic_store_n(&q->used->idx, (uint16_t)dice_number(p), __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_add(&q->used->idx, (uint16_t)(dice_below(p, 9) - 4),
				   __ATOMIC_SEQ_CST);
}

static void deed_event(struct player *p)
{
	const struct virtq *q = any_queue(p);

	if (q == NULL)
		return;
	q->used->flags = (uint16_t)dice_number(p);
	*(uint16_t *)&q->used->ring[q->size] = (uint16_t)dice_number(p);
}

static void deed_push(struct player *p)
{
	struct virtq *q = any_queue(p);

	for (uint64_t n = dice_below(p, 4); q != NULL && n > 0; n--)
		virtq_push(q, (uint16_t)dice_below(p, q->size), (uint32_t)dice_number(p));
}

static void deed_memory(struct player *p)
{
	uint8_t *place = wild_place(p);

	if (place != NULL)
		fill(p, place, 1 + (uint32_t)dice_below(p, 512));
}

static void deed_serve(struct player *p)
{
	for (uint64_t n = dice_below(p, 16); n > 0; n--)
		rogue_serve(p->r);
}

/* ---- eventfds ---- */

static void deed_call(struct player *p)
{
	const struct launch_record *l = launch_of(p);
	const uint64_t value = dice_one_in(p, 2) ? 1 : dice_number(p);

	sys_write(l->fd_call + (int)dice_below(p, l->queues), &value, sizeof(value));
}

static void deed_call_full(struct player *p)
{
	const int fd = launch_of(p)->fd_call + (int)dice_below(p, launch_of(p)->queues);

	for (uint64_t value = ~0ull - 1; value != 0; value >>= 1)
		sys_write(fd, &value, sizeof(value));
}

static void deed_kicks(struct player *p)
{
	const struct launch_record *l = launch_of(p);
	uint64_t kicks;

	sys_read(l->fd_kick + (int)dice_below(p, l->queues), &kicks, sizeof(kicks));
}

/* ---- the backend ---- */

static uint64_t any_offset(struct player *p)
{
	return dice_below(p, launch_of(p)->config.blk.bytes / BLK_SECTOR) * BLK_SECTOR;
}

static void deed_write(struct player *p)
{
	fill(p, p->bytes, sizeof(p->bytes));
	sys_pwrite(launch_of(p)->fd_backend, p->bytes, 1 + dice_below(p, sizeof(p->bytes)),
		   any_offset(p));
}

static void deed_read(struct player *p)
{
	void *place = dice_one_in(p, 4) ? (void *)(uintptr_t)dice_roll(p) : wild_place(p);

	sys_pread(launch_of(p)->fd_backend, place, dice_below(p, 4096), any_offset(p));
}

static void deed_punch(struct player *p)
{
	const int how = dice_one_in(p, 2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	sys_fallocate(launch_of(p)->fd_backend, how | FALLOC_FL_KEEP_SIZE, any_offset(p),
		      1 + dice_below(p, 1u << 16));
}

static void deed_flush(struct player *p)
{
	sys_fdatasync(launch_of(p)->fd_backend);
}

/* ---- and itself ---- */

static void deed_spin(struct player *p)
{
	for (uint64_t n = 1ull << dice_below(p, 18); n > 0; n--)
		rogue_beat(p->r);
}

/* By the one instruction, or by another that the filter must know: int $0x80, or x32's numbers. */
static void deed_calls(struct player *p)
{
	const uint64_t nr = dice_one_in(p, 8) ? dice_number(p) : dice_below(p, 512);
	const uint64_t a = dice_number(p), b = dice_number(p), c = dice_number(p);
	long ret;

	if (dice_one_in(p, 4))
		__asm__ volatile("int $0x80"
				 : "=a"(ret)
				 : "a"(nr), "b"(a), "c"(b), "d"(c)
				 : "memory");
	else
		sys_call6((long)(nr | (dice_one_in(p, 8) ? 0x40000000u : 0)), (long)a, (long)b,
			  (long)c, (long)dice_number(p), (long)dice_number(p),
			  (long)dice_number(p));
}

static void deed_crash(struct player *p)
{
	switch (dice_below(p, 7)) {
	case 0: /* SIGILL */
		__asm__ volatile("ud2");
		break;
	case 1: /* SIGFPE */
		__asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : : "rax", "rcx", "rdx");
		break;
	case 2: /* SIGTRAP */
		__asm__ volatile("int3");
		break;
	case 3: /* SIGSEGV: a privileged instruction, */
		__asm__ volatile("hlt");
		break;
	case 4: /* no stack, */
		__asm__ volatile("mov %0, %%rsp; push %%rax" : : "r"(dice_roll(p)) : "memory");
		break;
	case 5: /* no code, */
		__asm__ volatile("jmp *%0" : : "r"(dice_roll(p)) : "memory");
		break;
	default: /* its own code, which is read-only */
		*(volatile uint8_t *)(uintptr_t)&deed_do = 0;
	}
}

static void deed_exit(struct player *p)
{
	sys_exit((int)dice_number(p));
}

/* ---- choice ---- */

static void (*const deeds[ROGUE_DEED_COUNT])(struct player *) = {
#define DEED(NAME, name, weight, text) [ROGUE_DEED_##NAME] = deed_##name,
	ROGUE_DEEDS(DEED)
#undef DEED
};

static const uint32_t weights[ROGUE_DEED_COUNT] = {
#define DEED_WEIGHT(NAME, name, weight, text) [ROGUE_DEED_##NAME] = (weight),
	ROGUE_DEEDS(DEED_WEIGHT)
#undef DEED_WEIGHT
};

_Static_assert(ROGUE_DEED_COUNT <= 64, "a bit each");

static uint32_t weight_in(uint64_t among, uint32_t deed)
{
	return among >> deed & 1 ? weights[deed] : 0;
}

enum rogue_deed deed_choose(struct player *p, uint64_t among)
{
	uint64_t sum = 0, at;
	uint32_t deed = 0;

	for (uint32_t i = 0; i < ROGUE_DEED_COUNT; i++)
		sum += weight_in(among, i);
	if (sum == 0)
		return ROGUE_DEED_SERVE;
	for (at = dice_below(p, sum); at >= weight_in(among, deed); deed++)
		at -= weight_in(among, deed);
	return (enum rogue_deed)deed;
}

void deed_do(struct player *p, enum rogue_deed deed)
{
	__atomic_fetch_add(&p->dice->deeds[deed], 1, __ATOMIC_RELAXED);
	deeds[deed](p);
}
