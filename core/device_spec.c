/* SPDX-License-Identifier: Apache-2.0 */
#include "core/device_spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "devmodel/abi/policy.h"

#define RNG_SOURCE "/dev/urandom"

void device_spec_begin(const struct run_options *options, const char *id, enum dev_kind kind,
		       uint32_t queues, struct device_spec *spec)
{
	const struct run_budget *budget = &options->death_budget;
	const struct run_own own = run_settings_of(options, id);

	*spec = (struct device_spec){
		.kind = kind,
		.queues = queues,
		.lanes = 1,
		.guest_memory = true,
		.fsize = 0,
		.death_budget = budget->deaths,
		.death_window_s = budget->deaths != 0 ? budget->seconds : 0,
		.limits = { own.limits.hang_ms, own.limits.storm_ms },
		.audit_ms = own.limits.audit_ms,
		.poison_limit = own.limits.poison_limit,
	};
	snprintf(spec->id, sizeof(spec->id), "%s", id);
}

static void add_backend(struct device_spec *spec, int fd)
{
	spec->backends[spec->backend_count++] = fd;
}

static void disk_config(const struct run_disk *disk, const struct image *image, bool flush,
			struct blk_config *config)
{
	*config = (struct blk_config){
		.bytes = image->bytes,
		.flags = (flush ? BLK_FLUSH : 0) | (disk->readonly ? BLK_READONLY : 0) |
			 (disk->direct ? BLK_DIRECT : 0),
		.align = image->align,
		.bandwidth = disk->bandwidth,
		.ops = disk->ops,
	};
	memcpy(config->id, disk->id, strnlen(disk->id, BLK_ID_BYTES));
}

void device_spec_image(const struct run_options *options, const struct run_disk *disk,
		       const struct image *image, struct device_spec *spec)
{
	const bool flush = disk->cache != DISK_CACHE_UNSAFE;
	const bool limited = disk->bandwidth.size != 0 || disk->ops.size != 0;

	device_spec_begin(options, disk->id, DEV_KIND_BLK, disk->queues, spec);
	spec->lanes = disk->lanes;
	add_backend(spec, image->fd);
	spec->fsize = image->block ? UINT64_MAX : image->bytes;
	spec->policy_when = (flush ? POLICY_IF_FLUSH : 0) |
			    (disk->readonly ? 0 : POLICY_IF_WRITABLE) |
			    (limited ? POLICY_IF_TIMER : 0);
	disk_config(disk, image, flush, &spec->config.blk);
}

int device_spec_disk(const struct run_options *options, const struct run_disk *disk,
		     uint32_t lock_ms, struct image *image, struct device_spec *spec,
		     struct option_error *error)
{
	const struct image_config config = { disk->path, disk->readonly, disk->direct, lock_ms };
	char why[IMAGE_WHY_MAX];
	const int ret = image_open(image, &config, why);

	if (ret == 0) {
		device_spec_image(options, disk, image, spec);
		return 0;
	}
	image->fd = -1;
	snprintf(error->text, sizeof(error->text), "%.*s", (int)sizeof(error->text) - 1, why);
	return ret;
}

int device_spec_rng(const struct run_options *options, int *source, struct device_spec *spec,
		    struct option_error *error)
{
	*source = open(RNG_SOURCE, O_RDONLY | O_CLOEXEC);
	if (*source < 0) {
		const int ret = -errno;

		option_fail(error, "rng: cannot open " RNG_SOURCE ": %s", strerror(-ret));
		return ret;
	}
	device_spec_begin(options, "rng", DEV_KIND_RNG, 1, spec);
	add_backend(spec, *source);
	/* It retries on the timer when the source had nothing. */
	spec->policy_when = POLICY_IF_TIMER;
	return 0;
}
