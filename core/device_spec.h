/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operator said of a device, as the supervisor wants it (core/box/box.h): the same for a device of a
 * VM and for one that is served to another VMM.  kick, call, hooks and ctx stay the caller's, and so does
 * what the device is plugged into.  No function here keeps state; any thread may call, where opening files
 * is allowed.
 */
#ifndef MAYFLY_CORE_DEVICE_SPEC_H
#define MAYFLY_CORE_DEVICE_SPEC_H

#include <stdint.h>

#include "core/box/box.h"
#include "core/image.h"
#include "core/options.h"

/* What is the same for all kinds: id, limits, budgets; one lane, guest memory, no backend. */
void device_spec_begin(const struct run_options *options, const char *id, enum dev_kind kind,
		       uint32_t queues, struct device_spec *spec);

/* A whole spec of a disk.  Opens its image and locks it as lock_ms says (core/image.h), which is the caller's to close and must outlive the
 * device.  0, or what image_open() says, with its line in error; image->fd is -1 then.  Blocks as that. */
int device_spec_disk(const struct run_options *options, const struct run_disk *disk,
		     uint32_t lock_ms, struct image *image, struct device_spec *spec,
		     struct option_error *error);

/* The same of an image that is open already. */
void device_spec_image(const struct run_options *options, const struct run_disk *disk,
		       const struct image *image, struct device_spec *spec);

/* A whole spec of the entropy device.  *source is the caller's to close, likewise.  0, or -errno of opening
 * it with a line in error; *source is -1 then. */
int device_spec_rng(const struct run_options *options, int *source, struct device_spec *spec,
		    struct option_error *error);

#endif
