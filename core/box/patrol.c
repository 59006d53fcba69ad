/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Now and then each serving generation is looked at: rings (ring.c), where its boxes are and what CPU
 * time they used (suspect.c judges), and more rarely the whole seal again (verify.c).  Nothing here
 * waits for a box.  A PING is sent when the last was answered, so that at most one is on its way.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"
#include "devmodel/abi/kinds.h"
#include "devmodel/abi/policy.h"

/* The clock of a process's CPU time, as clock_getcpuclockid() makes it; needs no permission. */
static uint64_t cpu_time_ns(pid_t pid)
{
	const clockid_t clock = (clockid_t)((~(uint32_t)pid << 3) | 2);
	struct timespec ts;

	return clock_gettime(clock, &ts) == 0
		       ? (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec
		       : 0;
}

/* The beginning of a file of its /proc, terminated. False: there is none. */
static bool proc_read(const struct box *box, const char *name, char *text, size_t room)
{
	cleanup_fd int fd = openat(box->proc_dir, name, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

/* Ready to run, and not given a CPU: the second number of /proc/PID/schedstat. */
static uint64_t waited_ns(const struct box *box)
{
	unsigned long long ns = 0;
	char text[96];

	if (!proc_read(box, "schedstat", text, sizeof(text)) || sscanf(text, "%*u %llu", &ns) != 1)
		return 0;
	return ns;
}

/* The state letter of /proc/PID/stat, behind the name, which may be anything. */
static char state_letter(const struct box *box)
{
	char text[256];
	const char *p;

	if (!proc_read(box, "stat", text, sizeof(text)))
		return '?';
	p = strrchr(text, ')');
	if (p == NULL || p[1] != ' ')
		return '?';
	return p[2];
}

/* Whether the call that it sleeps in is one on a backend: the first argument says. */
static bool in_backend_call(const struct box *box)
{
	const struct launch_record *l = box->launch;
	char text[128];
	long nr;
	unsigned long long fd;
	const ssize_t n = pread(box->proc_syscall, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return sscanf(text, "%ld 0x%llx", &nr, &fd) == 2 && nr >= 0 && fd >= l->fd_backend &&
	       fd < (unsigned long long)l->fd_backend + l->backends;
}

static enum suspect_place place_of(const struct box *box)
{
	switch (state_letter(box)) {
	case 'S':
		return in_backend_call(box) ? SUSPECT_BACKEND : SUSPECT_ASLEEP;
	case 'D':
		return SUSPECT_BACKEND;
	case 'T':
	case 't':
		return SUSPECT_ASLEEP;
	default:
		return SUSPECT_RUNNING;
	}
}

void patrol_look(const struct box *box, struct suspect_sample *sample)
{
	sample->cpu_ns = cpu_time_ns(box->pid);
	sample->waited_ns = waited_ns(box);
	sample->place = place_of(box);
}

static bool box_serves(const struct box *box)
{
	return box->state == BOX_STARTING || box->state == BOX_ACTIVE;
}

/* Kicks every queue of the box that has work: a driver may have been slow to. */
static void box_nudge(const struct box *box)
{
	const struct device_wiring *wiring = &box->gen->wiring;
	const struct launch_record *l = box->launch;
	const uint64_t one = 1;

	for (uint32_t i = 0; i < l->queues; i++) {
		if (write(wiring->kick[l->queue_index[i]], &one, sizeof(one)) < 0)
			CHECK(errno == EAGAIN); /* full: then it was kicked */
	}
}

/* A PONG is owed when there is none on its way. */
static int box_ping(struct box *box)
{
	const struct ctl_header message = { CTL_PING, ++box->ping };

	box->pinged = true;
	return channel_send(box, &message, sizeof(message));
}

/* It said something that was not heard yet: this thread is late, not the box. */
static bool has_written(const struct box *box)
{
	struct pollfd pfd = { .fd = box->control, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

static bool is_patient(const struct device *dev)
{
	return (dev->spec.policy_when & POLICY_IF_TIMER) != 0;
}

static enum suspect_verdict box_judge(struct box *box)
{
	struct device *dev = box->gen->dev;
	const bool unheard = has_written(box);
	struct suspect_sample sample = {
		.now_ns = now_ns(),
		.progress = reg_worked(dev),
		.patient = is_patient(dev) || unheard || box->errands.synced || box->ask.waits,
	};
	const struct launch_record *l = box->launch;

	for (uint32_t i = 0; i < l->queues; i++) {
		const struct ring_seen *seen = &dev->seen[l->queue_index[i]];

		sample.progress |= seen->progress;
		sample.work |= seen->work && dev_kind_is_outward(dev->spec.kind, l->queue_index[i]);
	}
	sample.answered = !box->pinged || unheard;
	patrol_look(box, &sample);
	return suspect_judge(&box->record, &dev->spec.limits, &sample);
}

/* False: its generation is suspect now. */
static bool box_patrol(struct box *box)
{
	struct device *dev = box->gen->dev;

	switch (box_judge(box)) {
	case SUSPECT_HANG:
		box->reason = REPLACE_HANG;
		device_suspect(dev, REPLACE_HANG);
		return false;
	case SUSPECT_STORM:
		box->reason = REPLACE_STORM;
		device_suspect(dev, REPLACE_STORM);
		return false;
	case SUSPECT_SLOW:
		dev->slow++;
		device_tell(dev, SLOW);
		log_warn("%s: its backend is slow: a call takes longer than %u ms", dev->spec.id,
			 dev->spec.limits.hang_ms);
		break;
	case SUSPECT_NUDGE:
		box_nudge(box);
		break;
	case SUSPECT_NOTHING:
		break;
	}
	if (box->pinged || dev->spec.limits.hang_ms == 0)
		return true;
	if (box_ping(box) == 0)
		return true;
	box_raise(box, BOX_EV_MISBEHAVED); /* it does not read its messages */
	return false;
}

/* Every ring once, then every box.  False: something is suspect. */
static bool generation_patrol(struct generation *gen)
{
	struct device *dev = gen->dev;
	uint32_t queue;

	if (ring_audit(dev, &queue) != 0) {
		log_warn("%s: queue %u: used->idx is not where it can be", dev->spec.id, queue);
		device_suspect(dev, REPLACE_RING);
		return false;
	}
	for (uint32_t i = 0; i < gen->lanes; i++) {
		if (box_serves(&gen->boxes[i]) && !box_patrol(&gen->boxes[i]))
			return false;
	}
	return true;
}

/* The seal of everything that is sealed, as it was when it became a standby. */
static void generation_verify(struct generation *gen)
{
	const char *what;

	for (uint32_t i = 0; i < gen->lanes; i++) {
		struct box *box = &gen->boxes[i];

		if (box->state != BOX_STANDBY && box->state != BOX_ACTIVE)
			continue;
		if (verify_seal(box, &what) == 0)
			continue;
		/* Of one that is dying things are gone, one after the other; listener and pidfd tell. */
		if (fence_stopped(box) == FENCE_EXITING)
			continue;
		log_warn("%s: generation %llu is not sealed as it was: %s", gen->dev->spec.id,
			 (unsigned long long)gen->number, what);
		box_raise(box, BOX_EV_UNSOUND);
		return;
	}
}

static void patrol_fire(struct loop_timer *timer)
{
	struct device *dev = container_of(timer, struct device, patrol);
	const bool serves = dev->state == DEVICE_STARTING || dev->state == DEVICE_ACTIVE ||
			    dev->state == DEVICE_REFUSING;

	loop_arm(dev->sup->loop, timer, now_ns() + dev->patrol_ns);
	if (serves && dev->active != NULL)
		generation_patrol(dev->active);
}

static void audit_fire(struct loop_timer *timer)
{
	struct device *dev = container_of(timer, struct device, audit);

	loop_arm(dev->sup->loop, timer, now_ns() + dev->spec.audit_ms * NS_PER_MS);
	if (dev->standby != NULL)
		generation_verify(dev->standby);
	if (dev->active != NULL)
		generation_verify(dev->active);
}

void patrol_begin(struct device *dev)
{
	dev->patrol.fire = patrol_fire;
	dev->audit.fire = audit_fire;
	dev->patrol_ns = suspect_period_ms(&dev->spec.limits) * NS_PER_MS;
	if (dev->patrol_ns != 0)
		loop_arm(dev->sup->loop, &dev->patrol, now_ns() + dev->patrol_ns);
	if (dev->spec.audit_ms != 0)
		loop_arm(dev->sup->loop, &dev->audit, now_ns() + dev->spec.audit_ms * NS_PER_MS);
}

void patrol_end(struct device *dev)
{
	loop_disarm(dev->sup->loop, &dev->patrol);
	loop_disarm(dev->sup->loop, &dev->audit);
}

bool patrol_is_held(const struct box *box)
{
	struct suspect_sample now;

	patrol_look(box, &now);
	return now.place == SUSPECT_BACKEND;
}
