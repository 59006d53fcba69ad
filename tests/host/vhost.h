/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back-end in the test's process (core/vhost/broker.h, with the release programs) and a front-end that drives
 * it: its memory, its rings and its load.
 */
#ifndef MAYFLY_TESTS_HOST_VHOST_H
#define MAYFLY_TESTS_HOST_VHOST_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/box/news.h"
#include "core/cc.h"
#include "core/unixsock.h"
#include "core/vhost/broker.h"
#include "core/vhost/guard.h"
#include "devmodel/abi/policy.h"
#include "tests/rig/blkload.h"
#include "tests/rig/boxrig.h"
#include "tests/rig/vhostclient.h"

#define VHOST_IMAGE (16ull << 20)
#define VHOST_MEMORY (64ull << 20)
#define VHOST_STEP_NS 50000000ull
#define VHOST_WAIT_NS 20000000000ull
#define VHOST_STOP_MS 5000

struct vhost_rig {
	struct boxrig rig; /* its spawner and seal */
	struct broker broker;
	struct news *news;
	char dir[64];
	char path[96];
	int image;
	struct vhostclient client;
	struct guestmem mem;
	struct ringdrv_queue rings[2];
	uint32_t queues, deaths;
	struct blkload load;
	/* The load's own thread, while one runs. */
	pthread_t thread;
	bool loading;
	bool stop;
};

struct vhost_rig_config {
	uint32_t queues; /* 0: 1 */
	uint64_t memory; /* 0: VHOST_MEMORY */
	enum guestmem_pages pages;
	uint32_t deaths; /* in 10 s, until it is given up; 0: as many as there can be in 1 s */
};

static inline void vhost_rig_device(struct vhost_rig *v, struct device_spec *spec)
{
	*spec = (struct device_spec){
		.id = "disk0",
		.kind = DEV_KIND_BLK,
		.queues = v->queues,
		.lanes = 1,
		.guest_memory = true,
		.fsize = VHOST_IMAGE,
		.policy_when = POLICY_IF_FLUSH | POLICY_IF_WRITABLE,
		.backend_count = 1,
		.limits = { 1000, 2000 },
		.death_budget = v->deaths != 0 ? v->deaths : DEVICE_DEATHS_MAX,
		.death_window_s = v->deaths != 0 ? 10 : 1,
		.poison_limit = 2,
	};
	spec->backends[0] = v->image;
	spec->config.blk =
		(struct blk_config){ .bytes = VHOST_IMAGE, .flags = BLK_FLUSH, .align = 1 };
}

static inline void vhost_rig_broker(struct vhost_rig *v)
{
	const struct box_memory none = { .map = { .epoch = 0 } };
	struct device_spec device;
	char why[320] = "";
	struct service_spec spec = { .device = &device };
	const int listener = unixsock_listen(v->path, 4, SOCK_NONBLOCK);

	assert_true(listener >= 0);
	vhost_rig_device(v, &device);
	assert_int_equal(supervisor_create(&spec.sup, &v->rig.spawner, &v->rig.host, &none), 0);
	supervisor_tell(spec.sup, v->news);
	if (broker_create(&v->broker, &spec, listener, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	assert_int_equal(broker_start(&v->broker), 0);
}

/* A back-end that listens, a front-end that has memory and rings and is not connected. */
static inline struct vhost_rig *vhost_rig_start(const struct vhost_rig_config *config)
{
	struct vhost_rig *v = calloc(1, sizeof(*v));
	const struct ringdrv_config ring = { .features = RINGDRV_INDIRECT | RINGDRV_EVENT_IDX |
							 RINGDRV_VERSION_1,
					     .size = 128,
					     .in_order = true };

	assert_non_null(v);
	v->queues = config->queues != 0 ? config->queues : 1;
	v->deaths = config->deaths;
	assert_int_equal(guard_begin(), 0);
	assert_int_equal(boxrig_start(&v->rig), 0);
	snprintf(v->dir, sizeof(v->dir), "/tmp/mayfly-vhost.XXXXXX");
	assert_non_null(mkdtemp(v->dir));
	snprintf(v->path, sizeof(v->path), "%s/disk0.sock", v->dir);
	v->image = memfd_create("image", MFD_CLOEXEC);
	assert_true(v->image >= 0 && ftruncate(v->image, VHOST_IMAGE) == 0);
	assert_int_equal(news_create(&v->news), 0);
	vhost_rig_broker(v);
	guestmem_init(&v->mem);
	assert_int_equal(guestmem_add(&v->mem, 0,
				      config->memory != 0 ? config->memory : VHOST_MEMORY,
				      config->pages),
			 0);
	for (uint32_t i = 0; i < v->queues; i++) {
		struct ringdrv_config c = ring;

		c.number = (uint16_t)i;
		assert_int_equal(ringdrv_init(&v->rings[i], &v->mem, &c), 0);
	}
	vhostclient_init(&v->client);
	return v;
}

static inline void vhost_rig_connect(struct vhost_rig *v)
{
	assert_int_equal(vhostclient_connect(&v->client, v->path, VHOST_WAIT_NS), 0);
	assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, v->queues), 0);
}

static inline void vhost_rig_load(struct vhost_rig *v, uint64_t seed)
{
	const struct blkload_config config = { .sectors = VHOST_IMAGE / 512, .seed = seed };

	assert_int_equal(blkload_init(&v->load, &v->mem, &config), 0);
	for (uint32_t i = 0; i < v->queues; i++)
		assert_int_equal(blkload_add_queue(&v->load, &v->rings[i], 16), 0);
}

/* So many more requests are answered. */
static inline void vhost_rig_run(struct vhost_rig *v, uint64_t requests)
{
	const uint64_t goal = blkload_completed(&v->load) + requests;
	const uint64_t end = now_ns() + VHOST_WAIT_NS;

	while (blkload_completed(&v->load) < goal && now_ns() < end)
		assert_true(blkload_step(&v->load, VHOST_STEP_NS) >= 0);
	assert_true(blkload_completed(&v->load) >= goal);
}

static inline void *vhost_rig_loads(void *arg)
{
	struct vhost_rig *v = arg;

	while (!__atomic_load_n(&v->stop, __ATOMIC_RELAXED))
		blkload_step(&v->load, VHOST_STEP_NS);
	return NULL;
}

/* The load goes on by itself, until vhost_rig_halt(). */
static inline void vhost_rig_go(struct vhost_rig *v)
{
	v->stop = false;
	assert_int_equal(pthread_create(&v->thread, NULL, vhost_rig_loads, v), 0);
	v->loading = true;
}

static inline void vhost_rig_halt(struct vhost_rig *v)
{
	__atomic_store_n(&v->stop, true, __ATOMIC_RELAXED);
	if (v->loading)
		pthread_join(v->thread, NULL);
	v->loading = false;
}

/* Nothing is outstanding, lost, doubled or wrong; the image holds what it must. */
static inline void vhost_rig_check(struct vhost_rig *v)
{
	assert_int_equal(blkload_drain(&v->load, VHOST_WAIT_NS), 0);
	assert_int_equal(blkload_verify_image(&v->load, v->image), 0);
	if (!blkload_clean(&v->load))
		fail_msg("%s", blkload_complaint(&v->load));
	blkload_resume(&v->load);
}

static inline void vhost_rig_stop(struct vhost_rig *v)
{
	vhost_rig_halt(v);
	blkload_free(&v->load);
	for (uint32_t i = 0; i < v->queues; i++)
		ringdrv_free(&v->rings[i]);
	vhostclient_free(&v->client);
	guestmem_free(&v->mem);
	broker_stop(&v->broker, VHOST_STOP_MS);
	broker_destroy(&v->broker);
	news_destroy(v->news);
	boxrig_stop(&v->rig);
	close(v->image);
	unlink(v->path);
	rmdir(v->dir);
	free(v);
}

#endif
