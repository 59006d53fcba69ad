/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's CPU says that it is: what KVM supports, less what is not offered (nested
 * virtualization, MONITOR, SGX), with this machine's topology: one package, one thread a core, APIC
 * ids counted from 0.
 */
#ifndef MAYFLY_CORE_MACHINE_CPUID_H
#define MAYFLY_CORE_MACHINE_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_cpuid2;

struct cpuid_config {
	uint32_t index;    /* of the vCPU: its APIC id */
	uint32_t count;    /* of vCPUs, 1 .. LAYOUT_CPUS_MAX */
	bool tsc_deadline; /* KVM_CAP_TSC_DEADLINE_TIMER */
};

/* KVM_GET_SUPPORTED_CPUID of /dev/kvm. 0 or -errno; the caller frees *out. */
int cpuid_supported(int kvm, struct kvm_cpuid2 **out);

/* One vCPU's leaves from the supported ones. 0 or -ENOMEM; the caller frees *out. */
int cpuid_make(const struct kvm_cpuid2 *supported, const struct cpuid_config *config,
	       struct kvm_cpuid2 **out);

#endif
