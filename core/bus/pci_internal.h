/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the PCI code share: pci.c the config space, pci_bar.c the placement of BARs. */
#ifndef MAYFLY_CORE_BUS_PCI_INTERNAL_H
#define MAYFLY_CORE_BUS_PCI_INTERNAL_H

#include "core/bus/pci.h"

/* The header of type 0 (PCI 3.0 section 6.1). */
#define PCI_VENDOR 0x00
#define PCI_DEVICE 0x02
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY 0x0002u
#define PCI_COMMAND_MASTER 0x0004u
#define PCI_COMMAND_NO_INTX 0x0400u
#define PCI_STATUS 0x06
#define PCI_STATUS_CAPABILITIES 0x10u
#define PCI_REVISION 0x08
#define PCI_CACHE_LINE 0x0c
#define PCI_LATENCY 0x0d
#define PCI_BAR(i) (0x10 + 4 * (i))
#define PCI_BARS 6u
#define PCI_SUBVENDOR 0x2c
#define PCI_SUBDEVICE 0x2e
#define PCI_CAPABILITIES 0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_HEADER_BYTES 0x40

static inline uint16_t pci_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void pci_put16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

static inline uint32_t pci_get32(const uint8_t *p)
{
	return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}

static inline void pci_put32(uint8_t *p, uint32_t value)
{
	pci_put16(p, value);
	pci_put16(p + 2, value >> 16);
}

/* Whether [at, at + size) and [from, from + bytes) have a byte in common. */
static inline bool pci_touches(uint32_t at, uint32_t size, uint32_t from, uint32_t bytes)
{
	return at < from + bytes && from < at + size;
}

/* All with the host's lock held.  Gives every BAR of a new device a place. 0, -ENOSPC or -ENOMEM. */
int pci_bars_place(struct pci_host *host, struct pci_device *dev);
/* Takes them off the bus. */
void pci_bars_remove(struct pci_host *host, struct pci_device *dev);
/* Moves what config space wants moved, as far as it can be. */
void pci_bars_settle(struct pci_host *host);

#endif
