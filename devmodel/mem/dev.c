/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem (virtio 1.2 section 5.15): carries the driver's request to the VMM and its answer back, one
 * at a time, and decides nothing.  What is plugged is known to the VMM alone (hotplug/virtio_mem.h), so
 * this has no state.  Where the request stands in the ring goes with it: a predecessor may have died with
 * the answer, and the VMM knows by this that it is the same request.
 *
 * A request that is to be refused is asked about, too, without a look at what it says: it may have been
 * granted to the one that died of it, and then that is the answer.
 */
#include <linux/errno.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/abi/mem.h"
#include "devmodel/common/dev.h"

/* From and to the segments of a chain that are long enough; a driver may split either as it likes. */
static void mem_take(const struct virtq_segment *seg, struct mem_req *req)
{
	uint8_t *out = (uint8_t *)req;

	for (uint32_t done = 0; done < sizeof(*req); seg++) {
		for (uint32_t k = 0; k < seg->len && done < sizeof(*req); k++)
			out[done++] = seg->data[k];
	}
}

static void mem_give(const struct dirty_log *log, const struct virtq_segment *seg,
		     const struct mem_resp *resp)
{
	const uint8_t *in = (const uint8_t *)resp;
	uint32_t left = sizeof(*resp);

	for (; left != 0; seg++) {
		const uint32_t n = seg->len < left ? seg->len : left;

		dirty_mark(log, seg->data, n);
		for (uint32_t k = 0; k < n; k++)
			seg->data[k] = *in++;
		dirty_mark(log, seg->data, n);
		left -= n;
	}
}

/* 1: there is one, long enough both ways; 0: none; -EINVAL. */
static int mem_find(struct virtq *q, struct virtq_chain *chain)
{
	const int found = virtq_peek(q, chain);

	if (found > 0 && (chain->read_bytes < sizeof(struct mem_req) ||
			  chain->write_bytes < sizeof(struct mem_resp)))
		return virtq_break(q, RING_ERROR_SHORT);
	return found;
}

static enum serve_result mem_finish(struct dev *dev, struct virtq *q,
				    const struct virtq_chain *chain, uint8_t request,
				    const struct mem_req *req)
{
	struct mem_resp resp;
	uint32_t answer;

	if (dev_ask(dev, mem_ask_value(request, (uint8_t)q->next, req->blocks), req->addr,
		    &answer) != 0)
		return SERVE_ENDED;
	resp = mem_answer_parse(answer);
	mem_give(q->log, chain->seg + chain->readable, &resp);
	virtq_push(q, chain->head, sizeof(resp));
	return SERVE_DONE;
}

static enum serve_result mem_serve(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized)); /* 4 KiB: peek fills what counts */
	struct mem_req req = { 0 };
	const int found = mem_find(q, &chain);

	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	mem_take(chain.seg, &req);
	return mem_finish(dev, q, &chain,
			  req.type < MEM_OTHER ? (uint8_t)req.type : (uint8_t)MEM_OTHER, &req);
}

static enum serve_result mem_refuse(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));
	const struct mem_req nothing = { 0 };
	const int found = mem_find(q, &chain);

	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	return mem_finish(dev, q, &chain, MEM_REFUSE, &nothing);
}

static int mem_init(struct dev *dev)
{
	return dev->launch->queues == 1 ? 0 : -EINVAL;
}

static int mem_check(const struct dev *dev)
{
	(void)dev; /* there is no state */
	return 0;
}

const struct dev_ops dev_program = {
	.name = "mem",
	.kind = DEV_KIND_MEM,
	.init = mem_init,
	.check = mem_check,
	.serve = mem_serve,
	.refuse = mem_refuse,
};
