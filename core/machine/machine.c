/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Only the order is of interest.  Memory is made after KVM, which knows how far
 * addresses go.  ACPI's ports come before the vCPUs, and vCPUs are destroyed first: their threads are
 * the only ones that use the buses.
 *
 * A guest ends at its first end; what its other vCPUs do until they are paused is not heard.
 */
#include "core/machine/machine.h"

#include <errno.h>
#include <string.h>

#include "core/cc.h"

#define SHARE_ALIGN (128ull << 20) /* of a window of 2 GiB or more */

static void machine_ended(void *ctx, enum guest_end end)
{
	struct machine *m = ctx;
	uint32_t none = GUEST_END_NONE;

	if (__atomic_compare_exchange_n(&m->end, &none, end, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		m->config.ended(m->config.ctx, end);
}

static int create_buses(struct machine *m, const char **what)
{
	int ret = bus_create(&m->ports);

	*what = "out of memory";
	if (ret == 0)
		ret = bus_create(&m->mmio);
	if (ret == 0) {
		m->acpi = (struct acpi_regs){ .vm = &m->vm, .ended = machine_ended, .ctx = m };
		ret = acpi_regs_attach(&m->acpi, m->ports);
	}
	if (ret == 0) {
		m->dimms = (struct acpi_memory){ .regs = &m->acpi, .hooks = m->config.dimms };
		ret = acpi_memory_attach(&m->dimms, m->ports);
	}
	return ret;
}

static struct mem_window_config window_config(const struct machine *m)
{
	return (struct mem_window_config){ .boot_bytes = m->config.memory.bytes,
					   .max_bytes = m->config.room.max_bytes,
					   .slots = m->config.room.slots,
					   .phys_bits = m->vm.phys_bits };
}

static int create_window(struct machine *m, const char **what)
{
	const struct mem_window_config config = window_config(m);

	*what = "memory: the guest can have 8 NUMA nodes at most";
	if (m->config.room.nodes > LAYOUT_NODES_MAX)
		return -EINVAL;
	return config.max_bytes == 0 ? 0 : mem_window_make(&m->window, &config, what);
}

/* Behind the window. */
static int create_reserves(struct machine *m, const char **what)
{
	const struct mem_window_config window = window_config(m);
	uint64_t end = m->window.end;
	int ret = 0;

	for (uint32_t i = 0; i < m->config.reserve_count && ret == 0; i++) {
		const struct machine_reserve *r = &m->config.reserves[i];
		struct memmap_config config = m->config.memory;
		uint64_t gpa = 0;

		config.bytes = r->bytes;
		ret = mem_window_reserve(&window, r->bytes, memmap_page_bytes(config.pages), &end,
					 &gpa, what);
		if (ret == 0)
			ret = memmap_add_reserve(&m->memory, &config, gpa, r->slot_bytes, what);
	}
	return ret;
}

static int create_rest(struct machine *m, const char **what)
{
	int ret;

	m->config.memory.phys_bits = m->vm.phys_bits;
	ret = create_window(m, what);
	if (ret == 0)
		ret = memmap_create(&m->memory, &m->config.memory, what);
	if (ret == 0)
		ret = create_reserves(m, what);
	if (ret != 0)
		return ret;
	ret = vm_set_memory(&m->vm, &m->memory.epoch);
	if (ret != 0) {
		*what = "KVM: does not take this memory (KVM_SET_USER_MEMORY_REGION)";
		return ret;
	}
	ret = create_buses(m, what);
	if (ret != 0)
		return ret;
	const struct vcpus_config vcpus = { .vm = &m->vm,
					    .ports = m->ports,
					    .mmio = m->mmio,
					    .count = m->config.cpus,
					    .ended = machine_ended,
					    .ctx = m };

	return vcpus_create(&m->vcpus, &vcpus, what);
}

int machine_create(struct machine *m, const struct machine_config *config, const char **what)
{
	int ret;

	memset(m, 0, sizeof(*m));
	m->config = *config;
	ret = vm_create(&m->vm, what);
	if (ret != 0)
		return ret;
	ret = create_rest(m, what);
	if (ret != 0)
		machine_destroy(m);
	return ret;
}

void machine_destroy(struct machine *m)
{
	if (m->vcpus)
		vcpus_destroy(m->vcpus);
	if (m->mmio)
		bus_destroy(m->mmio);
	if (m->ports)
		bus_destroy(m->ports);
	vm_destroy(&m->vm);
	memmap_destroy(&m->memory);
	m->vcpus = NULL;
	m->mmio = m->ports = NULL;
}

static void add_range(struct acpi_config *acpi, struct acpi_range range)
{
	acpi->ranges[acpi->range_count++] = range;
}

/* The window, a share for each domain: the guest has to know of a domain, or it takes a DIMM of it for one
 * of another.  Where a DIMM lies says nothing, its _PXM does.  (An empty share makes Linux complain.) */
static void add_shares(struct acpi_config *acpi, const struct machine *m)
{
	const uint32_t nodes = m->config.room.nodes ? m->config.room.nodes : 1;
	const uint64_t share = (m->window.end - m->window.base) / nodes & ~(SHARE_ALIGN - 1);

	for (uint32_t node = 0; node < nodes; node++) {
		const uint64_t gpa = m->window.base + node * share;

		add_range(acpi, (struct acpi_range){
					.gpa = gpa,
					.bytes = node + 1 < nodes ? share : m->window.end - gpa,
					.node = node,
					.hotplug = true });
	}
}

static void add_reserves(struct acpi_config *acpi, const struct machine *m)
{
	for (uint32_t i = 0; i < m->memory.reserve_count; i++)
		add_range(acpi, (struct acpi_range){ .gpa = m->memory.reserves[i].gpa,
						     .bytes = m->memory.reserves[i].bytes,
						     .node = m->config.reserves[i].node,
						     .hotplug = true });
}

/* Boot RAM is domain 0's. */
static struct acpi_config acpi_config(const struct machine *m)
{
	const uint64_t bytes = m->config.memory.bytes;
	const uint64_t low = bytes < LAYOUT_RAM_LOW_END ? bytes : LAYOUT_RAM_LOW_END;
	struct acpi_config acpi = { .cpus = m->config.cpus };

	_Static_assert(LAYOUT_NODES_MAX == 8, "said in a message");
	if (m->window.end == 0 && m->memory.reserve_count == 0)
		return acpi;
	add_range(&acpi, (struct acpi_range){ .bytes = low });
	if (bytes > low)
		add_range(&acpi,
			  (struct acpi_range){ .gpa = LAYOUT_RAM_HIGH, .bytes = bytes - low });
	if (m->window.end != 0)
		add_shares(&acpi, m);
	add_reserves(&acpi, m);
	return acpi;
}

int machine_load(struct machine *m, const struct boot_config *boot, const char **what)
{
	const struct acpi_config acpi = acpi_config(m);
	struct boot_config with_rsdp = *boot;
	int ret = vm_reset(&m->vm);

	*what = "KVM: cannot reset the interrupt controllers";
	if (ret != 0)
		return ret;
	acpi_regs_reset(&m->acpi); /* first: an event that comes in between is raised, or void */
	acpi_memory_reset(&m->dimms);
	*what = "memory: too little for a PC";
	ret = acpi_build(&m->memory, &acpi, &with_rsdp.rsdp);
	if (ret == 0)
		ret = boot_load(&m->memory, &with_rsdp, &m->entry, what);
	if (ret != 0)
		return ret;
	*what = "KVM: cannot reset the vCPUs";
	ret = vcpus_reset(m->vcpus, &m->entry);
	if (ret == 0)
		__atomic_store_n(&m->end, GUEST_END_NONE, __ATOMIC_SEQ_CST);
	return ret;
}

void machine_resume(struct machine *m)
{
	vcpus_resume(m->vcpus);
}

void machine_pause(struct machine *m)
{
	vcpus_pause(m->vcpus);
}

enum guest_end machine_end(const struct machine *m)
{
	return __atomic_load_n(&m->end, __ATOMIC_SEQ_CST);
}
