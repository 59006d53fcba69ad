/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's memory: what it has at boot, what comes and goes, and what must hold between them. */
#include <stdio.h>

#include "core/cc.h"
#include "core/machine/layout.h"
#include "core/machine/memmap.h"
#include "core/options.h"
#include "core/options_internal.h"

_Static_assert(RUN_NODES_MAX == LAYOUT_NODES_MAX, "what the guest's tables have room for");

/* ---- memory ---- */

#define MIB (1ull << 20)

const char *const memory_pages_names[] = {
#define PAGES_NAME(NAME, name) name,
	MEMORY_PAGES(PAGES_NAME)
#undef PAGES_NAME
		NULL,
};

uint64_t memory_page_bytes(enum memory_pages pages)
{
#define PAGES_SAME(NAME, name)                                                                     \
	_Static_assert((int)MEMORY_PAGES_##NAME == (int)MEM_PAGES_##NAME, "the same kinds");
	MEMORY_PAGES(PAGES_SAME)
#undef PAGES_SAME

	return memmap_page_bytes((enum mem_pages)pages);
}

int memory_size_check(const struct run_memory *m, struct option_error *error)
{
	const uint64_t page = memory_page_bytes(m->pages);
	const uint64_t unit = page > MIB ? page : MIB;

	if (m->bytes % unit != 0)
		return option_fail(error, "size must be a multiple of %lluM%s",
				   (unsigned long long)(unit / MIB),
				   page > MIB ? ", the page size" : "");
	if (m->max_bytes != 0 && m->max_bytes < m->bytes)
		return option_fail(error, "max must be at least the size at boot, %lluM",
				   (unsigned long long)(m->bytes / MIB));
	if (m->max_bytes % unit != 0)
		return option_fail(error, "max must be a multiple of %lluM%s",
				   (unsigned long long)(unit / MIB),
				   page > MIB ? ", the page size" : "");
	return 0;
}

int memory_check(void *out, struct option_error *error)
{
	struct run_memory *m = out;

	if (!OPTION_GIVEN(m, OPTION_MEMORY_NODE))
		m->node = RUN_NODE_ANY;
	return memory_size_check(m, error);
}

#define OPTION_STRUCT struct run_memory
static const struct option memory_table[] = { MEMORY_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

const struct option_set memory_set = {
	OPTION_SET(memory_table, struct run_memory),
	.positional = 1,
	.check = memory_check,
};

/* ---- balloon ---- */

static int balloon_option_check(void *out, struct option_error *error)
{
	const struct run_balloon *b = out;

	return b->bytes % MIB == 0 ? 0 : option_fail(error, "amount: not whole MiB");
}

#define OPTION_STRUCT struct run_balloon
static const struct option balloon_table[] = { BALLOON_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

const struct option_set balloon_set = {
	OPTION_SET(balloon_table, struct run_balloon),
	.positional = 1,
	.check = balloon_option_check,
};

int run_balloon_check(const struct run_options *run, uint64_t bytes, struct option_error *error)
{
	if (bytes <= run->memory.bytes)
		return 0;
	return option_fail(error, "amount_mib: %llu is more than the %llu MiB of memory",
			   (unsigned long long)(bytes / MIB),
			   (unsigned long long)(run->memory.bytes / MIB));
}

/* ---- memory hotplug ---- */

#define OPTION_STRUCT struct run_hotplug
static const struct option hotplug_table[] = { HOTPLUG_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

const struct option_set hotplug_set = {
	OPTION_SET(hotplug_table, struct run_hotplug),
	.positional = 1,
	.check = run_hotplug_check,
};

int run_hotplug_check(void *hotplug, struct option_error *error)
{
	const struct run_hotplug *h = hotplug;
	const uint64_t block = h->block_bytes, slot = h->slot_bytes;

	if ((block & (block - 1)) != 0)
		return option_fail(error, "block_size_mib: must be a power of two from 2 on");
	if (slot % block != 0)
		return option_fail(error,
				   "slot_size_mib: must be a multiple of block_size_mib, %llu",
				   (unsigned long long)(block / MIB));
	if (h->total_bytes % slot != 0)
		return option_fail(error,
				   "total_size_mib: must be a multiple of slot_size_mib, %llu",
				   (unsigned long long)(slot / MIB));
	return 0;
}

void run_hotplug_id(uint32_t node, char id[OPTION_ID_MAX + 1])
{
	snprintf(id, OPTION_ID_MAX + 1, "mem%u", node);
}

struct run_hotplug *run_hotplug(struct run_options *run, uint32_t node)
{
	for (uint32_t i = 0; i < run->hotplug_count; i++) {
		if (run->hotplug[i].node == node)
			return &run->hotplug[i];
	}
	return NULL;
}

/* One of all that there are, with what else there is. */
static int hotplug_one_check(const struct run_options *run, const struct run_hotplug *h,
			     struct option_error *error)
{
	const uint64_t page = memory_page_bytes((enum memory_pages)run->memory.pages);

	if (h->block_bytes < page)
		return option_fail(error,
				   "memory-hotplug: block_size_mib: less than a page of the "
				   "memory, %llu MiB",
				   (unsigned long long)(page / MIB));
	if (h->node >= run->memory.nodes)
		return option_fail(error,
				   "memory-hotplug: node: the guest has %u NUMA nodes (--memory "
				   "..,nodes=N)",
				   run->memory.nodes);
	if (run_hotplug((struct run_options *)run, h->node) != h)
		return option_fail(error, "memory-hotplug: node: %u has one already", h->node);
	return 0;
}

int hotplug_check(const struct run_options *run, struct option_error *error)
{
	uint64_t slots = 0;
	int ret = 0;

	for (uint32_t i = 0; i < run->hotplug_count && ret == 0; i++) {
		ret = hotplug_one_check(run, &run->hotplug[i], error);
		slots += run->hotplug[i].total_bytes / run->hotplug[i].slot_bytes;
	}
	if (ret == 0 && slots > LAYOUT_SLICES_MAX)
		return option_fail(error,
				   "memory-hotplug: slot_size_mib: must be larger: %llu slots in "
				   "all are more than %d",
				   (unsigned long long)slots, LAYOUT_SLICES_MAX);
	return ret;
}
