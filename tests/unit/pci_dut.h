/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI host with some devices of one BAR each, and a guest's ways to reach them. */
#ifndef MAYFLY_TESTS_UNIT_PCI_DUT_H
#define MAYFLY_TESTS_UNIT_PCI_DUT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/bus/pci_internal.h"
#include "core/machine/layout.h"

#define BAR_BYTES 0x4000u
#define DEVICES 4u
#define STRIDE 0x4000ull /* BAR_BYTES, in addresses */

struct dut {
	struct pci_device pci;
	uint64_t tag;  /* what its BAR reads as */
	uint64_t from; /* of the last move */
	uint64_t to;
	uint32_t moves;
	uint32_t written;
	uint32_t readings;
	bool reads_ahead; /* the reading hook counts into the capability */
};

static struct bus *ports;
static struct bus *mmio;
static struct pci_host host;
static struct dut duts[PCI_SLOTS];

static inline uint64_t bar_read(void *ctx, uint64_t offset, uint32_t size)
{
	(void)size;
	return ((struct dut *)ctx)->tag + offset;
}

static inline void bar_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	(void)offset;
	(void)size;
	((struct dut *)ctx)->tag = value;
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

static inline void dut_moved(struct pci_device *pci, uint32_t bar, uint64_t from, uint64_t to)
{
	struct dut *dut = pci->ctx;

	assert_int_equal(bar, 0);
	assert_true(from == dut->to); /* no move is left out */
	dut->from = from;
	dut->to = to;
	dut->moves++;
}

static inline void dut_written(struct pci_device *pci, uint32_t at, uint32_t size)
{
	(void)at;
	(void)size;
	((struct dut *)pci->ctx)->written++;
}

static inline void dut_reading(struct pci_device *pci, uint32_t at, uint32_t size)
{
	struct dut *dut = pci->ctx;

	(void)at;
	(void)size;
	dut->readings++;
	if (dut->reads_ahead)
		pci->config[0x42] = (uint8_t)dut->readings;
}

static const struct pci_hooks hooks = {
	.moved = dut_moved,
	.written = dut_written,
	.reading = dut_reading,
};

static inline void dut_init(uint32_t i, uint32_t bytes)
{
	const struct pci_identity id = {
		.vendor = 0x1234,
		.device = (uint16_t)(0x5000 + i),
		.subvendor = 0x4321,
		.subdevice = 0x9999,
		.revision = 7,
		.class = 0xabcdef,
	};

	duts[i] = (struct dut){ .tag = 0x1000000ull * (i + 1) };
	pci_device_init(&duts[i].pci, &id, &hooks, &duts[i]);
	if (bytes != 0)
		pci_device_add_bar(&duts[i].pci, 0, bytes, &bar_ops, &duts[i]);
}

static inline int setup(void **state)
{
	(void)state;
	assert_int_equal(bus_create(&ports), 0);
	assert_int_equal(bus_create(&mmio), 0);
	assert_int_equal(pci_host_create(&host, ports, mmio), 0);
	for (uint32_t i = 0; i < DEVICES; i++) {
		dut_init(i, BAR_BYTES);
		assert_int_equal(pci_plug(&host, &duts[i].pci), 0);
	}
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < PCI_SLOTS; i++) {
		if (host.slots[i] != NULL)
			pci_unplug(&host, host.slots[i]);
	}
	pci_host_destroy(&host);
	assert_int_equal(bus_read(mmio, LAYOUT_ECAM, 4), 0xffffffff);
	assert_int_equal(bus_read(mmio, LAYOUT_MMIO32, 4), 0xffffffff);
	bus_destroy(ports);
	bus_destroy(mmio);
	return 0;
}

static inline uint64_t ecam(uint32_t slot, uint32_t at)
{
	return LAYOUT_ECAM + slot * 0x8000ull + at;
}

static inline uint32_t get(uint32_t i, uint32_t at, uint32_t size)
{
	return (uint32_t)bus_read(mmio, ecam(i + 1, at), size);
}

static inline void put(uint32_t i, uint32_t at, uint32_t size, uint32_t value)
{
	bus_write(mmio, ecam(i + 1, at), size, value);
}

static inline void put_bar(uint32_t i, uint32_t value)
{
	put(i, PCI_BAR(0), 4, value);
}

static inline void decode(uint32_t i, bool on)
{
	put(i, PCI_COMMAND, 2, on ? PCI_COMMAND_MEMORY : 0);
}

/* Which device answers there; -1: none. */
static inline int who(uint64_t addr)
{
	const uint64_t value = bus_read(mmio, addr, 8);

	return value == UINT64_MAX ? -1 : (int)(value / 0x1000000) - 1;
}
#endif
