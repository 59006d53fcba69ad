/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A region comes: the VMM, which is this process, makes and maps it, the scheme
 * brings it to the device, then the driver is lent it.  It goes: the driver gives it back when its last
 * request there is answered, as a guest does before it ejects a DIMM; the VMM unmaps it, the scheme takes
 * it from the device, its pages are freed and the kernel is asked to seal the memfd against writing.  It
 * refuses when anybody still has it mapped (docs/hotplug.md): so what a scheme brought about is measured,
 * and not believed.
 */
#include "benchmarks/amortize/scheme.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/common.h"
#include "core/cc.h"

#define WAIT_MS 20000

/* ---- life ---- */

int scheme_fork(struct scheme *s, const struct scheme_ops *ops, const struct dev_ops *program,
		uint64_t seed)
{
	memset(s, 0, sizeof(*s));
	s->ops = ops;
	s->program = program;
	s->wrapped = *program;
	s->store = s->box.image = -1;
	s->seed = s->random = seed;
	guestmem_init(&s->rig.mem);
	lentmem_init(&s->lent);
	return ops->fork != NULL ? ops->fork(s) : 0;
}

int scheme_start(struct scheme *s)
{
	return s->ops->start != NULL ? s->ops->start(s) : 0;
}

void scheme_stop(struct scheme *s)
{
	if (s->ops == NULL)
		return;
	if (s->ops->stop != NULL)
		s->ops->stop(s);
	backend_stop(&s->backend);
	bareblk_destroy(&s->bare);
	blkload_free(&s->load);
	lentmem_destroy(&s->lent);
	cc_close(&s->store);
	guestmem_free(&s->rig.mem);
}

pid_t scheme_pid(const struct scheme *s)
{
	return s->ops->pid != NULL ? s->ops->pid(s) : s->backend.pid;
}

int scheme_add_memory(struct scheme *s)
{
	int ret = guestmem_add(&s->rig.mem, 0, SCHEME_LOW_BYTES, GUESTMEM_4K);

	if (ret == 0)
		ret = guestmem_add(&s->rig.mem, SCHEME_DATA_GPA, SCHEME_DATA_BYTES, GUESTMEM_4K);
	return ret != 0 ? ret : guestmem_populate(&s->rig.mem);
}

int scheme_add_load(struct scheme *s, struct ringdrv_queue *ring, int image)
{
	struct blkload_config config = bench_blk_load(SCHEME_IMAGE_BYTES, s->seed);
	int ret;

	/* The client must not be what limits throughput. */
	config.segments = 1;
	config.verify = BLKLOAD_HEADER;
	config.roam_bytes = SCHEME_DATA_BYTES;
	config.scatter = true;
	config.lent = &s->lent;
	if (fallocate(image, 0, 0, SCHEME_IMAGE_BYTES) != 0)
		return -errno;
	ret = blkload_init(&s->load, &s->rig.mem, &config);
	return ret != 0 ? ret : blkload_add_queue(&s->load, ring, SCHEME_DEPTH);
}

int scheme_add_bare(struct scheme *s)
{
	int ret = scheme_add_memory(s);

	if (ret == 0)
		ret = bareblk_create(&s->bare, &s->rig.mem, SCHEME_IMAGE_BYTES);
	return ret != 0 ? ret : scheme_add_load(s, &s->bare.ring, s->bare.image);
}

/* ---- changes ---- */

void scheme_map_add(struct mem_map *map, uint64_t addr)
{
	map->regions[map->count] = (struct mem_region){ SCHEME_NEW_GPA, SCHEME_NEW_BYTES, addr };
	__atomic_store_n(&map->count, map->count + 1, __ATOMIC_RELEASE);
}

void scheme_map_take(struct mem_map *map)
{
	__atomic_store_n(&map->count, map->count - 1, __ATOMIC_RELEASE);
}

static int make_region(struct scheme *s)
{
	int fd, ret;

	if (s->store < 0)
		return guestmem_add(&s->rig.mem, SCHEME_NEW_GPA, SCHEME_NEW_BYTES, GUESTMEM_4K);
	fd = fcntl(s->store, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = guestmem_add_fd(&s->rig.mem, SCHEME_NEW_GPA, SCHEME_NEW_BYTES, fd);
	if (ret != 0)
		close(fd);
	return ret;
}

/* A hole cannot be punched after the seal, and pages that are gone cannot hold it up. */
static int prove_revoked(struct scheme *s, int fd)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SCHEME_NEW_BYTES) != 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
		s->revoked++;
	else if (errno == EBUSY)
		s->not_revoked++;
	else
		return -errno;
	return 0;
}

static int add(struct scheme *s)
{
	const uint64_t places = SCHEME_NEW_BYTES / SCHEME_LENT_BYTES;
	const uint64_t at = bench_random(&s->random) % places * SCHEME_LENT_BYTES;
	int ret = make_region(s);

	if (ret == 0 && s->ops->added != NULL)
		ret = s->ops->added(s);
	if (ret == 0)
		lentmem_give(&s->lent, SCHEME_NEW_GPA + at, SCHEME_LENT_BYTES);
	s->there = ret == 0;
	return ret;
}

static int take(struct scheme *s)
{
	cleanup_fd int fd = -1;
	int ret = lentmem_take_back(&s->lent, WAIT_MS);

	s->there = false;
	if (ret == 0)
		ret = guestmem_remove(&s->rig.mem, SCHEME_NEW_GPA, &fd);
	if (ret == 0 && s->ops->taken != NULL)
		ret = s->ops->taken(s);
	return ret != 0 ? ret : prove_revoked(s, fd);
}

int scheme_change(void *ctx)
{
	struct scheme *s = ctx;
	const uint64_t begin = now_ns();
	const int ret = s->there ? take(s) : add(s);

	if (ret == 0 && s->took != NULL)
		hist_add(s->took, now_ns() - begin);
	return ret;
}

int scheme_rest(struct scheme *s)
{
	const int ret = s->there ? take(s) : 0;

	return ret == 0 && s->ops->rest != NULL ? s->ops->rest(s) : ret;
}
