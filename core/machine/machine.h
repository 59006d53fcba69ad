/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine without its devices: memory, KVM, the two buses, vCPUs, ACPI.  Whoever owns it adds
 * devices to the buses between machine_create() and machine_load(), and decides what an end of the
 * guest means:
 *
 *   create -> load -> resume -> [pause -> resume]* -> (ended) pause -> reset devices -> load -> resume
 *                                                                   -> destroy
 *
 * One thread at a time may call these functions, never a vCPU's.
 */
#ifndef MAYFLY_CORE_MACHINE_MACHINE_H
#define MAYFLY_CORE_MACHINE_MACHINE_H

#include <stdint.h>

#include "core/bus/bus.h"
#include "core/machine/acpi.h"
#include "core/machine/acpi_memory.h"
#include "core/machine/boot.h"
#include "core/machine/mem_window.h"
#include "core/machine/memmap.h"
#include "core/machine/vcpu.h"
#include "core/machine/vm.h"

/* Room for memory that is added while the guest runs.  max_bytes 0: none. */
struct machine_room {
	uint64_t max_bytes; /* the most in all, with what it boots with */
	uint32_t slots;     /* see mem_window.h */
	uint32_t nodes;     /* proximity domains that the guest is told of, 0: one */
};

/* Memory of which the guest gets and gives back parts by itself (virtio-mem), a reserve of memmap.h. */
struct machine_reserve {
	uint64_t bytes;
	uint64_t slot_bytes;
	uint32_t node; /* proximity domain */
};

struct machine_config {
	struct memmap_config memory; /* phys_bits is filled in: what KVM can do */
	struct machine_room room;
	struct machine_reserve reserves[LAYOUT_NODES_MAX]; /* memory's pages and node */
	uint32_t reserve_count;
	uint32_t cpus;
	struct acpi_memory_hooks dimms; /* what the guest says of its DIMMs; may be all NULL */
	/* The guest has ended: once until the next machine_load(), from a vCPU thread; must not wait
	 * for vCPUs, nor call a function of this file.  The machine still runs. */
	void (*ended)(void *ctx, enum guest_end end);
	void *ctx;
};

struct machine {
	struct machine_config config;
	struct vm vm;
	struct memmap memory;
	struct bus *ports;
	struct bus *mmio;
	struct vcpus *vcpus;
	struct acpi_regs acpi;
	struct acpi_memory dimms;
	struct mem_window window; /* where DIMMs can be; none without room */
	struct boot_entry entry;  /* of the last machine_load() */
	uint32_t end;             /* enum guest_end, the first one; atomic */
};

/* Paused and without a kernel.  Installs a handler for SIGRTMIN.  0 or -errno, *what says it in
 * words; nothing is left then.  The struct must stay where it is. */
int machine_create(struct machine *m, const struct machine_config *config, const char **what);
void machine_destroy(struct machine *m);

/* As after power-on, with the kernel in memory: for the first start and for a reset in place.  Must
 * be paused; the caller has reset its devices.  The rest of guest memory is left as it is.  kernel,
 * initrd and cmdline as in struct boot_config; its rsdp is ignored.  0, or boot_load()'s -errno. */
int machine_load(struct machine *m, const struct boot_config *boot, const char **what);

/* Paused is how it begins. */
void machine_resume(struct machine *m);
/* Returns when no vCPU runs or is in a bus access. */
void machine_pause(struct machine *m);

/* GUEST_END_NONE: the guest goes on (any thread). */
enum guest_end machine_end(const struct machine *m);

#endif
