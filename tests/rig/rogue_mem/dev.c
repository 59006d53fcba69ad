/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/errno.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/abi/mem.h"
#include "devmodel/common/dev.h"
#include "tests/rig/rogue_mem/rogue_mem.h"

/* Beyond its first answer nobody looks at it any more. */
static void ask_badly(struct dev *dev, enum rogue_mem how, uint32_t value, uint64_t addr)
{
	int ret = dev_report(dev, REPORT_ASK, value, addr);

	switch (how) {
	case ROGUE_MEM_TWICE:
		dev_report(dev, REPORT_ASK, value, addr);
		return;
	case ROGUE_MEM_FLOOD:
		while (ret == 0)
			ret = dev_report(dev, REPORT_ASK, value, addr);
		return;
	case ROGUE_MEM_PARKED:
		dev_report(dev, REPORT_PARKED, 0, 0);
		return;
	case ROGUE_MEM_SYNC:
		dev_report(dev, REPORT_SYNC, 0, 0);
		return;
	default:
		return;
	}
}

/* The answer that it gives its driver. */
static uint32_t ask(struct dev *dev, const struct virtq *q, const struct mem_req *req)
{
	const enum rogue_mem how = req->pad[0];
	const uint8_t at = how == ROGUE_MEM_AGAIN ? (uint8_t)(q->next - 1) : (uint8_t)q->next;
	const uint16_t blocks =
		how == ROGUE_MEM_ELSEWHERE ? (uint16_t)(2 * req->blocks) : req->blocks;
	const uint8_t type = how == ROGUE_MEM_UNKNOWN ? MEM_REQUEST_END : (uint8_t)req->type;
	const uint32_t value = mem_ask_value(type, at, blocks);
	uint32_t answer = mem_answer_value(MEM_ACK, 0);

	if (how == ROGUE_MEM_SILENT)
		return answer;
	if (how >= ROGUE_MEM_TWICE && how <= ROGUE_MEM_SYNC && how != ROGUE_MEM_UNKNOWN) {
		ask_badly(dev, how, value, req->addr);
		return answer;
	}
	dev_ask(dev, value, req->addr, &answer);
	return how == ROGUE_MEM_ELSEWHERE ? mem_answer_value(MEM_ACK, 0) : answer;
}

/* Its driver makes a request of two segments. */
static enum serve_result rogue_serve(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));
	const int found = virtq_peek(q, &chain);

	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	if (chain.segments != 2 || chain.read_bytes < sizeof(struct mem_req) ||
	    chain.write_bytes < sizeof(struct mem_resp))
		return SERVE_BLOCKED;
	const uint32_t answer = ask(dev, q, (const struct mem_req *)chain.seg[0].data);

	if (dev->ended != 0)
		return SERVE_ENDED;
	*(struct mem_resp *)chain.seg[1].data = mem_answer_parse(answer);
	virtq_push(q, chain.head, sizeof(struct mem_resp));
	return SERVE_DONE;
}

static int rogue_init(struct dev *dev)
{
	(void)dev;
	return 0;
}

static int rogue_check(const struct dev *dev)
{
	(void)dev;
	return 0;
}

const struct dev_ops dev_program = {
	.name = "rogue-mem",
	.kind = DEV_KIND_MEM,
	.init = rogue_init,
	.check = rogue_check,
	.serve = rogue_serve,
};
