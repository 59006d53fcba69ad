/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket of one front-end: bytes into whole messages, and back.  Never waits: a message that comes in pieces
 * is put together over as many calls as it takes, a front-end that does not read its answers is given up.
 */
#ifndef MAYFLY_CORE_VHOST_SESSION_H
#define MAYFLY_CORE_VHOST_SESSION_H

#include <stddef.h>

#include "core/vhost/message.h"

struct session {
	int fd;      /* owned; -1: nobody is connected */
	size_t have; /* bytes of `in` */
	struct vhost_message in;
};

void session_init(struct session *s);
/* Takes over a connected stream socket. */
void session_open(struct session *s, int fd);
void session_close(struct session *s);

/* The next message whole, in s->in until the next call, which closes what descriptors are left in it.  1; 0: not
 * yet; -EPIPE: the front-end is gone; -EPROTO with *why (static text): what it sends is no message. */
int session_receive(struct session *s, const char **why);
/* fd -1: none goes with it. 0; -EPIPE: it is gone; -EAGAIN: it does not read. */
int session_send(const struct session *s, const struct vhost_message *message, int fd);

/* Of the back-end's own, on the channel that the front-end gave: the configuration has changed.  The same. */
int session_tell_config(int channel);

#endif
