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
	uint32_t type;  /* of the last .. */
	uint32_t nonce; /* .. and its value, or the nonce in it */
	uint64_t seen[ROGUE_BEATS];
	uint64_t sector[BLK_SECTOR / sizeof(uint64_t)];
};

/* A generation of this id is a release program in all that it does. */
#define ROGUE_HONEST_ID "honest"
/* dev_run() of devmodel/common/run.c, under another name. */
int rogue_release_run(struct dev *dev, const struct dev_ops *ops,
		      const struct launch_record *launch);

/* RANDOM: from ACTIVATE on, which it has not answered.  Returns what dev_run() does, if it returns. */
int rogue_play(struct rogue *r);

/* QUIESCE has come and is not read yet. Returns what dev_run() does, if it returns. */
int rogue_act(struct rogue *r);

void rogue_beat(struct rogue *r);
/* Writes its number to the image's last sector. */
void rogue_mark(struct rogue *r);
/* 0, or -EPIPE. */
int rogue_report(struct rogue *r, uint32_t type, uint32_t value, uint64_t detail);
/* One control message. Its length or -EPIPE. */
long rogue_receive(struct rogue *r);
bool rogue_bell_rings(const struct rogue *r);
/* Sleeps until there is a kick or a message. */
void rogue_sleep(struct rogue *r);
/* Counts the steps of other generations. */
void rogue_watch(struct rogue *r);
/* The record as a release program writes it; its length. */
uint32_t rogue_write_record(struct rogue *r);
void rogue_say_parked(struct rogue *r, uint32_t bytes, uint32_t more);
/* Where a box that parks ends. */
int rogue_wait_for_ever(struct rogue *r);
/* A request from each queue. 1: there was one; 0: none; -EPROTO: a queue broke. */
int rogue_serve(struct rogue *r);

#endif
