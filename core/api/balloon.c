/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon, as Firecracker has it: its size at any time, what it and the guest's driver say. */
#include <errno.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/api/internal.h"
#include "core/cc.h"
#include "core/config.h"
#include "core/config_fields.h"
#include "devmodel/abi/message.h"

#define PAGES_PER_MIB ((1u << 20) / RELEASE_PAGE)

struct change {
	uint64_t bytes;
	uint32_t seconds;
};

static const struct config_field resize_fields[] = {
	{ .key = "amount_mib",
	  .type = &config_mib,
	  .required = true,
	  .offset = offsetof(struct change, bytes),
	  .room = sizeof(uint64_t),
	  .max = RUN_BALLOON_MAX >> 20 },
};
static const struct config_table resize_table = { resize_fields, ARRAY_SIZE(resize_fields), NULL };

static const struct config_field poll_fields[] = {
	{ .key = "stats_polling_interval_s",
	  .type = &config_number,
	  .required = true,
	  .offset = offsetof(struct change, seconds),
	  .room = sizeof(uint32_t),
	  .max = RUN_STATS_MAX },
};
static const struct config_table poll_table = { poll_fields, ARRAY_SIZE(poll_fields), NULL };

static void finish(struct api_call *call, int ret, const struct option_error *error)
{
	if (ret == 0)
		api_done(call);
	else
		api_fault(call, api_status_of(ret), "%s", error->text);
}

void api_patch_balloon(struct api_call *call)
{
	struct option_error error = { "" };
	struct change change = { 0 };
	int ret = config_take(&resize_table, call->body, &change, &change, &error);

	if (ret == 0)
		ret = vmm_balloon_resize(call->vmm, change.bytes, &error);
	finish(call, ret, &error);
}

/* On the loop's thread, which has the timer. */
static void patch_statistics(struct api_call *call)
{
	struct option_error error = { "" };
	struct change change = { 0 };
	int ret = config_take(&poll_table, call->body, &change, &change, &error);

	if (ret == 0)
		ret = vmm_balloon_poll(call->vmm, change.seconds, &error);
	finish(call, ret, &error);
}

void api_patch_balloon_statistics(struct api_call *call)
{
	api_on_main(call, patch_statistics);
}

void api_get_balloon(struct api_call *call)
{
	cleanup_free struct run_options *options = malloc(sizeof(*options));

	if (options == NULL) {
		api_answer(call, NULL);
		return;
	}
	station_options(call->station, options);
	if (run_has_balloon(options))
		api_answer(call, config_section(options, "balloon", ""));
	else
		api_fault(call, MHD_HTTP_NOT_FOUND, "balloon: the VM has none");
}

static void answer_statistics(struct api_call *call, const struct vmm_balloon_info *info)
{
	json_t *answer =
		json_pack("{s:I, s:I, s:I, s:I}", "target_pages", (json_int_t)info->target_pages,
			  "actual_pages", (json_int_t)info->actual_pages, "target_mib",
			  (json_int_t)(info->target_pages / PAGES_PER_MIB), "actual_mib",
			  (json_int_t)(info->actual_pages / PAGES_PER_MIB));

	for (uint32_t tag = 0; tag < BALLOON_STAT_COUNT; tag++) {
		if (info->figures.known >> tag & 1)
			json_object_set_new(answer, balloon_stat_name(tag),
					    json_integer((json_int_t)info->figures.number[tag]));
	}
	api_answer(call, answer);
}

void api_get_balloon_statistics(struct api_call *call)
{
	struct vmm_balloon_info info;
	const int ret = vmm_balloon(call->vmm, &info);

	if (ret == -ENOENT)
		api_fault(call, MHD_HTTP_NOT_FOUND, "balloon: the VM has none");
	else if (ret != 0)
		api_fault(call, api_status_of(ret), "balloon: the VM was not started");
	else if (!info.stats)
		api_fault(call, MHD_HTTP_BAD_REQUEST,
			  "stats_polling_interval_s: is 0: there are no statistics");
	else
		answer_statistics(call, &info);
}
