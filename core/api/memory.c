/* SPDX-License-Identifier: Apache-2.0 */
/* GET /memory, POST /memory/dimms, DELETE /memory/dimms/{id}. */
#include "hotplug/memory.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/cc.h"
#include "core/config_fields.h"
#include "hotplug/reserve.h"

#define EJECT_MS 30000 /* a guest moves what lies there to other memory first */
#define IN_MIB(bytes) ((json_int_t)((bytes) >> 20))

struct order {
	char id[OPTION_ID_MAX + 1];
	uint64_t bytes;
	uint32_t pages; /* enum mem_pages */
	uint32_t node;  /* or RUN_NODE_ANY */
	uint32_t proximity;
	bool prealloc;
};

#define FIELD(key_, name)                                                                          \
	.key = #key_, .offset = offsetof(struct order, name),                                      \
	.room = sizeof(((struct order *)NULL)->name)

static const struct config_field fields[] = {
	{ FIELD(id, id), .type = &config_text, .parse = option_id, .required = true },
	{ FIELD(size_mib, bytes), .type = &config_mib, .min = 1, .max = RUN_MEMORY_MAX >> 20,
	  .required = true },
	{ FIELD(pages, pages), .type = &config_choice, .names = memory_pages_names },
	{ FIELD(node, node), .type = &config_number, .max = RUN_NODE_MAX },
	{ FIELD(proximity, proximity), .type = &config_number, .max = LAYOUT_NODES_MAX - 1 },
	{ FIELD(prealloc, prealloc), .type = &config_bool },
};

static const struct config_table table = { .fields = fields, .count = ARRAY_SIZE(fields) };

/* ---- GET ---- */

static json_t *proof_json(const struct revoke_proof *p)
{
	return json_pack("{s:b, s:I, s:i, s:i, s:i}", "write_seal", p->sealed, "blocks",
			 (json_int_t)p->blocks, "maps", p->maps, "fds", p->fds, "hidden_processes",
			 p->hidden);
}

static void add_times(json_t *object, const struct memory_change *c)
{
	json_t *times = json_pack("{s:i, s:I, s:I, s:I}", "epoch", c->epoch, "slot_us",
				  (json_int_t)c->slot_us, "prepare_us", (json_int_t)c->prepare_us,
				  "move_us", (json_int_t)c->move_us);

	json_object_update(object, times);
	json_decref(times);
}

static void add_mapping(json_t *list, const struct station_device *device, uint32_t since_epoch)
{
	cleanup_free struct device_status *s = malloc(sizeof(*s));

	if (s == NULL)
		return;
	device_status(device->dev, s);
	if (s->maps && s->pid != 0 && s->epoch >= since_epoch)
		json_array_append_new(list, json_pack("{s:s, s:I, s:i, s:i}", "device", device->id,
						      "generation", (json_int_t)s->generation,
						      "epoch", s->epoch, "pid", s->pid));
}

/* Those whose processes are of an epoch that has it: it is in the map of all of them. */
static json_t *mapped_by(const struct api_call *call, uint32_t since_epoch)
{
	struct station_device devices[STATION_DEVICES_MAX];
	const uint32_t n = station_devices(call->station, devices, STATION_DEVICES_MAX);
	json_t *list = json_array();

	CHECK(n <= STATION_DEVICES_MAX);
	for (uint32_t i = 0; i < n; i++)
		add_mapping(list, &devices[i], since_epoch);
	return list;
}

static const struct dimm_status *dimm_at(const struct dimm_status *dimms, uint32_t count,
					 uint64_t gpa)
{
	for (uint32_t i = 0; i < count; i++) {
		if (dimms[i].gpa == gpa)
			return &dimms[i];
	}
	return NULL;
}

static void add_dimm(json_t *object, const struct dimm_status *d)
{
	json_t *more =
		json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:b, s:i}", "id", d->spec.id, "kind",
			  "dimm", "state", dimm_state_name(d->state), "slot", d->slot,
			  "since_epoch", d->since_epoch, "proximity", d->spec.proximity, "refused",
			  d->refused, "guest_status", d->guest_status);

	json_object_update(object, more);
	json_decref(more);
}

static const struct reserve_status *reserve_at(const struct reserve_status *reserves,
					       uint32_t count, uint64_t gpa)
{
	for (uint32_t i = 0; i < count; i++) {
		if (reserves[i].gpa == gpa)
			return &reserves[i];
	}
	return NULL;
}

static void add_reserve(json_t *object, const struct reserve_status *r)
{
	json_t *more = json_pack("{s:s, s:s, s:i}", "id", r->spec.id, "kind", "virtio-mem",
				 "proximity", r->spec.node);

	json_object_update(object, more);
	json_decref(more);
}

/* Each, also where nothing of it is in the map. */
static json_t *reserves_json(struct memory *memory)
{
	struct reserve_status all[LAYOUT_NODES_MAX];
	const uint32_t n = reserve_statuses(memory, all);
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++) {
		const struct reserve_status *r = &all[i];
		json_t *object =
			json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id", r->spec.id,
				  "gpa", (json_int_t)r->gpa, "total_mib", IN_MIB(r->total_bytes),
				  "block_mib", IN_MIB(r->spec.block_bytes), "requested_mib",
				  IN_MIB(r->requested_bytes), "plugged_mib",
				  IN_MIB(r->plugged_bytes), "usable_mib", IN_MIB(r->usable_bytes),
				  "mapped_mib", IN_MIB(r->mapped_bytes));

		if (r->shrunk_epoch != 0)
			json_object_set_new(
				object, "last_shrunk",
				json_pack("{s:i, s:I, s:i, s:i}", "epoch", r->shrunk_epoch,
					  "blocks", (json_int_t)r->proof.blocks, "maps",
					  r->proof.maps, "hidden_processes", r->proof.hidden));
		json_array_append_new(list, object);
	}
	return list;
}

static json_t *regions_json(const struct api_call *call, struct memory *memory)
{
	struct memory_region regions[MEM_REGIONS_MAX];
	struct dimm_status dimms[MEMORY_DIMMS_MAX];
	struct reserve_status reserves[LAYOUT_NODES_MAX];
	const uint32_t dimm_count = memory_dimms(memory, dimms);
	const uint32_t reserve_count = reserve_statuses(memory, reserves);
	const uint32_t n = memory_regions(memory, regions);
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++) {
		const struct memory_region *r = &regions[i];
		const struct dimm_status *d = dimm_at(dimms, dimm_count, r->gpa);
		const struct reserve_status *v = reserve_at(reserves, reserve_count, r->gpa);
		json_t *object =
			json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "id", "boot", "kind",
				  "boot", "gpa", (json_int_t)r->gpa, "size_mib", IN_MIB(r->bytes),
				  "page_kib", (json_int_t)(r->page_bytes >> 10), "resident_mib",
				  IN_MIB(r->resident_bytes), "mapped_by",
				  mapped_by(call, d != NULL ? d->since_epoch : 0));

		if (d != NULL)
			add_dimm(object, d);
		else if (v != NULL)
			add_reserve(object, v);
		json_array_append_new(list, object);
	}
	return list;
}

static json_t *memory_json(const struct api_call *call, struct memory *memory)
{
	const struct memory_site *site = memory_site(memory);
	struct memory_removal removal;
	json_t *object =
		json_pack("{s:i, s:I, s:I, s:i, s:I, s:o, s:o}", "epoch", memory_epoch(memory),
			  "boot_mib", IN_MIB(site->boot_bytes), "max_mib", IN_MIB(site->max_bytes),
			  "slots", site->slots, "block_mib", IN_MIB(site->window.block_bytes),
			  "regions", regions_json(call, memory), "reserves", reserves_json(memory));

	memory_last_removal(memory, &removal);
	if (object != NULL && removal.id[0] != '\0')
		json_object_set_new(object, "last_removed",
				    json_pack("{s:s, s:i, s:o}", "id", removal.id, "epoch",
					      removal.change.epoch, "proof",
					      proof_json(&removal.change.proof)));
	return object;
}

/* As it is configured: there are no regions yet. */
static json_t *config_json(const struct api_call *call)
{
	cleanup_free struct run_options *o = malloc(sizeof(*o));

	if (o == NULL)
		return NULL;
	station_options(call->station, o);
	return json_pack("{s:i, s:I, s:I, s:i, s:i, s:[], s:[]}", "epoch", 0, "boot_mib",
			 IN_MIB(o->memory.bytes), "max_mib",
			 IN_MIB(o->memory.max_bytes != 0 ? o->memory.max_bytes : o->memory.bytes),
			 "slots", o->memory.slots, "block_mib", 0, "regions", "reserves");
}

void api_get_memory(struct api_call *call)
{
	struct memory *memory = vmm_memory(call->vmm);

	api_answer(call, memory != NULL ? memory_json(call, memory) : config_json(call));
}

/* ---- changes ---- */

/* The guest that refuses, or is silent, is against it: as the moment. */
static unsigned int status_of(int ret)
{
	return ret == -EPERM || ret == -ETIMEDOUT ? MHD_HTTP_CONFLICT : api_status_of(ret);
}

/* Devices and memory share one name space (API). */
static bool id_is_taken(struct api_call *call, const char *id)
{
	struct station_device device;
	const bool taken = strcmp(id, "boot") == 0 || station_find(call->station, id, &device) == 0;

	if (taken)
		api_fault(call, MHD_HTTP_BAD_REQUEST, "id: %s is there already", id);
	return taken;
}

static void answer_added(struct api_call *call, const struct dimm_spec *spec,
			 const struct memory_change *change)
{
	json_t *object =
		json_pack("{s:s, s:I, s:I}", "id", spec->id, "size_mib", IN_MIB(spec->bytes),
			  "allocate_us", (json_int_t)change->allocate_us);

	add_times(object, change);
	api_answer(call, object);
}

void api_post_dimm(struct api_call *call)
{
	struct memory *memory = vmm_memory(call->vmm);
	const struct order defaults = { .pages = memory != NULL ? memory_site(memory)->pages : 0,
					.node = RUN_NODE_ANY };
	struct order order = defaults;
	struct memory_change change;
	struct option_error error;
	int ret;

	if (config_take(&table, call->body, &order, &defaults, &error) != 0) {
		api_fault(call, MHD_HTTP_BAD_REQUEST, "%s", error.text);
		return;
	}
	if (memory == NULL) {
		api_fault(call, MHD_HTTP_CONFLICT, "the VM was not started");
		return;
	}
	if (id_is_taken(call, order.id))
		return;
	struct dimm_spec spec = { .bytes = order.bytes,
				  .proximity = order.proximity,
				  .node = order.node == RUN_NODE_ANY ? -1 : (int)order.node,
				  .pages = (enum mem_pages)order.pages,
				  .prealloc = order.prealloc };

	memcpy(spec.id, order.id, sizeof(spec.id));
	ret = memory_add_dimm(memory, &spec, &change, &error);
	if (ret != 0)
		api_fault(call, status_of(ret), "%s", error.text);
	else
		answer_added(call, &spec, &change);
}

void api_delete_dimm(struct api_call *call)
{
	struct memory *memory = vmm_memory(call->vmm);
	struct memory_change change;
	struct option_error error;
	int ret;

	if (memory == NULL) {
		api_fault(call, MHD_HTTP_NOT_FOUND,
			  "%.64s: no such memory device (the VM was not started)", call->id);
		return;
	}
	if (strcmp(call->id, "boot") == 0) {
		api_fault(call, MHD_HTTP_BAD_REQUEST,
			  "boot: what the VM booted with cannot be removed");
		return;
	}
	ret = memory_remove_dimm(memory, call->id, EJECT_MS, &change, &error);
	if (ret != 0) {
		api_fault(call, status_of(ret), "%s", error.text);
		return;
	}
	json_t *object = json_pack("{s:s, s:I, s:o}", "id", call->id, "gone_us",
				   (json_int_t)change.gone_us, "proof", proof_json(&change.proof));

	add_times(object, &change);
	api_answer(call, object);
}
