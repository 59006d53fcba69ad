/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any front-end of vhost-user: messages, pieces of messages and descriptors over a real socket, into the parser
 * and what a front-end wants.  No device: where the broker would put in force what is wanted, it is checked
 * instead that it could be:
 *
 *   regions are whole pages in order, and overlap neither by guest address nor by the front-end's
 *   each ring that is to be served and can be placed lies in one region, aligned
 *   features are of those that were offered, counts within their bounds
 *   every message is the bytes that were sent, in their order; every answer is whole, and one of that request
 *   a descriptor that is open belongs to somebody, after each step; and none is left at the end
 *
 * Input: steps, of tests/fuzz/vhost_steps.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/vhost/frontend.h"
#include "core/vhost/guard.h"
#include "core/vhost/session.h"
#include "devmodel/abi/virtio.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/vhost_steps.h"

#define STEPS_MAX 256
#define FDS_SEEN 512 /* a descriptor that leaks has one of the lowest numbers */

static const struct vhost_offer offer = {
	.features = VHOST_STEP_FEATURES,
	.queues = VHOST_STEP_RINGS,
	.config_bytes = 60,
};
static struct frontend fe;
static struct session session;
static struct frontend_saved saved;
static bool has_saved;
static int peer = -1;
static uint32_t fds_before;
/* What was sent and has not come out as a message yet. */
static uint8_t stream[1 << 16];
static size_t stream_bytes;

/* ---- descriptors ---- */

/* In one call, which does not see those that are only a place (O_PATH). */
static uint32_t count_open(void)
{
	struct pollfd polls[FDS_SEEN];
	uint32_t open = 0;

	for (int i = 0; i < FDS_SEEN; i++)
		polls[i] = (struct pollfd){ .fd = i };
	FUZZ_CHECK(poll(polls, FDS_SEEN, 0) >= 0);
	for (int i = 0; i < FDS_SEEN; i++)
		open += (polls[i].revents & POLLNVAL) == 0;
	return open;
}

static uint32_t is_held(int fd)
{
	if (fd < 0)
		return 0;
	FUZZ_CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	return (fcntl(fd, F_GETFL) & O_PATH) == 0;
}

static bool is_listed(const struct vhost_regions *table, const struct vhost_region *region)
{
	for (uint32_t i = 0; i < table->count; i++) {
		if (table->regions[i] == region)
			return true;
	}
	return false;
}

static uint32_t count_held(void)
{
	uint32_t held =
		is_held(session.fd) + is_held(peer) + is_held(fe.log.fd) + is_held(fe.channel);

	for (uint32_t i = 0; i < fe.regions.count; i++)
		held += is_held(fe.regions.regions[i]->fd);
	for (uint32_t i = 0; has_saved && i < saved.regions.count; i++)
		held += !is_listed(&fe.regions, saved.regions.regions[i]);
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		held += is_held(fe.rings[i].kick.fd) + is_held(fe.rings[i].call.fd) +
			is_held(fe.rings[i].err.fd);
	for (uint32_t i = 0; i < session.in.fd_count; i++)
		held += is_held(session.in.fds[i]);
	return held;
}

/* ---- invariants ---- */

static void check_regions(void)
{
	const struct vhost_regions *t = &fe.regions;

	FUZZ_CHECK(t->count <= VHOST_REGIONS_MAX);
	for (uint32_t i = 0; i < t->count; i++) {
		const struct vhost_region *r = t->regions[i];

		FUZZ_CHECK(r->bytes != 0 && r->references > 0 && r->map != NULL);
		FUZZ_CHECK((r->gpa | r->bytes | r->user | r->offset) % 4096 == 0);
		FUZZ_CHECK(r->gpa + r->bytes > r->gpa && r->user + r->bytes > r->user);
		FUZZ_CHECK(i == 0 || t->regions[i - 1]->gpa + t->regions[i - 1]->bytes <= r->gpa);
		for (uint32_t k = 0; k < i; k++)
			FUZZ_CHECK(t->regions[k]->user + t->regions[k]->bytes <= r->user ||
				   r->user + r->bytes <= t->regions[k]->user);
	}
}

static bool lies_within(uint64_t gpa, uint64_t bytes)
{
	for (uint32_t i = 0; i < fe.regions.count; i++) {
		const struct vhost_region *r = fe.regions.regions[i];

		if (gpa >= r->gpa && gpa + bytes <= r->gpa + r->bytes)
			return true;
	}
	return false;
}

static void check_rings(void)
{
	struct ctl_queue q;

	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++) {
		if (!frontend_serves(&fe, i) || frontend_place(&fe, i, &q) != 0)
			continue;
		FUZZ_CHECK(i < offer.queues && fe.rings[i].kick.fd >= 0);
		FUZZ_CHECK(q.size != 0 && q.size <= VIRTQ_SIZE_MAX && (q.size & (q.size - 1)) == 0);
		FUZZ_CHECK(lies_within(q.desc_gpa, virtq_desc_bytes(q.size)));
		FUZZ_CHECK(lies_within(q.avail_gpa, virtq_avail_bytes(q.size)));
		FUZZ_CHECK(lies_within(q.used_gpa, virtq_used_bytes(q.size)));
		FUZZ_CHECK(q.desc_gpa % 16 == 0 && q.avail_gpa % 2 == 0 && q.used_gpa % 4 == 0);
	}
}

static void check(void)
{
	struct box_memory memory;

	FUZZ_CHECK((frontend_features(&fe) & ~offer.features) == 0);
	FUZZ_CHECK((fe.protocol & ~VHOST_PROTOCOL_OFFER) == 0);
	FUZZ_CHECK(!frontend_logs(&fe) || fe.log.bytes != 0);
	check_regions();
	check_rings();
	regions_memory(&fe.regions, 1, &memory);
	FUZZ_CHECK(memory.map.count == fe.regions.count);
	FUZZ_CHECK(count_open() == fds_before + count_held());
}

/* ---- the back-end, without a device ---- */

static void hang_up(void)
{
	session_close(&session);
	session_init(&session);
	cc_close(&peer);
	frontend_clear(&fe);
	if (has_saved)
		frontend_forget(&saved);
	has_saved = false;
	stream_bytes = 0;
}

static void take_call(void)
{
	int pair[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	peer = pair[0];
	session_open(&session, pair[1]);
}

/* What the front-end hears: one whole answer. */
static void hear(uint32_t request, int fd)
{
	struct {
		struct vhost_user_header header;
		uint8_t payload[VHOST_USER_PAYLOAD_MAX];
	} m;
	const ssize_t n = recv(peer, &m, sizeof(m), 0);

	FUZZ_CHECK(n >= (ssize_t)sizeof(m.header));
	FUZZ_CHECK((size_t)n == sizeof(m.header) + m.header.size);
	FUZZ_CHECK(m.header.request == request && m.header.flags == 5);
	FUZZ_CHECK(fd < 0 || request == VHOST_USER_GET_INFLIGHT_FD);
}

static void say(const struct vhost_message *out, int fd)
{
	FUZZ_CHECK(session_send(&session, out, fd) == 0);
	hear(out->header.request, fd);
}

static void acknowledge(const struct vhost_message *m, bool well)
{
	struct vhost_message out;

	if (!message_wants_ack(m, fe.protocol))
		return;
	message_answer(m, sizeof(uint64_t), &out);
	out.payload.u64 = !well;
	say(&out, -1);
}

static void run_errand(const struct vhost_message *m, struct frontend_result *r)
{
	FUZZ_CHECK(message_has_answer(m->header.request) || r->errand == FRONTEND_NOTHING);
	if (r->errand == FRONTEND_BASE)
		r->out.payload.state.num = frontend_base(&fe, r->index);
	if (message_has_answer(m->header.request))
		say(&r->out, r->out_fd);
	cc_close(&r->out_fd);
}

/* 0, or -errno: the connection ends. */
static int handle(struct vhost_message *m)
{
	const char *why = NULL;
	struct frontend_result r;
	int ret = message_check(m, fe.protocol, &why);

	FUZZ_CHECK(ret == 0 || why != NULL);
	if (ret == -EPROTO)
		return ret;
	if (ret == 0) {
		ret = frontend_take(&fe, m, &r);
		FUZZ_CHECK(ret == 0 || r.why[0] != '\0');
		FUZZ_CHECK(ret == 0 || r.out_fd < 0);
	}
	if (ret != 0 && !message_wants_ack(m, fe.protocol))
		return ret;
	if (ret == 0)
		run_errand(m, &r);
	for (uint32_t i = 0; i < offer.queues; i++)
		fe.rings[i].served |= frontend_serves(&fe, i);
	acknowledge(m, ret == 0);
	return 0;
}

/* It is what was sent first of what is there. */
static void compare(const struct vhost_message *m)
{
	const size_t bytes = sizeof(m->header) + m->header.size;
	static const uint8_t zeroes[VHOST_USER_PAYLOAD_MAX];

	FUZZ_CHECK(stream_bytes >= bytes && m->fd_count <= VHOST_USER_FDS_MAX);
	FUZZ_CHECK(memcmp(stream, &m->header, sizeof(m->header)) == 0);
	FUZZ_CHECK(memcmp(stream + sizeof(m->header), m->payload.bytes, m->header.size) == 0);
	FUZZ_CHECK(memcmp(m->payload.bytes + m->header.size, zeroes,
			  sizeof(zeroes) - m->header.size) == 0);
	stream_bytes -= bytes;
	memmove(stream, stream + bytes, stream_bytes);
}

static void pump(void)
{
	const char *why = NULL;
	int ret;

	do {
		ret = session_receive(&session, &why);
		FUZZ_CHECK(ret != -EPROTO || why != NULL);
		if (ret > 0) {
			compare(&session.in);
			ret = handle(&session.in) == 0 ? 1 : -EPROTO;
		}
	} while (ret > 0);
	if (ret < 0) {
		hang_up();
		take_call();
	}
}

/* ---- steps ---- */

static void send_part(const struct vhost_step_message *m, size_t from, size_t to, const int *fds,
		      uint32_t count)
{
	_Alignas(struct cmsghdr)
		uint8_t control[CMSG_SPACE(VHOST_STEP_FDS_MAX * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (void *)(m->bytes + from), .iov_len = to - from };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (struct cmsghdr *)control;
	ssize_t n;

	if (from == to || stream_bytes + (to - from) > sizeof(stream))
		return;
	if (count != 0) {
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(count * sizeof(int));
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(count * sizeof(int)),
				       .cmsg_level = SOL_SOCKET,
				       .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	n = sendmsg(peer, &h, MSG_NOSIGNAL);
	if (n <= 0) /* it is full: nothing of it went */
		return;
	FUZZ_CHECK((size_t)n == to - from);
	memcpy(stream + stream_bytes, m->bytes + from, (size_t)n);
	stream_bytes += (size_t)n;
}

static void play_message(const struct vhost_step *s, const struct vhost_step_message *m)
{
	const size_t cut = m->count == 0 ? 0 : s->cut % m->count;
	const bool late = (s->how & VHOST_STEP_FDS_LATE) != 0;
	const bool twice = (s->how & VHOST_STEP_FDS_TWICE) != 0;

	if ((s->how & VHOST_STEP_CUT) == 0) {
		send_part(m, 0, m->count, m->fds, m->fd_count);
	} else {
		send_part(m, 0, cut, m->fds, late ? 0 : m->fd_count);
		if ((s->how & VHOST_STEP_SILENCE) != 0)
			pump();
		send_part(m, cut, m->count, m->fds, late || twice ? m->fd_count : 0);
	}
	if ((s->how & VHOST_STEP_HELD) == 0)
		pump();
}

/* As the broker does with memory that cannot be put in force. */
static void play_undo(bool undo)
{
	if (!has_saved) {
		frontend_save(&fe, &saved);
	} else if (undo) {
		frontend_undo(&fe, &saved);
		frontend_forget(&saved);
	} else {
		frontend_forget(&saved);
	}
	has_saved = !has_saved;
}

static void play(const struct vhost_step *s, const struct vhost_step_message *m)
{
	switch (s->kind) {
	case VHOST_STEP_MESSAGE:
		play_message(s, m);
		break;
	case VHOST_STEP_TRUNCATE:
		vhost_steps_truncate(s);
		break;
	case VHOST_STEP_UNDO:
		play_undo(s->a & 1);
		break;
	case VHOST_STEP_BASE:
		frontend_base(&fe, s->a % offer.queues);
		break;
	case VHOST_STEP_HANG_UP:
		hang_up();
		take_call();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vhost_step_message message;
	struct vhost_step_input in = { data, size };
	struct vhost_step step;
	static bool begun;

	if (!begun) {
		FUZZ_CHECK(guard_begin() == 0);
		vhost_steps_setup();
		frontend_init(&fe, &offer);
		session_init(&session);
		begun = true;
	}
	vhost_steps_begin();
	fds_before = count_open();
	take_call();
	for (uint32_t i = 0; i < STEPS_MAX && vhost_step_next(&in, &step, &message); i++) {
		play(&step, &message);
		check();
	}
	pump();
	check();
	hang_up();
	FUZZ_CHECK(count_open() == fds_before);
	return 0;
}
