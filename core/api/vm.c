/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as a whole: what it is, what it is to do. */
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/cc.h"

void api_get_root(struct api_call *call)
{
	cleanup_free struct run_options *options = malloc(sizeof(*options));

	if (options == NULL) {
		api_answer(call, NULL);
		return;
	}
	station_options(call->station, options);
	api_answer(call, json_pack("{s:s, s:s, s:s, s:s}", "id", options->id, "state",
				   station_state_name(station_state(call->station)), "vmm_version",
				   MAYFLY_VERSION, "app_name", "mayfly"));
}

/* The release whose API this one follows: what clients that look at it are written for. */
#define FIRECRACKER_VERSION "1.14.0"

void api_get_version(struct api_call *call)
{
	api_answer(call, json_pack("{s:s, s:s}", "firecracker_version", FIRECRACKER_VERSION,
				   "vmm_version", MAYFLY_VERSION));
}

/* 204, or what came of it in words. */
static void finish(struct api_call *call, int ret, const char *words)
{
	if (ret == 0)
		api_done(call);
	else
		api_fault(call, api_status_of(ret), "%s", words);
}

void api_patch_vm(struct api_call *call)
{
	const char *state = api_only_string(call, "state");

	if (state == NULL)
		return;
	if (strcmp(state, "Paused") == 0)
		finish(call, vmm_pause(call->vmm), "the VM does not run");
	else if (strcmp(state, "Resumed") == 0)
		finish(call, vmm_resume(call->vmm), "the VM does not run");
	else
		api_fault(call, MHD_HTTP_BAD_REQUEST, "state: '%.40s' is not Paused or Resumed",
			  state);
}

/* ---- actions ---- */

static void action_start(struct api_call *call)
{
	struct option_error error = { "" };

	finish(call, vmm_start(call->vmm, &error), error.text);
}

static void action_power_button(struct api_call *call)
{
	finish(call, vmm_power_button(call->vmm), "the VM does not run");
}

static int write_all(int fd, const char *text)
{
	for (size_t left = strlen(text); left > 0;) {
		const ssize_t n = write(fd, text, left);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			left -= (size_t)n;
		}
	}
	return 0;
}

/* Not blocking, since it may be a pipe that nobody reads. 0 or -errno. */
static int append(const char *path, const char *text)
{
	cleanup_fd int fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);

	return fd < 0 ? -errno : write_all(fd, text);
}

/* As Firecracker: to the file that PUT /metrics named, and nothing where there is none. */
static void action_flush_metrics(struct api_call *call)
{
	struct run_options *options = malloc(sizeof(*options));
	char *text = metrics_text(call->station, call->vmm);
	int ret = -ENOMEM;

	if (options != NULL && text != NULL) {
		station_options(call->station, options);
		ret = options->metrics_path[0] != '\0' ? append(options->metrics_path, text) : 0;
	}
	if (ret == 0)
		api_done(call);
	else if (options == NULL || text == NULL)
		api_answer(call, NULL);
	else
		api_fault(call, MHD_HTTP_BAD_REQUEST, "metrics_path: cannot write %.180s: %s",
			  options->metrics_path, strerror(-ret));
	free(text);
	free(options);
}

static const struct {
	const char *type;
	api_handler *act;
	bool opens; /* files */
} actions[] = {
	{ "InstanceStart", action_start, true },
	{ "SendCtrlAltDel", action_power_button, false },
	{ "FlushMetrics", action_flush_metrics, true },
};

void api_put_actions(struct api_call *call)
{
	const char *type = api_only_string(call, "action_type");

	if (type == NULL)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(actions[i].type, type) == 0) {
			if (actions[i].opens)
				api_on_main(call, actions[i].act);
			else
				actions[i].act(call);
			return;
		}
	}
	api_fault(call, MHD_HTTP_BAD_REQUEST,
		  "action_type: '%.40s' is not InstanceStart, SendCtrlAltDel or FlushMetrics",
		  type);
}
