/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly vhost-user`: devices that are served to other VMMs, each at a socket of its own.
 * The process around it is core/process.c's; what a back-end's hooks get of it, and when:
 *
 *   configure  struct vhost_start: options as parsed; vhost_configure() makes run_options of them, in which every
 *              disk has own.socket, and the entropy device own[OWN_DEVICE_RNG].socket: where to listen, or
 *              empty: it takes one of systemd's, by its id.  Those are opened here, before Landlock.
 *   create     struct process_site: options, complete; a spawner for each device, in the order disks, then
 *              rng, since each has a supervisor of its own: its guest's memory is its own; the loop, which does
 *              not run yet.  Listens.  Makes the station, with the hooks of struct station_ops.
 *   start      threads may begin: station_check_seal(), station_supervisor() and device_spec_disk() or
 *              device_spec_rng() for each device, station_add(), STATION_RUNNING; READY=1 to systemd.
 */
#ifndef MAYFLY_CORE_VHOST_VHOST_H
#define MAYFLY_CORE_VHOST_VHOST_H

#include "core/options.h"
#include "core/vhost/activation.h"

/* Serves until it is asked to end; returns the exit status: 0, or 1: host or configuration error.  Call from the
 * main thread, without others. */
int vhost_main(const struct vhost_options *options);

/* What the hooks know of each other before there is a station: process_site.verb_options. */
struct vhost_start {
	const struct vhost_options *options;
	struct activation *activation;
};

#endif
