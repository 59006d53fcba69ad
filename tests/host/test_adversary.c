/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rogue device programs (tests/rig/rogue) under the real supervisor: each of their misdeeds,
 * handoff after handoff.  What must hold whatever they do: never are two generations active (a
 * rogue that is watches all others), the supervisor goes on, an honest device beside them notices
 * nothing, and the rogue's device is served by its successor or is broken with a reason.  COUNT=n:
 * handoffs of each misdeed (100; a third of those that take a deadline).
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/host/scene.h"
#include "tests/rig/inject.h"
#include "tests/rig/rngload.h"
#include "tests/rig/rogue/rogue.h"

#define QUICK 100
#define DEVICES_MAX 6

static struct boxrig rig;

/* ---- the honest device: release rng, under the same supervisor ---- */

static struct {
	struct boxrig_rng rng;
	struct rngload load;
	pthread_t thread;
	bool stop;          /* shared with the thread */
	uint64_t completed; /* likewise */
} honest;

static void *honest_main(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&honest.stop, __ATOMIC_RELAXED)) {
		const int n = rngload_step(&honest.load, 20 * NS_PER_MS);

		__atomic_fetch_add(&honest.completed, n > 0 ? (uint64_t)n : 0, __ATOMIC_RELAXED);
		usleep(200); /* it is to be there, not to fill a CPU */
	}
	return NULL;
}

static int honest_begin(void **state)
{
	const struct boxrig_rng_config config = { .id = "honest", .ring_size = 64 };

	(void)state;
	if (boxrig_rng_create(&rig, &config, &honest.rng) != 0 ||
	    rngload_init(&honest.load, &rig.mem, &honest.rng.ring, 4, 256) != 0 ||
	    boxrig_rng_go(&honest.rng) != 0)
		return -1;
	return pthread_create(&honest.thread, NULL, honest_main, NULL);
}

static uint64_t honest_completed(void)
{
	return __atomic_load_n(&honest.completed, __ATOMIC_RELAXED);
}

/* It served all along, by its first generation. */
static void honest_check(uint64_t before)
{
	struct device_status status;

	device_status(honest.rng.dev, &status);
	assert_string_equal(status.state, "active");
	assert_int_equal(status.generation, 1);
	assert_true(honest_completed() > before);
}

static int honest_end(void **state)
{
	(void)state;
	__atomic_store_n(&honest.stop, true, __ATOMIC_RELAXED);
	pthread_join(honest.thread, NULL);
	const bool clean = rngload_drain(&honest.load, SCENE_WAIT_MS * NS_PER_MS) == 0 &&
			   rngload_clean(&honest.load);

	rngload_free(&honest.load);
	boxrig_rng_destroy(&honest.rng);
	return clean ? 0 : -1;
}

/* ---- trials ---- */

#define F(NAME) (1u << FENCE_##NAME)
#define R(NAME) (1u << REPLACE_##NAME)
#define PLANNED R(OPERATOR)

struct trial {
	enum rogue_behaviour behaviour;
	uint32_t devices; /* at once; 0: 1 */
	bool slow;        /* each takes a deadline, 50 or 250 ms: a third as many */
	uint32_t fences;  /* that a replacement may rest on */
	uint32_t reasons; /* that it may have */
	bool ruins;       /* the rings: the driver has to reset after each */
	bool breaks;      /* the device must be broken after each; with ruins only */
	bool errands;     /* it may ask for what a balloon may ask for */
};

struct worker {
	const struct trial *trial;
	struct scene *scene;
	struct rogue_slot *slot;
	uint64_t count;
	uint64_t replaced; /* finished with device_replace() returning 0 */
	uint64_t broken;
	const char *fault; /* what was not as it must be; its place is `line` */
	int line;
	pthread_t thread;
};

/* Workers are not on the thread that cmocka fails. */
#define NEED(w, cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(w)->fault = #cond;                                                        \
			(w)->line = __LINE__;                                                      \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

static int worker_start(struct worker *w)
{
	struct scene *s = w->scene;
	const uint64_t started = watch_count(&s->watch, WATCH_STARTED);
	const struct blkload_config load = { .sectors = 4096,
					     .seed = started,
					     .quiet = w->trial->ruins };

	NEED(w, ftruncate(s->blk.image, 0) == 0);
	NEED(w, ftruncate(s->blk.image, (off_t)s->blk.bytes) == 0);
	for (uint32_t i = 0; i < s->blk.queues; i++) {
		ringdrv_reset(&s->blk.rings[i]);
		s->blk.rings[i].complaints.quiet = w->trial->ruins;
	}
	NEED(w, boxrig_blk_go(&s->blk) == 0);
	NEED(w, watch_wait(&s->watch, WATCH_STARTED, started + 1, SCENE_WAIT_MS) == 0);
	NEED(w, loadrun_start(&s->run, &rig.mem, &load, s->blk.rings, s->blk.queues, 4) == 0);
	s->loaded = true;
	return 0;
}

static int worker_restart(struct worker *w)
{
	struct scene *s = w->scene;
	const uint64_t resets = watch_count(&s->watch, WATCH_RESET);

	s->loaded = false;
	loadrun_abandon(&s->run);
	device_reset(s->blk.dev);
	NEED(w, watch_wait(&s->watch, WATCH_RESET, resets + 1, SCENE_WAIT_MS) == 0);
	return worker_start(w);
}

/* Until the device is served again or broken. */
static int worker_settle(struct worker *w)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct device_status status;

	do {
		device_status(w->scene->blk.dev, &status);
		if (strcmp(status.state, "active") == 0)
			return 0;
		if (strcmp(status.state, "broken") == 0) {
			NEED(w, status.broken != NULL && status.broken[0] != '\0');
			w->broken++;
			return 0;
		}
		usleep(200);
	} while (now_ns() < end);
	w->fault = "neither active nor broken";
	w->line = __LINE__;
	return -1;
}

static int worker_once(struct worker *w)
{
	struct scene *s = w->scene;
	const uint64_t broken = w->broken;
	struct replacement r;

	NEED(w, loadrun_progress(&s->run, 4, SCENE_WAIT_MS) == 0);
	const int ret = device_replace(s->blk.dev, REPLACE_OPERATOR, true, &r);

	NEED(w, ret == 0 || ret == -ECANCELED);
	w->replaced += ret == 0;
	if (worker_settle(w) != 0)
		return -1;
	NEED(w, w->trial->ruins || w->broken == broken);
	NEED(w, !w->trial->breaks || w->broken > broken);
	return w->trial->ruins ? worker_restart(w) : 0;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; i < w->count && worker_once(w) == 0; i++)
		;
	return NULL;
}

static struct rogue_page *rogue_page(void)
{
	return guestmem_ptr(&rig.mem, gpa_make(ROGUE_PAGE_GPA), sizeof(struct rogue_page));
}

static void worker_begin(struct worker *w, const struct trial *trial, uint32_t at, uint64_t count)
{
	const struct boxrig_blk_config config = {
		.queues = 1,
		.hooks = trial->errands ? &watch_errand_hooks : NULL,
	};
	struct rogue_slot *slot = &rogue_page()->slots[at];

	*w = (struct worker){ .trial = trial, .slot = slot, .count = count };
	w->scene = scene_create(&rig, &config);
	memset(slot, 0, sizeof(*slot));
	slot->used_gpa = w->scene->blk.rings[0].used_gpa;
	slot->behaviour = trial->behaviour;
	assert_int_equal(worker_start(w), 0);
}

/* Every replacement rests on what it may. */
static void check_replacements(struct worker *w)
{
	const uint64_t count = watch_count(&w->scene->watch, WATCH_REPLACED);
	uint64_t last = 0;

	for (uint64_t i = count > WATCH_LOG ? count - WATCH_LOG : 0; i < count; i++) {
		struct replacement r;

		assert_int_equal(watch_replacement(&w->scene->watch, i, &r), 0);
		if (!scene_late(&r) &&
		    (!(w->trial->fences & 1u << r.fence) || !(w->trial->reasons & 1u << r.reason)))
			fail_msg("generation %llu: fence %s, reason %s", (unsigned long long)r.from,
				 fence_name(r.fence), replace_reason_name(r.reason));
		assert_true(r.from >= last && r.to > r.from);
		last = r.to;
	}
}

static void worker_end(struct worker *w)
{
	pthread_join(w->thread, NULL);
	if (w->fault != NULL)
		fail_msg("line %d: %s (state %s)", w->line, w->fault, scene_status(w->scene).state);
	check_replacements(w);
	/* Whoever is active now does no harm when it is replaced, so that the rest can be counted.
	 * */
	w->slot->behaviour = ROGUE_HONEST;
	/* Now and then one gets no CPU in the time that it is given to notice QUIESCE. */
	assert_true(w->trial->behaviour == ROGUE_HONEST ||
		    w->slot->misdeeds >= w->count - w->count / 4);
	assert_true(w->slot->activations >= w->count);
	if (w->trial->ruins) {
		w->scene->loaded = false;
		loadrun_abandon(&w->scene->run);
	}
	scene_close(w->scene);
	assert_int_equal(w->slot->two_active, 0);
	assert_int_equal(w->slot->two_writing, 0);
}

static void try_trial(const struct trial *trial)
{
	const uint32_t devices = trial->devices != 0 ? trial->devices : 1;
	const uint64_t count = scene_count(QUICK) / (trial->slow ? 3 : 1) / devices + 1;
	const uint64_t before = honest_completed();
	struct worker workers[DEVICES_MAX];

	for (uint32_t i = 0; i < devices; i++)
		worker_begin(&workers[i], trial, i, count);
	for (uint32_t i = 0; i < devices; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]),
				 0);
	for (uint32_t i = 0; i < devices; i++)
		worker_end(&workers[i]);
	honest_check(before);
}

/* ---- misdeeds ---- */

/* One that is fenced without its help may be found to be anything but parked. */
#define FORCED (F(STOPPED) | F(EXITING) | F(DEAD))
#define TRIAL(...) try_trial(&(const struct trial){ __VA_ARGS__ })

static void test_honest(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_HONEST, .fences = F(PARKED), .reasons = PLANNED);
}

static void test_takes_kicks(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_KICKS, .fences = F(PARKED), .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_KICKS_ON, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
}

static void test_fills_call(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_CALL_FULL, .fences = F(PARKED), .reasons = PLANNED);
}

static void test_writes_used_before(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_USED_AHEAD, .fences = F(PARKED), .reasons = PLANNED, .ruins = true,
	      .breaks = true);
	TRIAL(.behaviour = ROGUE_USED_BACK, .fences = F(PARKED), .reasons = PLANNED, .ruins = true,
	      .breaks = true);
	TRIAL(.behaviour = ROGUE_ELEMENTS, .fences = F(PARKED), .reasons = PLANNED, .ruins = true);
}

static void test_writes_used_after(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_USED_ON, .slow = true, .fences = FORCED, .reasons = PLANNED,
	      .ruins = true);
}

static void test_parks_twice(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_PARKS_TWICE, .fences = F(PARKED) | FORCED,
	      .reasons = PLANNED | R(PROTOCOL));
}

static void test_wrong_messages(void **state)
{
	static const enum rogue_behaviour forbidden[] = { ROGUE_EMPTY, ROGUE_OVERSIZED,
							  ROGUE_CALLS };
	static const enum rogue_behaviour senseless[] = { ROGUE_ORDER, ROGUE_UNKNOWN, ROGUE_FLOOD,
							  ROGUE_LENGTH };

	(void)state;
	if (rig.host.listener) {
		for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
			TRIAL(.behaviour = forbidden[i], .fences = F(HELD) | FORCED,
			      .reasons = R(SECCOMP));
	}
	for (size_t i = 0; i < ARRAY_SIZE(senseless); i++)
		TRIAL(.behaviour = senseless[i], .fences = FORCED, .reasons = R(PROTOCOL));
}

static void test_never_parks(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_DEAF, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_SPINS, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_WRITES, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
}

static void test_lies(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_LIES, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_NO_BYTES, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_UNREAD, .fences = FORCED, .reasons = R(PROTOCOL));
}

/* Without the nonce of the ANSWER, a box that parked before it had read it would look as if it waited in
 * the read that the ANSWER ends. */
static void test_answers(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_SYNCS, .errands = true, .fences = F(PARKED), .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_SYNC_UNHEARD, .errands = true, .fences = FORCED,
	      .reasons = R(PROTOCOL));
	/* It may be seen to wait before it is heard, and is parked then: it gets no answer any more. */
	TRIAL(.behaviour = ROGUE_SYNC_LATE, .errands = true, .fences = F(PARKED) | FORCED,
	      .reasons = PLANNED | R(PROTOCOL));
	/* And for what no kind but a balloon may ask. */
	TRIAL(.behaviour = ROGUE_SYNCS, .fences = FORCED, .reasons = R(PROTOCOL));
}

static void test_dies(void **state)
{
	(void)state;
	TRIAL(.behaviour = ROGUE_CRASHES, .fences = FORCED, .reasons = R(CRASH));
	TRIAL(.behaviour = ROGUE_EXITS, .fences = FORCED, .reasons = R(CRASH));
}

/* The successor refuses the record and dies of it; the next one starts clean. */
static void test_wrong_record(void **state)
{
	static const enum rogue_behaviour wrong[] = { ROGUE_GARBAGE, ROGUE_RANGE, ROGUE_LONG };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		TRIAL(.behaviour = wrong[i], .fences = FORCED, .reasons = R(PROTOCOL));
}

/* ---- with help from outside ---- */

struct helper {
	pthread_t thread;
	bool stop; /* shared with the thread */
};

/* Stops and continues every box there is. */
static void *signal_main(void *arg)
{
	struct helper *h = arg;
	pid_t pids[128];

	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
		const int n = inject_children(pids, ARRAY_SIZE(pids));

		for (int i = 0; i < n; i++) {
			if (pids[i] == rig.spawner.pid)
				continue;
			kill(pids[i], SIGSTOP);
			kill(pids[i], SIGCONT);
		}
		usleep(100);
	}
	return NULL;
}

/* Continues every box there is, as often as can be: whoever stops does not stay so. */
static void *continue_main(void *arg)
{
	struct helper *h = arg;
	pid_t pids[128];

	while (!__atomic_load_n(&h->stop, __ATOMIC_RELAXED)) {
		const int n = inject_children(pids, ARRAY_SIZE(pids));

		for (int i = 0; i < n * 100; i++) {
			if (pids[i % n] != rig.spawner.pid)
				kill(pids[i % n], SIGCONT);
		}
	}
	return NULL;
}

static void helper_begin(struct helper *h, void *(*main)(void *))
{
	*h = (struct helper){ 0 };
	assert_int_equal(pthread_create(&h->thread, NULL, main, h), 0);
}

static void helper_end(struct helper *h)
{
	__atomic_store_n(&h->stop, true, __ATOMIC_RELAXED);
	pthread_join(h->thread, NULL);
}

static void test_signals_from_outside(void **state)
{
	struct helper h;

	(void)state;
	helper_begin(&h, signal_main);
	TRIAL(.behaviour = ROGUE_HONEST, .fences = F(PARKED) | F(STOPPED),
	      .reasons = PLANNED | R(HANG));
	TRIAL(.behaviour = ROGUE_UNREAD, .fences = FORCED, .reasons = R(PROTOCOL) | R(HANG));
	TRIAL(.behaviour = ROGUE_SYNC_UNHEARD, .errands = true, .fences = FORCED,
	      .reasons = R(PROTOCOL) | R(HANG));
	TRIAL(.behaviour = ROGUE_NO_BYTES, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_LIES, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	TRIAL(.behaviour = ROGUE_DEAF, .devices = 6, .slow = true, .fences = FORCED,
	      .reasons = PLANNED);
	helper_end(&h);
}

static void test_continued_from_outside(void **state)
{
	struct helper h;

	(void)state;
	helper_begin(&h, continue_main);
	TRIAL(.behaviour = ROGUE_SPINS, .slow = true, .fences = FORCED, .reasons = PLANNED);
	if (rig.host.listener)
		TRIAL(.behaviour = ROGUE_CALLS, .fences = F(HELD) | FORCED, .reasons = R(SECCOMP));
	helper_end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_honest),
		scene_test(test_takes_kicks),
		scene_test(test_fills_call),
		scene_test(test_writes_used_before),
		scene_test(test_writes_used_after),
		scene_test(test_parks_twice),
		scene_test(test_wrong_messages),
		scene_test(test_never_parks),
		scene_test(test_lies),
		scene_test(test_answers),
		scene_test(test_dies),
		scene_test(test_wrong_record),
		scene_test(test_signals_from_outside),
		scene_test(test_continued_from_outside),
	};

	const struct scene_group group = {
		.name = "adversary",
		.bytes = 1u << 30,
		.begin = honest_begin,
		.end = honest_end,
	};

	if (boxrig_use("rogue/blk") != 0)
		return 1;
	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
