/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4), hardware-reduced: RSDP, XSDT, FADT, MADT, MCFG and the DSDT that iasl
 * compiled from dsdt.asl; and the few registers behind them: sleep, reset, GED, panic;
 * and the reset of a keyboard controller.
 */
#ifndef MAYFLY_CORE_MACHINE_ACPI_H
#define MAYFLY_CORE_MACHINE_ACPI_H

#include <pthread.h>
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
