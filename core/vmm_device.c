/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vmm_device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/bus/serial.h"
#include "core/bus/virtio_kinds.h"
#include "core/cc.h"
#include "core/device_spec.h"
#include "core/log.h"
#include "core/unixsock.h"

#define STANDBY_MS 10000

/* ---- between supervisor and transport ---- */

static void on_reset_done(void *ctx)
{
	struct vmm_device *d = ctx;

	balloon_forget(&d->balloon);
	if (d->memory != NULL)
		reserve_forget(d->memory, d->reserve);
	if (d->pci != NULL)
		virtio_pci_reset_done(d->pci);
}

static void on_needs_reset(void *ctx, const char *why)
{
	const struct vmm_device *d = ctx;

	log_warn("%s: needs a reset: %s", d->id, why);
	if (d->pci != NULL)
		virtio_pci_needs_reset(d->pci);
}

static void on_replaced(void *ctx, const struct replacement *r)
{
	const struct vmm_device *d = ctx;

	log_info("%s: generation %llu for %llu: %s, fence %s, drain %u us, switch %u us%s", d->id,
		 (unsigned long long)r->to, (unsigned long long)r->from,
		 replace_reason_name(r->reason), fence_name(r->fence), r->drain_us, r->switch_us,
		 r->cold ? ", cold" : "");
}

static int on_release(void *ctx, const struct box_memory *memory, uint64_t gpa, uint32_t pages)
{
	struct vmm_device *d = ctx;

	return balloon_release(&d->balloon, memory, gpa, pages);
}

static int on_stat(void *ctx, uint32_t tag, uint64_t value)
{
	struct vmm_device *d = ctx;

	return balloon_stat(&d->balloon, tag, value);
}

static void on_asked(void *ctx, const struct device_question *question)
{
	const struct vmm_device *d = ctx;

	reserve_asked(d->memory, d->reserve, d->dev, question);
}

static void on_space(void *ctx, const struct virtio_mem_space *space, bool tell)
{
	const struct vmm_device *d = ctx;

	if (tell)
		virtio_pci_config_changed(d->pci, 0, space, sizeof(*space));
	else
		virtio_pci_config_set(d->pci, 0, space, sizeof(*space));
}

static int backend_start(void *ctx, uint64_t features, const struct ctl_queue *queues)
{
	const struct vmm_device *d = ctx;

	return device_start(d->dev, features, queues);
}

static void backend_reset(void *ctx)
{
	const struct vmm_device *d = ctx;

	device_reset(d->dev);
}

/* ---- building ---- */

void vmm_device_init(struct vmm_device *d)
{
	memset(d, 0, sizeof(*d));
	balloon_init(&d->balloon);
	d->image.fd = -1;
	d->source = -1;
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		d->kick[i] = d->call[i] = -1;
}

static int fail(struct vmm_device *d, int ret, const char *what, struct option_error *error)
{
	snprintf(error->text, sizeof(error->text), "%s: cannot %s: %s", d->id, what,
		 strerror(-ret));
	return ret;
}

static int make_eventfds(struct vmm_device *d)
{
	for (uint32_t i = 0; i < d->queues; i++) {
		d->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		d->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (d->kick[i] < 0 || d->call[i] < 0)
			return -errno;
	}
	return 0;
}

/* Whose spec it is; what is this VM's. */
static void spec_own(struct vmm_device *d, struct device_spec *spec)
{
	snprintf(d->id, sizeof(d->id), "%s", spec->id);
	d->kind = spec->kind;
	d->queues = spec->queues;
	d->hooks = (struct device_hooks){ .reset_done = on_reset_done,
					  .needs_reset = on_needs_reset,
					  .replaced = on_replaced };
	spec->hooks = &d->hooks;
	spec->ctx = d;
}

static void spec_begin(struct vmm_device *d, const struct vmm_site *site, const char *id,
		       enum dev_kind kind, uint32_t queues, struct device_spec *spec)
{
	device_spec_begin(site->options, id, kind, queues, spec);
	spec_own(d, spec);
}

static int spec_end(struct vmm_device *d, const struct vmm_site *site, struct device_spec *spec,
		    struct option_error *error)
{
	int ret = make_eventfds(d);

	if (ret != 0)
		return fail(d, ret, "make eventfds", error);
	memcpy(spec->kick, d->kick, sizeof(spec->kick));
	memcpy(spec->call, d->call, sizeof(spec->call));
	ret = device_create(site->sup, spec, &d->dev);
	if (ret != 0)
		return fail(d, ret, "make the device", error);
	ret = device_wait_standby(d->dev, STANDBY_MS);
	if (ret != 0)
		return fail(d, ret, "make a sealed process (mayfly doctor says what is missing)",
			    error);
	return 0;
}

/* Its place on the PCI bus. */
static int plug(struct vmm_device *d, const struct vmm_site *site, const union dev_config *config,
		struct option_error *error)
{
	struct virtio_pci_spec spec = { .id = d->id, .machine = site->transport };
	int ret = virtio_kind_describe(d->kind, config, d->queues, &spec);

	d->backend = (struct virtio_backend){ backend_start, backend_reset, d };
	spec.backend = &d->backend;
	memcpy(spec.kick, d->kick, sizeof(spec.kick));
	memcpy(spec.call, d->call, sizeof(spec.call));
	if (ret == 0)
		ret = virtio_pci_create(&d->pci, site->pci, &spec);
	return ret == 0 ? 0 : fail(d, ret, "plug it in", error);
}

int vmm_device_disk(struct vmm_device *d, const struct vmm_site *site, const struct run_disk *disk,
		    struct option_error *error)
{
	struct device_spec spec;
	int ret = device_spec_disk(site->options, disk, 0, &d->image, &spec, error);

	if (ret != 0)
		return ret;
	spec_own(d, &spec);
	ret = spec_end(d, site, &spec, error);
	return ret != 0 ? ret : plug(d, site, &spec.config, error);
}

int vmm_device_rng(struct vmm_device *d, const struct vmm_site *site, struct option_error *error)
{
	struct device_spec spec;
	int ret = device_spec_rng(site->options, &d->source, &spec, error);

	if (ret != 0)
		return ret;
	spec_own(d, &spec);
	ret = spec_end(d, site, &spec, error);
	return ret != 0 ? ret : plug(d, site, &spec.config, error);
}

int vmm_device_balloon(struct vmm_device *d, const struct vmm_site *site,
		       struct option_error *error)
{
	const struct run_balloon *b = &site->options->balloon;
	const uint32_t queues = 2u + (b->stats_s != 0) + b->reporting;
	struct device_spec spec;
	int ret;

	spec_begin(d, site, "balloon", DEV_KIND_BALLOON, queues, &spec);
	d->hooks.release = on_release;
	d->hooks.stat = on_stat;
	spec.config.balloon = (struct balloon_config){
		.pages = (uint32_t)(b->bytes / RELEASE_PAGE),
		.flags = (b->deflate_on_oom ? BALLOON_DEFLATE_ON_OOM : 0) |
			 (b->stats_s != 0 ? BALLOON_STATS : 0) |
			 (b->reporting ? BALLOON_REPORTING : 0),
	};
	ret = spec_end(d, site, &spec, error);
	return ret != 0 ? ret : plug(d, site, &spec.config, error);
}

int vmm_device_mem(struct vmm_device *d, const struct vmm_site *site, uint32_t reserve,
		   struct option_error *error)
{
	const struct run_hotplug *h = &site->options->hotplug[reserve];
	struct reserve_spec memory = { .block_bytes = h->block_bytes,
				       .node = h->node,
				       .pages = site->machine->config.memory.pages };
	const struct reserve_guest guest = { on_space, d };
	struct device_spec spec;
	const char *what = "";
	int ret;

	run_hotplug_id(h->node, memory.id);
	spec_begin(d, site, memory.id, DEV_KIND_MEM, 1, &spec);
	ret = reserve_add(site->memory, &memory, &what);
	if (ret != 0)
		return option_fail(error, "%s: %s", d->id, what), ret;
	d->memory = site->memory;
	d->reserve = reserve;
	d->hooks.asked = on_asked;
	reserve_config(d->memory, reserve, &spec.config.mem);
	ret = spec_end(d, site, &spec, error);
	if (ret == 0)
		ret = plug(d, site, &spec.config, error);
	if (ret == 0)
		reserve_attach(d->memory, reserve, &guest);
	return ret;
}

/* The two kinds that move bytes between the guest and an endpoint of the operator's. */
static int build_stream(struct vmm_device *d, const struct vmm_site *site,
			const struct run_endpoint *endpoint, struct device_spec *spec,
			struct option_error *error)
{
	const char *what = "";
	int ret = relay_open(&d->relay, endpoint, &what);

	if (ret != 0) {
		snprintf(error->text, sizeof(error->text), "%s: cannot %s %.120s: %s", d->id, what,
			 endpoint->path, unixsock_error(ret));
		return ret;
	}
	d->has_relay = true;
	spec->backends[0] = d->relay.box_input;
	spec->backends[1] = d->relay.box_output;
	spec->backend_count = 2;
	return spec_end(d, site, spec, error);
}

int vmm_device_console(struct vmm_device *d, const struct vmm_site *site,
		       struct option_error *error)
{
	struct device_spec spec;
	int ret;

	spec_begin(d, site, "console", DEV_KIND_CONSOLE, 2, &spec);
	ret = build_stream(d, site, &site->options->console, &spec, error);
	return ret != 0 ? ret : plug(d, site, &spec.config, error);
}

#define SERIAL_REPLY 0 /* call eventfds of the serial port: see devmodel/abi/statepage.h */
#define SERIAL_LINE 1

int vmm_device_serial(struct vmm_device *d, const struct vmm_site *site, struct option_error *error)
{
	struct device_spec spec;
	int ret;

	spec_begin(d, site, "serial", DEV_KIND_SERIAL, 2, &spec);
	spec.guest_memory = false;
	spec.shadow = serial_shadow;
	ret = build_stream(d, site, &site->options->serial, &spec, error);
	if (ret != 0)
		return ret;
	ret = vm_irqfd(&site->machine->vm, LAYOUT_GSI_SERIAL, d->call[SERIAL_LINE], true);
	if (ret != 0)
		return fail(d, ret, "connect its interrupt", error);
	ret = serial_attach(site->machine->ports, d->dev);
	return ret == 0 ? 0 : fail(d, ret, "claim its ports", error);
}

/* ---- life ---- */

int vmm_device_power_on(struct vmm_device *d)
{
	const struct ctl_queue none[BOX_QUEUES_MAX] = { 0 };

	return d->pci != NULL ? 0 : device_start(d->dev, 0, none);
}

void vmm_device_join_loop(struct vmm_device *d, struct loop *loop, uint64_t every_ms,
			  uint32_t jitter_permille, uint32_t index, uint32_t count)
{
	const int ret = d->has_relay ? relay_start(&d->relay, loop) : 0;

	if (ret != 0)
		log_error("%s: its bytes cannot be relayed: %s", d->id, strerror(-ret));
	rejuvenate_start(&d->rejuvenate, loop, d->dev, every_ms, jitter_permille, index, count);
}

void vmm_device_reset(struct vmm_device *d)
{
	device_reset(d->dev);
	/* Without a time-out: a fence that is pending on slow storage is waited for, as by a guest. */
	device_wait_idle(d->dev, 0);
	if (d->pci != NULL)
		virtio_pci_machine_reset(d->pci);
	if (d->memory != NULL)
		reserve_machine_reset(d->memory, d->reserve);
}

void vmm_device_destroy(struct vmm_device *d, const struct vmm_site *site)
{
	rejuvenate_stop(&d->rejuvenate);
	balloon_poll_stop(&d->balloon);
	if (d->memory != NULL)
		reserve_attach(d->memory, d->reserve, &(struct reserve_guest){ 0 });
	if (d->kind == DEV_KIND_SERIAL && d->call[SERIAL_LINE] >= 0)
		vm_irqfd(&site->machine->vm, LAYOUT_GSI_SERIAL, d->call[SERIAL_LINE], false);
	device_destroy(d->dev);
	virtio_pci_destroy(d->pci); /* last: until here the supervisor's hooks may speak to it */
	if (d->has_relay)
		relay_close(&d->relay);
	image_close(&d->image);
	balloon_fini(&d->balloon);
	cc_close(&d->source);
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++) {
		cc_close(&d->kick[i]);
		cc_close(&d->call[i]);
	}
	vmm_device_init(d);
}
