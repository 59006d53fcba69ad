/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual machine as KVM has it: descriptor, memory slots, in-kernel interrupt controllers, GSI
 * routing, doorbells.  Functions return 0 or -errno; those marked (any thread) lock inside, the
 * others belong to the thread that sets the machine up.
 */
#ifndef MAYFLY_CORE_MACHINE_VM_H
#define MAYFLY_CORE_MACHINE_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/machine/layout.h"
#include "core/machine/memmap.h"

struct vm_msi {
	bool used;
	uint64_t address;
	uint32_t data;
};

struct vm {
	int kvm; /* /dev/kvm */
	int fd;
	int run_bytes; /* of a vCPU's kvm_run mapping */
	bool pvm;      /* kvm_pvm: private, undocumented; only the test guest cares */
	uint8_t phys_bits;
	pthread_mutex_t lock; /* routes */
	struct vm_msi msi[LAYOUT_GSI_MAX];
};

/* Opens /dev/kvm and makes a VM with IOAPIC and LAPICs (split into nothing: all in the kernel; no PIT).
 * On error *what names the thing and what to do: no /dev/kvm, no permission (group kvm), a
 * capability that KVM lacks. */
int vm_create(struct vm *vm, const char **what);
void vm_destroy(struct vm *vm);

/* Gives KVM every region of the epoch as a memory slot; slot i is region i. */
int vm_set_memory(struct vm *vm, const struct box_memory *epoch);

/* Doorbell: a 2-byte write of `value` to gpa signals the eventfd, without an exit to user space
 * (any thread).  Deassigning takes some 8 ms (SRCU): never in a replacement. */
int vm_doorbell(struct vm *vm, uint64_t gpa, uint16_t value, int eventfd, bool assign);

/* Interrupts (any thread).  An MSI route is a GSI from vm_msi_alloc(), inert until it is set. */
int vm_msi_alloc(struct vm *vm, uint32_t *gsi);
void vm_msi_free(struct vm *vm, uint32_t gsi);
int vm_msi_set(struct vm *vm, uint32_t gsi, uint64_t address, uint32_t data);
/* Connects an eventfd to a GSI, or takes it off (then its count keeps what is pending).  Several
 * eventfds may share a GSI. */
int vm_irqfd(struct vm *vm, uint32_t gsi, int eventfd, bool assign);
/* An edge on an IOAPIC pin, from the VMM itself. */
int vm_pulse(struct vm *vm, uint32_t gsi);

#endif
