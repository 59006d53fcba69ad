/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the guest takes and gives back by itself, as Firecracker has it: how much it is to have, and
 * has.  Firecracker knows one such device, which is mem0 here; others are found by their id.
 */
#include <errno.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/cc.h"
#include "core/config_fields.h"
#include "hotplug/memory.h"
#include "hotplug/reserve.h"

#define IN_MIB(bytes) ((json_int_t)((bytes) >> 20))

struct change {
	uint64_t bytes;
};

static const struct config_field fields[] = {
	{ .key = "requested_size_mib",
	  .type = &config_mib,
	  .required = true,
	  .offset = offsetof(struct change, bytes),
	  .room = sizeof(uint64_t),
	  .max = RUN_HOTPLUG_MAX >> 20 },
};
static const struct config_table table = { fields, ARRAY_SIZE(fields), NULL };

static const char *id_of(const struct api_call *call)
{
	return call->id[0] != '\0' ? call->id : "mem0";
}

/* Before the start, as it is configured. */
static int find_configured(const struct api_call *call, struct reserve_status *status)
{
	cleanup_free struct run_options *o = malloc(sizeof(*o));

	if (o == NULL)
		return -ENOMEM;
	station_options(call->station, o);
	for (uint32_t i = 0; i < o->hotplug_count; i++) {
		const struct run_hotplug *h = &o->hotplug[i];
		char id[OPTION_ID_MAX + 1];

		run_hotplug_id(h->node, id);
		if (strcmp(id, id_of(call)) != 0)
			continue;
		*status = (struct reserve_status){
			.spec = { .block_bytes = h->block_bytes, .node = h->node },
			.total_bytes = h->total_bytes,
			.slot_bytes = h->slot_bytes,
		};
		return 0;
	}
	return -ENOENT;
}

static int find_running(const struct api_call *call, struct memory *memory, uint32_t *reserve,
			struct reserve_status *status)
{
	struct reserve_status all[LAYOUT_NODES_MAX];
	const uint32_t n = reserve_statuses(memory, all);

	for (*reserve = 0; *reserve < n; (*reserve)++) {
		*status = all[*reserve];
		if (strcmp(status->spec.id, id_of(call)) == 0)
			return 0;
	}
	return -ENOENT;
}

/* The device that the call is about, and its number where the VM was started; or it was answered that there is
 * none. */
static int find(struct api_call *call, uint32_t *reserve, struct reserve_status *status)
{
	struct memory *memory = vmm_memory(call->vmm);
	const int ret = memory != NULL ? find_running(call, memory, reserve, status)
				       : find_configured(call, status);

	if (ret != 0)
		api_fault(call, MHD_HTTP_NOT_FOUND, "%.64s: the VM has no such memory device",
			  id_of(call));
	return ret;
}

void api_get_hotplug(struct api_call *call)
{
	struct reserve_status s;
	uint32_t reserve;

	if (find(call, &reserve, &s) != 0)
		return;
	api_answer(call,
		   json_pack("{s:I, s:I, s:I, s:I, s:I, s:i}", "total_size_mib",
			     IN_MIB(s.total_bytes), "block_size_mib", IN_MIB(s.spec.block_bytes),
			     "slot_size_mib", IN_MIB(s.slot_bytes), "plugged_size_mib",
			     IN_MIB(s.plugged_bytes), "requested_size_mib",
			     IN_MIB(s.requested_bytes), "node", s.spec.node));
}

/* Waits for an epoch where the guest is to have more; the guest itself is not waited for. */
void api_patch_hotplug(struct api_call *call)
{
	struct memory *memory = vmm_memory(call->vmm);
	struct option_error error = { "" };
	struct memory_change figures;
	struct change change = { 0 };
	struct reserve_status status;
	uint32_t reserve = 0;
	int ret;

	if (find(call, &reserve, &status) != 0)
		return;
	ret = config_take(&table, call->body, &change, &change, &error);
	if (ret == 0 && memory == NULL) {
		api_fault(call, MHD_HTTP_CONFLICT, "the VM was not started");
		return;
	}
	if (ret == 0)
		ret = reserve_request(memory, reserve, change.bytes, &figures, &error);
	if (ret != 0)
		api_fault(call, api_status_of(ret), "%s", error.text);
	else
		api_done(call);
}
