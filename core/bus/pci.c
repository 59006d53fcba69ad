/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space: 256 bytes a device with a mask of the bits that a guest may change, reached
 * through ECAM and through the port pair CF8/CFC.  An access of any size and alignment is one step
 * under the host's lock: its bytes are stored together, and only then is looked at what they mean
 * (a BAR's place, then the hook).  Bytes beyond a device's 256 read as ones and ignore writes.
 *
 * CF8 is a register for accesses of 4 bytes only; all others at these ports are nobody's.
 *
 * Locks.  The host's lock comes first, then whatever a hook takes.  A BAR's handlers must not wait
 * for it, since pci_unplug() waits for them with the lock held.
 */
#include "core/bus/pci.h"

#include <errno.h>
#include <string.h>

#include "core/bus/pci_internal.h"
#include "core/cc.h"
#include "core/machine/layout.h"

#define ECAM_FUNCTION_BYTES 0x1000u
#define ECAM_SLOT_BYTES 0x8000u

#define CF8_ENABLE 0x80000000u
/* Bus 0, function 0 and no extended register (reserved bits that some chipsets use for it). */
#define CF8_NOT_OURS 0x7fff0700u

static uint64_t config_read(struct pci_device *dev, uint32_t at, uint32_t size)
{
	uint64_t value = 0;

	if (dev->hooks != NULL && dev->hooks->reading != NULL && at + size > PCI_HEADER_BYTES)
		dev->hooks->reading(dev, at, size);
	for (uint32_t i = 0; i < size; i++) {
		const uint64_t byte = at + i < PCI_CONFIG_BYTES ? dev->config[at + i] : 0xff;

		value |= byte << (8 * i);
	}
	return value;
}

static void config_store(struct pci_device *dev, uint32_t at, uint32_t size, uint64_t value)
{
	for (uint32_t i = 0; i < size && at + i < PCI_CONFIG_BYTES; i++) {
		const uint8_t mask = dev->writable[at + i];
		const uint8_t byte = (uint8_t)(value >> (8 * i));

		dev->config[at + i] = (uint8_t)((dev->config[at + i] & ~mask) | (byte & mask));
	}
}

static void config_write(struct pci_host *host, struct pci_device *dev, uint32_t at, uint32_t size,
			 uint64_t value)
{
	const bool command = pci_touches(at, size, PCI_COMMAND, 2);

	config_store(dev, at, size, value);
	if (command || pci_touches(at, size, PCI_BAR(0), 4 * PCI_BARS))
		pci_bars_settle(host);
	if (dev->hooks != NULL && dev->hooks->written != NULL &&
	    (command || at + size > PCI_HEADER_BYTES))
		dev->hooks->written(dev, at, size);
}

static uint64_t ecam_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct pci_host *host = ctx;
	const uint32_t at = offset % ECAM_SLOT_BYTES;
	struct pci_device *dev;
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&host->lock);
	dev = host->slots[offset / ECAM_SLOT_BYTES % PCI_SLOTS];
	if (dev != NULL && at < ECAM_FUNCTION_BYTES)
		value = config_read(dev, at, size);
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void ecam_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct pci_host *host = ctx;
	const uint32_t at = offset % ECAM_SLOT_BYTES;
	struct pci_device *dev;

	pthread_mutex_lock(&host->lock);
	dev = host->slots[offset / ECAM_SLOT_BYTES % PCI_SLOTS];
	if (dev != NULL && at < ECAM_FUNCTION_BYTES)
		config_write(host, dev, at, size, value);
	pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };

static uint64_t address_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct pci_host *host = ctx;
	uint64_t value = UINT64_MAX;

	(void)offset;
	pthread_mutex_lock(&host->lock);
	if (size == 4)
		value = host->address;
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void address_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct pci_host *host = ctx;

	(void)offset;
	pthread_mutex_lock(&host->lock);
	if (size == 4)
		host->address = (uint32_t)value;
	pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops address_ops = { .read = address_read, .write = address_write };

/* The device that CF8 selects; NULL: none. */
static struct pci_device *data_device(const struct pci_host *host)
{
	if ((host->address & (CF8_ENABLE | CF8_NOT_OURS)) != CF8_ENABLE)
		return NULL;
	return host->slots[host->address >> 11 & (PCI_SLOTS - 1)];
}

static uint64_t data_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct pci_host *host = ctx;
	struct pci_device *dev;
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&host->lock);
	dev = data_device(host);
	if (dev != NULL)
		value = config_read(dev, (host->address & 0xfc) + (uint32_t)offset, size);
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void data_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct pci_host *host = ctx;
	struct pci_device *dev;

	pthread_mutex_lock(&host->lock);
	dev = data_device(host);
	if (dev != NULL)
		config_write(host, dev, (host->address & 0xfc) + (uint32_t)offset, size, value);
	pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops data_ops = { .read = data_read, .write = data_write };

static void host_init_lock(struct pci_host *host)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&host->lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

static void host_unclaim(struct pci_host *host)
{
	bus_remove(host->ports, LAYOUT_PORT_PCI_DATA);
	bus_remove(host->ports, LAYOUT_PORT_PCI_ADDRESS);
	bus_remove(host->mmio, LAYOUT_ECAM);
}

static int host_claim(struct pci_host *host)
{
	int ret = bus_add(host->mmio, LAYOUT_ECAM, LAYOUT_ECAM_BYTES, &ecam_ops, host);

	if (ret != 0)
		return ret;
	ret = bus_add(host->ports, LAYOUT_PORT_PCI_ADDRESS, 4, &address_ops, host);
	if (ret != 0)
		goto unclaim_ecam;
	ret = bus_add(host->ports, LAYOUT_PORT_PCI_DATA, 4, &data_ops, host);
	if (ret == 0)
		return 0;
	bus_remove(host->ports, LAYOUT_PORT_PCI_ADDRESS);
unclaim_ecam:
	bus_remove(host->mmio, LAYOUT_ECAM);
	return ret;
}

int pci_host_create(struct pci_host *host, struct bus *ports, struct bus *mmio)
{
	/* The number that Red Hat keeps for a generic PCIe host bridge. */
	static const struct pci_identity bridge = {
		.vendor = 0x1b36,
		.device = 0x0008,
		.subvendor = 0x1af4,
		.subdevice = 0x1100,
		.class = 0x060000,
	};
	int ret;

	_Static_assert(LAYOUT_ECAM_BYTES / ECAM_SLOT_BYTES == PCI_SLOTS, "one bus");
	memset(host, 0, sizeof(*host));
	host->ports = ports;
	host->mmio = mmio;
	host_init_lock(host);
	pci_device_init(&host->bridge, &bridge, NULL, NULL);
	memcpy(host->bridge.initial, host->bridge.config, PCI_CONFIG_BYTES);
	host->slots[0] = &host->bridge;
	ret = host_claim(host);
	if (ret != 0)
		pthread_mutex_destroy(&host->lock);
	return ret;
}

void pci_host_destroy(struct pci_host *host)
{
	host_unclaim(host);
	for (uint32_t i = 1; i < PCI_SLOTS; i++)
		CHECK(host->slots[i] == NULL);
	pthread_mutex_destroy(&host->lock);
}

void pci_device_init(struct pci_device *dev, const struct pci_identity *id,
		     const struct pci_hooks *hooks, void *ctx)
{
	uint8_t *config = dev->config;

	memset(dev, 0, sizeof(*dev));
	dev->hooks = hooks;
	dev->ctx = ctx;
	dev->cap_end = PCI_HEADER_BYTES;
	pci_put16(config + PCI_VENDOR, id->vendor);
	pci_put16(config + PCI_DEVICE, id->device);
	pci_put32(config + PCI_REVISION, id->class << 8 | id->revision);
	pci_put16(config + PCI_SUBVENDOR, id->subvendor);
	pci_put16(config + PCI_SUBDEVICE, id->subdevice);
	/* No interrupt pin (0x3d stays 0) and no I/O BAR, so no I/O decode.  The rest is scratch
	 * for the guest. */
	pci_put16(dev->writable + PCI_COMMAND,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
	dev->writable[PCI_CACHE_LINE] = 0xff;
	dev->writable[PCI_LATENCY] = 0xff;
	dev->writable[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_device_add_bar(struct pci_device *dev, uint32_t bar, uint32_t bytes,
			const struct bus_ops *ops, void *ctx)
{
	CHECK(bar < PCI_BARS && bytes >= 16 && (bytes & (bytes - 1)) == 0);
	dev->bars[bar] = (struct pci_bar){ .bytes = bytes, .ops = ops, .ctx = ctx };
	pci_put32(dev->writable + PCI_BAR(bar), ~(bytes - 1));
}

int pci_device_add_cap(struct pci_device *dev, uint8_t id, const void *body, uint32_t bytes,
		       const void *writable)
{
	const uint32_t at = dev->cap_end;

	if (bytes > PCI_CONFIG_BYTES || at + 2 + bytes > PCI_CONFIG_BYTES)
		return -ENOSPC;
	dev->config[at] = id;
	memcpy(dev->config + at + 2, body, bytes);
	if (writable != NULL)
		memcpy(dev->writable + at + 2, writable, bytes);
	dev->config[dev->last_cap != 0 ? dev->last_cap + 1 : PCI_CAPABILITIES] = (uint8_t)at;
	dev->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
	dev->last_cap = (uint8_t)at;
	dev->cap_end = (at + 2 + bytes + 3) & ~3u;
	return (int)at;
}

int pci_plug(struct pci_host *host, struct pci_device *dev)
{
	uint8_t slot = 1;
	int ret = -ENOSPC;

	pthread_mutex_lock(&host->lock);
	while (slot < PCI_SLOTS && host->slots[slot] != NULL)
		slot++;
	if (slot < PCI_SLOTS) {
		dev->slot = slot;
		pci_put16(dev->config + PCI_COMMAND, PCI_COMMAND_MEMORY);
		memcpy(dev->initial, dev->config, PCI_CONFIG_BYTES);
		host->slots[slot] = dev;
		ret = pci_bars_place(host, dev);
		if (ret != 0)
			host->slots[slot] = NULL;
	}
	pthread_mutex_unlock(&host->lock);
	return ret;
}

void pci_unplug(struct pci_host *host, struct pci_device *dev)
{
	pthread_mutex_lock(&host->lock);
	host->slots[dev->slot] = NULL;
	pci_bars_remove(host, dev);
	pci_bars_settle(host); /* somebody may have waited for the place */
	pthread_mutex_unlock(&host->lock);
}

void pci_reset(struct pci_host *host)
{
	pthread_mutex_lock(&host->lock);
	for (uint32_t i = 0; i < PCI_SLOTS; i++) {
		if (host->slots[i] != NULL)
			memcpy(host->slots[i]->config, host->slots[i]->initial, PCI_CONFIG_BYTES);
	}
	pci_bars_settle(host);
	host->address = 0;
	pthread_mutex_unlock(&host->lock);
}

bool pci_bus_master(const struct pci_device *dev)
{
	return (pci_get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER) != 0;
}
