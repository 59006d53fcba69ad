/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a rogue that plays at random.  Each sequence draws the deeds that it knows, few or many,
 * then 1 to 64 of them, then an end: so there are sequences that do one thing again and again, and such
 * that do everything, and what is fatal does not cut all of them short.
 */
#include <asm/errno.h>

#include "devmodel/common/mem.h"
#include "tests/rig/rogue/dice.h"

#define DEEDS_MAX 64

/* The next sequence; false: there is none to play. */
static bool take_sequence(struct player *p)
{
	uint64_t n = __atomic_load_n(&p->dice->next, __ATOMIC_RELAXED);

	do {
		if (n >= __atomic_load_n(&p->dice->limit, __ATOMIC_RELAXED))
			return false;
	} while (!__atomic_compare_exchange_n(&p->dice->next, &n, n + 1, false, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	__atomic_store_n(&p->r->slot->sequence, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&p->r->slot->misdeeds, 1, __ATOMIC_RELAXED);
	p->random = n;
	p->plays = true;
	return true;
}

/* ---- when there is none, or it is over ---- */

static void tell_broken(const struct player *p)
{
	const struct rogue *r = p->r;

	for (uint32_t i = 0; i < r->dev->launch->queues; i++) {
		const struct virtq *q = &r->dev->queues[i];

		if (q->error != RING_ERROR_NONE)
			rogue_report(p->r, REPORT_BROKEN, q->number, q->error);
	}
}

/* 0: go on. */
static int take_message(struct player *p)
{
	struct rogue *r = p->r;

	if (rogue_receive(r) < 0)
		return -EPIPE;
	if (r->type == CTL_PING)
		return rogue_report(r, REPORT_PONG, r->nonce, 0);
	if (r->type != CTL_QUIESCE)
		return -EPROTO;
	if (p->plays) {
		deed_quiesce(p);
		return 0;
	}
	rogue_say_parked(r, rogue_write_record(r), 0);
	return rogue_wait_for_ever(r);
}

static int serve_on(struct player *p)
{
	struct rogue *r = p->r;
	bool broken = false;
	int ret = 0;

	while (ret >= 0) {
		rogue_watch(r);
		ret = broken ? 0 : rogue_serve(r);
		if (ret < 0) {
			tell_broken(p);
			broken = true;
			ret = 0;
		}
		if (rogue_bell_rings(r))
			ret = take_message(p);
		else if (ret == 0)
			rogue_sleep(r);
	}
	return ret;
}

/* ---- a sequence ---- */

static void tell_activated(struct player *p)
{
	if (!p->told)
		rogue_report(p->r, REPORT_ACTIVATED, 0, dice_number(p));
	p->told = true;
}

static void play_sequence(struct player *p)
{
	const uint64_t few = dice_roll(p), known = dice_one_in(p, 2) ? few : few & dice_roll(p);
	const uint64_t among = dice_one_in(p, 4) ? ~0ull : known;
	const uint64_t count = 1 + dice_below(p, dice_one_in(p, 2) ? 8 : DEEDS_MAX);
	/* One in four is taken over in its first pass already. */
	const uint64_t told_after = dice_one_in(p, 4) ? dice_below(p, count + 1) : 0;

	for (uint64_t i = 0; i < count; i++) {
		if (i == told_after)
			tell_activated(p);
		rogue_beat(p->r);
		rogue_watch(p->r);
		deed_do(p, deed_choose(p, among));
	}
	tell_activated(p);
}

/* How it ends that did not end by its deeds. */
static int play_end(struct player *p)
{
	switch (dice_below(p, 16)) {
	case 0:
	case 1:
	case 2:
		for (;;)
			deed_do(p, ROGUE_DEED_CRASH);
	case 3:
	case 4:
		deed_do(p, ROGUE_DEED_EXIT);
		return 0;
	case 5:
	case 6:
		for (;;)
			deed_do(p, ROGUE_DEED_CALLS);
	case 7:
		for (;;)
			rogue_beat(p->r);
	case 8:
		return rogue_wait_for_ever(p->r);
	default:
		return serve_on(p);
	}
}

int rogue_play(struct rogue *r)
{
	static struct player player;
	struct player *p = &player;
	const struct launch_record *l = r->dev->launch;
	struct rogue_page *page = gpa_span(&l->map, gpa_make(ROGUE_PAGE_GPA), sizeof(*page));

	p->r = r;
	p->dice = &page->dice;
	if (take_sequence(p)) {
		play_sequence(p);
		return play_end(p);
	}
	__atomic_store_n(&r->slot->honest, l->generation, __ATOMIC_RELAXED);
	rogue_report(r, REPORT_ACTIVATED, 0, 0);
	tell_broken(p);
	return serve_on(p);
}
