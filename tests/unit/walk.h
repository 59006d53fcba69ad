/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's own sources (box.c, device.c, supervisor.c) on a made-up kernel.  A process here is
 * a few bits of truth: it runs, or it cannot; it was told to serve, or not.  Whatever the kernel, a
 * hostile box or a full machine may answer is a *choice*, and a choice comes from a path of numbers:
 * so a run can be repeated, every run of some length be made, or one drawn at random.
 *
 * Checked at each step, against the truth and not against the table: never do two generations have a
 * process that could touch rings; no reset is reported while one could; no stopped process is let go.
 * A broken invariant of the sources (CHECK, which a BUG cell ends in) fails the test with its path.
 */
#ifndef MAYFLY_TESTS_UNIT_WALK_H
#define MAYFLY_TESTS_UNIT_WALK_H

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/box/table.h"
#include "core/log.h"
#include "tests/unit/walk_choice.h"

/* ---- the kernel ---- */

#define WALK_FDS 4096
#define WALK_FD_FIRST 100000
#define WALK_PROCS 512

struct proc {
	bool asked; /* of the spawner, no answer yet */
	bool alive;
	bool killed; /* SIGKILL sent */
	bool halted; /* being stopped, by fence_stop() */
	bool active; /* it was told to serve */
	bool still;  /* it cannot run any more, or not until the VMM writes to it */
	bool trapped;
	bool served; /* the canary was answered */
	uint64_t generation;
};

static struct kernel {
	uint64_t clock_ns;
	uint32_t fds;
	uint32_t held;                 /* descriptors that are open */
	uint64_t owner[WALK_FDS];      /* cookie of its process + 1; 0: closed */
	struct proc procs[WALK_PROCS]; /* by cookie */
	uint64_t cookie;               /* the box that is being made or acted for */
} kernel;

static struct proc *proc_of(uint64_t cookie)
{
	WALK_CHECK(cookie < WALK_PROCS);
	return &kernel.procs[cookie];
}

static int fd_new(uint64_t cookie)
{
	WALK_CHECK(kernel.fds < WALK_FDS);
	kernel.owner[kernel.fds] = cookie + 1;
	kernel.held++;
	return WALK_FD_FIRST + (int)kernel.fds++;
}

static uint64_t fd_owner(int fd)
{
	WALK_CHECK(fd >= WALK_FD_FIRST && fd < WALK_FD_FIRST + WALK_FDS);
	WALK_CHECK(kernel.owner[fd - WALK_FD_FIRST] != 0);
	return kernel.owner[fd - WALK_FD_FIRST] - 1;
}

static bool proc_could_touch(const struct proc *p)
{
	return p->alive && p->active && !p->still;
}

/* How many generations could touch the rings; `except` does not count. */
static uint32_t owners(uint64_t except)
{
	uint64_t last = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < WALK_PROCS; i++) {
		const struct proc *p = &kernel.procs[i];

		if (proc_could_touch(p) && p->generation != except && p->generation != last) {
			last = p->generation;
			n++;
		}
	}
	return n;
}

static int fake_close(int fd)
{
	fd_owner(fd);
	kernel.owner[fd - WALK_FD_FIRST] = 0;
	kernel.held--;
	return 0;
}

static int fake_clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	kernel.clock_ns += 1000;
	*ts = (struct timespec){ (time_t)(kernel.clock_ns / 1000000000u),
				 (long)(kernel.clock_ns % 1000000000u) };
	return 0;
}

static int fake_memfd_make(const char *name, unsigned int flags, uint64_t bytes, int seals)
{
	(void)name, (void)flags, (void)bytes, (void)seals;
	return fault() ? -EMFILE : fd_new(kernel.cookie);
}

static int fake_fstat(int fd, struct stat *st)
{
	fd_owner(fd);
	*st = (struct stat){ .st_ino = (ino_t)fd };
	return 0;
}

static void *fake_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t off)
{
	(void)addr, (void)prot, (void)flags, (void)off;
	fd_owner(fd);
	return calloc(1, bytes);
}

static int fake_munmap(void *addr, size_t bytes)
{
	(void)bytes;
	free(addr);
	return 0;
}

static int fake_socketpair(int domain, int type, int protocol, int pair[2])
{
	(void)domain, (void)type, (void)protocol;
	errno = EMFILE;
	if (fault())
		return -1;
	pair[0] = fd_new(kernel.cookie);
	pair[1] = fd_new(kernel.cookie);
	return 0;
}

static ssize_t fake_send(int fd, const void *data, size_t bytes, int flags)
{
	(void)data, (void)flags;
	fd_owner(fd);
	return (ssize_t)bytes;
}

static int fake_open(const char *path, int flags, ...)
{
	(void)path, (void)flags;
	errno = EMFILE;
	return fault() ? -1 : fd_new(kernel.cookie);
}

static int fake_openat(int dir, const char *path, int flags, ...)
{
	fd_owner(dir);
	return fake_open(path, flags);
}

static void proc_signal(struct proc *p, int sig)
{
	WALK_CHECK(sig == SIGKILL); /* what any other does can be undone */
	p->killed = true;
}

static long fake_syscall(long nr, ...)
{
	va_list ap;
	long ret = 0;

	va_start(ap, nr);
	const uint64_t cookie = fd_owner(va_arg(ap, int));

	if (nr == SYS_pidfd_send_signal)
		proc_signal(proc_of(cookie), va_arg(ap, int));
	else if (nr == SYS_pidfd_getfd)
		ret = fault() ? -1 : fd_new(cookie);
	else
		walk_fail("a system call that the model does not know");
	va_end(ap);
	errno = EMFILE;
	return ret;
}

/* A box is reaped once, and only when it is dead. */
static int fake_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	(void)type, (void)info;
	WALK_CHECK((options & WNOHANG) != 0);
	WALK_CHECK(!proc_of(fd_owner((int)id))->alive);
	return 0;
}

/* The canary, or the call that a trapped box made: the listener never gives what was not asked. */
static int fake_ioctl(int fd, unsigned long request, ...)
{
	struct proc *p = proc_of(fd_owner(fd));
	va_list ap;

	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	errno = ENOENT;
	if (request == SECCOMP_IOCTL_NOTIF_SEND) {
		WALK_CHECK(!p->trapped); /* a forbidden call is never answered */
		return fault() ? -1 : 0;
	}
	WALK_CHECK(request == SECCOMP_IOCTL_NOTIF_RECV);
	struct seccomp_notif *notif = arg;

	if (!p->served && !p->trapped) {
		notif->data.nr = fault() ? 0 : 110;
		p->served = true;
		return 0;
	}
	return p->trapped && pick(2) == 0 ? 0 : -1;
}

#define close fake_close
#define clock_gettime fake_clock_gettime
#define memfd_make fake_memfd_make
#define fstat fake_fstat
#define mmap fake_mmap
#define munmap fake_munmap
#define socketpair fake_socketpair
#define send fake_send
#define open fake_open
#define openat fake_openat
#define syscall fake_syscall
#define waitid fake_waitid
#define ioctl fake_ioctl
#define abort() walk_fail("a broken invariant of the supervisor")

/* Cells that a walk has come through. */
static uint32_t box_seen[BOX_STATE_COUNT][BOX_EVENT_COUNT];
static uint32_t device_seen[DEVICE_STATE_COUNT][DEVICE_EVENT_COUNT];

static struct box_cell seen_box_table(enum box_state state, enum box_event event)
{
	box_seen[state][event]++;
	return box_table(state, event);
}

static struct device_cell seen_device_table(enum device_state state, enum device_event event)
{
	device_seen[state][event]++;
	return device_table(state, event);
}

#define box_table seen_box_table
#define device_table seen_device_table
#include "core/box/ask.c"
#include "core/box/birth.c"
#include "core/box/box.c"
#include "core/box/budget.c"
#include "core/box/device.c"
#include "core/box/epoch.c"
#include "core/box/errand.c"
#include "core/box/generation.c"
#include "core/box/poison.c"
#include "core/box/quarantine.c"
#include "core/box/supervisor.c"

#undef box_table
#undef device_table
#undef abort
#undef close

/* ---- the rest of core/box, as the kernel has it ---- */

struct loop {
	char unused;
};

void log_write(enum log_level level, const char *origin, const char *fmt, ...)
{
	va_list ap;

	(void)origin;
	if (!walk.loud)
		return;
	va_start(ap, fmt);
	fprintf(stderr, "    %d ", level);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static struct box_report said; /* what channel_receive() finds, and how it ends */
static int said_ret;

int loop_create(struct loop **out)
{
	(void)out;
	return -ENOSYS;
}

void loop_destroy(struct loop *loop)
{
	(void)loop;
}

void loop_run(struct loop *loop)
{
	(void)loop;
}

void loop_stop(struct loop *loop)
{
	(void)loop;
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events)
{
	(void)loop, (void)events;
	fd_owner(fd);
	WALK_CHECK(source->fd < 0);
	if (fault())
		return -ENOSPC;
	source->fd = fd;
	return 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	(void)loop;
	if (source->fd >= 0)
		fd_owner(source->fd); /* it must still be open */
	source->fd = -1;
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	(void)loop;
	timer->at_ns = at_ns;
	timer->armed = true;
}

void loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	(void)loop;
	timer->armed = false;
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	fn(arg);
}

/* At once.  (Not inlined, or gcc sees a free() of what it takes for a caller's variable.) */
__attribute__((noinline)) void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	fn(arg);
}

int spawner_request(const struct spawner *spawner, uint64_t cookie, enum dev_kind kind,
		    const int *fds, uint32_t n)
{
	(void)kind, (void)fds, (void)n;
	if (spawner->pid == 0)
		return -EPIPE;
	if (fault())
		return -EAGAIN;
	proc_of(cookie)->asked = true;
	return 0;
}

int spawner_reply(const struct spawner *spawner, struct spawn_reply *reply)
{
	(void)reply;
	return spawner->pid == 0 ? -EPIPE : 0;
}

int channel_receive(struct box *box, struct box_report *report)
{
	fd_owner(box->control);
	*report = said;
	return said_ret;
}

/* A box that was sent something runs again; one that is dead, or never reads, takes nothing. */
int channel_send(struct box *box, const void *message, size_t bytes)
{
	const struct ctl_header *header = message;
	struct proc *p = proc_of(box->cookie);

	WALK_CHECK(bytes >= sizeof(*header));
	fd_owner(box->control);
	if (header->type == CTL_ACTIVATE) {
		WALK_CHECK(owners(box->gen->number) == 0 && !p->active);
		for (uint32_t i = 0; i < WALK_PROCS; i++) /* or a signal would let it go on */
			WALK_CHECK(!kernel.procs[i].alive || !kernel.procs[i].trapped ||
				   kernel.procs[i].halted || kernel.procs[i].killed);
	}
	if (!p->alive || pick_rarely(2, 8) == 1)
		return -EPROTO;
	p->still = p->halted;
	p->active = p->active || header->type == CTL_ACTIVATE;
	return 0;
}

bool fence_parked(const struct box *box)
{
	struct proc *p = proc_of(box->cookie);

	if (p->alive && pick(2) == 0)
		p->still = true;
	return p->alive && p->still;
}

bool fence_held(const struct box *box, uint64_t id)
{
	struct proc *p = proc_of(box->cookie);

	(void)id;
	if (p->trapped && pick(2) == 0)
		p->still = true;
	return p->trapped && p->still;
}

void fence_cause(struct box *box)
{
	box->cause_known = true;
}

void fence_dead(struct box *box)
{
	box->fence = FENCE_DEAD;
	box->killed_by = pick(2) == 0 ? SIGKILL : SIGSEGV;
}

void fence_stop(struct box *box)
{
	struct proc *p = proc_of(box->cookie);

	/* Somebody else traces it. */
	if (fault())
		p->killed = true;
	else
		p->halted = true;
}

enum fence fence_stopped(struct box *box)
{
	struct proc *p = proc_of(box->cookie);

	if (p->alive && !p->halted && !p->killed)
		return FENCE_NONE;
	if (p->alive && pick(2) == 1)
		return FENCE_NONE;
	p->still = true;
	return p->alive && !p->killed ? FENCE_STOPPED : FENCE_EXITING;
}

void patrol_look(const struct box *box, struct suspect_sample *sample)
{
	(void)box;
	*sample = (struct suspect_sample){ .place = SUSPECT_RUNNING };
}

bool patrol_is_held(const struct box *box)
{
	(void)box;
	return false;
}

void patrol_begin(struct device *dev)
{
	(void)dev;
}

void patrol_end(struct device *dev)
{
	(void)dev;
}

int verify_prepare(struct supervisor *sup)
{
	(void)sup;
	return 0;
}

int verify_box(const struct box *box, const char **what)
{
	*what = "made up";
	return proc_of(box->cookie)->alive && !fault() ? 0 : -EPERM;
}

int launch_prepare(struct device *dev)
{
	dev->launch = calloc(dev->spec.lanes, sizeof(*dev->launch));
	for (uint32_t i = 0; i < dev->spec.lanes; i++)
		dev->launch[i] = (struct launch_record){ .fd_held = 5, .seal = SEAL_WANT_LISTENER };
	return 0;
}

void launch_fill(const struct box *box, struct launch_record *launch)
{
	kernel.cookie = box->cookie;
	proc_of(box->cookie)->generation = box->gen->number;
	*launch = box->gen->dev->launch[box->lane];
}

uint32_t launch_core_limit(void)
{
	return 1;
}

uint32_t launch_fds(const struct box *box, const struct launch_record *launch, int *fds)
{
	(void)launch;
	fds[0] = box->child_socket;
	return 1;
}

int ring_resume(struct device *dev, uint32_t *queue)
{
	*queue = 0;
	WALK_CHECK(owners(0) == 0); /* read while nobody can write */
	return !dev->fresh && pick_rarely(2, 8) == 1 ? -EPROTO : 0;
}

#endif
