/* SPDX-License-Identifier: Apache-2.0 */
/* core/box/suspect.c: who is suspected, and above all who is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/box/suspect.h"
#include "core/cc.h"

#define HANG_MS 1000
#define STORM_MS 400
#define STEP_MS 100
#define LONG 600 /* steps: a minute */

static const struct suspect_limits limits = { HANG_MS, STORM_MS };
static struct suspect_record record;
static struct suspect_sample now;

static int setup(void **state)
{
	(void)state;
	record = (struct suspect_record){ 0 };
	now = (struct suspect_sample){ .now_ns = NS_PER_S, .answered = true };
	assert_int_equal(suspect_judge(&record, &limits, &now), SUSPECT_NOTHING);
	return 0;
}

/* A step of STEP_MS of which it ran so many. */
static enum suspect_verdict step(struct suspect_sample sample, uint32_t ran_ms)
{
	sample.now_ns = now.now_ns + STEP_MS * NS_PER_MS;
	sample.cpu_ns = now.cpu_ns + ran_ms * NS_PER_MS;
	now = sample;
	return suspect_judge(&record, &limits, &sample);
}

/* So many steps until something else is said than `ignore`; LONG: never. */
static uint32_t steps_until(struct suspect_sample sample, uint32_t ran_ms,
			    enum suspect_verdict want)
{
	for (uint32_t i = 0; i < LONG; i++) {
		const enum suspect_verdict verdict = step(sample, ran_ms);

		if (verdict == want)
			return i + 1;
		assert_true(verdict == SUSPECT_NOTHING || verdict == SUSPECT_NUDGE);
	}
	return LONG;
}

#define SAMPLE(...) ((struct suspect_sample){ .answered = true, __VA_ARGS__ })

static void test_idle(void **state)
{
	(void)state;
	assert_int_equal(steps_until(SAMPLE(.place = SUSPECT_ASLEEP), 0, SUSPECT_HANG), LONG);
}

/* A look that comes late finds work which came a moment before. */
static void test_late_look(void **state)
{
	const struct suspect_sample leaves = SAMPLE(.place = SUSPECT_ASLEEP, .work = true);

	(void)state;
	now.now_ns += 3 * HANG_MS * NS_PER_MS;
	assert_int_equal(step(leaves, 0), SUSPECT_NUDGE);
	assert_int_equal(step(leaves, 0), SUSPECT_NOTHING);
	assert_int_equal(step(SAMPLE(.place = SUSPECT_ASLEEP), 0), SUSPECT_NOTHING);
}

static void test_busy(void **state)
{
	(void)state;
	assert_int_equal(
		steps_until(SAMPLE(.place = SUSPECT_RUNNING, .work = true, .progress = true),
			    STEP_MS, SUSPECT_HANG),
		LONG);
}

/* A loop within a request: blamed for the time that it runs, not for that which it waits for a CPU. */
static void test_spins(void **state)
{
	const struct suspect_sample spins = { .place = SUSPECT_RUNNING, .work = true };

	(void)state;
	assert_int_equal(steps_until(spins, STEP_MS, SUSPECT_HANG), HANG_MS / STEP_MS);
	setup(state);
	assert_int_equal(steps_until(spins, STEP_MS / 10, SUSPECT_HANG), 10 * HANG_MS / STEP_MS);
	setup(state);
	assert_int_equal(steps_until(spins, 0, SUSPECT_HANG), LONG);
}

/* Stopped by somebody, or asleep for ever: nothing it waits for keeps it from answering. */
static void test_silent(void **state)
{
	(void)state;
	assert_int_equal(steps_until((struct suspect_sample){ .place = SUSPECT_ASLEEP }, 0,
				     SUSPECT_HANG),
			 HANG_MS / STEP_MS);
}

/* It answers, and leaves requests alone: kicked first, suspected then. */
static void test_leaves_work(void **state)
{
	const struct suspect_sample leaves = SAMPLE(.place = SUSPECT_ASLEEP, .work = true);

	(void)state;
	assert_int_equal(step(leaves, 0), SUSPECT_NUDGE);
	assert_int_equal(1 + steps_until(leaves, 0, SUSPECT_HANG), HANG_MS / STEP_MS);
}

/* With a rate limit it may let them wait; it must answer all the same. */
static void test_patient(void **state)
{
	struct suspect_sample waits =
		SAMPLE(.place = SUSPECT_ASLEEP, .work = true, .patient = true);

	(void)state;
	assert_int_equal(steps_until(waits, 0, SUSPECT_HANG), LONG);
	waits.answered = false;
	assert_int_equal(steps_until(waits, 0, SUSPECT_HANG), HANG_MS / STEP_MS);
	setup(state);
	waits.place = SUSPECT_RUNNING; /* who waits for a timer does not run */
	assert_int_equal(steps_until(waits, STEP_MS, SUSPECT_HANG), HANG_MS / STEP_MS);
}

/* A flush of half a minute: told once, suspected never.  Told again of the next. */
static void test_slow(void **state)
{
	const struct suspect_sample held = { .place = SUSPECT_BACKEND, .work = true };
	const struct suspect_sample well = SAMPLE(.place = SUSPECT_RUNNING, .progress = true);

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(steps_until(held, 0, SUSPECT_SLOW), HANG_MS / STEP_MS);
		assert_int_equal(steps_until(held, 0, SUSPECT_SLOW), LONG);
		step(well, 10);
	}
}

/* Being held now and then does not wash off what it did in between. */
static void test_held_between(void **state)
{
	const struct suspect_sample spins = { .place = SUSPECT_RUNNING, .work = true };
	const struct suspect_sample held = { .place = SUSPECT_BACKEND, .work = true };

	(void)state;
	for (uint32_t i = 1; i < HANG_MS / STEP_MS; i++) {
		assert_int_equal(step(spins, STEP_MS), SUSPECT_NOTHING);
		assert_int_equal(step(held, 0), SUSPECT_NOTHING);
	}
	assert_int_equal(step(spins, STEP_MS), SUSPECT_HANG);
}

/* Progress washes off all. */
static void test_progress(void **state)
{
	const struct suspect_sample spins = SAMPLE(.place = SUSPECT_RUNNING, .work = true);
	const struct suspect_sample well =
		SAMPLE(.place = SUSPECT_RUNNING, .work = true, .progress = true);

	(void)state;
	for (uint32_t i = 0; i < LONG; i++)
		assert_int_equal(step(i % 9 == 8 ? well : spins, STEP_MS), SUSPECT_NOTHING);
}

static void test_storm(void **state)
{
	const struct suspect_sample burns = SAMPLE(.place = SUSPECT_RUNNING);

	(void)state;
	assert_int_equal(steps_until(burns, STEP_MS, SUSPECT_STORM), STORM_MS / STEP_MS);
	setup(state);
	assert_int_equal(steps_until(burns, STEP_MS / 2, SUSPECT_STORM), 2 * STORM_MS / STEP_MS);
	setup(state);
	assert_int_equal(steps_until(burns, STEP_MS / 2 - 1, SUSPECT_STORM), LONG);
}

/* It has a tenth of a CPU, and would have more if it were given that. */
static void test_storm_on_a_busy_host(void **state)
{
	struct suspect_sample burns = SAMPLE(.place = SUSPECT_RUNNING);
	enum suspect_verdict verdict = SUSPECT_NOTHING;

	(void)state;
	for (uint32_t i = 0; i < STORM_MS * 10 / STEP_MS; i++) {
		assert_int_equal(verdict, SUSPECT_NOTHING);
		burns.waited_ns += STEP_MS * NS_PER_MS * 9 / 10;
		verdict = step(burns, STEP_MS / 10);
	}
	assert_int_equal(verdict, SUSPECT_STORM);
}

static void test_off(void **state)
{
	const struct suspect_limits none = { 0, 0 };
	const struct suspect_sample samples[] = {
		{ .place = SUSPECT_RUNNING, .work = true },
		{ .place = SUSPECT_ASLEEP },
		{ .place = SUSPECT_BACKEND },
		{ .place = SUSPECT_RUNNING },
	};

	(void)state;
	assert_int_equal(suspect_period_ms(&none), 0);
	for (size_t k = 0; k < ARRAY_SIZE(samples); k++) {
		for (uint32_t i = 1; i < LONG; i++) {
			struct suspect_sample s = samples[k];
			enum suspect_verdict verdict;

			s.now_ns = i * NS_PER_S;
			s.cpu_ns = i * NS_PER_S;
			verdict = suspect_judge(&record, &none, &s);
			assert_true(verdict == SUSPECT_NOTHING || verdict == SUSPECT_NUDGE);
		}
	}
}

static void test_period(void **state)
{
	(void)state;
	assert_int_equal(suspect_period_ms(&(struct suspect_limits){ 1000, 1000 }), 250);
	assert_int_equal(suspect_period_ms(&(struct suspect_limits){ 1000, 100 }), 25);
	assert_int_equal(suspect_period_ms(&(struct suspect_limits){ 100, 0 }), 25);
	assert_int_equal(suspect_period_ms(&(struct suspect_limits){ 0, 100 }), 25);
	assert_int_equal(suspect_period_ms(&(struct suspect_limits){ 1, 1 }), 25);
	assert_int_equal(suspect_period_ms(&(struct suspect_limits){ 60000, 0 }), 250);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_idle, setup),
		cmocka_unit_test_setup(test_late_look, setup),
		cmocka_unit_test_setup(test_busy, setup),
		cmocka_unit_test_setup(test_spins, setup),
		cmocka_unit_test_setup(test_silent, setup),
		cmocka_unit_test_setup(test_leaves_work, setup),
		cmocka_unit_test_setup(test_patient, setup),
		cmocka_unit_test_setup(test_slow, setup),
		cmocka_unit_test_setup(test_held_between, setup),
		cmocka_unit_test_setup(test_progress, setup),
		cmocka_unit_test_setup(test_storm, setup),
		cmocka_unit_test_setup(test_storm_on_a_busy_host, setup),
		cmocka_unit_test_setup(test_off, setup),
		cmocka_unit_test(test_period),
	};

	return cmocka_run_group_tests_name("suspect", tests, NULL, NULL);
}
