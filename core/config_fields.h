/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON objects by table: one line a key, from which come both directions, what is refused, and the
 * words of the refusal.  Of core/config.c, and of core/api for bodies that configure nothing.
 */
#ifndef MAYFLY_CORE_CONFIG_FIELDS_H
#define MAYFLY_CORE_CONFIG_FIELDS_H

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/optparse.h"

struct config_field;

struct config_type {
	/* value is never null.  0; -EINVAL and words that do not name the key; CONFIG_NAMED: one in
	 * it is named. */
	int (*take)(const struct config_field *f, const json_t *value, void *field,
		    struct option_error *error);
	/* NULL: there is nothing to show. A type without it is never shown. */
	json_t *(*give)(const struct config_field *f, const void *field);
};

struct config_table {
	const struct config_field *fields;
	size_t count;
	int (*check)(void *object, struct option_error *error); /* between keys; or NULL */
};

struct config_field {
	const char *key;
	const struct config_type *type;
	bool required;
	uint32_t offset, room;            /* of the field in the object's struct */
	uint64_t min, max;                /* numbers; MiB for mib */
	const char *const *names;         /* choice: NULL-terminated, in the enum's order */
	const char *only;                 /* the one string that is taken */
	option_parse_fn *parse;           /* of a string, as on the command line */
	const struct config_table *table; /* of an object in it */
};

extern const struct config_type config_text;    /* char[room]: a string, parsed by f->parse */
extern const struct config_type config_number;  /* uint32_t */
extern const struct config_type config_mib;     /* uint64_t, bytes */
extern const struct config_type config_seconds; /* uint64_t, ms; within min .. max ms */
extern const struct config_type config_part;    /* uint32_t, thousandths of 0 .. 1 */
extern const struct config_type config_bool;    /* bool */
extern const struct config_type config_false;   /* nothing: only false is taken */
extern const struct config_type config_only;    /* nothing: only f->only is taken */
extern const struct config_type config_choice;  /* uint32_t */
extern const struct config_type config_object;  /* a struct, by f->table */
extern const struct config_type config_bucket;  /* struct rate_limit */
extern const struct config_type config_refused; /* nothing: known, not supported */
extern const struct config_type config_level;   /* uint32_t, enum log_level */

/* Of boot_args: option_text() less the words that would keep Linux from this machine's devices; the
 * log says so. */
option_parse_fn config_boot_args;

#define CONFIG_NAMED (-EDOM) /* the message begins with a key */

/* Takes object into the struct at base.  defaults: a struct with what keys mean that are not given,
 * the required ones being missed; base itself: only
 * that; NULL: such keys stay as they are.  null counts as not given.  0, CONFIG_NAMED,
 * or -EINVAL: it is not even an object. */
int config_take(const struct config_table *table, const json_t *object, void *base,
		const void *defaults, struct option_error *error);
/* The object that config_take() would make it of. */
json_t *config_give(const struct config_table *table, const void *base);
/* Puts a name before the message, which a call that returned `ret` left. Returns CONFIG_NAMED. */
int config_blame(struct option_error *error, const char *name, int ret);

#define CONFIG_MAYFLY "mayfly"
#define CONFIG_MAYFLY_MEMORY "memory" /* in it */
#define CONFIG_MAYFLY_DEVICES "devices"
#define CONFIG_DRIVES "drives"          /* an array, each element by the table of the section */
#define CONFIG_HOTPLUG "memory-hotplug" /* one element, or an array of them, likewise */

/* Whose a section is. */
enum config_whose { CONFIG_VM, CONFIG_BOTH };

struct config_section {
	const char *name;
	enum config_whose whose;
	struct config_table
		table; /* on struct run_options; of drives: run_disk; of hotplug: run_hotplug */
	bool refused;  /* known, not supported */
};

extern const struct config_section config_sections[];
extern const size_t config_section_count;

#endif
