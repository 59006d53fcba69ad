/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4), hardware-reduced: RSDP, XSDT, FADT, MADT, MCFG and the DSDT that iasl
 * compiled from dsdt.asl; and the few registers behind them: sleep, reset, GED, panic;
 * and the reset of a keyboard controller.
 */
#ifndef MAYFLY_CORE_MACHINE_ACPI_H
#define MAYFLY_CORE_MACHINE_ACPI_H

#include <stdint.h>

#include "core/bus/bus.h"
#include "core/machine/memmap.h"
#include "core/machine/vcpu.h"
#include "core/machine/vm.h"

/* Writes the tables at LAYOUT_ACPI, and the code at the reset vector; *rsdp is the tables' root.
 * 0; -ENOMEM: no RAM there. */
int acpi_build(const struct memmap *mm, uint32_t cpus, uint64_t *rsdp);

struct acpi_regs {
	struct vm *vm;
	/* From a vCPU thread, each time that the guest asks for an end; must not wait for vCPUs. */
	void (*ended)(void *ctx, enum guest_end end);
	void *ctx;
	uint32_t ged_pending; /* GED_*; atomic */
};

/* Claims the ports; all fields are set. 0 or -errno. */
int acpi_regs_attach(struct acpi_regs *regs, struct bus *ports);
/* Presses the power button (any thread). */
int acpi_power_button(struct acpi_regs *regs);
/* After a reset. */
void acpi_regs_reset(struct acpi_regs *regs);

#endif
