/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections by name, drives by id, and how a file is put below the command line: it is read into
 * options of its own, onto which then goes what was really given as an option.
 */
#include "core/config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cc.h"
#include "core/config_fields.h"

#define FILE_BYTES_MAX (1 << 20)

static const struct config_section *find_section(const char *name)
{
	for (size_t i = 0; i < config_section_count; i++) {
		if (strcmp(config_sections[i].name, name) == 0)
			return &config_sections[i];
	}
	return NULL;
}

/* ---- drives ---- */

static int drive_check(const struct run_options *o, const struct run_disk *disk, const char *id,
		       struct option_error *error)
{
	if (strcmp(disk->id, id) != 0)
		return option_fail(error, "drive_id: '%.64s' is not the id in the path", disk->id);
	if (option_id_reserved(id))
		return option_fail(error, "drive_id: '%.64s' is another device's", id);
	for (uint32_t i = 0; i < o->disk_count && disk->root; i++) {
		if (o->disks[i].root && strcmp(o->disks[i].id, id) != 0)
			return option_fail(error, "is_root_device: %.64s is the root device",
					   o->disks[i].id);
	}
	return 0;
}

/* In its old place; a new one at the end, but the root device comes first, to be /dev/vda. */
static int drive_store(struct run_options *o, const struct run_disk *disk,
		       struct option_error *error)
{
	struct run_disk *place = run_disk(o, disk->id);

	if (place == NULL && o->disk_count == RUN_DISKS_MAX)
		return option_fail(error, "drive_id: more than %d drives", RUN_DISKS_MAX);
	if (place == NULL)
		place = &o->disks[o->disk_count++];
	if (disk->root) {
		memmove(&o->disks[1], &o->disks[0], (size_t)((char *)place - (char *)&o->disks[0]));
		place = &o->disks[0];
	}
	*place = *disk;
	return 0;
}

/* Onto *disk, which has what it was, or the defaults. */
static int drive_change(struct run_options *o, const struct config_section *section, const char *id,
			const json_t *object, struct run_disk *disk,
			const struct run_disk *defaults, struct option_error *error)
{
	int ret = config_take(&section->table, object, disk, defaults, error);

	if (ret == 0)
		ret = drive_check(o, disk, id, error);
	return ret == 0 ? drive_store(o, disk, error) : ret;
}

/* defaults: as config_take() has it. */
static int drive_take(struct run_options *o, const struct config_section *section, const char *id,
		      const json_t *object, const struct run_disk *defaults,
		      struct option_error *error)
{
	const struct run_disk *old = run_disk(o, id);
	struct run_disk *disk;
	int ret;

	if (old == NULL && defaults == NULL) {
		option_fail(error, "%.64s: no drive of that id", id);
		return -ENOENT;
	}
	disk = malloc(sizeof(*disk));
	if (disk == NULL)
		return -ENOMEM;
	*disk = old != NULL ? *old : *defaults;
	ret = drive_change(o, section, id, object, disk, defaults, error);
	free(disk);
	return ret;
}

/* ---- memory hotplug ---- */

/* In the place of the one of its node: there is one for each. */
static void hotplug_store(struct run_options *o, const struct run_hotplug *h)
{
	struct run_hotplug *place = run_hotplug(o, h->node);

	if (place == NULL)
		place = &o->hotplug[o->hotplug_count++];
	*place = *h;
}

static int hotplug_put(struct run_options *o, const struct config_section *section,
		       const json_t *object, struct option_error *error)
{
	struct run_hotplug h, defaults;
	int ret;

	options_default(&hotplug_set, &defaults);
	h = defaults;
	ret = config_take(&section->table, object, &h, &defaults, error);
	if (ret == 0)
		hotplug_store(o, &h);
	return ret;
}

/* One stands by itself, as Firecracker has it. */
static json_t *all_hotplug(const struct run_options *o, const struct config_section *section)
{
	json_t *all;

	if (o->hotplug_count == 1)
		return config_give(&section->table, &o->hotplug[0]);
	all = json_array();

	for (uint32_t i = 0; i < o->hotplug_count; i++)
		json_array_append_new(all, config_give(&section->table, &o->hotplug[i]));
	return all;
}

static int load_hotplug(struct run_options *o, const struct config_section *section,
			const json_t *value, struct option_error *error)
{
	int ret = 0;

	if (!json_is_array(value))
		ret = hotplug_put(o, section, value, error);
	for (size_t i = 0; i < json_array_size(value) && ret == 0; i++)
		ret = hotplug_put(o, section, json_array_get(value, i), error);
	return ret != 0 ? config_blame(error, section->name, ret) : 0;
}

/* ---- sections ---- */

static int drive_put(struct run_options *o, const struct config_section *section, const char *id,
		     const json_t *object, struct option_error *error)
{
	cleanup_free struct run_disk *defaults = malloc(sizeof(*defaults));

	if (defaults == NULL)
		return -ENOMEM;
	options_default(&disk_set, defaults);
	return drive_take(o, section, id, object, defaults, error);
}

static int section_put(struct run_options *o, const struct config_section *section,
		       const json_t *object, struct option_error *error)
{
	cleanup_free struct run_options *defaults = malloc(sizeof(*defaults));

	if (defaults == NULL)
		return -ENOMEM;
	options_default(&run_set, defaults);
	defaults->given = o->given;
	run_streams(defaults);
	return config_take(&section->table, object, o, defaults, error);
}

int config_put(struct run_options *options, const char *name, const char *id, const json_t *object,
	       struct option_error *error)
{
	const struct config_section *section = find_section(name);
	int ret;

	if (strcmp(name, CONFIG_DRIVES) == 0)
		ret = drive_put(options, section, id, object, error);
	else if (strcmp(name, CONFIG_HOTPLUG) == 0)
		ret = hotplug_put(options, section, object, error);
	else
		ret = section_put(options, section, object, error);
	return ret == CONFIG_NAMED ? -EINVAL : ret;
}

int config_patch(struct run_options *options, const char *name, const char *id,
		 const json_t *object, struct option_error *error)
{
	const struct config_section *section = find_section(name);
	int ret;

	if (strcmp(name, CONFIG_DRIVES) == 0)
		ret = drive_take(options, section, id, object, NULL, error);
	else
		ret = config_take(&section->table, object, options, NULL, error);
	return ret == CONFIG_NAMED ? -EINVAL : ret;
}

json_t *config_section(const struct run_options *options, const char *name, const char *id)
{
	const struct config_section *section = find_section(name);
	const void *base = options;

	if (strcmp(name, CONFIG_DRIVES) == 0)
		base = run_disk((struct run_options *)options, id);
	return base != NULL ? config_give(&section->table, base) : NULL;
}

static json_t *all_drives(const struct run_options *options)
{
	json_t *drives = json_array();

	for (uint32_t i = 0; i < options->disk_count; i++)
		json_array_append_new(drives,
				      config_section(options, CONFIG_DRIVES, options->disks[i].id));
	return drives;
}

/* Some devices are there or not, whatever their keys say, or without any. */
static bool is_said(const struct run_options *options, const struct config_section *section,
		    const json_t *value)
{
	if (strcmp(section->name, "entropy") == 0)
		return options->rng;
	if (strcmp(section->name, "balloon") == 0)
		return run_has_balloon(options);
	if (strcmp(section->name, CONFIG_DRIVES) == 0)
		return true;
	if (strcmp(section->name, CONFIG_HOTPLUG) == 0)
		return options->hotplug_count != 0;
	return !section->refused && json_object_size(value) != 0;
}

static json_t *section_all(const struct run_options *options, const struct config_section *section)
{
	if (strcmp(section->name, CONFIG_DRIVES) == 0)
		return all_drives(options);
	if (strcmp(section->name, CONFIG_HOTPLUG) == 0)
		return all_hotplug(options, section);
	return config_give(&section->table, options);
}

json_t *config_all(const struct run_options *options, bool back_end)
{
	json_t *all = json_object();

	for (size_t i = 0; i < config_section_count; i++) {
		const struct config_section *s = &config_sections[i];
		json_t *value = section_all(options, s);

		if (is_said(options, s, value) && !(back_end && s->whose == CONFIG_VM))
			json_object_set_new(all, s->name, value);
		else
			json_decref(value);
	}
	if (back_end)
		json_object_del(json_object_get(all, CONFIG_MAYFLY), CONFIG_MAYFLY_MEMORY);
	return all;
}

/* ---- the file ---- */

static int load_drive(struct run_options *o, const struct config_section *section,
		      const json_t *object, struct option_error *error)
{
	const char *id = json_string_value(json_object_get(object, "drive_id"));
	cleanup_free struct run_disk *disk = malloc(sizeof(*disk));
	int ret;

	if (disk == NULL)
		return -ENOMEM;
	options_default(&disk_set, disk);
	/* Judged by the table first: what has no proper id has a message, too. */
	ret = config_take(&section->table, object, disk, disk, error);
	if (ret != 0)
		return ret;
	if (run_disk(o, id) != NULL) {
		option_fail(error, "drive_id: '%.64s' given twice", id);
		return CONFIG_NAMED;
	}
	ret = drive_check(o, disk, id, error);
	if (ret == 0)
		ret = drive_store(o, disk, error);
	return ret != 0 ? CONFIG_NAMED : 0;
}

static int load_drives(struct run_options *o, const struct config_section *section,
		       const json_t *list, struct option_error *error)
{
	char name[32];
	int ret = 0;

	if (!json_is_array(list))
		return config_blame(error, section->name, option_fail(error, "is not an array"));
	for (size_t i = 0; i < json_array_size(list) && ret == 0; i++) {
		snprintf(name, sizeof(name), "%s[%zu]", section->name, i);
		ret = load_drive(o, section, json_array_get(list, i), error);
		if (ret != 0)
			config_blame(error, name, ret);
	}
	return ret;
}

static int vm_only(struct option_error *error, const char *name)
{
	return config_blame(error, name, option_fail(error, "is of a VM only"));
}

/* Keys of ours that a back-end has nothing for; whatever is no device at all is said elsewhere. */
static int back_end_check(const json_t *mayfly, struct option_error *error)
{
	const char *id;
	json_t *device;

	if (json_object_get(mayfly, CONFIG_MAYFLY_MEMORY) != NULL)
		return vm_only(error, CONFIG_MAYFLY_MEMORY);
	json_object_foreach(json_object_get(mayfly, CONFIG_MAYFLY_DEVICES), id, device)
	{
		if (option_id_reserved(id) && strcmp(id, "rng") != 0)
			return config_blame(error, CONFIG_MAYFLY_DEVICES, vm_only(error, id));
	}
	return 0;
}

static int load_section(struct run_options *o, const struct config_section *section, bool back_end,
			const json_t *value, struct option_error *error)
{
	int ret = 0;

	if (value == NULL || json_is_null(value))
		return 0;
	if (section->refused)
		return config_blame(error, section->name, option_fail(error, "not supported"));
	if (back_end && section->whose == CONFIG_VM)
		return vm_only(error, section->name);
	if (back_end && strcmp(section->name, CONFIG_MAYFLY) == 0)
		ret = back_end_check(value, error);
	if (ret != 0)
		return config_blame(error, section->name, ret);
	if (strcmp(section->name, CONFIG_DRIVES) == 0)
		return load_drives(o, section, value, error);
	if (strcmp(section->name, CONFIG_HOTPLUG) == 0)
		return load_hotplug(o, section, value, error);
	ret = config_take(&section->table, value, o, o, error);
	return ret != 0 ? config_blame(error, section->name, ret) : 0;
}

static int load_sections(struct run_options *o, bool back_end, const json_t *root,
			 struct option_error *error)
{
	const char *key;
	json_t *value;
	int ret = 0;

	if (!json_is_object(root))
		return option_fail(error, "is not an object");
	json_object_foreach((json_t *)root, key, value)
	{
		if (find_section(key) == NULL)
			return config_blame(error, key, option_fail(error, "unknown key"));
	}
	for (size_t i = 0; i < config_section_count && ret == 0; i++)
		ret = load_section(o, &config_sections[i], back_end,
				   json_object_get(root, config_sections[i].name), error);
	return ret;
}

/* NULL: not readable, or not JSON. */
static json_t *read_file(const char *path, struct option_error *error)
{
	FILE *file = fopen(path, "re");
	json_error_t at;
	struct stat st;
	json_t *root;

	if (file == NULL || fstat(fileno(file), &st) != 0) {
		option_fail(error, "cannot open: %s", strerror(errno));
		if (file != NULL)
			fclose(file);
		return NULL;
	}
	if (S_ISDIR(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
		option_fail(error, S_ISDIR(st.st_mode) ? "is a directory" : "longer than 1 MiB");
		fclose(file);
		return NULL;
	}
	root = json_loadf(file, JSON_REJECT_DUPLICATES, &at);
	if (root == NULL)
		option_fail(error, "line %d: %.120s", at.line, at.text);
	fclose(file);
	return root;
}

/* What the command line says of a node's stands for all that the file says of it. */
static void merge_hotplug(struct run_options *o, const struct run_options *given)
{
	for (uint32_t i = 0; i < given->hotplug_count; i++)
		hotplug_store(o, &given->hotplug[i]);
}

/* What the command line says of a drive goes onto what the file says of it. */
static int merge_drives(struct run_options *o, const struct run_options *given,
			struct option_error *error)
{
	for (uint32_t i = 0; i < given->disk_count; i++) {
		struct run_disk *disk = run_disk(o, given->disks[i].id);

		if (disk != NULL) {
			options_overlay(&disk_set, disk, &given->disks[i]);
		} else if (o->disk_count == RUN_DISKS_MAX) {
			return option_fail(error, "more than %d drives", RUN_DISKS_MAX);
		} else {
			o->disks[o->disk_count++] = given->disks[i];
		}
	}
	return 0;
}

/* Both sets' structs begin with struct run_options. */
static int load(const json_t *root, const struct option_set *set, void *o, const void *given,
		struct option_error *error)
{
	int ret;

	options_default(set, o);
	ret = load_sections(o, set == &vhost_set, root, error);
	if (ret == 0)
		ret = merge_drives(o, given, error);
	if (ret != 0)
		return -EINVAL;
	merge_hotplug(o, given);
	options_overlay(set, o, given);
	return set->check(o, error);
}

int config_load(const char *path, const struct option_set *set, void *options,
		struct option_error *error)
{
	void *o = malloc(set->bytes);
	json_t *root = read_file(path, error);
	int ret = -EINVAL;

	if (o == NULL)
		ret = option_fail(error, "out of memory");
	else if (root != NULL)
		ret = load(root, set, o, options, error);
	if (ret == 0) {
		memcpy(options, o, set->bytes);
	} else {
		const struct option_error inner = *error;

		option_fail(error, "%.100s: %.150s", path, inner.text);
	}
	json_decref(root);
	free(o);
	return ret;
}
