/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of the configuration: Firecracker's, then our own. */
#include <errno.h>
#include <string.h>

#include "core/cc.h"
#include "core/config_fields.h"
#include "core/options.h"

#define FIELD(struct_, field_)                                                                     \
	.offset = offsetof(struct_, field_), .room = sizeof(((struct_ *)0)->field_)
#define TEXT(struct_, field_) .type = &config_text, FIELD(struct_, field_), .parse = option_text
#define TABLE(fields_, check_)                                                                     \
	{                                                                                          \
		(fields_), ARRAY_SIZE(fields_), (check_)                                           \
	}
#define REFUSED(key_)                                                                              \
	{                                                                                          \
		.key = (key_), .type = &config_refused                                             \
	}
#define RUN(field_) FIELD(struct run_options, field_)

/* ---- sections of Firecracker's ---- */

static const struct config_field boot_fields[] = {
	{ .key = "kernel_image_path",
	  .required = true,
	  TEXT(struct run_options, kernel),
	  .min = 1 },
	{ .key = "initrd_path", TEXT(struct run_options, initrd), .min = 1 },
	{ .key = "boot_args", .type = &config_text, RUN(cmdline), .parse = config_boot_args },
};

/* In the order of enum memory_pages; what comes after these only mayfly.memory.pages can say. */
static const char *const huge_pages[] = { "None", "Transparent", "2M", NULL };

static const struct config_field machine_fields[] = {
	{ .key = "vcpu_count",
	  .type = &config_number,
	  .required = true,
	  RUN(cpus),
	  .min = 1,
	  .max = RUN_CPUS_MAX },
	{ .key = "mem_size_mib",
	  .type = &config_mib,
	  .required = true,
	  RUN(memory.bytes),
	  .min = RUN_MEMORY_MIN >> 20,
	  .max = RUN_MEMORY_MAX >> 20 },
	{ .key = "smt", .type = &config_bool, RUN(smt) },
	{ .key = "track_dirty_pages", .type = &config_false },
	{ .key = "huge_pages", .type = &config_choice, RUN(memory.pages), .names = huge_pages },
	{ .key = "cpu_template", .type = &config_only, .only = "None" },
};

static int machine_check(void *object, struct option_error *error)
{
	const struct run_options *o = object;
	const uint64_t page = memory_page_bytes((enum memory_pages)o->memory.pages);

	/* Of one CPU it says nothing, and clients say it by habit. */
	if (o->smt && o->cpus > 1)
		return option_fail(error, "smt: true is not supported with more than one vCPU: "
					  "each is a core of its own");
	return o->memory.bytes % page == 0
		       ? 0
		       : option_fail(error, "mem_size_mib: not a multiple of %lluM, the page size",
				     (unsigned long long)(page >> 20));
}

static const struct config_field limiter_fields[] = {
	{ .key = "bandwidth", .type = &config_bucket, FIELD(struct run_disk, bandwidth) },
	{ .key = "ops", .type = &config_bucket, FIELD(struct run_disk, ops) },
};
static const struct config_table limiter_table = TABLE(limiter_fields, NULL);

static const char *const cache_types[] = { "Writeback", "Unsafe", NULL };

static const struct config_field drive_fields[] = {
	{ .key = "drive_id",
	  .type = &config_text,
	  .required = true,
	  FIELD(struct run_disk, id),
	  .parse = option_id },
	{ .key = "path_on_host", .required = true, TEXT(struct run_disk, path), .min = 1 },
	{ .key = "is_root_device",
	  .type = &config_bool,
	  .required = true,
	  FIELD(struct run_disk, root) },
	{ .key = "is_read_only", .type = &config_bool, FIELD(struct run_disk, readonly) },
	{ .key = "partuuid", TEXT(struct run_disk, partuuid), .min = 1 },
	{ .key = "cache_type",
	  .type = &config_choice,
	  FIELD(struct run_disk, cache),
	  .names = cache_types },
	{ .key = "io_engine", .type = &config_only, .only = "Sync" },
	{ .key = "rate_limiter", .type = &config_object, .table = &limiter_table },
	REFUSED("socket"),
};

static const struct config_field entropy_fields[] = { REFUSED("rate_limiter") };

static int entropy_check(void *object, struct option_error *error)
{
	(void)error;
	((struct run_options *)object)->rng = true;
	return 0;
}

static const struct config_field balloon_fields[] = {
	{ .key = "amount_mib",
	  .type = &config_mib,
	  .required = true,
	  RUN(balloon.bytes),
	  .max = RUN_BALLOON_MAX >> 20 },
	{ .key = "deflate_on_oom",
	  .type = &config_bool,
	  .required = true,
	  RUN(balloon.deflate_on_oom) },
	{ .key = "stats_polling_interval_s",
	  .type = &config_number,
	  RUN(balloon.stats_s),
	  .max = RUN_STATS_MAX },
	{ .key = "free_page_reporting", .type = &config_bool, RUN(balloon.reporting) },
	{ .key = "free_page_hinting", .type = &config_false },
};

/* More than the memory that is said later, perhaps: run_consistent() sees to that. */
static int balloon_check(void *object, struct option_error *error)
{
	(void)error;
	((struct run_options *)object)->balloon.given |= 1ull << OPTION_BALLOON_AMOUNT;
	return 0;
}

#define HOTPLUG(key_, name_, ...)                                                                  \
	{                                                                                          \
		.key = #key_, .type = &config_mib, FIELD(struct run_hotplug, name_),               \
		.min = RUN_HOTPLUG_MIN >> 20, .max = RUN_HOTPLUG_MAX >> 20, __VA_ARGS__            \
	}
static const struct config_field hotplug_fields[] = {
	HOTPLUG(total_size_mib, total_bytes, .required = true),
	HOTPLUG(block_size_mib, block_bytes),
	HOTPLUG(slot_size_mib, slot_bytes),
	{ .key = "node",
	  .type = &config_number,
	  FIELD(struct run_hotplug, node),
	  .max = RUN_NODES_MAX - 1 },
};

static int serial_path_take(const struct config_field *f, const json_t *value, void *field,
			    struct option_error *error)
{
	struct run_endpoint *endpoint = field;
	const struct config_field path = { TEXT(struct run_endpoint, path), .min = 1 };

	(void)f;
	endpoint->kind = ENDPOINT_FILE;
	return config_text.take(&path, value, endpoint->path, error);
}

static json_t *serial_path_give(const struct config_field *f, const void *field)
{
	const struct run_endpoint *endpoint = field;

	(void)f;
	return endpoint->kind == ENDPOINT_FILE ? json_string(endpoint->path) : NULL;
}

static const struct config_type serial_path = { serial_path_take, serial_path_give };
static const struct config_field serial_fields[] = {
	{ .key = "serial_out_path", .type = &serial_path, RUN(serial) },
	REFUSED("rate_limiter"),
};

static const struct config_field logger_fields[] = {
	{ .key = "log_path", TEXT(struct run_options, log_file), .min = 1 },
	{ .key = "level", .type = &config_level, RUN(log_level) },
	{ .key = "show_level", .type = &config_bool, RUN(log_show_level) },
	{ .key = "show_log_origin", .type = &config_bool, RUN(log_show_origin) },
	REFUSED("module"),
};

static const struct config_field metrics_fields[] = {
	{ .key = "metrics_path",
	  .required = true,
	  TEXT(struct run_options, metrics_path),
	  .min = 1 },
};

/* ---- ours ---- */

static int node_take(const struct config_field *f, const json_t *value, void *field,
		     struct option_error *error)
{
	struct run_memory *memory = field;

	if (config_number.take(f, value, &memory->node, error) != 0)
		return -EINVAL;
	memory->given |= 1ull << OPTION_MEMORY_NODE;
	return 0;
}

static json_t *node_give(const struct config_field *f, const void *field)
{
	const struct run_memory *memory = field;

	(void)f;
	return OPTION_GIVEN(memory, OPTION_MEMORY_NODE) ? json_integer(memory->node) : NULL;
}

static const struct config_type node = { node_take, node_give };

static int max_take(const struct config_field *f, const json_t *value, void *field,
		    struct option_error *error)
{
	return config_mib.take(f, value, field, error);
}

/* None is not 0: that could not be given. */
static json_t *max_give(const struct config_field *f, const void *field)
{
	return *(const uint64_t *)field != 0 ? config_mib.give(f, field) : NULL;
}

static const struct config_type max_mib = { max_take, max_give };
static const struct config_field memory_fields[] = {
	{ .key = "pages", .type = &config_choice, RUN(memory.pages), .names = memory_pages_names },
	{ .key = "node",
	  .type = &node,
	  .offset = offsetof(struct run_options, memory),
	  .max = RUN_NODE_MAX },
	{ .key = "prealloc", .type = &config_bool, RUN(memory.prealloc) },
	{ .key = "max_mib",
	  .type = &max_mib,
	  RUN(memory.max_bytes),
	  .min = RUN_MEMORY_MIN >> 20,
	  .max = RUN_MEMORY_MAX >> 20 },
	{ .key = "slots",
	  .type = &config_number,
	  RUN(memory.slots),
	  .min = 1,
	  .max = RUN_SLOTS_MAX },
	{ .key = "nodes",
	  .type = &config_number,
	  RUN(memory.nodes),
	  .min = 1,
	  .max = RUN_NODES_MAX },
};
static const struct config_table memory_table = TABLE(memory_fields, NULL);

static const struct config_field schedule_fields[] = {
	{ .key = "every_s",
	  .type = &config_seconds,
	  RUN(rejuvenate.every_ms),
	  .min = RUN_REJUVENATE_MIN,
	  .max = RUN_REJUVENATE_MAX },
	{ .key = "jitter", .type = &config_part, RUN(rejuvenate.jitter_permille) },
};
static const struct config_table schedule_table = TABLE(schedule_fields, NULL);
static int all_schedule_take(const struct config_field *f, const json_t *value, void *field,
			     struct option_error *error)
{
	return config_object.take(f, value, field, error);
}

static json_t *all_schedule_give(const struct config_field *f, const void *field)
{
	const struct run_options *o = field;

	return o->rejuvenate.every_ms != 0 ? config_object.give(f, field) : NULL;
}

static const struct config_type all_schedule = { all_schedule_take, all_schedule_give };
static const struct config_field all_fields[] = {
	{ .key = "rejuvenate", .type = &all_schedule, .table = &schedule_table },
#define ALL_LIMIT(field, most)                                                                     \
	{                                                                                          \
		.key = #field, .type = &config_number, RUN(limits.field), .max = (most)            \
	}
	ALL_LIMIT(hang_ms, RUN_LIMIT_MS_MAX),
	ALL_LIMIT(storm_ms, RUN_LIMIT_MS_MAX),
	ALL_LIMIT(audit_ms, RUN_LIMIT_MS_MAX),
	ALL_LIMIT(poison_limit, RUN_POISON_MAX),
};
static const struct config_table all_table = TABLE(all_fields, NULL);

static int own_jitter_take(const struct config_field *f, const json_t *value, void *field,
			   struct option_error *error)
{
	struct run_own *schedule = field;

	schedule->has_jitter = true;
	return config_part.take(f, value, &schedule->jitter_permille, error);
}

static json_t *own_jitter_give(const struct config_field *f, const void *field)
{
	const struct run_own *schedule = field;

	return schedule->has_jitter ? config_part.give(f, &schedule->jitter_permille) : NULL;
}

static const struct config_type own_jitter = { own_jitter_take, own_jitter_give };
static const struct config_field own_schedule_fields[] = {
	{ .key = "every_s",
	  .type = &config_seconds,
	  FIELD(struct run_own, every_ms),
	  .min = RUN_REJUVENATE_MIN,
	  .max = RUN_REJUVENATE_MAX },
	{ .key = "jitter", .type = &own_jitter },
};
static const struct config_table own_schedule_table = TABLE(own_schedule_fields, NULL);
/* One more than it is, so that a field of 0 says nothing. */
static int own_limit_take(const struct config_field *f, const json_t *value, void *field,
			  struct option_error *error)
{
	const int ret = config_number.take(f, value, field, error);

	*(uint32_t *)field += ret == 0;
	return ret;
}

static json_t *own_limit_give(const struct config_field *f, const void *field)
{
	const uint32_t value = *(const uint32_t *)field;

	(void)f;
	return value != 0 ? json_integer((json_int_t)value - 1) : NULL;
}

static const struct config_type own_limit = { own_limit_take, own_limit_give };

#define OWN_LIMIT(object, member, field, most)                                                     \
	{                                                                                          \
		.key = #field, .type = &own_limit, FIELD(object, member.field), .max = (most)      \
	}
#define OWN_LIMITS(object, member)                                                                 \
	OWN_LIMIT(object, member, hang_ms, RUN_LIMIT_MS_MAX),                                      \
		OWN_LIMIT(object, member, storm_ms, RUN_LIMIT_MS_MAX),                             \
		OWN_LIMIT(object, member, audit_ms, RUN_LIMIT_MS_MAX),                             \
		OWN_LIMIT(object, member, poison_limit, RUN_POISON_MAX)

static const struct config_field own_fields[] = {
	{ .key = "rejuvenate", .type = &config_object, .table = &own_schedule_table },
	{ .key = "socket", TEXT(struct run_own, socket), .min = 1 },
	OWN_LIMITS(struct run_own, limits),
};
static const struct config_table own_table = TABLE(own_fields, NULL); /* on struct run_own */

static int count_take(const struct config_field *f, const json_t *value, void *field,
		      struct option_error *error)
{
	return config_number.take(f, value, field, error);
}

/* One is nothing to speak of. */
static json_t *count_give(const struct config_field *f, const void *field)
{
	return *(const uint32_t *)field != 1 ? config_number.give(f, field) : NULL;
}

static const struct config_type count = { count_take, count_give };
static const struct config_field disk_fields[] = {
	{ .key = "rejuvenate",
	  .type = &config_object,
	  FIELD(struct run_disk, own),
	  .table = &own_schedule_table },
	{ .key = "queues",
	  .type = &count,
	  FIELD(struct run_disk, queues),
	  .min = 1,
	  .max = BOX_QUEUES_MAX },
	{ .key = "lanes",
	  .type = &count,
	  FIELD(struct run_disk, lanes),
	  .min = 1,
	  .max = BOX_QUEUES_MAX },
	{ .key = "socket", TEXT(struct run_disk, own.socket), .min = 1 },
	OWN_LIMITS(struct run_disk, own.limits),
};
static const struct config_table disk_table = TABLE(disk_fields, NULL);

/* What a device of this id has of its own, and its table; NULL: there is no such device. */
static void *own_find(struct run_options *o, const char *id, const struct config_table **table)
{
	struct run_disk *disk = run_disk(o, id);

	*table = disk != NULL ? &disk_table : &own_table;
	return disk != NULL ? (void *)disk : run_own(o, id);
}

/* Keyed by id; `*` is every device. */
static int devices_take(const struct config_field *f, const json_t *value, void *field,
			struct option_error *error)
{
	const char *id;
	json_t *device;

	(void)f;
	if (!json_is_object(value))
		return option_fail(error, "is not an object");
	json_object_foreach((json_t *)value, id, device)
	{
		const bool all = strcmp(id, "*") == 0;
		const struct config_table *table = &all_table;
		void *own = all ? field : own_find(field, id, &table);
		int ret;

		if (own == NULL)
			ret = option_fail(error, "no drive and no other device has this id");
		else
			ret = config_take(table, device, own, NULL, error);
		if (ret != 0)
			return config_blame(error, id, ret);
	}
	return 0;
}

static void own_give(const struct run_options *o, const char *id, json_t *devices)
{
	const struct config_table *table;
	const void *own = own_find((struct run_options *)o, id, &table);
	json_t *settings = config_give(table, own);

	if (json_object_size(settings) != 0)
		json_object_set_new(devices, id, settings);
	else
		json_decref(settings);
}

static json_t *devices_give(const struct config_field *f, const void *field)
{
	static const char *const ids[] = {
#define OWN_ID(NAME, id) id,
		OWN_DEVICES(OWN_ID)
#undef OWN_ID
	};
	const struct run_options *o = field;
	json_t *devices = json_object();

	(void)f;
	json_object_set_new(devices, "*", config_give(&all_table, o));
	for (uint32_t i = 0; i < o->disk_count; i++)
		own_give(o, o->disks[i].id, devices);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		own_give(o, ids[i], devices);
	return devices;
}

static const struct config_type per_device = { devices_take, devices_give };

static const struct config_field budget_fields[] = {
	{ .key = "deaths",
	  .type = &config_number,
	  RUN(death_budget.deaths),
	  .max = RUN_DEATHS_MAX },
	{ .key = "seconds",
	  .type = &config_number,
	  RUN(death_budget.seconds),
	  .min = 1,
	  .max = RUN_DEATH_WINDOW_MAX },
};
static const struct config_table budget_table = TABLE(budget_fields, NULL);

static json_t *seal_give(const struct config_field *f, const void *field)
{
	char text[OPTION_SEAL_TEXT_MAX];

	(void)f;
	option_seal_text(field, text);
	return text[0] != '\0' ? json_string(text) : NULL;
}

static int seal_take(const struct config_field *f, const json_t *value, void *field,
		     struct option_error *error)
{
	return config_text.take(f, value, field, error);
}

static const struct config_type seal = { seal_take, seal_give };
static const struct config_field supervisor_fields[] = {
	{ .key = "death_budget", .type = &config_object, .table = &budget_table },
	{ .key = "require_seal", .type = &seal, RUN(require_seal), .parse = option_seal },
};
static const struct config_table supervisor_table = TABLE(supervisor_fields, NULL);

/* Last, since it speaks of what the others make. */
static const struct config_field mayfly_fields[] = {
	{ .key = "id", .type = &config_text, RUN(id), .parse = option_id },
	{ .key = CONFIG_MAYFLY_MEMORY, .type = &config_object, .table = &memory_table },
	{ .key = CONFIG_MAYFLY_DEVICES, .type = &per_device },
	{ .key = "supervisor", .type = &config_object, .table = &supervisor_table },
};

/* ---- all ---- */

#define SECTION(name_, whose_, fields_, check_)                                                    \
	{                                                                                          \
		.name = (name_), .whose = CONFIG_##whose_, .table = TABLE(fields_, check_)         \
	}
#define REFUSED_SECTION(name_)                                                                     \
	{                                                                                          \
		.name = (name_), .refused = true                                                   \
	}

const struct config_section config_sections[] = {
	SECTION("boot-source", VM, boot_fields, NULL),
	SECTION("machine-config", VM, machine_fields, machine_check),
	SECTION(CONFIG_DRIVES, BOTH, drive_fields, NULL),
	SECTION("entropy", BOTH, entropy_fields, entropy_check),
	SECTION("balloon", VM, balloon_fields, balloon_check),
	SECTION(CONFIG_HOTPLUG, VM, hotplug_fields, run_hotplug_check),
	SECTION("serial", VM, serial_fields, NULL),
	SECTION("logger", BOTH, logger_fields, NULL),
	SECTION("metrics", VM, metrics_fields, NULL),
	SECTION(CONFIG_MAYFLY, BOTH, mayfly_fields, NULL),
	REFUSED_SECTION("network-interfaces"),
	REFUSED_SECTION("vsock"),
	REFUSED_SECTION("cpu-config"),
	REFUSED_SECTION("mmds-config"),
	REFUSED_SECTION("pmem"),
};
const size_t config_section_count = ARRAY_SIZE(config_sections);
