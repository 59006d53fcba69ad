/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replacement of a device's generations, for SPIN.  One device, one lane, one queue; README.md says
 * what is proven with it, and what is left out.  Read on with
 *
 *   kernel.pml      signals, stops, deaths, the end of the VMM; what a look sees of it
 *   box.pml         a device program, honest (devmodel/common/run.c) or taken over
 *   guest.pml       the driver
 *   supervisor.pml  box.c and device.c around the real tables of core/box/table.c
 *
 * A step is what stands between two semicolons, or in one atomic.  Steps of different processes
 * interleave in any order; memory is sequentially consistent, so the barriers of virtq.c are taken for
 * granted.  How much may happen in a run is bounded by the numbers below, when is not.
 *
 * `#ifdef MUTANT_x` marks a mistake that check.sh demands to be found.
 */
#include "names.pml"

#ifndef REQUESTS
#define REQUESTS 2 /* of the driver */
#endif
#ifndef FAULTS
#define FAULTS 0 /* kills from outside, and first passes taken for hanging */
#endif
#ifndef STOPS
#define STOPS 0 /* SIGSTOPs from outside; each may be followed by SIGCONT */
#endif
#ifndef HANDOFFS
#define HANDOFFS 0 /* planned replacements that somebody asks for */
#endif
#ifndef LIARS
#define LIARS 0 /* generations that are taken over once they serve */
#endif
#ifndef RESTS
#define RESTS 0 /* 1: every recovery waits for the back-off */
#endif
#ifndef CHANGES
#define CHANGES 0 /* of the memory map */
#endif
#ifndef FOREIGN_TRACER
#define FOREIGN_TRACER 0 /* 1: somebody else traces the boxes */
#endif
#define QUEUE_SIZE 2

/* Processes come and go in slots: one serves, one stands by, one is on its way out. */
#define SLOTS 3
#define NONE SLOTS

/* ---- what is shared ---- */

mtype:life = { DEAD, ALIVE, EXITING };
/* Where a thread is.  COPIED: in read(control) still, with a message, on its way to user mode.
 * EMPTY_READ: the same, from a read of no bytes, or to where there is no memory.  CALL: in a
 * forbidden call, held by the listener. */
mtype:place = { USER, READ, COPIED, EMPTY_READ, CALL };
mtype:message = { ACTIVATE, QUIESCE };
mtype:report = { ACTIVATED, PARKED };

bool vmm_lives = true;
bool files_closed; /* those of the VMM, which died */

/* Of each process, as the kernel has it. */
mtype:life life[SLOTS] = DEAD;
mtype:place place[SLOTS] = USER;
bool kill_due[SLOTS], stop_due[SLOTS], trap_due[SLOTS]; /* sent, not taken yet */
bool stopped[SLOTS], traced[SLOTS];                     /* by SIGSTOP; by the VMM's ptrace */
bool call_new[SLOTS]; /* its forbidden call was not received from the listener yet */

/* Between it and the VMM.  A message carries where to go on (ACTIVATE); a report, whether it brings
 * the nonce of QUIESCE back (PARKED). */
chan control[SLOTS] = [1] of { mtype:message, byte };
chan reports[SLOTS] = [1] of { mtype:report, bool };
bool bell[SLOTS];

/* As the VMM has it: enum box_state, enum device_state, and its three generations. */
byte state[SLOTS] = BOX_DEAD;
byte device_state = DEVICE_IDLE;
byte serving = NONE, standby = NONE, previous = NONE;

bool hostile[SLOTS];

/* The queue; indices do not wrap here.  Requests are served in order, so the number of one is its
 * place. */
byte avail_idx, used_idx;
byte used_ring[QUEUE_SIZE];
bool no_kicks, no_interrupts; /* used->flags, avail->flags; without EVENT_IDX */
byte avail_event, used_event; /* with it */
bool kick, interrupt;         /* eventfds */
byte carried_out;             /* a bit a request: its effect is there */
byte answered;                /* how many the driver was told of */

/* Who was last told to serve: nobody else may touch the ring or a backend. */
byte owner = NONE;

byte faults = FAULTS, stops = STOPS, handoffs = HANDOFFS, liars = LIARS;
byte changes = CHANGES;

#define runs(i) (life[i] == ALIVE && !stopped[i] && !traced[i])
#define signal_due(i) (kill_due[i] || stop_due[i] || trap_due[i])

#include "kernel.pml"
#include "box.pml"
#include "guest.pml"
#include "supervisor.pml"

/*
 * When nothing can happen any more.  No run is endless (check.sh shows that too, but for boxes that
 * are taken over), so what holds here is what always comes in the end.
 */
proctype Judge()
{
	timeout;
	assert(!vmm_lives || !waiting);
	assert(!vmm_lives || !changing);
	if
	:: !vmm_lives ->
		assert(life[0] == DEAD && life[1] == DEAD && life[2] == DEAD);
	:: vmm_lives && LIARS == 0 ->
		assert(device_state == DEVICE_ACTIVE);
		assert(standby != NONE && state[standby] == BOX_STANDBY);
		assert(answered == REQUESTS);
		assert((life[0] == ALIVE) + (life[1] == ALIVE) + (life[2] == ALIVE) == 2)
	:: vmm_lives && LIARS != 0 ->
		assert(device_state == DEVICE_ACTIVE || device_state == DEVICE_BROKEN);
	fi
}

init {
	atomic {
		run Supervisor();
		run Box(0);
		run Box(1);
		run Box(2);
		run Signals(0);
		run Signals(1);
		run Signals(2);
		run VmmDeath();
		run Driver();
		run Judge();
	}
}
