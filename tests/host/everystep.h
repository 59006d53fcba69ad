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

#define STEP_SAMPLE 29 /* a prime: loops have other lengths */
#define STEP_RANDOM 10
#define STEP_RANDOM_NS 60000 /* a random death is within so long, which is more than any takes */
#define STEP_TRACE_MAX 8192
#define STEP_LEAP_COST 5
#define STEP_REST_MAX 100000 /* instructions to the next wait, at most */
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
	uint64_t number;    /* of the case, never the same */
	bool whole;         /* this case: nothing was left undone when it died */
	bool untouched;     /* this case: nothing was begun */
	struct stepper box; /* the active one */
	struct stepper standby;
	/* The situation as it was first walked. */
	uint64_t trace[STEP_TRACE_MAX];
	uint64_t passed[STEP_TRACE_MAX]; /* after the first step, how often by then */
	uint64_t length;
	uint64_t tried, late, repeated;
	uint64_t random;
};

/* ---- what the device is at ---- */

static inline void step_status(const struct everystep *e, struct device_status *status)
{
	device_status(e->dev, status);
}

static inline uint64_t step_generation(const struct everystep *e)
{
	struct device_status status;

	step_status(e, &status);
	return status.generation;
}

/* A later generation than this one serves. */
static inline void step_await_successor(const struct everystep *e, uint64_t generation)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct device_status status;

	for (;;) {
		step_status(e, &status);
		if (strcmp(status.state, "active") == 0 && status.generation > generation)
			return;
		if (now_ns() > end)
			fail_msg("no generation after %llu: %s", (unsigned long long)generation,
				 status.state);
		usleep(50);
	}
}

/* The standby was sent ACTIVATE. */
static inline void step_await_activated(const struct everystep *e, pid_t standby)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct device_status status;

	for (;;) {
		step_status(e, &status);
		if (status.pid == standby)
			return;
		if (now_ns() > end)
			fail_msg("the standby is not activated: %s", status.state);
		usleep(50);
	}
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

/* To the call in which the box waits for work. */
static inline void step_to_call(struct stepper *box, long nr)
{
	struct stepper_call call;

	for (int i = 0; i < STEP_REST_MAX; i++) {
		if (stepper_at_call(box, &call) && call.nr == nr)
			return;
		assert_int_equal(stepper_step(box), 0);
	}
	fail_msg("no call %ld", nr);
}

/* The active box, before its wait, with nothing that would end it. */
static inline void step_rest(struct everystep *e)
{
	struct device_status status;

	assert_int_equal(device_wait_standby(e->dev, SCENE_WAIT_MS), 0);
	step_status(e, &status);
	assert_string_equal(status.state, "active");
	assert_int_equal(stepper_attach(&e->box, status.pid), 0);
	step_to_call(&e->box, SYS_ppoll);
	step_drain(e->kicks, e->queues);
	step_drain(e->calls, e->queues);
}

/* A planned replacement is on its way to the box, which does not run. */
static inline void step_quiesce(struct everystep *e)
{
	struct device_status status;

	assert_int_equal(device_replace_post(e->dev, REPLACE_OPERATOR, true), 0);
	do
		step_status(e, &status);
	while (strcmp(status.state, "active") == 0);
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
		step_to_call(&e->box, sit->call);
	if (sit->phase == STEP_QUIESCE || sit->phase == STEP_BELL || sit->phase == STEP_HANDOFF)
		step_quiesce(e);
	if (sit->phase == STEP_HANDOFF)
		stepper_release(&e->box);
	else if (sit->phase == STEP_RECOVERY)
		stepper_kill(&e->box);
	if (activation)
		step_await_activated(e, status.standby_pid);
	return activation ? &e->standby : &e->box;
}

/* Whether the situation ends here.  *reported: it said that it parked, or that it is active. */
static inline bool step_is_end(const struct stepper *box, const struct situation *sit,
			       bool *reported)
{
	struct stepper_call call;

	if (!stepper_at_call(box, &call))
		return false;
	if (call.nr == SYS_write && call.fd == BOX_FD_CONTROL)
		*reported = true;
	if (sit->phase == STEP_QUIESCE || sit->phase == STEP_BELL)
		return *reported && call.nr == SYS_read && call.fd == BOX_FD_CONTROL;
	return call.nr == SYS_ppoll;
}

/* The first time: one step after the other, to the end. */
static inline void step_record(struct everystep *e, const struct situation *sit,
			       struct stepper *box)
{
	bool reported = false;
	uint64_t k = 0;

	do {
		assert_true(k + 1 < STEP_TRACE_MAX);
		e->trace[k++] = box->at;
		assert_int_equal(stepper_step(box), 0);
	} while (!step_is_end(box, sit, &reported));
	e->trace[k] = box->at;
	e->length = k;
	for (uint64_t i = 0; i <= k; i++) {
		e->passed[i] = 0;
		for (uint64_t j = 1; j <= i; j++)
			e->passed[i] += e->trace[j] == e->trace[i];
	}
}

/* A step takes some 50 us here, a breakpoint that is hit some 250: where to run to on the way to k; 0:
 * nowhere.  Not to an instruction that repeats itself, whose breakpoint may be hit once or more, nor
 * to where the run begins. */
static inline uint64_t step_leap(const struct everystep *e, uint64_t k)
{
	uint64_t best = 0, cost = k;

	for (uint64_t j = 2; j <= k; j++) {
		const uint64_t c = e->passed[j] * STEP_LEAP_COST + (k - j);

		if (c < cost && e->trace[j] != e->trace[1] && e->trace[j] != e->trace[j - 1] &&
		    e->trace[j] != e->trace[j + 1]) {
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

static inline void step_conclude(struct everystep *e, const struct situation *sit,
				 uint64_t generation)
{
	step_await_successor(e, generation);
	sit->check(e, sit->arg);
	e->number++;
}

/* What a replacement by a death that no deadline was before looks like. */
static inline void step_check_recovery(struct everystep *e)
{
	struct replacement r;

	assert_int_equal(watch_replacement(e->watch, watch_count(e->watch, WATCH_REPLACED) - 1, &r),
			 0);
	assert_false(r.planned);
	assert_false(r.carried);
	assert_int_equal(r.reason, REPLACE_CRASH);
	assert_true(r.fence == FENCE_EXITING || r.fence == FENCE_DEAD);
}

/* 0: killed before instruction k, or at the end; -ESRCH: it was late. */
static inline int step_case(struct everystep *e, const struct situation *sit, uint64_t k)
{
	struct stepper *box = step_prepare(e, sit);
	const uint64_t generation = step_generation(e);
	int ret = 0;

	if (e->length == 0) {
		step_record(e, sit, box);
		k = e->length;
	} else {
		ret = step_walk(e, box, k);
	}
	e->untouched = k == 0;
	e->whole = ret == 0 && k == e->length;
	if (ret == 0)
		stepper_kill(box);
	step_conclude(e, sit, generation);
	if (ret == 0)
		step_check_recovery(e);
	return ret;
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
	const uint64_t generation = step_generation(e);
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
	step_conclude(e, sit, generation);
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

	e->length = e->tried = e->late = e->repeated = 0;
	step_try(e, sit, 0); /* to its end, which is the last case */
	for (uint64_t k = part.sample * (part.shard - 1); k < e->length;
	     k += part.sample * part.shards)
		step_try(e, sit, k);
	for (uint64_t i = 0; i < randoms; i++)
		step_random_case(e, sit);
	print_message("%s, %s: %" PRIu64 " instructions, killed at %" PRIu64
		      " of them, and at %" PRIu64 " random times; output repeated %" PRIu64
		      " times; %" PRIu64 " were late\n",
		      e->kind, sit->name, e->length + 1, e->tried, randoms, e->repeated, e->late);
}

#endif
