/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device, its socket and its thread.  The thread accepts a front-end, refuses a second while one is there,
 * takes its messages, has the device changed by them (core/vhost/service.h) and answers; when the front-end
 * leaves, whatever way, the device is drained and given nothing of it any more, and the next is waited for.
 *
 * Functions may be called from any other thread, but where they say otherwise.
 */
#ifndef MAYFLY_CORE_VHOST_BROKER_H
#define MAYFLY_CORE_VHOST_BROKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/station.h"
#include "core/vhost/frontend.h"
#include "core/vhost/service.h"
#include "core/vhost/session.h"

#define BROKER_OWED_MAX 16 /* acknowledgements that one change may be the answer to */

/* A change that another thread asks for; on its stack. */
struct broker_job {
	uint64_t fsize;
	union dev_config config;
	bool taken; /* by the device's thread: then it is done, sooner or later */
	bool done;
	int ret;
	const char *why;
};

struct broker {
	char id[DEVICE_ID_MAX + 1];
	enum dev_kind kind;
	int listener; /* owned */
	int wake;     /* owned eventfd */
	pthread_t thread;
	bool running;
	bool ending; /* any thread */
	/* The thread's. */
	struct service svc;
	struct vhost_offer offer;
	struct frontend fe;
	struct session session;
	uint32_t last; /* request that was acted on */
	struct vhost_user_header owed[BROKER_OWED_MAX];
	uint32_t owed_count;
	bool saved; /* the table before the messages that are not in force yet is in .. */
	struct frontend_saved before;
	bool unsettled; /* messages came that are not in force */
	bool orphaned;  /* its front-end is gone and the device still has something of it */
	uint64_t log_due_ns;
	int transfer;       /* what SET_DEVICE_STATE_FD gave to load from, owned; -1: none */
	int transfer_error; /* of the last that was saved */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t done;
	struct broker_job *job; /* NULL: none */
	struct front_end status;
};

/* The device, sealed and waiting; nobody is heard yet.  spec->wake is filled in; the listening socket is taken over,
 * whatever comes of it.  0, or -errno with one line in why. */
int broker_create(struct broker *b, const struct service_spec *spec, int listener, char *why,
		  size_t room);
/* Front-ends are heard from here on. 0 or -errno. */
int broker_start(struct broker *b);
/* It is to drain: begins broker_stop(), and does not wait. */
void broker_end(struct broker *b);
/* The device drains, its front-end sees the end.  Waits for at most deadline_ms for requests that are in
 * progress; one that its storage keeps longer is run again by whoever serves next.  Once, after that only .. */
void broker_stop(struct broker *b, uint32_t deadline_ms);
/* .. this: also of one that was not started. */
void broker_destroy(struct broker *b);

/* The image is of another size: the device has it when this returns, and the front-end was told.  0;
 * -EBUSY: the device is ending, or another such change goes on; -errno, with *why. */
int broker_configure(struct broker *b, uint64_t fsize, const union dev_config *config,
		     const char **why);
void broker_status(struct broker *b, struct front_end *status);

/* Its own thread: a line of what its front-end brought about may be written now. */
bool broker_may_log(struct broker *b);

#endif
