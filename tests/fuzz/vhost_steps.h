/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fuzz_vhost.c plays, made from an input so that right sequences of right messages are likely: a step is a
 * few bytes, names a request and how it is sent, and the message is made of small numbers: slots of memory,
 * rings, sizes.  Bytes of the input may then be laid over it.
 *
 * Descriptors come from a fixed set, which is as it was at the beginning of each input.
 */
#ifndef MAYFLY_TESTS_FUZZ_VHOST_STEPS_H
#define MAYFLY_TESTS_FUZZ_VHOST_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/vhost/protocol.h"

#define VHOST_STEP_RINGS 3
#define VHOST_STEP_FEATURES 0x130001240ull /* of a disk */
#define VHOST_STEP_FDS_MAX 34u

enum vhost_step_kind {
	VHOST_STEP_MESSAGE,
	VHOST_STEP_TRUNCATE, /* the memory that is not sealed, under whoever has mapped it */
	VHOST_STEP_UNDO,     /* memory is noted, and at the next such step taken back or not */
	VHOST_STEP_BASE,
	VHOST_STEP_HANG_UP,
};

/* Bits of `how`. */
#define VHOST_STEP_ACK 0x01u       /* NEED_REPLY */
#define VHOST_STEP_CUT 0x02u       /* in two writes .. */
#define VHOST_STEP_SILENCE 0x04u   /* .. of which the first is read before the second comes */
#define VHOST_STEP_FDS_LATE 0x08u  /* descriptors go with the second */
#define VHOST_STEP_FDS_TWICE 0x10u /* with both */
#define VHOST_STEP_HELD 0x20u      /* not read before the next step */
#define VHOST_STEP_FDS_ODD 0x40u   /* as many descriptors as `fds` says, not as it should have */
#define VHOST_STEP_OVER 0x80u      /* bytes are laid over the message */

struct vhost_step {
	enum vhost_step_kind kind;
	uint32_t request;
	uint8_t how, fd, fds;
	uint16_t a, b, cut;
};

struct vhost_step_message {
	uint8_t bytes[sizeof(struct vhost_user_header) + VHOST_USER_PAYLOAD_MAX + 64];
	size_t count;
	int fds[VHOST_STEP_FDS_MAX];
	uint32_t fd_count;
};

struct vhost_step_input {
	const uint8_t *data;
	size_t left;
};

/* Once: the descriptors. */
void vhost_steps_setup(void);
/* Before each input: they are as they were. */
void vhost_steps_begin(void);
/* The next step, and its message if it is one.  False: there is none. */
bool vhost_step_next(struct vhost_step_input *in, struct vhost_step *s,
		     struct vhost_step_message *m);
void vhost_steps_truncate(const struct vhost_step *s);

#endif
