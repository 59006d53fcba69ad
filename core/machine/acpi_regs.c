/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Eight ports of ACPI and one of pvpanic, each a byte but for the GED's, which
 * is a doubleword that reads once.  An access of another width to the GED would lose events, so it
 * reads 0 and takes nothing.  The GED's line is up while an event is pending, and its pin is a level: an
 * edge that comes while the pin is masked is lost in KVM's IOAPIC, so that what happens before the
 * guest's driver is there would be heard of only with the next event.  A guest may end the machine as often as it likes; whoever is told
 * decides what is the first time.
 *
 * Of the keyboard controller there is one command, the pulse on the reset line: `reboot=k`, which the
 * command lines of Firecracker's clients carry.  Its status reads as a port that nobody claims would,
 * so that a probe for a keyboard finds none, but with "input buffer full" off: Linux waits for that
 * before the pulse, ten times up to 0x10000 looks.
 */
#include <errno.h>

#include "core/cc.h"
#include "core/machine/acpi.h"
#include "core/machine/layout.h"

#define ACPI_PORTS LAYOUT_PORT_SLEEP_CONTROL
#define ACPI_PORTS_BYTES 8
#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE(value) ((value) >> 2 & 7)
#define KEYBOARD_INPUT_FULL 2u
#define PANICKED 1u /* pvpanic's bit 0: what is supported, and what is reported */

_Static_assert(LAYOUT_PORT_GED + 4 == ACPI_PORTS + ACPI_PORTS_BYTES, "one range of ports");

/* What was pending. */
static uint32_t ged_take(struct acpi_regs *regs)
{
	pthread_mutex_lock(&regs->lock);
	const uint32_t events = regs->ged_pending;

	regs->ged_pending = 0;
	(void)vm_line(regs->vm, LAYOUT_GSI_GED, false);
	pthread_mutex_unlock(&regs->lock);
	return events;
}

static uint64_t acpi_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct acpi_regs *regs = ctx;

	if (offset == LAYOUT_PORT_GED - ACPI_PORTS && size == 4)
		return ged_take(regs);
	return 0;
}

static void acpi_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct acpi_regs *regs = ctx;

	if (size != 1)
		return;
	if (offset == LAYOUT_PORT_SLEEP_CONTROL - ACPI_PORTS && (value & SLEEP_ENABLE) &&
	    SLEEP_TYPE(value) == LAYOUT_S5_TYPE)
		regs->ended(regs->ctx, GUEST_END_POWER_OFF);
	else if (offset == LAYOUT_PORT_RESET - ACPI_PORTS && value == LAYOUT_RESET_VALUE)
		regs->ended(regs->ctx, GUEST_END_RESET);
}

static uint64_t panic_read(void *ctx, uint64_t offset, uint32_t size)
{
	(void)ctx, (void)offset, (void)size;
	return PANICKED;
}

static void panic_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct acpi_regs *regs = ctx;

	(void)offset, (void)size;
	if (value & PANICKED)
		regs->ended(regs->ctx, GUEST_END_PANIC);
}

static uint64_t keyboard_read(void *ctx, uint64_t offset, uint32_t size)
{
	(void)ctx, (void)offset, (void)size;
	return UINT8_MAX & ~KEYBOARD_INPUT_FULL;
}

static void keyboard_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct acpi_regs *regs = ctx;

	(void)offset, (void)size;
	if (value == LAYOUT_KEYBOARD_PULSE_RESET)
		regs->ended(regs->ctx, GUEST_END_RESET);
}

static const struct bus_ops acpi_ops = { .read = acpi_read, .write = acpi_write };
static const struct bus_ops panic_ops = { .read = panic_read, .write = panic_write };
static const struct bus_ops keyboard_ops = { .read = keyboard_read, .write = keyboard_write };

static const struct {
	uint64_t base, bytes;
	const struct bus_ops *ops;
} ranges[] = {
	{ ACPI_PORTS, ACPI_PORTS_BYTES, &acpi_ops },
	{ LAYOUT_PORT_PANIC, 1, &panic_ops },
	{ LAYOUT_PORT_KEYBOARD, 1, &keyboard_ops },
};

int acpi_regs_attach(struct acpi_regs *regs, struct bus *ports)
{
	size_t i = 0;
	int ret = 0;

	pthread_mutex_init(&regs->lock, NULL);
	for (; i < ARRAY_SIZE(ranges) && ret == 0; i++)
		ret = bus_add(ports, ranges[i].base, ranges[i].bytes, ranges[i].ops, regs);
	if (ret == 0)
		return 0;
	for (i--; i > 0; i--) /* the last one is not there */
		(void)bus_remove(ports, ranges[i - 1].base);
	return ret;
}

int acpi_ged_raise(struct acpi_regs *regs, uint32_t events)
{
	pthread_mutex_lock(&regs->lock);
	regs->ged_pending |= events;
	const int ret = vm_line(regs->vm, LAYOUT_GSI_GED, true);

	pthread_mutex_unlock(&regs->lock);
	return ret;
}

int acpi_power_button(struct acpi_regs *regs)
{
	return acpi_ged_raise(regs, GED_POWER_BUTTON);
}

void acpi_regs_reset(struct acpi_regs *regs)
{
	(void)ged_take(regs);
}
