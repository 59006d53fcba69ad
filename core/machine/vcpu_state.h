/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything KVM knows of a vCPU, read and written as a whole.  A reset writes back what was read at
 * creation, with the registers of the entry point; so nothing that a guest did to its CPU is left.
 * The vCPU must not be in KVM_RUN, and must have no I/O pending.
 */
#ifndef MAYFLY_CORE_MACHINE_VCPU_STATE_H
#define MAYFLY_CORE_MACHINE_VCPU_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/kvm.h>

#include "core/machine/boot.h"

struct vcpu_state {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	bool has_xcrs; /* the host's CPU has XSAVE */
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	uint32_t xsave_bytes;
	struct kvm_xsave *xsave;
	struct kvm_msrs *msrs; /* those that this KVM can read; TSC before TSC_DEADLINE */
};

/* Finds out which MSRs there are, and makes room; the vCPU has its CPUID. 0 or -errno. */
int vcpu_state_init(struct vcpu_state *state, int kvm, int vcpu);
void vcpu_state_free(struct vcpu_state *state);

/* 0 or -errno. */
int vcpu_state_get(struct vcpu_state *state, int vcpu);
/* The same; an MSR that cannot be written is left as it is. */
int vcpu_state_set(const struct vcpu_state *state, int vcpu);

/* Makes of the state at creation that of a machine that has just been switched on: the LAPIC's
 * local pins, the MSRs that firmware would have set.  TSC is 0, which KVM takes as "together with
 * the others". */
void vcpu_state_power_on(struct vcpu_state *state);
/* The registers of vCPU 0 at the kernel's entry point. */
void vcpu_state_enter(struct vcpu_state *state, const struct boot_entry *entry);

#endif
