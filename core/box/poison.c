/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that kills whoever serves it.  Requests are served one at a time and in order, so the one
 * that was in progress when a box died inside (a fault of its own, a forbidden call) is the one at
 * used->idx of the queue that it was serving.  When that was the same request `poison_limit` times,
 * the successor answers it with an error before it serves on.
 *
 * Which queue it was serving is the box's own word (state page, `busy`).  One that lies gets a request
 * of its own guest answered with an error, which it could have done itself.
 *
 * Deaths that the box did not cause, by SIGKILL from outside or for want of memory, count for nothing;
 * nor do queues on which the driver only offers room: what is done there depends on no request.
 */
#include <signal.h>

#include "core/box/internal.h"
#include "core/log.h"
#include "devmodel/abi/kinds.h"

/* Where that cannot be known yet, the box is believed to have, until poison_learn(). */
static bool died_inside(const struct box *box)
{
	if (box->reason == REPLACE_SECCOMP || (box->reason == REPLACE_CRASH && !box->cause_known))
		return true;
	switch (box->killed_by) {
	case SIGSEGV:
	case SIGBUS:
	case SIGILL:
	case SIGFPE:
	case SIGSYS: /* a forbidden call where there is no listener */
		return true;
	default:
		return false;
	}
}

/* Of the queue that it was serving, if that can be blamed at all; else NULL. */
static struct poison *poison_of(const struct box *box)
{
	struct device *dev = box->gen->dev;

	if (dev->spec.poison_limit == 0 || box->page == NULL)
		return NULL;
	const uint32_t queue = __atomic_load_n(&box->page->busy, __ATOMIC_RELAXED) - 1;

	if (queue >= dev->spec.queues || queue % dev->spec.lanes != box->lane ||
	    !dev_kind_is_outward(dev->spec.kind, queue))
		return NULL;
	return &dev->poison[queue];
}

bool poison_wants_cause(const struct box *box)
{
	const struct poison *p = poison_of(box);

	return p != NULL && p->deaths + 1 >= box->gen->dev->spec.poison_limit;
}

void poison_blame(const struct box *box)
{
	struct poison *p = poison_of(box);

	if (p == NULL || !died_inside(box))
		return;
	p->blamed = true;
	p->unsure = box->reason == REPLACE_SECCOMP || box->cause_known ? 0 : box->cookie;
}

void poison_learn(const struct box *box)
{
	struct device *dev = box->gen->dev;

	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		struct poison *p = &dev->poison[i];

		if (p->unsure == 0 || p->unsure != box->cookie)
			continue;
		p->unsure = 0;
		if (!died_inside(box) && p->deaths > 0)
			p->deaths--;
	}
}

void poison_judge(struct device *dev)
{
	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		struct poison *p = &dev->poison[i];
		struct ctl_queue *q = &dev->queues[i];

		if (p->deaths != 0 && p->idx != q->next)
			p->deaths = 0; /* it was answered */
		p->idx = q->next;
		p->deaths += p->blamed;
		p->blamed = false;
		/* Stays so until it is answered: whoever is to answer may be killed before. */
		q->refuse = dev->spec.poison_limit != 0 && p->deaths >= dev->spec.poison_limit;
		if (!q->refuse || p->deaths != dev->spec.poison_limit)
			continue;
		p->deaths++; /* told once */
		dev->poisoned++;
		device_tell(dev, POISONED, .number = i);
		log_warn("%s: queue %u: a request that killed %u generations is answered with an"
			 " error",
			 dev->spec.id, i, dev->spec.poison_limit);
	}
}

void poison_forget(struct device *dev)
{
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		dev->poison[i] = (struct poison){ 0 };
}
