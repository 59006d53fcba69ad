/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The faulty set: release programs that misbehave when the VMM says so (devmodel/abi/fault.h), sealed
 * like all others.  What is ordered stays with the generation; what is to go on after its death, the
 * VMM says anew (ctl_activate.doomed).
 */
#ifndef MAYFLY_FAULTY
#define MAYFLY_FAULTY /* also for who looks at this file alone */
#endif
#include "devmodel/common/faulty.h"

#include "devmodel/abi/fault.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"

/* One device a program. */
static struct {
	bool corrupt, lie;
	const struct virtq *doomed; /* NULL: no request kills it */
	uint16_t last;              /* the one there that does */
} orders;

_Noreturn static void storm(const struct virtq *q)
{
	for (;;)
		virtq_signal(q);
}

static void doom(const struct virtq *q, uint32_t after)
{
	orders.last = (uint16_t)(q->next + after);
	orders.doomed = q;
}

int faulty_message(struct dev *dev, const void *message, long n)
{
	const struct ctl_fault *order = message;

	if (n != sizeof(*order) || order->header.type != CTL_FAULT ||
	    order->queue >= (uint32_t)dev->launch->queues)
		return -EPROTO;
	struct virtq *q = &dev->queues[order->queue];

	switch (order->header.value) {
	case FAULT_CORRUPT_STATE:
		orders.corrupt = true;
		return 0;
	case FAULT_LIE_ON_QUIESCE:
		orders.lie = true;
		return 0;
	case FAULT_BAD_USED_INDEX:
		if (q->size != 0)
			__atomic_store_n(&q->used->idx, (uint16_t)(q->next + q->size + 1),
					 __ATOMIC_RELEASE);
		return 0;
	case FAULT_INTERRUPT_STORM:
		storm(q);
	case FAULT_DIE_ON_REQUEST:
		doom(q, order->after);
		return 0;
	default:
		return -EPROTO;
	}
}

void faulty_doom(struct dev *dev, uint32_t queue)
{
	if (queue != 0 && queue <= (uint32_t)dev->launch->queues)
		doom(&dev->queues[queue - 1], 0);
}

void faulty_serve(const struct virtq *q)
{
	if (q == orders.doomed && q->next == orders.last && q->refuse == 0 &&
	    __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE) != q->next)
		__builtin_trap();
}

void faulty_record(struct dev *dev)
{
	for (int c = 0; orders.corrupt && c < STATE_CLASSES; c++)
		memset(dev->page->record[c], 0xff, sizeof(dev->page->record[c]));
}

void faulty_parked(struct dev *dev)
{
	while (orders.lie) {
		for (uint32_t i = 0; i < (uint32_t)dev->launch->queues; i++) {
			if (dev->ops->serve != NULL && dev->queues[i].size != 0)
				dev->ops->serve(dev, &dev->queues[i]);
		}
	}
}
