/* SPDX-License-Identifier: Apache-2.0 */
/* POST /devices/{id}/faults. */
#include "core/box/fault.h"

#include <errno.h>
#include <microhttpd.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/cc.h"
#include "core/config_fields.h"

static const char *const fault_names[] = {
#define FAULT_NAME(NAME, number, name, inside, text) [number] = name,
	FAULTS(FAULT_NAME)
#undef FAULT_NAME
		NULL,
};

#define FIELD(name)                                                                                \
	.key = #name, .offset = offsetof(struct fault_order, name),                                \
	.room = sizeof(((struct fault_order *)NULL)->name)

static const struct config_field fields[] = {
	{ FIELD(fault), .type = &config_choice, .names = fault_names, .required = true },
	{ FIELD(lane), .type = &config_number, .max = DEVICE_LANES_MAX - 1 },
	{ FIELD(queue), .type = &config_number, .max = BOX_QUEUES_MAX - 1 },
	{ FIELD(after), .type = &config_number, .max = INT16_MAX },
};

static const struct config_table table = { .fields = fields, .count = ARRAY_SIZE(fields) };

static void answer_failure(struct api_call *call, const struct fault_order *order, int ret)
{
	const char *id = call->id, *name = fault_names[order->fault];

	switch (ret) {
	case -EPERM:
		api_fault(call, MHD_HTTP_FORBIDDEN,
			  "no faults: mayfly was not started with --allow-faults");
		break;
	case -ENOTSUP:
		api_fault(call, MHD_HTTP_CONFLICT,
			  "fault: %s is for programs that do it themselves: start it with "
			  "--faulty-programs",
			  name);
		break;
	case -EINVAL:
		api_fault(call, MHD_HTTP_BAD_REQUEST,
			  "fault: %.64s has no such lane or queue, or %s is not for devices of its "
			  "kind",
			  id, name);
		break;
	case -EBUSY:
		api_fault(call, MHD_HTTP_CONFLICT, "%.64s: no generation of it is active", id);
		break;
	default:
		api_fault(call, MHD_HTTP_CONFLICT, "%.64s: %s could not be made: %s", id, name,
			  strerror(-ret));
	}
}

void api_inject_fault(struct api_call *call)
{
	const struct fault_order defaults = { 0 };
	struct fault_order order = defaults;
	struct station_device device;
	struct option_error error;
	uint64_t generation = 0;
	int ret;

	if (!station_faults_allowed(call->station)) {
		answer_failure(call, &order, -EPERM);
		return;
	}
	if (!api_find_device(call, &device))
		return;
	if (config_take(&table, call->body, &order, &defaults, &error) != 0) {
		api_fault(call, MHD_HTTP_BAD_REQUEST, "%s", error.text);
		return;
	}
	ret = device_fault(device.dev, &order, &generation);
	if (ret != 0)
		answer_failure(call, &order, ret);
	else
		api_answer(call, json_pack("{s:s, s:s, s:I}", "id", device.id, "fault",
					   fault_names[order.fault], "generation",
					   (json_int_t)generation));
}
