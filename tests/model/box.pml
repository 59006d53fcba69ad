/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device program from its standby on (devmodel/common/run.c), life after life in one slot.  Each
 * step is one that the thread makes in user mode while it runs; it may be killed or stopped between
 * any two.
 */

#define step(what) atomic { runs(me) -> what }
/* A deed that only the owner may do. */
#define touch(what) atomic { runs(me) -> assert(owner == me); what }

/* Then a call that it held returns. */
#ifdef MUTANT_LISTENER_RELEASED
#define listener_closed(i) (files_closed || state[i] == BOX_FENCED)
#else
#define listener_closed(i) files_closed
#endif

/* What read(control) waits for: a message, or the end of the VMM.  Ends when the VMM is gone. */
inline receive()
{
	if
	:: atomic { runs(me) && nempty(control[me]) -> control[me]?heard, value; place[me] = COPIED };
		atomic { runs(me) && !signal_due(me) -> place[me] = USER }
	:: atomic { runs(me) && files_closed && empty(control[me]) -> leave() }
	fi
}

/* Ends by itself: takes effect at once, see `unless` below. */
inline leave()
{
	exit_begins(me)
}

/* The driver wants to hear of the request that was just published. */
#ifdef EVENT_IDX
#define driver_waits (used_event == next - 1)
#else
#define driver_waits (!no_interrupts)
#endif

/* virtq_arm(), virtq_activate(). */
inline ask_for_kicks()
{
#if defined(MUTANT_KICKS_STAY_OFF)
	skip
#elif defined(EVENT_IDX)
	avail_event = next
#else
	no_kicks = false
#endif
}

/* One request: carried out, published (element and index), signalled. */
inline serve()
{
#if defined(MUTANT_PUBLISHED_BEFORE_DONE)
	touch(used_ring[next % QUEUE_SIZE] = next; next++; used_idx = next);
	touch(carried_out = carried_out | (1 << (next - 1)));
#else
	touch(carried_out = carried_out | (1 << next));
#if defined(MUTANT_ANSWERED_TWICE)
	touch(used_ring[next % QUEUE_SIZE] = next; used_ring[(next + 1) % QUEUE_SIZE] = next;
		next++; used_idx = next + 1);
#elif defined(MUTANT_LOOKS_BEFORE_PUBLISHING)
	touch(next++; waits = driver_waits);
	touch(used_ring[(next - 1) % QUEUE_SIZE] = next - 1; used_idx = next);
#else
	touch(used_ring[next % QUEUE_SIZE] = next; next++; used_idx = next);
#endif
#endif
#if defined(MUTANT_LOOKS_BEFORE_PUBLISHING)
	touch(interrupt = interrupt || waits; waits = false)
#else
	touch(interrupt = interrupt || driver_waits)
#endif
}

/* Activation: docs/generations.md has the same five steps. */
inline first_pass()
{
	touch(ask_for_kicks());
	touch(limit = avail_idx);
	do
	:: next != limit -> serve()
	:: else -> break
	od;
#ifndef MUTANT_NO_SIGNAL
	touch(interrupt = true);
#endif
	step(reports[me]!ACTIVATED(false); limit = 0)
}

/* Serves until it is told to park.  Who parked waits in the last read for its end. */
inline serve_all()
{
#ifdef MUTANT_NO_SCAN
	step(reports[me]!ACTIVATED(false); ask_for_kicks());
	goto sleep;
#else
	first_pass();
#endif
again:	if
	:: atomic { runs(me) && bell[me] -> bell[me] = false }; goto told
	:: atomic { runs(me) && !bell[me] && avail_idx != next }; serve(); goto again
	:: atomic { runs(me) && !bell[me] && avail_idx == next }
	fi;
	touch(ask_for_kicks());
#ifndef MUTANT_NO_SECOND_LOOK
	if
	:: atomic { runs(me) && avail_idx != next }; goto again
	:: atomic { runs(me) && avail_idx == next }
	fi;
#endif
sleep:	if
	:: atomic { runs(me) && kick -> assert(owner == me); kick = false };
		touch(no_kicks = true);
		goto again
	:: atomic { runs(me) && (nempty(control[me]) || files_closed) }
	fi;
told:	step(place[me] = READ; next = 0);
	receive();
	step(assert(heard == QUIESCE); reports[me]!PARKED(true));
	step(place[me] = READ);
	receive();
	assert(false)
}

/*
 * Taken over by the guest: any deed, in any order, for as long as it runs.  It knows the nonce once it
 * has read QUIESCE.  `false`: it sleeps, for ever.
 */
inline lie()
{
	do
	:: touch(used_idx = 0)
	:: touch(used_idx = avail_idx + 1; kick = false)
	:: atomic { runs(me) && nfull(reports[me]) -> reports[me]!PARKED, nonce }
	:: step(place[me] = READ);
		atomic { runs(me) && nempty(control[me]) -> control[me]?heard, value; place[me] = COPIED };
		atomic { runs(me) && !signal_due(me) -> place[me] = USER; nonce = true }
	:: step(place[me] = EMPTY_READ);
		atomic { runs(me) && !signal_due(me) -> place[me] = USER }
	:: step(place[me] = CALL; call_new[me] = true);
		atomic { runs(me) && !signal_due(me) && listener_closed(me) ->
			place[me] = USER; call_new[me] = false }
	:: step(leave())
	:: step(false)
	od
}

proctype Box(byte me)
{
	mtype:message heard;
	byte value, next, limit;
	bool nonce, waits;

	do
	:: {
		receive();
		step(assert(heard == ACTIVATE); next = value; value = 0);
		if
		:: atomic { liars > 0 -> liars--; hostile[me] = true };
			step(reports[me]!ACTIVATED(false));
			lie()
		:: serve_all()
		fi
	} unless {
		/* Its end: nothing of it is left when this is over. */
		d_step { life[me] == EXITING ->
			life[me] = DEAD;
			heard = 0; value = 0; next = 0; limit = 0; nonce = false; waits = false }
	}
	od
}
