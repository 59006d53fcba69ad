/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel does to processes.  A signal is sent (x_due), and taken some time later: until then
 * a thread in user mode goes on.  One that is in the kernel takes what is due before it is back in
 * user mode (box.pml).
 */

/* PF_EXITING: it never is in user mode again. */
inline exit_begins(i)
{
	kill_due[i] = false;
	stop_due[i] = false;
	trap_due[i] = false;
	stopped[i] = false;
	traced[i] = false;
	call_new[i] = false;
	place[i] = USER;
	life[i] = EXITING /* last: it ends the steps of the box, within this one */
}

/* Not a standby, on which it has no effect before it is activated, nor what is about to die.  Where there
 * are liars, only those: the rest is tried without. */
#define can_be_stopped(i) \
	((LIARS == 0 || hostile[i]) && life[i] == ALIVE && !kill_due[i] && !stopped[i] && !stop_due[i] && \
	 state[i] >= BOX_STARTING && state[i] <= BOX_FENCED)

/* Around one process: what was sent is taken, in any order, SIGKILL in a stop, too.  And somebody outside,
 * root or the user whose VM it is, sends signals at any time. */
proctype Signals(byte i)
{
	do
	:: d_step { life[i] == ALIVE && kill_due[i] -> exit_begins(i) }
	:: d_step { life[i] == ALIVE && trap_due[i] -> trap_due[i] = false; traced[i] = true }
	:: d_step { life[i] == ALIVE && stop_due[i] -> stop_due[i] = false; stopped[i] = true }

	:: d_step { faults > 0 && life[i] == ALIVE && !kill_due[i] -> faults--; kill_due[i] = true }
	:: d_step { stops > 0 && can_be_stopped(i) ->
		stops--; stop_due[i] = true }
	:: d_step { stopped[i] || stop_due[i] -> stopped[i] = false; stop_due[i] = false } /* SIGCONT */
	od
}

/*
 * The VMM's end, if it comes.  Its files are closed: a call that the listener held returns, and
 * read(control) finds the end.  The tracer's end kills what it traced.  Last, the death signal is sent to
 * every child; a box does not wait for any of this.
 */
proctype VmmDeath()
{
	byte i;

#ifdef VMM_MAY_DIE
	vmm_lives = false;
	files_closed = true;
	d_step {
		for (i : 0 .. SLOTS - 1) {
			if
			:: life[i] == ALIVE && (traced[i] || trap_due[i]) ->
#ifdef MUTANT_NO_EXITKILL
				traced[i] = false; trap_due[i] = false
#else
				kill_due[i] = true
#endif
			:: else
			fi
		}
	}
	d_step {
		for (i : 0 .. SLOTS - 1) {
			kill_due[i] = (life[i] == ALIVE)
		}
	}
#endif
}

/* ---- looks: core/box/fence.c ---- */

/* /proc/PID/syscall says `read`, off the CPU, and the socket says that all was read.  A thread that
 * waits and one that was stopped on its way back look the same. */
#define off_cpu_in_read(i) (place[i] == READ || (place[i] == COPIED && (stopped[i] || traced[i])))
#ifdef MUTANT_ANY_READ
#define is_parked(i) (empty(control[i]) && (off_cpu_in_read(i) || \
	(place[i] == EMPTY_READ && (stopped[i] || traced[i]))))
#else
#define is_parked(i) (empty(control[i]) && off_cpu_in_read(i))
#endif

#if defined(MUTANT_STOP_IS_SIGSTOP)
#define is_stopped(i) (stopped[i] || life[i] == EXITING)
#elif defined(MUTANT_NO_LOOK)
#define is_stopped(i) true
#else
#define is_stopped(i) (traced[i] || life[i] == EXITING)
#endif

/* SECCOMP_IOCTL_NOTIF_RECV, then .._ID_VALID: a stopped thread has left the listener. */
#define call_waits(i) (place[i] == CALL && call_new[i] && !stopped[i] && !traced[i])

/* fence_stop(): seized and interrupted; killed where somebody else traces it. */
inline fence_stop(i)
{
#if defined(MUTANT_STOP_IS_SIGSTOP)
	stop_due[i] = (life[i] == ALIVE && !stopped[i])
#else
	if
	:: life[i] == ALIVE && !FOREIGN_TRACER -> trap_due[i] = true
	:: life[i] == ALIVE && FOREIGN_TRACER -> kill_due[i] = true
	:: else
	fi
#endif
}
