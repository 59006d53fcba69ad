/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request is judged in this order: what is wrong whatever the state (ERROR), what is wrong because of
 * the state of the blocks (ERROR), what the operator does not want (NACK), what cannot be done just now
 * (BUSY).  Then it is done.  Each answer is kept with its place in the ring.
 */
#include "hotplug/virtio_mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"

/* A run of blocks, by number. */
struct blocks {
	uint64_t first;
	uint64_t count;
};

static bool is_power_of_two(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

static uint64_t to_blocks(const struct vmem *v, uint64_t bytes)
{
	return bytes / v->spec.block_bytes;
}

static bool is_whole(const struct vmem *v, uint64_t bytes)
{
	return bytes % v->spec.block_bytes == 0;
}

/* What has to be mapped so that so much is. */
static uint64_t to_slots(const struct vmem *v, uint64_t bytes)
{
	const uint64_t over = bytes % v->spec.slot_bytes;

	return over != 0 ? bytes - over + v->spec.slot_bytes : bytes;
}

static struct vmem_range to_range(const struct vmem *v, struct blocks b)
{
	return (struct vmem_range){ v->spec.addr + b.first * v->spec.block_bytes,
				    b.count * v->spec.block_bytes };
}

static const char *spec_fault(const struct vmem_spec *s)
{
	if (!is_power_of_two(s->page_bytes))
		return "page size: not a power of two";
	if (!is_power_of_two(s->block_bytes) || s->block_bytes < VMEM_BLOCK_MIN)
		return "block_size: not a power of two of at least 2 MiB";
	if (s->block_bytes % s->page_bytes != 0)
		return "block_size: less than a page of the memory";
	if (s->slot_bytes == 0 || s->slot_bytes % s->block_bytes != 0)
		return "slot_size: not a multiple of block_size";
	if (s->region_bytes == 0 || s->region_bytes % s->slot_bytes != 0)
		return "region size: not a multiple of slot_size";
	if (s->region_bytes > VMEM_REGION_MAX)
		return "region size: more than 64 TiB";
	if (s->addr % s->block_bytes != 0)
		return "region address: not a multiple of block_size";
	if (s->addr + s->region_bytes < s->addr)
		return "region address: beyond the end of the address space";
	if (s->node > UINT16_MAX)
		return "node: more than 65535";
	return NULL;
}

int vmem_init(struct vmem *v, const struct vmem_spec *spec, const char **why)
{
	memset(v, 0, sizeof(*v));
	*why = spec_fault(spec);
	if (*why != NULL)
		return -EINVAL;
	v->spec = *spec;
	v->bitmap = calloc((to_blocks(v, spec->region_bytes) + 63) / 64, sizeof(*v->bitmap));
	return v->bitmap != NULL ? 0 : -ENOMEM;
}

void vmem_free(struct vmem *v)
{
	free(v->bitmap);
	v->bitmap = NULL;
}

/* ---- blocks ---- */

static bool is_plugged(const struct vmem *v, uint64_t block)
{
	return (v->bitmap[block / 64] >> block % 64 & 1) != 0;
}

/* So many blocks from `from` on, before `end`, are as `plugged` says; words that are all alike are taken
 * whole, since a region may have millions. */
static uint64_t run_length(const struct vmem *v, uint64_t from, uint64_t end, bool plugged)
{
	const uint64_t alike = plugged ? UINT64_MAX : 0;
	uint64_t i = from;

	while (i < end) {
		if (i % 64 == 0 && end - i >= 64 && v->bitmap[i / 64] == alike)
			i += 64;
		else if (is_plugged(v, i) == plugged)
			i++;
		else
			break;
	}
	return i - from;
}

static void set_blocks(struct vmem *v, struct blocks b, bool plugged)
{
	for (uint64_t i = b.first; i < b.first + b.count; i++) {
		const uint64_t bit = 1ull << i % 64;

		if (plugged)
			v->bitmap[i / 64] |= bit;
		else
			v->bitmap[i / 64] &= ~bit;
	}
	if (plugged)
		v->plugged_bytes += b.count * v->spec.block_bytes;
	else
		v->plugged_bytes -= b.count * v->spec.block_bytes;
}

static bool all_are(const struct vmem *v, struct blocks b, bool plugged)
{
	return run_length(v, b.first, b.first + b.count, plugged) == b.count;
}

/* Where the last plugged block ends. */
static uint64_t plugged_end(const struct vmem *v)
{
	uint64_t n = (to_blocks(v, v->spec.region_bytes) + 63) / 64;

	while (n > 0 && v->bitmap[n - 1] == 0)
		n--;
	if (n == 0)
		return 0;
	return ((n - 1) * 64 + 64 - (uint64_t)__builtin_clzll(v->bitmap[n - 1])) *
	       v->spec.block_bytes;
}

static bool next_run(const struct vmem *v, uint64_t *at_bytes, struct vmem_range *range,
		     bool plugged)
{
	const uint64_t end = to_blocks(v, v->spec.region_bytes);
	struct blocks b = { .first = to_blocks(v, *at_bytes) };

	if (b.first < end)
		b.first += run_length(v, b.first, end, !plugged);
	if (b.first < end)
		b.count = run_length(v, b.first, end, plugged);
	if (b.count == 0)
		return false;
	*range = to_range(v, b);
	*at_bytes = (b.first + b.count) * v->spec.block_bytes;
	return true;
}

bool vmem_plugged(const struct vmem *v, uint64_t *at_bytes, struct vmem_range *range)
{
	return next_run(v, at_bytes, range, true);
}

bool vmem_unplugged(const struct vmem *v, uint64_t *at_bytes, struct vmem_range *range)
{
	return next_run(v, at_bytes, range, false);
}

/* ---- sizes ---- */

/* What is usable at least when so much is requested. */
static uint64_t usable_for(const struct vmem *v, uint64_t requested)
{
	uint64_t usable = requested + VMEM_EXTENT;

	if (requested == 0)
		return 0;
	usable += -usable % v->spec.block_bytes;
	return usable < v->spec.region_bytes ? usable : v->spec.region_bytes;
}

static uint64_t usable_after(const struct vmem *v, uint64_t requested)
{
	const uint64_t usable = usable_for(v, requested);

	return usable > v->usable_bytes ? usable : v->usable_bytes;
}

int vmem_check(const struct vmem *v, uint64_t requested, const char **why)
{
	*why = !is_whole(v, requested)            ? "not a multiple of block_size"
	       : requested > v->spec.region_bytes ? "more than the region has"
						  : NULL;
	return *why != NULL ? -EINVAL : 0;
}

/* Who is to have more than now must find all that is usable mapped. */
struct vmem_next vmem_before(const struct vmem *v, uint64_t requested)
{
	const uint64_t usable = usable_after(v, requested);

	if (requested <= v->plugged_bytes || usable <= v->mapped_bytes)
		return (struct vmem_next){ VMEM_NOTHING, 0 };
	return (struct vmem_next){ VMEM_GROW, to_slots(v, usable) };
}

int vmem_request(struct vmem *v, uint64_t requested)
{
	const char *why;
	int ret = vmem_check(v, requested, &why);

	if (ret == 0 && vmem_before(v, requested).step != VMEM_NOTHING)
		ret = -EAGAIN;
	if (ret != 0)
		return ret;
	v->usable_bytes = usable_after(v, requested);
	v->requested_bytes = requested;
	return 0;
}

struct vmem_next vmem_next(const struct vmem *v, bool idle)
{
	const bool grows = v->plugged_bytes < v->requested_bytes;
	const uint64_t end = to_slots(v, plugged_end(v));

	if (grows)
		return vmem_before(v, v->requested_bytes);
	if (v->unplugged && (v->plugged_bytes == v->requested_bytes || idle) &&
	    end < v->mapped_bytes)
		return (struct vmem_next){ VMEM_SHRINK, end };
	return (struct vmem_next){ VMEM_NOTHING, 0 };
}

int vmem_mapped(struct vmem *v, uint64_t bytes)
{
	if (bytes % v->spec.slot_bytes != 0 || bytes > v->spec.region_bytes ||
	    bytes < plugged_end(v))
		return -EINVAL;
	v->mapped_bytes = bytes;
	v->unplugged = false;
	return 0;
}

/* ---- requests ---- */

/* Aligned, more than none, inside the usable region. */
static bool find_blocks(const struct vmem *v, const struct mem_ask *ask, struct blocks *b)
{
	const uint64_t at = ask->addr - v->spec.addr;

	if (ask->addr < v->spec.addr || !is_whole(v, at) || at >= v->usable_bytes ||
	    ask->blocks == 0)
		return false;
	*b = (struct blocks){ to_blocks(v, at), ask->blocks };
	return b->count <= to_blocks(v, v->usable_bytes - at);
}

static enum mem_response do_plug(struct vmem *v, struct blocks b, struct vmem_result *result)
{
	const uint64_t bytes = b.count * v->spec.block_bytes;

	if (!all_are(v, b, false))
		return MEM_ERROR;
	if (v->plugged_bytes >= v->requested_bytes || bytes > v->requested_bytes - v->plugged_bytes)
		return MEM_NACK;
	if (v->busy || b.first + b.count > to_blocks(v, v->mapped_bytes))
		return MEM_BUSY;
	set_blocks(v, b, true);
	result->changed = true;
	result->plugged = to_range(v, b);
	return MEM_ACK;
}

static enum mem_response do_unplug(struct vmem *v, struct blocks b, struct vmem_result *result)
{
	if (!all_are(v, b, true))
		return MEM_ERROR;
	if (v->busy)
		return MEM_BUSY;
	set_blocks(v, b, false);
	v->unplugged = true;
	result->changed = true;
	result->punch = to_range(v, b);
	return MEM_ACK;
}

/* One range: what was unplugged before is punched again, which changes nothing. */
static struct vmem_range unplug_all(struct vmem *v)
{
	memset(v->bitmap, 0, (to_blocks(v, v->spec.region_bytes) + 63) / 64 * sizeof(*v->bitmap));
	v->unplugged |= v->plugged_bytes != 0;
	v->plugged_bytes = 0;
	v->usable_bytes = usable_for(v, v->requested_bytes);
	return (struct vmem_range){ v->spec.addr, v->mapped_bytes };
}

static enum mem_response do_unplug_all(struct vmem *v, struct vmem_result *result)
{
	const uint64_t usable = v->usable_bytes, plugged = v->plugged_bytes;

	if (v->busy)
		return MEM_BUSY;
	result->punch = unplug_all(v);
	result->changed = usable != v->usable_bytes || plugged != 0;
	return MEM_ACK;
}

static enum mem_state state_of(const struct vmem *v, struct blocks b)
{
	if (all_are(v, b, true))
		return MEM_PLUGGED;
	return all_are(v, b, false) ? MEM_UNPLUGGED : MEM_MIXED;
}

static uint32_t judge(struct vmem *v, const struct mem_ask *ask, struct vmem_result *result)
{
	struct blocks b;

	if (ask->request == MEM_UNPLUG_ALL)
		return mem_answer_value((uint16_t)do_unplug_all(v, result), 0);
	/* Not ERROR, which ends the driver: it may be revived. */
	if (ask->request == MEM_REFUSE)
		return mem_answer_value(MEM_BUSY, 0);
	if (ask->request >= MEM_OTHER || !find_blocks(v, ask, &b))
		return mem_answer_value(MEM_ERROR, 0);
	if (ask->request == MEM_PLUG)
		return mem_answer_value((uint16_t)do_plug(v, b, result), 0);
	if (ask->request == MEM_UNPLUG)
		return mem_answer_value((uint16_t)do_unplug(v, b, result), 0);
	return mem_answer_value(MEM_ACK, (uint16_t)state_of(v, b));
}

void vmem_ask(struct vmem *v, const struct mem_ask *ask, struct vmem_result *result)
{
	*result = (struct vmem_result){ .answer = v->answer };
	result->repeated = v->answered && ask->at == v->at;
	if (result->repeated)
		return;
	result->answer = judge(v, ask, result);
	v->answered = true;
	v->at = ask->at;
	v->answer = result->answer;
}

void vmem_take_back(struct vmem *v, struct vmem_result *result)
{
	const struct vmem_range *range = &result->plugged;
	const struct blocks b = { to_blocks(v, range->addr - v->spec.addr),
				  to_blocks(v, range->bytes) };

	set_blocks(v, b, false);
	v->unplugged = true;
	v->answer = mem_answer_value(MEM_BUSY, 0);
	*result = (struct vmem_result){ .answer = v->answer };
}

void vmem_forget(struct vmem *v)
{
	v->answered = false;
}

struct vmem_range vmem_machine_reset(struct vmem *v)
{
	vmem_forget(v);
	return unplug_all(v);
}

/* ---- the configuration space ---- */

void vmem_config(const struct vmem *v, struct mem_config *config)
{
	*config = (struct mem_config){
		.addr = v->spec.addr,
		.region_bytes = v->spec.region_bytes,
		.block_bytes = v->spec.block_bytes,
		.usable_bytes = v->usable_bytes,
		.plugged_bytes = v->plugged_bytes,
		.requested_bytes = v->requested_bytes,
		.node = v->spec.node,
	};
}

void vmem_space(const struct vmem *v, struct virtio_mem_space *space)
{
	struct mem_config config;

	vmem_config(v, &config);
	virtio_mem_space(&config, space);
}
