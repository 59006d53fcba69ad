/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What systemd gives a service and hears of it: listening sockets (sd_listen_fds(3)) and that it is ready
 * (sd_notify(3)).  These are our own few lines: both interfaces are documented and stable, and a process that
 * is trusted and sealed does not link libsystemd, and what that brings, for them.
 *
 * Main thread only, but for activation_notify().
 */
#ifndef MAYFLY_CORE_VHOST_ACTIVATION_H
#define MAYFLY_CORE_VHOST_ACTIVATION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/optparse.h"

#define ACTIVATION_FDS_MAX 64
#define ACTIVATION_NAME_MAX 256 /* with the NUL; systemd's own limit */

struct activation {
	uint32_t count;              /* of sockets that were given */
	int fds[ACTIVATION_FDS_MAX]; /* owned; -1: taken */
	char names[ACTIVATION_FDS_MAX][ACTIVATION_NAME_MAX];
	int notify; /* owned, connected; -1: nobody listens */
};

/* Takes over what the environment says, and takes it out of there: descriptors are closed on exec from here
 * on.  What is meant for another process (LISTEN_PID) is left alone and counts as nothing.  Before Landlock, which
 * would keep an abstract NOTIFY_SOCKET away.  0, or -errno with a line in error; nothing is open then but the
 * descriptors themselves. */
int activation_open(struct activation *a, struct option_error *error);
/* Closes what was not taken. May be called twice, and on what activation_open() failed for. */
void activation_close(struct activation *a);

/* The socket of this name, or, with `only` and where there is one, whatever its name: the caller's from here
 * on.  The descriptor; -ENOENT: none is called so; -EINVAL: it is no listening unix stream socket; with a
 * line in error. */
int activation_take(struct activation *a, const char *name, bool only, struct option_error *error);

/* Tells what sd_notify(3) describes, such as "READY=1\nSTATUS=..", on a socket that was opened before, so that a
 * sealed thread may, from any.  Does not block.  0, also where nobody listens; -errno of send(2). */
int activation_notify(const struct activation *a, const char *text);

#endif
