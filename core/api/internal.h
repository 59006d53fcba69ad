/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of core/api share: one request that arrived whole, its answer, and the table of
 * what is answered.
 *
 *   api.c        the socket and libmicrohttpd: bytes in, bytes out
 *   routes.c     the table, and which line of it a request is for
 *   vm.c         the machine, or the back-end: state, actions, version
 *   configure.c  what is to be started: core/config.h over HTTP; drives of a back-end
 *   devices.c    devices, replacement
 *   autopsies.c  what is kept of the fenced
 *   balloon.c    the balloon
 *   events.c     GET /events
 *   faults.c     faults, injected
 *   memory.c     memory that comes and goes
 *   metrics.c    GET /metrics
 */
#ifndef MAYFLY_CORE_API_INTERNAL_H
#define MAYFLY_CORE_API_INTERNAL_H

#include <jansson.h>

#include "core/options.h"
#include "core/station.h"
#include "core/vmm.h"

struct MHD_Connection;
struct MHD_Response;
struct stream;

/* What requests share. */
struct api_state {
	struct station *station;
	struct vmm *vmm; /* whose station it is; NULL: a back-end's */
	int log;         /* opened by PUT /logger; -1: not yet */
};

struct api_call {
	struct api_state *state;
	struct station *station;
	struct vmm *vmm; /* NULL: a back-end, which gets to see no route of API_VM */
	const struct api_route *route;
	char id[OPTION_ID_MAX + 1]; /* what stands for {id}; not checked, may name nothing */
	char n[OPTION_ID_MAX + 1];  /* likewise for {n} */
	json_t *body;               /* an object; NULL: there was none */
	/* The answer; without text: of no length. */
	unsigned int status;
	char *text;            /* malloc()ed */
	struct stream *stream; /* instead of text: an answer without an end (events.c) */
	const char *type;      /* of either */
	char allow[64];        /* 405: the methods that there are */
};

typedef void api_handler(struct api_call *call);

enum api_body { API_BODY_NONE, API_BODY_OBJECT };

/* Who has a route: a VM only, or a back-end, too. */
enum api_whose { API_VM, API_BOTH };

struct api_route {
	const char *method;
	const char *path; /* at most one {id} and one {n} */
	enum api_body body;
	enum api_whose whose;
	api_handler *handler;
	const char *section; /* of the configuration (core/config.h); or NULL */
};

extern const struct api_route api_routes[];
extern const size_t api_route_count;

/* Answers one request; data is its body, not terminated. */
void api_dispatch(struct api_call *call, const char *method, const char *path, const char *data,
		  size_t bytes);

/* 204 */
void api_done(struct api_call *call);
/* 200 with this object, which it takes over; NULL: out of memory. */
void api_answer(struct api_call *call, json_t *object);
/* status and {"fault_message"} */
void api_fault(struct api_call *call, unsigned int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The status of an error of the VMM: -EBUSY, -ECANCELED 409; -ENOENT 404; all else 400. */
unsigned int api_status_of(int ret);
/* The body's member if it is a string, and the only member; else answers 400 and returns NULL. */
const char *api_only_string(struct api_call *call, const char *key);

/* A handler that opens files: runs it where that is allowed. */
void api_on_main(struct api_call *call, api_handler *handler);

/* The device that the path names; else answers 404. */
bool api_find_device(struct api_call *call, struct station_device *device);

/* Adds what GET /events and POST /devices/{id}/replace say of a replacement. */
void api_add_replacement(json_t *object, const struct replacement *r);

/* An answer whose body is this stream, which it takes over.  NULL: no memory. */
struct MHD_Response *api_stream(struct stream *s, struct MHD_Connection *connection);

/* Handlers, one a route or a family of them. */
api_handler api_get_root, api_get_version, api_patch_vm, api_put_actions;
api_handler api_get_devices, api_get_device, api_replace_device, api_revive_device;
api_handler api_get_autopsies, api_get_autopsy;
api_handler api_get_events, api_inject_fault;
api_handler api_get_metrics;
api_handler api_get_balloon, api_patch_balloon;
api_handler api_get_balloon_statistics, api_patch_balloon_statistics;
api_handler api_get_memory, api_post_dimm, api_delete_dimm;
api_handler api_patch_hotplug, api_get_hotplug;
api_handler api_put_section, api_patch_section, api_get_section, api_patch_drive;
api_handler api_put_logger, api_get_config;

/* Prometheus text, malloc()ed; NULL: out of memory.  vmm NULL: of a back-end. */
char *metrics_text(struct station *station, struct vmm *vmm);

#endif
