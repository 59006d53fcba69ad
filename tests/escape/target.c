/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Targets.  The device has no death budget, so that thousands of its generations may be ended by
 * forbidden calls, and no requests: what is tried here is the box, and it is idle.
 */
#include "tests/escape/target.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "core/cc.h"
#include "core/cond.h"
#include "core/log.h"
#include "devmodel/abi/policy.h"

#define REGION_BYTES (16u << 20)
#define RING_SIZE 64
#define PATIENCE_MS 10000
/* Past 4 GiB, so that both halves of an offset are compared; sparse. */
#define IMAGE_BYTES ((5ull << 30) + (1u << 20))

const struct target_variant target_variants[] = {
	{ .name = "blk", .kind = DEV_KIND_BLK, .queues = 1, .plain = true },
	{ .name = "blk-readonly", .kind = DEV_KIND_BLK, .queues = 1, .readonly = true },
	{ .name = "blk-timer", .kind = DEV_KIND_BLK, .queues = 1, .timer = true },
	{ .name = "blk-4q", .kind = DEV_KIND_BLK, .queues = 4 },
	{ .name = "blk-4q-readonly", .kind = DEV_KIND_BLK, .queues = 4, .readonly = true },
	{ .name = "blk-4q-timer", .kind = DEV_KIND_BLK, .queues = 4, .timer = true },
	{ .name = "rng", .kind = DEV_KIND_RNG, .queues = 1, .plain = true },
	{ .name = "rng-timer", .kind = DEV_KIND_RNG, .queues = 1, .timer = true },
	{ .name = "console", .kind = DEV_KIND_CONSOLE, .queues = 2, .plain = true },
	{ .name = "serial", .kind = DEV_KIND_SERIAL, .queues = 2, .plain = true },
	{ .name = "balloon", .kind = DEV_KIND_BALLOON, .queues = 4, .plain = true },
	{ .name = "mem", .kind = DEV_KIND_MEM, .queues = 1, .plain = true },
};
const uint32_t target_variant_count = ARRAY_SIZE(target_variants);

/* ---- kinds ---- */

struct target_kind {
	uint32_t backends;
	bool registers; /* no guest memory, no rings */
	/* Opens backend i as the VMM would; *peer, where it is a pipe, is its other end. 0 or -errno. */
	int (*open)(const struct target_variant *v, uint32_t i, int *backend, int *peer);
	/* The kind's part of the spec; NULL: none. */
	void (*configure)(const struct target_variant *v, struct device_spec *spec);
};

static const struct rate_limit plenty = { .size = 1u << 30, .refill_ms = 1000 };

static int blk_open(const struct target_variant *v, uint32_t i, int *backend, int *peer)
{
	cleanup_fd int fd = memfd_create("image", MFD_CLOEXEC);
	char path[32];

	(void)i, (void)peer;
	if (fd < 0 || ftruncate(fd, (off_t)IMAGE_BYTES) != 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*backend = open(path, (v->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	return *backend < 0 ? -errno : 0;
}

static void blk_configure(const struct target_variant *v, struct device_spec *spec)
{
	spec->fsize = IMAGE_BYTES;
	spec->policy_when |= POLICY_IF_FLUSH | (v->readonly ? 0 : POLICY_IF_WRITABLE);
	spec->config.blk.bytes = IMAGE_BYTES;
	spec->config.blk.flags = BLK_FLUSH | (v->readonly ? BLK_READONLY : 0);
	spec->config.blk.align = 1;
	if (v->timer)
		spec->config.blk.ops = plenty;
}

static int rng_open(const struct target_variant *v, uint32_t i, int *backend, int *peer)
{
	(void)v, (void)i, (void)peer;
	*backend = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	return *backend < 0 ? -errno : 0;
}

static void rng_configure(const struct target_variant *v, struct device_spec *spec)
{
	if (v->timer)
		spec->config.rng.bandwidth = plenty;
}

/* Backend 0 is input, 1 is output. */
static int stream_open(const struct target_variant *v, uint32_t i, int *backend, int *peer)
{
	int fds[2];

	(void)v;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
		return -errno;
	*backend = fds[i];
	*peer = fds[1 - i];
	return 0;
}

static const struct target_kind kinds[DEV_KIND_COUNT] = {
	[DEV_KIND_BLK] = { .backends = 1, .open = blk_open, .configure = blk_configure },
	[DEV_KIND_RNG] = { .backends = 1, .open = rng_open, .configure = rng_configure },
	[DEV_KIND_CONSOLE] = { .backends = 2, .open = stream_open },
	[DEV_KIND_SERIAL] = { .backends = 2, .registers = true, .open = stream_open },
	[DEV_KIND_BALLOON] = { .backends = 0 },
	[DEV_KIND_MEM] = { .backends = 0 },
};

static void target_spec(const struct target_variant *v, struct device_spec *spec)
{
	const struct target_kind *k = &kinds[v->kind];

	*spec = (struct device_spec){
		.kind = v->kind,
		.queues = v->queues,
		.lanes = 1,
		.backend_count = k->backends,
		.guest_memory = !k->registers,
		.policy_when = v->timer ? POLICY_IF_TIMER : 0,
	};
	snprintf(spec->id, sizeof(spec->id), "%s", v->name);
	if (k->configure != NULL)
		k->configure(v, spec);
}

uint32_t target_when(const struct target_variant *v)
{
	struct device_spec spec;

	target_spec(v, &spec);
	return spec.policy_when;
}

int target_launch(const struct target_variant *v, struct launch_record *launch)
{
	struct supervisor sup = { .host = { .seal = SEAL_WANT_LISTENER } };
	struct device dev = { .sup = &sup, .timer_fd = v->timer ? 0 : -1 };
	int ret;

	target_spec(v, &dev.spec);
	ret = launch_prepare(&dev);
	if (ret == 0)
		*launch = dev.launch[0];
	free(dev.launch);
	return ret;
}

/* ---- the rig ---- */

/* An ordinary user's sandboxes need a user namespace. */
static bool may_make_user_namespace(void)
{
	const pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) != 0);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static int rig_boxes(struct boxrig *box)
{
	int ret = boxrig_start(box);

	if (ret == 0)
		ret = guestmem_add(&box->mem, 0, REGION_BYTES, GUESTMEM_4K);
	if (ret == 0)
		ret = guestmem_add(&box->mem, 4ull << 30, REGION_BYTES, GUESTMEM_4K);
	if (ret == 0)
		ret = boxrig_supervise(box);
	return ret;
}

int target_rig_start(struct target_rig *rig)
{
	int fds[2], ret;
	sigset_t alarm_set;

	if (geteuid() != 0 && !may_make_user_namespace()) {
		printf("an ordinary user may not make user namespaces here\n");
		return 77;
	}
	memset(rig, 0, sizeof(*rig));
	CHECK(pipe2(fds, O_CLOEXEC) == 0 && fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
	rig->log_read = fds[0];
	rig->log_write = fds[1];
	log_open(rig->log_write, getenv("DEBUG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
	/* The alarm that ends a wait (inject.c) is the main thread's. */
	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_set, NULL);
	ret = rig_boxes(&rig->box);
	pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
	if (ret != 0)
		fprintf(stderr, "the rig cannot be started: %s\n", strerror(-ret));
	return ret != 0;
}

void target_rig_stop(struct target_rig *rig)
{
	boxrig_stop(&rig->box);
	log_open(STDERR_FILENO, LOG_LEVEL_WARN);
	close(rig->log_read);
	close(rig->log_write);
}

const char *target_log(struct target_rig *rig)
{
	const size_t room = sizeof(rig->log) - 1;
	char rest[4096];
	ssize_t n;

	while (rig->log_bytes < room) {
		n = read(rig->log_read, rig->log + rig->log_bytes, room - rig->log_bytes);
		if (n <= 0)
			break;
		rig->log_bytes += (uint32_t)n;
	}
	/* The supervisor must never find the pipe full. */
	do
		n = read(rig->log_read, rest, sizeof(rest));
	while (n > 0);
	rig->log[rig->log_bytes] = '\0';
	return rig->log;
}

void target_log_clear(struct target_rig *rig)
{
	target_log(rig);
	rig->log_bytes = 0;
}

/* ---- devices ---- */

static void tell(struct target *t, void (*change)(struct target *, const void *), const void *arg)
{
	pthread_mutex_lock(&t->lock);
	change(t, arg);
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static void change_started(struct target *t, const void *arg)
{
	(void)arg;
	t->started = true;
}

static void change_replaced(struct target *t, const void *arg)
{
	t->replaced++;
	t->last = *(const struct replacement *)arg;
}

static void change_given_up(struct target *t, const void *arg)
{
	(void)arg;
	t->given_up = true;
}

static void on_started(void *ctx)
{
	tell(ctx, change_started, NULL);
}

static void on_replaced(void *ctx, const struct replacement *r)
{
	tell(ctx, change_replaced, r);
}

static void on_needs_reset(void *ctx, const char *why)
{
	(void)why;
	tell(ctx, change_given_up, NULL);
}

static const struct device_hooks hooks = {
	.started = on_started,
	.replaced = on_replaced,
	.needs_reset = on_needs_reset,
};

/* Waits until there are more than `seen` replacements, or with started: until it has started. */
static int target_wait(struct target *t, bool start, uint64_t seen)
{
	const uint64_t end = now_ns() + PATIENCE_MS * NS_PER_MS;
	int ret = 0;

	pthread_mutex_lock(&t->lock);
	while (ret == 0 && !t->given_up && !(start ? t->started : t->replaced > seen))
		ret = cond_wait_until(&t->changed, &t->lock, end);
	if (t->given_up)
		ret = -EIO;
	pthread_mutex_unlock(&t->lock);
	return ret;
}

int target_wait_replaced(struct target *t, uint64_t seen, struct replacement *r)
{
	const int ret = target_wait(t, false, seen);

	pthread_mutex_lock(&t->lock);
	*r = t->last;
	pthread_mutex_unlock(&t->lock);
	return ret;
}

/* A refused standby is made again and again, and refused as often: the first refusal is enough. */
static int target_await_standby(struct target *t)
{
	const uint64_t end = now_ns() + PATIENCE_MS * NS_PER_MS;
	int ret;

	do {
		const char *log = target_log(t->rig);

		if (strstr(log, "not sealed as it must be") || strstr(log, "the seal failed"))
			return -EPERM;
		ret = device_wait_standby(t->dev, 20);
	} while (ret != 0 && now_ns() < end);
	return ret;
}

static int target_rings(struct target *t, struct ctl_queue *queues)
{
	int ret = 0;

	for (uint32_t i = 0; i < t->spec.queues && ret == 0; i++) {
		t->spec.kick[i] = t->kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		t->spec.call[i] = t->call[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (t->kick[i] < 0 || t->call[i] < 0)
			return -errno;
		const struct ringdrv_config rc = {
			.size = RING_SIZE,
			.number = (uint16_t)i,
			.fds_given = true,
			.fd_kick = t->kick[i],
			.fd_call = t->call[i],
		};

		if (!t->spec.guest_memory)
			continue;
		ret = ringdrv_init(&t->rings[i], &t->rig->box.mem, &rc);
		if (ret == 0)
			ringdrv_describe(&t->rings[i], &queues[i]);
	}
	return ret;
}

static int target_backends(struct target *t)
{
	int ret = 0;

	for (uint32_t i = 0; i < t->spec.backend_count && ret == 0; i++) {
		ret = kinds[t->spec.kind].open(t->variant, i, &t->backends[i], &t->peers[i]);
		t->spec.backends[i] = t->backends[i];
	}
	return ret;
}

static void target_forget(struct target *t)
{
	memset(t, 0, sizeof(*t));
	memset(t->kick, 0xff, sizeof(t->kick));
	memset(t->call, 0xff, sizeof(t->call));
	memset(t->backends, 0xff, sizeof(t->backends));
	memset(t->peers, 0xff, sizeof(t->peers));
}

int target_create(struct target *t, struct target_rig *rig, const struct target_variant *v)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };
	int ret;

	target_forget(t);
	t->rig = rig;
	t->variant = v;
	cond_init(&t->changed);
	pthread_mutex_init(&t->lock, NULL);
	target_log_clear(rig);
	target_spec(v, &t->spec);
	t->spec.hooks = &hooks;
	t->spec.ctx = t;
	ret = target_backends(t);
	if (ret == 0)
		ret = target_rings(t, queues);
	if (ret == 0)
		ret = device_create(rig->box.sup, &t->spec, &t->dev);
	if (ret == 0)
		ret = target_await_standby(t);
	if (ret == 0)
		ret = device_start(t->dev, RINGDRV_VERSION_1, queues);
	if (ret == 0)
		ret = target_wait(t, true, 0);
	if (ret == 0)
		t->launch = &t->dev->launch[0];
	else
		target_destroy(t);
	return ret;
}

void target_destroy(struct target *t)
{
	device_destroy(t->dev);
	t->dev = NULL;
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++) {
		ringdrv_free(&t->rings[i]);
		cc_close(&t->kick[i]);
		cc_close(&t->call[i]);
	}
	for (uint32_t i = 0; i < BOX_BACKENDS_MAX; i++) {
		cc_close(&t->backends[i]);
		cc_close(&t->peers[i]);
	}
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
}

pid_t target_pid(struct target *t)
{
	struct device_status status;

	device_status(t->dev, &status);
	return status.pid;
}
