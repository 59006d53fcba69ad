/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays: between what the operator named (terminal, file, socket) and the two pipes that a console or
 * serial box has.  No box ever holds a terminal.  Runs on a loop's thread, which it never blocks:
 * terminals and files are written by a thread of the relay's own.
 */
#ifndef MAYFLY_CORE_RELAY_H
#define MAYFLY_CORE_RELAY_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/loop.h"
#include "core/options.h"

#define RELAY_BUFFER 4096

/* One direction: what was read and not yet written. */
struct relay_way {
	struct relay *relay;
	struct loop_source in, out;
	int from, to; /* -1: nothing there; then what comes is dropped */
	uint32_t begin, end;
	uint8_t buffer[RELAY_BUFFER];
};

struct relay {
	struct loop *loop;
	uint32_t kind;             /* enum endpoint_kind */
	int box_input;             /* for the box: it reads this */
	int box_output;            /* and writes this */
	int our_input, our_output; /* the other ends */
	int listener;
	int client;     /* of the socket; or the file */
	int client_out; /* the same again: epoll wants a number of its own for each direction */
	char path[OPTION_SOCKET_MAX]; /* of a socket that is ours to remove */
	bool raw;                     /* the terminal is in raw mode */
	bool escape;                  /* Ctrl-A was typed */
	bool has_writer;
	int sink;           /* the writer's; -1: gone */
	struct pollfd room; /* for the case that somebody made it non-blocking */
	pthread_t writer;   /* of a terminal or a file; else from_guest does it */
	struct loop_source on_listener;
	struct relay_way to_guest, from_guest;
};

/* In a terminal, Ctrl-A x asks the VMM to end (SIGTERM to itself), Ctrl-A Ctrl-A types Ctrl-A. */

/* Opens the endpoint and makes the pipes; relay_start() begins to move bytes.  0 or -errno, with *what
 * naming the step (static text); unixsock_error() has words for it.  For ENDPOINT_OFF: output is
 * dropped, there is no input. */
int relay_open(struct relay *relay, const struct run_endpoint *endpoint, const char **what);
/* On the loop's thread, or before it runs. 0 or -errno. */
int relay_start(struct relay *relay, struct loop *loop);
/* Closes everything, restores the terminal, removes the socket.  No box may have the pipes any more.
 * What is still in the output pipe is written first: to a terminal or file within two seconds, to a
 * socket as far as that goes without waiting. */
void relay_close(struct relay *relay);

/* Puts the terminal back; async-signal-safe, harmless when nothing was changed. */
void relay_restore_terminal(void);

#endif
