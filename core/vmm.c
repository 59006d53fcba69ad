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

#include "core/box/host.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/machine/machine.h"
#include "core/vmm_device.h"
#include "devmodel/abi/seal.h"

#define VMM_DEVICES_MAX (RUN_DISKS_MAX + 3)
#define EXIT_CRASHED 3

struct vmm {
	pthread_mutex_t lock;
	struct run_options options;
	struct spawner *spawner;
	struct loop *loop;
	enum vmm_state state;
	int exit_status;

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

/* The layers that this process can have; --require-seal wants some of them. */
static int check_seal(const struct vmm *vmm, const struct seal_host *host,
		      struct option_error *error)
{
	static const char *const names[] = {
#define LAYER_NAME(NAME, name, text) #name,
		SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
	};
	const struct {
		enum seal_layer layer;
		uint32_t want;
	} optional[] = {
		{ SEAL_LAYER_IDS, SEAL_WANT_IDS },
		{ SEAL_LAYER_LANDLOCK, SEAL_WANT_LANDLOCK },
		{ SEAL_LAYER_MSEAL, SEAL_WANT_MSEAL },
		{ SEAL_LAYER_MDWE, SEAL_WANT_MDWE },
		{ SEAL_LAYER_LISTENER, SEAL_WANT_LISTENER },
	};

	for (size_t i = 0; i < ARRAY_SIZE(optional); i++) {
		if (!(vmm->options.require_seal.layers & (1u << optional[i].layer)) ||
		    (host->seal & optional[i].want))
			continue;
		snprintf(error->text, sizeof(error->text),
			 "--require-seal: this host cannot put on the layer %s (mayfly doctor says "
			 "why)",
			 names[optional[i].layer]);
		return -ENOTSUP;
	}
	return 0;
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

static uint64_t rejuvenate_every(const struct vmm *vmm, const struct vmm_device *d)
{
	for (uint32_t i = 0; i < vmm->options.disk_count; i++) {
		const struct run_disk *disk = &vmm->options.disks[i];

		if (strcmp(disk->id, d->id) == 0 && disk->rejuvenate_ms != 0)
			return disk->rejuvenate_ms;
	}
	return vmm->options.rejuvenate.every_ms;
}

/* On the loop's thread: relays and timers are the loop's. */
static void join_loop(void *arg)
{
	struct vmm *vmm = arg;

	for (uint32_t i = 0; i < vmm->device_count; i++) {
		struct vmm_device *d = &vmm->devices[i];

		vmm_device_join_loop(d, vmm->loop, rejuvenate_every(vmm, d),
				     vmm->options.rejuvenate.jitter_permille, i, vmm->device_count);
	}
}

/* The kernel and the power: what a start and a reset have in common. */
static int power_on(struct vmm *vmm, struct option_error *error)
{
	char cmdline[OPTION_CMDLINE_MAX];
	const struct boot_config boot = { .kernel = vmm->kernel,
					  .initrd = vmm->initrd,
					  .cmdline = cmdline };
	const char *what = "the command line is too long with the root device";
	int ret = run_cmdline(&vmm->options, cmdline);

	if (ret == 0)
		ret = machine_load(&vmm->machine, &boot, &what);
	if (ret != 0) {
		snprintf(error->text, sizeof(error->text), "%.120s: %.120s", vmm->options.kernel,
			 what);
		return ret;
	}
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

static int build(struct vmm *vmm, struct option_error *error)
{
	int ret = check_seal(vmm, &vmm->seal, error);

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

static bool is_crash(enum guest_end end)
{
	return end == GUEST_END_TRIPLE_FAULT || end == GUEST_END_PANIC;
}

static void vmm_end_locked(struct vmm *vmm)
{
	const enum guest_end end = machine_end(&vmm->machine);
	struct option_error error;

	if (end == GUEST_END_NONE)
		return;
	if (is_crash(end) || end == GUEST_END_KVM)
		log_error("%s", guest_end_text(end));
	else
		log_info("%s", guest_end_text(end));
	if (end == GUEST_END_KVM) {
		vmm_finish(vmm, EXIT_FAILURE);
	} else if (end == GUEST_END_POWER_OFF || end == GUEST_END_REQUEST ||
		   vmm->options.no_reboot) {
		vmm_finish(vmm, is_crash(end) ? EXIT_CRASHED : EXIT_SUCCESS);
	} else if (vmm_reboot(vmm, &error) != 0) {
		log_error("%s", error.text);
		vmm_finish(vmm, EXIT_FAILURE);
	} else if (vmm->state == VMM_RUNNING) {
		machine_resume(&vmm->machine);
	}
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
	seal_host_probe(&vmm->seal);
	*out = vmm;
	return 0;
}

void vmm_destroy(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
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
		    void (*turn)(struct machine *))
{
	int ret = 0;

	pthread_mutex_lock(&vmm->lock);
	if (vmm->state == from) {
		turn(&vmm->machine);
		vmm->state = to;
	} else if (vmm->state != to) {
		ret = -EBUSY;
	}
	pthread_mutex_unlock(&vmm->lock);
	return ret;
}

int vmm_pause(struct vmm *vmm)
{
	return vmm_turn(vmm, VMM_RUNNING, VMM_PAUSED, machine_pause);
}

int vmm_resume(struct vmm *vmm)
{
	return vmm_turn(vmm, VMM_PAUSED, VMM_RUNNING, machine_resume);
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
