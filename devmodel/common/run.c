/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a generation after the seal: STANDBY, SERVE, PARK (see dev.h).  One thread, one
 * request at a time.  Two things wake it: poll, when there is nothing to do, and the bell, when
 * there always is: a loaded ring never lets the loop reach poll, so the bell is looked at once a
 * request.
 *
 * Activation (docs/generations.md): every queue asks for kicks and reads avail->idx once; what is
 * there is served up to it; every queue is signalled once; only then the first pass is reported.  A
 * predecessor may have died with a kick read, a signal unsent or kicks suppressed: after this order
 * none of it matters.
 *
 * A request may need the VMM's answer (dev_ask).  Nothing else is done until it is there; a QUIESCE that
 * comes first is kept, and obeyed when the request is done.
 */
#include <asm/errno.h>
#include <linux/poll.h>
#include <stdint.h>

#include "devmodel/common/dev.h"
#include "devmodel/common/faulty.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"
#include "snapshot/codec.h"

/* Control, kicks, timer, streams. */
#define POLL_MAX (BOX_QUEUES_MAX + 2 + DEV_STREAMS_MAX)

struct loop {
	struct dev *dev;
	uint32_t heard; /* messages read, as the bell counts */
	bool broken;    /* a queue broke: serve nothing until the device is reset */
	bool parks;     /* QUIESCE was read, within a request: park when it is published */
	uint32_t nonce; /* of the last QUIESCE or ANSWER */
	uint32_t syncs; /* sent */
	bool blocked[BOX_QUEUES_MAX];
	uint32_t polls;
	struct pollfd poll[POLL_MAX];
};

/* Large, and only one device a process: not on the small stack. */
static union {
	struct ctl_header header;
	struct ctl_activate activate;
	struct ctl_answer answer;
	uint8_t bytes[CTL_BYTES_MAX];
} message;

static int run_report(const struct dev *dev, enum report_type type, uint32_t value, uint64_t detail)
{
	const struct box_report report = { type, value, detail };
	const long n = sys_write(dev->launch->fd_control, &report, sizeof(report));

	return n == sizeof(report) ? 0 : -EPIPE;
}

int dev_report(struct dev *dev, enum report_type type, uint32_t value, uint64_t detail)
{
	return dev->ended = run_report(dev, type, value, detail);
}

/* Reads one control message, waiting for it.  Its length, or -EPIPE, or -EPROTO. */
static long run_receive(struct loop *loop)
{
	long n;

	do
		n = sys_read(loop->dev->launch->fd_control, message.bytes, sizeof(message));
	while (n == -EINTR);
	if (n <= 0)
		return -EPIPE;
	loop->heard++;
	return n >= (long)sizeof(message.header) ? n : -EPROTO;
}

static int run_pong(const struct loop *loop)
{
	return run_report(loop->dev, REPORT_PONG, message.header.value, 0);
}

/* Decodes the records that follow an ACTIVATE.  0, -EPROTO for lengths that do not agree, -EBADMSG
 * for a record that its schema refuses (reported first: the VMM then starts clean). */
static int run_records(struct dev *dev, long received)
{
	const uint8_t *p = message.bytes + sizeof(message.activate);
	size_t left = (size_t)received - sizeof(message.activate);
	bool carried = false;

	for (int c = 0; c < STATE_CLASSES; c++) {
		const uint32_t bytes = message.activate.record_bytes[c];

		if (bytes > left)
			return -EPROTO;
		if (bytes != 0) {
			if (dev->ops->state[c] == NULL ||
			    state_decode(dev->ops->state[c], p, bytes, dev->state[c].bytes) != 0)
				goto refused;
			carried = dev->carried[c] = true;
		}
		p += bytes;
		left -= bytes;
	}
	if (left != 0)
		return -EPROTO;
	if (!carried || dev->ops->check(dev) == 0)
		return 0;
refused:
	run_report(dev, REPORT_REFUSED, 0, 0);
	return -EBADMSG;
}

static int run_break(struct loop *loop, const struct virtq *q)
{
	loop->broken = true;
	return run_report(loop->dev, REPORT_BROKEN, q->number, (uint64_t)q->error);
}

/* Sets up the queues as the VMM gave them. 0 also when one of them is broken: that is reported. */
static int run_queues(struct loop *loop)
{
	struct dev *dev = loop->dev;
	const struct launch_record *l = dev->launch;

	dev->features = message.activate.features;
	for (uint32_t i = 0; i < l->queues; i++) {
		struct virtq *q = &dev->queues[i];

		q->log = dirty_open(&dev->log, l);
		q->number = l->queue_index[i];
		q->fd_kick = l->fd_kick + (int)i;
		q->fd_call = l->fd_call + (int)i;
		if (virtq_init(q, &l->map, &message.activate.queues[i], dev->features) != 0)
			return run_break(loop, q);
	}
	return 0;
}

static void run_count(struct dev *dev)
{
	dev->served++;
	__atomic_store_n(&dev->page->served, dev->served, __ATOMIC_RELAXED);
}

static bool run_bell(const struct loop *loop)
{
	const uint32_t bell = __atomic_load_n(&loop->dev->page->bell, __ATOMIC_ACQUIRE);

	return (int32_t)(bell - loop->heard) > 0;
}

/* Writes the records and waits to be killed.  Never returns but for -EPIPE (the VMM is gone).  The
 * nonce says that all that the VMM sent was read before PARKED was said. */
static int run_park(struct loop *loop)
{
	struct dev *dev = loop->dev;
	uint32_t bytes[STATE_CLASSES] = { 0 };

	if (dev->ops->quiesce != NULL)
		dev->ops->quiesce(dev);
	for (int c = 0; c < STATE_CLASSES; c++) {
		if (dev->ops->state[c] == NULL)
			continue;
		const int n = state_encode(dev->ops->state[c], dev->state[c].bytes,
					   dev->page->record[c], STATE_RECORD_MAX);

		if (n < 0)
			return -EINVAL; /* a live value out of its range: a bug, and no state */
		bytes[c] = (uint32_t)n;
	}
	faulty_record(dev);
	if (run_report(dev, REPORT_PARKED, loop->nonce,
		       CTL_PARKED_BYTES(bytes[STATE_DATA], bytes[STATE_CONTROL])) != 0)
		return -EPIPE;
	faulty_parked(dev);
	for (;;) {
		const long n = run_receive(loop);

		if (n < 0)
			return (int)n;
	}
}

static int run_poll(struct dev *dev)
{
	if (dev->ops->poll == NULL)
		return -EPROTO;
	dev->ops->poll(dev);
	return 0;
}

/* Acts on a message of n bytes that may come at any time while serving. 0, or what dev_run returns. */
static int run_heard(struct loop *loop, long n)
{
	switch (message.header.type) {
	case CTL_PING:
		return run_pong(loop);
	case CTL_POLL:
		return run_poll(loop->dev);
	case CTL_QUIESCE:
		loop->parks = true;
		loop->nonce = message.header.value;
		return 0;
	default:
		return faulty_message(loop->dev, message.bytes, n);
	}
}

/* The same between two requests, and parks. */
static int run_message(struct loop *loop)
{
	const long n = run_receive(loop);
	const int ret = n < 0 ? (int)n : run_heard(loop, n);

	return ret == 0 && loop->parks ? run_park(loop) : ret;
}

/* Until ANSWER, which is then in `message`; what else comes meanwhile is heard. 0 or -errno. */
static int run_await(struct loop *loop)
{
	int ret = 0;

	while (ret == 0) {
		const long n = run_receive(loop);

		if (n == sizeof(message.answer) && message.header.type == CTL_ANSWER) {
			loop->nonce = message.answer.nonce;
			return 0;
		}
		ret = n < 0 ? (int)n : run_heard(loop, n);
	}
	return ret;
}

int dev_sync(struct dev *dev)
{
	const uint32_t number = ++dev->loop->syncs;

	dev->ended = run_report(dev, REPORT_SYNC, number, 0);
	if (dev->ended == 0)
		dev->ended = run_await(dev->loop);
	if (dev->ended == 0 && message.header.value != number)
		dev->ended = -EPROTO;
	return dev->ended;
}

int dev_ask(struct dev *dev, uint32_t value, uint64_t detail, uint32_t *answer)
{
	dev->ended = run_report(dev, REPORT_ASK, value, detail);
	if (dev->ended == 0)
		dev->ended = run_await(dev->loop);
	*answer = message.header.value;
	return dev->ended;
}

/* Says which queue is being served, for the case that this is the end. */
static void run_busy(const struct dev *dev, uint32_t busy)
{
	__atomic_store_n(&dev->page->busy, busy, __ATOMIC_RELAXED);
}

static enum serve_result run_refuse(struct dev *dev, struct virtq *q)
{
	const enum serve_result refused =
		dev->ops->refuse != NULL ? dev->ops->refuse(dev, q) : SERVE_BLOCKED;

	if (refused == SERVE_DONE && q->refuse != CTL_REFUSE_ALL)
		q->refuse--;
	return refused;
}

/* One request of queue i.  1: done, call again; 0: nothing now; -errno: dev_run returns it. */
static int run_serve(struct loop *loop, uint32_t i)
{
	struct dev *dev = loop->dev;
	struct virtq *q = &dev->queues[i];
	int ret = 0;

	if (loop->broken || q->size == 0)
		return 0;
	run_busy(dev, q->number + 1u);
	faulty_serve(q);
	const enum serve_result served =
		q->refuse != 0 ? run_refuse(dev, q) : dev->ops->serve(dev, q);

	run_busy(dev, 0);
	loop->blocked[i] = served == SERVE_BLOCKED;
	if (served == SERVE_DONE)
		run_count(dev);
	else if (served == SERVE_BROKEN)
		ret = run_break(loop, q);
	else if (served == SERVE_ENDED)
		ret = dev->ended;
	if (ret == 0 && loop->parks)
		ret = run_park(loop);
	if (ret == 0 && run_bell(loop))
		ret = run_message(loop);
	if (ret != 0)
		return ret;
	return served == SERVE_DONE;
}

static int run_first_pass(struct loop *loop)
{
	struct dev *dev = loop->dev;
	int ret = 0;

	for (uint32_t i = 0; i < dev->launch->queues && !loop->broken; i++) {
		if (virtq_activate(&dev->queues[i]) != 0)
			ret = run_break(loop, &dev->queues[i]);
	}
	for (uint32_t i = 0; i < dev->launch->queues && ret >= 0; i++) {
		do
			ret = run_serve(loop, i);
		while (ret > 0);
		dev->queues[i].limited = false;
		if (dev->queues[i].size != 0)
			virtq_signal(&dev->queues[i]);
	}
	return ret < 0 ? ret : run_report(dev, REPORT_ACTIVATED, 0, dev->served);
}

static int run_activate(struct loop *loop, long received)
{
	struct dev *dev = loop->dev;
	int ret;

	if (received < (long)sizeof(message.activate))
		return -EPROTO;
	ret = run_records(dev, received);
	if (ret == 0)
		ret = run_queues(loop);
	faulty_doom(dev, message.activate.doomed);
	dev->shadow = message.activate.shadow;
	dev->reg_seq = message.activate.reg_seq;
	if (ret == 0 && dev->ops->activate != NULL)
		dev->ops->activate(dev);
	return ret != 0 ? ret : run_first_pass(loop);
}

/* STANDBY. 0: activated. */
static int run_standby(struct loop *loop)
{
	for (;;) {
		const long n = run_receive(loop);
		int ret;

		if (n < 0)
			return (int)n;
		if (message.header.type == CTL_ACTIVATE)
			return run_activate(loop, n);
		ret = message.header.type == CTL_PING ? run_pong(loop) : -EPROTO;
		if (ret != 0)
			return ret;
	}
}

/* One request from each queue in turn. 1: something was done; 0: nothing; -errno. */
static int run_round(struct loop *loop)
{
	int busy = 0;

	for (uint32_t i = 0; i < loop->dev->launch->queues; i++) {
		const int ret = run_serve(loop, i);

		if (ret < 0)
			return ret;
		busy |= ret;
	}
	return busy;
}

/* Asks for kicks everywhere. True when a request came in meanwhile. */
static bool run_arm(struct loop *loop)
{
	bool more = false;

	for (uint32_t i = 0; i < loop->dev->launch->queues; i++) {
		struct virtq *q = &loop->dev->queues[i];

		if (!loop->broken && q->size != 0 && !loop->blocked[i] && virtq_arm(q) != 0)
			more = true;
	}
	return more;
}

static void run_poll_setup(struct loop *loop)
{
	const struct launch_record *l = loop->dev->launch;
	uint32_t n = 0;

	loop->poll[n++] = (struct pollfd){ .fd = l->fd_control, .events = POLLIN };
	for (int i = 0; i < l->queues; i++)
		loop->poll[n++] = (struct pollfd){ .fd = l->fd_kick + i, .events = POLLIN };
	if (l->fd_timer != l->fd_held)
		loop->poll[n++] = (struct pollfd){ .fd = l->fd_timer, .events = POLLIN };
	for (uint32_t s = 0; s < loop->dev->ops->streams; s++)
		loop->poll[n++] = (struct pollfd){ .fd = -1, .events = s == 0 ? POLLIN : POLLOUT };
	loop->polls = n;
}

/* One access of a vCPU, if there is a new one: carried out, published, signalled.  The request is
 * the VMM's word, copied once all the same. */
static void run_access(struct dev *dev)
{
	const uint32_t seq = __atomic_load_n(&dev->page->request.seq, __ATOMIC_ACQUIRE);
	const struct reg_request request = dev->page->request;
	struct reg_slot *slot = &dev->page->slots[seq % 2];
	const uint64_t one = 1;

	if (seq == 0 || seq == dev->reg_seq) /* none, or a kick that was for the predecessor */
		return;
	__atomic_store_n(&slot->begin, seq, __ATOMIC_RELEASE);
	slot->value = dev->ops->access(dev, &request);
	__atomic_store_n(&slot->end, seq, __ATOMIC_RELEASE);
	dev->reg_seq = seq;
	run_count(dev);
	sys_write(dev->launch->fd_call, &one, sizeof(one));
}

/* After poll: takes kicks and hands host events on.  The count read from a kick is of no interest. */
static void run_events(struct loop *loop)
{
	struct dev *dev = loop->dev;
	const struct launch_record *l = dev->launch;
	uint32_t n = 1;
	uint64_t count;

	for (uint32_t i = 0; i < l->queues; i++, n++) {
		if (loop->poll[n].revents == 0)
			continue;
		sys_read(loop->poll[n].fd, &count, sizeof(count));
		if (dev->ops->access != NULL)
			run_access(dev);
		else
			virtq_disarm(&dev->queues[i]);
	}
	if (l->fd_timer != l->fd_held && loop->poll[n++].revents != 0)
		dev->ops->host_event(dev, DEV_EVENT_TIMER);
	for (uint32_t s = 0; s < dev->ops->streams; s++, n++) {
		if (loop->poll[n].revents != 0)
			dev->ops->host_event(dev, s);
	}
}

static int run_sleep(struct loop *loop)
{
	const uint32_t streams = loop->dev->ops->streams;

	for (uint32_t s = 0; s < streams; s++)
		loop->poll[loop->polls - streams + s].fd =
			loop->dev->want[s] ? loop->dev->launch->fd_backend + (int)s : -1;
	const long n = sys_call5(__NR_ppoll, loop->poll, loop->polls, 0, 0, 8);

	if (n == -EINTR)
		return 0;
	if (n < 0)
		return -EPROTO;
	run_events(loop);
	return loop->poll[0].revents != 0 ? run_message(loop) : 0;
}

int dev_run(struct dev *dev, const struct dev_ops *ops, const struct launch_record *launch)
{
	static struct loop loop; /* one a process, as the message is */
	int ret;

	loop = (struct loop){ .dev = dev };
	dev->ops = ops;
	dev->launch = launch;
	dev->loop = &loop;
	dev->page = (struct state_page *)(uintptr_t)launch->state_addr;
	ret = ops->init(dev);
	if (ret == 0)
		ret = run_standby(&loop);
	run_poll_setup(&loop);
	while (ret >= 0) {
		ret = run_round(&loop);
		if (ret == 0 && !run_arm(&loop))
			ret = run_sleep(&loop);
	}
	return ret;
}
