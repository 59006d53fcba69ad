/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions of a box, which waits for the answer and does nothing else (devmodel/common/dev.h, dev_ask).
 * What they mean is for device_hooks.asked to know; here it is seen to that they come in turn:
 *
 * - of a kind that may ask, with a value that it can have, from a box that serves;
 * - one at a time: a second one before the answer is a breach of protocol, and so is to say PARKED;
 * - so many a second.  A guest decides how many there are, and each is work of this thread; so one that
 *   comes too early is not a crime, it only waits.
 *
 * The parked fence rests on this: when PARKED is said, nothing of ours is on its way (fence.c).  An answer
 * may follow a QUIESCE; its nonce is then the one that PARKED has to bring back, which only a box that has read
 * the answer knows.
 */
#include <errno.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/ration.h"
#include "devmodel/abi/mem.h"

static const struct ration questions = { .burst = 256, .period_ns = NS_PER_S / 1000 };

static bool is_heard(const struct box *box)
{
	return box->state == BOX_STARTING || box->state == BOX_ACTIVE ||
	       box->state == BOX_QUIESCING;
}

static bool is_legal(enum dev_kind kind, const struct box_report *report)
{
	struct mem_ask ask;

	return kind == DEV_KIND_MEM && mem_ask_parse(report->value, report->detail, &ask);
}

static void ask_put(struct box *box)
{
	const struct device *dev = box->gen->dev;

	dev->spec.hooks->asked(dev->spec.ctx, &box->ask.question);
}

void ask_fire(struct loop_timer *timer)
{
	struct box *box = container_of(timer, struct box, ask.due);

	if (is_heard(box) && box->ask.waits)
		ask_put(box);
}

static void ask_put_in_turn(struct box *box)
{
	struct device *dev = box->gen->dev;
	const uint64_t now = now_ns();
	const uint64_t at = ration_take(&questions, &dev->ask_due_ns, now);

	if (at > now)
		loop_arm(dev->sup->loop, &box->ask.due, at);
	else
		ask_put(box);
}

int ask_take(struct box *box, const struct box_report *report)
{
	const struct device_hooks *hooks = box->gen->dev->spec.hooks;

	if (box->ask.waits || hooks == NULL || hooks->asked == NULL ||
	    !is_legal(box->gen->dev->spec.kind, report))
		return -EPROTO;
	box->ask.waits = true;
	box->ask.question = (struct device_question){ .generation = box->gen->number,
						      .lane = box->lane,
						      .number = box->ask.question.number + 1,
						      .value = report->value,
						      .detail = report->detail };
	ask_put_in_turn(box);
	return 0;
}

/* Without the bound a box that was taken over could ask for ever, and never be old enough to be replaced. */
bool ask_excuses(const struct box *box)
{
	const struct device *dev = box->gen->dev;
	uint32_t requests = 0;

	for (uint32_t i = 0; i < dev->spec.queues; i++)
		requests += dev->queues[i].size;
	return box->ask.waits && box->ask.question.number <= requests;
}

void ask_end(struct box *box)
{
	loop_disarm(box->gen->dev->sup->loop, &box->ask.due);
	box->ask.waits = false;
}

/* ---- the answer ---- */

struct answer {
	struct device *dev;
	const struct device_question *question;
	uint32_t value;
	int ret;
};

static struct box *find_asker(const struct answer *a)
{
	struct generation *gen = a->dev->active;

	if (gen == NULL || gen->number != a->question->generation ||
	    a->question->lane >= gen->lanes)
		return NULL;
	struct box *box = &gen->boxes[a->question->lane];

	return is_heard(box) && box->ask.waits && box->ask.question.number == a->question->number
		       ? box
		       : NULL;
}

static void answer_send(void *arg)
{
	struct answer *a = arg;
	struct box *box = find_asker(a);

	a->ret = box != NULL ? 0 : -ESTALE;
	if (box == NULL)
		return;
	box->ask.waits = false;
	if (errand_reply(box, a->value) != 0)
		box_raise(box, BOX_EV_MISBEHAVED); /* it does not read, and asked all the same */
}

int device_answer_question(struct device *dev, const struct device_question *question,
			   uint32_t value)
{
	struct answer a = { dev, question, value, 0 };

	loop_call(dev->sup->loop, answer_send, &a);
	return a.ret;
}
