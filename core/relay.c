/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing is dropped while there is somebody to take it: a sink that is full makes its source wait, in
 * the end the guest's driver.
 *
 * What is ours alone (pipes, the socket) is non-blocking and moved on the loop, a buffer each
 * direction.  A terminal, a pipe or a file on standard output is not ours alone: O_NONBLOCK would be
 * set for all who share it, opened anew a file has another offset and a terminal may be somebody
 * else's, and poll() promises no more than that one byte might go.  Files do not even know O_NONBLOCK.
 * So those sinks are written by a thread of their own with blocking calls, straight from the box's
 * pipe, whose 64 KiB are the bound.  At the end it is given RELAY_LAST_S for what is left there, then
 * cancelled in its write(): that is dropped.
 */
#include "core/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>

#include "core/cc.h"
#include "core/confine.h"
#include "core/unixsock.h"

#define RELAY_LAST_S 2

/* The terminal as it was: one a process, and needed in signal handlers. */
static struct {
	volatile sig_atomic_t changed;
	struct termios saved;
} terminal;

/* Not TCSAFLUSH, which would wait for output that a stopped terminal never takes.  A process in the
 * background is stopped by SIGTTOU for this unless it blocks it. */
void relay_restore_terminal(void)
{
	sigset_t set, before;

	if (!terminal.changed)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
	tcflush(STDIN_FILENO, TCIFLUSH); /* typed for the guest, not for the shell */
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	terminal.changed =
		0; /* last: another thread's crash does it again rather than not at all */
}

static int terminal_raw(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &terminal.saved) != 0)
		return 0; /* not a terminal: a pipe or file, used as it is */
	raw = terminal.saved;
	cfmakeraw(&raw);
	raw.c_oflag = terminal.saved.c_oflag; /* our own messages keep their line ends */
	terminal.changed = 1;
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0 ? 0 : -errno;
}

/* ---- one direction ---- */

static void way_update(struct relay_way *way);

static void way_forget(struct relay_way *way, struct loop_source *source, int *fd)
{
	loop_remove(way->relay->loop, source);
	*fd = -1;
}

/* Writes what is there. False when the sink takes no more now. */
static bool way_flush(struct relay_way *way)
{
	while (way->begin < way->end && way->to >= 0) {
		const ssize_t n = write(way->to, way->buffer + way->begin, way->end - way->begin);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0) {
			way_forget(way, &way->out, &way->to);
			break;
		}
		way->begin += (uint32_t)n;
	}
	way->begin = way->end = 0; /* written, or nobody is there */
	return true;
}

static void relay_hang_up(struct relay *relay);

#define ESCAPE 0x01 /* Ctrl-A */

/* Takes escapes out of what was typed; returns what is left. */
static uint32_t relay_escapes(struct relay *relay, uint8_t *text, uint32_t n)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		const bool escaped = relay->escape;

		relay->escape = !escaped && text[i] == ESCAPE;
		if (escaped && text[i] == 'x')
			raise(SIGTERM);
		else if (!relay->escape)
			text[kept++] = text[i];
	}
	return kept;
}

static void way_readable(struct loop_source *source, uint32_t events)
{
	struct relay_way *way = container_of(source, struct relay_way, in);
	const ssize_t n = read(way->from, way->buffer, sizeof(way->buffer));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		way_forget(way, &way->in, &way->from);
		if (way == &way->relay->to_guest)
			relay_hang_up(way->relay);
		return;
	}
	way->begin = 0;
	way->end = (uint32_t)n;
	if (way->relay->raw && way == &way->relay->to_guest)
		way->end = relay_escapes(way->relay, way->buffer, (uint32_t)n);
	way_update(way);
}

static void way_writable(struct loop_source *source, uint32_t events)
{
	(void)events;
	way_update(container_of(source, struct relay_way, out));
}

/* Waits for the sink while there is something left, else for the source. */
static void way_update(struct relay_way *way)
{
	struct loop *loop = way->relay->loop;
	const bool empty = way_flush(way);

	if (empty) {
		loop_remove(loop, &way->out);
		if (way->in.fd < 0 && way->from >= 0 &&
		    loop_add(loop, &way->in, way->from, EPOLLIN) != 0)
			way->from = -1; /* a regular file for input: not offered */
	} else {
		loop_remove(loop, &way->in);
		if (way->out.fd < 0)
			loop_add(loop, &way->out, way->to, EPOLLOUT);
	}
}

static void way_init(struct relay *relay, struct relay_way *way, int from, int to)
{
	way->relay = relay;
	way->in = (struct loop_source){ way_readable, -1 };
	way->out = (struct loop_source){ way_writable, -1 };
	way->from = from;
	way->to = to;
}

/* ---- the socket ---- */

static void relay_hang_up(struct relay *relay)
{
	if (relay->kind != ENDPOINT_UNIX || relay->client < 0)
		return;
	loop_remove(relay->loop, &relay->from_guest.out);
	relay->from_guest.to = -1;
	way_update(&relay->from_guest);
	cc_close(&relay->client_out);
	cc_close(&relay->client);
}

/* One client at a time; a second one is refused by being closed. */
static void relay_accept(struct loop_source *source, uint32_t events)
{
	struct relay *relay = container_of(source, struct relay, on_listener);
	const int fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (relay->client >= 0) {
		close(fd);
		return;
	}
	relay->client_out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (relay->client_out < 0) {
		close(fd);
		return;
	}
	relay->client = fd;
	relay->to_guest.from = fd;
	relay->from_guest.to = relay->client_out;
	way_update(&relay->to_guest);
	way_update(&relay->from_guest);
}

static int open_socket(struct relay *relay, const char *path)
{
	const int fd = unixsock_listen(path, 1, SOCK_NONBLOCK);

	if (fd < 0)
		return fd;
	relay->listener = fd;
	memcpy(relay->path, path, strlen(path) + 1); /* it fits into an address, so also here */
	return 0;
}

/* ---- sinks that may block ---- */

/* False: nobody is there any more. */
static bool writer_put(struct relay *relay, const uint8_t *text, size_t left)
{
	while (left > 0) {
		const ssize_t n = write(relay->sink, text, left);

		if (n > 0) {
			text += n;
			left -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) { /* somebody who shares it made it so */
			poll(&relay->room, 1, -1);
		} else if (n == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* Until no box can write any more.  Can be cancelled anywhere, so it holds nothing and has no buffer
 * on its stack, which a sanitizer would go on guarding. */
static void *relay_writer(void *arg)
{
	struct relay *relay = arg;
	uint8_t *text = relay->from_guest.buffer;

	confine_thread(CONFINE_RELAY);
	for (;;) {
		const ssize_t n = read(relay->our_output, text, RELAY_BUFFER);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		if (relay->sink >= 0 && !writer_put(relay, text, (size_t)n))
			relay->sink = -1; /* what comes is dropped, the guest does not wait */
	}
}

static int start_writer(struct relay *relay)
{
	int ret;

	/* This end is ours alone; the box's is another description and stays as it is. */
	if (fcntl(relay->our_output, F_SETFL, 0) != 0)
		return -errno;
	ret = pthread_create(&relay->writer, NULL, relay_writer, relay);
	relay->has_writer = ret == 0;
	return -ret;
}

static void end_writer(struct relay *relay)
{
	struct timespec until;

	cc_close(&relay->box_output); /* the last one, since the boxes are gone: it reads the end */
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RELAY_LAST_S;
	if (pthread_clockjoin_np(relay->writer, NULL, CLOCK_MONOTONIC, &until) != 0) {
		pthread_cancel(relay->writer);
		pthread_join(relay->writer, NULL);
	}
	relay->has_writer = false;
}

/* ---- open and close ---- */

static int make_pipe(int *read_end, int *write_end)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
		return -errno;
	*read_end = fds[0];
	*write_end = fds[1];
	return 0;
}

static int open_endpoint(struct relay *relay, const struct run_endpoint *e, const char **what)
{
	switch (relay->kind) {
	case ENDPOINT_TTY:
		*what = "set the terminal to raw mode";
		relay->raw = true;
		return terminal_raw();
	case ENDPOINT_FILE:
		*what = "open the output file";
		/* Non-blocking for a FIFO without a reader, which then is an error. */
		relay->client =
			open(e->path,
			     O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
			     0600);
		return relay->client < 0 ? -errno : 0;
	case ENDPOINT_UNIX:
		*what = "listen on the socket";
		return open_socket(relay, e->path);
	default:
		return 0;
	}
}

int relay_open(struct relay *relay, const struct run_endpoint *e, const char **what)
{
	int ret;

	*relay = (struct relay){ .kind = e->kind,
				 .box_input = -1,
				 .box_output = -1,
				 .our_input = -1,
				 .our_output = -1,
				 .listener = -1,
				 .client = -1,
				 .client_out = -1,
				 .on_listener = { relay_accept, -1 } };
	*what = "make a pipe";
	ret = make_pipe(&relay->box_input, &relay->our_input);
	if (ret == 0)
		ret = make_pipe(&relay->our_output, &relay->box_output);
	if (ret == 0)
		ret = open_endpoint(relay, e, what);
	if (ret != 0)
		relay_close(relay);
	return ret;
}

int relay_start(struct relay *relay, struct loop *loop)
{
	const bool tty = relay->kind == ENDPOINT_TTY;
	const bool threaded = tty || relay->kind == ENDPOINT_FILE;
	int ret = 0;

	relay->loop = loop;
	relay->sink = tty ? STDOUT_FILENO : relay->client;
	relay->room = (struct pollfd){ .fd = relay->sink, .events = POLLOUT };
	way_init(relay, &relay->to_guest, tty ? STDIN_FILENO : -1, relay->our_input);
	way_init(relay, &relay->from_guest, threaded ? -1 : relay->our_output, -1);
	if (relay->listener >= 0)
		ret = loop_add(loop, &relay->on_listener, relay->listener, EPOLLIN);
	if (ret == 0 && threaded)
		ret = start_writer(relay);
	if (ret != 0)
		return ret;
	way_update(&relay->to_guest);
	way_update(&relay->from_guest);
	return 0;
}

/* What the guest said last must not be lost with the VM: to a client of the socket, as far as it takes
 * it at once. */
static void relay_last_words(struct relay *relay)
{
	struct relay_way *way = &relay->from_guest;

	while (way_flush(way) && way->to >= 0) {
		const ssize_t n = read(relay->our_output, way->buffer, sizeof(way->buffer));

		if (n <= 0)
			break;
		way->end = (uint32_t)n;
	}
}

void relay_close(struct relay *relay)
{
	if (relay->loop != NULL) {
		if (relay->has_writer)
			end_writer(relay);
		else
			relay_last_words(relay);
		loop_remove(relay->loop, &relay->on_listener);
		loop_remove(relay->loop, &relay->to_guest.in);
		loop_remove(relay->loop, &relay->to_guest.out);
		loop_remove(relay->loop, &relay->from_guest.in);
		loop_remove(relay->loop, &relay->from_guest.out);
		relay->loop = NULL;
	}
	if (relay->raw)
		relay_restore_terminal();
	if (relay->path[0] != '\0')
		unlink(relay->path);
	relay->path[0] = '\0';
	cc_close(&relay->box_input);
	cc_close(&relay->box_output);
	cc_close(&relay->our_input);
	cc_close(&relay->our_output);
	cc_close(&relay->listener);
	cc_close(&relay->client_out);
	cc_close(&relay->client);
}
