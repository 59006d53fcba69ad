/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The misdeeds.  Each begins when QUIESCE was read (UNREAD, SYNC*: before); one that returns parks after.
 * Every step of a loop is counted, so that whoever is active sees that this one is, too.
 */
#include "tests/rig/rogue/act.h"

#include <asm/errno.h>

#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"
#include "snapshot/codec.h"

#define A_WHILE 2000 /* steps of what ends */

static uint8_t *record_of(const struct rogue *r)
{
	return r->dev->page->record[STATE_DATA];
}

uint32_t rogue_write_record(struct rogue *r)
{
	struct dev *dev = r->dev;

	dev->ops->quiesce(dev);
	const int n = state_encode(dev->ops->state[STATE_DATA], dev->state[STATE_DATA].bytes,
				   record_of(r), STATE_RECORD_MAX);

	return n < 0 ? 0 : (uint32_t)n;
}

void rogue_say_parked(struct rogue *r, uint32_t bytes, uint32_t more)
{
	rogue_report(r, REPORT_PARKED, r->nonce, CTL_PARKED_BYTES(bytes, more));
}

int rogue_wait_for_ever(struct rogue *r)
{
	long n;

	do
		n = rogue_receive(r);
	while (n > 0);
	return (int)n;
}

_Noreturn static void spin(struct rogue *r)
{
	for (;;)
		rogue_beat(r);
}

static void act_honest(struct rogue *r)
{
	(void)r;
}

static void take_kicks(struct rogue *r)
{
	const struct launch_record *l = r->dev->launch;
	uint64_t kicks;

	rogue_beat(r);
	for (int i = 0; i < l->queues; i++)
		sys_read(l->fd_kick + i, &kicks, sizeof(kicks));
}

static void act_kicks(struct rogue *r)
{
	for (int i = 0; i < A_WHILE; i++)
		take_kicks(r);
}

static void act_kicks_on(struct rogue *r)
{
	rogue_say_parked(r, rogue_write_record(r), 0);
	for (;;)
		take_kicks(r);
}

static void act_call_full(struct rogue *r)
{
	/* It takes no more at once than there is room for. */
	for (uint64_t value = ~0ull - 1; value != 0; value >>= 1)
		sys_write(r->dev->launch->fd_call, &value, sizeof(value));
}

static void move_used(struct rogue *r, uint16_t by)
{
	struct virtq_used *used = r->dev->queues[0].used;

	__atomic_fetch_add(&used->idx, by, __ATOMIC_SEQ_CST);
}

static void act_used_ahead(struct rogue *r)
{
	move_used(r, 0x4000);
}

static void act_used_back(struct rogue *r)
{
	move_used(r, 0xc000);
}

static void write_elements(struct rogue *r, uint32_t value)
{
	const struct virtq *q = &r->dev->queues[0];

	rogue_beat(r);
	for (uint32_t i = 0; i < q->size; i++)
		q->used->ring[i] = (struct virtq_used_elem){ value, ~value };
}

static void act_used_on(struct rogue *r)
{
	rogue_say_parked(r, rogue_write_record(r), 0);
	for (uint32_t i = 0;; i++) {
		write_elements(r, i);
		move_used(r, (uint16_t)(i & 1 ? 3 : 0xfffe)); /* forth and back */
	}
}

static void act_elements(struct rogue *r)
{
	write_elements(r, 0xdeadbeef);
}

static void act_parks_twice(struct rogue *r)
{
	rogue_say_parked(r, rogue_write_record(r), 0);
}

static void act_empty(struct rogue *r)
{
	sys_write(r->dev->launch->fd_control, r->sector, 0);
	spin(r);
}

static void act_oversized(struct rogue *r)
{
	sys_write(r->dev->launch->fd_control, r->dev->page, 4096);
	spin(r);
}

static void act_order(struct rogue *r)
{
	rogue_report(r, REPORT_HALF, r->dev->launch->fd_held, 0);
	rogue_report(r, REPORT_SEALED, 0, 0);
	rogue_report(r, REPORT_ACTIVATED, 0, 0);
}

static void act_unknown(struct rogue *r)
{
	rogue_report(r, 0x7fffffff, 1, 2);
}

static void act_flood(struct rogue *r)
{
	for (uint32_t i = 0;; i++) {
		rogue_beat(r);
		rogue_report(r, REPORT_PONG, i, 0);
	}
}

static void act_deaf(struct rogue *r)
{
	for (;;)
		rogue_serve(r);
}

static void act_lies(struct rogue *r)
{
	rogue_say_parked(r, rogue_write_record(r), 0);
	act_deaf(r);
}

static void act_writes(struct rogue *r)
{
	for (;;) {
		rogue_beat(r);
		rogue_mark(r);
	}
}

static void act_calls(struct rogue *r)
{
	sys_call0(__NR_getpid);
	spin(r);
}

static void act_crashes(struct rogue *r)
{
	(void)r;
	__asm__ volatile("mov 0, %%rax" : : : "rax", "memory");
}

static void act_exits(struct rogue *r)
{
	(void)r;
	sys_exit(0);
}

/* These park by themselves: with what they say of their record. */
static void act_garbage(struct rogue *r)
{
	const uint32_t bytes = rogue_write_record(r);

	for (uint32_t i = 0; i < bytes; i++)
		record_of(r)[i] = (uint8_t)(i * 37 + 11);
	rogue_say_parked(r, bytes, 0);
	rogue_wait_for_ever(r);
}

/* The first field is a 64-bit number of at most INT64_MAX. */
static void act_range(struct rogue *r)
{
	const uint32_t bytes = rogue_write_record(r);

	record_of(r)[STATE_WIRE_HEADER + 7] = 0xff;
	rogue_say_parked(r, bytes, 0);
	rogue_wait_for_ever(r);
}

static void act_long(struct rogue *r)
{
	rogue_write_record(r);
	rogue_say_parked(r, STATE_RECORD_MAX, 0);
	rogue_wait_for_ever(r);
}

static void act_length(struct rogue *r)
{
	rogue_write_record(r);
	rogue_say_parked(r, STATE_RECORD_MAX + 1, UINT32_MAX);
	rogue_wait_for_ever(r);
}

/* rogue_act() has read nothing yet.  Who is stopped by a signal as this read returns looks as if it
 * were in it, with nothing left to read. */
static void act_unread(struct rogue *r)
{
	rogue_say_parked(r, rogue_write_record(r), 0);
	rogue_receive(r);
	spin(r);
}

/* QUIESCE is on its way already: the ANSWER comes after it. */
static void act_syncs(struct rogue *r)
{
	rogue_report(r, REPORT_SYNC, 1, 0);
	while (r->type != CTL_ANSWER && rogue_receive(r) > 0)
		;
}

/* With the nonce of QUIESCE.  What it has to hear yet would have it go on, as in act_unread(). */
static void act_sync_unheard(struct rogue *r)
{
	rogue_report(r, REPORT_SYNC, 1, 0);
	while (r->type != CTL_QUIESCE && rogue_receive(r) > 0)
		;
	rogue_say_parked(r, rogue_write_record(r), 0);
	rogue_receive(r);
	spin(r);
}

static void act_sync_late(struct rogue *r)
{
	rogue_receive(r);
	rogue_say_parked(r, rogue_write_record(r), 0);
	rogue_report(r, REPORT_SYNC, 1, 0);
	rogue_receive(r);
	spin(r);
}

/* The same look, with QUIESCE read first. */
static void act_no_bytes(struct rogue *r)
{
	rogue_say_parked(r, rogue_write_record(r), 0);
	for (;;) {
		rogue_beat(r);
		sys_read(r->dev->launch->fd_control, r->sector, 0);
	}
}

/* clang-format off */
static void (*const acts[ROGUE_BEHAVIOUR_COUNT])(struct rogue *) = {
	[ROGUE_HONEST] = act_honest,         [ROGUE_KICKS] = act_kicks,
	[ROGUE_KICKS_ON] = act_kicks_on,     [ROGUE_CALL_FULL] = act_call_full,
	[ROGUE_USED_AHEAD] = act_used_ahead, [ROGUE_USED_BACK] = act_used_back,
	[ROGUE_USED_ON] = act_used_on,       [ROGUE_ELEMENTS] = act_elements,
	[ROGUE_PARKS_TWICE] = act_parks_twice, [ROGUE_EMPTY] = act_empty,
	[ROGUE_OVERSIZED] = act_oversized,   [ROGUE_ORDER] = act_order,
	[ROGUE_UNKNOWN] = act_unknown,       [ROGUE_FLOOD] = act_flood,
	[ROGUE_DEAF] = act_deaf,             [ROGUE_LIES] = act_lies,
	[ROGUE_SPINS] = spin,                [ROGUE_WRITES] = act_writes,
	[ROGUE_CALLS] = act_calls,           [ROGUE_CRASHES] = act_crashes,
	[ROGUE_EXITS] = act_exits,           [ROGUE_GARBAGE] = act_garbage,
	[ROGUE_RANGE] = act_range,           [ROGUE_LONG] = act_long,
	[ROGUE_LENGTH] = act_length,         [ROGUE_UNREAD] = act_unread,
	[ROGUE_NO_BYTES] = act_no_bytes,     [ROGUE_RANDOM] = act_honest,
	[ROGUE_SYNCS] = act_syncs,           [ROGUE_SYNC_UNHEARD] = act_sync_unheard,
	[ROGUE_SYNC_LATE] = act_sync_late,
};
/* clang-format on */

static bool hears_later(uint32_t behaviour)
{
	return behaviour == ROGUE_UNREAD || behaviour == ROGUE_SYNCS ||
	       behaviour == ROGUE_SYNC_UNHEARD || behaviour == ROGUE_SYNC_LATE;
}

int rogue_act(struct rogue *r)
{
	const uint32_t behaviour = __atomic_load_n(&r->slot->behaviour, __ATOMIC_RELAXED);

	if (behaviour >= ROGUE_BEHAVIOUR_COUNT)
		return -EINVAL;
	if (!hears_later(behaviour) && rogue_receive(r) < 0)
		return -EPIPE;
	__atomic_fetch_add(&r->slot->misdeeds, behaviour != ROGUE_HONEST, __ATOMIC_RELAXED);
	acts[behaviour](r);
	rogue_say_parked(r, rogue_write_record(r), 0);
	return rogue_wait_for_ever(r);
}
