/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a VM: started, paused, reset, ended.
 *
 * Locks: `lock` is held by every public function and by the end of the guest, so that a pause of the
 * API and a reset of the guest do not meet.  The supervisor's hooks take none of it (they run while
 * others wait for the supervisor).
 */
#include "core/vmm.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/box/news.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/ration.h"
#include "core/vmm_internal.h"

#define EXIT_CRASHED 3

/* A reset costs the host a generation of each device that served, and a line in the log. */
static const struct ration reset_ration = { .burst = 5, .period_ns = NS_PER_S };

const char *vmm_state_name(enum vmm_state state)
{
	static const char *const names[] = {
#define STATE_NAME(NAME, name) name,
		VMM_STATES(STATE_NAME)
#undef STATE_NAME
	};

	return names[state];
}

/* ---- the guest's end ---- */

static void vmm_tell(struct vmm *vmm, const char *state)
{
	news_post(vmm->news, &(struct news_event){ .kind = NEWS_MACHINE, .text = state });
}

static void vmm_finish(struct vmm *vmm, int status)
{
	vmm_tell(vmm, "Ended");
	vmm->exit_status = status;
	loop_stop(vmm->loop);
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
	vmm_tell(vmm, "Reset");
	if (vmm_reboot(vmm, &error) != 0) {
		log_error("%s", error.text);
		vmm_finish(vmm, EXIT_FAILURE);
	} else if (vmm->state == VMM_RUNNING) {
		machine_resume(&vmm->machine);
	}
}

static void reset_fire(struct loop_timer *timer)
{
	struct vmm *vmm = container_of(timer, struct vmm, reset_timer);

	pthread_mutex_lock(&vmm->lock);
	reset_now(vmm);
	pthread_mutex_unlock(&vmm->lock);
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
	loop_arm(vmm->loop, &vmm->reset_timer, at);
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
	else if (end == GUEST_END_POWER_OFF || vmm->options.no_reboot)
		vmm_finish(vmm, is_crash(end) ? EXIT_CRASHED : EXIT_SUCCESS);
	else
		reset_take(vmm);
}

void vmm_end(void *arg)
{
	struct vmm *vmm = arg;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->has_machine)
		vmm_end_locked(vmm);
	pthread_mutex_unlock(&vmm->lock);
}

/* ---- public ---- */

int vmm_create(struct vmm **out, const struct run_options *options, struct spawner *spawner,
	       struct loop *loop)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	if (vmm == NULL || news_create(&vmm->news) != 0) {
		free(vmm);
		return -ENOMEM;
	}
	pthread_mutex_init(&vmm->lock, NULL);
	vmm->options = *options;
	vmm->spawner = spawner;
	vmm->loop = loop;
	vmm->kernel = vmm->initrd = -1;
	vmm->reset_timer.fire = reset_fire;
	seal_host_probe(&vmm->seal);
	*out = vmm;
	return 0;
}

void vmm_wind_up(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	pthread_mutex_lock(&vmm->lock);
	memory_end(vmm->memory);
	pthread_mutex_unlock(&vmm->lock);
}

void vmm_destroy(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	loop_disarm(vmm->loop, &vmm->reset_timer);
	vmm_unbuild(vmm);
	news_destroy(vmm->news);
	pthread_mutex_destroy(&vmm->lock);
	free(vmm);
}

int vmm_start(struct vmm *vmm, struct option_error *error)
{
	int ret;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->state != VMM_NOT_STARTED) {
		snprintf(error->text, sizeof(error->text), "the VM was started before");
		ret = -EBUSY;
	} else {
		ret = vmm_build(vmm, error);
		if (ret != 0)
			vmm_unbuild(vmm);
	}
	if (ret == 0) {
		vmm->state = VMM_RUNNING;
		vmm_tell(vmm, vmm_state_name(VMM_RUNNING));
		loop_post(vmm->loop, vmm_join_loop, vmm);
		machine_resume(&vmm->machine);
	}
	pthread_mutex_unlock(&vmm->lock);
	return ret;
}

enum vmm_state vmm_state(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->lock);
	const enum vmm_state state = vmm->state;

	pthread_mutex_unlock(&vmm->lock);
	return state;
}

int vmm_configure(struct vmm *vmm, int (*fn)(struct run_options *options, void *arg), void *arg)
{
	int ret = -EBUSY;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->state == VMM_NOT_STARTED)
		ret = fn(&vmm->options, arg);
	pthread_mutex_unlock(&vmm->lock);
	return ret;
}

void vmm_options(struct vmm *vmm, struct run_options *options)
{
	pthread_mutex_lock(&vmm->lock);
	*options = vmm->options;
	pthread_mutex_unlock(&vmm->lock);
}

/* From one state to another, if it is in one of the two. */
static int vmm_turn(struct vmm *vmm, enum vmm_state from, enum vmm_state to,
		    void (*turn)(struct vmm *))
{
	int ret = 0;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->state == from) {
		turn(vmm);
		vmm->state = to;
		vmm_tell(vmm, vmm_state_name(to));
	} else if (vmm->state != to) {
		ret = -EBUSY;
	}
	pthread_mutex_unlock(&vmm->lock);
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
	return vmm_turn(vmm, VMM_RUNNING, VMM_PAUSED, turn_off);
}

int vmm_resume(struct vmm *vmm)
{
	return vmm_turn(vmm, VMM_PAUSED, VMM_RUNNING, turn_on);
}

int vmm_power_button(struct vmm *vmm)
{
	int ret = -EBUSY;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->state != VMM_NOT_STARTED)
		ret = acpi_power_button(&vmm->machine.acpi);
	pthread_mutex_unlock(&vmm->lock);
	return ret;
}

uint32_t vmm_devices(struct vmm *vmm, struct vmm_device_info *infos, uint32_t max)
{
	pthread_mutex_lock(&vmm->lock);
	const uint32_t n = vmm->device_count;

	for (uint32_t i = 0; i < n && i < max; i++) {
		const struct vmm_device *d = &vmm->devices[i];

		infos[i] = (struct vmm_device_info){ d->id, d->kind, d->dev };
	}
	pthread_mutex_unlock(&vmm->lock);
	return n;
}

int vmm_find(struct vmm *vmm, const char *id, struct vmm_device_info *info)
{
	struct vmm_device_info infos[VMM_DEVICES_MAX];
	const uint32_t n = vmm_devices(vmm, infos, VMM_DEVICES_MAX);

	for (uint32_t i = 0; i < n; i++) {
		if (strcmp(infos[i].id, id) == 0) {
			*info = infos[i];
			return 0;
		}
	}
	return -ENOENT;
}

void vmm_seal(struct vmm *vmm, struct seal_host *host)
{
	*host = vmm->seal; /* never changes */
}

struct memory *vmm_memory(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->lock);
	struct memory *memory = vmm->state != VMM_NOT_STARTED ? vmm->memory : NULL;

	pthread_mutex_unlock(&vmm->lock);
	return memory;
}

int vmm_on_main(struct vmm *vmm, void (*fn)(void *arg), void *arg)
{
	return loop_ask(vmm->loop, fn, arg) ? 0 : -ECANCELED;
}

bool vmm_faults_allowed(struct vmm *vmm)
{
	return vmm->options.allow_faults; /* never changes */
}

struct news *vmm_news(struct vmm *vmm)
{
	return vmm->news; /* never changes */
}

int vmm_exit_status(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->lock);
	const int status = vmm->exit_status;

	pthread_mutex_unlock(&vmm->lock);
	return status;
}
