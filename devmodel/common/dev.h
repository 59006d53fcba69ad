/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device program from the inside: what a kind implements (struct dev_ops) and what the common
 * part gives it.  One process, one thread, one `struct dev`.  The phases of its life, in order:
 *
 *   START   launch record read, memory mapped; no hook runs
 *   SEAL    devmodel/common/seal.c; no hook runs
 *   STANDBY init(): may look at the configuration and initialise its own state, must not touch
 *           rings or guest memory; then waits in read(control)
 *   SERVE   activate(), then serve() and host_event() as work comes
 *   PARK    quiesce(), records written, waits in read(control) for ever
 *
 * Nothing allocates, nothing blocks but the backend calls of the kind's policy and dev_ask().
 *
 * Whatever a kind writes to guest memory it marks in q->log, before and after (dirty.h).
 */
#ifndef MAYFLY_DEVMODEL_COMMON_DEV_H
#define MAYFLY_DEVMODEL_COMMON_DEV_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/launch.h"
#include "devmodel/abi/message.h"
#include "devmodel/abi/schema.h"
#include "devmodel/abi/statepage.h"
#include "devmodel/common/virtq.h"

struct dev;
struct loop;

/* What serve() says of a queue. */
enum serve_result {
	SERVE_IDLE, /* nothing available: sleep until kicked */
	SERVE_DONE, /* one request completed and published: call again */
	SERVE_BLOCKED, /* there is work, but it waits for a host event (timer, input): kicks are moot */
	SERVE_BROKEN, /* the driver broke a rule; the virtq holds which (virtq->error) */
	SERVE_ENDED, /* dev_report(), dev_sync() or dev_ask() failed: this generation is at its end */
};

struct dev_ops {
	const char *name;
	uint32_t kind; /* enum dev_kind */
	/* Backends that are streams and waited for while dev->want says so: backend 0 for input,
	 * backend 1 for room to write. */
	uint8_t streams;
	/* State carried to a successor, a schema a class; NULL: the class is empty. */
	const struct state_schema *state[STATE_CLASSES];

	/* STANDBY: sets up dev->state. 0 or -errno (EINVAL: the configuration makes no sense). */
	int (*init)(struct dev *dev);
	/* Pure: cross-field check of a live state after decode. 0 or -EINVAL: the record is refused. */
	int (*check)(const struct dev *dev);
	/* At activation, after the carried records were decoded and the queues set up.  May be NULL. */
	void (*activate)(struct dev *dev);
	/* Completes at most one request of queue q.  Bounded work. */
	enum serve_result (*serve)(struct dev *dev, struct virtq *q);
	/* The same, but answers with an error and does nothing else.  NULL: what the kind's queues carry
	 * cannot be refused, and is left alone. */
	enum serve_result (*refuse)(struct dev *dev, struct virtq *q);
	/* Register devices: carries out one access; returns what a read yields. */
	uint64_t (*access)(struct dev *dev, const struct reg_request *request);
	/* Stream j is ready, or the timer fired (j == DEV_EVENT_TIMER).  NULL: has neither. */
	void (*host_event)(struct dev *dev, unsigned int j);
	/* POLL came: what is held for it is given back by the next serve().  Must not touch rings.  NULL:
	 * holds nothing, and POLL is out of place. */
	void (*poll)(struct dev *dev);
	/* PARK: brings dev->state up to date; must not touch rings.  May be NULL. */
	void (*quiesce)(struct dev *dev);
};

#define DEV_EVENT_TIMER BOX_BACKENDS_MAX
#define DEV_STREAMS_MAX 2

/* The greatest live state of any kind, both classes. */
#define DEV_STATE_MAX 4608
/* What a kind holds besides: never carried, zero when init() runs. */
#define DEV_PRIVATE_BYTES 128

struct dev {
	const struct dev_ops *ops;
	const struct launch_record *launch;
	struct dirty_log log; /* by way of each queue's q->log */
	struct state_page *page;
	struct loop *loop; /* run.c's */
	int ended;         /* with SERVE_ENDED: what dev_run() is to return */
	uint64_t features;
	uint64_t served;                     /* requests completed since activation */
	bool want[DEV_STREAMS_MAX];          /* poll this stream */
	bool carried[STATE_CLASSES];         /* in activate(): dev->state came from a record */
	const uint8_t *shadow;               /* in activate(): REG_SHADOW_BYTES */
	uint32_t reg_seq;                    /* the last access that was answered */
	struct virtq queues[BOX_QUEUES_MAX]; /* launch->queues of them */
	/* Live state, one struct a class, as ops->state declares it. */
	union {
		uint8_t bytes[DEV_STATE_MAX];
		uint64_t align;
	} state[STATE_CLASSES];
	union {
		uint8_t bytes[DEV_PRIVATE_BYTES];
		uint64_t align;
	} priv;
};

/* In activate(): whether this is the first start after a reset, and nothing was ever served.  (Also
 * true at a clean start after exactly 65536 * k requests: nothing that matters may depend on it.) */
static inline bool dev_first_start(const struct dev *dev)
{
	for (uint32_t i = 0; i < dev->launch->queues; i++) {
		if (dev->queues[i].next != 0)
			return false;
	}
	return true;
}

/* From within serve() and refuse(): asks the VMM (REPORT_ASK) and waits for its answer, however long.  Whatever
 * else the VMM says meanwhile is heard.  0; -errno, also in dev->ended: return SERVE_ENDED. */
int dev_ask(struct dev *dev, uint32_t value, uint64_t detail, uint32_t *answer);
/* From within serve().  0; -errno, also in dev->ended: return SERVE_ENDED.
 * report: says something to the VMM; may wait for room in the socket.
 * sync: waits until the VMM has done all that was reported before.  Only then may a request be published
 * that rests on it.  Whatever else the VMM says meanwhile is heard. */
int dev_report(struct dev *dev, enum report_type type, uint32_t value, uint64_t detail);
int dev_sync(struct dev *dev);

/* The one device of a program; each kind defines it (devmodel/KIND/KIND.c). */
extern const struct dev_ops dev_program;

/* Serves from STANDBY to PARK; returns only when the control socket says so: 0 parked and told to
 * go on waiting for ever is not a return; -EPIPE the VMM is gone; -EPROTO a message out of place;
 * -EBADMSG a carried record was refused.  Hosted builds run it in a thread. */
int dev_run(struct dev *dev, const struct dev_ops *ops, const struct launch_record *launch);

#endif
