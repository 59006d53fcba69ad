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
#include "hotplug/balloon.h"

/* NAME, as the API shows it. */
#define VMM_STATES(X)                                                                              \
	X(NOT_STARTED, "Not started")                                                              \
	X(RUNNING, "Running")                                                                      \
	X(PAUSED, "Paused")

enum vmm_state {
#define VMM_STATE_ENUM(NAME, name) VMM_##NAME,
	VMM_STATES(VMM_STATE_ENUM)
#undef VMM_STATE_ENUM
};

const char *vmm_state_name(enum vmm_state state);

struct vmm;

struct vmm_device_info {
	const char *id; /* lives as long as the VM */
	enum dev_kind kind;
	struct device *dev;
};

/* options are copied; the spawner is borrowed and was started before any thread. The loop is the main
 * thread's and must not run yet. 0 or -errno. */
int vmm_create(struct vmm **out, const struct run_options *options, struct spawner *spawner,
	       struct loop *loop);
/* Ends the guest if it runs, then everything.  Not from the loop's callbacks. */
void vmm_destroy(struct vmm *vmm);

/* Builds machine and devices and lets the guest run.  0, or -errno with one line in error that names
 * the thing and what to do; nothing half-made stays.  -EBUSY: it was started before. */
int vmm_start(struct vmm *vmm, struct option_error *error);

enum vmm_state vmm_state(struct vmm *vmm);
/* The configuration, to be changed before the start: calls fn with it under the lock. -EBUSY: started
 * already; else what fn returns. */
int vmm_configure(struct vmm *vmm, int (*fn)(struct run_options *options, void *arg), void *arg);
/* A copy of the configuration as it is. */
void vmm_options(struct vmm *vmm, struct run_options *options);

/* -EBUSY: not in the state for it. Pausing an already paused VM is 0. */
int vmm_pause(struct vmm *vmm);
int vmm_resume(struct vmm *vmm);
int vmm_power_button(struct vmm *vmm);

/* Devices in order of creation: at most max are written, how many there are is returned; 0 before the
 * start. */
uint32_t vmm_devices(struct vmm *vmm, struct vmm_device_info *infos, uint32_t max);
/* -ENOENT: no device of that id. */
int vmm_find(struct vmm *vmm, const char *id, struct vmm_device_info *info);

/* What the boxes' seal is made of on this host; probed, so also before the start. */
void vmm_seal(struct vmm *vmm, struct seal_host *host);
/* The epoch of guest memory; 0: not started. */
uint32_t vmm_epoch(struct vmm *vmm);

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

/* From a thread of the API's: runs fn on the loop's thread, which may open files, and waits.  0;
 * -ECANCELED: the VM is ending, and fn was not run. */
int vmm_on_main(struct vmm *vmm, void (*fn)(void *arg), void *arg);

/* Given at the start (--allow-faults, --faulty-programs). */
bool vmm_faults_allowed(struct vmm *vmm);

/* What happens is told there; lives as long as the VM. */
struct news *vmm_news(struct vmm *vmm);

/* Exit status as API.md has it, once the loop has ended: 0 powered off or asked to end, 1, 3. */
int vmm_exit_status(struct vmm *vmm);

#endif
