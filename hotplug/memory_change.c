/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Everything that can fail of an addition comes before the first device moves, and is
 * undone; a removal can only be gone on with, since the guest has no memory there any more.  What lasts
 * (a device whose fence is overdue) is waited for: the VM goes on meanwhile.
 */
#include <errno.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/log.h"
#include "hotplug/memory_internal.h"

#define PREPARE_MS 10000 /* six processes take some milliseconds */
#define LOOK_MS 1000     /* how often a change that lasts is asked whether the VM ends */
#define AGAIN_US 100000  /* before a removal is gone on with that could not be */

static bool is_ending(struct memory *m)
{
	pthread_mutex_lock(&m->lock);
	const bool ending = m->ending;

	pthread_mutex_unlock(&m->lock);
	return ending;
}

static uint64_t lap_us(uint64_t *since_ns)
{
	const uint64_t before = *since_ns;

	*since_ns = now_ns();
	return (*since_ns - before) / NS_PER_US;
}

/* Nothing fails here: it lasts. 0, or -ECANCELED: the VM ends. */
static int move(struct memory *m, struct memory_step *s, enum epoch_until until)
{
	int ret;

	do {
		ret = supervisor_move_memory(m->site.sup, until, LOOK_MS, s->who);
		if (ret == -ETIMEDOUT)
			log_warn("%s: the change of memory waits for %s, whose fence is overdue",
				 s->id, s->who);
	} while (ret == -ETIMEDOUT && !is_ending(m));
	return ret == 0 ? 0 : -ECANCELED;
}

/* The map is looked at by others, too. */
static void accept(struct memory *m, struct memory_step *s)
{
	pthread_mutex_lock(&m->lock);
	memmap_accept(m->site.map, &m->next);
	pthread_mutex_unlock(&m->lock);
	s->accepted = true;
	s->figures->epoch = m->next.map.epoch;
}

/* ---- any change ---- */

/* 0: no process has what was to be added, or -ECANCELED. */
static int undo(struct memory *m, struct memory_step *s, bool prepared)
{
	int ret = 0;

	if (prepared) {
		supervisor_abandon_memory(m->site.sup);
		ret = move(m, s, EPOCH_GONE); /* one may have been recovered into it */
	}
	if (vm_set_memory(m->site.vm, &m->site.map->epoch) != 0)
		log_error("%s: KVM keeps a memory slot that was to be undone", s->id);
	return ret;
}

int memory_change_forth(struct memory *m, struct memory_step *s)
{
	struct memory_change *c = s->figures;
	uint64_t since = now_ns();
	bool prepared = false;
	int ret;

	s->what = "KVM does not take it: memory slots or addresses are used up";
	ret = vm_set_memory(m->site.vm, &m->next);
	c->slot_us = lap_us(&since);
	if (ret == 0) {
		prepared = true;
		s->what = "no process of a device can be made with it";
		ret = supervisor_prepare_memory(m->site.sup, &m->next, PREPARE_MS, s->who);
		c->prepare_us = lap_us(&since);
	}
	if (ret != 0) {
		s->lingers = undo(m, s, prepared) != 0;
		return ret == -ETIMEDOUT ? -EIO : ret;
	}
	/* From here on it is so, whatever lasts how long. */
	accept(m, s);
	ret = move(m, s, EPOCH_MOVED);
	c->move_us = lap_us(&since);
	return ret;
}

/* 0, or -ECANCELED: the VM ends. */
static int prepare_removal(struct memory *m, struct memory_step *s)
{
	while (supervisor_prepare_memory(m->site.sup, &m->next, PREPARE_MS, s->who) != 0) {
		if (is_ending(m))
			return -ECANCELED;
		log_error("%s: not removed yet: %s has no process without it", s->id, s->who);
		usleep(AGAIN_US);
	}
	return 0;
}

int memory_change_back(struct memory *m, struct memory_step *s)
{
	struct memory_change *c = s->figures;
	uint64_t since = now_ns();
	int ret = prepare_removal(m, s);

	c->prepare_us = lap_us(&since);
	if (ret == 0)
		ret = move(m, s, EPOCH_MOVED);
	c->move_us = lap_us(&since);
	if (ret != 0)
		return ret;
	if (vm_set_memory(m->site.vm, &m->next) != 0)
		log_error("%s: KVM keeps the memory slot of what was removed", s->id);
	accept(m, s);
	c->slot_us = lap_us(&since);
	ret = move(m, s, EPOCH_GONE);
	c->gone_us = lap_us(&since);
	return ret;
}

/* ---- a DIMM ---- */

static int allocate(struct memory *m, struct dimm *d)
{
	const struct memmap_config config = { .bytes = d->spec.bytes,
					      .pages = d->spec.pages,
					      .node = d->spec.node,
					      .prealloc = d->spec.prealloc };
	uint64_t since = now_ns();
	const int ret = memmap_plan_add(m->site.map, &config, d->gpa, &m->next, &d->step.what);

	d->added.allocate_us = lap_us(&since);
	return ret;
}

int memory_change_add(struct memory *m, struct dimm *d)
{
	int fd, ret = allocate(m, d);

	if (ret != 0)
		return ret;
	d->step = memory_step_of(d->spec.id, &d->added);
	ret = memory_change_forth(m, &d->step);
	if (d->step.accepted)
		return ret;
	fd = memmap_take(&m->next, d->gpa);
	if (!d->step.lingers && revoke_region(fd, &d->added.proof) != 0)
		log_error("%s: memory that was to be undone is still in use", d->spec.id);
	close(fd);
	return ret;
}

int memory_change_remove(struct memory *m, struct dimm *d)
{
	struct memory_change *c = &d->removed;
	uint64_t since;
	int fd, ret;

	ret = memmap_plan_remove(m->site.map, d->gpa, &m->next);
	CHECK(ret == 0);
	m->over = m->site.map->epoch;
	d->step = memory_step_of(d->spec.id, c);
	ret = memory_change_back(m, &d->step);
	if (!d->step.accepted)
		return ret;
	since = now_ns();
	fd = memmap_take(&m->over, d->gpa);
	if (ret == 0 && (revoke_region(fd, &c->proof) != 0 || !revoke_holds(&c->proof)))
		log_error(
			"%s: removed, but not proven to be gone: sealed %d, %llu blocks, %u mappings, %u "
			"descriptors",
			d->spec.id, c->proof.sealed, (unsigned long long)c->proof.blocks,
			c->proof.maps, c->proof.fds);
	close(fd);
	c->gone_us += lap_us(&since);
	return ret;
}
