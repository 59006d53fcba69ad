/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two schemes of the release program, sealed, under the real supervisor.
 *
 * static    its processes are born with 64 GiB mapped of a sparse memfd, all that may ever come.  A
 *           region is a part of it; the processes learn of nothing, and keep everything.
 * rebirth   mayfly's: a region is a memfd of its own, and each change of the map is a generation that
 *           was born into it.
 */
#include <stdlib.h>

#include "benchmarks/amortize/scheme.h"
#include "benchmarks/common.h"
#include "core/cc.h"

#define STATIC_BYTES (64ull << 30)
#define WAIT_MS 20000

static void on_replaced(void *ctx, const struct replacement *r)
{
	struct scheme *s = ctx;

	bench_note_fence(&s->fences, r);
}

static const struct device_hooks hooks = { .replaced = on_replaced };

static int fork_spawner(struct scheme *s)
{
	return boxrig_start(&s->rig);
}

static int start_box(struct scheme *s)
{
	const struct boxrig_blk_config config = { .bytes = SCHEME_IMAGE_BYTES,
						  .hooks = &hooks,
						  .ctx = s };
	int ret = boxrig_blk_create(&s->rig, &config, &s->box);

	if (ret == 0)
		ret = scheme_add_load(s, &s->box.rings[0], s->box.image);
	return ret != 0 ? ret : boxrig_blk_go(&s->box);
}

static int start_static(struct scheme *s)
{
	int ret = scheme_add_memory(s);

	if (ret == 0)
		ret = guestmem_add(&s->rig.mem, SCHEME_NEW_GPA, STATIC_BYTES, GUESTMEM_4K);
	if (ret == 0)
		ret = boxrig_supervise(&s->rig);
	/* In the supervisor's map it stays; this process maps what is there of it. */
	if (ret == 0)
		ret = guestmem_remove(&s->rig.mem, SCHEME_NEW_GPA, &s->store);
	return ret != 0 ? ret : start_box(s);
}

static int start_rebirth(struct scheme *s)
{
	int ret = scheme_add_memory(s);

	if (ret == 0)
		ret = boxrig_supervise(&s->rig);
	return ret != 0 ? ret : start_box(s);
}

static int on_added(struct scheme *s)
{
	uint64_t prepared_ns;

	return bench_move(&s->rig, EPOCH_MOVED, &prepared_ns);
}

static int on_taken(struct scheme *s)
{
	uint64_t prepared_ns;

	return bench_move(&s->rig, EPOCH_GONE, &prepared_ns);
}

static int rest(struct scheme *s)
{
	return device_wait_standby(s->box.dev, WAIT_MS);
}

static pid_t pid(const struct scheme *s)
{
	struct device_status *status = malloc(sizeof(*status)); /* large */
	pid_t active = -1;

	if (status != NULL) {
		device_status(s->box.dev, status);
		active = status->pid;
	}
	free(status);
	return active;
}

static void stop(struct scheme *s)
{
	boxrig_blk_destroy(&s->box);
	boxrig_stop(&s->rig);
}

const struct scheme_ops scheme_static = {
	.letter = "b",
	.name = "static",
	.cannot =
		"that memory which was taken away is out of reach, and that more can come than was "
		"mapped at birth",
	.fork = fork_spawner,
	.start = start_static,
	.rest = rest,
	.pid = pid,
	.stop = stop,
};

const struct scheme_ops scheme_rebirth = {
	.letter = "e",
	.name = "rebirth",
	.cannot = "that a change is cheap: it costs a process, a pause, and the page tables anew",
	.fork = fork_spawner,
	.start = start_rebirth,
	.added = on_added,
	.taken = on_taken,
	.rest = rest,
	.pid = pid,
	.stop = stop,
};
