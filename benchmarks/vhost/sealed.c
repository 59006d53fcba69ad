/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/vhost/sealed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/box/host.h"
#include "core/cc.h"
#include "core/http.h"

#define ASK_S 20

static const char *const layer_names[] = {
#define LAYER_NAME(NAME, name, text) [SEAL_LAYER_##NAME] = #name,
	SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
};

/* ---- asking ---- */

/* The answer to a request that must be answered by 200; NULL, and said. */
static json_t *ask(const struct server *server, const char *method, const char *route)
{
	struct http_answer answer = { .body = NULL };
	char socket[PATH_MAX];
	json_t *json = NULL;
	int ret;

	server_api(server, socket);
	ret = http_ask(socket, method, route, NULL, ASK_S, &answer);
	if (ret == 0 && answer.status == 200)
		json = json_loadb(answer.body, answer.bytes, 0, NULL);
	if (json == NULL)
		fprintf(stderr, "bench-vhost: %s %s: %s\n", method, route,
			ret != 0 ? strerror(-ret) : answer.body);
	free(answer.body);
	return json;
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

/* ---- the seal ---- */

/* The API says of a layer that is not there: "no (kernel ..)"; of ids: "same as vmm". */
static uint32_t layers_of(const json_t *seal)
{
	uint32_t layers = 0;

	for (uint32_t i = 0; i < SEAL_LAYER_COUNT; i++) {
		const char *text = text_of(seal, i == SEAL_LAYER_IDS ? "uid" : layer_names[i]);

		if (text[0] != '\0' && strncmp(text, "no ", 3) != 0 &&
		    strcmp(text, "same as vmm") != 0)
			layers |= 1u << i;
	}
	return layers;
}

static bool is_default(const json_t *device, uint32_t layers)
{
	const uint32_t all = (1u << SEAL_LAYER_COUNT) - 1;
	struct seal_host host;

	seal_host_probe(&host);
	if (layers != (all & ~seal_host_lacks(&host, all, false))) {
		fputs("bench-vhost: the seal is not all that this kernel can do\n", stderr);
		return false;
	}
	if (strcmp(text_of(device, "programs"), "release") != 0) {
		fputs("bench-vhost: the device programs are not a release build's\n", stderr);
		return false;
	}
	return bench_wears_seal((pid_t)json_integer_value(json_object_get(device, "pid")));
}

int sealed_look(struct sealed *sealed, const struct server *server)
{
	json_t *device = ask(server, "GET", "/devices/bench");
	uint32_t layers;
	bool good;

	if (device == NULL)
		return -EPROTO;
	layers = layers_of(json_object_get(device, "seal"));
	good = is_default(device, layers);
	json_decref(device);
	sealed->layers = sealed->looks == 0 ? layers : sealed->layers & layers;
	sealed->looks++;
	return good ? 0 : -EPERM;
}

/* ---- replacements ---- */

static int count_recoveries(struct sealed *sealed, const struct server *server)
{
	json_t *device = ask(server, "GET", "/devices/bench");
	const json_t *counts = json_object_get(device, "replacements");
	const int ret = json_is_object(counts) ? 0 : -EPROTO;

	for (int i = 0; i < REPLACE_REASON_COUNT; i++) {
		const enum replace_reason reason = (enum replace_reason)i;
		const json_t *count = json_object_get(counts, replace_reason_name(reason));

		if (!replace_reason_planned(reason))
			sealed->recoveries += (uint64_t)json_integer_value(count);
	}
	json_decref(device);
	return ret;
}

static int fence_of(const char *name, enum fence *fence)
{
	for (int i = 0; i < FENCE_COUNT; i++) {
		*fence = (enum fence)i;
		if (strcmp(name, fence_name(*fence)) == 0)
			return 0;
	}
	return -EPROTO;
}

int sealed_replace(struct sealed *sealed, const struct server *server)
{
	struct replacement r = { .planned = true };
	int ret = count_recoveries(sealed, server);
	json_t *answer = ret == 0 ? ask(server, "POST", "/devices/bench/replace") : NULL;

	if (answer == NULL)
		return -EPROTO;
	ret = fence_of(text_of(answer, "fence"), &r.fence);
	r.drain_us = (uint32_t)json_integer_value(json_object_get(answer, "drain_us"));
	json_decref(answer);
	if (ret == 0)
		bench_note_fence(&sealed->fences, &r);
	return ret;
}

/* ---- the report ---- */

bool sealed_report(struct report *report, const struct sealed *sealed)
{
	const char *names[SEAL_LAYER_COUNT];
	size_t count = 0;
	uint64_t parked = sealed->fences.counts[FENCE_PARKED];
	bool good;

	for (uint32_t i = 0; i < SEAL_LAYER_COUNT; i++) {
		if (sealed->layers & 1u << i)
			names[count++] = layer_names[i];
	}
	report_seal(report, names, count);
	report_u64(report, "recoveries", sealed->recoveries);
	good = bench_report_fences(report, &sealed->fences);
	if (sealed->recoveries != 0)
		fputs("bench-vhost: a device process had to be replaced\n", stderr);
	return good && sealed->recoveries == 0 && sealed->looks != 0 &&
	       parked + sealed->fences.late != 0;
}
