/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of core/box/table.c, cell by cell: every one is written down, and what must hold of all of
 * them holds.  What sequences of events do is tried in test_walk.c, on the sources that raise them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/box/table.h"

#define FOR_STATES(s) for (uint32_t s = 0; s < BOX_STATE_COUNT; s++)
#define FOR_EVENTS(e) for (uint32_t e = 0; e < BOX_EVENT_COUNT; e++)
#define FOR_BOX_CELLS(s, e) FOR_STATES(s) FOR_EVENTS(e)
#define FOR_DEVICE_CELLS(s, e)                                                                     \
	for (uint32_t s = 0; s < DEVICE_STATE_COUNT; s++)                                          \
		for (uint32_t e = 0; e < DEVICE_EVENT_COUNT; e++)

#define BIT(n) (1u << (n))

/* A failure names the cell. */
#define BOX_MUST(s, e, cond)                                                                       \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("%s in %s (%s, %s): not %s", box_event_name(e),                   \
				 box_state_name(s), box_action_name(box_table(s, e).action),       \
				 box_state_name(box_table(s, e).next), #cond);                     \
	} while (0)

#define DEVICE_MUST(s, e, cond)                                                                    \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("%s in %s (%s, %s): not %s", device_event_name(e),                \
				 device_state_name(s),                                             \
				 device_action_name(device_table(s, e).action),                    \
				 device_state_name(device_table(s, e).next), #cond);               \
	} while (0)

/* ---- boxes ---- */

/* May touch rings, as far as the VMM has proof of the contrary. */
static const uint32_t owning = BIT(BOX_STARTING) | BIT(BOX_ACTIVE) | BIT(BOX_QUIESCING) |
			       BIT(BOX_PARKING) | BIT(BOX_STOPPING) | BIT(BOX_PENDING);
/* .. and nothing was done about it yet. */
static const uint32_t free_hand =
	BIT(BOX_STARTING) | BIT(BOX_ACTIVE) | BIT(BOX_QUIESCING) | BIT(BOX_PARKING);
static const uint32_t unborn = BIT(BOX_SPAWNING) | BIT(BOX_DOOMED);

static bool is(uint32_t set, uint32_t state)
{
	return (set & BIT(state)) != 0;
}

static bool box_is_bug(uint32_t s, uint32_t e)
{
	return box_table(s, e).action == BOX_DO_BUG;
}

static bool box_is_report(uint32_t e)
{
	return e >= BOX_EV_HELLO && e <= BOX_EV_STAT;
}

static void test_box_cells_are_set(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const struct box_cell cell = box_table(s, e);

		BOX_MUST(s, e, cell.set == 1);
		assert_true(cell.action < BOX_ACTION_COUNT && cell.next < BOX_STATE_COUNT);
		if (cell.action == BOX_DO_BUG)
			BOX_MUST(s, e, cell.next == s);
	}
}

/* The rings are taken by ACTIVATE alone, and given up by proof alone. */
static void test_box_ownership(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const struct box_cell cell = box_table(s, e);

		if (!is(owning, s) && is(owning, cell.next))
			BOX_MUST(s, e, s == BOX_STANDBY && e == BOX_EV_ACTIVATE);
		if (!is(owning, s) || is(owning, cell.next))
			continue;
		if (e == BOX_EV_PROVEN)
			BOX_MUST(s, e,
				 cell.action == BOX_DO_FENCED &&
					 (cell.next == BOX_FENCED || cell.next == BOX_DYING));
		else
			BOX_MUST(s, e, e == BOX_EV_EXITED && cell.next == BOX_DEAD);
	}
}

static void test_box_standby_is_verified(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const struct box_cell cell = box_table(s, e);

		if (cell.next == BOX_STANDBY && s != BOX_STANDBY)
			BOX_MUST(s, e, s == BOX_SETTLING && e == BOX_EV_VERIFIED);
		if (cell.action == BOX_DO_ACTIVATE)
			BOX_MUST(s, e, s == BOX_STANDBY && e == BOX_EV_ACTIVATE);
		if (cell.next == BOX_ACTIVE && s != BOX_ACTIVE)
			BOX_MUST(s, e, s == BOX_STARTING && e == BOX_EV_ACTIVATED);
	}
}

/* A process that may touch rings is not simply killed: that would be no proof in time. */
static void test_box_owner_is_not_retired(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const uint8_t action = box_table(s, e).action;

		if (is(owning, s) && e == BOX_EV_RETIRE)
			BOX_MUST(s, e, box_is_bug(s, e));
		if (is(owning, s))
			BOX_MUST(s, e,
				 action != BOX_DO_KILL && action != BOX_DO_KILL_NEW &&
					 action != BOX_DO_LOSE && action != BOX_DO_REAP &&
					 action != BOX_DO_REAP_LOST);
		else if (e == BOX_EV_RETIRE)
			BOX_MUST(s, e, !box_is_bug(s, e));
	}
}

static void test_box_suspects_are_stopped(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const struct box_cell cell = box_table(s, e);

		if (!is(free_hand, s) || box_is_bug(s, e))
			continue;
		if (box_event_is_suspicion(e) || cell.action == BOX_DO_SUSPECT ||
		    cell.action == BOX_DO_HOLD || e == BOX_EV_CONDEMN)
			BOX_MUST(s, e, cell.next == BOX_STOPPING || cell.next == BOX_DEAD);
		if (box_event_is_suspicion(e) && cell.next == BOX_STOPPING)
			BOX_MUST(s, e,
				 cell.action == BOX_DO_SUSPECT || cell.action == BOX_DO_HOLD ||
					 ((s == BOX_QUIESCING || s == BOX_PARKING) &&
					  e == BOX_EV_DEADLINE));
		if (cell.next == BOX_DEAD)
			BOX_MUST(s, e, cell.action == BOX_DO_REAP_SUSPECT);
	}
}

static void test_box_deadlines(void **state)
{
	(void)state;
	FOR_STATES(s)
	{
		const struct box_cell cell = box_table(s, BOX_EV_DEADLINE);

		if (box_deadline_ms(s) == 0)
			BOX_MUST(s, BOX_EV_DEADLINE, box_is_bug(s, BOX_EV_DEADLINE));
		else
			BOX_MUST(s, BOX_EV_DEADLINE,
				 cell.next != s && !box_is_bug(s, BOX_EV_DEADLINE));
	}
}

/* The end of a life: no way back, and every way goes over the reaping. */
static void test_box_end(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const struct box_cell cell = box_table(s, e);
		const bool reaps = cell.action == BOX_DO_REAP || cell.action == BOX_DO_REAP_LOST ||
				   cell.action == BOX_DO_REAP_SUSPECT ||
				   cell.action == BOX_DO_REAP_FENCED;

		if (s == BOX_DEAD)
			BOX_MUST(s, e,
				 cell.next == BOX_DEAD &&
					 (cell.action == BOX_DO_NONE || box_is_bug(s, e)));
		if (s == BOX_DYING)
			BOX_MUST(s, e, cell.next == BOX_DYING || cell.next == BOX_DEAD);
		if (s == BOX_FENCED)
			BOX_MUST(s, e,
				 cell.next == s || cell.next == BOX_DYING || cell.next == BOX_DEAD);
		if (s != BOX_DEAD)
			BOX_MUST(s, e, reaps == (cell.next == BOX_DEAD));
		if (reaps)
			BOX_MUST(s, e, e == (is(unborn, s) ? BOX_EV_SPAWN_FAILED : BOX_EV_EXITED));
	}
}

/* Nothing that a process can do is a BUG where it is watched, and where it is not nothing is heard. */
static void test_box_hears_all(void **state)
{
	(void)state;
	FOR_BOX_CELLS(s, e)
	{
		const bool heard = box_is_report(e) || e == BOX_EV_MISBEHAVED ||
				   e == BOX_EV_TRAPPED || e == BOX_EV_ENDING || e == BOX_EV_EXITED;

		if (heard)
			BOX_MUST(s, e, box_is_bug(s, e) == (is(unborn, s) || s == BOX_DEAD));
		if (e == BOX_EV_SPAWNED || e == BOX_EV_SPAWN_FAILED)
			BOX_MUST(s, e, box_is_bug(s, e) == !is(unborn, s));
	}
}

/* A look that could still be armed finds its state: it is disarmed whenever the state changes. */
static void test_box_looks(void **state)
{
	(void)state;
	FOR_STATES(s)
	{
		const bool looks = s == BOX_SETTLING || s == BOX_PARKING || s == BOX_STOPPING ||
				   s == BOX_PENDING;

		BOX_MUST(s, BOX_EV_PROVEN, box_is_bug(s, BOX_EV_PROVEN) == !looks);
	}
	FOR_BOX_CELLS(s, e)
	{
		const struct box_cell cell = box_table(s, e);

		if (cell.action == BOX_DO_LOOK)
			BOX_MUST(s, e, cell.next == BOX_SETTLING || cell.next == BOX_PARKING);
		if (cell.action == BOX_DO_STOP || cell.action == BOX_DO_SUSPECT ||
		    cell.action == BOX_DO_HOLD)
			BOX_MUST(s, e, cell.next == BOX_STOPPING);
		if (cell.action == BOX_DO_PEND)
			BOX_MUST(s, e, cell.next == BOX_PENDING);
	}
}

/* ---- devices ---- */

/* With an active generation, which may not be forgotten. */
static const uint32_t holding = BIT(DEVICE_STARTING) | BIT(DEVICE_ACTIVE) | BIT(DEVICE_QUIESCING) |
				BIT(DEVICE_FENCING) | BIT(DEVICE_STALLED) | BIT(DEVICE_RESETTING) |
				BIT(DEVICE_BROKEN) | BIT(DEVICE_REFUSING) | BIT(DEVICE_FADING);
static const uint32_t quarantined = BIT(DEVICE_GONE) | BIT(DEVICE_REFUSING) | BIT(DEVICE_FADING);
static const uint32_t serving = BIT(DEVICE_STARTING) | BIT(DEVICE_ACTIVE) | BIT(DEVICE_QUIESCING);

static void test_device_cells_are_set(void **state)
{
	(void)state;
	FOR_DEVICE_CELLS(s, e)
	{
		const struct device_cell cell = device_table(s, e);

		DEVICE_MUST(s, e, cell.set == 1);
		assert_true(cell.action < DEVICE_ACTION_COUNT && cell.next < DEVICE_STATE_COUNT);
		if (cell.action == DEVICE_DO_BUG)
			DEVICE_MUST(s, e, cell.next == s);
	}
}

/* The next generation is activated when the last is fenced, and not before. */
static void test_device_fence_first(void **state)
{
	(void)state;
	FOR_DEVICE_CELLS(s, e)
	{
		const struct device_cell cell = device_table(s, e);

		if (is(holding, s) && !is(holding, cell.next))
			DEVICE_MUST(s, e, e == DEVICE_EV_FENCED);
		if (cell.action == DEVICE_DO_ACTIVATE)
			DEVICE_MUST(s, e,
				    s == DEVICE_WAITING && e == DEVICE_EV_READY &&
					    cell.next == DEVICE_STARTING);
		if (cell.next == DEVICE_STARTING && s != DEVICE_STARTING)
			DEVICE_MUST(s, e, cell.action == DEVICE_DO_ACTIVATE);
		if (cell.next == DEVICE_ACTIVE && s != DEVICE_ACTIVE)
			DEVICE_MUST(s, e,
				    s == DEVICE_STARTING && e == DEVICE_EV_STARTED &&
					    cell.action == DEVICE_DO_FINISH);
		if (is(holding, cell.next) && !is(holding, s) && cell.next != DEVICE_STARTING &&
		    cell.next != DEVICE_RESETTING)
			DEVICE_MUST(s, e,
				    s == DEVICE_GONE && cell.next == DEVICE_REFUSING &&
					    cell.action == DEVICE_DO_REFUSE_ALL);
		if (cell.action == DEVICE_DO_REFUSE_ALL)
			DEVICE_MUST(s, e, s == DEVICE_GONE && cell.next == DEVICE_REFUSING);
		if (cell.action == DEVICE_DO_SUCCEED)
			DEVICE_MUST(s, e, e == DEVICE_EV_FENCED && cell.next == DEVICE_WAITING);
		if (cell.action == DEVICE_DO_CLEAR)
			DEVICE_MUST(s, e,
				    s == DEVICE_RESETTING && e == DEVICE_EV_FENCED &&
					    cell.next == DEVICE_IDLE);
	}
}

static void test_device_suspicion(void **state)
{
	(void)state;
	FOR_DEVICE_CELLS(s, e)
	{
		const struct device_cell cell = device_table(s, e);

		if (e == DEVICE_EV_SUSPECT && is(serving, s))
			DEVICE_MUST(s, e,
				    cell.action == DEVICE_DO_RECOVER &&
					    cell.next == DEVICE_FENCING);
		if (cell.action == DEVICE_DO_RECOVER)
			DEVICE_MUST(s, e, e == DEVICE_EV_SUSPECT && is(serving, s));
		if (cell.action == DEVICE_DO_QUIESCE)
			DEVICE_MUST(s, e, s == DEVICE_ACTIVE && cell.next == DEVICE_QUIESCING);
	}
}

static uint32_t revivals(uint32_t s)
{
	return s == DEVICE_GONE       ? DEVICE_DO_REVIVE
	       : s == DEVICE_REFUSING ? DEVICE_DO_RENEW
				      : DEVICE_DO_REFUSE;
}

/* The guest can reset whatever happened; what broke or was given up stays so until it does, or the
 * operator revives it. */
static void test_device_reset(void **state)
{
	(void)state;
	FOR_DEVICE_CELLS(s, e)
	{
		const struct device_cell cell = device_table(s, e);

		if (e == DEVICE_EV_RESET)
			DEVICE_MUST(s, e, cell.next == DEVICE_RESETTING);
		else if (s == DEVICE_BROKEN)
			DEVICE_MUST(s, e, cell.next == s);
		else if (is(quarantined, s) && e != DEVICE_EV_REVIVE)
			DEVICE_MUST(s, e, is(quarantined, cell.next));
		if (e == DEVICE_EV_REVIVE)
			DEVICE_MUST(s, e, cell.action == revivals(s));
		if (cell.action == DEVICE_DO_BREAK)
			DEVICE_MUST(s, e, cell.next == DEVICE_BROKEN);
		if (cell.action == DEVICE_DO_ABANDON)
			DEVICE_MUST(s, e, cell.next == DEVICE_GONE);
	}
}

/* What comes from outside, or from a standby, whatever the device does: legal in each state. */
static void test_device_hears_all(void **state)
{
	static const uint32_t always = BIT(DEVICE_EV_RESET) | BIT(DEVICE_EV_REPLACE) |
				       BIT(DEVICE_EV_READY) | BIT(DEVICE_EV_LOST) |
				       BIT(DEVICE_EV_REVIVE) | BIT(DEVICE_EV_EXHAUSTED);

	(void)state;
	FOR_DEVICE_CELLS(s, e)
	{
		const struct device_cell cell = device_table(s, e);

		if (is(always, e))
			DEVICE_MUST(s, e, cell.action != DEVICE_DO_BUG);
		if (e == DEVICE_EV_LOST && s != DEVICE_GONE)
			DEVICE_MUST(s, e, cell.action == DEVICE_DO_RESPAWN);
	}
}

/* ---- names ---- */

static void distinct(const char *(*name)(uint32_t), uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_true(strlen(name(i)) > 0);
		for (uint32_t j = 0; j < i; j++)
			assert_string_not_equal(name(i), name(j));
	}
}

#define NAMES(enumeration, function)                                                               \
	static const char *name_##function(uint32_t i)                                             \
	{                                                                                          \
		return function((enum enumeration)i);                                              \
	}
NAMES(box_state, box_state_name)
NAMES(box_event, box_event_name)
NAMES(box_action, box_action_name)
NAMES(device_state, device_state_name)
NAMES(device_event, device_event_name)
NAMES(device_action, device_action_name)

static void test_names(void **state)
{
	(void)state;
	distinct(name_box_state_name, BOX_STATE_COUNT);
	distinct(name_box_event_name, BOX_EVENT_COUNT);
	distinct(name_box_action_name, BOX_ACTION_COUNT);
	distinct(name_device_state_name, DEVICE_STATE_COUNT);
	distinct(name_device_event_name, DEVICE_EVENT_COUNT);
	distinct(name_device_action_name, DEVICE_ACTION_COUNT);
	assert_string_equal(device_state_api(DEVICE_GONE), "quarantined");
	assert_string_equal(device_state_api(DEVICE_STALLED), "fence-pending");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_box_cells_are_set),
		cmocka_unit_test(test_box_ownership),
		cmocka_unit_test(test_box_standby_is_verified),
		cmocka_unit_test(test_box_owner_is_not_retired),
		cmocka_unit_test(test_box_suspects_are_stopped),
		cmocka_unit_test(test_box_deadlines),
		cmocka_unit_test(test_box_end),
		cmocka_unit_test(test_box_hears_all),
		cmocka_unit_test(test_box_looks),
		cmocka_unit_test(test_device_cells_are_set),
		cmocka_unit_test(test_device_fence_first),
		cmocka_unit_test(test_device_suspicion),
		cmocka_unit_test(test_device_reset),
		cmocka_unit_test(test_device_hears_all),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
