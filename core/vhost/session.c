/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/cc.h"

#define HEADER sizeof(struct vhost_user_header)

void session_init(struct session *s)
{
	memset(s, 0, sizeof(*s));
	s->fd = -1;
}

void session_open(struct session *s, int fd)
{
	session_init(s);
	s->fd = fd;
}

void session_close(struct session *s)
{
	message_close(&s->in);
	cc_close(&s->fd);
}

static int fail(const char **why, const char *text)
{
	*why = text;
	return -EPROTO;
}

/* Descriptors that came, wanted or not: they are ours to close.  More than there is room for in one read are
 * closed by the kernel and said to be missing. */
static void take_fds(struct msghdr *h, struct vhost_message *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + CMSG_LEN(0) < c->cmsg_len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			if (m->fd_count < VHOST_USER_FDS_MAX)
				m->fds[m->fd_count++] = fd;
			else
				close(fd);
		}
	}
}

/* Up to `bytes` more of the message, which lie at `to`.  How many, 0: none now, -EPIPE, -EPROTO. */
static ssize_t receive(struct session *s, void *to, size_t bytes, const char **why)
{
	union {
		char bytes[CMSG_SPACE(VHOST_USER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { to, bytes };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	const uint32_t before = s->in.fd_count;
	struct vhost_message *m = &s->in;
	const ssize_t n = recvmsg(s->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -EPIPE;
	take_fds(&h, m);
	if (h.msg_controllen != 0 && before != 0)
		return fail(why, "descriptors in two parts");
	if ((h.msg_flags & MSG_CTRUNC) != 0)
		return fail(why, "more descriptors than any message has");
	if (m->fd_count != 0 && s->have != 0 && before == 0)
		return fail(why, "descriptors in the middle of a message");
	return n;
}

int session_receive(struct session *s, const char **why)
{
	struct vhost_message *m = &s->in;

	if (s->have >= HEADER && s->have == HEADER + m->header.size) { /* the last, taken */
		message_close(m);
		memset(m, 0, sizeof(*m));
		s->have = 0;
	}
	for (;;) {
		const bool head = s->have < HEADER;
		uint8_t *to = head ? (uint8_t *)&m->header + s->have
				   : m->payload.bytes + (s->have - HEADER);
		const size_t left = (head ? HEADER : HEADER + m->header.size) - s->have;
		ssize_t n;

		n = receive(s, to, left, why);
		if (n <= 0)
			return (int)n;
		s->have += (size_t)n;
		if (s->have == HEADER && message_check_header(&m->header, why) != 0)
			return -EPROTO;
		if (s->have >= HEADER && s->have == HEADER + m->header.size)
			return 1;
	}
}

static int send_all(int fd, const void *bytes, size_t count, int passed)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)bytes, count };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (passed >= 0) {
		h.msg_control = control.bytes;
		h.msg_controllen = sizeof(control.bytes);
		control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
						  .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), &passed, sizeof(int));
	}
	do
		n = sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	/* A part of a message is as good as none: nobody would know where the next begins. */
	if (n == (ssize_t)count)
		return 0;
	return n >= 0 || errno == EAGAIN ? -EAGAIN : -EPIPE;
}

int session_send(const struct session *s, const struct vhost_message *message, int fd)
{
	_Static_assert(offsetof(struct vhost_message, payload) % 8 == 0, "payloads are aligned");
	uint8_t bytes[HEADER + VHOST_USER_PAYLOAD_MAX];

	memcpy(bytes, &message->header, HEADER);
	memcpy(bytes + HEADER, message->payload.bytes, message->header.size);
	return send_all(s->fd, bytes, HEADER + message->header.size, fd);
}

int session_tell_config(int channel)
{
	const struct vhost_user_header header = {
		.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHOST_USER_VERSION,
	};

	return send_all(channel, &header, sizeof(header), -1);
}
