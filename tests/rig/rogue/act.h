/* SPDX-License-Identifier: Apache-2.0 */
/* What a rogue's main loop and its misdeeds share. */
#ifndef MAYFLY_RIG_ROGUE_ACT_H
#define MAYFLY_RIG_ROGUE_ACT_H

#include "devmodel/common/dev.h"
#include "tests/rig/rogue/rogue.h"

struct rogue {
	struct dev *dev;
	struct rogue_slot *slot;
	uint32_t place; /* in slot->beats */
	uint32_t heard; /* messages read, as the bell counts */
	uint32_t nonce; /* of the last */
	uint64_t seen[ROGUE_BEATS];
	uint64_t sector[BLK_SECTOR / sizeof(uint64_t)];
};

/* QUIESCE has come and is not read yet. Returns what dev_run() does, if it returns. */
int rogue_act(struct rogue *r);

void rogue_beat(struct rogue *r);
/* Writes its number to the image's last sector. */
void rogue_mark(struct rogue *r);
/* 0, or -EPIPE. */
int rogue_report(struct rogue *r, uint32_t type, uint32_t value, uint64_t detail);
/* One control message. Its length or -EPIPE. */
long rogue_receive(struct rogue *r);
/* A request from each queue. 1: there was one; 0: none; -EPROTO: a queue broke. */
int rogue_serve(struct rogue *r);

#endif
