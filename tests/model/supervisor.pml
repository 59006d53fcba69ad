/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMM's side: what arrives becomes an event, core/box/table.c says what it means, and the actions
 * are those of box.c and device.c.  Where those raise an event within an action, here it is put in line
 * (`due`) and taken before anything else happens.
 *
 * A deadline can pass as soon as it is set, since nobody says how fast a box is.  What blames a box for
 * one counts as a fault, unless it is hostile or stopped.
 */
c_decl {
\#include "tests/model/cells.h"
};

#define DEVICE SLOTS /* in `due`: instead of a slot */

chan due = [9] of { byte, byte };
bool wanted;     /* a standby is to be made */
bool resting;    /* the back-off runs */
bool waiting;    /* a planned replacement was asked for and has not begun */
bool planned;    /* the one under way is planned */
byte audited;    /* highest used->idx accepted so far */
bool changing;   /* the memory map: into another epoch (core/box/epoch.c) */
bool old[SLOTS]; /* born into a map before */

/* Within d_step only: written before they are read. */
hidden byte who, event, row, action, next_state;
hidden mtype:report said;
hidden byte echo; /* of the nonce */

inline look_up_box()
{
	row = state[who];
	c_code {
		const struct box_cell c = cells_box(row, event);

		action = c.action;
		next_state = c.next;
	};
	state[who] = next_state
}

inline look_up_device()
{
	row = device_state;
	c_code {
		const struct device_cell c = cells_device(row, event);

		action = c.action;
		next_state = c.next;
	};
	device_state = next_state
}

/* ---- boxes: box_act() ---- */

inline tell_device(i, slot, what)
{
	if
	:: i == slot -> due!DEVICE, what
	:: else
	fi
}

inline kill(i)
{
	kill_due[i] = (life[i] == ALIVE)
}

/* What owns nothing is not missed: its last moments are not played. */
inline die(i)
{
	if
	:: life[i] == ALIVE -> exit_begins(i)
	:: else
	fi
}

inline lose(i)
{
	if
	:: i == standby -> standby = NONE; due!i, BOX_EV_RETIRE; due!DEVICE, DEVICE_EV_LOST
	:: else
	fi
}

/* channel_send() fails when the other end is closed. */
inline send(i, what, value)
{
	if
	:: life[i] == DEAD -> due!i, BOX_EV_MISBEHAVED
	:: else -> control[i]!what, value
	fi
}

inline hold(i)
{
	if
	:: call_waits(i) -> call_new[i] = false; due!i, BOX_EV_PROVEN
	:: else
	fi;
#if defined(MUTANT_HELD_AND_SIGSTOP)
	stop_due[i] = (life[i] == ALIVE && !stopped[i])
#elif !defined(MUTANT_LISTENER_RELEASED)
	fence_stop(i)
#endif
}

/* A reaped box leaves nothing; its slot is free. */
inline reap(i)
{
	do
	:: reports[i]?_, _
	:: empty(reports[i]) -> break
	od;
	do
	:: control[i]?_, _
	:: empty(control[i]) -> break
	od;
	bell[i] = false;
	hostile[i] = false
}

inline act_box(i)
{
	if
	:: action == BOX_DO_ACTIVATE -> owner = i; send(i, ACTIVATE, audited)
	:: action == BOX_DO_QUIESCE -> send(i, QUIESCE, 0); bell[i] = true
	:: action == BOX_DO_READY -> tell_device(i, standby, DEVICE_EV_READY)
	:: action == BOX_DO_STARTED -> tell_device(i, serving, DEVICE_EV_STARTED)
	:: action == BOX_DO_STOP -> fence_stop(i)
	:: action == BOX_DO_SUSPECT -> tell_device(i, serving, DEVICE_EV_SUSPECT); fence_stop(i)
	:: action == BOX_DO_HOLD -> tell_device(i, serving, DEVICE_EV_SUSPECT); hold(i)
	:: action == BOX_DO_PEND -> kill(i); due!DEVICE, DEVICE_EV_PENDING
#ifdef MUTANT_KILL_IS_A_FENCE
		; due!i, BOX_EV_PROVEN
#endif
	:: action == BOX_DO_FENCED -> tell_device(i, serving, DEVICE_EV_FENCED)
	:: action == BOX_DO_KILL -> die(i)
	:: action == BOX_DO_LOSE -> kill(i); lose(i)
	:: action == BOX_DO_REAP -> reap(i)
	:: action == BOX_DO_REAP_LOST -> reap(i); lose(i)
	:: action == BOX_DO_REAP_SUSPECT ->
		tell_device(i, serving, DEVICE_EV_SUSPECT);
		tell_device(i, serving, DEVICE_EV_FENCED);
		reap(i)
	:: action == BOX_DO_REAP_FENCED -> tell_device(i, serving, DEVICE_EV_FENCED); reap(i)
	/* Birth goes as it should, and a look is made when its state says so: below. */
	:: action == BOX_DO_NONE || action == BOX_DO_WATCH || action == BOX_DO_CANARY ||
	   action == BOX_DO_LOOK || action == BOX_DO_VERIFY
	:: else -> assert(false) /* BUG, and what the model has no part in */
	fi
}

/* ---- the device: device_acts[] ---- */

inline retire(slot)
{
	if
	:: slot != NONE -> due!slot, BOX_EV_RETIRE; slot = NONE
	:: else
	fi
}

#define standby_ready (standby != NONE && state[standby] == BOX_STANDBY)

inline spawn()
{
	if
	:: standby_ready -> due!DEVICE, DEVICE_EV_READY
	:: else -> wanted = (standby == NONE)
	fi
}

/* ring_resume(): used->idx, if it can be. */
inline activate()
{
	if
	:: used_idx < audited || used_idx > avail_idx -> due!DEVICE, DEVICE_EV_BROKE
	:: else ->
#if defined(MUTANT_RESUMES_AT_AUDITED)
		skip;
#elif defined(MUTANT_RESUMES_AT_AVAIL)
		audited = avail_idx;
#else
		audited = used_idx;
#endif
		serving = standby;
		standby = NONE;
		if
		:: state[serving] == BOX_STANDBY -> due!serving, BOX_EV_ACTIVATE
		:: else
		fi
	fi
}

inline succeed()
{
	retire(previous);
	previous = serving;
	serving = NONE;
	if
	:: !planned && RESTS -> due!DEVICE, DEVICE_EV_REST
	:: else -> spawn()
	fi
}

inline act_device()
{
	if
	:: action == DEVICE_DO_SPAWN -> spawn()
	:: action == DEVICE_DO_RESPAWN -> wanted = (standby == NONE)
	:: action == DEVICE_DO_ACTIVATE -> activate()
	:: action == DEVICE_DO_PREPARE ->
		if
		:: device_state == DEVICE_ACTIVE && standby_ready -> due!DEVICE, DEVICE_EV_HANDOFF
		:: device_state == DEVICE_ACTIVE && !standby_ready -> wanted = (standby == NONE)
		:: else
		fi
	:: action == DEVICE_DO_REFUSE -> waiting = false
	:: action == DEVICE_DO_OFFER ->
		if
		:: waiting -> due!DEVICE, DEVICE_EV_HANDOFF
		:: else
		fi
	:: action == DEVICE_DO_QUIESCE -> planned = true; waiting = false; due!serving, BOX_EV_QUIESCE
	:: action == DEVICE_DO_FINISH -> planned = false; retire(previous);
#ifdef MUTANT_STANDBY_UNHEARD
		wanted = (standby == NONE)
#else
		spawn()
#endif
	:: action == DEVICE_DO_RECOVER -> planned = false; retire(previous); due!serving, BOX_EV_CONDEMN
	:: action == DEVICE_DO_SUCCEED -> succeed()
	:: action == DEVICE_DO_REST -> resting = true; wanted = (standby == NONE)
	:: action == DEVICE_DO_BREAK ->
		waiting = false;
		retire(previous);
		if
		:: serving != NONE -> due!serving, BOX_EV_CONDEMN
		:: else
		fi
	:: action == DEVICE_DO_NONE || action == DEVICE_DO_STALL
	:: else -> assert(false)
	fi
}

/* ---- memory epochs: epoch.c ---- */

/* What there is of a slot is of another map than the current one. */
#define has_old(i) (old[i] && state[i] != BOX_DEAD)

#if defined(MUTANT_GONE_IS_MOVED)
#define is_gone (serving == NONE || !old[serving])
#elif defined(MUTANT_STANDBY_FORGOTTEN)
#define is_gone ((serving == NONE || !old[serving]) && (previous == NONE || !old[previous]))
#else
#define is_gone (!has_old(0) && !has_old(1) && !has_old(2))
#endif

/* Every process that there is was born into what is no longer the map. */
inline change_map()
{
	changing = true;
	old[0] = (state[0] != BOX_DEAD);
	old[1] = (state[1] != BOX_DEAD);
	old[2] = (state[2] != BOX_DEAD);
#ifndef MUTANT_STANDBY_FORGOTTEN
	if
	:: device_state != DEVICE_BROKEN || standby != NONE -> retire(standby); spawn()
	:: else
	fi
#endif
}

/* The pages are given away now: nobody may have them. */
inline map_is_changed()
{
	changing = false;
	assert(life[0] == DEAD || !old[0]);
	assert(life[1] == DEAD || !old[1]);
	assert(life[2] == DEAD || !old[2])
}

/* ---- events ---- */

/* What the control socket brings. */
inline hear(i)
{
	reports[i]?said, echo;
	if
#ifndef MUTANT_NO_NONCE
	:: said == PARKED && state[i] == BOX_QUIESCING && !echo -> due!i, BOX_EV_MISBEHAVED
#endif
	:: said == ACTIVATED -> due!i, BOX_EV_ACTIVATED
	:: else -> due!i, BOX_EV_PARKED
	fi
}

/* A new box, sealed as it should be.  It can die as soon as it is there. */
inline birth(i)
{
	wanted = false;
	old[i] = false;
	standby = i;
	life[i] = ALIVE;
	place[i] = READ;
	state[i] = BOX_SPAWNING;
	due!i, BOX_EV_SPAWNED;
	due!i, BOX_EV_HELLO;
	due!i, BOX_EV_HALF;
	due!i, BOX_EV_SEALED;
	due!i, BOX_EV_PROVEN;
	due!i, BOX_EV_VERIFIED
}

/* Of a slot, and not events of the table: there is a report to be read; a process is to be made. */
#define HEAR 254
#define BIRTH 255

/* All that is due, until nothing is. */
inline work_off()
{
	do
	:: due?who, event ->
		if
		:: who == DEVICE -> look_up_device(); act_device()
		:: who != DEVICE && event == HEAR -> hear(who)
		:: who != DEVICE && event == BIRTH -> birth(who)
		:: else -> look_up_box(); act_box(who)
		fi
	:: empty(due) -> break
	od
}

/* Of the slots that nothing is known of any more, the first: it makes no difference which. */
#define is_free(i) (state[i] == BOX_DEAD && i != serving && i != previous)
#define is_next(i) (is_free(i) && (i < 1 || !is_free(0)) && (i < 2 || !is_free(1)))

#define is_looked_at(i) (state[i] == BOX_STOPPING || state[i] == BOX_PENDING)
#define has_deadline(i) \
	(state[i] == BOX_QUIESCING || state[i] == BOX_PARKING || state[i] == BOX_STOPPING)
#define may_be_blamed(i) (hostile[i] || stopped[i])

/* Later the listener's word means nothing: the table answers with NONE. */
#define is_active(i) (state[i] >= BOX_STARTING && state[i] <= BOX_PARKING)

/* What can come from one box: a report, its end, a call that the listener holds, a look that succeeds, a
 * deadline, the patrol's finding that it hangs; and that there is one. */
#define from_box(i) \
	:: nempty(reports[i]) -> due!i, HEAR \
	:: life[i] == DEAD && state[i] != BOX_DEAD -> due!i, BOX_EV_EXITED \
	:: call_waits(i) && is_active(i) -> due!i, BOX_EV_TRAPPED \
	:: state[i] == BOX_PARKING && is_parked(i) -> due!i, BOX_EV_PROVEN \
	:: is_looked_at(i) && is_stopped(i) -> due!i, BOX_EV_PROVEN \
	:: has_deadline(i) -> due!i, BOX_EV_DEADLINE \
	:: state[i] == BOX_STARTING && may_be_blamed(i) -> due!i, BOX_EV_DEADLINE \
	:: state[i] == BOX_STARTING && faults > 0 -> faults--; due!i, BOX_EV_DEADLINE \
	:: i == serving && device_state == DEVICE_ACTIVE && may_be_blamed(i) -> \
		due!DEVICE, DEVICE_EV_SUSPECT \
	:: wanted && standby == NONE && is_next(i) -> due!i, BIRTH

proctype Supervisor()
{
	{
		due!DEVICE, DEVICE_EV_START;
		do
		:: atomic {
			if
			:: nempty(due) /* only START */
			from_box(0)
			from_box(1)
			from_box(2)
			:: handoffs > 0 && !waiting -> handoffs--; waiting = true;
				due!DEVICE, DEVICE_EV_REPLACE
			:: resting -> resting = false; due!DEVICE, DEVICE_EV_RESTED
			:: changes > 0 && !changing -> changes--; change_map()
#ifndef MUTANT_NOBODY_MOVES
			:: changing && device_state == DEVICE_ACTIVE && old[serving] && !waiting ->
				waiting = true;
				due!DEVICE, DEVICE_EV_REPLACE
#endif
			:: changing && device_state == DEVICE_BROKEN && serving != NONE &&
				(state[serving] == BOX_FENCED || state[serving] == BOX_DEAD) ->
				retire(serving)
			:: changing && is_gone -> map_is_changed()
			fi;
			d_step { work_off(); skip }
		}
		od
	} unless {
		!vmm_lives
	}
}
