/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Messages change what is wanted, and what is wanted is put in force when somebody waits for
 * an answer, or when all that came was read: so a front-end that says all about its rings at once causes one
 * handoff, and one that adds regions without waiting in between causes one for all of them.
 *
 * What cannot be put in force is undone where it can be (memory) and told (REPLY_ACK); else the front-end would
 * believe what is not so, and the connection ends.
 */
#include "core/vhost/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "core/bus/virtio_kinds.h"
#include "core/cc.h"
#include "core/cond.h"
#include "core/confine.h"
#include "core/log.h"
#include "core/ration.h"
#include "core/vhost/transfer.h"

#define TURN_MESSAGES 64 /* of one front-end before others who wait are looked at */
#define ORPHAN_MS 1000 /* how often it is tried to take from a device what nobody gives any more */

/* What a hostile front-end can have written into the log by coming again and again. */
static const struct ration log_ration = { .burst = 10, .period_ns = NS_PER_S };

bool broker_may_log(struct broker *b)
{
	uint64_t due = b->log_due_ns;
	const uint64_t now = now_ns();

	if (ration_take(&log_ration, &due, now) > now)
		return false;
	b->log_due_ns = due;
	return true;
}

/* ---- putting in force ---- */

static void publish(struct broker *b)
{
	struct front_end *s = &b->status;
	const struct frontend *fe = &b->fe;

	pthread_mutex_lock(&b->lock);
	s->connected = b->session.fd >= 0;
	s->regions = fe->regions.count;
	s->rings_started = 0;
	s->memory_bytes = 0;
	for (uint32_t i = 0; i < fe->regions.count; i++)
		s->memory_bytes += fe->regions.regions[i]->bytes;
	for (uint32_t i = 0; i < b->offer.queues; i++)
		s->rings_started += frontend_serves(fe, i);
	s->handoffs = b->svc.handoffs;
	s->features = fe->features;
	s->protocol_features = fe->protocol;
	pthread_mutex_unlock(&b->lock);
}

static void count(struct broker *b, uint64_t *counter)
{
	pthread_mutex_lock(&b->lock);
	++*counter;
	pthread_mutex_unlock(&b->lock);
}

static int settle(struct broker *b, const char **why)
{
	const int ret = service_settle(&b->svc, &b->fe, why);

	for (uint32_t i = 0; ret == 0 && i < b->offer.queues; i++)
		b->fe.rings[i].served |= frontend_serves(&b->fe, i);
	return ret;
}

static int acknowledge(struct broker *b, const struct vhost_user_header *header, bool well)
{
	const struct vhost_message asked = { .header = *header };
	struct vhost_message out;

	message_answer(&asked, sizeof(uint64_t), &out);
	out.payload.u64 = well ? 0 : 1;
	return session_send(&b->session, &out, -1);
}

/* Without the new table of memory, if that can be told to somebody. */
static int settle_without(struct broker *b, int error, const char **why)
{
	const char *reason = *why;
	int ret;

	if (b->owed_count == 0)
		return error;
	frontend_undo(&b->fe, &b->before);
	ret = settle(b, why);
	if (ret == 0 && broker_may_log(b))
		log_warn("%s: vhost-user: its memory stays as it was: %s: %s", b->id, reason,
			 strerror(-error));
	return ret;
}

/* Everything that came so far; who waits for it is answered.  0, or -errno with *why: the connection is at its
 * end. */
static int flush(struct broker *b, const char **why)
{
	/* Whose image another serves is not helped by less memory. */
	int ret = b->unsettled ? service_claim(&b->svc, &b->fe, why) : 0;
	bool well = true;

	if (ret == 0 && b->unsettled) {
		ret = settle(b, why);
		well = ret == 0;
		if (!well && b->saved)
			ret = settle_without(b, ret, why);
	}
	if (b->saved)
		frontend_forget(&b->before);
	b->saved = b->unsettled = false;
	publish(b); /* whoever is answered may ask */
	for (uint32_t i = 0; i < b->owed_count && ret == 0; i++) {
		*why = "it does not read its answers";
		ret = acknowledge(b, &b->owed[i], well);
	}
	b->owed_count = 0;
	return ret;
}

/* ---- messages ---- */

static int errand(struct broker *b, struct vhost_message *m, struct frontend_result *r)
{
	switch (r->errand) {
	case FRONTEND_BASE:
		r->out.payload.state.num = frontend_base(&b->fe, r->index);
		return 0;
	case FRONTEND_TRANSFER:
		return transfer_begin(b, m, &r->out);
	case FRONTEND_CHECK:
		r->out.payload.u64 = transfer_check(b) == 0 ? 0 : 1;
		return 0;
	case FRONTEND_NOTHING:
		break;
	}
	return 0;
}

/* An answer of its own: after all that came before it. */
static int answer(struct broker *b, struct vhost_message *m, struct frontend_result *r,
		  const char **why)
{
	int ret = flush(b, why);

	if (ret == 0)
		ret = errand(b, m, r);
	if (ret == 0) {
		*why = "it does not read its answers";
		ret = session_send(&b->session, &r->out, r->out_fd);
	}
	cc_close(&r->out_fd);
	return ret;
}

/* It was understood and cannot be: told to who waits, in its turn; else the end. */
static int refuse(struct broker *b, const struct vhost_message *m, int error, const char **why)
{
	const char *reason = *why;
	int ret;

	if (!message_wants_ack(m, b->fe.protocol))
		return error;
	if (broker_may_log(b))
		log_warn("%s: vhost-user: %s: refused: %s", b->id, message_name(m->header.request),
			 reason);
	ret = flush(b, why);
	if (ret != 0)
		return ret;
	*why = "it does not read its answers";
	return acknowledge(b, &m->header, false);
}

static int owe(struct broker *b, const struct vhost_message *m, const char **why)
{
	if (!message_wants_ack(m, b->fe.protocol))
		return 0;
	b->owed[b->owed_count++] = m->header;
	return b->owed_count == BROKER_OWED_MAX ? flush(b, why) : 0;
}

static bool changes_memory(uint32_t request)
{
	return request == VHOST_USER_SET_MEM_TABLE || request == VHOST_USER_ADD_MEM_REG ||
	       request == VHOST_USER_REM_MEM_REG;
}

/* What one of these means depends on what is in force, or it may have to be undone. */
static int before_taking(struct broker *b, uint32_t request, const char **why)
{
	if (request == VHOST_USER_GET_VRING_BASE)
		return flush(b, why);
	if (!b->saved && changes_memory(request)) {
		frontend_save(&b->fe, &b->before);
		b->saved = true;
	}
	return 0;
}

static int handle(struct broker *b, struct vhost_message *m, const char **why)
{
	struct frontend_result r;
	int ret = message_check(m, b->fe.protocol, why);

	b->last = m->header.request;
	log_debug("%s: vhost-user: %s", b->id, message_name(b->last));
	if (ret != 0)
		return ret == -EOPNOTSUPP ? refuse(b, m, ret, why) : ret;
	ret = before_taking(b, m->header.request, why);
	if (ret != 0)
		return ret;
	ret = frontend_take(&b->fe, m, &r);
	if (ret != 0) {
		*why = r.why;
		return refuse(b, m, ret, why);
	}
	b->unsettled = true;
	if (changes_memory(m->header.request))
		count(b, &b->status.memory_changes);
	return message_has_answer(m->header.request) ? answer(b, m, &r, why) : owe(b, m, why);
}

/* ---- a front-end's end ---- */

static bool is_ending(const struct broker *b)
{
	return __atomic_load_n(&b->ending, __ATOMIC_ACQUIRE);
}

static void begin_session(struct broker *b, int fd)
{
	session_open(&b->session, fd);
	b->last = 0;
	count(b, &b->status.connections);
	publish(b);
	log_info("%s: vhost-user: a front-end has come", b->id);
}

/* The device is to have nothing of it any more. */
static void release(struct broker *b)
{
	const char *why = "";
	const int ret = service_settle(&b->svc, NULL, &why);

	/* When all ends the processes do, too, and it was told why they had to wait. */
	if (ret != 0 && !b->orphaned && !is_ending(b))
		log_error("%s: vhost-user: its front-end is gone, but it is not at rest: %s: %s",
			  b->id, why, strerror(-ret));
	b->orphaned = ret != 0;
}

static void end_session(struct broker *b, int error, const char *why)
{
	/* What is wrong may be found when all that came was read. */
	const uint32_t request = b->session.in.header.request;

	if (b->session.fd < 0)
		return;
	if (error == -EPIPE)
		log_info("%s: vhost-user: the front-end has gone", b->id);
	else if (error != 0 && broker_may_log(b))
		log_warn("%s: vhost-user: the connection is closed: %s: %s", b->id,
			 message_name(request != 0 ? request : b->last), why);
	transfer_end(b);
	b->owed_count = 0;
	b->unsettled = false;
	if (b->saved)
		frontend_forget(&b->before);
	b->saved = false;
	/* The socket last: who sees it closed may take it that nothing touches its memory. */
	frontend_clear(&b->fe);
	release(b);
	session_close(&b->session);
	publish(b);
}

/* ---- the thread ---- */

static void take_messages(struct broker *b)
{
	const char *why = "";
	int ret = 0;

	for (uint32_t i = 0; i < TURN_MESSAGES && ret >= 0; i++) {
		ret = session_receive(&b->session, &why);
		if (ret == 0)
			break;
		if (ret > 0)
			ret = handle(b, &b->session.in, &why);
	}
	if (ret >= 0)
		ret = flush(b, &why);
	if (ret < 0)
		end_session(b, ret, why);
}

static void take_connection(struct broker *b)
{
	const int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (b->session.fd < 0 && !b->orphaned) {
		begin_session(b, fd);
		return;
	}
	close(fd);
	count(b, &b->status.refused);
	if (broker_may_log(b))
		log_warn("%s: vhost-user: a second front-end was refused", b->id);
}

/* What its front-end sees of it. */
static int describe(struct broker *b, const union dev_config *config, uint32_t queues)
{
	struct virtio_pci_spec view = { .id = b->id };
	const int ret = virtio_kind_describe(b->kind, config, queues, &view);

	if (ret != 0)
		return ret;
	b->offer = (struct vhost_offer){ .features = view.features,
					 .queues = queues,
					 .config_bytes = view.config_bytes };
	memcpy(b->offer.config, view.config, view.config_bytes);
	return 0;
}

static void take_job(struct broker *b)
{
	struct broker_job *job;
	int ret;

	pthread_mutex_lock(&b->lock);
	job = b->job;
	b->job = NULL;
	if (job != NULL)
		job->taken = true;
	pthread_mutex_unlock(&b->lock);
	if (job == NULL)
		return;
	ret = service_configure(&b->svc, b->session.fd >= 0 ? &b->fe : NULL, job->fsize,
				&job->config, &job->why);
	if (ret == 0) {
		CHECK(describe(b, &job->config, b->offer.queues) == 0);
		if (b->fe.channel >= 0 && session_tell_config(b->fe.channel) != 0 &&
		    broker_may_log(b))
			log_warn("%s: vhost-user: it cannot be told that its configuration changed",
				 b->id);
	}
	pthread_mutex_lock(&b->lock);
	job->ret = ret;
	job->done = true;
	pthread_cond_broadcast(&b->done);
	pthread_mutex_unlock(&b->lock);
}

/* The front-end has the eventfd's flags in its hands as well as its count: full and blocking, it would keep us as
 * long as it likes. */
static void tell_error(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	const uint64_t one = 1;

	if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || poll(&pfd, 1, 0) != 1)
		return; /* full: it was told before */
	if (write(fd, &one, sizeof(one)) < 0)
		CHECK(errno == EAGAIN);
}

/* By the only way that a front-end without STATUS can hear of it. */
static void tell_errors(struct broker *b)
{
	if (!service_has_broken(&b->svc))
		return;
	for (uint32_t i = 0; i < b->offer.queues; i++)
		tell_error(b->fe.rings[i].err.fd);
}

static void turn(struct broker *b)
{
	struct pollfd polls[] = { { .fd = b->wake, .events = POLLIN },
				  { .fd = b->listener, .events = POLLIN },
				  { .fd = b->session.fd, .events = POLLIN } };
	uint64_t kicks;

	if (poll(polls, ARRAY_SIZE(polls), b->orphaned ? ORPHAN_MS : -1) < 0) {
		CHECK(errno == EINTR);
		return;
	}
	if (b->orphaned)
		release(b);
	if (polls[0].revents != 0 && read(b->wake, &kicks, sizeof(kicks)) == sizeof(kicks)) {
		take_job(b);
		tell_errors(b);
	}
	if (polls[2].revents != 0)
		take_messages(b);
	if (polls[1].revents != 0)
		take_connection(b);
}

static void *broker_main(void *arg)
{
	struct broker *b = arg;

	confine_thread(CONFINE_FRONTEND);
	while (!is_ending(b))
		turn(b);
	end_session(b, 0, "");
	return NULL;
}

/* ---- life ---- */

int broker_create(struct broker *b, const struct service_spec *spec, int listener, char *why,
		  size_t room)
{
	struct service_spec with = *spec;
	int ret;

	*b = (struct broker){ .kind = spec->device->kind, .listener = listener, .transfer = -1 };
	snprintf(b->id, sizeof(b->id), "%s", spec->device->id);
	pthread_mutex_init(&b->lock, NULL);
	cond_init(&b->done);
	session_init(&b->session);
	service_init(&b->svc, b->id);
	frontend_init(&b->fe, &b->offer);
	b->wake = with.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = b->wake < 0 ? -errno : describe(b, &spec->device->config, spec->device->queues);
	if (ret != 0) {
		snprintf(why, room, "%s: cannot be served: %s", b->id, strerror(-ret));
		supervisor_destroy(with.sup);
	} else {
		ret = service_create(&b->svc, &with, why, room);
	}
	if (ret != 0)
		broker_destroy(b);
	return ret;
}

int broker_start(struct broker *b)
{
	const int ret = -pthread_create(&b->thread, NULL, broker_main, b);

	b->running = ret == 0;
	return ret;
}

static void wake(const struct broker *b)
{
	const uint64_t one = 1;

	if (write(b->wake, &one, sizeof(one)) < 0)
		CHECK(errno == EAGAIN);
}

void broker_end(struct broker *b)
{
	__atomic_store_n(&b->ending, true, __ATOMIC_RELEASE);
	wake(b);
}

void broker_stop(struct broker *b, uint32_t deadline_ms)
{
	const uint64_t end = now_ns() + deadline_ms * NS_PER_MS;
	struct timespec at;

	if (!b->running)
		return;
	b->running = false;
	broker_end(b);
	at = (struct timespec){ (time_t)(end / NS_PER_S), (long)(end % NS_PER_S) };
	if (pthread_clockjoin_np(b->thread, NULL, CLOCK_MONOTONIC, &at) == 0)
		return;
	log_warn("%s: vhost-user: its requests do not end: they are left to whoever serves next",
		 b->id);
	service_stop(&b->svc);
	pthread_join(b->thread, NULL);
}

void broker_destroy(struct broker *b)
{
	broker_stop(b, 0);
	session_close(&b->session);
	service_destroy(&b->svc);
	frontend_clear(&b->fe);
	cc_close(&b->transfer);
	cc_close(&b->listener);
	cc_close(&b->wake);
	pthread_cond_destroy(&b->done);
	pthread_mutex_destroy(&b->lock);
}

int broker_configure(struct broker *b, uint64_t fsize, const union dev_config *config,
		     const char **why)
{
	struct broker_job job = { .fsize = fsize, .config = *config, .why = "" };
	int ret = -EBUSY;

	pthread_mutex_lock(&b->lock);
	if (b->job == NULL && b->running) {
		/* It is taken back below: nobody returns before it is. */
		b->job = &job; /* cppcheck-suppress autoVariables */
		wake(b);
		while (!job.done && (job.taken || !is_ending(b)))
			cond_wait_until(&b->done, &b->lock, now_ns() + 100 * NS_PER_MS);
		ret = job.done ? job.ret : -EBUSY;
		if (!job.taken)
			b->job = NULL;
	}
	pthread_mutex_unlock(&b->lock);
	*why = job.why;
	return ret;
}

void broker_status(struct broker *b, struct front_end *status)
{
	pthread_mutex_lock(&b->lock);
	*status = b->status;
	pthread_mutex_unlock(&b->lock);
}
