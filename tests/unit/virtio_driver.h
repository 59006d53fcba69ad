/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver side of the transport, by the steps that Linux's virtio_pci takes: capabilities are
 * found by walking the list, registers reached through what they say.
 */
#ifndef MAYFLY_TESTS_UNIT_VIRTIO_DRIVER_H
#define MAYFLY_TESTS_UNIT_VIRTIO_DRIVER_H

#include "tests/unit/virtio_fake.h"

#define DRIVER_STATUS 0x14
#define DRIVER_GENERATION 0x15
#define DRIVER_SELECT 0x16
#define DRIVER_SIZE 0x18
#define DRIVER_VECTOR 0x1a
#define DRIVER_ENABLE 0x1c
#define DRIVER_NOTIFY_OFF 0x1e

#define DRIVER_READY (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK)
#define DRIVER_RUNS (DRIVER_READY | VIRTIO_STATUS_DRIVER_OK)

/* Interrupt data of vector v. */
#define DRIVER_DATA(v) (0x4100 + (v))

struct driver {
	struct fake_rig *rig;
	uint32_t cap[6]; /* virtio capabilities by type; 0: absent */
	uint32_t msix;   /* capability */
	uint64_t common;
	uint64_t isr;
	uint64_t device;
	uint64_t notify;
	uint32_t multiplier;
	uint64_t table;
	uint64_t pba;
};

static inline uint64_t driver_part(struct driver *d, uint32_t type)
{
	if (d->cap[type] == 0)
		return 0;
	return fake_bar(d->rig, 1) + fake_config_read(d->rig, 1, d->cap[type] + 8, 4);
}

static inline void driver_probe(struct driver *d, struct fake_rig *rig)
{
	uint32_t at;

	*d = (struct driver){ .rig = rig };
	at = fake_config_read(rig, 1, PCI_CAPABILITIES, 1);
	for (uint32_t hops = 0; at != 0 && hops < 48; hops++) {
		const uint32_t id = fake_config_read(rig, 1, at, 1);
		const uint32_t type = fake_config_read(rig, 1, at + 3, 1);

		if (id == 0x11)
			d->msix = at;
		else if (id == 0x09 && type < 6 && d->cap[type] == 0)
			d->cap[type] = at;
		at = fake_config_read(rig, 1, at + 1, 1);
	}
	d->common = driver_part(d, 1);
	d->notify = driver_part(d, 2);
	d->isr = driver_part(d, 3);
	d->device = driver_part(d, 4);
	d->multiplier = fake_config_read(rig, 1, d->cap[2] + 16, 4);
	d->table = fake_bar(rig, 1) + fake_config_read(rig, 1, d->msix + 4, 4);
	d->pba = fake_bar(rig, 1) + fake_config_read(rig, 1, d->msix + 8, 4);
}

static inline uint32_t driver_get(struct driver *d, uint32_t at, uint32_t size)
{
	return (uint32_t)bus_read(d->rig->mmio, d->common + at, size);
}

static inline void driver_put(struct driver *d, uint32_t at, uint32_t size, uint32_t value)
{
	bus_write(d->rig->mmio, d->common + at, size, value);
}

static inline uint8_t driver_status(struct driver *d)
{
	return (uint8_t)driver_get(d, DRIVER_STATUS, 1);
}

static inline void driver_add_status(struct driver *d, uint8_t bits)
{
	driver_put(d, DRIVER_STATUS, 1, driver_status(d) | bits);
}

static inline uint64_t driver_offered(struct driver *d)
{
	uint64_t features;

	driver_put(d, 0x00, 4, 0);
	features = driver_get(d, 0x04, 4);
	driver_put(d, 0x00, 4, 1);
	return features | (uint64_t)driver_get(d, 0x04, 4) << 32;
}

static inline void driver_accept(struct driver *d, uint64_t features)
{
	driver_put(d, 0x08, 4, 0);
	driver_put(d, 0x0c, 4, (uint32_t)features);
	driver_put(d, 0x08, 4, 1);
	driver_put(d, 0x0c, 4, (uint32_t)(features >> 32));
}

static inline void driver_msix_control(struct driver *d, uint16_t control)
{
	fake_config_write(d->rig, 1, d->msix + 2, 2, control);
}

static inline void driver_vector_mask(struct driver *d, uint32_t vector, bool masked)
{
	bus_write(d->rig->mmio, d->table + vector * 16ull + 12, 4, masked);
}

/* pci_alloc_irq_vectors(): enabled with the function masked, entries written masked, then shown. */
static inline void driver_enable_msix(struct driver *d)
{
	const uint32_t vectors = (fake_config_read(d->rig, 1, d->msix + 2, 2) & 0x7ff) + 1;

	driver_msix_control(d, MSIX_CONTROL_ENABLED | MSIX_CONTROL_MASKED);
	for (uint32_t v = 0; v < vectors; v++) {
		driver_vector_mask(d, v, true);
		bus_write(d->rig->mmio, d->table + v * 16ull, 4, 0xfee00000);
		bus_write(d->rig->mmio, d->table + v * 16ull + 4, 4, 0);
		bus_write(d->rig->mmio, d->table + v * 16ull + 8, 4, DRIVER_DATA(v));
	}
	driver_msix_control(d, MSIX_CONTROL_ENABLED);
	for (uint32_t v = 0; v < vectors; v++)
		driver_vector_mask(d, v, false);
}

static inline uint64_t driver_ring(uint32_t queue, uint32_t area)
{
	return 0x100000000ull * (queue + 1) + 0x10000ull * (area + 1);
}

static inline void driver_setup_queue(struct driver *d, uint32_t queue, uint32_t size,
				      uint32_t vector)
{
	driver_put(d, DRIVER_SELECT, 2, queue);
	driver_put(d, DRIVER_SIZE, 2, size);
	for (uint32_t area = 0; area < 3; area++) {
		driver_put(d, 0x20 + area * 8, 4, (uint32_t)driver_ring(queue, area));
		driver_put(d, 0x24 + area * 8, 4, (uint32_t)(driver_ring(queue, area) >> 32));
	}
	driver_put(d, DRIVER_VECTOR, 2, vector);
	driver_put(d, DRIVER_ENABLE, 2, 1);
}

/* Up to FEATURES_OK, from a reset. */
static inline void driver_negotiate(struct driver *d, uint64_t features)
{
	driver_put(d, DRIVER_STATUS, 1, 0);
	driver_add_status(d, VIRTIO_STATUS_ACKNOWLEDGE);
	driver_add_status(d, VIRTIO_STATUS_DRIVER);
	driver_accept(d, features & driver_offered(d));
	driver_add_status(d, VIRTIO_STATUS_FEATURES_OK);
}

/* All of it: vector 0 for configuration, queue q has vector q + 1. */
static inline void driver_bring_up(struct driver *d)
{
	fake_config_write(d->rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	driver_negotiate(d, UINT64_MAX);
	driver_enable_msix(d);
	driver_put(d, 0x10, 2, 0);
	for (uint32_t q = 0; q < driver_get(d, 0x12, 2); q++)
		driver_setup_queue(d, q, 128, q + 1);
	driver_add_status(d, VIRTIO_STATUS_DRIVER_OK);
}

#endif
