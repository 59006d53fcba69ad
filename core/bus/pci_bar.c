/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where BARs are.  A BAR has two addresses: the one in its register, which a guest writes as it
 * likes, and the one in use.  It is *at home* when memory decode is on and the two are the same.
 *
 * When decode is on and they differ, the BAR moves, provided that the new place is within the
 * window and no BAR that is at home has a byte of it: a register that was written half, or that
 * holds all ones for sizing, moves nothing.  BARs in the way that are not at home give way; they
 * have no address until decode and register say where to.  So a guest that turns decode off,
 * exchanges addresses and turns it on again finds each device where it put it, and for one that
 * only sizes its BARs nothing happens at all.
 *
 * One pass settles everything: what keeps a BAR out is at home and stays there for the whole pass.
 *
 * A BAR without an address keeps its range on the bus, at a place that no guest can reach, so that
 * giving way and coming back cannot fail for want of memory.
 */
#include <errno.h>

#include "core/bus/pci_internal.h"
#include "core/cc.h"
#include "core/machine/layout.h"

/* Beyond any physical address width. */
static uint64_t bar_parking(const struct pci_device *dev, uint32_t bar)
{
	return 1ull << 60 | (uint64_t)dev->slot << 40 | (uint64_t)bar << 36;
}

static uint64_t bar_on_bus(const struct pci_device *dev, uint32_t bar)
{
	return dev->bars[bar].addr != 0 ? dev->bars[bar].addr : bar_parking(dev, bar);
}

static uint64_t bar_wanted(const uint8_t *config, uint32_t bar)
{
	return pci_get32(config + PCI_BAR(bar)) & ~0xfu;
}

static bool bar_decoded(const struct pci_device *dev)
{
	return (pci_get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY) != 0;
}

static bool bar_at_home(const struct pci_device *dev, uint32_t bar)
{
	return bar_decoded(dev) && dev->bars[bar].addr == bar_wanted(dev->config, bar);
}

static bool bar_in_window(uint64_t addr, uint32_t bytes)
{
	return addr >= LAYOUT_MMIO32 && addr <= LAYOUT_MMIO32_END - bytes;
}

static bool spans_meet(uint64_t a, uint32_t a_bytes, uint64_t b, uint32_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

static void bar_relocate(struct pci_device *dev, uint32_t bar, uint64_t to)
{
	const uint64_t from = dev->bars[bar].addr;

	dev->bars[bar].addr = to;
	if (dev->hooks != NULL && dev->hooks->moved != NULL && from != to)
		dev->hooks->moved(dev, bar, from, to);
}

/* Makes room at [to, to + bytes) for `self`, or says that it cannot be had. */
static bool bar_evict(struct pci_host *host, const struct pci_bar *self, uint64_t to, bool do_it)
{
	for (uint32_t i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		struct pci_device *dev = host->slots[i / PCI_BARS];
		const uint32_t bar = i % PCI_BARS;

		if (dev == NULL || dev->bars[bar].addr == 0 || &dev->bars[bar] == self ||
		    !spans_meet(to, self->bytes, dev->bars[bar].addr, dev->bars[bar].bytes))
			continue;
		if (bar_at_home(dev, bar))
			return false;
		if (!do_it)
			continue;
		CHECK(bus_move(host->mmio, dev->bars[bar].addr, bar_parking(dev, bar)) == 0);
		bar_relocate(dev, bar, 0);
	}
	return true;
}

/* Brings a BAR home if it can be. */
static void bar_settle(struct pci_host *host, struct pci_device *dev, uint32_t bar)
{
	struct pci_bar *b = &dev->bars[bar];
	const uint64_t to = bar_wanted(dev->config, bar);

	if (b->bytes == 0 || b->addr == to || !bar_in_window(to, b->bytes) ||
	    !bar_evict(host, b, to, false))
		return;
	bar_evict(host, b, to, true);
	if (bus_move(host->mmio, bar_on_bus(dev, bar), to) == 0) /* else no BAR is in the way */
		bar_relocate(dev, bar, to);
}

void pci_bars_settle(struct pci_host *host)
{
	for (uint32_t i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		struct pci_device *dev = host->slots[i / PCI_BARS];

		if (dev != NULL && bar_decoded(dev))
			bar_settle(host, dev, i % PCI_BARS);
	}
}

/* Whether no BAR is there, nor will be after pci_reset(). */
static bool span_is_free(const struct pci_host *host, uint64_t addr, uint32_t bytes)
{
	for (uint32_t i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		const struct pci_device *dev = host->slots[i / PCI_BARS];
		const struct pci_bar *b = dev != NULL ? &dev->bars[i % PCI_BARS] : NULL;

		if (b == NULL || b->bytes == 0)
			continue;
		if ((b->addr != 0 && spans_meet(addr, bytes, b->addr, b->bytes)) ||
		    spans_meet(addr, bytes, bar_wanted(dev->initial, i % PCI_BARS), b->bytes))
			return false;
	}
	return true;
}

static int bar_place(struct pci_host *host, struct pci_device *dev, uint32_t bar)
{
	struct pci_bar *b = &dev->bars[bar];

	for (uint64_t at = LAYOUT_MMIO32; bar_in_window(at, b->bytes); at += b->bytes) {
		int ret;

		if (!span_is_free(host, at, b->bytes))
			continue;
		ret = bus_add(host->mmio, at, b->bytes, b->ops, b->ctx);
		if (ret == -EEXIST)
			continue;
		if (ret != 0)
			return ret;
		pci_put32(dev->config + PCI_BAR(bar), (uint32_t)at);
		pci_put32(dev->initial + PCI_BAR(bar), (uint32_t)at);
		bar_relocate(dev, bar, at);
		return 0;
	}
	return -ENOSPC;
}

void pci_bars_remove(struct pci_host *host, struct pci_device *dev)
{
	for (uint32_t bar = 0; bar < PCI_BARS; bar++) {
		/* Not on the bus where placing it failed: -ENOENT is fine. */
		if (dev->bars[bar].bytes == 0)
			continue;
		bus_remove(host->mmio, bar_on_bus(dev, bar));
		bar_relocate(dev, bar, 0);
	}
}

int pci_bars_place(struct pci_host *host, struct pci_device *dev)
{
	for (uint32_t bar = 0; bar < PCI_BARS; bar++) {
		const int ret = dev->bars[bar].bytes != 0 ? bar_place(host, dev, bar) : 0;

		if (ret != 0) {
			pci_bars_remove(host, dev);
			return ret;
		}
	}
	return 0;
}
