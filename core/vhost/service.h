/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device that is served over vhost-user: what its front-end wants (core/vhost/frontend.h) made so.
 *
 * A device serves from its creation to its end.  While no ring is to be served its generation has no guest
 * memory and no ring; each change, of memory, rings, eventfds, log or configuration, is a handoff into a new
 * epoch by the transaction of core/box/epoch.h.  So a stop drains: the old generation ends the request that it
 * is in and publishes it, and where it stands is what its ring says.
 *
 * Its image is locked, but after a migration: of a guest that migrates both sides have a back-end, and whichever the
 * guest is at has the lock.  That it was one is seen by the log: rings that all stop while writes are logged go on
 * elsewhere, or here, when the lock is taken again.
 *
 * All functions are called by one thread, the device's own, but where they say otherwise.  Those that change the
 * device wait until it has changed; service_stop() ends such a wait.
 */
#ifndef MAYFLY_CORE_VHOST_SERVICE_H
#define MAYFLY_CORE_VHOST_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/image.h"
#include "core/vhost/frontend.h"

/* All that a change takes and gives back. */
struct service_target {
	struct device_shape shape;
	struct vhost_regions regions;
	struct vhost_eventfd
		kick[BOX_QUEUES_MAX]; /* a descriptor of its own where the serial is new */
	struct vhost_eventfd call[BOX_QUEUES_MAX];
	struct vhost_log_area log;
	bool memory; /* it differs from what is in force .. */
	bool rings;  /* .. likewise */
};

struct service {
	const char *id; /* borrowed */
	struct supervisor
		*sup; /* of this device alone: front-ends have nothing to do with each other */
	struct device *dev;
	struct device_hooks hooks;
	uint32_t queues;
	int idle_kick[BOX_QUEUES_MAX]; /* ours, for rings that have none */
	int idle_call[BOX_QUEUES_MAX];
	bool stopping;      /* any thread */
	bool broken;        /* it serves nothing until it is reset; any thread .. */
	bool untold;        /* .. and service_has_broken() did not say so yet; any thread */
	int wake;           /* borrowed */
	struct image image; /* its descriptor borrowed; -1: none */
	/* What is in force. */
	uint32_t epoch;
	struct device_shape shape;
	struct vhost_regions regions;
	struct vhost_eventfd kick[BOX_QUEUES_MAX]; /* owned */
	struct vhost_eventfd call[BOX_QUEUES_MAX];
	struct vhost_log_area log;
	/* A change that service_stop() cut short, which the supervisor may be carrying out still: nothing of it goes
	 * before the supervisor, and no other change comes. */
	bool cut;
	struct service_target left;
	bool config_changed; /* and is to be put in force */
	uint64_t handoffs;   /* so far */
};

/* What it is made from. */
struct service_spec {
	struct supervisor *sup;     /* its own, of no memory; taken over, whatever comes of it */
	struct device_spec *device; /* eventfds and hooks are filled in */
	const struct image *image;  /* its descriptor is to outlive the service; NULL: none */
	int wake;                   /* an eventfd, borrowed: see service_has_broken() */
};

/* Nothing yet: service_destroy() has nothing to do. */
void service_init(struct service *svc, const char *id);
/* After that.  Makes the device, which serves nothing.  0, or -errno with one line in why, which names it; then nothing stays,
 * the supervisor neither. */
int service_create(struct service *svc, const struct service_spec *spec, char *why, size_t room);
void service_destroy(struct service *svc);
/* Once for each time that it serves nothing any more, be it that a driver broke a rule or that it died too often:
 * wake was written to then. */
bool service_has_broken(struct service *svc);
/* Any thread: whoever waits in a change need not any more. */
void service_stop(struct service *svc);

/* The image, if rings are to be served: before service_settle().  0, or -errno with *why (static text): -EBUSY: another
 * VMM or back-end has it. */
int service_claim(const struct service *svc, const struct frontend *fe, const char **why);
/* The device as the front-end wants it; NULL: as nobody wants it.  What it wants already is nothing to do.  0, or
 * -errno with *why (static text): nothing was changed; -ECANCELED: service_stop() was called, and what is in force is
 * not known. */
int service_settle(struct service *svc, const struct frontend *fe, const char **why);

/* Its image has become larger or smaller: as service_settle() with that. */
int service_configure(struct service *svc, const struct frontend *fe, uint64_t fsize,
		      const union dev_config *config, const char **why);

#endif
