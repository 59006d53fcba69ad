/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the virtio-pci transport share:
 *   virtio_pci.c     the device on the PCI bus: capabilities, BAR, doorbells, creation
 *   virtio_common.c  the common configuration structure, as a table of registers
 *   virtio_life.c    status, start, stop, reset, and what other threads report
 *
 * Locks, in this order: the PCI host's; `lock`, for everything that is not said to be something
 * else's; `config_lock`, a leaf.  What the backend's thread may touch is atomic or under
 * config_lock, for a vCPU may hold `lock` while it waits for that very thread.
 */
#ifndef MAYFLY_CORE_BUS_VIRTIO_INTERNAL_H
#define MAYFLY_CORE_BUS_VIRTIO_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/bus/msix.h"
#include "core/bus/pci.h"
#include "core/bus/virtio_pci.h"

/* Status bits (virtio 1.2 section 2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER 2u
#define VIRTIO_STATUS_DRIVER_OK 4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED 128u

#define VIRTIO_ISR_CONFIG 2u

/* BAR 0 (each part on a page of its own). */
#define VIRTIO_BAR 0
#define VIRTIO_BAR_BYTES 0x8000u
#define VIRTIO_COMMON_AT 0x0000u
#define VIRTIO_COMMON_BYTES 0x38u
#define VIRTIO_ISR_AT 0x1000u
#define VIRTIO_DEVICE_AT 0x2000u
#define VIRTIO_NOTIFY_AT 0x3000u
#define VIRTIO_NOTIFY_STRIDE 4u
#define VIRTIO_TABLE_AT 0x4000u
#define VIRTIO_PBA_AT 0x5000u
#define VIRTIO_PAGE 0x1000u

struct virtio_queue {
	uint16_t size;
	bool enabled;
	uint32_t word[6]; /* descriptor area, driver area, device area; low word first */
};

/* What the backend does, as far as is known. */
enum virtio_run {
	VIRTIO_STOPPED,
	VIRTIO_STARTED,
	VIRTIO_STOPPING, /* backend->reset() called, virtio_pci_reset_done() not seen yet */
};

struct virtio_pci {
	struct pci_device pci;
	struct pci_host *host;
	struct virtio_pci_spec spec;
	pthread_mutex_t lock;

	/* PCI. */
	uint32_t msix_cap; /* offsets of capabilities */
	uint32_t window_cap;
	bool master;
	bool doorbells[BOX_QUEUES_MAX]; /* assigned; under the PCI host's lock */

	/* Interrupts: source q is queue q, source spec.queues the configuration. */
	struct msix msix;
	int config_event;

	/* Common configuration. */
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint32_t driver_features[4]; /* more than we offer, so that too much can be accepted */
	uint16_t queue_select;
	struct virtio_queue queues[BOX_QUEUES_MAX];

	/* Life. */
	uint8_t status; /* atomic; written under lock; without NEEDS_RESET */
	enum virtio_run run;
	bool was_started;      /* since the last reset: the next one costs a generation */
	bool resetting;        /* status 0 was written and does not read back yet */
	uint64_t reset_at_ns;  /* not before this */
	uint64_t reset_due_ns; /* of ration_take() */

	bool complained; /* atomic: of the host; once, for a guest can make it happen again and again */

	/* From other threads. */
	uint32_t stopped; /* atomic: virtio_pci_reset_done() was called */
	uint32_t broken;  /* atomic: DEVICE_NEEDS_RESET */
	uint32_t isr;     /* atomic */

	pthread_mutex_t config_lock;
	uint8_t config[VIRTIO_CONFIG_MAX];
	uint8_t config_generation;
};

/* virtio_common.c, with the lock held; at + size lies within the structure. */
uint32_t virtio_common_read(struct virtio_pci *dev, uint32_t at, uint32_t size);
void virtio_common_write(struct virtio_pci *dev, uint32_t at, uint32_t size, uint32_t value);
/* Puts the registers back to what they are after a reset, but for the status. */
void virtio_common_reset(struct virtio_pci *dev);
/* Whether what the driver accepted was offered, and enough. */
bool virtio_features_acceptable(const struct virtio_pci *dev);
uint64_t virtio_features(const struct virtio_pci *dev);

/* virtio_life.c, with the lock held. */
uint8_t virtio_status(const struct virtio_pci *dev);
void virtio_status_write(struct virtio_pci *dev, uint8_t value);
/* Completes a reset that is due; before each access to the common configuration. */
void virtio_settle(struct virtio_pci *dev);
/* The command register's Bus Master bit may have changed. */
void virtio_set_master(struct virtio_pci *dev, bool master);
/* Any thread: the host refused something. */
void virtio_complain(struct virtio_pci *dev, const char *what, int ret);

#endif
