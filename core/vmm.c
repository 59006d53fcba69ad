/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a VM: started, paused, reset, ended.
 *
 * Locks: the station's is held by every public function and by the end of the guest, so that a pause of the
 * API and a reset of the guest do not meet.  The supervisor's hooks take none of it (they run while
 * others wait for the supervisor).
 */
#include "core/vmm.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "core/log.h"
#include "core/ration.h"
#include "core/vmm_internal.h"

#define EXIT_CRASHED 3

/* A reset costs the host a generation of each device that served, and a line in the log. */
static const struct ration reset_ration = { .burst = 5, .period_ns = NS_PER_S };

/* ---- the guest's end ---- */

static void vmm_finish(struct vmm *vmm, int status)
{
	station_tell(&vmm->station, "Ended");
	vmm->exit_status = status;
	loop_stop(vmm->station.loop);
}

static int vmm_reboot(struct vmm *vmm, struct option_error *error)
{
	machine_pause(&vmm->machine);
	for (uint32_t i = 0; i < vmm->device_count; i++)
		vmm_device_reset(&vmm->devices[i]);
	pci_reset(&vmm->pci);
	return vmm_power_on(vmm, error);
}

static void reset_now(struct vmm *vmm)
{
	struct option_error error;

	vmm->awaits_reset = false;
	station_tell(&vmm->station, "Reset");
	if (vmm_reboot(vmm, &error) != 0) {
		log_error("%s", error.text);
		vmm_finish(vmm, EXIT_FAILURE);
	} else if (vmm->station.state == STATION_RUNNING) {
		machine_resume(&vmm->machine);
	}
}

static void reset_fire(struct loop_timer *timer)
{
	struct vmm *vmm = container_of(timer, struct vmm, reset_timer);

	pthread_mutex_lock(&vmm->station.lock);
	reset_now(vmm);
	pthread_mutex_unlock(&vmm->station.lock);
}

/* At once, or when it is its turn. */
static void reset_take(struct vmm *vmm)
{
	const uint64_t now = now_ns(), at = ration_take(&reset_ration, &vmm->reset_due_ns, now);

	if (at <= now) {
		reset_now(vmm);
		return;
	}
	vmm->awaits_reset = true;
	machine_pause(&vmm->machine);
	loop_arm(vmm->station.loop, &vmm->reset_timer, at);
}

static bool is_crash(enum guest_end end)
{
	return end == GUEST_END_TRIPLE_FAULT || end == GUEST_END_PANIC;
}

/* There is one end for each reset, so that the ration bounds what is logged here too. */
static void vmm_end_locked(struct vmm *vmm)
{
	const enum guest_end end = machine_end(&vmm->machine);

	if (end == GUEST_END_NONE)
		return;
	if (is_crash(end) || end == GUEST_END_KVM)
		log_error("%s", guest_end_text(end));
	else
		log_info("%s", guest_end_text(end));
	if (end == GUEST_END_KVM)
		vmm_finish(vmm, EXIT_FAILURE);
	else if (end == GUEST_END_POWER_OFF || vmm->station.options.no_reboot)
		vmm_finish(vmm, is_crash(end) ? EXIT_CRASHED : EXIT_SUCCESS);
	else
		reset_take(vmm);
}

void vmm_end(void *arg)
{
	struct vmm *vmm = arg;

	pthread_mutex_lock(&vmm->station.lock);
	if (vmm->has_machine)
		vmm_end_locked(vmm);
	pthread_mutex_unlock(&vmm->station.lock);
}

/* ---- public ---- */

int vmm_create(struct vmm **out, const struct run_options *options, struct spawner *spawner,
	       struct loop *loop)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	if (vmm == NULL || station_init(&vmm->station, options, loop, NULL) != 0) {
		free(vmm);
		return -ENOMEM;
	}
	vmm->spawner = spawner;
	vmm->kernel = vmm->initrd = -1;
	vmm->reset_timer.fire = reset_fire;
	*out = vmm;
	return 0;
}

struct station *vmm_station(struct vmm *vmm)
{
	return &vmm->station;
}

void vmm_wind_up(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	pthread_mutex_lock(&vmm->station.lock);
	memory_end(vmm->memory);
	pthread_mutex_unlock(&vmm->station.lock);
}

void vmm_destroy(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	loop_disarm(vmm->station.loop, &vmm->reset_timer);
	vmm_unbuild(vmm);
	station_fini(&vmm->station);
	free(vmm);
}

int vmm_start(struct vmm *vmm, struct option_error *error)
{
	int ret;

	pthread_mutex_lock(&vmm->station.lock);
	if (vmm->station.state != STATION_NOT_STARTED) {
		snprintf(error->text, sizeof(error->text), "the VM was started before");
		ret = -EBUSY;
	} else {
		ret = vmm_build(vmm, error);
		if (ret != 0)
			vmm_unbuild(vmm);
	}
	if (ret == 0) {
		vmm->station.state = STATION_RUNNING;
		station_tell(&vmm->station, station_state_name(STATION_RUNNING));
		loop_post(vmm->station.loop, vmm_join_loop, vmm);
		machine_resume(&vmm->machine);
	}
	pthread_mutex_unlock(&vmm->station.lock);
	return ret;
}

/* From one state to another, if it is in one of the two. */
static int vmm_turn(struct vmm *vmm, enum station_state from, enum station_state to,
		    void (*turn)(struct vmm *))
{
	int ret = 0;

	pthread_mutex_lock(&vmm->station.lock);
	if (vmm->station.state == from) {
		turn(vmm);
		vmm->station.state = to;
		station_tell(&vmm->station, station_state_name(to));
	} else if (vmm->station.state != to) {
		ret = -EBUSY;
	}
	pthread_mutex_unlock(&vmm->station.lock);
	return ret;
}

static void turn_on(struct vmm *vmm)
{
	if (!vmm->awaits_reset)
		machine_resume(&vmm->machine);
}

static void turn_off(struct vmm *vmm)
{
	machine_pause(&vmm->machine);
}

int vmm_pause(struct vmm *vmm)
{
	return vmm_turn(vmm, STATION_RUNNING, STATION_PAUSED, turn_off);
}

int vmm_resume(struct vmm *vmm)
{
	return vmm_turn(vmm, STATION_PAUSED, STATION_RUNNING, turn_on);
}

int vmm_power_button(struct vmm *vmm)
{
	int ret = -EBUSY;

	pthread_mutex_lock(&vmm->station.lock);
	if (vmm->station.state != STATION_NOT_STARTED)
		ret = acpi_power_button(&vmm->machine.acpi);
	pthread_mutex_unlock(&vmm->station.lock);
	return ret;
}

struct memory *vmm_memory(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->station.lock);
	struct memory *memory = vmm->station.state != STATION_NOT_STARTED ? vmm->memory : NULL;

	pthread_mutex_unlock(&vmm->station.lock);
	return memory;
}

int vmm_exit_status(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->station.lock);
	const int status = vmm->exit_status;

	pthread_mutex_unlock(&vmm->station.lock);
	return status;
}
