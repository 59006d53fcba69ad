/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest: one device, what a request is made of, and ways to write to its rings past the
 * ring driver.  Beside it a second device is under load all the time: it must notice nothing.
 */
#ifndef MAYFLY_TESTS_HOST_HOSTILE_H
#define MAYFLY_TESTS_HOST_HOSTILE_H

#include "tests/host/scene.h"

#define REGION (64ull << 20)
#define HOLE_GPA (2 * REGION) /* after two regions that touch .. */
#define FAR_GPA (16 * REGION) /* .. and before a third */
#define RING 64
#define OUTSIDE 0x7fffffff0000ull
#define DATA 4096

static struct boxrig rig;
static struct scene *bystander;

struct hostile_head { /* virtio 1.2 section 5.2.6 */
	uint32_t type, reserved;
	uint64_t sector;
};

/* A device and what one request is made of, in guest memory. */
struct hostile {
	struct scene *s;
	struct ringdrv_queue *q;
	uint64_t head_gpa, data_gpa, status_gpa, table_gpa;
	struct hostile_head *head;
	uint8_t *data, *status;
	struct virtq_desc *table; /* VIRTQ_SIZE_MAX + 1 */
};

static inline void *take(uint64_t bytes, uint64_t *gpa)
{
	gpa_t at;

	assert_int_equal(guestmem_alloc(&rig.mem, bytes, 16, &at), 0);
	*gpa = at.raw;
	void *ptr = guestmem_ptr(&rig.mem, at, bytes);

	assert_non_null(ptr);
	return ptr;
}

static inline struct hostile hostile_open(bool readonly)
{
	const struct boxrig_blk_config config = { .ring_size = RING,
						  .bytes = 1 << 20,
						  .readonly = readonly,
						  .dir = readonly ? scene_dir() : NULL };
	struct hostile h = { .s = scene_create(&rig, &config) };

	h.q = &h.s->blk.rings[0];
	h.head = take(sizeof(*h.head), &h.head_gpa);
	h.data = take(DATA, &h.data_gpa);
	h.status = take(1, &h.status_gpa);
	h.table = take((VIRTQ_SIZE_MAX + 1) * sizeof(struct virtq_desc), &h.table_gpa);
	return h;
}

/* ---- honest requests ---- */

/* One request with up to DATA bytes; its status. */
static inline uint8_t ask(struct hostile *h, uint32_t type, uint64_t sector, uint32_t bytes)
{
	const bool in = type == 0 || type == 8;
	const struct ringdrv_seg seg[] = {
		{ h->head_gpa, sizeof(*h->head) },
		{ h->data_gpa, bytes },
		{ h->status_gpa, 1 },
	};
	const struct ringdrv_chain chain = { .seg = seg,
					     .readable = in ? 1 : 2,
					     .writable = in ? 2 : 1 };
	struct ringdrv_done done;

	*h->head = (struct hostile_head){ type, 0, sector };
	*h->status = 0xee;
	assert_int_equal(ringdrv_add(h->q, &chain), 0);
	ringdrv_publish(h->q);
	ringdrv_kick(h->q);
	assert_int_equal(ringdrv_wait(h->q, SCENE_WAIT_MS * NS_PER_MS), 1);
	assert_int_equal(ringdrv_reap(h->q, &done), 1);
	return *h->status;
}

/* It serves: what is written is read again. */
static inline void check_serves(struct hostile *h)
{
	static uint8_t round;

	memset(h->data, ++round, DATA);
	assert_int_equal(ask(h, 1, 8, DATA), 0);
	memset(h->data, 0, DATA);
	assert_int_equal(ask(h, 0, 8, DATA), 0);
	for (uint32_t i = 0; i < DATA; i++)
		assert_int_equal(h->data[i], round);
	scene_await(h->s, "active"); /* the first pass may have answered before it was reported */
}

static inline void check_broken(struct hostile *h, uint64_t times, const char *why)
{
	assert_int_equal(watch_wait(&h->s->watch, WATCH_BROKEN, times, SCENE_WAIT_MS), 0);
	assert_string_equal(watch_why(&h->s->watch), why);
	assert_string_equal(scene_status(h->s).state, "broken");
	assert_string_equal(scene_status(h->s).broken, why);
}

static inline void hostile_close(struct hostile *h)
{
	assert_int_equal(watch_count(&h->s->watch, WATCH_REPLACED), 0); /* nobody died of it */
	assert_string_equal(scene_status(bystander).state, "active");
	scene_close(h->s);
}

/* ---- evil ones ---- */

static const char *const reasons[] = {
#define REASON_TEXT(NAME, text) text,
	RING_ERRORS(REASON_TEXT)
#undef REASON_TEXT
};

#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE
#define I VIRTQ_DESC_F_INDIRECT

static inline void put(struct hostile *h, uint16_t at, uint64_t addr, uint32_t len, uint16_t flags,
		       uint16_t next)
{
	const struct virtq_desc desc = { addr, len, flags, next };

	ringdrv_evil_desc(h->q, at, &desc);
}

/* The chain of a write request, from descriptor 0. */
static inline void put_request(struct hostile *h)
{
	*h->head = (struct hostile_head){ 1, 0, 0 };
	put(h, 0, h->head_gpa, sizeof(*h->head), N, 1);
	put(h, 1, h->data_gpa, 512, N, 2);
	put(h, 2, h->status_gpa, 1, W, 0);
}

static inline void put_table(struct hostile *h, uint32_t bytes)
{
	h->table[0] = (struct virtq_desc){ h->head_gpa, sizeof(*h->head), N, 1 };
	h->table[1] = (struct virtq_desc){ h->data_gpa, 512, N, 2 };
	h->table[2] = (struct virtq_desc){ h->status_gpa, 1, W, 0 };
	put(h, 0, h->table_gpa, bytes, I, 0);
}

/* ---- the group ---- */

static inline int hostile_begin(void **state)
{
	const struct boxrig_blk_config config = { 0 };

	(void)state;
	bystander = scene_open(&rig, &config);
	scenes_open = bystander->next; /* it outlives the tests */
	return 0;
}

static inline int hostile_end(void **state)
{
	(void)state;
	const bool served = loadrun_progress(&bystander->run, 1, SCENE_WAIT_MS) == 0 &&
			    watch_count(&bystander->watch, WATCH_REPLACED) == 0;
	const bool clean = loadrun_finish(&bystander->run, bystander->blk.image);

	bystander->loaded = false;
	bystander->next = scenes_open;
	scenes_open = bystander;
	scene_end(bystander);
	return served && clean ? 0 : -1;
}

static inline int hostile_regions(struct boxrig *r)
{
	return guestmem_add(&r->mem, REGION, REGION, GUESTMEM_4K) != 0 ||
	       guestmem_add(&r->mem, FAR_GPA, REGION, GUESTMEM_4K) != 0;
}

static inline int hostile_main(const char *name, const struct CMUnitTest *tests, size_t count)
{
	const struct scene_group group = {
		.name = name,
		.bytes = REGION,
		.more_memory = hostile_regions,
		.begin = hostile_begin,
		.end = hostile_end,
	};

	return scene_main(&group, &rig, tests, count);
}

#endif
