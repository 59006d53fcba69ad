/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev_run() of a rogue: linked in place of devmodel/common/run.c with the same start, seal,
 * virtqueue and device as a release program, so it is born, sealed and verified like one, under the
 * same policy, and only then shows what it is.  It is the least that serves: no device that waits
 * for timers or input.
 */
#include "tests/rig/rogue/rogue.h"

#include <asm/errno.h>
#include <linux/poll.h>

#include "devmodel/common/dev.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"
#include "snapshot/codec.h"
#include "tests/rig/rogue/act.h"

#define LOOK_IMAGE_EVERY 16 /* requests */

static union {
	struct ctl_header header;
	struct ctl_activate activate;
	struct ctl_answer answer;
	uint8_t bytes[CTL_BYTES_MAX];
} message;

int rogue_report(struct rogue *r, uint32_t type, uint32_t value, uint64_t detail)
{
	const struct box_report report = { type, value, detail };

	return sys_write(r->dev->launch->fd_control, &report, sizeof(report)) == sizeof(report)
		       ? 0
		       : -EPIPE;
}

void rogue_beat(struct rogue *r)
{
	uint64_t *mine = &r->slot->beats[r->place];

	__atomic_store_n(mine, __atomic_load_n(mine, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* ---- watching for others ---- */

static void watch_begin(struct rogue *r)
{
	for (uint32_t i = 0; i < ROGUE_BEATS; i++)
		r->seen[i] = __atomic_load_n(&r->slot->beats[i], __ATOMIC_RELAXED);
}

void rogue_watch(struct rogue *r)
{
	for (uint32_t i = 0; i < ROGUE_BEATS; i++) {
		const uint64_t now = __atomic_load_n(&r->slot->beats[i], __ATOMIC_RELAXED);

		if (i != r->place && now != r->seen[i])
			count(&r->slot->two_active);
		r->seen[i] = now;
	}
}

static uint64_t mark_offset(const struct rogue *r)
{
	return r->dev->launch->config.blk.bytes - BLK_SECTOR;
}

void rogue_mark(struct rogue *r)
{
	r->sector[0] = r->dev->launch->generation;
	sys_pwrite(r->dev->launch->fd_backend, r->sector, BLK_SECTOR, mark_offset(r));
}

static void watch_image(struct rogue *r)
{
	uint64_t sector[BLK_SECTOR / sizeof(uint64_t)] = { 0 };

	if (sys_pread(r->dev->launch->fd_backend, sector, BLK_SECTOR, mark_offset(r)) !=
		    BLK_SECTOR ||
	    sector[0] != r->dev->launch->generation)
		count(&r->slot->two_writing);
}

/* ---- serving ---- */

int rogue_serve(struct rogue *r)
{
	struct dev *dev = r->dev;
	int busy = 0;

	for (uint32_t i = 0; i < dev->launch->queues; i++) {
		rogue_beat(r);
		const enum serve_result done = dev->ops->serve(dev, &dev->queues[i]);

		if (done == SERVE_BROKEN)
			return -EPROTO;
		busy |= done == SERVE_DONE;
	}
	return busy;
}

bool rogue_bell_rings(const struct rogue *r)
{
	return (int32_t)(__atomic_load_n(&r->dev->page->bell, __ATOMIC_ACQUIRE) - r->heard) > 0;
}

long rogue_receive(struct rogue *r)
{
	long n;

	do
		n = sys_read(r->dev->launch->fd_control, message.bytes, sizeof(message));
	while (n == -EINTR);
	r->heard++;
	r->type = message.header.type;
	r->nonce = r->type == CTL_ANSWER ? message.answer.nonce : message.header.value;
	return n <= 0 ? -EPIPE : n;
}

void rogue_sleep(struct rogue *r)
{
	const struct launch_record *l = r->dev->launch;
	struct pollfd fds[1 + BOX_QUEUES_MAX];
	bool more = false;
	uint64_t kicks;

	for (int i = 0; i < l->queues; i++)
		more = virtq_arm(&r->dev->queues[i]) != 0 || more;
	if (more)
		return;
	fds[0] = (struct pollfd){ .fd = l->fd_control, .events = POLLIN };
	for (int i = 0; i < l->queues; i++)
		fds[1 + i] = (struct pollfd){ .fd = l->fd_kick + i, .events = POLLIN };
	sys_call5(__NR_ppoll, fds, 1 + l->queues, 0, 0, 8);
	for (int i = 0; i < l->queues; i++)
		sys_read(l->fd_kick + i, &kicks, sizeof(kicks));
}

/* ---- life ---- */

static int standby(struct rogue *r)
{
	const long n = rogue_receive(r);

	if (n < 0)
		return (int)n;
	return n >= (long)sizeof(message.activate) && message.header.type == CTL_ACTIVATE ? 0
											  : -EPROTO;
}

/* A successor of a liar must be as strict as any. */
static int take_record(struct rogue *r)
{
	struct dev *dev = r->dev;
	const uint32_t bytes = message.activate.record_bytes[STATE_DATA];

	if (bytes == 0)
		return 0;
	if (bytes <= STATE_RECORD_MAX &&
	    state_decode(dev->ops->state[STATE_DATA], message.bytes + sizeof(message.activate),
			 bytes, dev->state[STATE_DATA].bytes) == 0)
		return 0;
	rogue_report(r, REPORT_REFUSED, 0, 0);
	return -EBADMSG;
}

static struct rogue_slot *find_slot(const struct launch_record *l, uint64_t used_gpa)
{
	struct rogue_page *page = gpa_span(&l->map, gpa_make(ROGUE_PAGE_GPA), sizeof(*page));

	for (uint32_t i = 0; page != NULL && i < ROGUE_SLOTS; i++) {
		if (page->slots[i].used_gpa == used_gpa)
			return &page->slots[i];
	}
	return NULL;
}

static bool is_random(const struct rogue *r)
{
	return __atomic_load_n(&r->slot->behaviour, __ATOMIC_RELAXED) == ROGUE_RANDOM;
}

/* One that plays at random takes rings as it finds them: others of its kind were there before. */
static int activate(struct rogue *r)
{
	struct dev *dev = r->dev;
	const struct launch_record *l = dev->launch;

	r->place = (uint32_t)(l->generation % ROGUE_BEATS);
	r->slot = find_slot(l, message.activate.queues[0].used_gpa);
	if (r->slot == NULL)
		return -EPROTO;
	watch_begin(r);
	if (take_record(r) != 0)
		return -EBADMSG;
	rogue_mark(r);
	count(&r->slot->activations);
	for (uint32_t i = 0; i < l->queues; i++) {
		struct virtq *q = &dev->queues[i];

		q->number = l->queue_index[i];
		q->fd_kick = l->fd_kick + (int)i;
		q->fd_call = l->fd_call + (int)i;
		if ((virtq_init(q, &l->map, &message.activate.queues[i],
				message.activate.features) ||
		     virtq_activate(q) != 0) &&
		    !is_random(r))
			return -EPROTO;
		q->limited = false;
		virtq_signal(q);
	}
	return is_random(r) ? 0 : rogue_report(r, REPORT_ACTIVATED, 0, 0);
}

static bool is_honest(const struct launch_record *l)
{
	return memcmp(l->config.blk.id, ROGUE_HONEST_ID, sizeof(ROGUE_HONEST_ID) - 1) == 0;
}

int dev_run(struct dev *dev, const struct dev_ops *ops, const struct launch_record *launch)
{
	static struct rogue rogue;
	struct rogue *r = &rogue;
	int ret;

	if (is_honest(launch))
		return rogue_release_run(dev, ops, launch);
	r->dev = dev;
	dev->ops = ops;
	dev->launch = launch;
	dev->page = (struct state_page *)(uintptr_t)launch->state_addr;
	ret = ops->init(dev);
	if (ret == 0)
		ret = standby(r);
	if (ret == 0)
		ret = activate(r);
	if (ret == 0 && is_random(r))
		return rogue_play(r);
	for (uint32_t n = 0; ret >= 0; n++) {
		rogue_watch(r);
		if (n % LOOK_IMAGE_EVERY == 0)
			watch_image(r);
		ret = rogue_serve(r);
		if (rogue_bell_rings(r))
			return rogue_act(r);
		if (ret == 0)
			rogue_sleep(r);
	}
	return ret;
}
