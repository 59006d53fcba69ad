/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll with a sorted list of timers and a mailbox.  Timers are few (one a box) and mostly disarmed,
 * so a list does.  epoll_pwait2 takes nanoseconds; the thread's timer slack is set to the least,
 * since fences look again after 3 us.
 */
#include "core/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "core/cc.h"

#define LOOP_EVENTS 16

struct loop_mail {
	void (*fn)(void *arg);
	void *arg;
	bool posted; /* nobody waits: freed once run */
	bool done;
	struct loop_mail *next;
};

struct loop {
	int epoll;
	int wake;
	struct loop_source wake_source;
	struct loop_timer *timers; /* by at_ns */
	uint64_t firing_ns;        /* up to when timers are due in this round; 0 between */
	struct epoll_event events[LOOP_EVENTS];
	int event_count;      /* events of this round; handled or removed ones have no source */
	pthread_mutex_t lock; /* the mailbox and stop */
	pthread_cond_t delivered;
	struct loop_mail *mail;
	bool stop;
	bool ended;
	bool running;
	pthread_t thread;
};

static void loop_poke(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN: the counter is full, so it is readable all the same. */
	if (write(loop->wake, &one, sizeof(one)) < 0)
		CHECK(errno == EAGAIN);
}

static void loop_deliver(struct loop_source *source, uint32_t events)
{
	struct loop *loop = container_of(source, struct loop, wake_source);
	uint64_t count;

	(void)events;
	if (read(loop->wake, &count, sizeof(count)) < 0)
		CHECK(errno == EAGAIN);
	pthread_mutex_lock(&loop->lock);
	/* Only what is there now: mail that posts mail must not starve descriptors and timers. */
	struct loop_mail *mail = loop->mail;

	loop->mail = NULL;
	while (mail != NULL) {
		struct loop_mail *const next =
			mail->next; /* done, it may be gone with its caller */

		pthread_mutex_unlock(&loop->lock);
		mail->fn(mail->arg);
		pthread_mutex_lock(&loop->lock);
		mail->done = true;
		if (mail->posted)
			free(mail);
		mail = next;
		pthread_cond_broadcast(&loop->delivered);
	}
	pthread_mutex_unlock(&loop->lock);
}

/* Whether somebody waits for an answer. */
static bool loop_awaited(struct loop *loop)
{
	bool awaited = false;

	pthread_mutex_lock(&loop->lock);
	for (const struct loop_mail *mail = loop->mail; mail != NULL; mail = mail->next)
		awaited = awaited || !mail->posted;
	pthread_mutex_unlock(&loop->lock);
	return awaited;
}

int loop_create(struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int ret;

	if (loop == NULL)
		return -ENOMEM;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->delivered, NULL);
	loop->wake_source.ready = loop_deliver;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = loop->epoll < 0 || loop->wake < 0 ? -errno : 0;
	if (ret == 0)
		ret = loop_add(loop, &loop->wake_source, loop->wake, EPOLLIN);
	if (ret != 0) {
		loop_destroy(loop);
		return ret;
	}
	*out = loop;
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (loop == NULL)
		return;
	while (loop->mail != NULL) {
		struct loop_mail *mail = loop->mail;

		CHECK(mail->posted); /* a caller that waits must not outlive the loop */
		loop->mail = mail->next;
		free(mail);
	}
	cc_close(&loop->epoll);
	cc_close(&loop->wake);
	pthread_cond_destroy(&loop->delivered);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
		return -errno;
	source->fd = fd;
	return 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (source->fd < 0)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	source->fd = -1;
	/* An event of this round may still name it. */
	for (int i = 0; i < loop->event_count; i++) {
		if (loop->events[i].data.ptr == source)
			loop->events[i].data.ptr = NULL;
	}
}

void loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer **p = &loop->timers;

	if (!timer->armed)
		return;
	while (*p != timer)
		p = &(*p)->next;
	*p = timer->next;
	timer->armed = false;
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	struct loop_timer **p = &loop->timers;

	loop_disarm(loop, timer);
	if (at_ns <= loop->firing_ns)
		at_ns = loop->firing_ns + 1;
	timer->at_ns = at_ns;
	timer->armed = true;
	while (*p != NULL && (*p)->at_ns <= at_ns)
		p = &(*p)->next;
	timer->next = *p;
	*p = timer;
}

static void loop_fire(struct loop *loop)
{
	/* Only what is due by now: a timer that arms itself again must not starve descriptors. */
	loop->firing_ns = now_ns();
	while (loop->timers != NULL && loop->timers->at_ns <= loop->firing_ns) {
		struct loop_timer *timer = loop->timers;

		loop_disarm(loop, timer);
		timer->fire(timer);
	}
	loop->firing_ns = 0;
}

static void loop_wait(struct loop *loop)
{
	struct timespec ts;
	const struct timespec *timeout = NULL;

	if (loop->timers != NULL) {
		const uint64_t now = now_ns();
		const uint64_t at = loop->timers->at_ns;
		const uint64_t left = at > now ? at - now : 0;

		ts.tv_sec = (time_t)(left / NS_PER_S);
		ts.tv_nsec = (long)(left % NS_PER_S);
		timeout = &ts;
	}
	const int n = epoll_pwait2(loop->epoll, loop->events, LOOP_EVENTS, timeout, NULL);

	CHECK(n >= 0 || errno == EINTR);
	loop->event_count = n > 0 ? n : 0;
	for (int i = 0; i < loop->event_count; i++) {
		struct loop_source *source = loop->events[i].data.ptr;

		if (source != NULL)
			source->ready(source, loop->events[i].events);
	}
	loop->event_count = 0;
}

static bool loop_stopped(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	const bool stop = loop->stop;

	pthread_mutex_unlock(&loop->lock);
	return stop;
}

static void loop_set_running(struct loop *loop, bool running)
{
	pthread_mutex_lock(&loop->lock);
	loop->running = running;
	loop->thread = pthread_self();
	pthread_mutex_unlock(&loop->lock);
}

void loop_run(struct loop *loop)
{
	prctl(PR_SET_TIMERSLACK, 1);
	loop_set_running(loop, true);
	while (!loop_stopped(loop)) {
		loop_wait(loop);
		loop_fire(loop);
	}
	while (loop_awaited(loop))
		loop_deliver(&loop->wake_source, 0);
	loop_set_running(loop, false);
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	loop_poke(loop);
}

/* With the lock held. */
static void loop_mail_add(struct loop *loop, struct loop_mail *mail)
{
	struct loop_mail **p = &loop->mail;

	while (*p != NULL)
		p = &(*p)->next;
	*p = mail;
	loop_poke(loop);
}

void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct loop_mail *mail = calloc(1, sizeof(*mail));

	CHECK(mail != NULL);
	*mail = (struct loop_mail){ .fn = fn, .arg = arg, .posted = true };
	pthread_mutex_lock(&loop->lock);
	loop_mail_add(loop, mail);
	pthread_mutex_unlock(&loop->lock);
}

/* With the lock held. */
static void loop_await(struct loop *loop, struct loop_mail *mail)
{
	loop_mail_add(loop, mail);
	while (!mail->done)
		pthread_cond_wait(&loop->delivered, &loop->lock);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct loop_mail mail = { .fn = fn, .arg = arg };

	pthread_mutex_lock(&loop->lock);
	if (loop->running && pthread_equal(loop->thread, pthread_self())) {
		pthread_mutex_unlock(&loop->lock);
		fn(arg);
		return;
	}
	loop_await(loop, &mail);
	pthread_mutex_unlock(&loop->lock);
}

bool loop_ask(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct loop_mail mail = { .fn = fn, .arg = arg };

	pthread_mutex_lock(&loop->lock);
	const bool ask = !loop->ended;

	if (ask)
		loop_await(loop, &mail);
	pthread_mutex_unlock(&loop->lock);
	return ask;
}

void loop_end(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->ended = true;
	pthread_mutex_unlock(&loop->lock);
	while (loop_awaited(loop))
		loop_deliver(&loop->wake_source, 0);
}
