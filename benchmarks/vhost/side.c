/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The client is what a guest's driver is: it sleeps until it is called when there is
 * nothing to take, and looks at the ring without a system call while there is.  Blocks carry their sector
 * and request number, and these are checked; not every byte is, for then the client would be the
 * bottleneck.  Both loads of a side use the same rings, one after the other: side_run() leaves nothing
 * outstanding.
 */
#include "benchmarks/vhost/side.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "benchmarks/common.h"
#include "core/cc.h"

#define MEMORY_BYTES (96u << 20)
#define ROAM_BYTES                                                                                 \
	(16u << 20) /* of each queue's buffers, where that is more than the depth needs */
#define LOAD_BYTES (64u << 20) /* of the image, for each load */
#define RING_SIZE 256
#define FEATURES (RINGDRV_VERSION_1 | RINGDRV_EVENT_IDX | RINGDRV_INDIRECT)
#define WARM_MS 300
#define START_MS 10000
#define CONNECT_NS (20 * NS_PER_MS)
#define ANSWER_NS (20 * NS_PER_S)

const uint32_t side_bytes[SIDE_SIZES] = { [SIDE_4K] = 4096, [SIDE_64K] = 65536 };

volatile sig_atomic_t side_interrupted;

/* ---- from nothing to ready ---- */

/* It has just been started: until it listens, or has ended. */
static int connect_to(struct side *s)
{
	const uint64_t end = now_ns() + START_MS * NS_PER_MS;
	char path[PATH_MAX];
	int ret = -ETIMEDOUT;

	server_socket(&s->server, path);
	while (ret == -ETIMEDOUT && now_ns() < end) {
		ret = vhostclient_connect(&s->client, path, CONNECT_NS);
		if (ret == -ETIMEDOUT && !server_runs(&s->server))
			ret = -ECHILD;
		if (side_interrupted)
			ret = -EINTR;
	}
	return ret;
}

static int make_rings(struct side *s)
{
	int ret = 0;

	for (uint32_t i = 0; i < s->setup.queues && ret == 0; i++) {
		const struct ringdrv_config config = {
			.features = FEATURES & s->client.offered,
			.size = RING_SIZE,
			.number = (uint16_t)i,
		};

		ret = ringdrv_init(&s->rings[i], &s->mem, &config);
	}
	return ret;
}

static int make_load(struct side *s, uint32_t size)
{
	const struct blkload_config config = {
		.first_sector = (uint64_t)size * LOAD_BYTES / BLK_SECTOR,
		.sectors = LOAD_BYTES / BLK_SECTOR,
		.seed = 17 + size, /* alike on both sides */
		.min_bytes = side_bytes[size],
		.max_bytes = side_bytes[size],
		.align = side_bytes[size],
		.segments = 1,
		.weights = { [BLKLOAD_READ] = 1, [BLKLOAD_WRITE] = 1 },
		.verify = BLKLOAD_HEADER,
		.roam_bytes = ROAM_BYTES,
	};
	const uint16_t depth = (uint16_t)(SIDE_DEPTH_MAX / s->setup.queues);
	int ret = blkload_init(&s->loads[size], &s->mem, &config);

	for (uint32_t i = 0; i < s->setup.queues && ret == 0; i++)
		ret = blkload_add_queue(&s->loads[size], &s->rings[i], depth);
	return ret;
}

static int make_loads(struct side *s)
{
	int ret = 0;

	for (uint32_t size = 0; size < SIDE_SIZES && ret == 0; size++)
		ret = make_load(s, size);
	return ret != 0 ? ret : guestmem_populate(&s->mem);
}

static int begin(struct side *s)
{
	int ret = server_prepare(&s->server, &s->setup);

	if (ret == 0)
		ret = guestmem_add(&s->mem, 0, MEMORY_BYTES, GUESTMEM_4K);
	if (ret == 0)
		ret = server_start(&s->server, &s->setup);
	if (ret == 0)
		ret = connect_to(s);
	if (ret == 0)
		ret = vhostclient_negotiate(&s->client, s->setup.queues);
	if (ret == 0)
		ret = make_rings(s);
	if (ret == 0)
		ret = make_loads(s);
	return ret != 0 ? ret : vhostclient_start(&s->client, &s->mem, s->rings, s->setup.queues);
}

int side_begin(struct side *s, const char *name, const struct server_setup *setup)
{
	int ret;

	memset(s, 0, sizeof(*s));
	s->name = name;
	s->setup = *setup;
	s->setup.image_bytes = (uint64_t)SIDE_SIZES * LOAD_BYTES;
	s->server.image = -1;
	guestmem_init(&s->mem);
	vhostclient_init(&s->client);
	ret = begin(s);
	if (ret != 0)
		fprintf(stderr, "bench-vhost: %s: start: %s\n", name, strerror(-ret));
	return ret;
}

/* ---- measuring ---- */

static int run_window(struct side *s, struct blkload *load, uint64_t ns, double *iops)
{
	int ret = bench_window(load, ns, iops);

	if (ret == 0)
		ret = blkload_drain(load, ANSWER_NS);
	if (ret != 0)
		fprintf(stderr, "bench-vhost: %s: %s\n", s->name, strerror(-ret));
	return ret == 0 && side_interrupted ? -EINTR : ret;
}

int side_run(struct side *s, uint32_t size, uint32_t depth, uint64_t ns, double *iops,
	     struct side_figures *figures)
{
	struct blkload *load = &s->loads[size];
	const uint64_t before = blkload_completed(load);
	uint64_t cpu_before = 0, cpu_after = 0;
	int ret = figures != NULL ? server_cpu_ns(&s->server, &cpu_before) : 0;

	if (ret != 0)
		return ret;
	load->config.latency = figures != NULL ? &figures->latency : NULL;
	blkload_limit(load, depth);
	blkload_resume(load);
	ret = run_window(s, load, ns, iops);
	load->config.latency = NULL;
	if (ret != 0 || figures == NULL)
		return ret;
	ret = server_cpu_ns(&s->server, &cpu_after);
	figures->cpu_ns += cpu_after - cpu_before;
	figures->requests += blkload_completed(load) - before;
	return ret;
}

int side_warm(struct side *s)
{
	double ignored;
	int ret = 0;

	for (uint32_t size = 0; size < SIDE_SIZES && ret == 0; size++)
		ret = side_run(s, size, SIDE_DEPTH_MAX, WARM_MS * NS_PER_MS, &ignored, NULL);
	return ret;
}

/* ---- the end ---- */

static int read_back(struct side *s)
{
	int ret = 0;

	for (uint32_t size = 0; size < SIDE_SIZES && ret == 0; size++) {
		blkload_limit(&s->loads[size], SIDE_DEPTH_MAX);
		ret = blkload_verify(&s->loads[size], ANSWER_NS);
	}
	return ret;
}

static int compare_image(struct side *s)
{
	int ret = 0;

	for (uint32_t size = 0; size < SIDE_SIZES && ret == 0; size++)
		ret = blkload_verify_image(&s->loads[size], s->server.image);
	return ret;
}

static void add_stats(struct side *s, struct blkload_stats *sum)
{
	for (uint32_t size = 0; size < SIDE_SIZES; size++) {
		struct blkload_stats stats;

		blkload_stats(&s->loads[size], &stats);
		sum->completed += stats.completed;
		sum->lost += stats.lost + stats.errors;
		sum->duplicated += stats.duplicated;
		sum->corrupted += stats.corrupted;
	}
}

/* qemu-storage-daemon 7.2 does not always end when it is told to; ours has to. */
static int end_server(struct side *s)
{
	const int ret = server_stop(&s->server);

	if (ret != 0)
		fprintf(stderr, "bench-vhost: %s: end: %s\n", s->name, strerror(-ret));
	return s->setup.kind == SERVER_QSD ? 0 : ret;
}

int side_finish(struct side *s, struct blkload_stats *sum)
{
	int ret = read_back(s);

	if (ret == 0)
		ret = vhostclient_stop(&s->client, NULL);
	vhostclient_drop(&s->client);
	if (ret == 0)
		ret = end_server(s);
	if (ret == 0)
		ret = compare_image(s);
	add_stats(s, sum);
	for (uint32_t size = 0; size < SIDE_SIZES && ret == 0; size++)
		ret = blkload_clean(&s->loads[size]) ? 0 : -EIO;
	return ret;
}

void side_end(struct side *s)
{
	if (s->name == NULL)
		return;
	s->name = NULL;
	vhostclient_free(&s->client);
	server_end(&s->server);
	for (uint32_t size = 0; size < SIDE_SIZES; size++)
		blkload_free(&s->loads[size]);
	for (uint32_t i = 0; i < SIDE_QUEUES_MAX; i++)
		ringdrv_free(&s->rings[i]);
	guestmem_free(&s->mem);
}
