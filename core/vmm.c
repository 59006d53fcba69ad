/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which a VM is put together, reset and taken apart.
 *
 * Locks: `lock` is held by every public function and by the end of the guest, so that a pause of the
 * API and a reset of the guest do not meet.  The supervisor's hooks take none of it (they run while
 * others wait for the supervisor).
 */
#include "core/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/box/autopsy.h"
#include "core/box/host.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/machine/machine.h"
#include "core/ration.h"
#include "core/vmm_device.h"

#define VMM_DEVICES_MAX (RUN_DISKS_MAX + 3)
#define EXIT_CRASHED 3

/* A reset costs the host a generation of each device that served, and a line in the log. */
static const struct ration reset_ration = { .burst = 5, .period_ns = NS_PER_S };

struct vmm {
	pthread_mutex_t lock;
	struct run_options options;
	struct spawner *spawner;
	struct loop *loop;
	enum vmm_state state;
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
	struct seal_host seal;
	int kernel, initrd;
	struct vmm_device devices[VMM_DEVICES_MAX];
	uint32_t device_count;
};

const char *vmm_state_name(enum vmm_state state)
{
	static const char *const names[] = {
#define STATE_NAME(NAME, name) name,
		VMM_STATES(STATE_NAME)
#undef STATE_NAME
	};

	return names[state];
}

/* ---- the transport's view of KVM ---- */

static int transport_doorbell(void *ctx, uint64_t gpa, int eventfd, bool assign)
{
	return vm_doorbell(ctx, gpa, eventfd, assign);
}

static int transport_msi_alloc(void *ctx, uint32_t *gsi)
{
	return vm_msi_alloc(ctx, gsi);
}

static void transport_msi_free(void *ctx, uint32_t gsi)
{
	vm_msi_free(ctx, gsi);
}

static int transport_msi_set(void *ctx, uint32_t gsi, uint64_t address, uint32_t data)
{
	return vm_msi_set(ctx, gsi, address, data);
}

static int transport_irqfd(void *ctx, uint32_t gsi, int eventfd, bool assign)
{
	return vm_irqfd(ctx, gsi, eventfd, assign);
}

/* ---- building ---- */

static struct vmm_site vmm_site(struct vmm *vmm)
{
	return (struct vmm_site){
		.machine = &vmm->machine,
		.pci = &vmm->pci,
		.transport = &vmm->transport,
		.sup = vmm->sup,
		.loop = vmm->loop,
		.options = &vmm->options,
	};
}

static void vmm_end(void *arg);

/* On a vCPU thread. */
static void vmm_ended(void *ctx, enum guest_end end)
{
	struct vmm *vmm = ctx;

	(void)end; /* machine_end() has the first */
	loop_post(vmm->loop, vmm_end, vmm);
}

static int open_file(const char *path, const char *thing, int *fd, struct option_error *error)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	const int ret = -errno;

	snprintf(error->text, sizeof(error->text), "cannot open the %s %.180s: %s", thing, path,
		 strerror(-ret));
	return ret;
}

static int open_kernel(struct vmm *vmm, struct option_error *error)
{
	int ret;

	if (vmm->options.kernel[0] == '\0') {
		snprintf(error->text, sizeof(error->text),
			 "no kernel: give --kernel or PUT /boot-source");
		return -EINVAL;
	}
	ret = open_file(vmm->options.kernel, "kernel", &vmm->kernel, error);
	if (ret == 0 && vmm->options.initrd[0] != '\0')
		ret = open_file(vmm->options.initrd, "initrd", &vmm->initrd, error);
	return ret;
}

static int check_seal(const struct vmm *vmm, struct option_error *error)
{
	const struct run_seal *want = &vmm->options.require_seal;
	const struct run_seal lacks = {
		.layers = seal_host_lacks(&vmm->seal, want->layers, want->kernel),
	};
	char names[OPTION_SEAL_TEXT_MAX];

	if (lacks.layers == 0)
		return 0;
	option_seal_text(&lacks, names);
	snprintf(error->text, sizeof(error->text),
		 "--require-seal: not to be had here: %.150s (mayfly doctor says why)", names);
	return -ENOTSUP;
}

static int build_machine(struct vmm *vmm, struct option_error *error)
{
	const struct run_memory *memory = &vmm->options.memory;
	const struct machine_config config = {
		.memory = { .bytes = memory->bytes,
			    .pages = (enum mem_pages)memory->pages,
			    .node = memory->node == RUN_NODE_ANY ? -1 : (int)memory->node },
		.cpus = vmm->options.cpus,
		.ended = vmm_ended,
		.ctx = vmm,
	};
	const char *what = "";
	int ret = machine_create(&vmm->machine, &config, &what);

	if (ret != 0) {
		snprintf(error->text, sizeof(error->text), "%s", what);
		return ret;
	}
	vmm->has_machine = true;
	ret = pci_host_create(&vmm->pci, vmm->machine.ports, vmm->machine.mmio);
	vmm->has_pci = ret == 0;
	if (ret != 0)
		snprintf(error->text, sizeof(error->text), "cannot make the PCI bus: %s",
			 strerror(-ret));
	vmm->transport = (struct virtio_machine){ transport_doorbell, transport_msi_alloc,
						  transport_msi_free, transport_msi_set,
						  transport_irqfd,    &vmm->machine.vm };
	return ret;
}

static struct vmm_device *next_device(struct vmm *vmm)
{
	struct vmm_device *d = &vmm->devices[vmm->device_count++];

	vmm_device_init(d);
	return d;
}

static int build_devices(struct vmm *vmm, struct option_error *error)
{
	const struct vmm_site site = vmm_site(vmm);
	const struct run_options *o = &vmm->options;
	int ret = 0;

	for (uint32_t i = 0; i < o->disk_count && ret == 0; i++)
		ret = vmm_device_disk(next_device(vmm), &site, &o->disks[i], error);
	if (ret == 0 && o->rng)
		ret = vmm_device_rng(next_device(vmm), &site, error);
	if (ret == 0 && o->console.kind != ENDPOINT_OFF)
		ret = vmm_device_console(next_device(vmm), &site, error);
	if (ret == 0 && o->serial.kind != ENDPOINT_OFF)
		ret = vmm_device_serial(next_device(vmm), &site, error);
	return ret;
}

/* On the loop's thread: relays and timers are the loop's. */
static void join_loop(void *arg)
{
	struct vmm *vmm = arg;

	for (uint32_t i = 0; i < vmm->device_count; i++) {
		struct vmm_device *d = &vmm->devices[i];
		const struct run_own s = run_settings_of(&vmm->options, d->id);

		vmm_device_join_loop(d, vmm->loop, s.every_ms, s.jitter_permille, i,
				     vmm->device_count);
	}
}

/* The loader's words, with the file that they are about. */
static int blame(const struct vmm *vmm, int ret, const char *what, struct option_error *error)
{
	const struct {
		const char *about, *path;
	} files[] = { { "kernel", vmm->options.kernel }, { "initrd", vmm->options.initrd } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		const size_t n = strlen(files[i].about);

		if (strncmp(what, files[i].about, n) != 0 || what[n] != ':')
			continue;
		snprintf(error->text, sizeof(error->text), "%s %.150s%s", files[i].about,
			 files[i].path, what + n);
		return ret;
	}
	snprintf(error->text, sizeof(error->text), "%s", what);
	return ret;
}

/* The kernel and the power: what a start and a reset have in common. */
static int power_on(struct vmm *vmm, struct option_error *error)
{
	char cmdline[OPTION_CMDLINE_MAX];
	const struct boot_config boot = { .kernel = vmm->kernel,
					  .initrd = vmm->initrd,
					  .cmdline = cmdline };
	const char *what = "cmdline: too long with the root device";
	int ret = run_cmdline(&vmm->options, cmdline);

	if (ret == 0)
		ret = machine_load(&vmm->machine, &boot, &what);
	if (ret != 0)
		return blame(vmm, ret, what, error);
	for (uint32_t i = 0; i < vmm->device_count; i++) {
		ret = vmm_device_power_on(&vmm->devices[i]);
		if (ret != 0) {
			snprintf(error->text, sizeof(error->text), "%s: cannot start: %s",
				 vmm->devices[i].id, strerror(-ret));
			return ret;
		}
	}
	return 0;
}

/* A VM that cannot keep them is no worse a VM. */
static void keep_autopsies(struct vmm *vmm)
{
	const int ret = supervisor_keep_autopsies(vmm->sup, vmm->options.state_dir);

	if (ret != 0)
		log_warn("no autopsies: %s: %s", vmm->options.state_dir, strerror(-ret));
}

static int build(struct vmm *vmm, struct option_error *error)
{
	int ret = run_consistent(&vmm->options, error);

	if (ret == 0)
		ret = check_seal(vmm, error);
	if (ret == 0)
		ret = open_kernel(vmm, error);
	if (ret == 0)
		ret = build_machine(vmm, error);
	if (ret != 0)
		return ret;
	ret = supervisor_create(&vmm->sup, vmm->spawner, &vmm->seal, &vmm->machine.memory.epoch);
	if (ret != 0) {
		snprintf(error->text, sizeof(error->text), "cannot start the supervisor: %s",
			 strerror(-ret));
		return ret;
	}
	keep_autopsies(vmm);
	ret = build_devices(vmm, error);
	return ret == 0 ? power_on(vmm, error) : ret;
}

/* Everything that build() made, whether all of it or a part. vCPUs first: they use all else. */
static void unbuild(struct vmm *vmm)
{
	const struct vmm_site site = vmm_site(vmm);

	if (vmm->has_machine)
		machine_pause(&vmm->machine);
	while (vmm->device_count > 0)
		vmm_device_destroy(&vmm->devices[--vmm->device_count], &site);
	supervisor_destroy(vmm->sup);
	vmm->sup = NULL;
	if (vmm->has_pci)
		pci_host_destroy(&vmm->pci);
	if (vmm->has_machine)
		machine_destroy(&vmm->machine);
	vmm->has_pci = vmm->has_machine = false;
	cc_close(&vmm->kernel);
	cc_close(&vmm->initrd);
}

/* ---- the guest's end ---- */

static void vmm_finish(struct vmm *vmm, int status)
{
	vmm->exit_status = status;
	loop_stop(vmm->loop);
}

static int vmm_reboot(struct vmm *vmm, struct option_error *error)
{
	machine_pause(&vmm->machine);
	for (uint32_t i = 0; i < vmm->device_count; i++)
		vmm_device_reset(&vmm->devices[i]);
	pci_reset(&vmm->pci);
	return power_on(vmm, error);
}

static void reset_now(struct vmm *vmm)
{
	struct option_error error;

	vmm->awaits_reset = false;
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

/* On the loop's thread. */
static void vmm_end(void *arg)
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

	if (vmm == NULL)
		return -ENOMEM;
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

void vmm_destroy(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	loop_disarm(vmm->loop, &vmm->reset_timer);
	unbuild(vmm);
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
		ret = build(vmm, error);
		if (ret != 0)
			unbuild(vmm);
	}
	if (ret == 0) {
		vmm->state = VMM_RUNNING;
		loop_post(vmm->loop, join_loop, vmm);
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

uint32_t vmm_epoch(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->lock);
	const uint32_t epoch = vmm->has_machine ? vmm->machine.memory.epoch.map.epoch : 0;

	pthread_mutex_unlock(&vmm->lock);
	return epoch;
}

int vmm_exit_status(struct vmm *vmm)
{
	pthread_mutex_lock(&vmm->lock);
	const int status = vmm->exit_status;

	pthread_mutex_unlock(&vmm->lock);
	return status;
}
