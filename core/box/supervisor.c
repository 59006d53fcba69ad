/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's thread and the public calls, each of which is a function that runs on that thread
 * (loop_call) and, where it waits, a condition that the thread signals.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/cond.h"
#include "core/confine.h"
#include "core/log.h"
#include "devmodel/abi/policy.h"

const char *replace_reason_name(enum replace_reason reason)
{
	static const char *const names[] = {
#define REASON_NAME(NAME, name) name,
		REPLACE_REASONS(REASON_NAME)
#undef REASON_NAME
	};

	return reason < REPLACE_REASON_COUNT ? names[reason] : "unknown";
}

const char *dev_kind_name(enum dev_kind kind)
{
	static const char *const names[] = {
#define KIND_NAME(NAME, name, virtio_id, outward) #name,
		DEV_KINDS(KIND_NAME)
#undef KIND_NAME
	};

	return kind < DEV_KIND_COUNT ? names[kind] : "unknown";
}

const char *fence_name(enum fence fence)
{
	static const char *const names[] = {
#define FENCE_NAME(NAME, name) name,
		FENCES(FENCE_NAME)
#undef FENCE_NAME
	};

	return fence < FENCE_COUNT ? names[fence] : "unknown";
}

/* ---- the thread ---- */

static struct box *supervisor_find(struct supervisor *sup, uint64_t cookie)
{
	struct box *box = NULL;

	for (struct device *dev = sup->devices; box == NULL && dev != NULL; dev = dev->next)
		box = device_find_box(dev, cookie);
	return box;
}

static struct box *generation_unborn(struct generation *gen)
{
	for (uint32_t i = 0; gen != NULL && i < gen->lanes; i++) {
		if (gen->boxes[i].state == BOX_SPAWNING || gen->boxes[i].state == BOX_DOOMED)
			return &gen->boxes[i];
	}
	return NULL;
}

/* A box that waits for the spawner's reply. */
static struct box *supervisor_unborn(struct supervisor *sup)
{
	struct box *box = NULL;

	for (struct device *dev = sup->devices; box == NULL && dev != NULL; dev = dev->next) {
		box = generation_unborn(dev->standby);
		for (struct generation *gen = dev->leaving; box == NULL && gen != NULL;
		     gen = gen->next)
			box = generation_unborn(gen);
	}
	return box;
}

/* No reply will come any more: who waits for one is told now, or would never be reaped.  Ends, since
 * a request to a spawner that is gone fails at once. */
static void supervisor_bereave(struct supervisor *sup)
{
	const struct spawn_reply none = { .error = EPIPE, .pid = -1, .pidfd = -1 };

	for (struct box *box; (box = supervisor_unborn(sup)) != NULL;)
		box_spawned(box, &none);
}

static void supervisor_on_spawner(struct loop_source *source, uint32_t events)
{
	struct supervisor *sup = container_of(source, struct supervisor, on_spawner);
	struct spawn_reply reply;
	const int ret = spawner_reply(sup->spawner, &reply);

	(void)events;
	if (ret < 0) {
		log_error("the spawner is gone: no device can be replaced any more");
		loop_remove(sup->loop, &sup->on_spawner);
		supervisor_bereave(sup);
	}
	if (ret <= 0)
		return;
	struct box *box = supervisor_find(sup, reply.cookie);

	CHECK(box != NULL); /* a box stays until its reply came, whatever becomes of it */
	box_spawned(box, &reply);
}

static void *supervisor_main(void *arg)
{
	struct supervisor *sup = arg;

	confine_thread(CONFINE_SUPERVISOR);
	loop_run(sup->loop);
	return NULL;
}

static void supervisor_begin(void *arg)
{
	struct supervisor *sup = arg;

	CHECK(loop_add(sup->loop, &sup->on_spawner, sup->spawner->socket, EPOLLIN) == 0);
}

void supervisor_tell(struct supervisor *sup, struct news *news)
{
	sup->news = news;
}

int supervisor_create(struct supervisor **out, struct spawner *spawner,
		      const struct seal_host *host, const struct box_memory *memory)
{
	struct supervisor *sup = calloc(1, sizeof(*sup));
	int ret;

	if (sup == NULL)
		return -ENOMEM;
	sup->spawner = spawner;
	sup->host = *host;
	sup->memory = *memory;
	sup->core_limit = launch_core_limit();
	sup->autopsy_dir = -1;
	sup->on_spawner = (struct loop_source){ supervisor_on_spawner, -1 };
	pthread_mutex_init(&sup->lock, NULL);
	cond_init(&sup->changed);
	ret = verify_prepare(sup);
	if (ret == 0)
		ret = loop_create(&sup->loop);
	if (ret == 0) {
		ret = -pthread_create(&sup->thread, NULL, supervisor_main, sup);
		if (ret != 0)
			loop_destroy(sup->loop);
	}
	if (ret != 0) {
		free(sup);
		return ret;
	}
	loop_call(sup->loop, supervisor_begin, sup);
	*out = sup;
	return 0;
}

void supervisor_destroy(struct supervisor *sup)
{
	if (sup == NULL)
		return;
	CHECK(sup->devices == NULL);
	loop_stop(sup->loop);
	pthread_join(sup->thread, NULL);
	/* Between the two: the loop's thread asks it, and it posts to the loop. */
	coroner_stop(sup->coroner);
	loop_destroy(sup->loop);
	pthread_cond_destroy(&sup->changed);
	pthread_mutex_destroy(&sup->lock);
	cc_close(&sup->autopsy_dir);
	free(sup);
}

void device_post(struct device *dev, struct news_event event)
{
	memcpy(event.device, dev->spec.id, sizeof(event.device));
	if (event.generation == 0 && dev->active != NULL)
		event.generation = dev->active->number;
	news_post(dev->sup->news, &event);
}

/* ---- devices ---- */

struct call {
	struct device *dev;
	uint64_t features;
	const struct ctl_queue *queues;
	struct replace_request *request;
	struct device_status *status;
	enum replace_reason reason;
	bool yes;
	int ret;
};

static int spec_check(const struct device_spec *spec)
{
	if (spec->kind >= DEV_KIND_COUNT || spec->queues > BOX_QUEUES_MAX || spec->lanes == 0 ||
	    spec->lanes > DEVICE_LANES_MAX || spec->lanes > (spec->queues ? spec->queues : 1) ||
	    spec->backend_count > BOX_BACKENDS_MAX || spec->death_budget > DEVICE_DEATHS_MAX ||
	    spec->id[0] == '\0')
		return -EINVAL;
	return 0;
}

static void call_begin(void *arg)
{
	struct call *call = arg;
	struct device *dev = call->dev;

	dev->next = dev->sup->devices;
	dev->sup->devices = dev;
	device_begin(dev);
}

static void device_free(struct device *dev)
{
	cc_close(&dev->timer_fd);
	pthread_mutex_destroy(&dev->port.turn);
	pthread_mutex_destroy(&dev->port.lock);
	shape_free(dev);
	free(dev->launch);
	free(dev->records);
	free(dev);
}

/* What it has beside its generations. 0 or -errno; device_free() gives it back either way. */
static int device_prepare(struct device *dev)
{
	dev->records = calloc((size_t)dev->spec.lanes * STATE_CLASSES, sizeof(*dev->records));
	if (dev->records == NULL)
		return -ENOMEM;
	if (dev->spec.policy_when & POLICY_IF_TIMER) {
		dev->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (dev->timer_fd < 0)
			return -errno;
	}
	return launch_prepare(dev);
}

int device_create(struct supervisor *sup, const struct device_spec *spec, struct device **out)
{
	struct device *dev;
	int ret = spec_check(spec);

	if (ret != 0)
		return ret;
	dev = calloc(1, sizeof(*dev));
	if (dev == NULL)
		return -ENOMEM;
	dev->sup = sup;
	dev->spec = *spec;
	dev->timer_fd = -1;
	dev->port.enabled = !spec->guest_memory;
	pthread_mutex_init(&dev->port.turn, NULL);
	pthread_mutex_init(&dev->port.lock, NULL);
	dev->state = DEVICE_IDLE;
	ret = device_prepare(dev);
	if (ret != 0) {
		device_free(dev);
		return ret;
	}
	loop_call(sup->loop, call_begin, &(struct call){ .dev = dev });
	*out = dev;
	return 0;
}

static void call_end(void *arg)
{
	struct call *call = arg;

	device_end(call->dev);
}

static void call_empty(void *arg)
{
	struct call *call = arg;

	call->yes = device_empty(call->dev);
}

static void call_unlink(void *arg)
{
	struct call *call = arg;
	struct device **p = &call->dev->sup->devices;

	loop_disarm(call->dev->sup->loop, &call->dev->respawn);
	loop_disarm(call->dev->sup->loop, &call->dev->rested);
	loop_disarm(call->dev->sup->loop, &call->dev->mourning);
	patrol_end(call->dev);
	while (*p != call->dev)
		p = &(*p)->next;
	*p = call->dev->next;
}

static void call_ready(void *arg)
{
	struct call *call = arg;

	call->yes = device_standby_ready(call->dev);
}

/* Waits until fn says yes, looking whenever something changed and at least every 10 ms (what a
 * condition of the loop thread means is only known there).  0 or -ETIMEDOUT; timeout_ms 0: none. */
static int supervisor_wait(struct device *dev, void (*fn)(void *), uint32_t timeout_ms)
{
	struct supervisor *sup = dev->sup;
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
	struct call call = { .dev = dev };

	for (;;) {
		loop_call(sup->loop, fn, &call);
		if (call.yes)
			return 0;
		if (timeout_ms != 0 && now_ns() >= end)
			return -ETIMEDOUT;
		pthread_mutex_lock(&sup->lock);
		cond_wait_until(&sup->changed, &sup->lock, now_ns() + 10 * NS_PER_MS);
		pthread_mutex_unlock(&sup->lock);
	}
}

void device_destroy(struct device *dev)
{
	if (dev == NULL)
		return;
	loop_call(dev->sup->loop, call_end, &(struct call){ .dev = dev });
	supervisor_wait(dev, call_empty, 0);
	loop_call(dev->sup->loop, call_unlink, &(struct call){ .dev = dev });
	device_free(dev);
}

int device_wait_standby(struct device *dev, uint32_t timeout_ms)
{
	return supervisor_wait(dev, call_ready, timeout_ms);
}

static void call_idle(void *arg)
{
	struct call *call = arg;

	call->yes = call->dev->state == DEVICE_IDLE;
}

int device_wait_idle(struct device *dev, uint32_t timeout_ms)
{
	return supervisor_wait(dev, call_idle, timeout_ms);
}

static void call_start(void *arg)
{
	struct call *call = arg;
	struct device *dev = call->dev;

	call->ret = dev->state == DEVICE_IDLE ? 0 : -EBUSY;
	if (call->ret != 0)
		return;
	shape_forget(dev);
	dev->features = call->features;
	memcpy(dev->queues, call->queues, dev->spec.queues * sizeof(dev->queues[0]));
	memset(dev->audited, 0, sizeof(dev->audited));
	poison_forget(dev);
	dev->fresh = true;
	dev->starting = true;
	reg_forget(dev);
	reg_serve(dev, true);
	device_raise(dev, DEVICE_EV_START);
}

int device_start(struct device *dev, uint64_t features, const struct ctl_queue *queues)
{
	struct call call = { .dev = dev, .features = features, .queues = queues };

	loop_call(dev->sup->loop, call_start, &call);
	return call.ret;
}

static void call_reset(void *arg)
{
	device_raise(((struct call *)arg)->dev, DEVICE_EV_RESET);
}

void device_reset(struct device *dev)
{
	loop_call(dev->sup->loop, call_reset, &(struct call){ .dev = dev });
}

/* -EBUSY: the request is the caller's again.  0: it may be answered, and gone, already. */
static int replace_begin(struct device *dev, struct replace_request *request)
{
	if (dev->waiting != NULL)
		return -EBUSY;
	dev->refused = false;
	dev->waiting = request;
	device_raise(dev, DEVICE_EV_REPLACE);
	if (!dev->refused)
		return 0;
	dev->waiting = NULL;
	return -EBUSY;
}

static void call_replace(void *arg)
{
	struct call *call = arg;

	call->ret = replace_begin(call->dev, call->request);
}

/* The call is on the stack of a thread that waits for its request: both end with the answer. */
static void call_replace_awaited(void *arg)
{
	const struct call *call = arg;
	struct device *dev = call->dev;
	struct replace_request *request = call->request;

	if (replace_begin(dev, request) != 0)
		device_answer(dev, &request, -EBUSY);
}

int device_replace(struct device *dev, enum replace_reason reason, bool carry,
		   struct replacement *result)
{
	struct supervisor *sup = dev->sup;
	struct replace_request request = { .reason = reason, .carry = carry };
	struct call call = { .dev = dev, .request = &request };

	/* Not loop_call(): to be woken just to wait again takes a CPU in the midst of the handoff. */
	loop_post(sup->loop, call_replace_awaited, &call);
	pthread_mutex_lock(&sup->lock);
	while (!request.done)
		pthread_cond_wait(&sup->changed, &sup->lock);
	pthread_mutex_unlock(&sup->lock);
	*result = request.result;
	return request.ret;
}

int device_replace_post(struct device *dev, enum replace_reason reason, bool carry)
{
	struct replace_request *request = calloc(1, sizeof(*request));
	struct call call = { .dev = dev, .request = request };

	if (request == NULL)
		return -ENOMEM;
	*request = (struct replace_request){ .reason = reason, .carry = carry, .posted = true };
	loop_call(dev->sup->loop, call_replace, &call);
	if (call.ret != 0)
		free(request);
	return call.ret;
}

static void call_revive(void *arg)
{
	struct call *call = arg;

	call->dev->refused = false;
	device_raise(call->dev, DEVICE_EV_REVIVE);
	call->ret = call->dev->refused ? -EBUSY : 0;
}

int device_revive(struct device *dev)
{
	struct call call = { .dev = dev };

	loop_call(dev->sup->loop, call_revive, &call);
	return call.ret;
}

static void call_condemn(void *arg)
{
	struct call *call = arg;
	struct device *dev = call->dev;

	call->ret = dev->state == DEVICE_ACTIVE ? 0 : -EBUSY;
	if (call->ret == 0)
		device_suspect(dev, call->reason);
}

int device_condemn(struct device *dev, enum replace_reason reason)
{
	struct call call = { .dev = dev, .reason = reason };

	loop_call(dev->sup->loop, call_condemn, &call);
	return call.ret;
}

static void call_poll(void *arg)
{
	const struct ctl_header message = { CTL_POLL, 0 };
	const struct device *dev = ((struct call *)arg)->dev;

	for (uint32_t i = 0; dev->state == DEVICE_ACTIVE && i < dev->active->lanes; i++) {
		struct box *box = &dev->active->boxes[i];

		errand_grant_stats(box);
		if (channel_send(box, &message, sizeof(message)) != 0)
			box_raise(box, BOX_EV_MISBEHAVED);
	}
}

void device_poll(struct device *dev)
{
	loop_call(dev->sup->loop, call_poll, &(struct call){ .dev = dev });
}

static void call_status(void *arg)
{
	struct call *call = arg;
	const struct device *dev = call->dev;
	struct device_status *s = call->status;

	*s = (struct device_status){
		.state = device_state_api(dev->state),
		.epoch = dev->sup->memory.map.epoch,
		.maps = dev->spec.guest_memory,
		.cold = dev->cold,
		.stalls = dev->stalls,
		.slow = dev->slow,
		.faults = dev->faults,
		.faulty = dev->sup->faulty,
		.poisoned = dev->poisoned,
		.autopsies = dev->autopsies,
		.autopsies_skipped = dev->autopsies_skipped,
		.autopsies_failed = dev->autopsies_failed,
		.deaths_in_window = budget_deaths(dev),
		.samples = dev->samples,
		.broken = dev->broken,
		.standby_ready = device_standby_ready(dev),
	};
	if (dev->active != NULL) {
		s->generation = dev->active->number;
		s->epoch = dev->active->epoch;
		s->pid = dev->active->boxes[0].pid;
		s->age_ns = now_ns() - dev->active->activated_ns;
	}
	if (s->standby_ready) {
		s->standby_pid = dev->standby->boxes[0].pid;
		s->standby_sealed_ns = dev->standby->boxes[0].sealed_ns;
		s->standby_verify_ns = dev->standby->boxes[0].verify_ns;
	}
	memcpy(s->replacements, dev->replaced, sizeof(s->replacements));
	memcpy(s->deaths_by_reason, dev->deaths_by_reason, sizeof(s->deaths_by_reason));
	memcpy(s->switch_us, dev->switch_us, sizeof(s->switch_us));
	memcpy(s->drain_us, dev->drain_us, sizeof(s->drain_us));
	memcpy(s->switches, dev->switches, sizeof(s->switches));
	s->drains = dev->drains;
}

void device_status(struct device *dev, struct device_status *status)
{
	struct call call = { .dev = dev, .status = status };

	loop_call(dev->sup->loop, call_status, &call);
}
