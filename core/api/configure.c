/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be started, over HTTP.  A change is made to a copy and kept when all of it was taken;
 * once the VM was started nothing can be changed any more (409).
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/cc.h"
#include "core/config.h"
#include "core/log.h"

struct change {
	struct api_call *call;
	int (*apply)(struct run_options *options, const char *section, const char *id,
		     const json_t *object, struct option_error *error);
	/* What a change does at once, with the new options; or NULL. */
	int (*effect)(struct api_call *call, const struct run_options *options,
		      struct option_error *error);
	struct option_error error;
};

/* Under the VM's lock. */
static int change_options(struct run_options *options, void *arg)
{
	struct change *change = arg;
	const struct api_call *call = change->call;
	cleanup_free struct run_options *copy = malloc(sizeof(*copy));
	int ret;

	if (copy == NULL)
		return -ENOMEM;
	*copy = *options;
	ret = change->apply(copy, call->route->section, call->id, call->body, &change->error);
	if (ret == 0 && change->effect != NULL)
		ret = change->effect(change->call, copy, &change->error);
	if (ret == 0)
		*options = *copy;
	return ret;
}

static void configure(struct api_call *call, struct change *change)
{
	int ret;

	change->call = call;
	ret = station_configure(call->station, change_options, change);
	if (ret == 0)
		api_done(call);
	else
		api_fault(call, api_status_of(ret), "%s",
			  ret == -EBUSY    ? "the VM was started: its configuration is fixed"
			  : ret == -ENOMEM ? "out of memory"
					   : change->error.text);
}

void api_put_section(struct api_call *call)
{
	struct change put = { .apply = config_put };

	configure(call, &put);
}

void api_patch_section(struct api_call *call)
{
	struct change patch = { .apply = config_patch };

	configure(call, &patch);
}

/* ---- drives of a back-end ---- */

/* What can change while a drive is served: where its bytes are.  The id says which it is. */
static bool can_change(const char *key)
{
	return strcmp(key, "drive_id") == 0 || strcmp(key, "path_on_host") == 0;
}

static int patch_check(const json_t *body, struct option_error *error)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)body, key, value)
	{
		if (!json_is_null(value) && !can_change(key))
			return option_fail(
				error, "%.64s: cannot be changed while the drive is served", key);
	}
	return 0;
}

static int patch_served(struct api_call *call, struct run_options *copy, struct option_error *error)
{
	int ret;

	station_options(call->station, copy);
	ret = config_patch(copy, call->route->section, call->id, call->body, error);
	if (ret == 0)
		ret = patch_check(call->body, error);
	return ret == 0 ? station_patch_drive(call->station, run_disk(copy, call->id), error) : ret;
}

/* On the loop's thread, as all that changes what is served. */
static void patch_drive(struct api_call *call)
{
	cleanup_free struct run_options *copy = malloc(sizeof(*copy));
	struct option_error error = { "out of memory" };
	const int ret = copy != NULL ? patch_served(call, copy, &error) : -ENOMEM;

	if (ret == 0)
		api_done(call);
	else
		api_fault(call, api_status_of(ret), "%s", error.text);
}

void api_patch_drive(struct api_call *call)
{
	if (call->vmm != NULL)
		api_patch_section(call);
	else
		api_on_main(call, patch_drive);
}

/* ---- the log ---- */

/* Once, as in Firecracker: the descriptor of a log that threads write to cannot be closed. */
static int open_log(struct api_call *call, const struct run_options *options,
		    struct option_error *error)
{
	const bool named = json_is_string(json_object_get(call->body, "log_path"));

	if (named && call->state->log >= 0)
		return option_fail(error, "log_path: was set before");
	if (named) {
		const int fd = log_open_file(options->log_file);

		if (fd < 0)
			return option_fail(error, "log_path: cannot open %.160s: %s",
					   options->log_file, strerror(-fd));
		call->state->log = fd;
		log_open(fd, (enum log_level)options->log_level);
	} else {
		log_set_level((enum log_level)options->log_level);
	}
	log_show(options->log_show_level, options->log_show_origin);
	return 0;
}

static void put_logger(struct api_call *call)
{
	struct change put = { .apply = config_patch, .effect = open_log };

	configure(call, &put);
}

void api_put_logger(struct api_call *call)
{
	api_on_main(call, put_logger);
}

/* ---- reading ---- */

void api_get_section(struct api_call *call)
{
	cleanup_free struct run_options *options = malloc(sizeof(*options));
	json_t *section = NULL;

	if (options != NULL) {
		station_options(call->station, options);
		section = config_section(options, call->route->section, call->id);
	}
	if (options != NULL && section == NULL)
		api_fault(call, MHD_HTTP_NOT_FOUND, "%.64s: no drive of that id", call->id);
	else
		api_answer(call, section);
}

void api_get_config(struct api_call *call)
{
	cleanup_free struct run_options *options = malloc(sizeof(*options));

	if (options == NULL) {
		api_answer(call, NULL);
		return;
	}
	station_options(call->station, options);
	api_answer(call, config_all(options, call->vmm == NULL));
}
