/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process around a station, the same for a VM and for a vhost-user back-end: configuration, user, log,
 * state directory, spawners (before any thread), signals, confinement, API, loop; and all of it back in the
 * other order, whatever happens.  What differs is a table of the verb's.
 *
 * Hooks run on the main thread, in the order in which they stand, each once; `error` gets the line that is
 * printed as `mayfly VERB: ..` where they return -errno, which ends the process with status 1.
 */
#ifndef MAYFLY_CORE_PROCESS_H
#define MAYFLY_CORE_PROCESS_H

#include <stdint.h>

#include "core/box/spawn.h"
#include "core/loop.h"
#include "core/options.h"
#include "core/station.h"

struct vmm;
struct process_files;

/* What a station is made from; all of it is borrowed, and outlives destroy(). */
struct process_site {
	const void *verb_options; /* as process_main() got them */
	const struct run_options
		*options; /* complete: configuration file, id, state directory, API socket */
	struct spawner *spawners; /* as many as spawners() said, started */
	uint32_t spawner_count;
	struct loop *loop; /* does not run yet */
};

/* What was made: `self` is what the later hooks get. */
struct process_made {
	void *self;
	struct station *station;
	struct vmm *vmm; /* for the API; NULL: a back-end */
};

struct process_ops {
	const char *verb;
	const char *instance; /* what another one in the same state directory is called: VM */

	/* The verb's options and what its configuration file says, checked as a whole, into *options. */
	int (*configure)(const void *verb_options, struct run_options *options,
			 struct option_error *error);
	/* How many spawners, 1 at least.  Each serves one supervisor. */
	uint32_t (*spawners)(const struct run_options *options);
	/* Which files it has to do with besides those that both have: process_files_add().  No others can be
	 * opened later, nor can sockets be made elsewhere.  NULL: none. */
	void (*files)(const struct run_options *options, struct process_files *files);
	/* The station, not started.  There are no threads yet and none may be made; the seal on files is on,
	 * filters of system calls are not: sockets are made here. */
	int (*create)(const struct process_site *site, struct process_made *made,
		      struct option_error *error);
	/* The API answers.  Threads may begin; what is to happen in the loop is added to it.  The main thread
	 * puts its filter on itself (confine_thread(CONFINE_MAIN)), from within the loop and after whatever
	 * needs more. */
	int (*start)(void *self, const struct process_site *site, struct option_error *error);
	/* The loop has ended; who waits for something need not any more.  The API still answers. */
	void (*wind_up)(void *self);
	/* For wind_up() and this: also after a create() or start() that failed, if it had set made->self. */
	void (*destroy)(void *self);
	/* Before these two, of a process that began: what it ends with. */
	int (*exit_status)(void *self);
};

/* Runs it until its loop is stopped: SIGTERM, SIGINT, SIGHUP and SIGQUIT do, and so may the station.  Returns
 * the exit status.  Call from the main thread, without others. */
int process_main(const struct process_ops *ops, const void *verb_options);

/* access: enum confine_access. A path that is empty is passed over; it must live as long as the options. */
void process_files_add(struct process_files *files, const char *path, uint32_t access);
/* The folder of a socket that is made, and removed in the end. */
void process_files_add_socket(struct process_files *files, const char *path);

/* process_files.c: confine_files() to those that both have, and to what the hook adds. */
int process_confine_files(const struct process_ops *ops, const struct run_options *options,
			  const char *programs, const char **what);

#endif
