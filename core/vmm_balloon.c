/* SPDX-License-Identifier: Apache-2.0 */
/* What the API asks of the balloon: a size, before the start or while the guest runs, and figures. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/bus/virtio_kinds.h"
#include "core/vmm_internal.h"
#include "devmodel/abi/message.h"

static struct vmm_device *find_balloon(struct vmm *vmm)
{
	for (uint32_t i = 0; i < vmm->device_count; i++) {
		if (vmm->devices[i].kind == DEV_KIND_BALLOON)
			return &vmm->devices[i];
	}
	return NULL;
}

static int none(struct option_error *error)
{
	option_fail(error, "balloon: the VM has none");
	return -ENOENT;
}

/* The driver is told, or finds it when it comes. */
static void resize(struct vmm *vmm)
{
	const struct vmm_device *d = find_balloon(vmm);
	const uint32_t pages = (uint32_t)(vmm->station.options.balloon.bytes / RELEASE_PAGE);

	if (d != NULL)
		virtio_pci_config_changed(d->pci, offsetof(struct virtio_balloon_space, num_pages),
					  &pages, sizeof(pages));
}

int vmm_balloon_resize(struct vmm *vmm, uint64_t bytes, struct option_error *error)
{
	struct run_options *o = &vmm->station.options;
	int ret = 0;

	pthread_mutex_lock(&vmm->station.lock);
	if (!run_has_balloon(o))
		ret = none(error);
	else if (vmm->station.state != STATION_NOT_STARTED)
		ret = run_balloon_check(o, bytes, error);
	if (ret == 0) {
		o->balloon.bytes = bytes;
		resize(vmm);
	}
	pthread_mutex_unlock(&vmm->station.lock);
	return ret;
}

/* Whether there is a queue for them was decided at the start. */
static int poll_check(const struct vmm *vmm, uint32_t seconds, struct option_error *error)
{
	const bool wanted = vmm->station.options.balloon.stats_s != 0;

	if (!run_has_balloon(&vmm->station.options))
		return none(error);
	if (vmm->station.state == STATION_NOT_STARTED || wanted == (seconds != 0))
		return 0;
	return option_fail(error,
			   "stats_polling_interval_s: statistics cannot be switched %s once "
			   "the VM was started",
			   wanted ? "off" : "on");
}

int vmm_balloon_poll(struct vmm *vmm, uint32_t seconds, struct option_error *error)
{
	struct vmm_device *d;
	int ret;

	pthread_mutex_lock(&vmm->station.lock);
	ret = poll_check(vmm, seconds, error);
	d = find_balloon(vmm);
	if (ret == 0)
		vmm->station.options.balloon.stats_s = seconds;
	if (ret == 0 && d != NULL)
		balloon_poll_every(&d->balloon, seconds);
	pthread_mutex_unlock(&vmm->station.lock);
	return ret;
}

int vmm_balloon(struct vmm *vmm, struct vmm_balloon_info *info)
{
	struct virtio_balloon_space space;
	struct vmm_device *d;
	int ret = 0;

	pthread_mutex_lock(&vmm->station.lock);
	d = find_balloon(vmm);
	if (!run_has_balloon(&vmm->station.options)) {
		ret = -ENOENT;
	} else if (d == NULL) {
		ret = -EBUSY;
	} else {
		virtio_pci_config_get(d->pci, 0, &space, sizeof(space));
		info->target_pages = space.num_pages;
		info->actual_pages = space.actual;
		info->stats = vmm->station.options.balloon.stats_s != 0;
		balloon_figures(&d->balloon, &info->figures);
	}
	pthread_mutex_unlock(&vmm->station.lock);
	return ret;
}
