/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The thread steps the load in slices short enough to see `stop` soon;
 * draining and verifying are done by the caller once the thread is joined, so the load is never
 * shared.
 */
#include "tests/rig/loadrun.h"

#include <errno.h>
#include <stdio.h>

#include "core/cc.h"

#define SLICE_NS (5 * NS_PER_MS)
#define DRAIN_NS (20 * NS_PER_S)

static void *loadrun_main(void *arg)
{
	struct loadrun *run = arg;

	while (!__atomic_load_n(&run->stop, __ATOMIC_RELAXED) && run->error >= 0)
		run->error = blkload_step(&run->load, SLICE_NS);
	return NULL;
}

int loadrun_start(struct loadrun *run, struct guestmem *mem, const struct blkload_config *config,
		  struct ringdrv_queue *rings, uint32_t count, uint16_t depth)
{
	int ret;

	run->stop = run->running = false;
	run->error = 0;
	ret = blkload_init(&run->load, mem, config);
	if (ret != 0)
		return ret;
	for (uint32_t i = 0; i < count && ret == 0; i++)
		ret = blkload_add_queue(&run->load, &rings[i], depth);
	if (ret == 0)
		ret = -pthread_create(&run->thread, NULL, loadrun_main, run);
	if (ret != 0)
		blkload_free(&run->load);
	run->running = ret == 0;
	return ret;
}

int loadrun_progress(const struct loadrun *run, uint64_t more, uint32_t timeout_ms)
{
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
	const uint64_t want = blkload_completed(&run->load) + more;

	while (blkload_completed(&run->load) < want) {
		if (now_ns() >= end)
			return -ETIMEDOUT;
		usleep(50);
	}
	return 0;
}

static void loadrun_join(struct loadrun *run)
{
	if (!run->running)
		return;
	__atomic_store_n(&run->stop, true, __ATOMIC_RELAXED);
	pthread_join(run->thread, NULL);
	run->running = false;
}

bool loadrun_finish(struct loadrun *run, int image)
{
	const struct blkload_stats *s = &run->stats;
	bool read_back;

	loadrun_join(run);
	read_back = run->error >= 0 && blkload_drain(&run->load, DRAIN_NS) == 0 &&
		    blkload_verify(&run->load, DRAIN_NS) == 0 &&
		    (image < 0 || blkload_verify_image(&run->load, image) == 0);
	blkload_stats(&run->load, &run->stats);
	const bool clean = read_back && blkload_clean(&run->load);

	if (!clean)
		fprintf(stderr,
			"load: completed %llu lost %llu duplicated %llu corrupted %llu "
			"errors %llu: %s\n",
			(unsigned long long)s->completed, (unsigned long long)s->lost,
			(unsigned long long)s->duplicated, (unsigned long long)s->corrupted,
			(unsigned long long)s->errors, blkload_complaint(&run->load));
	blkload_free(&run->load);
	return clean;
}

void loadrun_abandon(struct loadrun *run)
{
	loadrun_join(run);
	blkload_free(&run->load);
}
