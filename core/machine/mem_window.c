/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  No sum here can overflow: boot and maximum are below 2^52, as the address
 * width is, and so is every region.
 *
 * Losses: a range of huge pages of 1 GiB is aligned to 1 GiB, so that before it up to 1 GiB can be left
 * over, once a slot.  The window has that in addition; addresses cost nothing.
 */
#include "core/machine/mem_window.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/machine/layout.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define BLOCK_SMALL (128 * MIB)
#define BLOCK_LARGE (2 * GIB)
#define BLOCK_LARGE_FROM (64 * GIB) /* of addresses, not of memory: the hole below 4 GiB counts */
#define PHYS_BITS_MIN 32
#define PHYS_BITS_MAX 52

static int fail(const char **what, const char *text, int ret)
{
	*what = text;
	return ret;
}

static uint64_t round_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Behind boot RAM, at least 4 GiB. */
static uint64_t boot_end(uint64_t bytes)
{
	return bytes <= LAYOUT_RAM_LOW_END ? LAYOUT_RAM_HIGH
					   : LAYOUT_RAM_HIGH + (bytes - LAYOUT_RAM_LOW_END);
}

/* The guest's memory block. */
static uint64_t block_of(uint64_t boot_bytes)
{
	return boot_end(boot_bytes) >= BLOCK_LARGE_FROM ? BLOCK_LARGE : BLOCK_SMALL;
}

static int check_config(const struct mem_window_config *config, uint64_t block, const char **what)
{
	if (config->phys_bits < PHYS_BITS_MIN || config->phys_bits > PHYS_BITS_MAX)
		return fail(what, "memory: the CPU's physical address width makes no sense",
			    -EINVAL);
	if (config->slots == 0 || config->slots > LAYOUT_DIMMS_MAX)
		return fail(what, "memory: slots must be 1 to 64", -EINVAL);
	if (config->boot_bytes == 0)
		return fail(what, "memory: must be more than 0", -EINVAL);
	if (config->max_bytes >= 1ull << config->phys_bits)
		return fail(what, "memory: max is more than this CPU can address", -EINVAL);
	if (config->max_bytes < config->boot_bytes ||
	    config->max_bytes - config->boot_bytes < block)
		return fail(
			what,
			block == BLOCK_LARGE
				? "memory: max must be larger than the memory at boot, by 2 GiB "
				  "at least"
				: "memory: max must be larger than the memory at boot, by 128 "
				  "MiB at least",
			-EINVAL);
	return 0;
}

int mem_window_make(struct mem_window *window, const struct mem_window_config *config,
		    const char **what)
{
	const uint64_t block = block_of(config->boot_bytes);
	const uint64_t align = greater(GIB, block);
	int ret;

	_Static_assert(LAYOUT_DIMMS_MAX == 64, "said in a message");
	memset(window, 0, sizeof(*window));
	ret = check_config(config, block, what);
	if (ret != 0)
		return ret;
	const uint64_t base = round_up(boot_end(config->boot_bytes), align);
	const uint64_t room = round_up(config->max_bytes - config->boot_bytes, align);
	const uint64_t end = base + room + config->slots * align;

	if (end > 1ull << config->phys_bits)
		return fail(what,
			    "memory: max and slots need more addresses than this CPU has: a GiB "
			    "for each slot (2 GiB from 63 GiB of boot memory on) beside max",
			    -EINVAL);
	*window = (struct mem_window){ .base = base, .end = end, .block_bytes = block };
	return 0;
}

/* The end of a region that [gpa, gpa + bytes) meets, or 0. */
static uint64_t meets(const struct mem_region *regions, uint32_t count, uint64_t gpa,
		      uint64_t bytes)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct mem_region *r = &regions[i];

		if (gpa < r->gpa + r->bytes && r->gpa < gpa + bytes)
			return r->gpa + r->bytes;
	}
	return 0;
}

int mem_window_place(const struct mem_window *window, const struct mem_region *regions,
		     uint32_t count, uint64_t bytes, uint64_t page_bytes, uint64_t *gpa,
		     const char **what)
{
	const uint64_t align = greater(window->block_bytes, page_bytes);
	uint64_t at;

	if (window->end == 0)
		return fail(what, "memory: this VM was not started with room for more: give max",
			    -ENOSPC);
	if (bytes == 0 || bytes % window->block_bytes)
		return fail(what,
			    window->block_bytes == BLOCK_LARGE
				    ? "memory: the size must be a multiple of 2 GiB, the guest's "
				      "memory block"
				    : "memory: the size must be a multiple of 128 MiB, the guest's "
				      "memory block",
			    -EINVAL);
	if (bytes % page_bytes)
		return fail(what, "memory: the size must be a multiple of the page size", -EINVAL);
	at = round_up(window->base, align);
	while (bytes <= window->end && at <= window->end - bytes) {
		const uint64_t behind = meets(regions, count, at, bytes);

		if (behind == 0) {
			*gpa = at;
			return 0;
		}
		at = round_up(behind, align);
	}
	return fail(what, "memory: no gap of that size is left in the range for it", -ENOSPC);
}

int mem_window_reserve(const struct mem_window_config *config, uint64_t bytes, uint64_t page_bytes,
		       uint64_t *end, uint64_t *gpa, const char **what)
{
	const uint64_t align = greater(greater(GIB, block_of(config->boot_bytes)), page_bytes);
	const uint64_t at = round_up(greater(*end, boot_end(config->boot_bytes)), align);
	const uint64_t limit = 1ull << config->phys_bits;

	if (at > limit || bytes > limit - at)
		return fail(what, "hotplug-memory: more than this CPU can address", -EINVAL);
	*gpa = at;
	*end = at + bytes;
	return 0;
}
