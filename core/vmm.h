/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: from its options to its end.  It owns the machine (core/machine), the bus, the
 * supervisor and every device, and is what `mayfly run` and the API act on.
 *
 * Threads: the main thread runs the loop (relays, schedules, ends); vCPUs and the supervisor have
 * theirs; the API calls from its own.  Functions lock inside unless they say otherwise.
 */
#ifndef MAYFLY_CORE_VMM_H
#define MAYFLY_CORE_VMM_H

#include <stdint.h>

#include "core/box/box.h"
#include "core/loop.h"
#include "core/options.h"
#include "core/station.h"
#include "hotplug/balloon.h"

struct memory; /* hotplug/memory.h */
struct vmm;

/* options are copied; the spawner is borrowed and was started before any thread. The loop is the main
 * thread's and must not run yet. 0 or -errno. */
int vmm_create(struct vmm **out, const struct run_options *options, struct spawner *spawner,
	       struct loop *loop);
/* Whoever waits for a change of this VM need not any more: it is about to be destroyed. */
void vmm_wind_up(struct vmm *vmm);
/* Ends the guest if it runs, then everything.  Not from the loop's callbacks. */
void vmm_destroy(struct vmm *vmm);

/* What it has in common with others that own devices: state, configuration, devices, news. Its own, lives as
 * long. */
struct station *vmm_station(struct vmm *vmm);

/* Builds machine and devices and lets the guest run.  0, or -errno with one line in error that names
 * the thing and what to do; nothing half-made stays.  -EBUSY: it was started before. */
int vmm_start(struct vmm *vmm, struct option_error *error);

/* -EBUSY: not in the state for it. Pausing an already paused VM is 0. */
int vmm_pause(struct vmm *vmm);
int vmm_resume(struct vmm *vmm);
int vmm_power_button(struct vmm *vmm);

/* The memory that comes and goes; NULL: not started. Lives as long as the VM. */
struct memory *vmm_memory(struct vmm *vmm);

/* The balloon.  resize: how much it is to hold; remembered until there is a driver.  poll: how often it is
 * asked for statistics, on the loop's thread.  0; -ENOENT: the VM has none; -EINVAL; with one line in
 * error. */
int vmm_balloon_resize(struct vmm *vmm, uint64_t bytes, struct option_error *error);
int vmm_balloon_poll(struct vmm *vmm, uint32_t seconds, struct option_error *error);

struct vmm_balloon_info {
	uint32_t target_pages, actual_pages; /* of 4 KiB; actual as the driver says */
	bool stats;                          /* there is a queue for them */
	struct balloon_figures figures;
};

/* -ENOENT: the VM has none; -EBUSY: not started. */
int vmm_balloon(struct vmm *vmm, struct vmm_balloon_info *info);

/* Exit status as API.md has it, once the loop has ended: 0 powered off or asked to end, 1, 3. */
int vmm_exit_status(struct vmm *vmm);

#endif
