/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The socket is non-blocking and each read and write waits for it with a
 * deadline: a back-end that neither answers nor hangs up must not hang a test.  Messages by kind are
 * made of the raw ones, so what a hostile test sends goes the same way as what is right.  The
 * messages by name are in vhostclient_msg.c, what QEMU does with them in vhostclient_start.c.
 */
#include "tests/rig/vhostclient.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cc.h"

#define FDS_SENT_MAX 253 /* SCM_MAX_FD */
#define CONNECT_AGAIN_US 500

void vhostclient_init(struct vhostclient *c)
{
	memset(c, 0, sizeof(*c));
	c->timeout_ns = VHOSTCLIENT_TIMEOUT_NS;
	c->wanted_protocol = VHOST_USER_PROTOCOL_BIT(MQ) | VHOST_USER_PROTOCOL_BIT(REPLY_ACK) |
			     VHOST_USER_PROTOCOL_BIT(BACKEND_REQ) |
			     VHOST_USER_PROTOCOL_BIT(CONFIG) |
			     VHOST_USER_PROTOCOL_BIT(INFLIGHT_SHMFD) |
			     VHOST_USER_PROTOCOL_BIT(CONFIGURE_MEM_SLOTS);
	c->sock = -1;
	c->sock_backend = -1;
	c->fd_inflight = -1;
	c->fd_masked = -1;
}

static void hang_up(struct vhostclient *c)
{
	cc_close(&c->sock);
	cc_close(&c->sock_backend);
	cc_close(&c->fd_masked);
	c->negotiated = false;
	c->region_count = 0;
}

void vhostclient_drop(struct vhostclient *c)
{
	hang_up(c);
	for (uint32_t i = 0; i < c->ring_count; i++)
		c->bases[i] = ringdrv_peek_used_idx(&c->rings[i]);
	c->bases_known = c->bases_known || c->ring_count != 0;
	c->ring_count = 0;
}

void vhostclient_free(struct vhostclient *c)
{
	hang_up(c);
	cc_close(&c->fd_inflight);
	c->ring_count = 0;
	c->bases_known = false;
}

/* ---- connecting ---- */

/* Connecting blocks while the listener's queue is full: no longer than this. */
static int limit_connect(int sock, uint64_t ns)
{
	const uint64_t us = ns / NS_PER_US + 1; /* 0 would be: no limit */
	const struct timeval tv = { .tv_sec = (time_t)(us / 1000000u),
				    .tv_usec = (suseconds_t)(us % 1000000u) };

	return setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0 ? 0 : -errno;
}

static int connect_once(const struct sockaddr_un *address, uint64_t ns, int *sock)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret = fd < 0 ? -errno : limit_connect(fd, ns);

	if (ret == 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
		ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (ret == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		ret = -errno;
	if (ret == 0)
		*sock = cc_take_fd(&fd);
	return ret;
}

int vhostclient_connect(struct vhostclient *c, const char *path, uint64_t timeout_ns)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const uint64_t end = now_ns() + timeout_ns;

	if (c->sock >= 0)
		return -EISCONN;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	for (;;) {
		const uint64_t now = now_ns();
		const int ret =
			now < end ? connect_once(&address, end - now, &c->sock) : -ETIMEDOUT;

		if (ret != -ENOENT && ret != -ECONNREFUSED)
			return ret;
		usleep(CONNECT_AGAIN_US);
	}
}

/* ---- bytes ---- */

static int wait_for(int sock, short events, uint64_t end)
{
	struct pollfd poller = { .fd = sock, .events = events };
	const uint64_t now = now_ns(), left = now < end ? end - now : 0;
	const struct timespec ts = { .tv_sec = (time_t)(left / NS_PER_S),
				     .tv_nsec = (long)(left % NS_PER_S) };
	const int n = ppoll(&poller, 1, &ts, NULL);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n == 0 ? -ETIMEDOUT : 0;
}

static int gone(int error)
{
	return error == EPIPE ? -ECONNRESET : -error;
}

static void put_fds(struct msghdr *message, const int *fds, uint32_t fd_count)
{
	struct cmsghdr *control = message->msg_control;

	message->msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	memset(control, 0, message->msg_controllen);
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
	memcpy(CMSG_DATA(control), fds, fd_count * sizeof(int));
}

/* One write of a part; the descriptors go with its first byte, whatever else of it goes. */
static ssize_t send_some(int sock, const void *bytes, size_t count, const int *fds,
			 uint32_t fd_count)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))];
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = count };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds != NULL && fd_count != 0) {
		message.msg_control = control;
		put_fds(&message, fds, fd_count);
	}
	return sendmsg(sock, &message, MSG_NOSIGNAL);
}

static int send_bytes(int sock, const uint8_t *bytes, size_t count, const int *fds,
		      uint32_t fd_count, uint64_t end)
{
	int ret = 0;

	while (count > 0 && ret == 0) {
		const ssize_t n = send_some(sock, bytes, count, fds, fd_count);

		if (n < 0) {
			ret = errno == EAGAIN ? wait_for(sock, POLLOUT, end) : gone(errno);
			continue;
		}
		bytes += n;
		count -= (size_t)n;
		fd_count = 0;
	}
	return ret;
}

/* Those of one read are added to fds, as long as there is room; the rest is closed. */
static int take_fds(struct msghdr *message, int *fds, uint32_t room, uint32_t *count)
{
	int ret = message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *m = CMSG_FIRSTHDR(message); m != NULL; m = CMSG_NXTHDR(message, m)) {
		if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + CMSG_LEN(0) < m->cmsg_len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(m) + at, sizeof(fd));
			if (*count < room) {
				fds[(*count)++] = fd;
			} else {
				close(fd);
				ret = -EPROTO;
			}
		}
	}
	return ret;
}

/* n > 0: bytes read. */
static ssize_t receive_some(int sock, void *bytes, size_t count, int *fds, uint32_t room,
			    uint32_t *fd_count)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))];
	struct iovec iov = { .iov_base = bytes, .iov_len = count };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	const ssize_t n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
	int ret;

	if (n < 0)
		return gone(errno);
	ret = take_fds(&message, fds, room, fd_count);
	if (ret != 0)
		return ret;
	return n == 0 ? -ECONNRESET : n;
}

static int receive_bytes(int sock, void *bytes, size_t count, int *fds, uint32_t room,
			 uint32_t *fd_count, uint64_t end)
{
	uint8_t *at = bytes;

	while (count > 0) {
		const ssize_t n = receive_some(sock, at, count, fds, room, fd_count);
		int ret = n < 0 ? (int)n : 0;

		if (n == -EAGAIN)
			ret = wait_for(sock, POLLIN, end);
		if (ret != 0)
			return ret;
		if (n > 0) {
			at += n;
			count -= (size_t)n;
		}
	}
	return 0;
}

/* ---- messages ---- */

void vhostclient_fill(struct vhostclient_message *m, uint32_t request, const void *payload,
		      size_t bytes)
{
	CHECK(bytes <= sizeof(m->payload));
	m->header = (struct vhost_user_header){ .request = request,
						.flags = VHOST_USER_VERSION,
						.size = (uint32_t)bytes };
	if (bytes != 0)
		memcpy(m->payload, payload, bytes);
}

int vhostclient_send_part(struct vhostclient *c, const struct vhostclient_message *m, size_t from,
			  size_t to, const int *fds, uint32_t fd_count)
{
	if (from >= to || to > sizeof(m->header) + sizeof(m->payload) || fd_count > FDS_SENT_MAX)
		return -EMSGSIZE;
	return send_bytes(c->sock, (const uint8_t *)m + from, to - from, fds, fd_count,
			  now_ns() + c->timeout_ns);
}

int vhostclient_send(struct vhostclient *c, const struct vhostclient_message *m, const int *fds,
		     uint32_t fd_count)
{
	return vhostclient_send_part(c, m, 0, sizeof(m->header) + m->header.size, fds, fd_count);
}

static int receive(int sock, struct vhostclient_message *m, int *fds, uint32_t room,
		   uint32_t *fd_count, uint64_t end)
{
	int ret = receive_bytes(sock, &m->header, sizeof(m->header), fds, room, fd_count, end);

	if (ret == 0 && m->header.size > sizeof(m->payload))
		ret = -EPROTO;
	if (ret == 0)
		ret = receive_bytes(sock, m->payload, m->header.size, fds, room, fd_count, end);
	return ret;
}

static int receive_on(int sock, uint64_t timeout_ns, struct vhostclient_message *m, int *fds,
		      uint32_t *fd_count)
{
	const uint32_t room = fds == NULL ? 0 : *fd_count;
	uint32_t got = 0;
	const int ret = receive(sock, m, fds, room, &got, now_ns() + timeout_ns);

	if (fds == NULL)
		return ret;
	while (ret != 0 && got > 0)
		close(fds[--got]);
	*fd_count = got;
	return ret;
}

int vhostclient_receive(struct vhostclient *c, struct vhostclient_message *m, int *fds,
			uint32_t *fd_count)
{
	return receive_on(c->sock, c->timeout_ns, m, fds, fd_count);
}

int vhostclient_wait_closed(struct vhostclient *c, uint64_t timeout_ns)
{
	const uint64_t end = now_ns() + timeout_ns;
	uint8_t byte;
	int ret = 0;

	while (ret == 0) {
		const ssize_t n = recv(c->sock, &byte, sizeof(byte), MSG_PEEK);

		if (n >= 0)
			return n == 0 ? 0 : -EBUSY;
		if (errno == ECONNRESET)
			return 0;
		ret = errno == EAGAIN ? wait_for(c->sock, POLLIN, end) : -errno;
	}
	return ret;
}

/* ---- the back-end's channel ---- */

int vhostclient_backend_receive(struct vhostclient *c, struct vhostclient_message *m)
{
	return receive_on(c->sock_backend, c->timeout_ns, m, NULL, NULL);
}

int vhostclient_backend_answer(struct vhostclient *c, const struct vhostclient_message *m,
			       uint64_t value)
{
	struct vhostclient_message answer;

	if (!(m->header.flags & VHOST_USER_NEED_REPLY))
		return 0;
	vhostclient_fill(&answer, m->header.request, &value, sizeof(value));
	answer.header.flags |= VHOST_USER_REPLY;
	return send_bytes(c->sock_backend, (const uint8_t *)&answer,
			  sizeof(answer.header) + sizeof(value), NULL, 0, now_ns() + c->timeout_ns);
}
