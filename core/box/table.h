/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor as two pure tables, state x event -> (action, next state); no system call, no
 * clock, no memory here.  box.c and device.c do what they say.
 *
 * A *box* is one process.  A *device* owns its boxes in generations: one that is active, one that
 * stands by, and during a replacement one that is on its way out.  With several lanes a generation
 * has several boxes; the device's event comes when the last of them got there.
 *
 * Each list is an X-macro: NAME, then what the reader needs.
 */
#ifndef MAYFLY_CORE_BOX_TABLE_H
#define MAYFLY_CORE_BOX_TABLE_H

#include <stdint.h>

/* NAME, deadline in ms (0: none), legal operations and meaning. */
#define BOX_STATES(X)                                                                              \
	X(SPAWNING, 2000, "asked of the spawner; nothing to signal, fence or read")                \
	X(DOOMED, 0, "asked of the spawner, no longer wanted")                                     \
	X(SEALING, 2000, "runs start-up code; reports HELLO, HALF, SEALED are awaited")            \
	X(SETTLING, 2000, "says that it is sealed; looked at until it is seen in read(control)")   \
	X(STANDBY, 0, "sealed and verified, blocked in read(control); may be activated or killed") \
	X(STARTING, 10000, "ACTIVATE sent; owns the rings; first pass not reported")               \
	X(ACTIVE, 0, "owns the rings")                                                             \
	X(QUIESCING, 250, "QUIESCE sent; still owns the rings")                                    \
	X(PARKING, 50, "says that it parked; still owns the rings until a look proves it")         \
	X(STOPPING, 50, "being stopped; owns the rings until a look proves otherwise")             \
	X(PENDING, 0, "SIGKILL sent without proof: waits for the kernel, however long")            \
	X(FENCED, 0, "proven unable to touch rings or backends; alive, may only be killed")        \
	X(DYING, 0, "fenced and SIGKILL sent; waits to be reaped")                                 \
	X(DEAD, 0, "reaped")

/* NAME, whether it is a suspicion of its sender, meaning. */
#define BOX_EVENTS(X)                                                                              \
	X(SPAWNED, 0, "the spawner gave pid and pidfd")                                            \
	X(SPAWN_FAILED, 0, "the spawner could not")                                                \
	X(HELLO, 0, "report: death signal armed")                                                  \
	X(HALF, 0, "report: filter on, listener ready to be taken")                                \
	X(SEALED, 0, "report: all layers on")                                                      \
	X(FAILED, 0, "report: a seal step failed")                                                 \
	X(ACTIVATED, 0, "report: first pass done")                                                 \
	X(PARKED, 0, "report: state written, about to block")                                      \
	X(PONG, 0, "report: alive")                                                                \
	X(BROKEN, 0, "report: the driver broke a rule")                                            \
	X(REFUSED, 0, "report: the carried record does not fit")                                   \
	X(RELEASE, 0, "report: pages that hold nothing")                                           \
	X(SYNC, 0, "report: asks when all before it is done")                                      \
	X(STAT, 0, "report: a number of the driver's")                                             \
	X(ASK, 0, "report: a question, which it waits to be answered")                             \
	X(MISBEHAVED, 1, "anything on the control socket that is not a report")                    \
	X(TRAPPED, 1, "the listener holds a forbidden call")                                       \
	X(ENDING, 1, "the listener hung up: past its last system call, or it closed it")           \
	X(EXITED, 1, "pidfd readable")                                                             \
	X(PROVEN, 0, "a look proved a fence")                                                      \
	X(VERIFIED, 0, "the VMM found the seal as it must be")                                     \
	X(UNSOUND, 1, "the VMM found it otherwise")                                                \
	X(ACTIVATE, 0, "order: begin to serve")                                                    \
	X(QUIESCE, 0, "order: park")                                                               \
	X(CONDEMN, 0, "order: fence it without its help")                                          \
	X(RETIRE, 0, "order: end it; only a box that owns nothing")                                \
	X(DEADLINE, 1, "the state's deadline passed")

/* What box.c does. */
#define BOX_ACTIONS(X)                                                                             \
	X(NONE, "nothing")                                                                         \
	X(WATCH, "watch the new process")                                                          \
	X(CANARY, "take the listener; the agreed call is seen on it and let fail, once")           \
	X(VERIFY, "check the seal from outside; raises VERIFIED or UNSOUND")                       \
	X(READY, "tell the device that the standby is ready")                                      \
	X(ACTIVATE, "send ACTIVATE")                                                               \
	X(STARTED, "tell the device that the first pass is done")                                  \
	X(QUIESCE, "send QUIESCE, ring the bell")                                                  \
	X(LOOK, "look whether it is in read(control), again and again; raises PROVEN")             \
	X(STOP, "begin to stop it; look whether it stopped or is exiting, likewise")               \
	X(SUSPECT, "record the suspicion, then as STOP")                                           \
	X(HOLD, "record the suspicion; a call that the listener holds is the fence; stop it")      \
	X(PEND, "SIGKILL; tell the device that the fence is pending; look for its end")            \
	X(FENCED, "tell the device that the fence is proven")                                      \
	X(KILL, "SIGKILL a box that owns nothing")                                                 \
	X(KILL_NEW, "as WATCH, then KILL")                                                         \
	X(LOSE, "SIGKILL a box that owns nothing; tell the device that the standby is lost")       \
	X(REAP, "wait for it, release everything")                                                 \
	X(REAP_LOST, "as REAP; tell the device that the standby is lost")                          \
	X(REAP_SUSPECT, "record the suspicion, REAP: dead is a fence; tell the device")            \
	X(REAP_FENCED, "as REAP: dead is a fence; tell the device")                                \
	X(BROKE, "tell the device what the driver did")                                            \
	X(ERRAND, "do what the report asks for")                                                   \
	X(BUG, "cannot happen: an event that only this program raises, in the wrong state")

enum box_state {
#define BOX_STATE_ENUM(NAME, ms, text) BOX_##NAME,
	BOX_STATES(BOX_STATE_ENUM)
#undef BOX_STATE_ENUM
		BOX_STATE_COUNT
};

enum box_event {
#define BOX_EVENT_ENUM(NAME, suspicion, text) BOX_EV_##NAME,
	BOX_EVENTS(BOX_EVENT_ENUM)
#undef BOX_EVENT_ENUM
		BOX_EVENT_COUNT
};

enum box_action {
#define BOX_ACTION_ENUM(NAME, text) BOX_DO_##NAME,
	BOX_ACTIONS(BOX_ACTION_ENUM)
#undef BOX_ACTION_ENUM
		BOX_ACTION_COUNT
};

struct box_cell {
	uint8_t action; /* enum box_action */
	uint8_t next;   /* enum box_state */
	uint8_t set;    /* 1: written down; the unit test fails on a cell that is not */
};

/* NAME, API name, meaning. */
#define DEVICE_STATES(X)                                                                           \
	X(IDLE, "starting", "no driver; only a standby is kept")                                   \
	X(WAITING, "starting", "wants a standby to activate, and has none")                        \
	X(RESTING, "recovering", "died often: its successor waits for the back-off")               \
	X(STARTING, "starting", "activated, first pass not reported")                              \
	X(ACTIVE, "active", "serving")                                                             \
	X(QUIESCING, "quiescing", "handoff: the old generation is parking")                        \
	X(FENCING, "recovering", "recovery: the old generation is being fenced")                   \
	X(STALLED, "fence-pending", "the fence is overdue; everything else goes on")               \
	X(RESETTING, "starting", "the driver reset it; complete when the generation is fenced")    \
	X(BROKEN, "broken", "NEEDS_RESET; the generation is fenced, or being fenced")              \
	X(GONE, "quarantined",                                                                     \
	  "no standby can be had, or too many deaths; until revived or reset")                     \
	X(REFUSING, "quarantined", "the same, with a generation that answers all with errors")     \
	X(FADING, "quarantined", "that one is suspect, too: it is being fenced")

#define DEVICE_EVENTS(X)                                                                           \
	X(START, "the driver is ready, or reset is over and it is again")                          \
	X(RESET, "the driver writes 0 to the status")                                              \
	X(REPLACE, "a planned replacement is asked for")                                           \
	X(HANDOFF, "a planned replacement waits and the standby is ready")                         \
	X(READY, "every box of the standby is sealed and verified")                                \
	X(LOST, "a box of the standby died or could not be made")                                  \
	X(STARTED, "every box of the active generation reported its first pass")                   \
	X(FENCED, "every box of the active generation is proven fenced")                           \
	X(PENDING, "a fence is overdue")                                                           \
	X(SUSPECT, "a box of the active generation gave reason")                                   \
	X(BROKE, "a box says that the driver broke a rule, or the VMM found the ring impossible")  \
	X(REVIVE, "the operator wants it back")                                                    \
	X(MOVE, "the generation that refuses is of an old memory map")                             \
	X(EXHAUSTED, "the death budget is spent, or standbys keep dying")                          \
	X(REST, "it died often enough for a back-off")                                             \
	X(RESTED, "the back-off is over")

#define DEVICE_ACTIONS(X)                                                                          \
	X(NONE, "nothing")                                                                         \
	X(SPAWN, "make a standby unless one is there or on its way; raise READY if it is ready")   \
	X(RESPAWN, "the standby is lost: make another after the back-off")                         \
	X(ACTIVATE, "the standby becomes the active generation; raise BROKE for impossible rings") \
	X(PREPARE, "note the request; SPAWN; raise HANDOFF if the standby is ready")               \
	X(OFFER, "raise HANDOFF if a request waits")                                               \
	X(FRESH, "planned, without a driver: end the standby, make another")                       \
	X(SETTLE, "answer a request that waited for a fresh standby")                              \
	X(REFUSE, "not in this state: EBUSY")                                                      \
	X(QUIESCE, "the waiting request begins: quiesce every box")                                \
	X(FINISH, "the replacement is done: retire the old, report, refill; READY if it is")       \
	X(CONDEMN, "fence every box of the active generation; raise FENCED if there is none")      \
	X(RECOVER, "count the death; CONDEMN")                                                     \
	X(SUCCEED, "raise EXHAUSTED if the budget is spent, READY if the standby is ready")        \
	X(CLEAR, "the reset is complete: retire the old, tell the transport, refill")              \
	X(STALL, "tell that the fence is overdue")                                                 \
	X(BREAK, "NEEDS_RESET, with the reason; CONDEMN")                                          \
	X(REST, "begin the back-off; make a standby meanwhile")                                    \
	X(ABANDON, "NEEDS_RESET; give up until revived or reset; want a standby that refuses")     \
	X(VOUCH, "raise HANDOFF if the rings can be gone on with")                                 \
	X(REFUSE_ALL, "the standby becomes active, to answer everything with errors")              \
	X(FADE, "the refusing generation is fenced: end it; if it was shed, SPAWN")                \
	X(REVIVE, "forget the deaths; SPAWN")                                                      \
	X(RENEW, "forget the deaths; CONDEMN the refusing generation")                             \
	X(SHED, "CONDEMN the refusing generation; another is to refuse")                           \
	X(BUG, "cannot happen")

enum device_state {
#define DEVICE_STATE_ENUM(NAME, api, text) DEVICE_##NAME,
	DEVICE_STATES(DEVICE_STATE_ENUM)
#undef DEVICE_STATE_ENUM
		DEVICE_STATE_COUNT
};

enum device_event {
#define DEVICE_EVENT_ENUM(NAME, text) DEVICE_EV_##NAME,
	DEVICE_EVENTS(DEVICE_EVENT_ENUM)
#undef DEVICE_EVENT_ENUM
		DEVICE_EVENT_COUNT
};

enum device_action {
#define DEVICE_ACTION_ENUM(NAME, text) DEVICE_DO_##NAME,
	DEVICE_ACTIONS(DEVICE_ACTION_ENUM)
#undef DEVICE_ACTION_ENUM
		DEVICE_ACTION_COUNT
};

struct device_cell {
	uint8_t action;
	uint8_t next;
	uint8_t set;
};

struct box_cell box_table(enum box_state state, enum box_event event);
struct device_cell device_table(enum device_state state, enum device_event event);

/* Deadline of a state in ms, 0 for none; names for logs, the API and tests. */
uint32_t box_deadline_ms(enum box_state state);
const char *box_state_name(enum box_state state);
const char *box_event_name(enum box_event event);
const char *box_action_name(enum box_action action);
int box_event_is_suspicion(enum box_event event);
const char *device_state_name(enum device_state state);
const char *device_state_api(enum device_state state);
const char *device_event_name(enum device_event event);
const char *device_action_name(enum device_action action);

#endif
