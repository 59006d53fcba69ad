/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back-end, as the process around it wants it.
 *
 * TO BE REPLACED: the station that is made here has no devices, and nobody is listened to.
 */
#include "core/vhost/vhost.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "core/confine.h"
#include "core/process.h"
#include "core/station.h"

struct vhost {
	struct station station;
	const struct vhost_start *begin;
};

static int no_drive(struct station *station, const char *id, const struct run_disk *next,
		    struct option_error *error)
{
	(void)station, (void)next;
	option_fail(error, "%.64s: is not served", id);
	return -ENOENT;
}

static int no_front_end(struct station *station, const char *id, struct front_end *front_end)
{
	(void)station, (void)id, (void)front_end;
	return -ENOENT;
}

static const struct station_ops station_hooks = { no_drive, no_front_end };

static int configure(const void *verb_options, struct run_options *options,
		     struct option_error *error)
{
	const struct vhost_start *begin = verb_options;
	const int ret = vhost_configure(begin->options, options, error);

	return ret == 0 ? activation_open(begin->activation, error) : ret;
}

/* A supervisor for each device: its guest's memory is its own. */
static uint32_t spawners(const struct run_options *options)
{
	return options->disk_count + (options->rng ? 1 : 0);
}

static void add_files(const struct run_options *options, struct process_files *files)
{
	for (uint32_t i = 0; i < options->disk_count; i++)
		process_files_add_socket(files, options->disks[i].own.socket);
	process_files_add_socket(files, options->own[OWN_DEVICE_RNG].socket);
}

static int create(const struct process_site *site, struct process_made *made,
		  struct option_error *error)
{
	struct vhost *v = calloc(1, sizeof(*v));

	if (v == NULL ||
	    station_init(&v->station, site->options, site->loop, &station_hooks) != 0) {
		free(v);
		option_fail(error, "out of memory");
		return -ENOMEM;
	}
	v->begin = site->verb_options;
	*made = (struct process_made){ v, &v->station, NULL };
	return 0;
}

/* Once the loop runs: nothing is left to be made that this thread may not make any more. */
static void join_loop(void *arg)
{
	struct vhost *v = arg;

	activation_notify(v->begin->activation, "READY=1");
	confine_thread(CONFINE_MAIN);
}

static int start(void *self, const struct process_site *site, struct option_error *error)
{
	struct vhost *v = self;
	int ret;

	pthread_mutex_lock(&v->station.lock);
	ret = station_check_seal(&v->station, error);
	if (ret == 0) {
		v->station.state = STATION_RUNNING;
		station_tell(&v->station, station_state_name(STATION_RUNNING));
	}
	pthread_mutex_unlock(&v->station.lock);
	if (ret == 0)
		loop_post(site->loop, join_loop, v);
	return ret;
}

static void wind_up(void *self)
{
	const struct vhost *v = self;

	activation_notify(v->begin->activation, "STOPPING=1");
}

static void destroy(void *self)
{
	struct vhost *v = self;

	station_fini(&v->station);
	free(v);
}

static int exit_status(void *self)
{
	(void)self;
	return EXIT_SUCCESS;
}

int vhost_main(const struct vhost_options *options)
{
	static const struct process_ops ops = {
		.verb = "vhost-user",
		.instance = "back-end",
		.configure = configure,
		.spawners = spawners,
		.files = add_files,
		.create = create,
		.start = start,
		.wind_up = wind_up,
		.destroy = destroy,
		.exit_status = exit_status,
	};
	struct activation activation = { .notify = -1 };
	const struct vhost_start begin = { options, &activation };
	const int status = process_main(&ops, &begin);

	activation_close(&activation);
	return status;
}
