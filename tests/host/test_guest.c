/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against a release program: descriptor chains.  Whatever it writes, at most its
 * own device breaks, with the right reason, and a reset brings it back.  No box dies of it.
 */
#include "tests/host/hostile.h"

/* ---- chains ---- */

static void evil_loop(struct hostile *h)
{
	put_request(h);
	put(h, 1, h->data_gpa, 512, N, 0);
}

static void evil_self_loop(struct hostile *h)
{
	put(h, 0, h->head_gpa, 16, N, 0);
}

static void evil_next(struct hostile *h)
{
	put_request(h);
	put(h, 1, h->data_gpa, 512, N, RING);
}

static void evil_next_far(struct hostile *h)
{
	put_request(h);
	put(h, 1, h->data_gpa, 512, N, 65535);
}

static void evil_nested(struct hostile *h)
{
	put_table(h, 48);
	h->table[1] = (struct virtq_desc){ h->table_gpa, 48, I, 0 };
}

static void evil_indirect_next(struct hostile *h)
{
	put_table(h, 48);
	put(h, 0, h->table_gpa, 48, I | N, 1);
}

static void evil_table_empty(struct hostile *h)
{
	put_table(h, 0);
}

static void evil_table_odd(struct hostile *h)
{
	put_table(h, 47);
}

static void evil_table_short(struct hostile *h)
{
	put_table(h, 8);
}

static void evil_table_long(struct hostile *h)
{
	put_table(h, (VIRTQ_SIZE_MAX + 1) * 16);
}

static void evil_table_longest(struct hostile *h)
{
	put_table(h, 0xfffffff0);
}

static void evil_table_outside(struct hostile *h)
{
	put_table(h, 48);
	put(h, 0, OUTSIDE, 48, I, 0);
}

static void evil_table_next(struct hostile *h)
{
	put_table(h, 48);
	h->table[1].next = 3;
}

static void evil_table_loop(struct hostile *h)
{
	put_table(h, 48);
	h->table[1].next = 0;
}

static void put_data(struct hostile *h, uint64_t addr, uint32_t len)
{
	put_request(h);
	put(h, 1, addr, len, N, 2);
}

static void evil_wrap(struct hostile *h)
{
	put_data(h, ~0ull - 511, 1024);
}

static void evil_wrap_far(struct hostile *h)
{
	put_data(h, h->data_gpa, 0xffffffff);
}

static void evil_hole(struct hostile *h)
{
	put_data(h, HOLE_GPA, 512);
}

static void evil_into_hole(struct hostile *h)
{
	put_data(h, HOLE_GPA - 256, 512);
}

static void evil_across(struct hostile *h)
{
	put_data(h, REGION - 256, 512);
}

static void evil_past_end(struct hostile *h)
{
	put_data(h, FAR_GPA + REGION - 256, 512);
}

static void evil_status_outside(struct hostile *h)
{
	put_request(h);
	put(h, 2, OUTSIDE, 1, W, 0);
}

static void evil_order(struct hostile *h)
{
	put(h, 0, h->status_gpa, 1, W | N, 1);
	put(h, 1, h->head_gpa, sizeof(*h->head), 0, 0);
}

static void evil_no_status(struct hostile *h)
{
	put(h, 0, h->head_gpa, sizeof(*h->head), 0, 0);
}

static void evil_no_header(struct hostile *h)
{
	put(h, 0, h->status_gpa, 1, W, 0);
}

static void evil_half_header(struct hostile *h)
{
	put(h, 0, h->head_gpa, 15, N, 1);
	put(h, 1, h->status_gpa, 1, W, 0);
}

static void evil_empty(struct hostile *h)
{
	put(h, 0, 0, 0, N, 1);
	put(h, 1, 0, 0, W, 0);
}

static const struct evil {
	const char *name;
	void (*write)(struct hostile *);
	enum ring_error error;
	uint16_t head; /* put on the ring */
} evils[] = {
	{ "a chain that comes back", evil_loop, RING_ERROR_LOOP, 0 },
	{ "a descriptor that is its own next", evil_self_loop, RING_ERROR_LOOP, 0 },
	{ "a head beyond the table", put_request, RING_ERROR_HEAD, RING },
	{ "a head far beyond the table", put_request, RING_ERROR_HEAD, 65535 },
	{ "a next beyond the table", evil_next, RING_ERROR_HEAD, 0 },
	{ "a next far beyond the table", evil_next_far, RING_ERROR_HEAD, 0 },
	{ "a table in a table", evil_nested, RING_ERROR_INDIRECT, 0 },
	{ "a table and a next", evil_indirect_next, RING_ERROR_INDIRECT, 0 },
	{ "a table of no bytes", evil_table_empty, RING_ERROR_INDIRECT, 0 },
	{ "a table of odd length", evil_table_odd, RING_ERROR_INDIRECT, 0 },
	{ "a table of half a descriptor", evil_table_short, RING_ERROR_INDIRECT, 0 },
	{ "a table that is too long", evil_table_long, RING_ERROR_INDIRECT, 0 },
	{ "a table as long as can be said", evil_table_longest, RING_ERROR_INDIRECT, 0 },
	{ "a table outside memory", evil_table_outside, RING_ERROR_SPAN, 0 },
	{ "a next beyond its table", evil_table_next, RING_ERROR_HEAD, 0 },
	{ "a loop in a table", evil_table_loop, RING_ERROR_LOOP, 0 },
	{ "a buffer past the last address", evil_wrap, RING_ERROR_SPAN, 0 },
	{ "a buffer of 4 GiB", evil_wrap_far, RING_ERROR_SPAN, 0 },
	{ "a buffer in a hole", evil_hole, RING_ERROR_SPAN, 0 },
	{ "a buffer that ends in a hole", evil_into_hole, RING_ERROR_SPAN, 0 },
	{ "a buffer across two regions", evil_across, RING_ERROR_SPAN, 0 },
	{ "a buffer past the end of memory", evil_past_end, RING_ERROR_SPAN, 0 },
	{ "a status outside memory", evil_status_outside, RING_ERROR_SPAN, 0 },
	{ "readable after writable", evil_order, RING_ERROR_ORDER, 0 },
	{ "no status", evil_no_status, RING_ERROR_SHORT, 0 },
	{ "no header", evil_no_header, RING_ERROR_SHORT, 0 },
	{ "half a header", evil_half_header, RING_ERROR_SHORT, 0 },
	{ "nothing at all", evil_empty, RING_ERROR_SHORT, 0 },
};

static void test_descriptors(void **state)
{
	struct hostile h = hostile_open(false);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(evils); i++) {
		const struct evil *evil = &evils[i];

		scene_start(h.s);
		check_serves(&h);
		const uint16_t used = ringdrv_peek_used_idx(h.q);

		evil->write(&h);
		ringdrv_evil_avail(h.q, used, evil->head);
		ringdrv_evil_avail_idx(h.q, (uint16_t)(used + 1));
		ringdrv_kick_always(h.q);
		print_message("%s\n", evil->name);
		check_broken(&h, i + 1, reasons[evil->error]);
		assert_int_equal(ringdrv_peek_used_idx(h.q), used);
		scene_reset(h.s);
	}
	scene_start(h.s);
	check_serves(&h);
	hostile_close(&h);
}

/* ---- noise ---- */

#define NOISE (1u << 20)

/* Memory that nobody else uses, the rings themselves, and what is no memory. */
static uint64_t noise_address(struct hostile *h, uint64_t mine)
{
	const uint64_t bases[] = { mine,    HOLE_GPA - NOISE, HOLE_GPA,       FAR_GPA,
				   OUTSIDE, h->q->desc_gpa,   h->q->avail_gpa };
	const uint64_t base = bases[scene_random(h->s, ARRAY_SIZE(bases))];

	return base == h->q->desc_gpa || base == h->q->avail_gpa ? base
								 : base + scene_random(h->s, NOISE);
}

/* Rings of random descriptors: it breaks or it serves them, and is there after a reset. */
static void test_noise(void **state)
{
	struct hostile h = hostile_open(false);
	struct scene *s = h.s;
	uint64_t mine;

	(void)state;
	(void)take(NOISE + 9000, &mine);
	for (uint64_t i = 0; i < scene_count(100); i++) {
		scene_start(s);
		for (uint16_t at = 0; at < RING; at++)
			put(&h, at, noise_address(&h, mine), (uint32_t)scene_random(s, 600),
			    (uint16_t)scene_random(s, 8), (uint16_t)scene_random(s, RING + 1));
		*h.head = (struct hostile_head){ (uint32_t)scene_random(s, 16), 0,
						 scene_random(s, 4096) };
		put(&h, 0, h.head_gpa, sizeof(*h.head), N, (uint16_t)(1 + scene_random(s, 8)));
		for (uint16_t at = 0; at < RING; at++)
			ringdrv_evil_avail(
				h.q, at,
				scene_random(s, 4) ? 0 : (uint16_t)scene_random(s, RING + 2));
		ringdrv_evil_avail_flags(h.q, (uint16_t)scene_random(s, 4));
		ringdrv_evil_used_event(h.q, (uint16_t)scene_random(s, 65536));
		ringdrv_evil_avail_idx(h.q, (uint16_t)scene_random(s, RING + 2));
		ringdrv_kick_always(h.q);
		usleep(200);
		scene_reset(s);
	}
	scene_start(s);
	check_serves(&h);
	assert_true(watch_count(&s->watch, WATCH_BROKEN) > 0);
	hostile_close(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_descriptors),
		scene_test(test_noise),
	};

	return hostile_main("guest", tests, ARRAY_SIZE(tests));
}
