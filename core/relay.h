/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays: between what the operator named (terminal, file, socket) and the two pipes that a console or
 * serial box has.  No box ever holds a terminal.  Runs on a loop's thread; never blocks it.
 */
#ifndef MAYFLY_CORE_RELAY_H
#define MAYFLY_CORE_RELAY_H

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
	struct loop_source on_listener;
	struct relay_way to_guest, from_guest;
};

/* In a terminal, Ctrl-A x asks the VMM to end (SIGTERM to itself), Ctrl-A Ctrl-A types Ctrl-A. */

/* Opens the endpoint and makes the pipes; relay_start() begins to move bytes.  0 or -errno, with *what
 * naming the step (static text).  For ENDPOINT_OFF: output is dropped, there is no input. */
int relay_open(struct relay *relay, const struct run_endpoint *endpoint, const char **what);
/* On the loop's thread, or before it runs. 0 or -errno. */
int relay_start(struct relay *relay, struct loop *loop);
/* Closes everything, restores the terminal, removes the socket. What is still in the output pipe is
 * written first, as far as that goes without waiting. */
void relay_close(struct relay *relay);

/* Puts the terminal back; async-signal-safe, harmless when nothing was changed. */
void relay_restore_terminal(void);

#endif
