/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one bus, up to 32 single-function devices, reached by ECAM and by CF8/CFC (PCI 3.0 section
 * 3.2.2.3.2, PCIe 5.0 section 7.2.2).  The VMM gives BARs their addresses; a guest may move them
 * within the window.
 *
 * Memory decode is followed only when it leads to an address other than the one in use: Linux
 * switches it off and on around BAR sizing, and unmapping doorbells takes milliseconds.  A BAR that
 * is not decoded stays where it was until another needs the place.
 */
#ifndef MAYFLY_CORE_BUS_PCI_H
#define MAYFLY_CORE_BUS_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/bus/bus.h"

#define PCI_SLOTS 32
#define PCI_CONFIG_BYTES 256 /* of a device; the rest of its 4 KiB reads as ones */

struct pci_device;

struct pci_hooks {
	/* A BAR has a new address; 0: none (before the first, after the last, or it gave way to
	 * another BAR).  All hooks are called with the host's lock held. */
	void (*moved)(struct pci_device *dev, uint32_t bar, uint64_t from, uint64_t to);
	/* The MSI-X control word, the command register (Bus Master) or a capability of the device was
	 * written. */
	void (*written)(struct pci_device *dev, uint32_t offset, uint32_t size);
	/* Reads of a device-specific capability that have effects (virtio PCI_CFG window); may be NULL. */
	void (*reading)(struct pci_device *dev, uint32_t offset, uint32_t size);
};

struct pci_bar {
	uint32_t bytes; /* a power of two, 0: none; 32-bit, not prefetchable */
	uint64_t addr;  /* in use, 0: none */
	const struct bus_ops *ops;
	void *ctx;
};

struct pci_device {
	uint8_t slot;
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* mask of the bits that a guest may change */
	uint8_t initial[PCI_CONFIG_BYTES];  /* for a reset */
	struct pci_bar bars[6];
	uint32_t cap_end;              /* first free byte for capabilities */
	uint8_t last_cap;              /* offset of the last capability, 0: none */
	const struct pci_hooks *hooks; /* may be NULL */
	void *ctx;
};

struct pci_host {
	struct bus *ports;
	struct bus *mmio;
	pthread_mutex_t lock; /* recursive: everything in config space */
	struct pci_device *slots[PCI_SLOTS];
	struct pci_device bridge; /* slot 0 */
	uint32_t address;         /* CF8 */
};

struct pci_identity {
	uint16_t vendor, device, subvendor, subdevice;
	uint8_t revision;
	uint32_t class; /* 24 bits: base class, subclass, interface */
};

/* Claims ECAM on mmio and CF8/CFC on ports; puts a host bridge into slot 0. 0 or -errno. */
int pci_host_create(struct pci_host *host, struct bus *ports, struct bus *mmio);
/* All devices have been unplugged. */
void pci_host_destroy(struct pci_host *host);

/* Fills in the header; no BAR, no capability yet. */
void pci_device_init(struct pci_device *dev, const struct pci_identity *id,
		     const struct pci_hooks *hooks, void *ctx);
/* bytes: a power of two, 16 or more. */
void pci_device_add_bar(struct pci_device *dev, uint32_t bar, uint32_t bytes,
			const struct bus_ops *ops, void *ctx);
/* Adds a capability: body is what follows id and next; `writable` (same length) may be NULL.
 * Returns its offset, or -ENOSPC. */
int pci_device_add_cap(struct pci_device *dev, uint8_t id, const void *body, uint32_t bytes,
		       const void *writable);
/* Gives it a slot and its BARs addresses, and turns memory decode on, as firmware does. 0; -ENOSPC:
 * no slot or no room in the window; -ENOMEM. The device stays the caller's. */
int pci_plug(struct pci_host *host, struct pci_device *dev);
/* Returns when no handler of its BARs runs any more. */
void pci_unplug(struct pci_host *host, struct pci_device *dev);
/* Back to the state after pci_plug(), BARs included; `written` is not called. */
void pci_reset(struct pci_host *host);

/* With the host's lock held: in a hook. */
bool pci_bus_master(const struct pci_device *dev);

#endif
