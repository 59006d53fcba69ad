/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/box/epoch.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/vhost/marks.h"

#define STANDBY_MS 10000
#define PREPARE_MS 10000
#define LOOK_MS 100 /* whether it is to stop */

/* ---- what is wanted ---- */

static int fail(int ret, const char **why, const char *text)
{
	*why = text;
	return ret;
}

static void target_init(struct service_target *t)
{
	*t = (struct service_target){ .log = { .fd = -1 } };
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		t->kick[i].fd = t->call[i].fd = -1;
}

/* The descriptor that is in force, or a copy of the front-end's, which it may take back at any time. */
static int want_eventfd(const struct vhost_eventfd *wanted, const struct vhost_eventfd *now,
			struct vhost_eventfd *out)
{
	*out = *now;
	if (wanted->fd < 0) {
		*out = (struct vhost_eventfd){ .fd = -1 };
		return 0;
	}
	if (now->fd >= 0 && wanted->serial == now->serial)
		return 0;
	out->serial = wanted->serial;
	out->fd = fcntl(wanted->fd, F_DUPFD_CLOEXEC, 0);
	return out->fd < 0 ? -errno : 0;
}

static int want_ring(const struct service *svc, const struct frontend *fe, uint32_t i,
		     struct service_target *t, const char **why)
{
	const struct vhost_ring *ring = &fe->rings[i];
	int ret = frontend_place(fe, i, &t->shape.queues[i]);

	if (ret != 0)
		return fail(ret, why, "a ring that does not lie in its memory");
	ret = want_eventfd(&ring->kick, &svc->kick[i], &t->kick[i]);
	if (ret == 0)
		ret = want_eventfd(&ring->call, &svc->call[i], &t->call[i]);
	return ret == 0 ? 0 : fail(ret, why, "no descriptor is left");
}

static int want_log(const struct service *svc, const struct frontend *fe, struct service_target *t,
		    const char **why)
{
	if (!frontend_logs(fe))
		return 0;
	t->log = svc->log;
	if (svc->log.fd >= 0 && svc->log.serial == fe->log.serial)
		return 0;
	t->log = fe->log;
	t->log.fd = fcntl(fe->log.fd, F_DUPFD_CLOEXEC, 0);
	return t->log.fd < 0 ? fail(-errno, why, "no descriptor is left") : 0;
}

static bool serves_any(const struct service *svc, const struct frontend *fe)
{
	for (uint32_t i = 0; fe != NULL && i < svc->queues; i++) {
		if (frontend_serves(fe, i))
			return true;
	}
	return false;
}

/* Nobody served has no memory either. */
static int want(const struct service *svc, const struct frontend *fe, struct service_target *t,
		const char **why)
{
	int ret = 0;

	t->shape = svc->shape; /* the configuration is the operator's */
	t->shape.features = 0;
	memset(t->shape.queues, 0, sizeof(t->shape.queues));
	if (!serves_any(svc, fe))
		return 0;
	t->shape.features = frontend_features(fe);
	regions_copy(&t->regions, &fe->regions);
	for (uint32_t i = 0; i < svc->queues && ret == 0; i++) {
		if (frontend_serves(fe, i))
			ret = want_ring(svc, fe, i, t, why);
	}
	return ret == 0 ? want_log(svc, fe, t, why) : ret;
}

/* Descriptors of the shape, once it is known which are whose. */
static void wire(const struct service *svc, struct service_target *t)
{
	for (uint32_t i = 0; i < svc->queues; i++) {
		struct device_wiring *w = &t->shape.wiring;

		w->kick[i] = t->kick[i].fd >= 0 ? t->kick[i].fd : svc->idle_kick[i];
		w->call[i] = t->call[i].fd >= 0 ? t->call[i].fd : svc->idle_call[i];
	}
}

static void compare(const struct service *svc, struct service_target *t)
{
	t->memory = !regions_equal(&t->regions, &svc->regions) ||
		    t->log.serial != svc->log.serial || (t->log.fd < 0) != (svc->log.fd < 0);
	t->rings = svc->config_changed || t->shape.features != svc->shape.features ||
		   memcmp(t->shape.queues, svc->shape.queues, sizeof(t->shape.queues)) != 0 ||
		   memcmp(&t->shape.wiring, &svc->shape.wiring, sizeof(t->shape.wiring)) != 0;
}

static void close_new(const struct vhost_eventfd *held, struct vhost_eventfd *other)
{
	if (other->fd != held->fd)
		cc_close(&other->fd);
	other->fd = -1;
}

/* What of one is not of the other goes. */
static void drop(struct service_target *gone, const struct vhost_eventfd *kick,
		 const struct vhost_eventfd *call, const struct vhost_log_area *log)
{
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++) {
		close_new(&kick[i], &gone->kick[i]);
		close_new(&call[i], &gone->call[i]);
	}
	if (gone->log.fd != log->fd)
		cc_close(&gone->log.fd);
	regions_clear(&gone->regions);
}

/* ---- the change ---- */

static void memory_of(const struct service_target *t, uint32_t epoch, struct box_memory *memory)
{
	regions_memory(&t->regions, epoch, memory);
	if (t->log.fd < 0)
		return;
	memory->log_fd = t->log.fd;
	memory->log_offset = t->log.offset;
	memory->log_bytes = t->log.bytes;
}

static bool is_stopping(const struct service *svc)
{
	return __atomic_load_n(&svc->stopping, __ATOMIC_RELAXED);
}

/* However long a fence takes, unless all ends. */
static int move(struct service *svc, enum epoch_until until)
{
	char who[DEVICE_ID_MAX + 1];
	int ret;

	do
		ret = supervisor_move_memory(svc->sup, until, LOOK_MS, who);
	while (ret == -ETIMEDOUT && !is_stopping(svc));
	return ret == -ETIMEDOUT ? -ECANCELED : ret;
}

static int cut_short(struct service *svc, const char **why)
{
	svc->cut = true;
	return fail(-ECANCELED, why, "the device is about to end");
}

/* Nobody has the old memory when this is over, if some of it is not in the new. */
static int carry_out(struct service *svc, const struct service_target *t, const char **why)
{
	const bool shrinks = !regions_within(&svc->regions, &t->regions) ||
			     (svc->log.fd >= 0 && svc->log.serial != t->log.serial);
	struct box_memory memory;
	char who[DEVICE_ID_MAX + 1];
	int ret;

	memory_of(t, svc->epoch + 1, &memory);
	svc->epoch++; /* never used again, whatever comes of it */
	ret = supervisor_prepare_shape(svc->sup, &memory,
				       t->memory ? REPLACE_MEMORY_MAP : REPLACE_RINGS, svc->dev,
				       &t->shape, PREPARE_MS, who);
	if (ret != 0) {
		/* A recovery in between may have begun to serve from it: until nobody can it counts. */
		supervisor_abandon_memory(svc->sup);
		if (move(svc, EPOCH_GONE) != 0)
			return cut_short(svc, why);
		return fail(ret, why,
			    ret == -ETIMEDOUT ? "no process for it was ready in time"
					      : "no process for it can be made");
	}
	ret = move(svc, EPOCH_MOVED);
	if (ret == 0 && shrinks)
		ret = move(svc, EPOCH_GONE);
	return ret == 0 ? 0 : cut_short(svc, why);
}

/* Of rings that were served and are not, or elsewhere. */
static void mark_stopped(const struct service *svc, const struct service_target *t)
{
	for (uint32_t i = 0; svc->log.fd >= 0 && i < svc->queues; i++) {
		const struct ctl_queue *was = &svc->shape.queues[i];

		if (was->size != 0 && memcmp(was, &t->shape.queues[i], sizeof(*was)) != 0)
			marks_used(&svc->log, was);
	}
}

/* What is in force goes, what was wanted is in force. */
static void put_in_force(struct service *svc, struct service_target *t)
{
	struct service_target old = { .regions = svc->regions, .log = svc->log };

	mark_stopped(svc, t);
	memcpy(old.kick, svc->kick, sizeof(old.kick));
	memcpy(old.call, svc->call, sizeof(old.call));
	svc->shape = t->shape;
	svc->regions = t->regions;
	svc->log = t->log;
	memcpy(svc->kick, t->kick, sizeof(svc->kick));
	memcpy(svc->call, t->call, sizeof(svc->call));
	svc->config_changed = false;
	svc->handoffs++;
	drop(&old, svc->kick, svc->call, &svc->log);
}

static int begin(struct service *svc)
{
	const struct ctl_queue none[BOX_QUEUES_MAX] = { 0 };

	__atomic_store_n(&svc->broken, false, __ATOMIC_RELAXED);
	return device_start(svc->dev, 0, none);
}

/* One that was given up, or whose driver broke a rule, begins anew once its driver has let go of it. */
static int revive(struct service *svc, const char **why)
{
	device_reset(svc->dev);
	while (device_wait_idle(svc->dev, LOOK_MS) != 0) {
		if (is_stopping(svc))
			return cut_short(svc, why);
	}
	CHECK(begin(svc) == 0);
	return 0;
}

int service_claim(const struct service *svc, const struct frontend *fe, const char **why)
{
	const int ret = svc->image.fd >= 0 && serves_any(svc, fe) ? image_lock(&svc->image) : 0;

	if (ret == -EBUSY)
		return fail(ret, why, "its image is locked: another VMM or back-end uses it");
	return ret == 0 ? 0 : fail(ret, why, "its image cannot be locked");
}

/* For the guest to go on elsewhere: whoever served it here is dead (carry_out()). */
static void release_image(const struct service *svc)
{
	const int ret = svc->image.fd >= 0 ? image_unlock(&svc->image) : 0;

	if (ret != 0)
		log_warn("%s: vhost-user: its image stays locked, though its guest migrates: %s",
			 svc->id, strerror(-ret));
}

static int change(struct service *svc, const struct frontend *fe, const char **why)
{
	struct service_target t;
	int ret;

	target_init(&t);
	ret = want(svc, fe, &t, why);
	if (ret == 0) {
		wire(svc, &t);
		compare(svc, &t);
		if (t.memory || t.rings)
			ret = carry_out(svc, &t, why);
	}
	if (svc->cut)
		svc->left = t;
	else if (ret == 0 && (t.memory || t.rings))
		put_in_force(svc, &t);
	else
		drop(&t, svc->kick, svc->call, &svc->log);
	return ret;
}

int service_settle(struct service *svc, const struct frontend *fe, const char **why)
{
	const bool serves = serves_any(svc, fe), logs = svc->log.fd >= 0;
	int ret = svc->cut ? cut_short(svc, why) : 0;

	if (ret == 0 && !serves && __atomic_load_n(&svc->broken, __ATOMIC_RELAXED))
		ret = revive(svc, why);
	if (ret == 0)
		ret = change(svc, fe, why);
	if (ret == 0 && !serves && logs)
		release_image(svc);
	return ret;
}

int service_configure(struct service *svc, const struct frontend *fe, uint64_t fsize,
		      const union dev_config *config, const char **why)
{
	const struct device_shape before = svc->shape;
	int ret;

	svc->shape.fsize = fsize;
	svc->shape.config = *config;
	svc->config_changed = true;
	ret = service_settle(svc, fe, why);
	if (ret != 0)
		svc->shape = before;
	svc->config_changed = false;
	return ret;
}

/* ---- life ---- */

static void on_needs_reset(void *ctx, const char *why)
{
	struct service *svc = ctx;

	(void)why; /* told by the supervisor */
	__atomic_store_n(&svc->broken, true, __ATOMIC_RELAXED);
	__atomic_store_n(&svc->untold, true, __ATOMIC_RELEASE);
	if (write(svc->wake, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		CHECK(errno == EAGAIN);
}

bool service_has_broken(struct service *svc)
{
	return __atomic_exchange_n(&svc->untold, false, __ATOMIC_ACQUIRE);
}

static int make_idle(struct service *svc)
{
	for (uint32_t i = 0; i < svc->queues; i++) {
		svc->idle_kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		svc->idle_call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (svc->idle_kick[i] < 0 || svc->idle_call[i] < 0)
			return -errno;
	}
	return 0;
}

static int make_device(struct service *svc, struct device_spec *spec)
{
	int ret;

	svc->hooks = (struct device_hooks){ .needs_reset = on_needs_reset };
	spec->hooks = &svc->hooks;
	spec->ctx = svc;
	memcpy(spec->kick, svc->idle_kick, sizeof(spec->kick));
	memcpy(spec->call, svc->idle_call, sizeof(spec->call));
	svc->shape = (struct device_shape){ .fsize = spec->fsize, .config = spec->config };
	memcpy(svc->shape.wiring.kick, spec->kick, sizeof(spec->kick));
	memcpy(svc->shape.wiring.call, spec->call, sizeof(spec->call));
	ret = device_create(svc->sup, spec, &svc->dev);
	if (ret == 0)
		ret = device_wait_standby(svc->dev, STANDBY_MS);
	return ret == 0 ? begin(svc) : ret;
}

void service_init(struct service *svc, const char *id)
{
	*svc = (struct service){ .id = id, .image = { .fd = -1 }, .log = { .fd = -1 } };
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		svc->idle_kick[i] = svc->idle_call[i] = svc->kick[i].fd = svc->call[i].fd = -1;
	target_init(&svc->left);
}

int service_create(struct service *svc, const struct service_spec *spec, char *why, size_t room)
{
	int ret;

	svc->sup = spec->sup;
	svc->queues = spec->device->queues;
	svc->wake = spec->wake;
	if (spec->image != NULL)
		svc->image = *spec->image;
	ret = make_idle(svc);
	if (ret == 0)
		ret = make_device(svc, spec->device);
	if (ret == 0)
		return 0;
	snprintf(why, room,
		 "%s: cannot make a sealed process (mayfly doctor says what is missing): %s",
		 spec->device->id, strerror(-ret));
	service_destroy(svc);
	return ret;
}

void service_stop(struct service *svc)
{
	__atomic_store_n(&svc->stopping, true, __ATOMIC_RELAXED);
}

void service_destroy(struct service *svc)
{
	device_destroy(svc->dev);
	supervisor_destroy(svc->sup);
	svc->dev = NULL;
	svc->sup = NULL;
	drop(&svc->left, svc->kick, svc->call, &svc->log);
	regions_clear(&svc->regions);
	cc_close(&svc->log.fd);
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++) {
		cc_close(&svc->kick[i].fd);
		cc_close(&svc->call[i].fd);
		cc_close(&svc->idle_kick[i]);
		cc_close(&svc->idle_call[i]);
	}
}
