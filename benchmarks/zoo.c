/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/zoo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/bus/serial.h"
#include "core/cc.h"
#include "devmodel/abi/policy.h"

#define IMAGE_BYTES (64u << 20)

const enum dev_kind zoo_kinds[ZOO_KINDS] = { DEV_KIND_BLK, DEV_KIND_RNG, DEV_KIND_CONSOLE,
					     DEV_KIND_SERIAL };

const char *zoo_name(enum dev_kind kind)
{
	static const char *const names[] = {
#define KIND_NAME(NAME, name, virtio_id, outward) #name,
		DEV_KINDS(KIND_NAME)
#undef KIND_NAME
	};

	return names[kind];
}

/* Keeps a descriptor for zoo_close(); returns it, or -errno. */
static int keep(struct zoo_kit *kit, int fd)
{
	if (fd < 0)
		return -errno;
	CHECK(kit->fd_count < ZOO_FDS_MAX);
	kit->fds[kit->fd_count++] = fd;
	return fd;
}

static int open_image(struct zoo_kit *kit)
{
	const int fd = keep(kit, memfd_create("image", MFD_CLOEXEC));

	if (fd < 0 || ftruncate(fd, IMAGE_BYTES) != 0)
		return fd < 0 ? fd : -errno;
	kit->spec.backends[0] = fd;
	kit->spec.fsize = IMAGE_BYTES;
	kit->spec.policy_when = POLICY_IF_FLUSH | POLICY_IF_WRITABLE;
	kit->spec.config.blk =
		(struct blk_config){ .bytes = IMAGE_BYTES, .flags = BLK_FLUSH, .align = 1 };
	return 0;
}

static int open_source(struct zoo_kit *kit)
{
	const int fd = keep(kit, open("/dev/urandom", O_RDONLY | O_CLOEXEC));

	kit->spec.backends[0] = fd;
	return fd < 0 ? fd : 0;
}

/* Input and output; the other ends stay open, so that neither is at its end. */
static int open_streams(struct zoo_kit *kit)
{
	for (int i = 0; i < 2; i++) {
		int fds[2];

		if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
			return -errno;
		keep(kit, fds[0]);
		keep(kit, fds[1]);
		kit->spec.backends[i] = fds[i];
	}
	return 0;
}

static const struct zoo_keeper {
	uint32_t queues;
	uint32_t backends;
	bool registers;
	int (*open)(struct zoo_kit *kit);
} keepers[DEV_KIND_COUNT] = {
	[DEV_KIND_BLK] = { 1, 1, false, open_image },
	[DEV_KIND_RNG] = { 1, 1, false, open_source },
	[DEV_KIND_CONSOLE] = { 2, 2, false, open_streams },
	[DEV_KIND_SERIAL] = { 2, 2, true, open_streams },
};

int zoo_open(struct zoo_kit *kit, enum dev_kind kind)
{
	const struct zoo_keeper *k = &keepers[kind];

	*kit = (struct zoo_kit){
		.kind = kind,
		.spec = { .kind = kind,
			  .queues = k->queues,
			  .lanes = 1,
			  .backend_count = k->backends,
			  .guest_memory = !k->registers,
			  .fsize = 1,
			  .shadow = kind == DEV_KIND_SERIAL ? serial_shadow : NULL },
	};
	snprintf(kit->spec.id, sizeof(kit->spec.id), "%s", zoo_name(kind));
	for (uint32_t i = 0; i < k->queues; i++) {
		kit->spec.kick[i] = keep(kit, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
		kit->spec.call[i] = keep(kit, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
		if (kit->spec.kick[i] < 0 || kit->spec.call[i] < 0)
			return -errno;
	}
	return k->open(kit);
}

void zoo_close(struct zoo_kit *kit)
{
	while (kit->fd_count > 0)
		close(kit->fds[--kit->fd_count]);
}

int zoo_create(struct boxrig *rig, const struct zoo_kit *kit, struct device **dev)
{
	return device_create(rig->sup, &kit->spec, dev);
}

int zoo_start(const struct zoo_kit *kit, struct device *dev)
{
	const struct ctl_queue none[BOX_QUEUES_MAX] = { 0 };

	return device_start(dev, kit->spec.guest_memory ? RINGDRV_VERSION_1 : 0, none);
}
