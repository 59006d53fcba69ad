/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of routes, and how a request finds its line: by the path first, so that a path that is
 * there answers 405 to a method that is not.
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/cc.h"

/* clang-format off */
const struct api_route api_routes[] = {
	{ "GET",   "/",                     API_BODY_NONE,   API_BOTH, api_get_root, NULL },
	{ "GET",   "/version",              API_BODY_NONE,   API_BOTH, api_get_version, NULL },
	{ "GET",   "/vm/config",            API_BODY_NONE,   API_BOTH, api_get_config, NULL },
	{ "PATCH", "/vm",                   API_BODY_OBJECT, API_VM, api_patch_vm, NULL },
	{ "PUT",   "/actions",              API_BODY_OBJECT, API_VM, api_put_actions, NULL },
	{ "PUT",   "/boot-source",          API_BODY_OBJECT, API_VM, api_put_section, "boot-source" },
	{ "PUT",   "/machine-config",       API_BODY_OBJECT, API_VM, api_put_section, "machine-config" },
	{ "PATCH", "/machine-config",       API_BODY_OBJECT, API_VM, api_patch_section, "machine-config" },
	{ "GET",   "/machine-config",       API_BODY_NONE,   API_VM, api_get_section, "machine-config" },
	{ "PUT",   "/drives/{id}",          API_BODY_OBJECT, API_VM, api_put_section, "drives" },
	{ "PATCH", "/drives/{id}",          API_BODY_OBJECT, API_BOTH, api_patch_drive, "drives" },
	{ "GET",   "/drives/{id}",          API_BODY_NONE,   API_BOTH, api_get_section, "drives" },
	{ "PUT",   "/entropy",              API_BODY_OBJECT, API_VM, api_put_section, "entropy" },
	{ "PUT",   "/balloon",              API_BODY_OBJECT, API_VM, api_put_section, "balloon" },
	{ "PATCH", "/balloon",              API_BODY_OBJECT, API_VM, api_patch_balloon, NULL },
	{ "GET",   "/balloon",              API_BODY_NONE,   API_VM, api_get_balloon, NULL },
	{ "GET",   "/balloon/statistics",   API_BODY_NONE,   API_VM, api_get_balloon_statistics, NULL },
	{ "PATCH", "/balloon/statistics",   API_BODY_OBJECT, API_VM, api_patch_balloon_statistics, NULL },
	{ "PUT",   "/serial",               API_BODY_OBJECT, API_VM, api_put_section, "serial" },
	{ "PUT",   "/logger",               API_BODY_OBJECT, API_VM, api_put_logger, "logger" },
	{ "PUT",   "/metrics",              API_BODY_OBJECT, API_VM, api_put_section, "metrics" },
	{ "GET",   "/metrics",              API_BODY_NONE,   API_BOTH, api_get_metrics, NULL },
	{ "GET",   "/devices",              API_BODY_NONE,   API_BOTH, api_get_devices, NULL },
	{ "GET",   "/devices/{id}",         API_BODY_NONE,   API_BOTH, api_get_device, NULL },
	{ "POST",  "/devices/{id}/replace", API_BODY_NONE,   API_BOTH, api_replace_device, NULL },
	{ "POST",  "/devices/{id}/revive",  API_BODY_NONE,   API_BOTH, api_revive_device, NULL },
	{ "POST",  "/devices/{id}/faults",  API_BODY_OBJECT, API_BOTH, api_inject_fault, NULL },
	{ "GET",   "/devices/{id}/autopsies", API_BODY_NONE,   API_BOTH, api_get_autopsies, NULL },
	{ "GET",   "/devices/{id}/autopsies/{n}", API_BODY_NONE,   API_BOTH, api_get_autopsy, NULL },
	{ "GET",   "/memory",               API_BODY_NONE,   API_VM, api_get_memory, NULL },
	{ "POST",  "/memory/dimms",         API_BODY_OBJECT, API_VM, api_post_dimm, NULL },
	{ "DELETE", "/memory/dimms/{id}",   API_BODY_NONE,   API_VM, api_delete_dimm, NULL },
	{ "PUT",   "/hotplug/memory",       API_BODY_OBJECT, API_VM, api_put_section, "memory-hotplug" },
	{ "PATCH", "/hotplug/memory",       API_BODY_OBJECT, API_VM, api_patch_hotplug, NULL },
	{ "GET",   "/hotplug/memory",       API_BODY_NONE,   API_VM, api_get_hotplug, NULL },
	{ "PATCH", "/hotplug/memory/{id}",  API_BODY_OBJECT, API_VM, api_patch_hotplug, NULL },
	{ "GET",   "/hotplug/memory/{id}",  API_BODY_NONE,   API_VM, api_get_hotplug, NULL },
	{ "GET",   "/events",               API_BODY_NONE,   API_BOTH, api_get_events, NULL },
};
/* clang-format on */
const size_t api_route_count = ARRAY_SIZE(api_routes);

/* ---- answers ---- */

void api_done(struct api_call *call)
{
	call->status = MHD_HTTP_NO_CONTENT;
}

static void answer_json(struct api_call *call, unsigned int status, json_t *value)
{
	call->status = status;
	call->type = "application/json";
	call->text =
		value != NULL ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	if (call->text == NULL)
		call->status = MHD_HTTP_INTERNAL_SERVER_ERROR; /* out of memory */
	json_decref(value);
}

void api_answer(struct api_call *call, json_t *object)
{
	answer_json(call, MHD_HTTP_OK, object);
}

void api_fault(struct api_call *call, unsigned int status, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Text of the client's that was cut in the middle of a letter is no UTF-8 any more. */
	json_t *message = json_string(text);

	if (message == NULL) {
		for (char *p = text; *p != '\0'; p++) {
			if (*p < 0)
				*p = '?';
		}
		message = json_string(text);
	}
	answer_json(call, status, json_pack("{s:o}", "fault_message", message));
}

struct main_call {
	struct api_call *call;
	api_handler *handler;
};

static void run_handler(void *arg)
{
	const struct main_call *c = arg;

	c->handler(c->call);
}

void api_on_main(struct api_call *call, api_handler *handler)
{
	struct main_call c = { call, handler };

	if (station_on_main(call->station, run_handler, &c) != 0)
		api_fault(call, MHD_HTTP_CONFLICT, "%s is ending",
			  call->vmm != NULL ? "the VM" : "the back-end");
}

unsigned int api_status_of(int ret)
{
	if (ret == -EBUSY || ret == -ECANCELED)
		return MHD_HTTP_CONFLICT;
	return ret == -ENOENT ? MHD_HTTP_NOT_FOUND : MHD_HTTP_BAD_REQUEST;
}

const char *api_only_string(struct api_call *call, const char *key)
{
	const json_t *value = json_object_get(call->body, key);
	const char *name;
	json_t *other;

	json_object_foreach(call->body, name, other)
	{
		if (strcmp(name, key) != 0) {
			api_fault(call, MHD_HTTP_BAD_REQUEST, "%.64s: unknown key", name);
			return NULL;
		}
	}
	if (!json_is_string(value))
		api_fault(call, MHD_HTTP_BAD_REQUEST, "%s: %s", key,
			  value == NULL ? "must be given" : "is not a string");
	return json_string_value(value);
}

/* ---- finding the line ---- */

/* Whether path is like pattern; what stands for {id} and {n} is copied. */
static bool path_matches(const char *pattern, const char *path, struct api_call *call)
{
	while (*pattern != '\0') {
		const size_t n = strcspn(path, "/");
		char *hole = pattern[1] == 'i' ? call->id : call->n;

		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		if (n == 0 || n > OPTION_ID_MAX)
			return false;
		memcpy(hole, path, n);
		hole[n] = '\0';
		path += n;
		pattern = strchr(pattern, '}') + 1;
	}
	return *path == '\0';
}

/* Paths of Firecracker's that are not here: told apart from those that nobody knows. */
static bool path_unsupported(const char *path)
{
	static const char *const parts[] = {
		"network-interfaces", "vsock", "balloon", "mmds", "cpu-config", "snapshot", "pmem",
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		const size_t n = strlen(parts[i]);

		if (strncmp(path + 1, parts[i], n) == 0 &&
		    (path[n + 1] == '/' || path[n + 1] == '\0'))
			return true;
	}
	return false;
}

static bool route_is_ours(struct api_call *call, const struct api_route *route, const char *path)
{
	const bool ours = call->vmm != NULL || route->whose == API_BOTH;

	if (!ours)
		api_fault(call, MHD_HTTP_BAD_REQUEST,
			  "%s %.100s: this is a vhost-user back-end, which has no such thing",
			  route->method, path);
	return ours;
}

static const struct api_route *find_route(struct api_call *call, const char *method,
					  const char *path)
{
	size_t n = 0;

	for (size_t i = 0; i < api_route_count; i++) {
		const struct api_route *route = &api_routes[i];

		if (!path_matches(route->path, path, call))
			continue;
		if (strcmp(route->method, method) == 0) {
			call->allow[0] = '\0';
			return route_is_ours(call, route, path) ? route : NULL;
		}
		n += (size_t)snprintf(call->allow + n, sizeof(call->allow) - n, "%s%s",
				      n != 0 ? ", " : "", route->method);
	}
	if (n != 0)
		api_fault(call, MHD_HTTP_METHOD_NOT_ALLOWED, "%.16s: not a method of %.100s",
			  method, path);
	else if (path_unsupported(path))
		api_fault(call, MHD_HTTP_BAD_REQUEST, "%.100s: not supported", path + 1);
	else
		api_fault(call, MHD_HTTP_NOT_FOUND, "%.100s: unknown path", path);
	return NULL;
}

/* false: it was answered with what is wrong. */
static bool take_body(struct api_call *call, const char *data, size_t bytes)
{
	json_error_t error;

	if (bytes == 0 && call->route->body == API_BODY_NONE)
		return true;
	call->body = json_loadb(data, bytes, JSON_REJECT_DUPLICATES, &error);
	if (call->body == NULL)
		api_fault(call, MHD_HTTP_BAD_REQUEST, "the body is not JSON: line %d: %.120s",
			  error.line, error.text);
	else if (!json_is_object(call->body))
		api_fault(call, MHD_HTTP_BAD_REQUEST, "the body is not an object");
	else if (call->route->body == API_BODY_NONE && json_object_size(call->body) != 0)
		api_fault(call, MHD_HTTP_BAD_REQUEST, "%.64s: unknown key",
			  json_object_iter_key(json_object_iter(call->body)));
	return call->status == 0;
}

void api_dispatch(struct api_call *call, const char *method, const char *path, const char *data,
		  size_t bytes)
{
	call->route = find_route(call, method, path);
	if (call->route == NULL)
		return;
	if (take_body(call, data, bytes))
		call->route->handler(call);
	json_decref(call->body);
	call->body = NULL;
}
