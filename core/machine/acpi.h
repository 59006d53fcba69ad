/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4), hardware-reduced: RSDP, XSDT, FADT, MADT, MCFG, SRAT and the DSDT that iasl
 * compiled from dsdt.asl; and the few registers behind them: sleep, reset, GED, panic;
 * and the reset of a keyboard controller.
 */
#ifndef MAYFLY_CORE_MACHINE_ACPI_H
#define MAYFLY_CORE_MACHINE_ACPI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/bus/bus.h"
#include "core/machine/layout.h"
#include "core/machine/memmap.h"
#include "core/machine/vcpu.h"
#include "core/machine/vm.h"

/* Memory that the guest has or may get, as the SRAT says it (section 5.2.16.2). */
struct acpi_range {
	uint64_t gpa, bytes;
	uint32_t node; /* proximity domain; those from 0 on, without a gap */
	bool hotplug;  /* not there at boot */
};

#define ACPI_RANGES_MAX (2 + 2 * LAYOUT_NODES_MAX) /* boot RAM, the window's shares, reserves */

struct acpi_config {
	uint32_t cpus; /* 1 .. LAYOUT_CPUS_MAX; all in domain 0 */
	uint32_t range_count;
	struct acpi_range ranges[ACPI_RANGES_MAX]; /* none: no SRAT */
};

/* Writes the tables at LAYOUT_ACPI, and the code at the reset vector; *rsdp is the tables' root.
 * 0; -ENOMEM: no RAM there. */
int acpi_build(const struct memmap *mm, const struct acpi_config *config, uint64_t *rsdp);

struct acpi_regs {
	struct vm *vm;
	/* From a vCPU thread, each time that the guest asks for an end; must not wait for vCPUs. */
	void (*ended)(void *ctx, enum guest_end end);
	void *ctx;
	pthread_mutex_t
		lock; /* of what follows, and of the GED's line, which is up while it is not 0 */
	uint32_t ged_pending; /* GED_* */
};

/* Claims the ports; vm, ended and ctx are set. 0 or -errno. */
int acpi_regs_attach(struct acpi_regs *regs, struct bus *ports);
/* Events of the GED: GED_* bits (any thread).  They are pending until the guest reads them, be its
 * driver there yet or not.  0 or KVM's -errno; they are pending even then. */
int acpi_ged_raise(struct acpi_regs *regs, uint32_t events);
/* Presses the power button (any thread).  As acpi_ged_raise(). */
int acpi_power_button(struct acpi_regs *regs);
/* After a reset: nothing is pending. */
void acpi_regs_reset(struct acpi_regs *regs);

#endif
