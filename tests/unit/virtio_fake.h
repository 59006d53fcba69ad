/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine, a backend and a PCI bus for tests of the transport, without KVM.  The machine does what
 * KVM was seen to do (assigning an irqfd injects what is pending, once; deassigning takes the count
 * away), notes what KVM would refuse, and counts.
 */
#ifndef MAYFLY_TESTS_UNIT_VIRTIO_FAKE_H
#define MAYFLY_TESTS_UNIT_VIRTIO_FAKE_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/bus/pci_internal.h"
#include "core/bus/virtio_internal.h"
#include "core/bus/virtio_pci.h"
#include "core/machine/layout.h"
#include "devmodel/abi/virtio.h"

#define FAKE_GSIS 64u
#define FAKE_GSI_FIRST 24u
#define FAKE_IRQFDS 24u
#define FAKE_BELLS 24u

struct fake_gsi {
	bool used;
	bool routed;
	uint64_t address;
	uint32_t data;
	uint32_t sets;
	uint32_t delivered;
};

struct fake_machine {
	struct virtio_machine ops;
	pthread_mutex_t lock;
	struct fake_gsi gsi[FAKE_GSIS];
	struct {
		bool used;
		int eventfd;
		uint32_t gsi;
	} irqfd[FAKE_IRQFDS];
	struct {
		bool used;
		int eventfd;
		uint64_t gpa;
	} bell[FAKE_BELLS];
	uint32_t bell_changes;
	uint32_t wrong; /* calls that KVM would refuse or that leak */
	int fail_bell;  /* -errno to answer with; 0: do it */
	int fail_route;
	int fail_irqfd;
	uint32_t gsis_left; /* msi_alloc fails after so many */
};

static inline bool fake_take(int eventfd)
{
	uint64_t count;

	return read(eventfd, &count, sizeof(count)) == sizeof(count);
}

static inline int fake_doorbell(void *ctx, uint64_t gpa, int eventfd, bool assign)
{
	struct fake_machine *m = ctx;
	uint32_t at = FAKE_BELLS;
	int ret = m->fail_bell;

	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < FAKE_BELLS; i++) {
		const bool same = m->bell[i].used && m->bell[i].gpa == gpa;

		if (same || (assign && !m->bell[i].used && at == FAKE_BELLS))
			at = i;
		m->wrong += same && (assign || m->bell[i].eventfd != eventfd);
	}
	if (!assign || ret == 0) {
		m->wrong += at == FAKE_BELLS;
		if (at < FAKE_BELLS) {
			m->bell[at].used = assign;
			m->bell[at].gpa = gpa;
			m->bell[at].eventfd = eventfd;
		}
		m->bell_changes++;
		ret = 0;
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static inline int fake_msi_alloc(void *ctx, uint32_t *gsi)
{
	struct fake_machine *m = ctx;
	int ret = -ENOSPC;

	pthread_mutex_lock(&m->lock);
	for (uint32_t i = FAKE_GSI_FIRST; i < FAKE_GSIS && ret != 0 && m->gsis_left != 0; i++) {
		if (m->gsi[i].used)
			continue;
		m->gsi[i] = (struct fake_gsi){ .used = true };
		*gsi = i;
		m->gsis_left--;
		ret = 0;
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static inline void fake_msi_free(void *ctx, uint32_t gsi)
{
	struct fake_machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	m->wrong += !m->gsi[gsi].used;
	for (uint32_t i = 0; i < FAKE_IRQFDS; i++)
		m->wrong += m->irqfd[i].used && m->irqfd[i].gsi == gsi;
	m->gsi[gsi].used = false;
	m->gsis_left++;
	pthread_mutex_unlock(&m->lock);
}

static inline int fake_msi_set(void *ctx, uint32_t gsi, uint64_t address, uint32_t data)
{
	struct fake_machine *m = ctx;
	struct fake_gsi *g = &m->gsi[gsi];

	if (m->fail_route != 0) { /* then what is there is not known */
		g->routed = false;
		return m->fail_route;
	}
	pthread_mutex_lock(&m->lock);
	m->wrong += !g->used || (g->routed && g->address == address && g->data == data);
	g->routed = true;
	g->address = address;
	g->data = data;
	g->sets++;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* What the kernel does at each signal: here when the test asks for it. */
static inline void fake_pump(struct fake_machine *m)
{
	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < FAKE_IRQFDS; i++) {
		if (m->irqfd[i].used && fake_take(m->irqfd[i].eventfd))
			m->gsi[m->irqfd[i].gsi].delivered++;
	}
	pthread_mutex_unlock(&m->lock);
}

static inline int fake_irqfd(void *ctx, uint32_t gsi, int eventfd, bool assign)
{
	struct fake_machine *m = ctx;
	uint32_t at = FAKE_IRQFDS;

	if (assign && m->fail_irqfd != 0)
		return m->fail_irqfd;
	fake_pump(m); /* what was signalled before belongs to the state before */
	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < FAKE_IRQFDS; i++) {
		const bool same = m->irqfd[i].used && m->irqfd[i].eventfd == eventfd;

		if (same || (assign && !m->irqfd[i].used && at == FAKE_IRQFDS))
			at = i;
		m->wrong += same && (assign || m->irqfd[i].gsi != gsi);
	}
	m->wrong += at == FAKE_IRQFDS || !m->gsi[gsi].used || (assign && !m->gsi[gsi].routed);
	if (at < FAKE_IRQFDS) {
		m->irqfd[at].used = assign;
		m->irqfd[at].eventfd = eventfd;
		m->irqfd[at].gsi = gsi;
		if (assign && fake_take(eventfd))
			m->gsi[gsi].delivered++;
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static inline void fake_machine_init(struct fake_machine *m)
{
	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	m->gsis_left = FAKE_GSIS;
	m->ops = (struct virtio_machine){ .doorbell = fake_doorbell,
					  .msi_alloc = fake_msi_alloc,
					  .msi_free = fake_msi_free,
					  .msi_set = fake_msi_set,
					  .irqfd = fake_irqfd,
					  .ctx = m };
}

static inline uint32_t fake_irqfds(const struct fake_machine *m)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < FAKE_IRQFDS; i++)
		count += m->irqfd[i].used;
	return count;
}

static inline uint32_t fake_bells(const struct fake_machine *m)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < FAKE_BELLS; i++)
		count += m->bell[i].used;
	return count;
}

static inline uint32_t fake_gsis(const struct fake_machine *m)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < FAKE_GSIS; i++)
		count += m->gsi[i].used;
	return count;
}

/* What interrupted with this data since the machine was made, all vectors. */
static inline uint32_t fake_delivered(struct fake_machine *m, uint32_t data)
{
	uint32_t count = 0;

	fake_pump(m);
	for (uint32_t i = 0; i < FAKE_GSIS; i++)
		count += m->gsi[i].used && m->gsi[i].data == data ? m->gsi[i].delivered : 0;
	return count;
}

struct fake_backend {
	struct virtio_backend ops;
	struct virtio_pci *dev;
	uint32_t starts;
	uint32_t resets;
	uint32_t wrong; /* calls out of order */
	bool running;
	bool answers; /* a reset is done at once */
	int fail_start;
	uint64_t features;
	struct ctl_queue queues[BOX_QUEUES_MAX];
};

struct fake_rig {
	struct bus *ports;
	struct bus *mmio;
	struct pci_host host;
	struct fake_machine machine;
	struct fake_backend backend;
	struct virtio_pci_spec spec;
	struct virtio_pci *dev;
};

static inline int fake_start(void *ctx, uint64_t features, const struct ctl_queue *queues)
{
	struct fake_backend *b = ctx;

	b->wrong += b->running;
	b->starts++;
	if (b->fail_start != 0)
		return b->fail_start;
	b->running = true;
	b->features = features;
	memcpy(b->queues, queues, sizeof(b->queues));
	return 0;
}

static inline void fake_reset(void *ctx)
{
	struct fake_backend *b = ctx;

	b->wrong += !b->running;
	b->running = false;
	b->resets++;
	if (b->answers)
		virtio_pci_reset_done(b->dev);
}

static inline void fake_spec(struct fake_rig *rig, uint32_t queues)
{
	rig->spec = (struct virtio_pci_spec){
		.id = "fake",
		.virtio_id = 2,
		.class = 0x018000,
		.features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_RING_EVENT_IDX | 0x240,
		.queues = queues,
		.queue_size = 256,
		.machine = &rig->machine.ops,
		.backend = &rig->backend.ops,
		.config_bytes = 24,
	};
	for (uint32_t i = 0; i < queues; i++) {
		rig->spec.kick[i] = eventfd(0, EFD_NONBLOCK);
		rig->spec.call[i] = eventfd(0, EFD_NONBLOCK);
	}
	for (uint32_t i = 0; i < rig->spec.config_bytes; i++)
		rig->spec.config[i] = (uint8_t)(0x40 + i);
	memset(rig->spec.config_writable + 8, 0xff, 4);
}

/* Buses, host, one device of `queues` queues in slot 1. 0 or -errno. */
static inline int fake_rig_init(struct fake_rig *rig, uint32_t queues)
{
	int ret;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	rig->backend.ops = (struct virtio_backend){ .start = fake_start,
						    .reset = fake_reset,
						    .ctx = &rig->backend };
	rig->backend.answers = true;
	fake_spec(rig, queues);
	ret = bus_create(&rig->ports);
	if (ret == 0)
		ret = bus_create(&rig->mmio);
	if (ret == 0)
		ret = pci_host_create(&rig->host, rig->ports, rig->mmio);
	if (ret == 0)
		ret = virtio_pci_create(&rig->dev, &rig->host, &rig->spec);
	rig->backend.dev = rig->dev;
	return ret;
}

static inline void fake_rig_free(struct fake_rig *rig)
{
	virtio_pci_destroy(rig->dev);
	pci_host_destroy(&rig->host);
	bus_destroy(rig->ports);
	bus_destroy(rig->mmio);
	for (uint32_t i = 0; i < rig->spec.queues; i++) {
		close(rig->spec.kick[i]);
		close(rig->spec.call[i]);
	}
	pthread_mutex_destroy(&rig->machine.lock);
}

/* A guest's MMIO write as KVM sees it: a doorbell, or an exit. */
static inline void fake_write(struct fake_rig *rig, uint64_t gpa, uint32_t size, uint64_t value)
{
	for (uint32_t i = 0; size == 2 && i < FAKE_BELLS; i++) {
		if (rig->machine.bell[i].used && rig->machine.bell[i].gpa == gpa) {
			eventfd_write(rig->machine.bell[i].eventfd, 1);
			return;
		}
	}
	bus_write(rig->mmio, gpa, size, value);
}

static inline uint64_t fake_ecam(uint32_t slot, uint32_t at)
{
	return LAYOUT_ECAM + slot * 0x8000ull + at;
}

static inline uint32_t fake_config_read(struct fake_rig *rig, uint32_t slot, uint32_t at,
					uint32_t size)
{
	return (uint32_t)bus_read(rig->mmio, fake_ecam(slot, at), size);
}

static inline void fake_config_write(struct fake_rig *rig, uint32_t slot, uint32_t at,
				     uint32_t size, uint32_t value)
{
	bus_write(rig->mmio, fake_ecam(slot, at), size, value);
}

/* Where BAR 0 is for a guest that asks the register. */
static inline uint64_t fake_bar(struct fake_rig *rig, uint32_t slot)
{
	return fake_config_read(rig, slot, PCI_BAR(0), 4) & ~0xfu;
}

#endif
