/* SPDX-License-Identifier: Apache-2.0 */
#include "core/station.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/box/autopsy.h"
#include "core/box/fault.h"
#include "core/box/news.h"
#include "core/cc.h"
#include "core/log.h"

const char *station_state_name(enum station_state state)
{
	static const char *const names[] = {
#define STATE_NAME(NAME, name) name,
		STATION_STATES(STATE_NAME)
#undef STATE_NAME
	};

	return names[state];
}

/* ---- for the owner ---- */

int station_init(struct station *station, const struct run_options *options, struct loop *loop,
		 const struct station_ops *ops)
{
	memset(station, 0, sizeof(*station));
	if (news_create(&station->news) != 0)
		return -ENOMEM;
	pthread_mutex_init(&station->lock, NULL);
	station->ops = ops;
	station->loop = loop;
	station->options = *options;
	station->allow_faults = options->allow_faults;
	seal_host_probe(&station->seal);
	return 0;
}

void station_fini(struct station *station)
{
	news_destroy(station->news);
	pthread_mutex_destroy(&station->lock);
}

void station_add(struct station *station, const char *id, enum dev_kind kind, struct device *dev)
{
	CHECK(station->device_count < STATION_DEVICES_MAX);
	station->devices[station->device_count++] = (struct station_device){ id, kind, dev };
}

void station_remove(struct station *station, const struct device *dev)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < station->device_count; i++) {
		if (station->devices[i].dev != dev)
			station->devices[kept++] = station->devices[i];
	}
	station->device_count = kept;
}

int station_check_seal(const struct station *station, struct option_error *error)
{
	const struct run_seal *want = &station->options.require_seal;
	const struct run_seal lacks = {
		.layers = seal_host_lacks(&station->seal, want->layers, want->kernel),
	};
	char names[OPTION_SEAL_TEXT_MAX];

	if (lacks.layers == 0)
		return 0;
	option_seal_text(&lacks, names);
	snprintf(error->text, sizeof(error->text),
		 "--require-seal: not to be had here: %.150s (mayfly doctor says why)", names);
	return -ENOTSUP;
}

/* A device whose autopsies cannot be kept is no worse a device. */
static void keep_autopsies(const struct run_options *options, struct supervisor *sup)
{
	const int ret = supervisor_keep_autopsies(sup, options->state_dir);

	if (ret != 0)
		log_warn("no autopsies: %s: %s", options->state_dir, strerror(-ret));
}

int station_supervisor(struct station *station, struct spawner *spawner,
		       const struct box_memory *memory, struct supervisor **out,
		       struct option_error *error)
{
	const struct run_options *options = &station->options;
	const int ret = supervisor_create(out, spawner, &station->seal, memory);

	if (ret != 0) {
		option_fail(error, "cannot start the supervisor: %s", strerror(-ret));
		return ret;
	}
	supervisor_tell(*out, station->news);
	if (station->allow_faults)
		supervisor_allow_faults(*out, options->faulty_programs);
	keep_autopsies(options, *out);
	return 0;
}

void station_tell(struct station *station, const char *state)
{
	news_post(station->news, &(struct news_event){ .kind = NEWS_MACHINE, .text = state });
}

/* ---- for all others ---- */

enum station_state station_state(struct station *station)
{
	pthread_mutex_lock(&station->lock);
	const enum station_state state = station->state;

	pthread_mutex_unlock(&station->lock);
	return state;
}

int station_configure(struct station *station, int (*fn)(struct run_options *options, void *arg),
		      void *arg)
{
	int ret = -EBUSY;

	pthread_mutex_lock(&station->lock);
	if (station->state == STATION_NOT_STARTED)
		ret = fn(&station->options, arg);
	pthread_mutex_unlock(&station->lock);
	return ret;
}

void station_options(struct station *station, struct run_options *options)
{
	pthread_mutex_lock(&station->lock);
	*options = station->options;
	pthread_mutex_unlock(&station->lock);
}

uint32_t station_devices(struct station *station, struct station_device *devices, uint32_t max)
{
	pthread_mutex_lock(&station->lock);
	const uint32_t n = station->device_count;

	for (uint32_t i = 0; i < n && i < max; i++)
		devices[i] = station->devices[i];
	pthread_mutex_unlock(&station->lock);
	return n;
}

int station_find(struct station *station, const char *id, struct station_device *device)
{
	int ret = -ENOENT;

	pthread_mutex_lock(&station->lock);
	for (uint32_t i = 0; i < station->device_count && ret != 0; i++) {
		if (strcmp(station->devices[i].id, id) == 0) {
			*device = station->devices[i];
			ret = 0;
		}
	}
	pthread_mutex_unlock(&station->lock);
	return ret;
}

void station_seal(struct station *station, struct seal_host *host)
{
	*host = station->seal;
}

int station_on_main(struct station *station, void (*fn)(void *arg), void *arg)
{
	return loop_ask(station->loop, fn, arg) ? 0 : -ECANCELED;
}

bool station_faults_allowed(const struct station *station)
{
	return station->allow_faults;
}

struct news *station_news(const struct station *station)
{
	return station->news;
}

int station_describe(struct station *station, const char *id, struct front_end *front_end)
{
	return station->ops != NULL ? station->ops->describe(station, id, front_end) : -ENOENT;
}

int station_patch_drive(struct station *station, const struct run_disk *next,
			struct option_error *error)
{
	const int ret = station->ops->patch_drive(station, next->id, next, error);
	struct run_disk *disk;

	if (ret != 0)
		return ret;
	pthread_mutex_lock(&station->lock);
	disk = run_disk(&station->options, next->id);
	if (disk != NULL)
		*disk = *next;
	pthread_mutex_unlock(&station->lock);
	return 0;
}
