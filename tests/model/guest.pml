/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's driver: offers requests one by one, kicks where it is asked to, and works like Linux does
 * on an interrupt: turns interrupts off, takes what is there, turns them on, looks again.
 */

#ifdef EVENT_IDX
#define kick_wanted (avail_event == avail_idx - 1)
#define interrupts_off skip
#define interrupts_on used_event = answered
#else
#define kick_wanted (!no_kicks)
#define interrupts_off no_interrupts = true
#define interrupts_on no_interrupts = false
#endif

/* Each request is answered once, in its turn, and after its effect is there. */
inline take_used()
{
	d_step {
		do
		:: answered != used_idx ->
			assert(answered < avail_idx && used_ring[answered % QUEUE_SIZE] == answered);
			assert(carried_out & (1 << answered));
			answered++
		:: else -> break
		od
	}
}

proctype Driver()
{
	do
	:: atomic { avail_idx < REQUESTS && avail_idx - answered < QUEUE_SIZE -> avail_idx++ };
		if
		:: atomic { kick_wanted -> kick = true }
		:: atomic { !kick_wanted }
		fi
#if LIARS == 0
	:: atomic { interrupt -> interrupt = false; interrupts_off };
again:		take_used();
		interrupts_on;
		if
		:: atomic { answered != used_idx -> interrupts_off }; goto again
		:: answered == used_idx
		fi
#endif
	od
}
