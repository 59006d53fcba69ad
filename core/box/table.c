/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of table.h.  Every cell is written down; tests/unit/test_table.c visits each.  BUG is
 * for events that only this program raises and never in that state: nothing that a sandbox or a
 * guest does leads to one (tests/unit/test_walk.c plays what they can do).
 */
#include "core/box/table.h"

#include <stddef.h>

#define CELL(action, next)                                                                         \
	{                                                                                          \
		BOX_DO_##action, BOX_##next, 1                                                     \
	}

/* Rows that several states share. */
#define BOX_REPORTS_ARE(...)                                                                       \
	[BOX_EV_HELLO] = __VA_ARGS__, [BOX_EV_HALF] = __VA_ARGS__, [BOX_EV_SEALED] = __VA_ARGS__,  \
	[BOX_EV_FAILED] = __VA_ARGS__, [BOX_EV_ACTIVATED] = __VA_ARGS__,                           \
	[BOX_EV_PARKED] = __VA_ARGS__, [BOX_EV_PONG] = __VA_ARGS__, [BOX_EV_BROKEN] = __VA_ARGS__, \
	[BOX_EV_REFUSED] = __VA_ARGS__, [BOX_EV_MISBEHAVED] = __VA_ARGS__,                         \
	BOX_ERRANDS_ARE(__VA_ARGS__)

#define BOX_ERRANDS_ARE(...)                                                                       \
	[BOX_EV_RELEASE] = __VA_ARGS__, [BOX_EV_SYNC] = __VA_ARGS__, [BOX_EV_STAT] = __VA_ARGS__,  \
	[BOX_EV_ASK] = __VA_ARGS__

#define BOX_SIGNS_ARE(...) [BOX_EV_TRAPPED] = __VA_ARGS__, [BOX_EV_ENDING] = __VA_ARGS__

#define BOX_CHECKS_ARE(...) [BOX_EV_VERIFIED] = __VA_ARGS__, [BOX_EV_UNSOUND] = __VA_ARGS__

#define BOX_BIRTH_IS(...) [BOX_EV_SPAWNED] = __VA_ARGS__, [BOX_EV_SPAWN_FAILED] = __VA_ARGS__

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init" /* a shared row first, then its exceptions */
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#endif

static const struct box_cell boxes[BOX_STATE_COUNT][BOX_EVENT_COUNT] = {
	[BOX_SPAWNING] = {
		[BOX_EV_SPAWNED] = CELL(WATCH, SEALING),
		[BOX_EV_SPAWN_FAILED] = CELL(REAP_LOST, DEAD),
		BOX_REPORTS_ARE(CELL(BUG, SPAWNING)), /* nothing of it is watched yet */
		BOX_SIGNS_ARE(CELL(BUG, SPAWNING)),
		[BOX_EV_EXITED] = CELL(BUG, SPAWNING),
		BOX_CHECKS_ARE(CELL(BUG, SPAWNING)),
		[BOX_EV_PROVEN] = CELL(BUG, SPAWNING),
		[BOX_EV_ACTIVATE] = CELL(BUG, SPAWNING),
		[BOX_EV_QUIESCE] = CELL(BUG, SPAWNING),
		[BOX_EV_CONDEMN] = CELL(BUG, SPAWNING),
		[BOX_EV_RETIRE] = CELL(NONE, DOOMED),
		[BOX_EV_DEADLINE] = CELL(LOSE, DOOMED),
	},
	[BOX_DOOMED] = {
		[BOX_EV_SPAWNED] = CELL(KILL_NEW, DYING),
		[BOX_EV_SPAWN_FAILED] = CELL(REAP, DEAD),
		BOX_REPORTS_ARE(CELL(BUG, DOOMED)),
		BOX_SIGNS_ARE(CELL(BUG, DOOMED)),
		[BOX_EV_EXITED] = CELL(BUG, DOOMED),
		BOX_CHECKS_ARE(CELL(BUG, DOOMED)),
		[BOX_EV_PROVEN] = CELL(BUG, DOOMED),
		[BOX_EV_ACTIVATE] = CELL(BUG, DOOMED),
		[BOX_EV_QUIESCE] = CELL(BUG, DOOMED),
		[BOX_EV_CONDEMN] = CELL(NONE, DOOMED),
		[BOX_EV_RETIRE] = CELL(NONE, DOOMED),
		[BOX_EV_DEADLINE] = CELL(BUG, DOOMED),
	},
	[BOX_SEALING] = {
		BOX_BIRTH_IS(CELL(BUG, SEALING)),
		BOX_REPORTS_ARE(CELL(LOSE, DYING)),
		[BOX_EV_HELLO] = CELL(NONE, SEALING),
		[BOX_EV_HALF] = CELL(CANARY, SEALING),
		[BOX_EV_SEALED] = CELL(LOOK, SETTLING),
		[BOX_EV_TRAPPED] = CELL(LOSE, DYING),
		[BOX_EV_ENDING] = CELL(NONE, SEALING), /* EXITED follows */
		[BOX_EV_EXITED] = CELL(REAP_LOST, DEAD),
		[BOX_EV_VERIFIED] = CELL(BUG, SEALING),
		[BOX_EV_UNSOUND] = CELL(LOSE, DYING),
		[BOX_EV_PROVEN] = CELL(BUG, SEALING),
		[BOX_EV_ACTIVATE] = CELL(BUG, SEALING),
		[BOX_EV_QUIESCE] = CELL(BUG, SEALING),
		[BOX_EV_CONDEMN] = CELL(BUG, SEALING),
		[BOX_EV_RETIRE] = CELL(KILL, DYING),
		[BOX_EV_DEADLINE] = CELL(LOSE, DYING),
	},
	[BOX_SETTLING] = {
		BOX_BIRTH_IS(CELL(BUG, SETTLING)),
		BOX_REPORTS_ARE(CELL(LOSE, DYING)),
		[BOX_EV_TRAPPED] = CELL(LOSE, DYING),
		[BOX_EV_ENDING] = CELL(NONE, SETTLING),
		[BOX_EV_EXITED] = CELL(REAP_LOST, DEAD),
		[BOX_EV_VERIFIED] = CELL(READY, STANDBY),
		[BOX_EV_UNSOUND] = CELL(LOSE, DYING),
		[BOX_EV_PROVEN] = CELL(VERIFY, SETTLING),
		[BOX_EV_ACTIVATE] = CELL(BUG, SETTLING),
		[BOX_EV_QUIESCE] = CELL(BUG, SETTLING),
		[BOX_EV_CONDEMN] = CELL(BUG, SETTLING),
		[BOX_EV_RETIRE] = CELL(KILL, DYING),
		[BOX_EV_DEADLINE] = CELL(LOSE, DYING),
	},
	[BOX_STANDBY] = {
		BOX_BIRTH_IS(CELL(BUG, STANDBY)),
		BOX_REPORTS_ARE(CELL(LOSE, DYING)),
		[BOX_EV_PONG] = CELL(NONE, STANDBY),
		[BOX_EV_TRAPPED] = CELL(LOSE, DYING),
		[BOX_EV_ENDING] = CELL(NONE, STANDBY),
		[BOX_EV_EXITED] = CELL(REAP_LOST, DEAD),
		[BOX_EV_VERIFIED] = CELL(BUG, STANDBY),
		[BOX_EV_UNSOUND] = CELL(LOSE, DYING), /* an audit of a standby */
		[BOX_EV_PROVEN] = CELL(BUG, STANDBY),
		[BOX_EV_ACTIVATE] = CELL(ACTIVATE, STARTING),
		[BOX_EV_QUIESCE] = CELL(BUG, STANDBY),
		[BOX_EV_CONDEMN] = CELL(FENCED, FENCED), /* another lane could not be activated */
		[BOX_EV_RETIRE] = CELL(KILL, DYING),
		[BOX_EV_DEADLINE] = CELL(BUG, STANDBY),
	},
	[BOX_STARTING] = {
		BOX_BIRTH_IS(CELL(BUG, STARTING)),
		BOX_REPORTS_ARE(CELL(SUSPECT, STOPPING)),
		[BOX_EV_ACTIVATED] = CELL(STARTED, ACTIVE),
		[BOX_EV_PONG] = CELL(NONE, STARTING),
		[BOX_EV_BROKEN] = CELL(BROKE, STARTING),
		BOX_ERRANDS_ARE(CELL(ERRAND, STARTING)),
		[BOX_EV_TRAPPED] = CELL(HOLD, STOPPING),
		[BOX_EV_ENDING] = CELL(SUSPECT, STOPPING),
		[BOX_EV_EXITED] = CELL(REAP_SUSPECT, DEAD),
		[BOX_EV_VERIFIED] = CELL(BUG, STARTING),
		[BOX_EV_UNSOUND] = CELL(SUSPECT, STOPPING),
		[BOX_EV_PROVEN] = CELL(BUG, STARTING),
		[BOX_EV_ACTIVATE] = CELL(BUG, STARTING),
		[BOX_EV_QUIESCE] = CELL(BUG, STARTING),
		[BOX_EV_CONDEMN] = CELL(STOP, STOPPING),
		[BOX_EV_RETIRE] = CELL(BUG, STARTING),
		[BOX_EV_DEADLINE] = CELL(SUSPECT, STOPPING),
	},
	[BOX_ACTIVE] = {
		BOX_BIRTH_IS(CELL(BUG, ACTIVE)),
		BOX_REPORTS_ARE(CELL(SUSPECT, STOPPING)),
		[BOX_EV_PONG] = CELL(NONE, ACTIVE),
		[BOX_EV_BROKEN] = CELL(BROKE, ACTIVE),
		BOX_ERRANDS_ARE(CELL(ERRAND, ACTIVE)),
		[BOX_EV_TRAPPED] = CELL(HOLD, STOPPING),
		[BOX_EV_ENDING] = CELL(SUSPECT, STOPPING),
		[BOX_EV_EXITED] = CELL(REAP_SUSPECT, DEAD),
		[BOX_EV_VERIFIED] = CELL(NONE, ACTIVE), /* an audit */
		[BOX_EV_UNSOUND] = CELL(SUSPECT, STOPPING),
		[BOX_EV_PROVEN] = CELL(BUG, ACTIVE),
		[BOX_EV_ACTIVATE] = CELL(BUG, ACTIVE),
		[BOX_EV_QUIESCE] = CELL(QUIESCE, QUIESCING),
		[BOX_EV_CONDEMN] = CELL(STOP, STOPPING),
		[BOX_EV_RETIRE] = CELL(BUG, ACTIVE),
		[BOX_EV_DEADLINE] = CELL(BUG, ACTIVE),
	},
	[BOX_QUIESCING] = {
		BOX_BIRTH_IS(CELL(BUG, QUIESCING)),
		BOX_REPORTS_ARE(CELL(SUSPECT, STOPPING)),
		[BOX_EV_PARKED] = CELL(LOOK, PARKING),
		[BOX_EV_PONG] = CELL(NONE, QUIESCING),
		[BOX_EV_BROKEN] = CELL(BROKE, QUIESCING),
		BOX_ERRANDS_ARE(CELL(ERRAND, QUIESCING)),
		[BOX_EV_TRAPPED] = CELL(HOLD, STOPPING),
		[BOX_EV_ENDING] = CELL(SUSPECT, STOPPING),
		[BOX_EV_EXITED] = CELL(REAP_SUSPECT, DEAD),
		BOX_CHECKS_ARE(CELL(BUG, QUIESCING)),
		[BOX_EV_PROVEN] = CELL(BUG, QUIESCING),
		[BOX_EV_ACTIVATE] = CELL(BUG, QUIESCING),
		[BOX_EV_QUIESCE] = CELL(BUG, QUIESCING),
		[BOX_EV_CONDEMN] = CELL(STOP, STOPPING),
		[BOX_EV_RETIRE] = CELL(BUG, QUIESCING),
		[BOX_EV_DEADLINE] = CELL(STOP, STOPPING), /* slow storage is no crime */
	},
	[BOX_PARKING] = {
		BOX_BIRTH_IS(CELL(BUG, PARKING)),
		BOX_REPORTS_ARE(CELL(SUSPECT, STOPPING)), /* it said that it was silent */
		[BOX_EV_TRAPPED] = CELL(HOLD, STOPPING),
		[BOX_EV_ENDING] = CELL(SUSPECT, STOPPING),
		[BOX_EV_EXITED] = CELL(REAP_SUSPECT, DEAD),
		BOX_CHECKS_ARE(CELL(BUG, PARKING)),
		[BOX_EV_PROVEN] = CELL(FENCED, FENCED),
		[BOX_EV_ACTIVATE] = CELL(BUG, PARKING),
		[BOX_EV_QUIESCE] = CELL(BUG, PARKING),
		[BOX_EV_CONDEMN] = CELL(STOP, STOPPING),
		[BOX_EV_RETIRE] = CELL(BUG, PARKING),
		[BOX_EV_DEADLINE] = CELL(STOP, STOPPING), /* it lied, or was not given the CPU */
	},
	[BOX_STOPPING] = {
		BOX_BIRTH_IS(CELL(BUG, STOPPING)),
		BOX_REPORTS_ARE(CELL(NONE, STOPPING)),
		BOX_SIGNS_ARE(CELL(NONE, STOPPING)),
		[BOX_EV_EXITED] = CELL(REAP_FENCED, DEAD),
		BOX_CHECKS_ARE(CELL(BUG, STOPPING)),
		[BOX_EV_PROVEN] = CELL(FENCED, FENCED),
		[BOX_EV_ACTIVATE] = CELL(BUG, STOPPING),
		[BOX_EV_QUIESCE] = CELL(BUG, STOPPING),
		[BOX_EV_CONDEMN] = CELL(NONE, STOPPING),
		[BOX_EV_RETIRE] = CELL(BUG, STOPPING),
		[BOX_EV_DEADLINE] = CELL(PEND, PENDING),
	},
	[BOX_PENDING] = {
		BOX_BIRTH_IS(CELL(BUG, PENDING)),
		BOX_REPORTS_ARE(CELL(NONE, PENDING)),
		BOX_SIGNS_ARE(CELL(NONE, PENDING)),
		[BOX_EV_EXITED] = CELL(REAP_FENCED, DEAD),
		BOX_CHECKS_ARE(CELL(BUG, PENDING)),
		[BOX_EV_PROVEN] = CELL(FENCED, DYING),
		[BOX_EV_ACTIVATE] = CELL(BUG, PENDING),
		[BOX_EV_QUIESCE] = CELL(BUG, PENDING),
		[BOX_EV_CONDEMN] = CELL(NONE, PENDING),
		[BOX_EV_RETIRE] = CELL(BUG, PENDING),
		[BOX_EV_DEADLINE] = CELL(BUG, PENDING),
	},
	[BOX_FENCED] = {
		BOX_BIRTH_IS(CELL(BUG, FENCED)),
		BOX_REPORTS_ARE(CELL(NONE, FENCED)), /* sent before it was fenced */
		BOX_SIGNS_ARE(CELL(NONE, FENCED)),
		[BOX_EV_EXITED] = CELL(REAP, DEAD),
		BOX_CHECKS_ARE(CELL(BUG, FENCED)),
		[BOX_EV_PROVEN] = CELL(BUG, FENCED),
		[BOX_EV_ACTIVATE] = CELL(BUG, FENCED),
		[BOX_EV_QUIESCE] = CELL(BUG, FENCED),
		[BOX_EV_CONDEMN] = CELL(NONE, FENCED),
		[BOX_EV_RETIRE] = CELL(KILL, DYING),
		[BOX_EV_DEADLINE] = CELL(BUG, FENCED),
	},
	[BOX_DYING] = {
		BOX_BIRTH_IS(CELL(BUG, DYING)),
		BOX_REPORTS_ARE(CELL(NONE, DYING)),
		BOX_SIGNS_ARE(CELL(NONE, DYING)),
		[BOX_EV_EXITED] = CELL(REAP, DEAD),
		[BOX_EV_VERIFIED] = CELL(BUG, DYING),
		[BOX_EV_UNSOUND] = CELL(NONE, DYING), /* killed as soon as born, and could not be watched */
		[BOX_EV_PROVEN] = CELL(BUG, DYING),
		[BOX_EV_ACTIVATE] = CELL(BUG, DYING),
		[BOX_EV_QUIESCE] = CELL(BUG, DYING),
		[BOX_EV_CONDEMN] = CELL(NONE, DYING),
		[BOX_EV_RETIRE] = CELL(NONE, DYING),
		[BOX_EV_DEADLINE] = CELL(BUG, DYING),
	},
	[BOX_DEAD] = {
		BOX_BIRTH_IS(CELL(BUG, DEAD)),
		BOX_REPORTS_ARE(CELL(BUG, DEAD)), /* nothing of it is watched any more */
		BOX_SIGNS_ARE(CELL(BUG, DEAD)),
		[BOX_EV_EXITED] = CELL(BUG, DEAD),
		BOX_CHECKS_ARE(CELL(BUG, DEAD)),
		[BOX_EV_PROVEN] = CELL(BUG, DEAD),
		[BOX_EV_ACTIVATE] = CELL(BUG, DEAD),
		[BOX_EV_QUIESCE] = CELL(BUG, DEAD),
		[BOX_EV_CONDEMN] = CELL(NONE, DEAD),
		[BOX_EV_RETIRE] = CELL(NONE, DEAD),
		[BOX_EV_DEADLINE] = CELL(BUG, DEAD),
	},
};

#undef CELL
#define CELL(action, next)                                                                         \
	{                                                                                          \
		DEVICE_DO_##action, DEVICE_##next, 1                                               \
	}

/* What no state but one or two expects. */
#define DEVICE_NEVER(state)                                                                        \
	[DEVICE_EV_START] = CELL(BUG, state), [DEVICE_EV_HANDOFF] = CELL(BUG, state),              \
	[DEVICE_EV_STARTED] = CELL(BUG, state), [DEVICE_EV_FENCED] = CELL(BUG, state),             \
	[DEVICE_EV_PENDING] = CELL(BUG, state), [DEVICE_EV_SUSPECT] = CELL(BUG, state),            \
	[DEVICE_EV_BROKE] = CELL(BUG, state), [DEVICE_EV_REVIVE] = CELL(REFUSE, state),            \
	[DEVICE_EV_EXHAUSTED] = CELL(NONE, state), [DEVICE_EV_READY] = CELL(NONE, state),          \
	[DEVICE_EV_REST] = CELL(BUG, state), [DEVICE_EV_RESTED] = CELL(BUG, state),                \
	[DEVICE_EV_MOVE] = CELL(BUG, state), [DEVICE_EV_LOST] = CELL(RESPAWN, state),              \
	[DEVICE_EV_REPLACE] = CELL(REFUSE, state), [DEVICE_EV_RESET] = CELL(CONDEMN, RESETTING)

static const struct device_cell devices[DEVICE_STATE_COUNT][DEVICE_EVENT_COUNT] = {
	[DEVICE_IDLE] = {
		DEVICE_NEVER(IDLE),
		[DEVICE_EV_START] = CELL(SPAWN, WAITING),
		[DEVICE_EV_REPLACE] = CELL(FRESH, IDLE),
		[DEVICE_EV_READY] = CELL(SETTLE, IDLE),
	},
	[DEVICE_WAITING] = {
		DEVICE_NEVER(WAITING),
		[DEVICE_EV_READY] = CELL(ACTIVATE, STARTING),
		[DEVICE_EV_EXHAUSTED] = CELL(ABANDON, GONE),
		[DEVICE_EV_REST] = CELL(REST, RESTING),
	},
	[DEVICE_RESTING] = {
		DEVICE_NEVER(RESTING),
		[DEVICE_EV_EXHAUSTED] = CELL(ABANDON, GONE),
		[DEVICE_EV_RESTED] = CELL(SPAWN, WAITING),
	},
	[DEVICE_STARTING] = {
		DEVICE_NEVER(STARTING),
		[DEVICE_EV_STARTED] = CELL(FINISH, ACTIVE),
		[DEVICE_EV_SUSPECT] = CELL(RECOVER, FENCING),
		[DEVICE_EV_BROKE] = CELL(BREAK, BROKEN),
		[DEVICE_EV_REPLACE] = CELL(PREPARE, STARTING),
	},
	[DEVICE_ACTIVE] = {
		DEVICE_NEVER(ACTIVE),
		[DEVICE_EV_REPLACE] = CELL(PREPARE, ACTIVE),
		[DEVICE_EV_READY] = CELL(OFFER, ACTIVE),
		[DEVICE_EV_HANDOFF] = CELL(QUIESCE, QUIESCING),
		[DEVICE_EV_SUSPECT] = CELL(RECOVER, FENCING),
		[DEVICE_EV_BROKE] = CELL(BREAK, BROKEN),
	},
	[DEVICE_QUIESCING] = {
		DEVICE_NEVER(QUIESCING),
		[DEVICE_EV_FENCED] = CELL(SUCCEED, WAITING),
		[DEVICE_EV_PENDING] = CELL(STALL, STALLED),
		[DEVICE_EV_SUSPECT] = CELL(RECOVER, FENCING),
		[DEVICE_EV_BROKE] = CELL(BREAK, BROKEN),
		[DEVICE_EV_REPLACE] = CELL(PREPARE, QUIESCING),
	},
	[DEVICE_FENCING] = {
		DEVICE_NEVER(FENCING),
		[DEVICE_EV_FENCED] = CELL(SUCCEED, WAITING),
		[DEVICE_EV_PENDING] = CELL(STALL, STALLED),
		[DEVICE_EV_SUSPECT] = CELL(NONE, FENCING), /* another of its boxes */
		[DEVICE_EV_REPLACE] = CELL(PREPARE, FENCING),
	},
	[DEVICE_STALLED] = {
		DEVICE_NEVER(STALLED),
		[DEVICE_EV_FENCED] = CELL(SUCCEED, WAITING),
		[DEVICE_EV_PENDING] = CELL(NONE, STALLED),
		[DEVICE_EV_SUSPECT] = CELL(NONE, STALLED),
	},
	[DEVICE_RESETTING] = {
		DEVICE_NEVER(RESETTING),
		[DEVICE_EV_FENCED] = CELL(CLEAR, IDLE),
		[DEVICE_EV_PENDING] = CELL(STALL, RESETTING),
		[DEVICE_EV_SUSPECT] = CELL(NONE, RESETTING),
		[DEVICE_EV_RESET] = CELL(NONE, RESETTING),
	},
	[DEVICE_BROKEN] = {
		DEVICE_NEVER(BROKEN),
		[DEVICE_EV_STARTED] = CELL(NONE, BROKEN), /* its first pass broke, or another box's */
		[DEVICE_EV_FENCED] = CELL(NONE, BROKEN),
		[DEVICE_EV_PENDING] = CELL(NONE, BROKEN),
		[DEVICE_EV_SUSPECT] = CELL(NONE, BROKEN), /* condemned already */
		[DEVICE_EV_BROKE] = CELL(NONE, BROKEN),
	},
	[DEVICE_GONE] = {
		DEVICE_NEVER(GONE),
		[DEVICE_EV_LOST] = CELL(NONE, GONE),
		[DEVICE_EV_READY] = CELL(VOUCH, GONE),
		[DEVICE_EV_HANDOFF] = CELL(REFUSE_ALL, REFUSING),
		[DEVICE_EV_REVIVE] = CELL(REVIVE, WAITING),
	},
	[DEVICE_REFUSING] = {
		DEVICE_NEVER(REFUSING),
		[DEVICE_EV_STARTED] = CELL(FINISH, REFUSING),
		[DEVICE_EV_SUSPECT] = CELL(CONDEMN, FADING),
		[DEVICE_EV_BROKE] = CELL(NONE, REFUSING),
		[DEVICE_EV_REVIVE] = CELL(RENEW, FENCING),
		[DEVICE_EV_MOVE] = CELL(SHED, FADING),
	},
	[DEVICE_FADING] = {
		DEVICE_NEVER(FADING),
		[DEVICE_EV_FENCED] = CELL(FADE, GONE),
		[DEVICE_EV_PENDING] = CELL(STALL, FADING),
		[DEVICE_EV_SUSPECT] = CELL(NONE, FADING),
	},
};

#pragma GCC diagnostic pop

struct box_cell box_table(enum box_state state, enum box_event event)
{
	return boxes[state][event];
}

struct device_cell device_table(enum device_state state, enum device_event event)
{
	return devices[state][event];
}

uint32_t box_deadline_ms(enum box_state state)
{
	static const uint32_t deadlines[] = {
#define BOX_DEADLINE(NAME, ms, text) (ms),
		BOX_STATES(BOX_DEADLINE)
	};

	return deadlines[state];
}

int box_event_is_suspicion(enum box_event event)
{
	static const uint8_t suspicion[] = {
#define BOX_SUSPICION(NAME, flag, text) (flag),
		BOX_EVENTS(BOX_SUSPICION)
	};

	return suspicion[event];
}

#define NAME_2(NAME, text) #NAME,
#define NAME_3(NAME, x, text) #NAME,

const char *box_state_name(enum box_state state)
{
	static const char *const names[] = { BOX_STATES(NAME_3) };

	return names[state];
}

const char *box_event_name(enum box_event event)
{
	static const char *const names[] = { BOX_EVENTS(NAME_3) };

	return names[event];
}

const char *box_action_name(enum box_action action)
{
	static const char *const names[] = { BOX_ACTIONS(NAME_2) };

	return names[action];
}

const char *device_state_name(enum device_state state)
{
	static const char *const names[] = { DEVICE_STATES(NAME_3) };

	return names[state];
}

const char *device_state_api(enum device_state state)
{
#define API_NAME(NAME, api, text) api,
	static const char *const names[] = { DEVICE_STATES(API_NAME) };

	return names[state];
}

const char *device_event_name(enum device_event event)
{
	static const char *const names[] = { DEVICE_EVENTS(NAME_2) };

	return names[event];
}

const char *device_action_name(enum device_action action)
{
	static const char *const names[] = { DEVICE_ACTIONS(NAME_2) };

	return names[action];
}
