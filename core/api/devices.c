/* SPDX-License-Identifier: Apache-2.0 */
/* Devices as they are, and their replacement. */
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "core/api/internal.h"
#include "core/box/box.h"
#include "core/box/host.h"
#include "core/cc.h"
#include "devmodel/abi/kinds.h"
#include "devmodel/abi/launch.h"
#include "devmodel/abi/seal.h"

/* ---- the seal ---- */

static json_t *layer_json(const struct seal_host *host, enum seal_layer layer)
{
	const bool lacks = seal_host_lacks(host, 1u << layer, false) != 0;
	struct utsname kernel;

	if (layer == SEAL_LAYER_IDS)
		return lacks ? json_string("same as vmm") : json_sprintf("own (%u)", host->uid);
	if (layer == SEAL_LAYER_LANDLOCK && !lacks)
		return json_sprintf("abi %d", host->landlock_abi);
	if (!lacks)
		return json_string("ok");
	uname(&kernel);
	return json_sprintf("no (kernel %.*s)", (int)strcspn(kernel.release, "-+"), kernel.release);
}

static json_t *seal_json(const struct seal_host *host)
{
	static const char *const names[] = {
#define LAYER_NAME(NAME, name, text) #name,
		SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
	};
	json_t *seal = json_object();

	for (uint32_t i = 0; i < SEAL_LAYER_COUNT; i++)
		json_object_set_new(seal, i == SEAL_LAYER_IDS ? "uid" : names[i],
				    layer_json(host, (enum seal_layer)i));
	return seal;
}

/* ---- figures ---- */

/* Not qsort(): of more than 1 KiB it asks how much memory there is, which is none of a sealed thread's
 * business. */
static void insert(uint32_t *sorted, uint32_t n, uint32_t value)
{
	for (; n > 0 && sorted[n - 1] > value; n--)
		sorted[n] = sorted[n - 1];
	sorted[n] = value;
}

/* Of the last DEVICE_SAMPLES; all 0 while there are none. */
static json_t *percentiles(const uint32_t *samples, uint32_t count, bool zeroes)
{
	uint32_t sorted[DEVICE_SAMPLES], n = 0, last = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (samples[i] == 0 && !zeroes)
			continue;
		last = samples[i];
		insert(sorted, n++, last);
	}
	if (n == 0)
		sorted[n++] = 0;
	return json_pack("{s:I, s:I, s:I, s:I}", "last", (json_int_t)last, "p50",
			 (json_int_t)sorted[(n - 1) / 2], "p99",
			 (json_int_t)sorted[(n - 1) * 99 / 100], "max", (json_int_t)sorted[n - 1]);
}

static json_t *replacements_json(const struct device_status *s)
{
	json_t *counts = json_object();

	for (uint32_t i = 0; i < REPLACE_REASON_COUNT; i++)
		json_object_set_new(counts, replace_reason_name((enum replace_reason)i),
				    json_integer((json_int_t)s->replacements[i]));
	return counts;
}

/* Of a back-end: bits of features are written as specifications number them. */
static void add_front_end(json_t *object, struct station *station, const char *id)
{
	struct front_end f;

	if (station_describe(station, id, &f) != 0)
		return;
	json_object_set_new(
		object, "front_end",
		json_pack("{s:b, s:I, s:I, s:i, s:I, s:i, s:I, s:I, s:o, s:o}", "connected",
			  f.connected, "connections", (json_int_t)f.connections, "refused",
			  (json_int_t)f.refused, "regions", f.regions, "memory_bytes",
			  (json_int_t)f.memory_bytes, "rings_started", f.rings_started,
			  "memory_changes", (json_int_t)f.memory_changes, "handoffs",
			  (json_int_t)f.handoffs, "features",
			  json_sprintf("0x%llx", (unsigned long long)f.features),
			  "protocol_features",
			  json_sprintf("0x%llx", (unsigned long long)f.protocol_features)));
}

static json_t *device_json(struct station *station, const struct station_device *device)
{
	cleanup_free struct device_status *s = malloc(sizeof(*s));
	struct seal_host host;
	json_t *object;

	if (s == NULL)
		return NULL;
	station_seal(station, &host);
	device_status(device->dev, s);
	object = json_pack(
		"{s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:f, s:o, s:o, s:o, s:o, s:I, s:I, s:i, s:s, "
		"s:I}",
		"id", device->id, "kind", dev_kind_name(device->kind), "state", s->state,
		"generation", (json_int_t)s->generation, "epoch", s->epoch, "pid", s->pid,
		"standby_pid", s->standby_pid, "age_s", (double)s->age_ns / 1e9, "seal",
		seal_json(&host), "replacements", replacements_json(s), "switch_us",
		percentiles(s->switch_us, s->samples, true),
		/* A recovery drains nothing and counts as 0. */
		"drain_us", percentiles(s->drain_us, s->samples, false), "poisoned",
		(json_int_t)s->poisoned, "slow", (json_int_t)s->slow, "deaths_in_window",
		s->deaths_in_window, "programs", s->faulty ? "faulty" : "release", "faults",
		(json_int_t)s->faults);
	if (object != NULL && s->broken != NULL)
		json_object_set_new(object, "broken", json_string(s->broken));
	if (object != NULL)
		add_front_end(object, station, device->id);
	return object;
}

/* ---- routes ---- */

void api_get_devices(struct api_call *call)
{
	struct station_device devices[STATION_DEVICES_MAX];
	const uint32_t n = station_devices(call->station, devices, STATION_DEVICES_MAX);
	json_t *list = json_array();

	CHECK(n <= STATION_DEVICES_MAX);
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, device_json(call->station, &devices[i]));
	api_answer(call, list);
}

bool api_find_device(struct api_call *call, struct station_device *device)
{
	const bool found = station_find(call->station, call->id, device) == 0;

	if (!found)
		api_fault(call, MHD_HTTP_NOT_FOUND, "%.64s: no device of that id%s", call->id,
			  station_state(call->station) == STATION_NOT_STARTED
				  ? " (the VM was not started)"
				  : "");
	return found;
}

void api_get_device(struct api_call *call)
{
	struct station_device device;

	if (!api_find_device(call, &device))
		return;
	api_answer(call, device_json(call->station, &device));
}

void api_add_replacement(json_t *object, const struct replacement *r)
{
	json_t *members =
		json_pack("{s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I}", "from", (json_int_t)r->from,
			  "to", (json_int_t)r->to, "kind", r->planned ? "handoff" : "recovery",
			  "fence", fence_name(r->fence), "start", r->carried ? "carried" : "clean",
			  "drain_us", (json_int_t)r->drain_us, "switch_us",
			  (json_int_t)r->switch_us, "in_flight", (json_int_t)r->in_flight);

	json_object_update(object, members);
	json_decref(members);
}

void api_replace_device(struct api_call *call)
{
	struct station_device device;
	struct replacement r;
	int ret;

	if (!api_find_device(call, &device))
		return;
	ret = device_replace(device.dev, REPLACE_OPERATOR, true, &r);
	if (ret == 0) {
		json_t *object = json_pack("{s:s}", "id", device.id);

		api_add_replacement(object, &r);
		api_answer(call, object);
	} else {
		api_fault(call, api_status_of(ret), "%s: cannot be replaced now: %s", device.id,
			  ret == -ECANCELED ? "a reset or a break came first, or it was given up"
			  : ret == -EBUSY   ? "it is broken, quarantined or being replaced"
					    : strerror(-ret));
	}
}

void api_revive_device(struct api_call *call)
{
	struct station_device device;

	if (!api_find_device(call, &device))
		return;
	if (device_revive(device.dev) == 0)
		api_done(call);
	else
		api_fault(call, MHD_HTTP_CONFLICT, "%s: it is not quarantined", device.id);
}
