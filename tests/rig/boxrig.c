/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/rig/boxrig.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"
#include "devmodel/abi/policy.h"

/* build/X/Y/program -> build/SET, whichever build it is. 0 or -ENOENT. */
static int program_dir(const char *set, char *dir, size_t room)
{
	char exe[3072];
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n < 0 ? 0 : n] = '\0';
	for (char *p = dirname(exe); strlen(p) > 1; p = dirname(p)) {
		snprintf(dir, room, "%s/%s/mayfly-blk", p, set);
		if (access(dir, X_OK) == 0) {
			*strrchr(dir, '/') = '\0';
			return 0;
		}
	}
	fprintf(stderr, "host rig: build/%s is missing: make it first\n", set);
	return -ENOENT;
}

int boxrig_use(const char *set)
{
	char dir[4096];
	const int ret = program_dir(set, dir, sizeof(dir));

	if (ret != 0)
		return ret;
	return setenv("MAYFLY_PROGRAMS", dir, 1) != 0 ? -errno : 0;
}

int boxrig_start(struct boxrig *rig)
{
	const char *what = "", *env = getenv("MAYFLY_PROGRAMS");
	char dir[4096];
	int ret = 0;

	memset(rig, 0, sizeof(*rig));
	if (env != NULL)
		snprintf(dir, sizeof(dir), "%s", env);
	else
		ret = program_dir("dev", dir, sizeof(dir));
	if (ret != 0)
		return ret;
	seal_host_probe(&rig->host);
	guestmem_init(&rig->mem);
	ret = spawner_start(&rig->spawner, dir, NULL, &what);
	if (ret != 0)
		fprintf(stderr, "host rig: cannot %s: %s\n", what, strerror(-ret));
	return ret;
}

void boxrig_memory(const struct boxrig *rig, struct box_memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	memory->map = rig->mem.map;
	memcpy(memory->fds, rig->mem.fds, sizeof(memory->fds));
	for (uint32_t i = 0; i < memory->map.count; i++)
		memory->page_bytes[i] = rig->mem.page_bytes[i];
}

int boxrig_supervise(struct boxrig *rig)
{
	struct box_memory *memory = malloc(sizeof(*memory));
	int ret;

	if (memory == NULL)
		return -ENOMEM;
	boxrig_memory(rig, memory);
	ret = supervisor_create(&rig->sup, &rig->spawner, &rig->host, memory);
	free(memory);
	return ret;
}

void boxrig_stop(struct boxrig *rig)
{
	supervisor_destroy(rig->sup);
	rig->sup = NULL;
	spawner_stop(&rig->spawner);
	guestmem_free(&rig->mem);
}

/* ---- blk ---- */

static int make_image(const struct boxrig_blk_config *c, uint64_t bytes)
{
	char path[4096];
	int fd, again;

	if (c->dir == NULL) {
		fd = memfd_create("image", MFD_CLOEXEC);
	} else {
		snprintf(path, sizeof(path), "%s/boxrig.XXXXXX", c->dir);
		fd = mkostemp(path, O_CLOEXEC);
	}
	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		return -errno;
	if (c->dir == NULL)
		return fd;
	again = open(path,
		     (c->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | (c->direct ? O_DIRECT : 0));
	if (again < 0)
		again = -errno;
	unlink(path);
	close(fd);
	return again;
}

static struct device_spec make_spec(const struct boxrig_blk_config *c, const struct boxrig_blk *blk)
{
	struct device_spec spec = {
		.kind = c->as_kind ? c->kind : DEV_KIND_BLK,
		.queues = blk->queues,
		.lanes = c->lanes != 0 ? c->lanes : 1,
		.backends = { blk->image },
		.backend_count = 1,
		.guest_memory = true,
		.fsize = blk->bytes,
		.policy_when = POLICY_IF_FLUSH | (c->readonly ? 0 : POLICY_IF_WRITABLE) |
			       (c->ops.size != 0 ? POLICY_IF_TIMER : 0),
		.death_budget = c->death_budget,
		.death_window_s = c->death_window_s,
		.poison_limit = c->poison_limit,
		.limits = c->limits,
		.audit_ms = c->audit_ms,
		.hooks = c->hooks,
		.ctx = c->ctx,
	};

	spec.config.blk.bytes = blk->bytes;
	spec.config.blk.flags =
		BLK_FLUSH | (c->readonly ? BLK_READONLY : 0) | (c->direct ? BLK_DIRECT : 0);
	spec.config.blk.align = c->direct ? 512 : 1;
	spec.config.blk.ops = c->ops;
	snprintf(spec.id, sizeof(spec.id), "%s", c->name != NULL ? c->name : "disk0");
	snprintf(spec.config.blk.id, sizeof(spec.config.blk.id), "%s",
		 c->name != NULL ? c->name : "mayfly-rig");
	return spec;
}

int boxrig_blk_create(struct boxrig *rig, const struct boxrig_blk_config *c, struct boxrig_blk *blk)
{
	struct device_spec spec;
	int ret = 0;

	memset(blk, 0, sizeof(*blk));
	blk->rig = rig;
	blk->bytes = c->bytes != 0 ? c->bytes : 64u << 20;
	blk->queues = c->queues != 0 ? c->queues : 1;
	blk->features = RINGDRV_VERSION_1 |
			(c->features != 0 ? c->features : RINGDRV_INDIRECT | RINGDRV_EVENT_IDX);
	blk->image = c->image_given ? c->image : make_image(c, blk->bytes);
	if (blk->image < 0)
		return blk->image;
	spec = make_spec(c, blk);
	for (uint32_t i = 0; i < blk->queues && ret == 0; i++) {
		const struct ringdrv_config rc = {
			.features = blk->features,
			.size = c->ring_size != 0 ? c->ring_size : 256,
			.number = (uint16_t)i,
			.in_order = true,
		};

		ret = ringdrv_init(&blk->rings[i], &rig->mem, &rc);
		spec.kick[i] = blk->rings[i].fd_kick;
		spec.call[i] = blk->rings[i].fd_call;
	}
	if (ret == 0)
		ret = device_create(rig->sup, &spec, &blk->dev);
	if (ret == 0)
		ret = device_wait_standby(blk->dev, 10000);
	if (ret != 0)
		boxrig_blk_destroy(blk);
	return ret;
}

int boxrig_blk_go(struct boxrig_blk *blk)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };

	for (uint32_t i = 0; i < blk->queues; i++)
		ringdrv_describe(&blk->rings[i], &queues[i]);
	return device_start(blk->dev, blk->features, queues);
}

void boxrig_blk_destroy(struct boxrig_blk *blk)
{
	device_destroy(blk->dev);
	blk->dev = NULL;
	for (uint32_t i = 0; i < blk->queues; i++)
		ringdrv_free(&blk->rings[i]);
	cc_close(&blk->image);
}

/* ---- rng ---- */

#define RNG_FEATURES (RINGDRV_VERSION_1 | RINGDRV_EVENT_IDX)

static int rng_device(struct boxrig *rig, const struct boxrig_rng_config *c, struct boxrig_rng *rng)
{
	struct device_spec spec = {
		.kind = DEV_KIND_RNG,
		.queues = 1,
		.lanes = 1,
		.kick = { rng->ring.fd_kick },
		.call = { rng->ring.fd_call },
		.backends = { rng->source },
		.backend_count = 1,
		.guest_memory = true,
		.hooks = c->hooks,
		.ctx = c->ctx,
	};
	int ret;

	snprintf(spec.id, sizeof(spec.id), "%s", c->id);
	ret = device_create(rig->sup, &spec, &rng->dev);
	return ret != 0 ? ret : device_wait_standby(rng->dev, 10000);
}

int boxrig_rng_create(struct boxrig *rig, const struct boxrig_rng_config *c, struct boxrig_rng *rng)
{
	const struct ringdrv_config ring = { .features = RNG_FEATURES,
					     .size = c->ring_size,
					     .in_order = true };
	int ret;

	memset(rng, 0, sizeof(*rng));
	rng->source = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	ret = rng->source < 0 ? -errno : ringdrv_init(&rng->ring, &rig->mem, &ring);
	if (ret == 0)
		ret = rng_device(rig, c, rng);
	if (ret != 0)
		boxrig_rng_destroy(rng);
	return ret;
}

int boxrig_rng_go(struct boxrig_rng *rng)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };

	ringdrv_describe(&rng->ring, &queues[0]);
	return device_start(rng->dev, RNG_FEATURES, queues);
}

void boxrig_rng_destroy(struct boxrig_rng *rng)
{
	device_destroy(rng->dev);
	rng->dev = NULL;
	ringdrv_free(&rng->ring);
	if (rng->source > 0) /* 0: it is all zero */
		cc_close(&rng->source);
}

void boxrig_seal_names(const struct boxrig *rig, const char **names, uint32_t max)
{
	const struct {
		const char *name;
		bool on;
	} layers[] = {
		{ "namespaces", true },
		{ "user-namespace", rig->spawner.user_ns },
		{ "ids", (rig->host.seal & SEAL_WANT_IDS) != 0 },
		{ "capabilities", true },
		{ "no_new_privs", true },
		{ "rlimits", true },
		{ "landlock", (rig->host.seal & SEAL_WANT_LANDLOCK) != 0 },
		{ "mseal", (rig->host.seal & SEAL_WANT_MSEAL) != 0 },
		{ "mdwe", (rig->host.seal & SEAL_WANT_MDWE) != 0 },
		{ "seccomp", true },
		{ "listener", (rig->host.seal & SEAL_WANT_LISTENER) != 0 },
	};
	uint32_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(layers) && n + 1 < max; i++) {
		if (layers[i].on)
			names[n++] = layers[i].name;
	}
	names[n] = NULL;
}
