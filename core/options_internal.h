/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the option tables share.
 *
 *   options.c         values, disks, and the sets of all verbs
 *   options_memory.c  memory, balloon, memory hotplug
 *   options_vhost.c   what must hold between options of mayfly vhost-user
 */
#ifndef MAYFLY_CORE_OPTIONS_INTERNAL_H
#define MAYFLY_CORE_OPTIONS_INTERNAL_H

#include "core/options.h"

#define OPTION_REST(json_, arg_, fallback_, text_)                                                 \
	.json = (json_), .arg = (arg_), .fallback = (fallback_), .text = (text_)
#define OPTION_LINE(NAME, name_, json_, arg_, fallback_, how_, text_)                              \
	{ .name = (name_), OPTION_REST(json_, arg_, fallback_, text_), how_ },
#define OPTION_SET(table_, struct_)                                                                \
	.options = (table_), .count = ARRAY_SIZE(table_), .bytes = sizeof(struct_),                \
	.given = offsetof(struct_, given)

extern const struct option_set memory_set;  /* of --memory */
extern const struct option_set balloon_set; /* of --balloon */

/* Each 0, or -EINVAL with a line in error.  memory_check() is the set's; the node is completed by it. */
int memory_size_check(const struct run_memory *m, struct option_error *error);
int memory_check(void *out, struct option_error *error);
int hotplug_check(const struct run_options *run, struct option_error *error);
/* Faults, ids and lanes: of the devices of a VM and of a back-end. */
int devices_check(const struct run_options *run, struct option_error *error);
/* Of vhost_set. */
int vhost_check(void *out, struct option_error *error);

#endif
