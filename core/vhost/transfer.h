/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's state, to and from its front-end (SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE): a header that says of
 * what device it is, and what its last generation left for the next, which is what every handoff carries.  The
 * header is checked here; the rest is bytes to this process, and decoded by a sealed successor.
 */
#ifndef MAYFLY_CORE_VHOST_TRANSFER_H
#define MAYFLY_CORE_VHOST_TRANSFER_H

#include "core/vhost/message.h"

struct broker;

/* Saves at once, or keeps the descriptor to load from.  Always 0: an error is in the answer. */
int transfer_begin(struct broker *b, struct vhost_message *message, struct vhost_message *answer);
/* How the last transfer ended; one that is to be loaded is, now.  Waits for its end, for 5 s at most.  0 or
 * -errno. */
int transfer_check(struct broker *b);
/* What was begun and not checked is forgotten. */
void transfer_end(struct broker *b);

#endif
