/* SPDX-License-Identifier: Apache-2.0 */
/* How a VM is put together from its options, and taken apart. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "core/cc.h"
#include "core/confine.h"
#include "core/vmm_internal.h"

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
		.memory = vmm->memory,
		.loop = vmm->station.loop,
		.options = &vmm->station.options,
	};
}

/* On a vCPU thread. */
static void vmm_ended(void *ctx, enum guest_end end)
{
	struct vmm *vmm = ctx;

	(void)end; /* machine_end() has the first */
	loop_post(vmm->station.loop, vmm_end, vmm);
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

	if (vmm->station.options.kernel[0] == '\0') {
		snprintf(error->text, sizeof(error->text),
			 "no kernel: give --kernel or PUT /boot-source");
		return -EINVAL;
	}
	ret = open_file(vmm->station.options.kernel, "kernel", &vmm->kernel, error);
	if (ret == 0 && vmm->station.options.initrd[0] != '\0')
		ret = open_file(vmm->station.options.initrd, "initrd", &vmm->initrd, error);
	return ret;
}

/* ---- memory ---- */

static void dimm_ejected(void *ctx, uint32_t slot, bool asked)
{
	const struct vmm *vmm = ctx;

	(void)asked;
	memory_ejected(vmm->memory, slot);
}

static void dimm_ost(void *ctx, uint32_t slot, uint32_t event, uint32_t status)
{
	const struct vmm *vmm = ctx;

	memory_ost(vmm->memory, slot, event, status);
}

static void dimm_forgotten(void *ctx, uint32_t slot)
{
	const struct vmm *vmm = ctx;

	memory_forgotten(vmm->memory, slot);
}

static int guest_insert(void *ctx, uint32_t slot, uint64_t gpa, uint64_t bytes, uint32_t proximity)
{
	return acpi_memory_insert(ctx, slot, gpa, bytes, proximity);
}

static int guest_ask_eject(void *ctx, uint32_t slot)
{
	return acpi_memory_ask_eject(ctx, slot);
}

static int build_memory(struct vmm *vmm, struct option_error *error)
{
	const struct run_memory *m = &vmm->station.options.memory;
	const struct memory_site site = {
		.map = &vmm->machine.memory,
		.vm = &vmm->machine.vm,
		.sup = vmm->sup,
		.guest = { guest_insert, guest_ask_eject, &vmm->machine.dimms },
		.boot_bytes = m->bytes,
		.max_bytes = m->max_bytes != 0 ? m->max_bytes : m->bytes,
		.window = vmm->machine.window,
		.pages = (enum mem_pages)m->pages,
		.slots = m->slots,
		.nodes = m->nodes,
	};
	const int ret = memory_create(&vmm->memory, &site);

	if (ret != 0)
		snprintf(error->text, sizeof(error->text), "cannot start the memory's thread: %s",
			 strerror(-ret));
	return ret;
}

/* Addresses and memory for each virtio-mem device, in the order of the options. */
static void configure_reserves(const struct run_options *o, struct machine_config *config)
{
	for (uint32_t i = 0; i < o->hotplug_count; i++)
		config->reserves[config->reserve_count++] =
			(struct machine_reserve){ .bytes = o->hotplug[i].total_bytes,
						  .slot_bytes = o->hotplug[i].slot_bytes,
						  .node = o->hotplug[i].node };
}

static int build_machine(struct vmm *vmm, struct option_error *error)
{
	const struct run_memory *memory = &vmm->station.options.memory;
	struct machine_config config = {
		.memory = { .bytes = memory->bytes,
			    .pages = (enum mem_pages)memory->pages,
			    .node = memory->node == RUN_NODE_ANY ? -1 : (int)memory->node,
			    .prealloc = memory->prealloc },
		.room = { .max_bytes = memory->max_bytes > memory->bytes ? memory->max_bytes : 0,
			  .slots = memory->slots,
			  .nodes = memory->nodes },
		.dimms = { dimm_ejected, dimm_ost, dimm_forgotten, vmm },
		.cpus = vmm->station.options.cpus,
		.ended = vmm_ended,
		.ctx = vmm,
	};
	const char *what = "";
	int ret;

	configure_reserves(&vmm->station.options, &config);
	ret = machine_create(&vmm->machine, &config, &what);

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
	const struct run_options *o = &vmm->station.options;
	int ret = 0;

	for (uint32_t i = 0; i < o->disk_count && ret == 0; i++)
		ret = vmm_device_disk(next_device(vmm), &site, &o->disks[i], error);
	if (ret == 0 && o->rng)
		ret = vmm_device_rng(next_device(vmm), &site, error);
	if (ret == 0 && run_has_balloon(o))
		ret = vmm_device_balloon(next_device(vmm), &site, error);
	for (uint32_t i = 0; i < o->hotplug_count && ret == 0; i++)
		ret = vmm_device_mem(next_device(vmm), &site, i, error);
	if (ret == 0 && o->console.kind != ENDPOINT_OFF)
		ret = vmm_device_console(next_device(vmm), &site, error);
	if (ret == 0 && o->serial.kind != ENDPOINT_OFF)
		ret = vmm_device_serial(next_device(vmm), &site, error);
	return ret;
}

void vmm_join_loop(void *arg)
{
	struct vmm *vmm = arg;

	for (uint32_t i = 0; i < vmm->device_count; i++) {
		struct vmm_device *d = &vmm->devices[i];
		const struct run_own s = run_settings_of(&vmm->station.options, d->id);

		vmm_device_join_loop(d, vmm->station.loop, s.every_ms, s.jitter_permille, i,
				     vmm->device_count);
		if (d->kind == DEV_KIND_BALLOON)
			balloon_poll_start(&d->balloon, vmm->station.loop, d->dev,
					   vmm->station.options.balloon.stats_s);
	}
	/* The last of this thread's work that takes more; threads that it was to make are there. */
	confine_thread(CONFINE_MAIN);
}

/* The loader's words, with the file that they are about. */
static int blame(const struct vmm *vmm, int ret, const char *what, struct option_error *error)
{
	const struct {
		const char *about, *path;
	} files[] = { { "kernel", vmm->station.options.kernel },
		      { "initrd", vmm->station.options.initrd } };

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

int vmm_power_on(struct vmm *vmm, struct option_error *error)
{
	char cmdline[OPTION_CMDLINE_MAX];
	const struct boot_config boot = { .kernel = vmm->kernel,
					  .initrd = vmm->initrd,
					  .cmdline = cmdline };
	const char *what = "cmdline: too long with the root device";
	int ret = run_cmdline(&vmm->station.options, cmdline);

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

/* From here on others find them. */
static void show_devices(struct vmm *vmm)
{
	for (uint32_t i = 0; i < vmm->device_count; i++) {
		const struct vmm_device *d = &vmm->devices[i];

		station_add(&vmm->station, d->id, d->kind, d->dev);
	}
}

int vmm_build(struct vmm *vmm, struct option_error *error)
{
	int ret = run_consistent(&vmm->station.options, error);

	if (ret == 0)
		ret = station_check_seal(&vmm->station, error);
	if (ret == 0)
		ret = open_kernel(vmm, error);
	if (ret == 0)
		ret = build_machine(vmm, error);
	if (ret == 0)
		ret = station_supervisor(&vmm->station, vmm->spawner, &vmm->machine.memory.epoch,
					 &vmm->sup, error);
	if (ret == 0)
		ret = build_memory(vmm, error);
	if (ret == 0)
		ret = build_devices(vmm, error);
	if (ret != 0)
		return ret;
	show_devices(vmm);
	return vmm_power_on(vmm, error);
}

/* vCPUs first: they use all else. */
void vmm_unbuild(struct vmm *vmm)
{
	const struct vmm_site site = vmm_site(vmm);

	if (vmm->has_machine)
		machine_pause(&vmm->machine);
	memory_stop(vmm->memory);
	while (vmm->device_count > 0) {
		struct vmm_device *d = &vmm->devices[--vmm->device_count];

		station_remove(&vmm->station, d->dev);
		vmm_device_destroy(d, &site);
	}
	memory_destroy(vmm->memory); /* until here devices' hooks may speak to it */
	vmm->memory = NULL;
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
