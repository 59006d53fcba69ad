/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mayfly vhost-user is asked for.  The same is said in three ways: a kind as the operand, options, a
 * configuration file; at the end each device has a socket of its own, or takes one of systemd's.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/config.h"
#include "core/options.h"
#include "core/options_internal.h"

#define RNG "rng"

static uint32_t device_count(const struct run_options *run)
{
	return run->disk_count + (run->rng ? 1 : 0);
}

static const char *device_id(const struct run_options *run, uint32_t i)
{
	return i < run->disk_count ? run->disks[i].id : RNG;
}

static const char *device_socket(const struct run_options *run, uint32_t i)
{
	return run_own((struct run_options *)run, device_id(run, i))->socket;
}

/* ---- the kind ---- */

static int blk_check(struct run_options *run, struct option_error *error)
{
	if (run->rng)
		return option_fail(error, "blk: not together with --rng: leave out the kind");
	return run->disk_count == 1 ? 0 : option_fail(error, "blk: needs one --disk");
}

static int rng_check(struct run_options *run, struct option_error *error)
{
	run->rng = true;
	return run->disk_count == 0
		       ? 0
		       : option_fail(error, "rng: not together with --disk: leave out the kind");
}

static const struct {
	const char *name;
	int (*check)(struct run_options *run, struct option_error *error);
} kinds[] = { { "blk", blk_check }, { RNG, rng_check } };

/* One device of this kind, and nothing else. */
static int kind_check(const struct vhost_options *vhost, struct run_options *run,
		      struct option_error *error)
{
	if (vhost->operand_count == 0)
		return 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(vhost->operands[0], kinds[i].name) == 0)
			return kinds[i].check(run, error);
	}
	return option_fail(error, "'%.40s' is not blk or rng", vhost->operands[0]);
}

/* ---- sockets ---- */

/* --socket goes to the one device that there is. */
static int socket_give(const struct vhost_options *vhost, struct run_options *run,
		       struct option_error *error)
{
	struct run_own *own;

	if (vhost->socket[0] == '\0')
		return 0;
	if (device_count(run) != 1)
		return option_fail(error,
				   "--socket: there are %u devices: give each its own "
				   "(--disk ..,socket=SOCKET; mayfly.devices.rng.socket)",
				   device_count(run));
	own = run_own(run, device_id(run, 0));
	if (own->socket[0] != '\0')
		return option_fail(error, "--socket: %s has one already", device_id(run, 0));
	memcpy(own->socket, vhost->socket, sizeof(own->socket));
	return 0;
}

/* Whether it is one of systemd's is found out by whoever takes it (core/vhost/activation.h). */
static bool systemd_gives(void)
{
	return getenv("LISTEN_FDS") != NULL;
}

static int socket_check(const struct run_options *run, uint32_t device, struct option_error *error)
{
	const char *id = device_id(run, device), *socket = device_socket(run, device);

	if (socket[0] == '\0')
		return systemd_gives() ? 0
				       : option_fail(error,
						     "%s: needs a socket (--socket SOCKET; "
						     "--disk ..,socket=SOCKET)",
						     id);
	if (strcmp(socket, run->api_socket) == 0)
		return option_fail(error, "%s: socket: is the API's", id);
	for (uint32_t i = 0; i < device; i++) {
		if (strcmp(socket, device_socket(run, i)) == 0)
			return option_fail(error, "%s: socket: %.100s is %s's", id, socket,
					   device_id(run, i));
	}
	return 0;
}

/* Of a device that is not there. */
static int stray_check(const struct run_options *run, struct option_error *error)
{
	if (!run->rng && run->own[OWN_DEVICE_RNG].socket[0] != '\0')
		return option_fail(error, "rng: socket: there is no such device (--rng)");
	return 0;
}

static int sockets_check(const struct run_options *run, struct option_error *error)
{
	int ret = stray_check(run, error);

	for (uint32_t i = 0; i < device_count(run) && ret == 0; i++)
		ret = socket_check(run, i, error);
	return ret;
}

/* ---- all ---- */

/* The guest is another VMM's to boot. */
static int no_root_check(const struct run_options *run, struct option_error *error)
{
	for (uint32_t i = 0; i < run->disk_count; i++) {
		const struct run_disk *disk = &run->disks[i];

		if (disk->root || disk->partuuid[0] != '\0')
			return option_fail(error, "drives: %s: %s: is of a VM only", disk->id,
					   disk->root ? "is_root_device" : "partuuid");
	}
	return 0;
}

static int whole_check(const struct vhost_options *vhost, struct run_options *run,
		       struct option_error *error)
{
	int ret = kind_check(vhost, run, error);

	if (ret == 0 && device_count(run) == 0)
		ret = option_fail(error, "no device: give blk or rng, --disk, --rng or --config");
	if (ret == 0)
		ret = socket_give(vhost, run, error);
	if (ret == 0)
		ret = sockets_check(run, error);
	if (ret == 0)
		ret = no_root_check(run, error);
	return ret == 0 ? devices_check(run, error) : ret;
}

/* What a configuration file may still supply is not missed here. */
int vhost_check(void *out, struct option_error *error)
{
	struct vhost_options *vhost = out;
	struct run_options *run;
	int ret;

	if (vhost->run.id[0] == '\0')
		snprintf(vhost->run.id, sizeof(vhost->run.id), "vhost%d", getpid());
	if (vhost->run.config[0] != '\0')
		return devices_check(&vhost->run, error);
	run = malloc(sizeof(*run));
	if (run == NULL)
		return option_fail(error, "out of memory");
	*run = vhost->run;
	ret = whole_check(vhost, run, error);
	free(run);
	return ret;
}

int vhost_configure(const struct vhost_options *vhost, struct run_options *run,
		    struct option_error *error)
{
	struct vhost_options *loaded;
	int ret = 0;

	*run = vhost->run;
	if (run->config[0] != '\0') {
		loaded = malloc(sizeof(*loaded));
		if (loaded == NULL)
			return option_fail(error, "out of memory");
		*loaded = *vhost;
		ret = config_load(run->config, &vhost_set, loaded, error);
		*run = loaded->run;
		free(loaded);
	}
	return ret == 0 ? whole_check(vhost, run, error) : ret;
}
