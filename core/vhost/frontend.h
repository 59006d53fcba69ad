/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front-end as its messages describe it: features, memory, rings, log.  A message changes what is *wanted*;
 * core/vhost/service.c makes the device so, and only then is the message answered.  So the order in which a
 * front-end says things does not matter, and several messages that came together are one change.
 *
 * Takes descriptors and looks at what they are, maps memory, and does nothing else: no device, no socket.
 */
#ifndef MAYFLY_CORE_VHOST_FRONTEND_H
#define MAYFLY_CORE_VHOST_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/vhost/message.h"
#include "core/vhost/regions.h"
#include "devmodel/abi/launch.h"

/* What the device is to a front-end. */
struct vhost_offer {
	uint64_t features; /* of the device */
	uint32_t queues;
	uint32_t config_bytes;
	uint8_t config[VHOST_USER_CONFIG_MAX];
};

/* Of a descriptor that a ring was given: a number is never used for two. */
struct vhost_eventfd {
	int fd; /* owned; -1: none */
	uint64_t serial;
};

struct vhost_ring {
	uint32_t size; /* 0: not said */
	bool has_addr;
	struct vhost_user_vring_addr addr;
	uint16_t base;              /* as the front-end said, or as it was told */
	bool served;                /* since: its used->idx says more */
	bool started;               /* by its kick, until GET_VRING_BASE */
	bool enabled, enabled_said; /* not said: by its start, where nobody would say so */
	struct vhost_eventfd kick, call, err;
};

struct vhost_log_area {
	int fd; /* owned; -1: none */
	uint64_t serial;
	uint64_t offset, bytes;
};

struct frontend {
	const struct vhost_offer *offer;
	uint64_t serials;
	bool has_features;
	uint64_t features; /* as negotiated, with the transport's own */
	uint64_t protocol;
	struct vhost_regions regions;
	struct vhost_ring rings[BOX_QUEUES_MAX];
	struct vhost_log_area log;
	int channel; /* the back-end's own, owned; -1: none */
};

/* What a message wants besides. */
enum frontend_errand {
	FRONTEND_NOTHING,
	FRONTEND_BASE,     /* `out` is to hold the base of ring `index` once it is not served */
	FRONTEND_TRANSFER, /* SET_DEVICE_STATE_FD: direction in the message, its descriptor not taken */
	FRONTEND_CHECK, /* CHECK_DEVICE_STATE */
};

struct frontend_result {
	const char *why; /* static text, of an error */
	enum frontend_errand errand;
	uint32_t index;
	struct vhost_message out; /* of those that have an answer */
	int out_fd;               /* goes with it, owned; -1: none */
};

void frontend_init(struct frontend *fe, const struct vhost_offer *offer);
/* The front-end is gone: all that it gave. */
void frontend_clear(struct frontend *fe);

/* Acts on one whole message that message_check() let through.  0, or -errno with result->why: nothing was
 * changed but what the message said to forget.  Descriptors that it wants are taken out of the message. */
int frontend_take(struct frontend *fe, struct vhost_message *message,
		  struct frontend_result *result);

/* The device could not be made to have the memory of this message: back to the table before. */
struct frontend_saved {
	struct vhost_regions regions;
};
void frontend_save(const struct frontend *fe, struct frontend_saved *saved);
void frontend_undo(struct frontend *fe, struct frontend_saved *saved);
void frontend_forget(struct frontend_saved *saved);

/* The features that the device is to have: without those of the transport. */
uint64_t frontend_features(const struct frontend *fe);
/* Writes are to be marked, and where is known. */
bool frontend_logs(const struct frontend *fe);
/* Its rings are to be served, as far as it says. */
bool frontend_serves(const struct frontend *fe, uint32_t index);
/* Where a ring lies in guest memory.  0; -EFAULT: not in the memory that there is. */
int frontend_place(const struct frontend *fe, uint32_t index, struct ctl_queue *queue);
/* Where the ring, not served now, would go on. */
uint16_t frontend_base(struct frontend *fe, uint32_t index);

#endif
