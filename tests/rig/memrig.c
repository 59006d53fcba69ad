/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/rig/memrig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/cc.h"

#define FEATURES (RINGDRV_VERSION_1 | RINGDRV_EVENT_IDX)
#define UNTOUCHED 0xa5
#define WAIT_MS 10000
#define RESP_AT 64 /* behind the request */

/* ---- the VMM's part ---- */

static int judge(struct memrig *m, const struct device_question *question)
{
	struct vmem_result result;
	struct mem_ask ask;

	CHECK(mem_ask_parse(question->value, question->detail, &ask));
	vmem_ask(&m->v, &ask, &result);
	m->repeated += result.repeated;
	return device_answer_question(m->dev, question, result.answer);
}

static void on_asked(void *ctx, const struct device_question *question)
{
	struct memrig *m = container_of(ctx, struct memrig, watch);

	pthread_mutex_lock(&m->lock);
	m->questions++;
	m->held = *question;
	if (!m->hold)
		m->late += judge(m, question) != 0;
	pthread_mutex_unlock(&m->lock);
}

static void on_reset(void *ctx)
{
	struct memrig *m = container_of(ctx, struct memrig, watch);

	pthread_mutex_lock(&m->lock);
	vmem_forget(&m->v);
	pthread_mutex_unlock(&m->lock);
	watch_hooks.reset_done(ctx);
}

int memrig_release(struct memrig *m)
{
	struct vmem_result result;
	struct mem_ask ask;

	/* Without the lock while the supervisor's thread is waited for: it may want it. */
	pthread_mutex_lock(&m->lock);
	const struct device_question question = m->held;

	CHECK(mem_ask_parse(question.value, question.detail, &ask));
	vmem_ask(&m->v, &ask, &result);
	m->repeated += result.repeated;
	pthread_mutex_unlock(&m->lock);
	return device_answer_question(m->dev, &question, result.answer);
}

/* ---- the device ---- */

static int make_device(struct boxrig *rig, struct memrig *m, const struct device_spec *like)
{
	static struct device_hooks hooks;
	struct device_spec spec = {
		.id = "mem0",
		.kind = DEV_KIND_MEM,
		.queues = 1,
		.lanes = 1,
		.kick = { m->ring.fd_kick },
		.call = { m->ring.fd_call },
		.guest_memory = true,
		.death_budget = like->death_budget,
		.death_window_s = like->death_window_s,
		.limits = like->limits,
		.hooks = &hooks,
		.ctx = &m->watch,
	};

	hooks = watch_hooks;
	hooks.asked = on_asked;
	hooks.reset_done = on_reset;
	vmem_config(&m->v, &spec.config.mem);
	const int ret = device_create(rig->sup, &spec, &m->dev);

	return ret != 0 ? ret : device_wait_standby(m->dev, WAIT_MS);
}

static int make_truth(struct memrig *m, uint64_t requested)
{
	const struct vmem_spec spec = { .addr = MEMRIG_ADDR,
					.region_bytes = MEMRIG_BLOCKS * MEMRIG_BLOCK,
					.block_bytes = MEMRIG_BLOCK,
					.page_bytes = 4096,
					.slot_bytes = MEMRIG_BLOCK };
	const char *why;
	int ret = vmem_init(&m->v, &spec, &why);

	if (ret == 0)
		ret = vmem_mapped(&m->v, spec.region_bytes);
	return ret != 0 ? ret : vmem_request(&m->v, requested * MEMRIG_BLOCK);
}

static int make_driver(struct boxrig *rig, struct memrig *m)
{
	const struct ringdrv_config ring = { .features = FEATURES, .size = 16, .in_order = true };
	gpa_t gpa;
	int ret = ringdrv_init(&m->ring, &rig->mem, &ring);

	if (ret == 0)
		ret = guestmem_alloc(&rig->mem, 4096, 64, &gpa);
	if (ret != 0)
		return ret;
	m->gpa = gpa.raw;
	m->req = guestmem_ptr(&rig->mem, gpa, 4096);
	m->resp = (uint8_t *)m->req + RESP_AT;
	return 0;
}

static int start(struct memrig *m)
{
	const uint64_t started = watch_count(&m->watch, WATCH_STARTED);
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };
	int ret;

	ringdrv_describe(&m->ring, &queues[0]);
	ret = device_start(m->dev, FEATURES, queues);
	return ret != 0 ? ret : watch_wait(&m->watch, WATCH_STARTED, started + 1, WAIT_MS);
}

int memrig_create(struct boxrig *rig, struct memrig *m, uint64_t requested,
		  const struct device_spec *like)
{
	int ret;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	watch_init(&m->watch);
	ret = make_truth(m, requested);
	if (ret == 0)
		ret = make_driver(rig, m);
	if (ret == 0)
		ret = make_device(rig, m, like);
	return ret != 0 ? ret : start(m);
}

int memrig_restart(struct memrig *m)
{
	const uint64_t resets = watch_count(&m->watch, WATCH_RESET);
	int ret;

	device_reset(m->dev);
	ret = watch_wait(&m->watch, WATCH_RESET, resets + 1, WAIT_MS);
	ringdrv_reset(&m->ring);
	return ret != 0 ? ret : start(m);
}

void memrig_destroy(struct memrig *m)
{
	device_destroy(m->dev);
	m->dev = NULL;
	ringdrv_free(&m->ring);
	vmem_free(&m->v);
	watch_free(&m->watch);
	pthread_mutex_destroy(&m->lock);
}

/* ---- the driver ---- */

int memrig_add(struct memrig *m, uint16_t type, uint64_t block, uint16_t blocks, uint64_t token)
{
	const struct ringdrv_seg cut[] = { { m->gpa, 7 },
					   { m->gpa + 7, sizeof(*m->req) - 7 },
					   { m->gpa + RESP_AT, 1 },
					   { m->gpa + RESP_AT + 1, sizeof(struct mem_resp) - 1 } };
	const struct ringdrv_seg whole[] = { { m->gpa, sizeof(*m->req) },
					     { m->gpa + RESP_AT, sizeof(struct mem_resp) } };
	const uint16_t segs = m->plain ? 1 : 2;
	const struct ringdrv_chain chain = {
		.seg = m->plain ? whole : cut, .readable = segs, .writable = segs, .token = token
	};

	*m->req = (struct mem_req){ .type = type,
				    .pad = { m->pad, 2, 3 }, /* of no interest to who is honest */
				    .addr = MEMRIG_ADDR + block * MEMRIG_BLOCK,
				    .blocks = blocks,
				    .pad2 = { 4, 5, 6 } };
	memset(m->resp, UNTOUCHED, sizeof(struct mem_resp) + MEMRIG_GUARD);
	return ringdrv_add(&m->ring, &chain);
}

int memrig_answer(const struct memrig *m, const struct ringdrv_done *done, struct mem_resp *resp)
{
	memcpy(resp, m->resp, sizeof(*resp));
	for (size_t i = 0; i < MEMRIG_GUARD; i++) {
		if (m->resp[sizeof(*resp) + i] != UNTOUCHED)
			return -EBADMSG;
	}
	return done->len == sizeof(*resp) && (resp->pad[0] | resp->pad[1] | resp->pad[2]) == 0
		       ? 0
		       : -EBADMSG;
}

int memrig_do(struct memrig *m, uint16_t type, uint64_t block, uint16_t blocks,
	      struct mem_resp *resp)
{
	const uint64_t token = m->ring.stats.added + 1;
	struct ringdrv_done done;
	int ret = memrig_add(m, type, block, blocks, token);

	if (ret != 0)
		return ret;
	ringdrv_publish(&m->ring);
	(void)ringdrv_kick(&m->ring);
	while (ringdrv_reap(&m->ring, &done) != 1) {
		if (ringdrv_wait(&m->ring, WAIT_MS * NS_PER_MS) != 1)
			return -ETIMEDOUT;
	}
	return done.token == token ? memrig_answer(m, &done, resp) : -EBADMSG;
}
