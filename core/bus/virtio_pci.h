/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-pci transport (virtio 1.2 section 4.1), modern only: the register file, MSI-X, and the
 * device configuration space, all in the VMM.  It never looks into a queue.  What a driver's writes
 * mean for the device's processes goes out through struct virtio_backend; what they do comes back
 * through virtio_pci_started() and the like.
 *
 * BAR 0: common configuration, ISR, device configuration, notification (4 bytes a queue), MSI-X
 * table, PBA.  A queue's notification is an ioeventfd; the VMM is not on the data path.
 */
#ifndef MAYFLY_CORE_BUS_VIRTIO_PCI_H
#define MAYFLY_CORE_BUS_VIRTIO_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bus/pci.h"
#include "devmodel/abi/message.h"

#define VIRTIO_CONFIG_MAX 256 /* bytes of device configuration */

struct virtio_pci;

/* What the transport needs of the machine: KVM's, or a fake in tests. See core/machine/vm.h. */
struct virtio_machine {
	/* A 2-byte write of any value to gpa signals the eventfd. */
	int (*doorbell)(void *ctx, uint64_t gpa, int eventfd, bool assign);
	int (*msi_alloc)(void *ctx, uint32_t *gsi);
	void (*msi_free)(void *ctx, uint32_t gsi);
	int (*msi_set)(void *ctx, uint32_t gsi, uint64_t address, uint32_t data);
	/* What is pending in the eventfd at assign is delivered, once; deassign leaves nothing. */
	int (*irqfd)(void *ctx, uint32_t gsi, int eventfd, bool assign);
	void *ctx;
};

/* What the driver does to the device; called from vCPU threads with the transport's lock held, must
 * return soon.  Both may wait for the thread that calls virtio_pci_reset_done() and the like: these
 * take no lock that is held here. */
struct virtio_backend {
	/* DRIVER_OK, as many queues as the device has; size 0: not enabled. 0, or -errno: the driver is
	 * told that the device needs a reset. */
	int (*start)(void *ctx, uint64_t features, const struct ctl_queue *queues);
	/* The driver reset it, or took Bus Master away: stop, then virtio_pci_reset_done().  Called only
	 * after start(). */
	void (*reset)(void *ctx);
	void *ctx;
};

struct virtio_pci_spec {
	const char *id;     /* for logs */
	uint16_t virtio_id; /* virtio 1.2 section 5 */
	uint32_t class;     /* PCI class code */
	uint64_t features;  /* offered, transport features included */
	uint64_t
		required; /* of these, VERSION_1 whatever is said here: FEATURES_OK does not stay without */
	uint32_t queues;
	uint16_t queue_size;      /* greatest and default, a power of two */
	int kick[BOX_QUEUES_MAX]; /* eventfds, EFD_NONBLOCK; borrowed */
	int call[BOX_QUEUES_MAX];
	const struct virtio_machine *machine; /* borrowed */
	const struct virtio_backend *backend; /* borrowed */
	uint32_t config_bytes;
	uint8_t config[VIRTIO_CONFIG_MAX];          /* device configuration, initially */
	uint8_t config_writable[VIRTIO_CONFIG_MAX]; /* mask of what a driver may write */
};

/* Makes the device and plugs it into the host. 0; -EINVAL: the spec makes no sense; or -errno of the
 * machine and of pci_plug(). */
int virtio_pci_create(struct virtio_pci **out, struct pci_host *host,
		      const struct virtio_pci_spec *spec);
/* No backend call follows; the backend is stopped by its owner, before or after. */
void virtio_pci_destroy(struct virtio_pci *dev);

/* From any thread, also while a backend call waits for it; none of them blocks.  reset_done: once for
 * each reset(), when nothing touches the rings any more.  needs_reset: the driver is told. */
void virtio_pci_reset_done(struct virtio_pci *dev);
void virtio_pci_needs_reset(struct virtio_pci *dev);
/* Replaces a part of the device configuration and counts its generation up .. */
void virtio_pci_config_set(struct virtio_pci *dev, uint32_t at, const void *config, uint32_t bytes);
/* .. and sends the configuration interrupt. */
void virtio_pci_config_changed(struct virtio_pci *dev, uint32_t at, const void *config,
			       uint32_t bytes);
/* As it is now, with what the driver wrote; also while others change it. */
void virtio_pci_config_get(struct virtio_pci *dev, uint32_t at, void *config, uint32_t bytes);
/* Machine reset, with all vCPUs paused: as at creation, but for the PCI header and BAR addresses,
 * which pci_reset() puts back. The caller has reset the backend and seen that through. */
void virtio_pci_machine_reset(struct virtio_pci *dev);

#endif
