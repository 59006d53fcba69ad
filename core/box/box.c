/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process.  box_raise() looks the event up, takes on the next state and its deadline, then acts;
 * an action may raise again, and finds the state already changed.  Everything that a box may say or
 * do arrives here as an event; what it means is the table's business.
 */
#include "core/box/box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"
#include "devmodel/abi/exit.h"

#define LOOK_FIRST_US 20 /* enough to go to sleep in, on a CPU that is ours as soon as we sleep */
#define LOOK_LAST_US 100
#define LOOK_PENDING_US 5000 /* with no end in sight; the pidfd will tell of its death anyway */
#define MOURN_MS 10

static struct loop *box_loop(const struct box *box)
{
	return box->gen->dev->sup->loop;
}

static const char *box_id(const struct box *box)
{
	return box->gen->dev->spec.id;
}

/* ---- birth ---- */

/* A first pass that waits for slow storage, or for an answer of ours, is no crime.  The fence of a box that
 * is told to park, or is stopped, does not wait for it. */
static void box_deadline(struct loop_timer *timer)
{
	struct box *box = container_of(timer, struct box, deadline);

	if (box->state == BOX_STARTING && (ask_excuses(box) || patrol_is_held(box)))
		loop_arm(box_loop(box), timer,
			 now_ns() + box_deadline_ms(BOX_STARTING) * NS_PER_MS);
	else
		box_raise(box, BOX_EV_DEADLINE);
}

static void box_look(struct loop_timer *timer);
static void box_on_pidfd(struct loop_source *source, uint32_t events);
static void box_on_control(struct loop_source *source, uint32_t events);
static void box_on_listener(struct loop_source *source, uint32_t events);

void box_init(struct box *box, struct generation *gen, uint32_t lane)
{
	*box = (struct box){
		.gen = gen,
		.lane = lane,
		.state = BOX_SPAWNING,
		.pidfd = -1,
		.control = -1,
		.child_socket = -1,
		.child_state = -1,
		.listener = -1,
		.proc_dir = -1,
		.proc_syscall = -1,
		.on_pidfd = { box_on_pidfd, -1 },
		.on_control = { box_on_control, -1 },
		.on_listener = { box_on_listener, -1 },
		.deadline = { .fire = box_deadline },
		.look = { .fire = box_look },
		.ask.due = { .fire = ask_fire },
		.errands = { .answer = { .fire = errand_due } },
	};
}

/* ---- what arrives ---- */

static void box_on_pidfd(struct loop_source *source, uint32_t events)
{
	(void)events;
	box_raise(container_of(source, struct box, on_pidfd), BOX_EV_EXITED);
}

static const enum box_event report_events[REPORT_TYPE_END] = {
#define REPORT_EVENT(NAME, number, text) [REPORT_##NAME] = BOX_EV_##NAME,
	REPORT_TYPES(REPORT_EVENT)
#undef REPORT_EVENT
};

/* Who brings the nonce back has read the last QUIESCE or ANSWER, and so all that was ever sent to it: after
 * QUIESCE nothing else is sent, and after PARKED nothing. */
static int box_take_parked(struct box *box, const struct box_report *report)
{
	const uint32_t data = CTL_PARKED_DATA(report->detail);
	const uint32_t control = CTL_PARKED_CONTROL(report->detail);

	if (data > STATE_RECORD_MAX || control > STATE_RECORD_MAX)
		return -EPROTO;
	if (box->state != BOX_QUIESCING) /* a second one: the first stands */
		return 0;
	if (report->value != box->nonce || box->ask.waits)
		return -EPROTO;
	box->record_bytes[STATE_DATA] = data;
	box->record_bytes[STATE_CONTROL] = control;
	return 0;
}

/* What a report carries beyond its type, range-checked. 0 or -EPROTO. */
static int box_take_report(struct box *box, const struct box_report *report)
{
	static const char *const layers[] = {
#define LAYER_NAME(NAME, name, text) #name,
		SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
	};

	switch (report->type) {
	case REPORT_PONG:
		if (!box->pinged || report->value != box->ping)
			return -EPROTO;
		box->pinged = false;
		return 0;
	case REPORT_PARKED:
		return box_take_parked(box, report);
	case REPORT_BROKEN:
		return report->value < box->gen->dev->spec.queues &&
				       report->detail < RING_ERROR_COUNT
			       ? 0
			       : -EPROTO;
	case REPORT_HALF:
		return box->listener < 0 && report->value == box->launch->fd_held ? 0 : -EPROTO;
	case REPORT_FAILED:
		if (report->value >= SEAL_LAYER_COUNT || report->detail > 4095)
			return -EPROTO;
		/* Whoever says so later lies, and may say it as often as it likes. */
		if (box->state == BOX_SEALING)
			log_error("%s: the seal failed at layer %s: %s", box_id(box),
				  layers[report->value], strerror((int)report->detail));
		return 0;
	default:
		return 0;
	}
}

static void box_report(struct box *box, const struct box_report *report)
{
	const enum box_event event = report_events[report->type];

	/* HALF and PARKED mean something in one state only; elsewhere they are judged by type. */
	if ((event == BOX_EV_HALF && box->state != BOX_SEALING) ||
	    box_take_report(box, report) != 0 ||
	    (box_table(box->state, event).action == BOX_DO_ERRAND && errand_do(box, report) != 0)) {
		box_raise(box, BOX_EV_MISBEHAVED);
		return;
	}
	if (event == BOX_EV_PARKED && box->state == BOX_QUIESCING) {
		box->parked = true;
		box->gen->dev->passage.fenced_ns = now_ns();
	}
	if (event == BOX_EV_SEALED && box->state == BOX_SEALING)
		box->sealed_ns = now_ns() - box->spawned_ns;
	if (event == BOX_EV_BROKEN && box_table(box->state, event).action == BOX_DO_BROKE)
		device_box_broke(box, report->value, (enum ring_error)report->detail);
	box_raise(box, event);
}

static void box_on_control(struct loop_source *source, uint32_t events)
{
	struct box *box = container_of(source, struct box, on_control);
	struct box_report report;
	const int ret = channel_receive(box, &report);

	(void)events;
	if (ret > 0)
		box_report(box, &report);
	else if (ret == -EPIPE)
		loop_remove(box_loop(box), &box->on_control); /* the pidfd tells the rest */
	else if (ret < 0)
		box_raise(box, BOX_EV_MISBEHAVED);
}

/* ---- looks ---- */

static void box_look_begin(struct box *box, bool parked)
{
	box->look_parked = parked;
	box->looks = 0;
	box->look_us = LOOK_FIRST_US;
	box_look(&box->look);
}

/* The death of a box that was killed must be seen, whatever there is a lack of just now. */
static void box_mourn(struct box *box)
{
	if (box->pidfd >= 0 && box->on_pidfd.fd < 0 &&
	    loop_add(box_loop(box), &box->on_pidfd, box->pidfd, EPOLLIN) != 0)
		loop_arm(box_loop(box), &box->look, now_ns() + MOURN_MS * NS_PER_MS);
}

/* It is as good as dead, but what it died of decides how its successor begins. */
static bool box_awaits_cause(const struct box *box, enum fence fence)
{
	return fence == FENCE_EXITING && !box->cause_known && poison_wants_cause(box);
}

/* Two looks at once, then further and further apart: looking without a pause would starve a box that
 * shares the CPU with the supervisor. */
static void box_look(struct loop_timer *timer)
{
	struct box *box = container_of(timer, struct box, look);
	const uint32_t last = box->state == BOX_PENDING ? LOOK_PENDING_US : LOOK_LAST_US;

	if (box->state == BOX_DYING) {
		box_mourn(box);
		return;
	}
	for (int i = box->looks == 0 ? 2 : 1; i > 0; i--) {
		const enum fence fence = !box->look_parked   ? fence_stopped(box)
					 : fence_parked(box) ? FENCE_PARKED
							     : FENCE_NONE;

		if (fence != FENCE_NONE && !box_awaits_cause(box, fence)) {
			box->fence = fence;
			box_raise(box, BOX_EV_PROVEN);
			return;
		}
	}
	box->looks++;
	loop_arm(box_loop(box), &box->look, now_ns() + box->look_us * NS_PER_US);
	box->look_us = box->look_us * 2 > last ? last : box->look_us * 2;
}

/* ---- actions ---- */

static const char *box_exit_text(int code)
{
	switch (code) {
#define EXIT_TEXT(NAME, number, text)                                                              \
	case BOX_EXIT_##NAME:                                                                      \
		return text;
		BOX_EXITS(EXIT_TEXT)
#undef EXIT_TEXT
	default:
		return "with a code that no device program has";
	}
}

static void box_watch(struct box *box)
{
	struct loop *loop = box_loop(box);
	/* Each by itself: one that has to be killed for want of the others must still be reaped. */
	const bool mortal = loop_add(loop, &box->on_pidfd, box->pidfd, EPOLLIN) == 0;
	const bool heard = loop_add(loop, &box->on_control, box->control, EPOLLIN) == 0;

	if (!mortal || !heard || box->proc_syscall < 0)
		box_raise(box, BOX_EV_UNSOUND);
}

/* Takes the listener.  The agreed call may not have been made yet: to wait for it here would stop
 * the supervisor with a box that stops. */
static int box_take_listener(struct box *box)
{
	const struct ctl_header go = { CTL_GO, 0 };

	box->listener = (int)syscall(SYS_pidfd_getfd, box->pidfd, box->launch->fd_held, 0);
	if (box->listener < 0)
		return -errno;
	if (send(box->control, &go, sizeof(go), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(go))
		return -errno;
	return loop_add(box_loop(box), &box->on_listener, box->listener, EPOLLIN);
}

/* SECCOMP_IOCTL_NOTIF_RECV of the agreed call, which is there, and ENOSYS for an answer. */
static int box_canary(struct box *box)
{
	const struct launch_record *l = box->launch;
	struct seccomp_notif notif = { 0 };
	struct seccomp_notif_resp resp = { 0 };

	if (ioctl(box->listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) != 0)
		return -errno;
	if (notif.data.nr != BOX_CANARY_NR || notif.data.args[0] != l->canary[0] ||
	    notif.data.args[1] != l->canary[1] || notif.data.args[2] != l->canary[2])
		return -EPROTO;
	resp.id = notif.id;
	resp.error = -ENOSYS;
	box->canary = true;
	return ioctl(box->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) == 0 ? 0 : -errno;
}

static void box_listener_failed(struct box *box, int ret)
{
	log_error("%s: no use of the seccomp listener: %s", box_id(box), strerror(-ret));
	box_raise(box, BOX_EV_UNSOUND);
}

static void box_do_canary(struct box *box)
{
	const int ret = box_take_listener(box);

	if (ret != 0)
		box_listener_failed(box, ret);
}

/* Readable: a forbidden call waits to be received, the agreed one first.  Hung up: nobody is left to
 * make one. */
static void box_on_listener(struct loop_source *source, uint32_t events)
{
	struct box *box = container_of(source, struct box, on_listener);

	if ((events & EPOLLIN) && box->state == BOX_SEALING && !box->canary) {
		const int ret = box_canary(box);

		if (ret != 0)
			box_listener_failed(box, ret);
		return;
	}
	/* Either is its last word: a trapped thread stays trapped, and the look or the pidfd follow. */
	loop_remove(box_loop(box), &box->on_listener);
	box_raise(box, events & EPOLLIN ? BOX_EV_TRAPPED : BOX_EV_ENDING);
}

static void box_do_verify(struct box *box)
{
	const char *what = "the agreed forbidden call was never seen";
	const uint64_t begin = now_ns();
	const bool silent = (box->launch->seal & SEAL_WANT_LISTENER) && !box->canary;

	if (silent || verify_box(box, &what) != 0) {
		log_error("%s: a standby is not sealed as it must be: %s", box_id(box), what);
		box_raise(box, BOX_EV_UNSOUND);
		return;
	}
	box->verify_ns = now_ns() - begin;
	box_raise(box, BOX_EV_VERIFIED);
}

static void box_kill(struct box *box)
{
	/* ESRCH: it died by itself and waits to be reaped. */
	if (box->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, box->pidfd, SIGKILL, NULL, 0);
	box_mourn(box);
}

static void box_stop(struct box *box)
{
	fence_stop(box);
	box_look_begin(box, false);
}

/* The suspicion that an event is. */
static enum replace_reason box_suspicion(enum box_event event)
{
	switch (event) {
	case BOX_EV_TRAPPED:
		return REPLACE_SECCOMP;
	case BOX_EV_ENDING:
	case BOX_EV_EXITED:
		return REPLACE_CRASH;
	case BOX_EV_DEADLINE:
		return REPLACE_HANG;
	case BOX_EV_UNSOUND:
		return REPLACE_AUDIT;
	default:
		return REPLACE_PROTOCOL;
	}
}

static void box_suspect(struct box *box, enum box_event event)
{
	box->reason = box_suspicion(event);
	device_box_suspect(box, box->reason);
}

/* The call that the listener holds is never answered: the thread stays where it is. */
static void box_hold(struct box *box)
{
	struct seccomp_notif notif = { 0 };
	bool held = false;

	/* Before the stop: that wakes the thread, which takes the call, and with it its number, out of
	 * the listener, and stops on its way, without having reached user mode.  The stop is needed
	 * all the same: with the VMM's death the listener would close, and the call return. */
	if (ioctl(box->listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) == 0) {
		held = fence_held(box, notif.id);
		box->call = (struct autopsy_call){ .known = true,
						   .number = notif.data.nr,
						   .address = notif.data.instruction_pointer };
		for (size_t i = 0; i < ARRAY_SIZE(box->call.args); i++)
			box->call.args[i] = notif.data.args[i];
		log_warn("%s: generation %llu made a forbidden system call (%d)", box_id(box),
			 (unsigned long long)box->gen->number, notif.data.nr);
	}
	fence_stop(box);
	if (held) {
		box->fence = FENCE_HELD;
		box_raise(box, BOX_EV_PROVEN);
	} else {
		box_look_begin(box, false);
	}
}

/* Why it ended, unless that was our SIGKILL.  It may claim any exit code: shown, never acted on. */
static void box_epitaph(const struct box *box, const siginfo_t *info)
{
	const unsigned long long number = box->gen->number;

	if (info->si_code == CLD_EXITED)
		log_warn("%s: generation %llu ended itself: %s", box_id(box), number,
			 box_exit_text(info->si_status));
	else if (info->si_pid != 0 && info->si_status != SIGKILL)
		log_warn("%s: generation %llu was ended by signal %d (%s)", box_id(box), number,
			 info->si_status, sigabbrev_np(info->si_status) ?: "real-time");
}

/* Dead and gone; what it was is forgotten, its generation may follow. */
static void box_reap(struct box *box)
{
	siginfo_t info = { 0 };

	if (box->pidfd >= 0) {
		fence_cause(box);
		poison_learn(box);
		if (waitid(P_PIDFD, (id_t)box->pidfd, &info, WEXITED | WNOHANG) == 0)
			box_epitaph(box, &info);
	}
	box_release(box);
}

/* ANSWER first: who waits for it would hear of QUIESCE only, and be late. */
static void box_quiesce(struct box *box)
{
	const int answered = errand_answer(box);

	CHECK(getrandom(&box->nonce, sizeof(box->nonce), 0) == sizeof(box->nonce));
	const struct ctl_header message = { CTL_QUIESCE, box->nonce };

	if (answered != 0 || channel_send(box, &message, sizeof(message)) != 0)
		box_raise(box, BOX_EV_MISBEHAVED);
}

static void box_activate(struct box *box)
{
	struct device *dev = box->gen->dev;
	const struct launch_record *l = &dev->launch[box->lane];
	union {
		struct ctl_activate activate;
		uint8_t bytes[CTL_BYTES_MAX];
	} message;
	uint32_t n;

	memset(&message.activate, 0, sizeof(message.activate));
	message.activate.header.type = CTL_ACTIVATE;
	message.activate.features = dev->features;
	for (uint32_t i = 0; i < l->queues; i++) {
		message.activate.queues[i] = dev->queues[l->queue_index[i]];
		if (dev->refusing)
			message.activate.queues[i].refuse = CTL_REFUSE_ALL;
	}
	message.activate.reg_seq = reg_shadow(dev, message.activate.shadow);
	message.activate.doomed = fault_doomed(dev, box);
	errand_grant_stats(box);
	n = record_give(box, message.bytes + sizeof(message.activate),
			message.activate.record_bytes);
	if (channel_send(box, &message, sizeof(message.activate) + n) != 0)
		box_raise(box, BOX_EV_MISBEHAVED);
}

/* The actions that end it.  Its generation may be freed in device_box_reaped(). */
static void box_end(struct box *box, enum box_action action, enum box_event event)
{
	switch (action) {
	case BOX_DO_KILL:
		box_kill(box);
		break;
	case BOX_DO_KILL_NEW:
		box_watch(box);
		box_kill(box);
		break;
	case BOX_DO_LOSE:
		box_kill(box);
		device_box_lost(box);
		break;
	case BOX_DO_REAP:
		box_reap(box);
		device_box_reaped(box);
		break;
	case BOX_DO_REAP_LOST:
		box_reap(box);
		device_box_lost(box);
		device_box_reaped(box);
		break;
	case BOX_DO_REAP_SUSPECT:
		fence_dead(box);
		box_suspect(box, event);
		device_box_reached(box, BOX_FENCED, DEVICE_EV_FENCED);
		box_reap(box); /* after: the fenced box's state page is still looked at */
		device_box_reaped(box);
		break;
	case BOX_DO_REAP_FENCED:
		fence_dead(box);
		device_box_reached(box, BOX_FENCED, DEVICE_EV_FENCED);
		box_reap(box);
		device_box_reaped(box);
		break;
	default: /* BUG */
		log_error("%s: event %s in state %s", box_id(box), box_event_name(event),
			  box_state_name(box->state));
		CHECK(action != BOX_DO_BUG);
	}
}

static void box_act(struct box *box, enum box_action action, enum box_event event)
{
	switch (action) {
	case BOX_DO_NONE:
	case BOX_DO_BROKE:  /* told by box_report(), which has the details .. */
	case BOX_DO_ERRAND: /* .. and has done it */
	case BOX_ACTION_COUNT:
		break;
	case BOX_DO_WATCH:
		box_watch(box);
		break;
	case BOX_DO_CANARY:
		box_do_canary(box);
		break;
	case BOX_DO_VERIFY:
		box_do_verify(box);
		break;
	case BOX_DO_READY:
		device_box_reached(box, BOX_STANDBY, DEVICE_EV_READY);
		break;
	case BOX_DO_ACTIVATE:
		box_activate(box);
		break;
	case BOX_DO_STARTED:
		device_box_reached(box, BOX_ACTIVE, DEVICE_EV_STARTED);
		break;
	case BOX_DO_QUIESCE:
		box_quiesce(box);
		break;
	case BOX_DO_LOOK:
		box_look_begin(box, true);
		break;
	case BOX_DO_STOP:
		box_stop(box);
		break;
	case BOX_DO_SUSPECT:
		box_suspect(box, event);
		box_stop(box);
		break;
	case BOX_DO_HOLD:
		box_suspect(box, event);
		box_hold(box);
		break;
	case BOX_DO_PEND:
		box_kill(box);
		device_raise(box->gen->dev, DEVICE_EV_PENDING); /* before a look ends it */
		box_look_begin(box, false);
		break;
	case BOX_DO_FENCED:
		device_box_reached(box, BOX_FENCED, DEVICE_EV_FENCED);
		break;
	default:
		box_end(box, action, event);
	}
}

void box_raise(struct box *box, enum box_event event)
{
	const struct box_cell cell = box_table(box->state, event);
	const bool moved = cell.next != box->state;

	log_debug("%s g%llu: %s in %s: %s, %s", box_id(box), (unsigned long long)box->gen->number,
		  box_event_name(event), box_state_name(box->state), box_action_name(cell.action),
		  box_state_name(cell.next));
	box->state = cell.next;
	if (moved) {
		const uint32_t ms = box_deadline_ms(box->state);

		loop_disarm(box_loop(box), &box->look);
		loop_disarm(box_loop(box), &box->deadline);
		if (ms != 0)
			loop_arm(box_loop(box), &box->deadline, now_ns() + ms * NS_PER_MS);
	}
	box_act(box, cell.action, event);
}
