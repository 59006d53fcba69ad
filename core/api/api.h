/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP API on a unix socket (docs/api.yaml), of a VM or of a vhost-user back-end.  It has threads of its
 * own; every request ends in a call of core/station.h, core/vmm.h or core/box/box.h.
 */
#ifndef MAYFLY_CORE_API_API_H
#define MAYFLY_CORE_API_API_H

#include "core/station.h"
#include "core/vmm.h"

struct api;

/* For a VM and its station, or, with vmm NULL, for a back-end; both must outlive it.  Listens on `path`, mode 0600: 0, or what unixsock_listen() says; -ENOMEM.  error has the line to
 * print. */
int api_start(struct api **out, struct station *station, struct vmm *vmm, const char *path,
	      struct option_error *error);
/* Removes the socket, answers what has arrived (for half a second at most) and ends the rest. */
void api_stop(struct api *api);

#endif
