/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of a split virtqueue (virtio 1.2 section 2.7): one request at a time, in order.
 * Every shared value is read once into a local and bounded before use; a chain walk stops at the
 * queue size.  A guest's error sets virtq->error, and the queue serves no more.
 *
 * used->idx is published after each request and is the only position there is: a successor starts
 * at next == used->idx, and whatever was begun and not published is begun again.
 */
#ifndef MAYFLY_DEVMODEL_COMMON_VIRTQ_H
#define MAYFLY_DEVMODEL_COMMON_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/gpa.h"
#include "devmodel/abi/message.h"
#include "devmodel/abi/virtio.h"
#include "devmodel/common/dirty.h"

/* Segments of one chain after walking: 126 data segments, header, status, and room for drivers that
 * split more finely. A longer chain is RING_ERROR_LOOP. */
#define VIRTQ_SEGMENTS_MAX 256

struct virtq_segment {
	uint8_t *data; /* in a mapped region, len bytes, wholly inside it */
	uint32_t len;  /* may be 0, then data is NULL */
};

struct virtq_chain {
	uint16_t head;       /* descriptor index, for the used ring */
	uint16_t readable;   /* segments [0, readable) are device-readable */
	uint16_t segments;   /* [readable, segments) are device-writable */
	uint64_t read_bytes; /* sum over the readable, at most 2^40 */
	uint64_t write_bytes;
	struct virtq_segment seg[VIRTQ_SEGMENTS_MAX];
};

struct virtq {
	const struct mem_map *map;
	const struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	uint16_t size;  /* 0: not enabled */
	uint16_t next;  /* next avail index to serve == used->idx */
	uint16_t limit; /* activation pass: do not serve past this index */
	bool limited;   /* set by virtq_activate(), cleared by the main loop after the first pass */
	uint32_t refuse; /* requests to refuse, or CTL_REFUSE_ALL; counted by the main loop */
	bool event_idx;
	bool indirect;
	uint64_t used_gpa;
	const struct dirty_log
		*log;    /* of what is written here; this and what follows: the caller's */
	uint16_t number; /* device-wide queue number */
	int fd_kick;
	int fd_call;
	enum ring_error error;
};

/* Ends service of a queue: the first error stays, peek answers -EINVAL from here on. */
int virtq_break(struct virtq *q, enum ring_error error);

/* Resolves the ring addresses. Returns 0, or -EINVAL with q->error set. A queue of size 0 is left
 * disabled and is no error: it never has a request. log, number, fd_kick and fd_call are left alone. */
int virtq_init(struct virtq *q, const struct mem_map *map, const struct ctl_queue *cfg,
	       uint64_t features);

/* Activation, first half: ask for kicks, full barrier, read avail->idx once and remember it as the
 * limit of the first pass (docs/generations.md). 0, or -EINVAL with q->error. */
int virtq_activate(struct virtq *q);

/* Takes the next request without consuming it. 1: chain filled; 0: none; -EINVAL: q->error set.
 * Only segments [0, chain->segments) are written: the chain needs no initialisation. */
int virtq_peek(struct virtq *q, struct virtq_chain *chain);

/* Answers the request last peeked: writes its used element, publishes used->idx and signals the
 * driver where it asked for that. `written`: bytes written to the device-writable part. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/* Signals the driver unconditionally (a spurious interrupt is harmless). Never blocks: a call
 * eventfd that is full (EAGAIN) already says what there is to say. */
void virtq_signal(const struct virtq *q);

/* Before sleeping: asks for a kick at the next request; 1 when there already is one, else 0. */
int virtq_arm(struct virtq *q);

/* While busy: tells the driver that kicks are not needed. */
void virtq_disarm(struct virtq *q);

#endif
