/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs: a thread each, from KVM_RUN to the buses and back.  They run, are paused, or have ended; a
 * guest's end (power-off, reset, crash) is reported once to whoever owns the machine.
 */
#ifndef MAYFLY_CORE_MACHINE_VCPU_H
#define MAYFLY_CORE_MACHINE_VCPU_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bus/bus.h"
#include "core/machine/boot.h"
#include "core/machine/vm.h"

/* Why a guest ended: NAME, text for the log and the API. */
#define GUEST_ENDS(X)                                                                              \
	X(NONE, "running")                                                                         \
	X(POWER_OFF, "the guest powered off")                                                      \
	X(RESET, "the guest asked for a reset")                                                    \
	X(TRIPLE_FAULT, "the guest crashed: triple fault")                                         \
	X(PANIC, "the guest crashed: kernel panic")                                                \
	X(KVM, "KVM cannot run the guest (internal error)")

enum guest_end {
#define GUEST_END_ENUM(NAME, text) GUEST_END_##NAME,
	GUEST_ENDS(GUEST_END_ENUM)
#undef GUEST_END_ENUM
		GUEST_END_COUNT
};

const char *guest_end_text(enum guest_end end);

struct vcpus;

struct vcpus_config {
	struct vm *vm;
	struct bus *ports;
	struct bus *mmio;
	uint32_t count; /* 1 .. LAYOUT_CPUS_MAX */
	/* Called from a vCPU thread when that vCPU cannot go on (it then waits for a reset); must not
	 * wait for vCPUs. */
	void (*ended)(void *ctx, enum guest_end end);
	void *ctx;
};

/* Makes the vCPUs (CPUID, MSRs, LAPIC ids) without running them. 0 or -errno, *what. */
int vcpus_create(struct vcpus **out, const struct vcpus_config *config, const char **what);
/* Ends and joins the threads, running or paused. */
void vcpus_destroy(struct vcpus *v);

/* Puts vCPU 0 at the entry point and all others into wait-for-SIPI, as after power-on; all must be
 * paused (they are at first). 0 or -errno. */
int vcpus_reset(struct vcpus *v, const struct boot_entry *entry);
/* Lets them run; returns at once. */
void vcpus_resume(struct vcpus *v);
/* Stops every vCPU and waits until none is in the guest or in a bus access, with pending I/O
 * completed (KVM_RUN with immediate_exit).  Not from a vCPU thread.  Pausing twice is pausing once. */
void vcpus_pause(struct vcpus *v);

/* A vCPU's descriptor, for its state; borrowed, to be used while paused only. */
int vcpus_fd(const struct vcpus *v, uint32_t index);

#endif
