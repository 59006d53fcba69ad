/* SPDX-License-Identifier: Apache-2.0 */
/* One life of a device's boxes: made, told, ended together. */
#include <stdlib.h>

#include "core/box/internal.h"

static bool box_is_fenced(const struct box *box)
{
	return box->state == BOX_FENCED || box->state == BOX_DYING || box->state == BOX_DEAD;
}

bool generation_all(const struct generation *gen, enum box_state state)
{
	for (uint32_t i = 0; i < gen->lanes; i++) {
		const struct box *box = &gen->boxes[i];

		if (state == BOX_FENCED ? !box_is_fenced(box) : box->state != state)
			return false;
	}
	return true;
}

void generation_raise(struct generation *gen, enum box_event event)
{
	for (uint32_t i = 0; i < gen->lanes; i++)
		box_raise(&gen->boxes[i], event);
}

void generation_order(struct generation *gen, enum box_state state, enum box_event event)
{
	for (uint32_t i = 0; i < gen->lanes; i++) {
		if (gen->boxes[i].state == state)
			box_raise(&gen->boxes[i], event);
	}
}

void generation_retire(struct device *dev, struct generation **slot)
{
	struct generation *gen = *slot;

	if (gen == NULL)
		return;
	*slot = NULL;
	gen->next = dev->leaving;
	dev->leaving = gen;
	generation_raise(gen, BOX_EV_RETIRE);
}

void generation_collect(struct device *dev)
{
	struct generation **p = &dev->leaving;

	while (*p != NULL) {
		struct generation *gen = *p;

		if (generation_all(gen, BOX_DEAD)) {
			*p = gen->next;
			evidence_bury(gen);
			free(gen);
		} else {
			p = &gen->next;
		}
	}
}

struct generation *generation_create(struct device *dev)
{
	const uint32_t lanes = dev->spec.lanes;
	struct generation *gen = calloc(1, sizeof(*gen) + lanes * sizeof(gen->boxes[0]));

	if (gen == NULL)
		return NULL;
	gen->dev = dev;
	gen->number = ++dev->generations;
	gen->epoch = dev->sup->memory.map.epoch;
	gen->lanes = lanes;
	shape_wiring(&dev->spec, &gen->wiring);
	for (uint32_t i = 0; i < lanes; i++)
		box_init(&gen->boxes[i], gen, i);
	return gen;
}

static struct box *generation_box(struct generation *gen, uint64_t cookie)
{
	for (uint32_t i = 0; gen != NULL && i < gen->lanes; i++) {
		if (gen->boxes[i].cookie == cookie)
			return &gen->boxes[i];
	}
	return NULL;
}

struct box *device_find_box(struct device *dev, uint64_t cookie)
{
	struct box *box = generation_box(dev->standby, cookie);

	for (struct generation *gen = dev->leaving; box == NULL && gen != NULL; gen = gen->next)
		box = generation_box(gen, cookie);
	return box;
}
