/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All devices of one back-end.  Each has a spawner, a supervisor and a thread of its own (core/vhost/broker.h):
 * their front-ends may be different VMs, and have nothing to do with each other but the operator.
 */
#include "core/vhost/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "core/box/news.h"
#include "core/cc.h"
#include "core/confine.h"
#include "core/device_spec.h"
#include "core/log.h"
#include "core/process.h"
#include "core/station.h"
#include "core/unixsock.h"
#include "core/vhost/broker.h"
#include "core/vhost/guard.h"
#include "hotplug/rejuvenate.h"

#define BACKLOG 4
#define DRAIN_MS 5000
/* For the processes of a back-end that was killed to be gone: a write to slow storage is waited for by each. */
#define LOCK_MS 10000

/* One device. */
struct unit {
	const struct run_disk *disk; /* of the site's options; NULL: the entropy device */
	char id[OPTION_ID_MAX + 1];
	const char *socket; /* to be removed in the end; NULL: systemd's, or not made */
	int listener;       /* until the broker has it */
	struct image image;
	int source;
	struct broker broker;
	bool served; /* the broker was made */
	struct rejuvenate rejuvenate;
};

struct vhost {
	struct station station;
	struct activation *activation;
	struct unit *units;
	uint32_t count;
	bool incoming; /* --incoming */
};

/* ---- units ---- */

static uint32_t unit_count(const struct run_options *o)
{
	return o->disk_count + (o->rng ? 1u : 0);
}

static void unit_init(struct unit *u, const struct run_options *o, uint32_t i)
{
	u->disk = i < o->disk_count ? &o->disks[i] : NULL;
	u->listener = u->source = u->image.fd = -1;
	u->socket = NULL;
	snprintf(u->id, sizeof(u->id), "%s", u->disk != NULL ? u->disk->id : "rng");
}

static const char *socket_of(const struct unit *u, const struct run_options *o)
{
	return u->disk != NULL ? u->disk->own.socket : o->own[OWN_DEVICE_RNG].socket;
}

/* Its socket: systemd's, or one that is made. */
static int unit_listen(struct vhost *vhost, struct unit *u, const struct run_options *o,
		       struct option_error *error)
{
	const char *path = socket_of(u, o);

	if (path[0] == '\0') {
		u->listener = activation_take(vhost->activation, u->id, vhost->count == 1, error);
		if (u->listener < 0)
			return u->listener;
		/* Who connects may be gone before it is accepted. */
		if (fcntl(u->listener, F_SETFL, O_NONBLOCK) == 0)
			return 0;
		return option_fail(error, "%s: cannot use its socket: %s", u->id, strerror(errno));
	}
	u->listener = unixsock_bind(path, SOCK_NONBLOCK);
	if (u->listener < 0)
		return option_fail(error, "%s: cannot listen on %.100s: %s", u->id, path,
				   unixsock_error(u->listener));
	u->socket = path;
	return 0;
}

/* What is behind it: an image that nobody uses; if guests migrate to here, then from when they have come. */
static int unit_open(struct vhost *vhost, struct unit *u, const struct run_options *o,
		     struct device_spec *spec, struct option_error *error)
{
	const uint32_t lock_ms = vhost->incoming ? IMAGE_LOCK_LATER : LOCK_MS;
	int ret;

	if (u->disk == NULL)
		return device_spec_rng(o, &u->source, spec, error);
	ret = device_spec_disk(o, u->disk, lock_ms, &u->image, spec, error);
	if (ret == -EBUSY)
		option_fail(
			error,
			"%.100s is locked: another VMM or back-end uses it: end that, or give --incoming if its guest "
			"migrates to here",
			u->disk->path);
	return ret;
}

static int unit_serve(struct vhost *vhost, struct unit *u, const struct process_site *site,
		      struct option_error *error)
{
	const struct box_memory none = { .map = { .epoch = 0 } };
	const uint32_t i = (uint32_t)(u - vhost->units);
	struct device_spec device;
	struct service_spec spec = { .device = &device,
				     .image = u->disk != NULL ? &u->image : NULL };
	int ret = unit_open(vhost, u, site->options, &device, error);

	if (ret == 0)
		ret = station_supervisor(&vhost->station, &site->spawners[i], &none, &spec.sup,
					 error);
	if (ret != 0)
		return ret;
	ret = broker_create(&u->broker, &spec, cc_take_fd(&u->listener), error->text,
			    sizeof(error->text));
	if (ret != 0)
		return ret;
	u->served = true;
	pthread_mutex_lock(&vhost->station.lock);
	station_add(&vhost->station, u->id, device.kind, u->broker.svc.dev);
	pthread_mutex_unlock(&vhost->station.lock);
	return 0;
}

static void unit_destroy(struct unit *u)
{
	rejuvenate_stop(&u->rejuvenate);
	if (u->served)
		broker_destroy(&u->broker);
	image_close(&u->image);
	cc_close(&u->source);
	cc_close(&u->listener);
	if (u->socket != NULL)
		unlink(u->socket);
}

static struct unit *find_unit(struct vhost *vhost, const char *id)
{
	for (uint32_t i = 0; i < vhost->count; i++) {
		if (strcmp(vhost->units[i].id, id) == 0)
			return &vhost->units[i];
	}
	return NULL;
}

/* ---- what the API asks of it ---- */

static int describe(struct station *station, const char *id, struct front_end *fe)
{
	struct vhost *vhost = container_of(station, struct vhost, station);
	struct unit *u = find_unit(vhost, id);

	if (u == NULL)
		return -ENOENT;
	broker_status(&u->broker, fe);
	return 0;
}

/* The image has another size.  It is never another file: what was not named at the start cannot be opened. */
static int refresh(const struct unit *u, const struct run_disk *next, struct image *image,
		   struct option_error *error)
{
	const struct image_config config = { next->path, next->readonly, next->direct, 0 };
	char why[IMAGE_WHY_MAX];
	int ret;

	if (strcmp(next->path, u->disk->path) != 0)
		return option_fail(error,
				   "path_on_host: a back-end opens no other image than it was "
				   "started with: start it with that one");
	*image = u->image;
	ret = image_refresh(image, &config, why);
	if (ret != 0)
		option_fail(error, "path_on_host: %.200s", why);
	return ret;
}

static int patch_drive(struct station *station, const char *id, const struct run_disk *next,
		       struct option_error *error)
{
	struct vhost *vhost = container_of(station, struct vhost, station);
	struct unit *u = find_unit(vhost, id);
	struct device_spec device;
	struct image image;
	const char *why = "";
	int ret;

	if (u == NULL || u->disk == NULL)
		return -ENOENT;
	ret = refresh(u, next, &image, error);
	if (ret != 0)
		return ret;
	device_spec_image(&station->options, next, &image, &device);
	ret = broker_configure(&u->broker, device.fsize, &device.config, &why);
	if (ret != 0)
		option_fail(error, "%s: its image cannot be changed now: %s", id,
			    why[0] != '\0' ? why : strerror(-ret));
	else
		u->image = image;
	return ret;
}

static const struct station_ops station_ops = { patch_drive, describe };

/* ---- the process ---- */

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
	return unit_count(options);
}

static void add_files(const struct run_options *options, struct process_files *files)
{
	for (uint32_t i = 0; i < options->disk_count; i++)
		process_files_add_socket(files, options->disks[i].own.socket);
	process_files_add_socket(files, options->own[OWN_DEVICE_RNG].socket);
}

/* Regions of its front-ends are descriptors here, and may be many. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int create(const struct process_site *site, struct process_made *made,
		  struct option_error *error)
{
	const struct vhost_start *begin = site->verb_options;
	const struct run_options *o = site->options;
	struct vhost *vhost = calloc(1, sizeof(*vhost));
	int ret = vhost != NULL ? guard_begin() : -ENOMEM;

	if (ret == 0)
		ret = station_init(&vhost->station, o, site->loop, &station_ops);
	if (ret != 0) {
		free(vhost);
		return option_fail(error, "cannot begin: %s", strerror(-ret));
	}
	*made = (struct process_made){ .self = vhost, .station = &vhost->station };
	vhost->activation = begin->activation;
	vhost->incoming = begin->options->incoming;
	vhost->units = calloc(unit_count(o), sizeof(vhost->units[0]));
	if (vhost->units == NULL)
		return option_fail(error, "out of memory");
	vhost->count = unit_count(o);
	raise_limit();
	for (uint32_t i = 0; i < vhost->count; i++)
		unit_init(&vhost->units[i], o, i);
	for (uint32_t i = 0; i < vhost->count && ret == 0; i++)
		ret = unit_listen(vhost, &vhost->units[i], o, error);
	return ret;
}

/* On the loop's thread, last of all. */
static void join_loop(void *arg)
{
	struct vhost *vhost = arg;

	for (uint32_t i = 0; i < vhost->count; i++) {
		struct unit *u = &vhost->units[i];
		const struct run_own own = run_settings_of(&vhost->station.options, u->id);

		rejuvenate_start(&u->rejuvenate, vhost->station.loop, u->broker.svc.dev,
				 own.every_ms, own.jitter_permille, i, vhost->count);
	}
	activation_notify(vhost->activation, "READY=1\nSTATUS=Serving");
	confine_thread(CONFINE_MAIN);
}

static int start(void *self, const struct process_site *site, struct option_error *error)
{
	struct vhost *vhost = self;
	int ret = station_check_seal(&vhost->station, error);

	for (uint32_t i = 0; i < vhost->count && ret == 0; i++)
		ret = unit_serve(vhost, &vhost->units[i], site, error);
	/* Only now that all are ready: QEMU 7.2 never comes again to one that ends before it has answered. */
	for (uint32_t i = 0; i < vhost->count && ret == 0; i++) {
		ret = listen(vhost->units[i].broker.listener, BACKLOG) == 0 ? 0 : -errno;
		if (ret == 0)
			ret = broker_start(&vhost->units[i].broker);
		if (ret != 0)
			option_fail(error, "%s: cannot begin to serve: %s", vhost->units[i].id,
				    strerror(-ret));
	}
	if (ret != 0)
		return ret;
	pthread_mutex_lock(&vhost->station.lock);
	vhost->station.state = STATION_RUNNING;
	pthread_mutex_unlock(&vhost->station.lock);
	station_tell(&vhost->station, station_state_name(STATION_RUNNING));
	loop_post(vhost->station.loop, join_loop, vhost);
	return 0;
}

/* All at once: none waits for what another's storage does. */
static void wind_up(void *self)
{
	struct vhost *vhost = self;
	const uint64_t end = now_ns() + DRAIN_MS * NS_PER_MS;

	activation_notify(vhost->activation, "STOPPING=1\nSTATUS=Draining");
	station_tell(&vhost->station, "Ended");
	for (uint32_t i = 0; i < vhost->count; i++) {
		if (vhost->units[i].served)
			broker_end(&vhost->units[i].broker);
	}
	for (uint32_t i = 0; i < vhost->count; i++) {
		const uint64_t now = now_ns();

		if (vhost->units[i].served)
			broker_stop(&vhost->units[i].broker,
				    now < end ? (uint32_t)((end - now) / NS_PER_MS) : 0);
	}
}

static void destroy(void *self)
{
	struct vhost *vhost = self;

	for (uint32_t i = 0; i < vhost->count; i++)
		unit_destroy(&vhost->units[i]);
	station_fini(&vhost->station);
	free(vhost->units);
	free(vhost);
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
