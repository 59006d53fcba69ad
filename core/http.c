/* SPDX-License-Identifier: Apache-2.0 */
#include "core/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "core/cc.h"

#define ANSWER_MAX (4u << 20)
#define HEAD_MAX 1024
#define READ_STEP 16384
#define LINE_MAX_BYTES 8192
#define REFUSAL_S 10

/* A connected socket or -errno. */
static int connect_to(const char *path, unsigned int wait_s)
{
	const struct timeval wait = { .tv_sec = wait_s };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		return -errno;
	return cc_take_fd(&fd);
}

static int send_all(int fd, const char *data, size_t bytes)
{
	while (bytes > 0) {
		const ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			bytes -= (size_t)n;
		}
	}
	return 0;
}

static int send_request(int fd, const char *version, const char *method, const char *path,
			const char *body)
{
	char head[HEAD_MAX];
	const size_t length = body != NULL ? strlen(body) : 0;
	const int n = snprintf(head, sizeof(head),
			       "%s %s HTTP/%s\r\nHost: localhost\r\nConnection: close\r\n"
			       "Content-Length: %zu\r\n\r\n",
			       method, path, version, length);
	int ret;

	if (n < 0 || (size_t)n >= sizeof(head))
		return -ENAMETOOLONG;
	ret = send_all(fd, head, (size_t)n);
	return ret == 0 && length != 0 ? send_all(fd, body, length) : ret;
}

/* All until the other end closes, terminated. */
static int receive_all(int fd, char **data, size_t *bytes)
{
	size_t room = 0, have = 0;
	cleanup_free char *buffer = NULL;

	for (;;) {
		ssize_t n;

		if (room - have < READ_STEP) {
			char *more = realloc(buffer, room += READ_STEP * 2);

			if (more == NULL)
				return -ENOMEM;
			buffer = more;
		}
		n = recv(fd, buffer + have, READ_STEP, 0);
		if (n == 0)
			break;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		have += (size_t)n;
		if (have > ANSWER_MAX)
			return -EMSGSIZE;
	}
	buffer[have] = '\0';
	*data = buffer;
	*bytes = have;
	buffer = NULL;
	return 0;
}

/* Content-Length of a head that ends with an empty line; 0: not given; -1: not a number. */
static long long declared_length(const char *head)
{
	static const char name[] = "\r\nContent-Length:";
	const char *at = strcasestr(head, name);
	unsigned long long value = 0;

	if (at == NULL)
		return 0;
	return sscanf(at + sizeof(name) - 1, " %9llu", &value) == 1 ? (long long)value : -1;
}

/* The head, which is cut off at its end. Where the body begins, or NULL. */
static char *parse_head(char *data, struct http_answer *answer)
{
	char *end = strstr(data, "\r\n\r\n");
	unsigned int minor;

	if (end == NULL || sscanf(data, "HTTP/1.%1u %3u", &minor, &answer->status) != 2)
		return NULL;
	*end = '\0';
	return end + 4;
}

static int parse(char *data, size_t bytes, struct http_answer *answer)
{
	const char *body = parse_head(data, answer);

	if (body == NULL)
		return -EPROTO;
	answer->bytes = bytes - (size_t)(body - data);
	if (declared_length(data) != (long long)answer->bytes)
		return -EPROTO; /* cut short, or in a form that we did not ask for */
	memmove(data, body, answer->bytes + 1);
	answer->body = data;
	return 0;
}

int http_ask(const char *socket_path, const char *method, const char *path, const char *body,
	     unsigned int wait_s, struct http_answer *answer)
{
	cleanup_fd int fd = connect_to(socket_path, wait_s);
	char *data = NULL;
	size_t bytes = 0;
	int ret;

	*answer = (struct http_answer){ 0 };
	if (fd < 0)
		return fd;
	ret = send_request(fd, "1.1", method, path, body);
	if (ret == 0)
		ret = receive_all(fd, &data, &bytes);
	if (ret == 0)
		ret = parse(data, bytes, answer);
	if (ret != 0)
		free(data);
	return ret;
}

/* ---- lines ---- */

struct lines {
	bool (*fn)(void *ctx, const char *line);
	void *ctx;
	int fd;
	size_t bytes;
	char data[LINE_MAX_BYTES];
};

/* More of what comes: 1; 0: the other end closed; -errno. */
static int lines_receive(struct lines *l)
{
	ssize_t n;

	if (l->bytes == sizeof(l->data) - 1)
		return -EMSGSIZE;
	do
		n = recv(l->fd, l->data + l->bytes, sizeof(l->data) - 1 - l->bytes, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	l->bytes += (size_t)n;
	l->data[l->bytes] = '\0';
	return n > 0;
}

static void lines_drop(struct lines *l, size_t n)
{
	l->bytes -= n;
	memmove(l->data, l->data + n, l->bytes + 1);
}

/* All lines that are there. False: fn wants no more. */
static bool lines_give(struct lines *l)
{
	char *end;

	while ((end = strchr(l->data, '\n')) != NULL) {
		*end = '\0';
		if (!l->fn(l->ctx, l->data))
			return false;
		lines_drop(l, (size_t)(end + 1 - l->data));
	}
	return true;
}

static int lines_run(struct lines *l, struct http_answer *answer)
{
	char *body = NULL;
	int ret = 1;

	while (body == NULL && ret > 0) {
		ret = lines_receive(l);
		if (strstr(l->data, "\r\n\r\n") != NULL)
			body = parse_head(l->data, answer);
		else if (ret == 0)
			ret = -EPROTO;
	}
	if (body == NULL || answer->status != 200)
		return ret < 0 ? ret : answer->status == 0 ? -EPROTO : 0;
	lines_drop(l, (size_t)(body - l->data));
	while (ret > 0 && lines_give(l))
		ret = lines_receive(l);
	return ret < 0 ? ret : 0;
}

int http_lines(const char *socket_path, const char *path, bool (*fn)(void *ctx, const char *line),
	       void *ctx, struct http_answer *answer)
{
	cleanup_fd int fd = connect_to(socket_path, 0);
	struct lines l = { .fn = fn, .ctx = ctx, .fd = fd };
	int ret;

	*answer = (struct http_answer){ 0 };
	if (fd < 0)
		return fd;
	ret = send_request(fd, "1.0", "GET", path, NULL); /* of 1.1 it would come in chunks */
	if (ret == 0)
		ret = lines_run(&l, answer);
	return ret == 0 && answer->status != 200
		       ? http_ask(socket_path, "GET", path, NULL, REFUSAL_S, answer)
		       : ret;
}
