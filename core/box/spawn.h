/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawner: a small process, forked before guest memory, threads and filters exist, that turns
 * requests into device processes.  Its namespaces are made once and inherited by every child; its
 * children are children of the VMM (CLONE_PARENT).  It never holds the VMM's end of a control
 * socket, a listener or guest memory of its own.
 */
#ifndef MAYFLY_CORE_BOX_SPAWN_H
#define MAYFLY_CORE_BOX_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "devmodel/abi/kinds.h"

#define SPAWN_FDS_MAX 250 /* SCM_RIGHTS takes 253 */

struct spawner {
	int socket; /* SOCK_SEQPACKET, non-blocking; readable: spawner_reply() */
	int pidfd;
	pid_t pid;
	bool user_ns; /* it has a user namespace of its own: the VMM is not root */
};

struct spawn_reply {
	uint64_t cookie;
	int32_t error; /* 0 or errno of the step that failed */
	int32_t pid;
	int pidfd; /* owned by whoever took the reply; -1 on error */
};

/* What the caller does to itself once the namespaces are there and before the spawner is: the spawner
 * inherits it (core/confine.h: Landlock). 0, or -errno with *what. */
struct spawner_before {
	int (*fn)(void *ctx, const char **what);
	void *ctx;
};

/* Starts it.  Call from the main thread, before any other thread exists: the sandboxes' death signal
 * fires when this thread ends.  program_dir has mayfly-blk, mayfly-rng ...; a program that is
 * missing is the error (ENOENT) of each request for it.  before: or NULL.  0, or -errno with *what
 * naming the step (static text).  Blocks for the handshake. */
int spawner_start(struct spawner *spawner, const char *program_dir,
		  const struct spawner_before *before, const char **what);

/* The same for several, each with namespaces of its own: `before` comes once, when all namespaces are made and
 * no spawner is. None is left where one fails. */
int spawners_start(struct spawner *spawners, uint32_t count, const char *program_dir,
		   const struct spawner_before *before, const char **what);

/* Asks for one device process: descriptors fds[0..n) become its 0..n-1.  0; -EAGAIN when the socket
 * is full; -EPIPE when the spawner is gone.  The descriptors stay the caller's. */
int spawner_request(const struct spawner *spawner, uint64_t cookie, enum dev_kind kind,
		    const int *fds, uint32_t n);

/* Takes one reply.  1: filled in; 0: none now; -EPIPE: the spawner is gone. */
int spawner_reply(const struct spawner *spawner, struct spawn_reply *reply);

/* Ends and reaps it. */
void spawner_stop(struct spawner *spawner);

#endif
