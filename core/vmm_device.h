/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device of a VM: what the operator said, made into a box's device and what the guest sees of it.
 * Between the two: hooks of the supervisor go to the transport, calls of the transport go to the
 * supervisor.  Part of core/vmm.c, nobody else's.
 */
#ifndef MAYFLY_CORE_VMM_DEVICE_H
#define MAYFLY_CORE_VMM_DEVICE_H

#include <stdint.h>

#include "core/box/box.h"
#include "core/bus/pci.h"
#include "core/bus/virtio_pci.h"
#include "core/image.h"
#include "core/loop.h"
#include "core/machine/machine.h"
#include "core/options.h"
#include "core/relay.h"
#include "hotplug/balloon.h"
#include "hotplug/rejuvenate.h"
#include "hotplug/reserve.h"

struct vmm_device {
	char id[OPTION_ID_MAX + 1];
	enum dev_kind kind;
	struct device *dev;
	struct virtio_pci *pci; /* NULL: a register device */
	struct virtio_backend backend;
	struct device_hooks hooks;
	uint32_t queues;
	int kick[BOX_QUEUES_MAX];
	int call[BOX_QUEUES_MAX];
	struct image image; /* blk; fd -1: none */
	int source;         /* rng; -1: none */
	struct relay relay;
	bool has_relay;
	struct rejuvenate rejuvenate;
	struct balloon balloon; /* balloon */
	struct memory *memory;  /* mem: its reserve is there; else NULL */
	uint32_t reserve;
};

/* What a device is built from and plugged into. */
struct vmm_site {
	struct machine *machine;
	struct pci_host *pci;
	const struct virtio_machine *transport;
	struct supervisor *sup;
	struct memory *memory;
	struct loop *loop;
	const struct run_options *options;
};

/* Zeroes and closed descriptors, so that vmm_device_destroy() may be called at any time. */
void vmm_device_init(struct vmm_device *d);
/* Each makes the device, its first standby and its place in the machine.  0, or -errno and one line
 * in error. */
int vmm_device_disk(struct vmm_device *d, const struct vmm_site *site, const struct run_disk *disk,
		    struct option_error *error);
int vmm_device_rng(struct vmm_device *d, const struct vmm_site *site, struct option_error *error);
int vmm_device_balloon(struct vmm_device *d, const struct vmm_site *site,
		       struct option_error *error);
/* reserve: its number in the machine and in options. */
int vmm_device_mem(struct vmm_device *d, const struct vmm_site *site, uint32_t reserve,
		   struct option_error *error);
int vmm_device_console(struct vmm_device *d, const struct vmm_site *site,
		       struct option_error *error);
int vmm_device_serial(struct vmm_device *d, const struct vmm_site *site,
		      struct option_error *error);
/* Register devices serve from power-on, others when their driver says so. */
int vmm_device_power_on(struct vmm_device *d);
/* On the loop's thread, once: relays and the schedule begin (rejuvenate_start). */
void vmm_device_join_loop(struct vmm_device *d, struct loop *loop, uint64_t every_ms,
			  uint32_t jitter_permille, uint32_t index, uint32_t count);
/* Machine reset, vCPUs paused: returns when nothing of it touches the guest. */
void vmm_device_reset(struct vmm_device *d);
void vmm_device_destroy(struct vmm_device *d, const struct vmm_site *site);

#endif
