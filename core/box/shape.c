/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's shape: its rings, its eventfds, its configuration.  A sandbox gets all of it at
 * birth or with ACTIVATE and can take nothing more, so a change is what a change of the memory map is: births
 * of the new shape first, then a handoff.
 *
 * What births need is put into the device's spec at once; who serves keeps what it was born with
 * (generation.wiring).  What activation needs, features and rings, waits in dev->reshape until a generation of
 * the new shape is activated, whatever led to that: until then the rings in dev->queues are those that are
 * served, and audited.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/box/internal.h"

/* To go back to. */
struct shape_before {
	struct device_wiring wiring;
	uint64_t fsize;
	union dev_config config;
	struct launch_record *launch;  /* NULL: it did not change */
	struct device_reshape reshape; /* as it was .. */
	struct device_reshape
		force; /* .. and what was in force, or to be, for when all is changed */
};

void shape_wiring(const struct device_spec *spec, struct device_wiring *w)
{
	memcpy(w->kick, spec->kick, sizeof(w->kick));
	memcpy(w->call, spec->call, sizeof(w->call));
}

static void wire(struct device_spec *spec, const struct device_wiring *w)
{
	memcpy(spec->kick, w->kick, sizeof(spec->kick));
	memcpy(spec->call, w->call, sizeof(spec->call));
}

static struct shape_before *before_make(const struct device *dev)
{
	struct shape_before *before = calloc(1, sizeof(*before));

	if (before == NULL)
		return NULL;
	shape_wiring(&dev->spec, &before->wiring);
	before->fsize = dev->spec.fsize;
	before->config = dev->spec.config;
	before->reshape = dev->reshape;
	before->force = (struct device_reshape){
		.pending = true,
		.features = dev->reshape.pending ? dev->reshape.features : dev->features,
	};
	memcpy(before->force.queues, shape_queues(dev), sizeof(before->force.queues));
	return before;
}

/* The common part of launch records again, its filter with the new bounds; the old is kept. */
static int configure(struct device *dev, const struct device_shape *shape,
		     struct shape_before *before)
{
	int ret;

	if (dev->spec.fsize == shape->fsize &&
	    memcmp(dev->spec.config.raw, shape->config.raw, sizeof(shape->config.raw)) == 0)
		return 0;
	before->launch = dev->launch;
	dev->spec.fsize = shape->fsize;
	dev->spec.config = shape->config;
	ret = launch_prepare(dev);
	if (ret == 0)
		return 0;
	free(dev->launch);
	dev->launch = before->launch;
	dev->spec.fsize = before->fsize;
	dev->spec.config = before->config;
	before->launch = NULL;
	return ret;
}

int shape_begin(struct device *dev, const struct device_shape *shape)
{
	struct shape_before *before;
	int ret;

	shape_free(dev); /* the change before is over */
	before = before_make(dev);
	if (before == NULL)
		return -ENOMEM;
	ret = configure(dev, shape, before);
	if (ret != 0) {
		free(before);
		return ret;
	}
	dev->before = before;
	wire(&dev->spec, &shape->wiring);
	dev->reshape.pending = true;
	dev->reshape.features = shape->features;
	memcpy(dev->reshape.queues, shape->queues, sizeof(dev->reshape.queues));
	return 0;
}

void shape_abandon(struct device *dev)
{
	struct shape_before *before = dev->before;

	if (before == NULL)
		return;
	wire(&dev->spec, &before->wiring);
	dev->spec.fsize = before->fsize;
	dev->spec.config = before->config;
	/* One that had to be recovered in between may serve with the new rings. */
	dev->reshape = dev->reshape.pending ? before->reshape : before->force;
	if (before->launch != NULL) {
		free(dev->launch);
		dev->launch = before->launch;
		before->launch = NULL;
	}
	shape_free(dev);
}

static bool is_same_ring(const struct ctl_queue *a, const struct ctl_queue *b)
{
	return a->size == b->size && a->desc_gpa == b->desc_gpa && a->avail_gpa == b->avail_gpa &&
	       a->used_gpa == b->used_gpa;
}

void shape_apply(struct device *dev)
{
	if (!dev->reshape.pending)
		return;
	dev->reshape.pending = false;
	dev->fresh = false;
	dev->features = dev->reshape.features;
	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		if (is_same_ring(&dev->queues[i], &dev->reshape.queues[i]))
			continue;
		dev->queues[i] = dev->reshape.queues[i];
		dev->poison[i] = (struct poison){ 0 };
		dev->seen[i] = (struct ring_seen){ 0 };
		dev->unseen |= 1u << i;
	}
}

void shape_forget(struct device *dev)
{
	dev->reshape.pending = false;
	dev->unseen = 0;
}

const struct ctl_queue *shape_queues(const struct device *dev)
{
	return dev->reshape.pending ? dev->reshape.queues : dev->queues;
}

void shape_free(struct device *dev)
{
	if (dev->before != NULL)
		free(dev->before->launch);
	free(dev->before);
	dev->before = NULL;
}
