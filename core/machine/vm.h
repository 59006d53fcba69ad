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

struct kvm_irqchip;

struct vm_msi {
	bool used;
	bool set; /* has a route */
	uint64_t address;
	uint32_t data;
};

/* A memory slot as KVM has it; bytes 0: free. */
struct vm_slot {
	uint64_t gpa;
	uint64_t bytes;
	uint64_t addr;
};

#define VM_SLOTS_MAX (MEM_REGIONS_MAX + LAYOUT_SLICES_MAX)

struct vm {
	int kvm; /* /dev/kvm */
	int fd;
	int run_bytes;     /* of a vCPU's kvm_run mapping */
	uint8_t phys_bits; /* of guest addresses that the CPU and KVM can map */
	struct vm_slot slots[VM_SLOTS_MAX];
	struct kvm_irqchip *irqchips;      /* PICs and IOAPIC as they were at creation */
	pthread_mutex_t lock;              /* msi, and that routes are given to KVM in order */
	struct vm_msi msi[LAYOUT_GSI_MAX]; /* by GSI; those below LAYOUT_GSI_MSI unused */
};

/* Opens /dev/kvm and makes a VM with IOAPIC and LAPICs (all in the kernel; no PIT).  On error *what
 * names the thing and what to do: no /dev/kvm, no permission (group kvm), a capability that KVM
 * lacks (-ENOTSUP). */
int vm_create(struct vm *vm, const char **what);
void vm_destroy(struct vm *vm);

/* Makes KVM's memory slots those of the epoch: what it has already stays as it is, what the epoch
 * lacks goes, what is new comes; vCPUs may run.  A slot cannot be resized without being gone for a
 * moment, so a region that grows and shrinks has many (box_memory.slot_bytes).  On error some of this was done: the
 * caller goes back by setting the epoch before. */
int vm_set_memory(struct vm *vm, const struct box_memory *epoch);

/* Interrupt controllers as at creation, every pin masked; vCPUs must be paused.  LAPICs are theirs
 * (vcpus_reset), MSI routes stay. */
int vm_reset(struct vm *vm);

/* Doorbell: a 2-byte write of any value to gpa signals the eventfd, without an exit to user space
 * (any thread).  Deassigning takes some 8 ms (SRCU): never in a replacement. */
int vm_doorbell(struct vm *vm, uint64_t gpa, int eventfd, bool assign);

/* Interrupts (any thread).  An MSI route is a GSI from vm_msi_alloc() (-ENOSPC: all in use), inert
 * until it is set; before it is freed its eventfds are taken off.  Setting the same again costs
 * nothing. */
int vm_msi_alloc(struct vm *vm, uint32_t *gsi);
void vm_msi_free(struct vm *vm, uint32_t gsi);
int vm_msi_set(struct vm *vm, uint32_t gsi, uint64_t address, uint32_t data);
/* Connects an eventfd to a GSI, or takes it off (then its count keeps what is pending).  Several
 * eventfds may share a GSI. */
int vm_irqfd(struct vm *vm, uint32_t gsi, int eventfd, bool assign);
/* An IOAPIC pin goes up or down, by the VMM itself (any thread). */
int vm_line(struct vm *vm, uint32_t gsi, bool up);

#endif
