/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A thread looks at the state of its device again and again, and does what a
 * driver or an operator could do in that state.  How long it looks on at one generation is drawn anew
 * for each, so that some are ended in the midst of what they do, some by the patrol, and the rest by a
 * replacement or a reset.
 */
#include "tests/rig/rogues.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/box/table.h"
#include "core/cc.h"

#define TICK_US 200
#define PATIENCE_NS (2 * NS_PER_MS)        /* for a sequence */
#define LONG_PATIENCE_NS (250 * NS_PER_MS) /* the patrol is to see it */
#define WAIT_MS 120000                     /* for what takes milliseconds on any machine */
#define WILD_BYTES (2u << 20)
#define SLOTS 16 /* requests of a ring; one more where rogues do not write */
#define SLOT_BYTES 8192
#define DATA_AT 1024
#define SECTOR 512u

struct request_head { /* virtio 1.2 section 5.2.6 */
	uint32_t type, reserved;
	uint64_t sector;
};

/* Of the device's thread: the first fault stays. */
#define NEED(d, cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(d)->line = __LINE__;                                                      \
			__atomic_store_n(&(d)->fault, #cond, __ATOMIC_RELEASE);                    \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

static uint64_t chance(struct rogue_device *d, uint64_t below)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random % below;
}

/* ---- a driver ---- */

static struct request_head *request_place(const struct rogue_device *d, uint32_t ring,
					  uint32_t slot, uint64_t *gpa)
{
	*gpa = slot == SLOTS ? d->calm_gpa + (uint64_t)ring * SLOT_BYTES
			     : d->buffers_gpa + ((uint64_t)ring * SLOTS + slot) * SLOT_BYTES;
	return guestmem_ptr(&d->all->rig->mem, gpa_make(*gpa), SLOT_BYTES);
}

/* One request from a slot, whatever may still be going on there. */
static int offer(struct rogue_device *d, uint32_t ring, uint32_t slot, uint32_t type,
		 uint64_t sector)
{
	uint64_t gpa;
	struct request_head *head = request_place(d, ring, slot, &gpa);
	const bool in = type == 0;
	const struct ringdrv_seg seg[] = {
		{ gpa, sizeof(*head) },
		{ gpa + DATA_AT, SECTOR },
		{ gpa + SLOT_BYTES - 1, 1 },
	};
	const struct ringdrv_chain chain = {
		.seg = seg, .readable = in ? 1 : 2, .writable = in ? 2 : 1, .token = slot
	};

	*head = (struct request_head){ type, 0, sector };
	return ringdrv_add(&d->blk.rings[ring], &chain);
}

/* Takes what is there, whoever put it there, and asks for more. */
static void feed(struct rogue_device *d)
{
	for (uint32_t i = 0; i < d->blk.queues; i++) {
		struct ringdrv_queue *q = &d->blk.rings[i];
		struct ringdrv_done done;

		while (ringdrv_reap(q, &done))
			;
		for (uint64_t n = chance(d, 4); n > 0; n--)
			offer(d, i, (uint32_t)chance(d, SLOTS), (uint32_t)chance(d, 2),
			      chance(d, d->blk.bytes / SECTOR));
		ringdrv_publish(q);
		if (chance(d, 4) == 0)
			ringdrv_kick_always(q);
		else
			ringdrv_kick(q);
	}
}

/* As a driver that writes 0 to the status, in whatever state, and begins anew. */
static int reset(struct rogue_device *d)
{
	const uint64_t resets = watch_count(d->watch, WATCH_RESET);

	device_reset(d->blk.dev);
	NEED(d, watch_wait(d->watch, WATCH_RESET, resets + 1, WAIT_MS) == 0);
	for (uint32_t i = 0; i < d->blk.queues; i++)
		ringdrv_reset(&d->blk.rings[i]);
	d->figures[ROGUES_RESETS]++;
	NEED(d, boxrig_blk_go(&d->blk) == 0);
	return 0;
}

/* Asks and waits for the answer; the status it ends with. */
static int ask(struct rogue_device *d, uint32_t ring, uint32_t type, uint64_t sector)
{
	struct ringdrv_queue *q = &d->blk.rings[ring];
	struct ringdrv_done done;
	uint64_t gpa;
	uint8_t *status = (uint8_t *)request_place(d, ring, SLOTS, &gpa) + SLOT_BYTES - 1;

	*status = 0xee;
	NEED(d, offer(d, ring, SLOTS, type, sector) == 0);
	ringdrv_publish(q);
	ringdrv_kick(q);
	NEED(d, ringdrv_wait(q, WAIT_MS * NS_PER_MS) == 1);
	NEED(d, ringdrv_reap(q, &done) == 1);
	return *status;
}

/* Each queue is served, by a device that keeps what it is told. */
static int check_serves(struct rogue_device *d)
{
	for (uint32_t i = 0; i < d->blk.queues; i++) {
		uint64_t gpa;
		uint8_t *data = (uint8_t *)request_place(d, i, SLOTS, &gpa) + DATA_AT;
		const uint8_t pattern = (uint8_t)chance(d, 256);
		const uint64_t sector = chance(d, d->blk.bytes / SECTOR);

		memset(data, pattern, SECTOR);
		NEED(d, ask(d, i, 1, sector) == 0);
		memset(data, ~pattern, SECTOR);
		NEED(d, ask(d, i, 0, sector) == 0);
		for (uint32_t at = 0; at < SECTOR; at++)
			NEED(d, data[at] == pattern);
	}
	return 0;
}

static int come_back(struct rogue_device *d)
{
	const uint64_t started = watch_count(d->watch, WATCH_STARTED);

	if (reset(d) != 0)
		return -1;
	NEED(d, watch_wait(d->watch, WATCH_STARTED, started + 1, WAIT_MS) == 0);
	if (check_serves(d) != 0)
		return -1;
	d->figures[ROGUES_COMEBACKS]++;
	return 0;
}

/* ---- what to do in each state ---- */

/* Every box of the active generation found no sequence to play. */
static bool is_honest(const struct rogue_device *d, uint64_t generation)
{
	for (uint32_t i = 0; i < d->lanes; i++) {
		if (__atomic_load_n(&d->slots[i]->honest, __ATOMIC_RELAXED) != generation)
			return false;
	}
	return true;
}

static bool is_to_play(const struct rogue_device *d)
{
	const struct rogue_dice *dice = &d->all->page->dice;

	return rogues_next(d->all) < __atomic_load_n(&dice->limit, __ATOMIC_RELAXED);
}

static void draw_patience(struct rogue_device *d)
{
	const uint64_t drawn = chance(d, 32);

	d->patience_ns = drawn == 0   ? LONG_PATIENCE_NS
			 : drawn < 12 ? chance(d, PATIENCE_NS)
				      : PATIENCE_NS;
}

/* The generation has had its time.  Each of these may find the state changed meanwhile. */
static int end_generation(struct rogue_device *d)
{
	struct replacement r;

	switch (chance(d, 8)) {
	case 0:
		return reset(d);
	case 1:
	case 2:
	case 3:
		d->figures[ROGUES_REPLACED] +=
			device_replace(d->blk.dev, REPLACE_OPERATOR, chance(d, 2) != 0, &r) == 0;
		return 0;
	case 4:
		device_replace_post(d->blk.dev, REPLACE_SCHEDULE, chance(d, 2) != 0);
		return 0;
	default:
		d->figures[ROGUES_CONDEMNED] += device_condemn(d->blk.dev, REPLACE_AUDIT) == 0;
		return 0;
	}
}

static int on_active(struct rogue_device *d, const struct device_status *s)
{
	const uint64_t now = now_ns();

	if (s->generation != d->generation) {
		d->generation = s->generation;
		d->since_ns = now;
		draw_patience(d);
		d->figures[ROGUES_GENERATIONS] = s->generation;
	}
	feed(d);
	if (is_honest(d, s->generation)) {
		if (is_to_play(d))
			return end_generation(d);
		if (come_back(d) != 0)
			return -1;
		__atomic_store_n(&d->done, d->all->round, __ATOMIC_RELEASE);
		return 0;
	}
	if (now - d->since_ns < d->patience_ns)
		return 0;
	d->figures[ROGUES_OUTSAT] += d->patience_ns == LONG_PATIENCE_NS;
	return end_generation(d);
}

/* The driver was told: it resets, sooner or later. */
static int on_broken(struct rogue_device *d, const struct device_status *s)
{
	NEED(d, s->broken != NULL && s->broken[0] != '\0');
	if (chance(d, 4) == 0)
		return 0;
	d->figures[ROGUES_BROKEN]++;
	return reset(d);
}

/* One that refuses everything is a rogue, too, and is looked at for a while. */
static int on_quarantined(struct rogue_device *d, const struct device_status *s)
{
	NEED(d, s->broken != NULL && s->broken[0] != '\0');
	feed(d);
	if (chance(d, 16) != 0)
		return 0;
	d->figures[ROGUES_QUARANTINED]++;
	if (chance(d, 2) == 0)
		return reset(d);
	d->figures[ROGUES_REVIVALS] += device_revive(d->blk.dev) == 0;
	return 0;
}

static bool is_state(const char *name)
{
	for (uint32_t i = 0; i < DEVICE_STATE_COUNT; i++) {
		if (strcmp(name, device_state_api((enum device_state)i)) == 0)
			return true;
	}
	return false;
}

static void note_away(struct rogue_device *d, bool away)
{
	if (away && d->away_since_ns == 0)
		d->away_since_ns = now_ns();
	if (away || d->away_since_ns == 0)
		return;
	hist_add(&d->away_ns, now_ns() - d->away_since_ns);
	d->away_since_ns = 0;
}

static int tick(struct rogue_device *d)
{
	struct device_status s;
	const uint64_t begin = now_ns();

	device_status(d->blk.dev, &s);
	hist_add(&d->status_ns, now_ns() - begin);
	NEED(d, is_state(s.state));
	for (uint32_t i = 0; i < d->lanes; i++)
		NEED(d, __atomic_load_n(&d->slots[i]->two_active, __ATOMIC_RELAXED) == 0);
	const bool broken = strcmp(s.state, "broken") == 0;
	const bool quarantined = strcmp(s.state, "quarantined") == 0;
	const bool active = strcmp(s.state, "active") == 0;

	note_away(d, !broken && !quarantined && !active);
	if (active)
		return on_active(d, &s);
	if (broken)
		return on_broken(d, &s);
	if (quarantined)
		return on_quarantined(d, &s);
	return chance(d, 512) == 0 ? reset(d) : 0;
}

static void *device_main(void *arg)
{
	struct rogue_device *d = arg;
	struct rogues *all = d->all;

	while (!__atomic_load_n(&all->stop, __ATOMIC_RELAXED)) {
		if (d->done != __atomic_load_n(&all->round, __ATOMIC_ACQUIRE) && tick(d) != 0)
			break;
		usleep(TICK_US);
	}
	return NULL;
}

/* ---- all of them ---- */

static int make_device(struct rogue_device *d, const struct boxrig_blk_config *config,
		       struct rogue_slot *slots)
{
	struct boxrig_blk_config c = *config;
	gpa_t calm;
	int ret;

	d->name = c.name;
	d->lanes = c.lanes != 0 ? c.lanes : 1;
	d->watch = calloc(1, sizeof(*d->watch));
	if (d->watch == NULL)
		return -ENOMEM;
	watch_init(d->watch);
	c.hooks = &watch_hooks;
	c.ctx = d->watch;
	ret = boxrig_blk_create(d->all->rig, &c, &d->blk);
	if (ret == 0)
		ret = guestmem_alloc(&d->all->rig->mem, (uint64_t)d->blk.queues * SLOT_BYTES, 4096,
				     &calm);
	for (uint32_t i = 0; i < d->lanes && ret == 0; i++) {
		d->calm_gpa = d->random = calm.raw;
		d->blk.rings[i].complaints.quiet = true;
		d->slots[i] = &slots[i];
		slots[i].used_gpa = d->blk.rings[i].used_gpa; /* lane i begins with queue i */
		slots[i].behaviour = ROGUE_RANDOM;
	}
	return ret;
}

static int start_device(struct rogue_device *d, uint64_t buffers_gpa)
{
	int ret;

	d->buffers_gpa = buffers_gpa;
	ret = boxrig_blk_go(&d->blk);
	if (ret == 0)
		ret = -pthread_create(&d->thread, NULL, device_main, d);
	d->running = ret == 0;
	return ret;
}

/* The last memory to be given out, so that what is behind it is nobody's. */
static int begin_dice(struct rogues *rogues, uint64_t first)
{
	struct rogue_dice *dice = &rogues->page->dice;
	gpa_t wild;
	const int ret = guestmem_alloc(&rogues->rig->mem, WILD_BYTES, 4096, &wild);

	if (ret != 0)
		return ret;
	dice->next = dice->limit = first;
	dice->wild_gpa = wild.raw;
	dice->wild_bytes = WILD_BYTES;
	return 0;
}

int rogues_begin(struct rogues *rogues, struct boxrig *rig, const struct boxrig_blk_config *configs,
		 uint32_t count, uint64_t first)
{
	uint32_t slot = 0, ring = 0;
	int ret = 0;

	rogues->rig = rig;
	rogues->page = guestmem_ptr(&rig->mem, gpa_make(ROGUE_PAGE_GPA), sizeof(*rogues->page));
	memset(rogues->page, 0, sizeof(*rogues->page));
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		struct rogue_device *d = &rogues->devices[i];

		d->all = rogues;
		rogues->count = i + 1;
		ret = make_device(d, &configs[i], &rogues->page->slots[slot]);
		slot += d->lanes;
	}
	if (ret == 0)
		ret = begin_dice(rogues, first);
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		struct rogue_device *d = &rogues->devices[i];

		ret = start_device(d, rogues->page->dice.wild_gpa +
					      (uint64_t)ring * SLOTS * SLOT_BYTES);
		ring += d->blk.queues;
	}
	return ret;
}

uint64_t rogues_next(const struct rogues *rogues)
{
	return __atomic_load_n(&rogues->page->dice.next, __ATOMIC_RELAXED);
}

void rogues_round(struct rogues *rogues, uint64_t limit)
{
	__atomic_store_n(&rogues->page->dice.limit, limit, __ATOMIC_RELAXED);
	__atomic_fetch_add(&rogues->round, 1, __ATOMIC_RELEASE);
}

int rogues_round_over(const struct rogues *rogues)
{
	int over = 1;

	for (uint32_t i = 0; i < rogues->count; i++) {
		const struct rogue_device *d = &rogues->devices[i];

		if (__atomic_load_n(&d->fault, __ATOMIC_ACQUIRE) != NULL)
			return -1;
		if (__atomic_load_n(&d->done, __ATOMIC_ACQUIRE) != rogues->round)
			over = 0;
	}
	return over;
}

/* ---- what was played: also from a signal handler ---- */

static void put(const char *text)
{
	if (write(2, text, strlen(text)) < 0)
		return; /* there is nobody to tell */
}

static void put_number(uint64_t value)
{
	char text[24];
	char *p = text + sizeof(text) - 1;

	for (*p = '\0'; value > 9; value /= 10)
		*--p = (char)('0' + value % 10);
	*--p = (char)('0' + value);
	put(p);
}

static void tell_device(const struct rogue_device *d, uint32_t number)
{
	const char *fault = __atomic_load_n(&d->fault, __ATOMIC_ACQUIRE);

	if (fault != NULL) {
		put(d->name);
		put(" is at fault: line ");
		put_number((uint64_t)d->line);
		put(": ");
		put(fault);
		put("\n");
	}
	for (uint32_t i = 0; i < d->lanes && d->slots[i] != NULL; i++) {
		put(d->name);
		put(": its last sequence again: COUNT=1 SEED=");
		put_number(d->slots[i]->sequence);
		put(" ROGUE=");
		put_number(number);
		put("\n");
	}
}

void rogues_tell(const struct rogues *rogues)
{
	for (uint32_t i = 0; i < rogues->count; i++)
		tell_device(&rogues->devices[i], i);
}

static const struct rogues *watched;

static void on_signal(int number)
{
	rogues_tell(watched);
	signal(number, SIG_DFL);
	raise(number);
}

void rogues_watch_signals(const struct rogues *rogues)
{
	watched = rogues;
	signal(SIGABRT, on_signal);
	signal(SIGTERM, on_signal);
#ifndef __SANITIZE_ADDRESS__ /* which tells of these itself, then aborts if it is asked to */
	signal(SIGSEGV, on_signal);
	signal(SIGBUS, on_signal);
#endif
}

void rogues_stop(struct rogues *rogues)
{
	__atomic_store_n(&rogues->stop, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < rogues->count; i++) {
		if (rogues->devices[i].running)
			pthread_join(rogues->devices[i].thread, NULL);
		rogues->devices[i].running = false;
	}
}

void rogues_end(struct rogues *rogues)
{
	rogues_stop(rogues);
	for (uint32_t i = 0; i < rogues->count; i++) {
		struct rogue_device *d = &rogues->devices[i];

		if (d->blk.rig != NULL)
			boxrig_blk_destroy(&d->blk);
		if (d->watch != NULL)
			watch_free(d->watch);
		free(d->watch);
		d->watch = NULL;
	}
	rogues->count = 0;
}
