/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back-end as a program: mayfly's, or qemu-storage-daemon, each a child of the benchmark in
 * a directory of its own, which holds the image, too.
 */
#ifndef MAYFLY_BENCH_VHOST_SERVER_H
#define MAYFLY_BENCH_VHOST_SERVER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Short, so that names of sockets in it fit. */
#define SERVER_DIR_MAX 64

enum server_kind { SERVER_MAYFLY, SERVER_QSD };

struct server_setup {
	enum server_kind kind;
	bool direct; /* O_DIRECT */
	uint32_t queues;
	uint64_t image_bytes;
	const char *aio; /* of qemu-storage-daemon: threads, native, io_uring */
};

struct server {
	enum server_kind kind;
	pid_t pid; /* 0: none */
	int image; /* of this process, -1: none */
	char dir[SERVER_DIR_MAX];
};

/* Whether qemu-storage-daemon is there. */
bool server_has_qsd(void);

/* The directory and an image of zeroes, all of it allocated and written. 0 or -errno; server_end() in
 * either case. */
int server_prepare(struct server *s, const struct server_setup *setup);
/* Starts the program; whether it listens yet is not known.  It may use all CPUs but the first, which the
 * client has (bench_pin(0, 0)); its messages go to stderr. 0 or -errno. */
int server_start(struct server *s, const struct server_setup *setup);
/* Whether it still runs. */
bool server_runs(const struct server *s);
/* SIGTERM, and SIGKILL to one that does not go.  0; -ECHILD: it did not end with status 0;
 * -ETIMEDOUT: by SIGKILL. */
int server_stop(struct server *s);
/* Whatever is left of it: process, files.  May be called twice, and on zeroes with image -1. */
void server_end(struct server *s);

/* Of vhost-user; of mayfly's API. */
void server_socket(const struct server *s, char path[PATH_MAX]);
void server_api(const struct server *s, char path[PATH_MAX]);

/* User and system time of the program and all its descendants so far, those that have ended and been
 * waited for included.  0 or -errno. */
int server_cpu_ns(const struct server *s, uint64_t *ns);

#endif
