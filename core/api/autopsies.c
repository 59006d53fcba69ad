/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of generations that had to be fenced (core/box/autopsy.h). */
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/box/autopsy.h"
#include "core/cc.h"

static json_t *entry_json(const struct autopsy_entry *entry)
{
	char written[AUTOPSY_TIME_BYTES];

	autopsy_time(entry->wall_ns, written);
	return json_pack("{s:I, s:s, s:I}", "generation", (json_int_t)entry->generation, "written",
			 written, "bytes", (json_int_t)entry->bytes);
}

void api_get_autopsies(struct api_call *call)
{
	struct autopsy_entry entries[AUTOPSY_FILES_MAX];
	struct station_device device;
	json_t *list;
	uint32_t n;

	if (!api_find_device(call, &device))
		return;
	n = device_autopsies(device.dev, entries);
	list = json_array();
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, entry_json(&entries[i]));
	api_answer(call, list);
}

/* The file is ours, but lies where an operator can write. */
static void answer_document(struct api_call *call, const char *text, size_t bytes)
{
	json_t *document = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(document)) {
		api_answer(call, document);
		return;
	}
	json_decref(document);
	api_fault(call, MHD_HTTP_NOT_FOUND, "%s of %s: its file is damaged", call->n, call->id);
}

void api_get_autopsy(struct api_call *call)
{
	char text[AUTOPSY_BYTES_MAX];
	struct station_device device;
	char *end = NULL;
	int ret = -ENOENT;

	if (!api_find_device(call, &device))
		return;
	errno = 0;
	const unsigned long long n = strtoull(call->n, &end, 10);

	if (call->n[0] >= '0' && call->n[0] <= '9' && *end == '\0' && errno == 0)
		ret = device_autopsy(device.dev, n, text);
	if (ret >= 0)
		answer_document(call, text, (size_t)ret);
	else
		api_fault(call, MHD_HTTP_NOT_FOUND, "%.64s: no autopsy of that generation of %s",
			  call->n, device.id);
}
