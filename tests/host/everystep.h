/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths at every instruction.  A situation is a way from one wait for work to the next, or to being
 * parked; it is walked once to its end, then again and again, and the box is killed before its k-th
 * instruction (k = 0: before the call in which it waited; the last: at the next wait).  After each
 * death the device must serve on, and what was in flight be right.  A step over a system call is the
 * whole call, so some deaths at random times are added.
 *
 *   SAMPLE=n   every n-th instruction only (1: all)
 *   SHARD=i/n  of those, the i-th of n parts
 *   COUNT=n    deaths at random times for each situation
 *
 * Failures are cmocka assertions, so all is for the test's thread, which is the boxes' tracer.
 */
#ifndef MAYFLY_TESTS_HOST_EVERYSTEP_H
#define MAYFLY_TESTS_HOST_EVERYSTEP_H

#include <errno.h>
#include <inttypes.h>
#include <sys/syscall.h>

#include "devmodel/abi/launch.h"
#include "tests/host/scene.h"
#include "tests/rig/stepper.h"

#define STEP_SAMPLE 61 /* a prime: loops have other lengths */
#define STEP_RANDOM 5
#define STEP_RANDOM_NS 60000 /* a random death is within so long, which is more than any takes */
#define STEP_TRACE_MAX 8192
#define STEP_LEAP_COST 5
#define STEP_NEVER                                                                                 \
	(1u << 20) /* passed: an instruction that repeats itself has hits of no known number */
#define STEP_REST_MAX 100000 /* instructions to the next wait, at most */
#define STEP_NOWHERE UINT64_MAX
#define STEP_LATE_MAX 1000

/* NAME, what is walked. */
#define STEP_PHASES(X)                                                                             \
	X(SERVE, "from the wait for work to the next")                                             \
	X(QUIESCE, "from the wait for work to being parked, with work there too")                  \
	X(BELL, "from a backend call within a request to being parked, by the bell")               \
	X(RECOVERY, "a standby, from ACTIVATE for one that died to the wait for work")             \
	X(HANDOFF, "the same, for one that parked and handed its records on")

enum step_phase {
#define STEP_PHASE_ENUM(NAME, text) STEP_##NAME,
	STEP_PHASES(STEP_PHASE_ENUM)
#undef STEP_PHASE_ENUM
};

struct everystep;

struct situation {
	const char *name;
	enum step_phase phase;
	/* The box rests, its eventfds are empty: gives it work. */
	void (*begin)(struct everystep *e, const void *arg);
	/* Another one serves: waits for what is owed, looks whether it is right. */
	void (*check)(struct everystep *e, const void *arg);
	const void *arg;
	long call; /* BELL: the backend call */
};

struct everystep {
	const char *kind;
	struct device *dev;
	struct watch *watch;
	const int *kicks, *calls; /* eventfds */
	uint32_t queues;
	uint64_t generation; /* this case: of what is walked */
	uint64_t number;     /* of the case, never the same */
	bool whole;          /* this case: what there was to do was done when it died */
	bool untouched;      /* this case: nothing was begun */
	struct stepper box;  /* the active one */
	struct stepper standby;
	uint64_t wait_at; /* where it waits for work; STEP_NOWHERE: not known yet */
	uint64_t bell_at; /* where sit->call is made; likewise */
	/* The situation as it was first walked: addresses, and how often each was passed by then since
	 * the first step. */
	uint64_t trace[STEP_TRACE_MAX];
	uint64_t passed[STEP_TRACE_MAX];
	uint64_t known;      /* so many of them */
	uint64_t length;     /* the last of them; 0: not known yet */
	uint64_t last_write; /* before it everything is done, and only to be told of */
	bool reported;       /* within what is known it said that it parked, or that it is active */
	uint64_t tried, late;
	uint64_t repeated, lost; /* output and input, where that may be */
	uint64_t random;
};

/* ---- what the device is at ---- */

static inline void step_status(const struct everystep *e, struct device_status *status)
{
	device_status(e->dev, status);
}

/* A later generation than the one that was walked serves. */
static inline void step_await_successor(const struct everystep *e)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct device_status status;

	for (;;) {
		step_status(e, &status);
		if (strcmp(status.state, "active") == 0 && status.generation > e->generation)
			return;
		if (now_ns() > end)
			fail_msg("no generation after %llu: %s", (unsigned long long)e->generation,
				 status.state);
		usleep(50);
	}
}

/* The device has left the box that is held: another is active, or it is none's. */
static inline bool step_is_left(const struct everystep *e, struct device_status *status)
{
	step_status(e, status);
	return strcmp(status->state, "active") != 0 || status->pid != e->box.pid;
}

/* Nothing lost, doubled or wrong, as the driver sees it. */
static inline void step_check_ring(const struct ringdrv_queue *ring)
{
	assert_int_equal(ring->outstanding, 0);
	assert_int_equal(ring->stats.completed, ring->stats.added);
	assert_int_equal(ring->stats.duplicated, 0);
	assert_int_equal(ring->stats.corrupted, 0);
	assert_int_equal(ring->stats.lost_calls, 0);
}

/* The next answer.  A driver that sleeps does not look before it is called. */
static inline struct ringdrv_done step_reap(struct ringdrv_queue *ring)
{
	struct ringdrv_done done;

	while (ring->asleep || ringdrv_reap(ring, &done) == 0)
		assert_int_equal(ringdrv_wait(ring, SCENE_WAIT_MS * NS_PER_MS), 1);
	return done;
}

/* The driver has put something into the ring, and no answers lie there: it sleeps until it is called,
 * and kicks; who rests wants to be kicked.  What was answered long ago must not pass for an answer. */
static inline void step_submit(struct ringdrv_queue *ring)
{
	for (uint16_t i = 0; i < ring->config.size; i++)
		ringdrv_evil_used(ring, i, UINT32_MAX, UINT32_MAX);
	assert_int_equal(ringdrv_arm(ring), 0);
	ringdrv_publish(ring);
	assert_int_equal(ringdrv_kick(ring), 1);
}

static inline void step_drain(const int *fds, uint32_t count)
{
	uint64_t value;

	for (uint32_t i = 0; i < count; i++) {
		if (read(fds[i], &value, sizeof(value)) < 0)
			assert_int_equal(errno, EAGAIN);
	}
}

/* ---- a case ---- */

/* To the next such call.  Where that is, *at, is found by steps the first time. */
static inline void step_to_call(struct stepper *box, long nr, uint64_t *at)
{
	struct stepper_call call;

	for (int i = 0; i < STEP_REST_MAX && box->at != *at; i++) {
		if (stepper_at_call(box, &call) && call.nr == nr)
			*at = box->at;
		else if (*at != STEP_NOWHERE)
			assert_int_equal(stepper_run(box, *at, 1), 0);
		else
			assert_int_equal(stepper_step(box), 0);
	}
	assert_int_equal(box->at, *at);
}

/* What has been given to it is dealt with, as far as it goes. */
static inline void step_settle(struct everystep *e)
{
	assert_int_equal(stepper_step(&e->box), 0);
	step_to_call(&e->box, SYS_ppoll, &e->wait_at);
}

/* Holds the active box, whose device does nothing else.  False: it does still, since a replacement that
 * was asked for is done also after a recovery that came first, where a case was late. */
static inline bool step_hold(struct everystep *e)
{
	struct device_status before, now;

	assert_int_equal(device_wait_standby(e->dev, SCENE_WAIT_MS), 0);
	step_status(e, &before);
	const int ret = stepper_attach(&e->box, before.pid);

	step_status(e, &now);
	e->generation = now.generation;
	if (ret == 0 && strcmp(now.state, "active") == 0 && now.standby_ready &&
	    now.pid == before.pid)
		return true;
	stepper_release(&e->box);
	return false;
}

/* The active box, before its wait, with nothing that would end it. */
static inline void step_rest(struct everystep *e)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	while (!step_hold(e)) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
	step_to_call(&e->box, SYS_ppoll, &e->wait_at);
	step_drain(e->kicks, e->queues);
	step_drain(e->calls, e->queues);
}

/* A planned replacement is on its way to the box, which does not run. */
static inline void step_quiesce(struct everystep *e)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct device_status status;

	assert_int_equal(device_replace_post(e->dev, REPLACE_OPERATOR, true), 0);
	while (!step_is_left(e, &status))
		assert_true(now_ns() < end);
}

/* The standby was sent ACTIVATE, and does not run. */
static inline void step_await_activate(struct everystep *e, pid_t standby)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct device_status status;

	for (step_status(e, &status); status.pid != standby; step_status(e, &status)) {
		if (now_ns() > end)
			fail_msg("the standby is not activated: %s", status.state);
		usleep(50);
	}
	e->generation = status.generation;
}

/* Brings about what is to be walked.  The box that is walked. */
static inline struct stepper *step_prepare(struct everystep *e, const struct situation *sit)
{
	struct device_status status;

	step_rest(e);
	step_status(e, &status);
	const bool activation = sit->phase == STEP_RECOVERY || sit->phase == STEP_HANDOFF;

	if (activation)
		assert_int_equal(stepper_attach(&e->standby, status.standby_pid), 0);
	sit->begin(e, sit->arg);
	if (sit->phase == STEP_BELL)
		step_to_call(&e->box, sit->call, &e->bell_at);
	if (sit->phase == STEP_QUIESCE || sit->phase == STEP_BELL || sit->phase == STEP_HANDOFF)
		step_quiesce(e);
	if (sit->phase == STEP_HANDOFF)
		stepper_release(&e->box);
	else if (sit->phase == STEP_RECOVERY)
		stepper_kill(&e->box);
	if (activation)
		step_await_activate(e, status.standby_pid);
	return activation ? &e->standby : &e->box;
}

/* Whether the situation ends with what is known of it now. */
static inline bool step_is_end(struct everystep *e, const struct situation *sit,
			       const struct stepper *box)
{
	struct stepper_call call;

	if (!stepper_at_call(box, &call))
		return false;
	if (call.nr == SYS_write) {
		e->last_write = e->known - 1;
		e->reported |= call.fd == BOX_FD_CONTROL &&
			       (call.first == REPORT_PARKED || call.first == REPORT_ACTIVATED);
	}
	if (sit->phase == STEP_QUIESCE || sit->phase == STEP_BELL)
		return e->reported && call.nr == SYS_read && call.fd == BOX_FD_CONTROL;
	return call.nr == SYS_ppoll;
}

/* One more instruction of the situation is known. */
static inline void step_note(struct everystep *e, const struct stepper *box)
{
	const uint64_t k = e->known;
	uint64_t j = k;

	assert_true(k < STEP_TRACE_MAX);
	e->trace[e->known++] = box->at;
	while (j > 0 && (--j == 0 || e->trace[j] != box->at))
		;
	e->passed[k] = j == 0 ? 1 : e->passed[j] == STEP_NEVER ? STEP_NEVER : e->passed[j] + 1;
	if (j == 0 || j + 1 < k)
		return;
	for (j = 1; j <= k; j++) {
		if (e->trace[j] == box->at)
			e->passed[j] = STEP_NEVER;
	}
}

/* A step takes some 50 us here, a breakpoint that is hit some 250: where to run to on the way to k; 0:
 * nowhere.  Not to where the run begins. */
static inline uint64_t step_leap(const struct everystep *e, uint64_t k)
{
	uint64_t best = 0, cost = k;

	for (uint64_t j = 2; j <= k; j++) {
		const uint64_t c = e->passed[j] * STEP_LEAP_COST + (k - j);

		if (c < cost && e->trace[j] != e->trace[1]) {
			cost = c;
			best = j;
		}
	}
	return best;
}

/* Until the box is before its k-th instruction.  0; -ESRCH: it was killed meanwhile, for being late. */
static inline int step_walk(const struct everystep *e, struct stepper *box, uint64_t k)
{
	const uint64_t leap = step_leap(e, k);
	uint64_t i = 0;
	int ret = 0;

	while (i < k && ret == 0) {
		if (i == 1 && leap != 0) {
			ret = stepper_run(box, e->trace[leap], e->passed[leap]);
			i = leap;
		} else {
			ret = stepper_step(box);
			i++;
		}
		if (ret == 0)
			assert_int_equal(box->at, e->trace[i]); /* the same way as the first time */
	}
	return ret;
}

/* The same to the situation's end, for the first time.  Where that is late, the next time goes on from
 * there: so it comes to an end on a slow machine, too. */
static inline int step_explore(struct everystep *e, const struct situation *sit,
			       struct stepper *box)
{
	int ret = 0;

	if (e->known == 0)
		step_note(e, box);
	else
		ret = step_walk(e, box, e->known - 1);
	while (ret == 0 && e->length == 0) {
		ret = stepper_step(box);
		if (ret != 0)
			break;
		step_note(e, box);
		if (step_is_end(e, sit, box))
			e->length = e->known - 1;
	}
	return ret;
}

static inline void step_conclude(struct everystep *e, const struct situation *sit)
{
	step_await_successor(e);
	sit->check(e, sit->arg);
	e->number++;
}

/* How the device got over the death of what was walked. */
static inline struct replacement step_replacement(const struct everystep *e)
{
	struct replacement r;
	uint64_t at = watch_count(e->watch, WATCH_REPLACED);

	do
		assert_int_equal(watch_replacement(e->watch, --at, &r), 0);
	while (r.from != e->generation);
	return r;
}

/* 0: it died as was wanted.  -ESRCH: the supervisor was faster, because of a deadline or of a vCPU that
 * waited. */
static inline int step_judge(const struct everystep *e)
{
	const struct replacement r = step_replacement(e);

	assert_false(r.carried);
	assert_true(r.fence == FENCE_EXITING || r.fence == FENCE_DEAD);
	if (r.planned || r.reason == REPLACE_HANG)
		return -ESRCH;
	assert_int_equal(r.reason, REPLACE_CRASH);
	return 0;
}

/* 0: killed before instruction k, or at the end; -ESRCH: it was late. */
static inline int step_case(struct everystep *e, const struct situation *sit, uint64_t k)
{
	struct stepper *box = step_prepare(e, sit);
	int ret = 0, judged;

	if (e->length == 0)
		ret = step_explore(e, sit, box);
	else
		ret = step_walk(e, box, k);
	k = e->length != 0 && k > e->length ? e->length : k;
	e->untouched = k == 0;
	e->whole = ret == 0 && e->length != 0 && k >= e->last_write;
	if (ret == 0)
		stepper_kill(box);
	step_conclude(e, sit);
	judged = step_judge(e);
	assert_false(ret != 0 && judged == 0); /* nobody else kills */
	return judged;
}

/* A box that does not get on with what has a deadline is killed by the supervisor, as it must be on a
 * machine that is busy; that was not the death that was wanted. */
static inline void step_try(struct everystep *e, const struct situation *sit, uint64_t k)
{
	while (step_case(e, sit, k) != 0)
		assert_true(e->late++ < STEP_LATE_MAX);
	e->tried++;
}

/* At a random time, wherever it is then. */
static inline void step_random_case(struct everystep *e, const struct situation *sit)
{
	struct stepper *box = step_prepare(e, sit);
	const pid_t pid = box->pid;

	e->random ^= e->random << 13;
	e->random ^= e->random >> 7;
	e->random ^= e->random << 17;
	e->untouched = e->whole = false;
	stepper_release(box);
	const uint64_t end = now_ns() + e->random % STEP_RANDOM_NS;

	while (now_ns() < end)
		;
	kill(pid, SIGKILL); /* it may have parked and be gone */
	step_conclude(e, sit);
}

/* ---- all cases of a situation ---- */

struct step_part {
	uint64_t sample, shard, shards;
};

static inline struct step_part step_part(void)
{
	struct step_part part = { STEP_SAMPLE, 1, 1 };
	const char *sample = getenv("SAMPLE"), *shard = getenv("SHARD");

	if (sample != NULL)
		part.sample = strtoull(sample, NULL, 10);
	if (shard != NULL)
		assert_int_equal(sscanf(shard, "%" SCNu64 "/%" SCNu64, &part.shard, &part.shards),
				 2);
	assert_in_range(part.sample, 1, STEP_TRACE_MAX);
	assert_in_range(part.shard, 1, part.shards);
	return part;
}

static inline void step_situation(struct everystep *e, const struct situation *sit)
{
	const struct step_part part = step_part();
	const uint64_t randoms = scene_count(STEP_RANDOM);

	e->reported = false;
	e->last_write = 0;
	e->bell_at = STEP_NOWHERE;
	e->known = e->length = e->tried = e->late = e->repeated = e->lost = 0;
	step_try(e, sit, STEP_TRACE_MAX); /* to its end, which is the last case .. */
	e->tried = part.shard == 1;       /* .. and the first part's */
	for (uint64_t k = part.sample * (part.shard - 1); k < e->length;
	     k += part.sample * part.shards)
		step_try(e, sit, k);
	for (uint64_t i = 0; i < randoms; i++)
		step_random_case(e, sit);
	print_message("%s, %s: %" PRIu64 " instructions, killed at %" PRIu64
		      " of them and at %" PRIu64 " random times; output repeated %" PRIu64
		      ", input lost %" PRIu64 ", late %" PRIu64 "\n",
		      e->kind, sit->name, e->length + 1, e->tried, randoms, e->repeated, e->lost,
		      e->late);
}

#endif
