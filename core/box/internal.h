/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of core/box share with each other and nobody else.
 *
 *   supervisor.c  the thread, the spawner's replies, the public calls
 *   device.c      DEVICE_ACTIONS: the order of replacement
 *   quarantine.c  the same for a device that died too often
 *   budget.c      how often it may
 *   poison.c      which request it died of
 *   generation.c  its boxes together
 *   box.c         BOX_ACTIONS: one process
 *   birth.c       how it is made, and what it gives back
 *   launch.c      what a process is born with
 *   channel.c     reports in, messages out
 *   errand.c      what a box may have done for it
 *   ask.c         questions of a box, and their answers
 *   fence.c       looks
 *   figures.c     what is counted of replacements
 *   epoch.c       how devices come into another memory map
 *   shape.c       and get other rings, descriptors, configuration with it
 *   patrol.c      looks at what serves; suspect.c judges
 *   verify.c      the seal, seen from outside
 *   ring.c        where a successor goes on
 *   record.c      what it is handed
 *   evidence.c    what is known of one that had to be fenced; coroner.c, autopsy.c keep it
 *   reg.c         accesses of register devices
 *
 * All of it runs on the supervisor's thread.
 */
#ifndef MAYFLY_CORE_BOX_INTERNAL_H
#define MAYFLY_CORE_BOX_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/box/autopsy.h"
#include "core/box/box.h"
#include "core/box/news.h"
#include "core/box/table.h"
#include "core/loop.h"
#include "devmodel/abi/message.h"
#include "devmodel/abi/seal.h"
#include "devmodel/abi/statepage.h"
#include "snapshot/envelope.h"

struct epoch_wait;
struct generation;
struct shape_before;

/* What a box has asked for; errand.c. */
struct box_errands {
	uint32_t releases; /* since the last ANSWER */
	uint32_t stats;    /* that may still come */
	bool synced;       /* ANSWER is owed .. */
	uint32_t number;   /* .. to the SYNC of this number .. */
	uint64_t spent_ns; /* .. for which so much was done */
	struct loop_timer answer;
};

struct box {
	struct generation *gen;
	uint32_t lane;
	enum box_state state;
	uint64_t cookie; /* names it to the spawner; never reused */

	pid_t pid; /* 0: none */
	int pidfd;
	int control;      /* the VMM's end, non-blocking */
	int child_socket; /* the box's end, until it was sent */
	int child_state;  /* the state page, likewise */
	int listener;
	int proc_dir;         /* /proc/PID */
	int proc_syscall;     /* /proc/PID/syscall, kept open */
	uint64_t control_ino; /* of the box's end of the control socket */
	uint64_t state_ino;
	uint64_t region_ino[MEM_REGIONS_MAX]; /* of the map that it was born into .. */
	uint64_t log_ino;                     /* .. and of its dirty log, if it has one */
	struct state_page *page;
	struct launch_record *launch; /* what it was born with, for checks */

	struct loop_source on_pidfd, on_control, on_listener;
	struct loop_timer deadline, look;
	uint32_t look_us; /* the next back-off */
	uint32_t looks;
	bool look_parked; /* else: stopped or exiting */
	bool canary;      /* the agreed forbidden call was seen on the listener */
	bool seized;      /* the supervisor's thread traces it: it can be stopped for good */
	uint32_t nonce;   /* of the last QUIESCE or ANSWER, which PARKED has to bring back */
	uint32_t ping;    /* of the last PING, which PONG has to bring back .. */
	bool pinged;      /* .. and has not yet */
	struct suspect_record record;
	struct {
		bool waits; /* for the answer */
		struct device_question question;
		struct loop_timer due; /* when it is put, if it came too early */
	} ask;
	struct box_errands errands;

	enum fence fence;
	enum replace_reason reason; /* of its suspicion */
	bool cause_known;           /* of its death: the next is what it says */
	int killed_by;              /* the signal; 0: none, it ended by itself .. */
	int exit_code;              /* .. and claims this */
	struct autopsy_messages messages;
	struct autopsy_call call;
	bool parked; /* it reported PARKED, so the records are complete */
	uint32_t record_bytes[STATE_CLASSES];
	uint32_t reports; /* in the current second */
	uint64_t reports_since;
	uint64_t spawned_ns, sealed_ns, verify_ns;
};

/* What is to be put in force with the next activation, and what to go back to; shape.c. */
struct device_reshape {
	bool pending; /* features and queues are not in force yet */
	uint64_t features;
	struct ctl_queue queues[BOX_QUEUES_MAX];
};

struct generation {
	struct device *dev;
	uint64_t number;
	uint32_t epoch;
	uint32_t lanes;
	struct device_wiring wiring; /* what it was born with; the device's may be another by now */
	uint64_t activated_ns;
	bool examined;           /* an autopsy was begun .. */
	struct autopsy *autopsy; /* .. and is not handed over yet */
	uint64_t stop_by_ns;     /* for that */
	uint64_t ticket;         /* the coroner's; 0: none */
	struct generation *next; /* among those on their way out */
	struct box boxes[];
};

struct replace_request {
	enum replace_reason reason;
	bool carry;
	bool posted; /* nobody waits: freed when done */
	bool done;
	int ret;
	struct replacement result;
};

/* A replacement under way, whoever began it. */
struct passage {
	bool live;
	bool planned;
	bool carry;   /* control state too, if the old generation parks */
	bool carried; /* it did: its records are handed on */
	bool cold;
	uint64_t from;
	enum replace_reason reason;
	enum fence fence;
	uint64_t served;    /* by a box of the old generation at most, by its own word */
	uint64_t asked_ns;  /* QUIESCE sent */
	uint64_t fenced_ns; /* PARKED seen, or suspicion raised */
	uint32_t in_flight;
	struct autopsy_ring rings[BOX_QUEUES_MAX];
	struct replace_request *request; /* NULL: nobody waits */
};

/* A state record of a fenced box; record.c. */
struct record {
	struct envelope envelope;
	uint8_t bytes[STATE_RECORD_MAX];
};

/* A register device's access in flight; reg.c. */
struct reg_port {
	bool enabled;            /* it is a register device */
	pthread_mutex_t turn;    /* one access at a time */
	pthread_mutex_t lock;    /* all below */
	bool serving;            /* started, neither broken nor given up */
	struct state_page *page; /* of the active generation; NULL: none serves now */
	struct reg_request request;
	bool pending;
	uint64_t value;
	uint8_t shadow[REG_SHADOW_BYTES];
	uint32_t seq_seen; /* by the last patrol */
	/* Supervisor's thread, while a vCPU waits: of the box that is judged. */
	uint64_t judged; /* its cookie */
	uint64_t cpu_ns;
	uint32_t asleep_ticks;
	uint32_t asleep_second; /* of all accesses since .. */
	uint64_t asleep_since_ns;
};

/* A queue's request that its servers died of; poison.c. */
struct poison {
	uint16_t idx; /* its place */
	uint32_t deaths;
	bool blamed;     /* for the death that is being recovered from */
	uint64_t unsure; /* cookie of a box that was counted before the cause was known; else 0 */
};

/* A queue as the last patrol saw it; ring.c. */
struct ring_seen {
	uint16_t used; /* its index then */
	bool progress; /* since the one before */
	bool work;     /* requests wait */
};

struct device {
	struct supervisor *sup;
	struct device_spec spec;
	struct device *next;
	enum device_state state;
	struct generation *active;
	struct generation *standby;
	struct generation *previous; /* fenced, alive until the successor has made its first pass */
	struct generation *leaving;  /* retired, until reaped */
	struct loop_timer respawn;
	struct loop_timer rested;   /* the back-off */
	struct loop_timer mourning; /* `previous` is kept for its autopsy */
	struct loop_timer patrol, audit;
	uint64_t patrol_ns;
	struct ring_seen seen[BOX_QUEUES_MAX];
	uint32_t standby_failures;     /* in a row */
	enum replace_reason suspicion; /* the last */
	bool refused;
	struct launch_record
		*launch; /* the part that is the same in all generations, filter included */
	int timer_fd;

	uint64_t features;
	struct ctl_queue queues[BOX_QUEUES_MAX];
	uint16_t audited[BOX_QUEUES_MAX]; /* highest used->idx that was seen and accepted */
	uint32_t unseen; /* bit i: none was of this queue, as its ring is another's until now */
	struct device_reshape reshape;
	struct shape_before *before; /* the last change; NULL: there was none, or it is over */
	bool fresh;                  /* the rings begin at 0: first start after a reset */
	bool starting;               /* hooks->started is still owed */
	uint32_t doomed;             /* fault.c: 1 + the queue whose requests kill; 0: none */
	bool refusing;               /* quarantined: what is activated answers with errors */
	struct poison poison[BOX_QUEUES_MAX];

	struct reg_port port;
	struct passage passage;
	struct record *records; /* lanes x STATE_CLASSES, of the passage if it carries .. */
	bool loaded; /* .. or from elsewhere (device_load()): the next planned one carries them */
	struct replace_request *waiting; /* planned, not begun */
	uint64_t deaths[DEVICE_DEATHS_MAX +
			1]; /* times of the last, a ring; one is beyond any budget */
	uint32_t death_count;
	bool destroying;

	uint64_t generations; /* numbers given so far */
	uint64_t replaced[REPLACE_REASON_COUNT];
	uint64_t deaths_by_reason[REPLACE_REASON_COUNT];
	uint64_t cold, stalls, poisoned, slow, faults;
	uint64_t autopsies, autopsies_skipped, autopsies_failed;
	uint64_t autopsy_due_ns; /* of ration_take() */
	uint64_t ask_due_ns;     /* likewise */
	uint32_t samples;
	uint32_t switch_us[DEVICE_SAMPLES], drain_us[DEVICE_SAMPLES];
	struct device_histogram switches[PASSAGE_COUNT], drains;
	const char *broken;
};

/* NAME of /proc/PID/ns; `user` last, since not every spawner has one of its own. */
#define BOX_NAMESPACES(X) X(net) X(mnt) X(ipc) X(uts) X(cgroup) X(pid) X(user)
#define BOX_NAMESPACE_COUNT 7

struct supervisor {
	struct loop *loop;
	struct news *news; /* NULL: nobody listens */
	pthread_t thread;
	struct spawner *spawner;
	struct seal_host host;
	char namespaces[BOX_NAMESPACE_COUNT][32]; /* of this process, as links of /proc read */
	struct box_memory memory;                 /* that generations are born into */
	struct box_memory before;                 /* the last change of it */
	enum replace_reason change;               /* why */
	uint32_t core_limit;                      /* of boxes */
	struct epoch_wait *wait;                  /* NULL: no change goes on */
	struct loop_timer step;                   /* of it */
	struct device *devices;
	struct loop_source on_spawner;
	struct coroner *coroner; /* NULL: no autopsies */
	int autopsy_dir;
	bool faults_allowed, faulty;
	uint64_t cookies;
	pthread_mutex_t lock; /* with `changed`: waiting callers */
	pthread_cond_t changed;
};

/* supervisor.c */
/* Tells who listens: device and, unless given, the active generation are filled in. */
void device_post(struct device *dev, struct news_event event);
#define device_tell(dev, KIND, ...)                                                                \
	device_post(dev, (struct news_event){ .kind = NEWS_##KIND, ##__VA_ARGS__ })

/* box.c */
void box_raise(struct box *box, enum box_event event);
void box_init(struct box *box, struct generation *gen, uint32_t lane);

/* birth.c */
/* Begins to make the process. 0 or -errno; on error the box is DEAD and holds nothing. */
int box_spawn(struct box *box);
void box_spawned(struct box *box, const struct spawn_reply *reply);
/* Gives back all that the VMM holds of it; the process is dead or was never there. */
void box_release(struct box *box);

/* device.c */
void device_raise(struct device *dev, enum device_event event);
void device_box_reached(struct box *box, enum box_state state, enum device_event event);
void device_box_suspect(struct box *box, enum replace_reason reason);
void device_box_lost(struct box *box);
void device_box_reaped(struct box *box);
void device_box_broke(struct box *box, uint32_t queue, enum ring_error error);
/* Ends the wait for a replacement, where *slot is one, and forgets it: it is the waiting thread's. */
void device_answer(struct device *dev, struct replace_request **slot, int ret);
/* Makes the first standby. */
void device_begin(struct device *dev);
/* Ends every generation; device_empty() becomes true when all are reaped. */
void device_end(struct device *dev);
bool device_empty(const struct device *dev);
struct box *device_find_box(struct device *dev, uint64_t cookie);
bool device_standby_ready(const struct device *dev);
/* Makes the standby unless one is there or on its way. */
void device_spawn(struct device *dev);
/* Fences the active generation, if it is not; FENCED comes with its last box, or at once. */
void device_condemn_active(struct device *dev);
/* No request can be met any more. */
void device_cancel(struct device *dev);
/* Serves no more: the transport is told why. */
void device_do_break(struct device *dev);
void device_do_spawn(struct device *dev);

/* quarantine.c: actions of device.c's table. */
void device_do_rest(struct device *dev);
void device_do_abandon(struct device *dev);
void device_do_vouch(struct device *dev);
void device_do_refuse_all(struct device *dev);
void device_do_fade(struct device *dev);
void device_do_revive(struct device *dev);
void device_do_renew(struct device *dev);
void device_do_shed(struct device *dev);
void device_rested(struct loop_timer *timer);

/* budget.c */
/* A death now, for dev->suspicion. */
void budget_count(struct device *dev);
/* How many within the window. */
uint32_t budget_deaths(const struct device *dev);
bool budget_spent(const struct device *dev);
/* What the successor waits after so many deaths of a budget.  Pure. */
uint32_t budget_back_off_ms(uint32_t deaths, uint32_t budget);

/* poison.c */
/* A fenced box of a generation that is being recovered from: notes what it may have died of. */
void poison_blame(const struct box *box);
/* Whether it matters so much what this box died of that its successor waits for it. */
bool poison_wants_cause(const struct box *box);
/* A box that is being reaped, its cause known by now. */
void poison_learn(const struct box *box);
/* After ring_resume(), before ACTIVATE: sets dev->queues[].refuse. */
void poison_judge(struct device *dev);
void poison_forget(struct device *dev);

/* generation.c */
/* Every box of it is in this state (FENCED: or beyond). */
bool generation_all(const struct generation *gen, enum box_state state);
void generation_raise(struct generation *gen, enum box_event event);
/* An order for boxes that are in this state.  One that cannot be told is suspect at once, and the
 * others are then condemned before the order reaches them. */
void generation_order(struct generation *gen, enum box_state state, enum box_event event);
/* Ends a generation that owns nothing; it stays on the list until its last box is reaped. */
void generation_retire(struct device *dev, struct generation **slot);
/* Frees those of which every box was reaped. */
void generation_collect(struct device *dev);
/* The next number, its boxes not asked for; NULL: no memory. */
struct generation *generation_create(struct device *dev);

/* The active generation, if there is one that serves, is suspect. */
void device_suspect(struct device *dev, enum replace_reason reason);

/* patrol.c */
void patrol_begin(struct device *dev);
void patrol_end(struct device *dev);
/* CPU time used and waited for so far, and where it is now; the rest of the sample is left alone. */
void patrol_look(const struct box *box, struct suspect_sample *sample);
/* Held by the kernel: no deadline counts. */
bool patrol_is_held(const struct box *box);

/* shape.c */
/* Births are of this shape from here on.  0; -ENOMEM, -ENOTSUP: nothing was changed. */
int shape_begin(struct device *dev, const struct device_shape *shape);
/* Births are of the shape before shape_begin() again. */
void shape_abandon(struct device *dev);
/* A generation of the last shape is about to be activated. */
void shape_apply(struct device *dev);
/* A start brings rings of its own. */
void shape_forget(struct device *dev);
/* Of the device as births see it now. */
void shape_wiring(const struct device_spec *spec, struct device_wiring *w);
/* The rings of the next activation, as far as they are known. */
const struct ctl_queue *shape_queues(const struct device *dev);
void shape_free(struct device *dev);

/* epoch.c: something that a change of the map may wait for. */
void epoch_changed(struct supervisor *sup);
/* Devices are being handed off into another map, one after the other: what can wait does. */
bool epoch_moves(const struct supervisor *sup);

/* figures.c */
void device_sample(struct device *dev, const struct replacement *r);

/* fault.c: for ACTIVATE of a box: 1 + its queue whose first request is to kill it, or 0. */
uint32_t fault_doomed(struct device *dev, const struct box *box);

/* evidence.c */
/* Ends `previous`, once its successor serves or none will: after an autopsy, if it is due one. */
void evidence_retire(struct device *dev);
/* Of a generation all dead, before it is freed: the last that is to be said; its launch records go. */
void evidence_bury(struct generation *gen);

/* launch.c */
/* The common part, filter compiled. 0 or -errno. */
int launch_prepare(struct device *dev);
/* RLIMIT_CORE of boxes, by that of this process; before its threads are confined. */
uint32_t launch_core_limit(void);
/* The record of one box and its descriptors in the order that launch.h gives. */
void launch_fill(const struct box *box, struct launch_record *launch);
uint32_t launch_fds(const struct box *box, const struct launch_record *launch, int *fds);

/* channel.c */
/* One report. 1: *report is one, well-formed; 0: none now; -EPIPE: the other end is closed;
 * -EPROTO: anything else. */
int channel_receive(struct box *box, struct box_report *report);
/* 0: sent, or the other end is closed; -EPROTO: it did not take it (full): suspicion, never a retry. */
int channel_send(struct box *box, const void *message, size_t bytes);

/* ask.c */
/* A question of a box that serves goes to the hook, now or when it is time. 0, or -EPROTO: not its turn, or
 * none of this kind's. */
int ask_take(struct box *box, const struct box_report *report);
void ask_fire(struct loop_timer *timer);
/* Its first pass waits for us, and has asked no more than there can be requests. */
bool ask_excuses(const struct box *box);
/* It cannot be answered any more. */
void ask_end(struct box *box);
/* errand.c */
bool errand_is(uint32_t type); /* of a report */
/* Does what a report of such a type asks for. 0, or -EPROTO: it may not ask for that, or not now. */
int errand_do(struct box *box, const struct box_report *report);
/* Sends ANSWER, as channel_send() does.  Its nonce is new and becomes the box's, since a box that has this to
 * read may have read QUIESCE before it. */
int errand_reply(struct box *box, uint32_t value);
/* Sends the ANSWER that is owed to SYNC, if one is. 0, or -EPROTO: it does not read its messages. */
int errand_answer(struct box *box);
/* STATS_PER_POLL more may come. */
void errand_grant_stats(struct box *box);
/* Of box->errands.answer. */
void errand_due(struct loop_timer *timer);

/* fence.c: each looks once and does not block. */
bool fence_parked(const struct box *box);
bool fence_held(const struct box *box, uint64_t id);
/* FENCE_STOPPED, FENCE_EXITING (and the cause in box, if it can be known already) or FENCE_NONE. */
enum fence fence_stopped(struct box *box);
/* The box has ended and was not reaped: sets FENCE_DEAD and the cause. */
void fence_dead(struct box *box);
/* What it died of, if it has ended by now. */
void fence_cause(struct box *box);
/* Begins to stop the box in such a way that it never runs again, whatever signal anybody sends: a
 * ptrace-stop of this thread's, or SIGKILL where somebody else traces it.  Does not wait. */
void fence_stop(struct box *box);

/* verify.c */
/* What this process is, to compare with: once. 0 or -errno. */
int verify_prepare(struct supervisor *sup);
/* The seal alone, whatever the box is doing.  0, or -EPERM with *what naming the first thing that is
 * not as it must be (static text). */
int verify_seal(const struct box *box, const char **what);
/* The same, and that it waits in read(control). */
int verify_box(const struct box *box, const char **what);

/* reg.c; nothing happens where the device has no registers. */
void reg_attach(struct device *dev); /* the active generation serves */
void reg_detach(struct device *dev); /* it is fenced: its answer is taken or the request kept */
void reg_serve(struct device *dev, bool serve); /* started, revived; or reset, broken, given up */
void reg_forget(struct device *dev);            /* the next start is the first after a reset */
/* Whether an access was made since this was last asked. */
bool reg_worked(struct device *dev);
/* For ACTIVATE: copies the shadow, returns the sequence number last answered. */
uint32_t reg_shadow(struct device *dev, uint8_t *shadow);

/* record.c */
/* Copies what the passage hands on of a box that parked and is fenced, whose state page must still be there;
 * or, where records were loaded, makes these its own. */
void record_take(struct device *dev, const struct box *box);
/* For ACTIVATE: writes to out (STATE_CLASSES * STATE_RECORD_MAX bytes) what this box is to start
 * from, the length of each class to bytes; returns their sum. */
uint32_t record_give(const struct box *box, uint8_t *out, uint32_t *bytes);

/* ring.c */
/* Looks at the rings of a generation that serves: dev->seen.  0, or -EPROTO with *queue where
 * used->idx is beyond what was asked for. */
int ring_audit(struct device *dev, uint32_t *queue);
/* Where each queue goes on after a fence: reads used->idx and avail->idx once each, accepts within
 * [audited, avail] and avail - used <= size; counts what is in flight into dev->passage.  0, or
 * -EPROTO with *queue. */
int ring_resume(struct device *dev, uint32_t *queue);

#endif
