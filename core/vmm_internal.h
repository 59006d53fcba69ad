/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM from the inside: vmm.c is what others call and the order of its life, vmm_build.c how it is
 * put together and taken apart.  Everything here is called with the lock held, but where it says so.
 */
#ifndef MAYFLY_CORE_VMM_INTERNAL_H
#define MAYFLY_CORE_VMM_INTERNAL_H

#include "core/machine/machine.h"
#include "core/station.h"
#include "core/vmm.h"
#include "core/vmm_device.h"
#include "hotplug/memory.h"

struct vmm {
	struct station station; /* its lock is the lock of all of this */
	struct spawner *spawner;
	int exit_status;
	bool awaits_reset; /* the guest has ended, and it is not its turn yet: no vCPU may run */
	struct loop_timer reset_timer;
	uint64_t reset_due_ns; /* of ration_take() */

	struct machine machine;
	bool has_machine;
	struct pci_host pci;
	bool has_pci;
	struct virtio_machine transport;
	struct supervisor *sup;
	struct memory *memory;
	int kernel, initrd;
	struct vmm_device devices[STATION_DEVICES_MAX];
	uint32_t device_count;
};

/* Machine, supervisor, devices, kernel: 0, or -errno and one line in error; vmm_unbuild() follows
 * then. */
int vmm_build(struct vmm *vmm, struct option_error *error);
/* Everything that vmm_build() made, whether all of it or a part. */
void vmm_unbuild(struct vmm *vmm);
/* The kernel and the power: what a start and a reset have in common.  As vmm_build(). */
int vmm_power_on(struct vmm *vmm, struct option_error *error);
/* On the loop's thread, without the lock: relays and timers are the loop's. */
void vmm_join_loop(void *arg);
/* On the loop's thread, without the lock: the guest has ended. */
void vmm_end(void *arg);

#endif
