/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever owns devices: a VM (core/vmm.h), or a vhost-user back-end (core/vhost/vhost.h), which serves them
 * to other VMMs.  Here is what the API and the process around it need of both; neither is known here.
 *
 * Two sides.  The owner embeds a struct station and reads and writes its members, those under the lock with
 * the lock held.  All others call the functions of the second half, which lock inside.
 */
#ifndef MAYFLY_CORE_STATION_H
#define MAYFLY_CORE_STATION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/box/host.h"
#include "core/loop.h"
#include "core/options.h"

/* NAME, as the API shows it. */
#define STATION_STATES(X)                                                                          \
	X(NOT_STARTED, "Not started")                                                              \
	X(RUNNING, "Running")                                                                      \
	X(PAUSED, "Paused")

enum station_state {
#define STATION_STATE_ENUM(NAME, name) STATION_##NAME,
	STATION_STATES(STATION_STATE_ENUM)
#undef STATION_STATE_ENUM
};

const char *station_state_name(enum station_state state);

/* As many as a VM can have; a back-end has fewer. */
#define STATION_DEVICES_MAX (RUN_DISKS_MAX + 4 + RUN_NODES_MAX)

struct station_device {
	const char *id; /* the owner's, as is .. */
	enum dev_kind kind;
	struct device *dev; /* .. this */
};

/* Whom a device of a back-end is served to. */
struct front_end {
	bool connected;
	uint64_t connections;  /* so far, the one that there is included */
	uint64_t refused;      /* while one was there, or something of the last; so far */
	uint32_t regions;      /* of its guest's memory, .. */
	uint64_t memory_bytes; /* .. which are so large in all; 0: none are shared now */
	uint32_t rings_started;
	uint64_t memory_changes; /* of the table of regions that were asked for, so far, .. */
	uint64_t handoffs;       /* .. and what came of these, of changes of rings and of PATCH */
	uint64_t features;       /* virtio's, as agreed on; 0: not yet */
	uint64_t protocol_features;
};

struct station;

/* What only a back-end has; a VM has none of it. */
struct station_ops {
	/* A drive's image has another size, or is another file: `next` is what the options will say of it.
	 * On the loop's thread, without the lock; may wait for a replacement, nothing longer.  0, or -errno
	 * with a line in error, all as it was then. */
	int (*patch_drive)(struct station *station, const char *id, const struct run_disk *next,
			   struct option_error *error);
	/* From any thread, without the lock; must not wait. 0, or -ENOENT: no device of that id. */
	int (*describe)(struct station *station, const char *id, struct front_end *front_end);
};

struct station {
	/* These never change. */
	const struct station_ops *ops; /* NULL: a VM */
	struct loop *loop;             /* borrowed */
	struct news *news;             /* owned */
	struct seal_host seal;
	bool allow_faults;

	pthread_mutex_t lock; /* of all below */
	struct run_options options;
	enum station_state state;
	struct station_device devices[STATION_DEVICES_MAX];
	uint32_t device_count;
};

/* ---- for the owner ---- */

/* options are copied; the loop must outlive the station.  Probes the host.  0 or -ENOMEM. */
int station_init(struct station *station, const struct run_options *options, struct loop *loop,
		 const struct station_ops *ops);
/* When nobody can call any more; devices need not have been removed. */
void station_fini(struct station *station);

/* With the lock held.  A device that was added stays until nobody can ask for it any more, since who found
 * it uses it without the lock: station_remove() is for before the API and after it, or where a start
 * failed.  id must live as long. */
void station_add(struct station *station, const char *id, enum dev_kind kind, struct device *dev);
void station_remove(struct station *station, const struct device *dev);

/* Whether the seal that the options ask for is to be had: 0, or -ENOTSUP with a line in error. */
int station_check_seal(const struct station *station, struct option_error *error);
/* A supervisor as the options want it: it tells the news, keeps autopsies in the state directory, injects
 * faults.  Spawner and memory as supervisor_create() has them.  Any number for a station; each is gone
 * before station_fini().  0, or -errno with a line in error. */
int station_supervisor(struct station *station, struct spawner *spawner,
		       const struct box_memory *memory, struct supervisor **out,
		       struct option_error *error);

/* An event of the station itself (NEWS_MACHINE). state: static text. Does not block. */
void station_tell(struct station *station, const char *state);

/* ---- for all others ---- */

enum station_state station_state(struct station *station);
/* The configuration, to be changed before the start: calls fn with it under the lock. -EBUSY: started
 * already; else what fn returns. */
int station_configure(struct station *station, int (*fn)(struct run_options *options, void *arg),
		      void *arg);
/* A copy of the configuration as it is. */
void station_options(struct station *station, struct run_options *options);

/* Devices in order of creation: at most max are written, how many there are is returned; 0 before the
 * start. */
uint32_t station_devices(struct station *station, struct station_device *devices, uint32_t max);
/* -ENOENT: no device of that id. */
int station_find(struct station *station, const char *id, struct station_device *device);

/* What the boxes' seal is made of on this host; probed, so also before the start. */
void station_seal(struct station *station, struct seal_host *host);

/* From a thread of the API's: runs fn on the loop's thread, which may open files, and waits.  0;
 * -ECANCELED: it is about to end, and fn was not run. */
int station_on_main(struct station *station, void (*fn)(void *arg), void *arg);

/* Given at the start (--allow-faults, --faulty-programs). */
bool station_faults_allowed(const struct station *station);

/* What happens is told there; lives as long as the station. */
struct news *station_news(const struct station *station);

/* Whom a device is served to. 0; -ENOENT: no device of that id, or a VM. */
int station_describe(struct station *station, const char *id, struct front_end *front_end);
/* Of a back-end, on the loop's thread: its hook, and the options say it from then on.  0, or as the hook
 * has it. */
int station_patch_drive(struct station *station, const struct run_disk *next,
			struct option_error *error);

#endif
