/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as JSON: Firecracker's sections and our own, the same for a file and for the
 * API.  A key that is unknown, or known and not supported, is refused by name.
 */
#ifndef MAYFLY_CORE_CONFIG_H
#define MAYFLY_CORE_CONFIG_H

#include <jansson.h>
#include <stdbool.h>

#include "core/options.h"

/* Reads the file and puts it below what was given on the command line; options are then checked as
 * a whole.  set: run_set and struct run_options; or vhost_set and struct vhost_options, where keys that only
 * a VM has are refused by name.  0, or -errno and one line that names file and key; options are unchanged
 * then. */
int config_load(const char *path, const struct option_set *set, void *options,
		struct option_error *error);

/* One section by its name, one drive of `drives`: put, or changed in part.  id: of the drive, else empty.  0;
 * -EINVAL and words that name the key; -ENOENT: no such drive to change.  On an error options are in
 * part changed. */
int config_put(struct run_options *options, const char *name, const char *id, const json_t *object,
	       struct option_error *error);
int config_patch(struct run_options *options, const char *name, const char *id,
		 const json_t *object, struct option_error *error);

/* One section, one drive; NULL: no such drive. */
json_t *config_section(const struct run_options *options, const char *name, const char *id);
/* What a file would say that makes these options, as far as one can. back_end: a file of one. */
json_t *config_all(const struct run_options *options, bool back_end);

#endif
