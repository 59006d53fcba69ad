/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process of its own for a device of the hosted build, forked from this one and not sealed, with a socket
 * to it.  It dies with its parent.
 */
#ifndef MAYFLY_BENCH_AMORTIZE_BACKEND_H
#define MAYFLY_BENCH_AMORTIZE_BACKEND_H

#include <sys/types.h>

struct backend {
	pid_t pid;  /* 0: there is none */
	int vmm;    /* ends of the socket, SOCK_SEQPACKET: this process's .. */
	int device; /* .. and the child's, which has the first, too */
};

/* Forks, while this process has one thread; in the child begin() sets a device going in another thread.
 * Returns what begin() did there, or -errno. backend_stop() in either case. */
int backend_fork(struct backend *b, int (*begin)(void *ctx), void *ctx);
/* Kills and reaps it. Also of one that is all zero, or was stopped. */
void backend_stop(struct backend *b);

#endif
