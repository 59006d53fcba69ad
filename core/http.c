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

static int send_request(int fd, const char *method, const char *path, const char *body)
{
	char head[HEAD_MAX];
	const size_t length = body != NULL ? strlen(body) : 0;
	const int n = snprintf(head, sizeof(head),
			       "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			       "Content-Length: %zu\r\n\r\n",
			       method, path, length);
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

static int parse(char *data, size_t bytes, struct http_answer *answer)
{
	char *end = strstr(data, "\r\n\r\n");
	unsigned int minor;

	if (end == NULL || sscanf(data, "HTTP/1.%1u %3u", &minor, &answer->status) != 2)
		return -EPROTO;
	*end = '\0';
	answer->bytes = bytes - (size_t)(end + 4 - data);
	if (declared_length(data) != (long long)answer->bytes)
		return -EPROTO; /* cut short, or in a form that we did not ask for */
	memmove(data, end + 4, answer->bytes + 1);
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
	ret = send_request(fd, method, path, body);
	if (ret == 0)
		ret = receive_all(fd, &data, &bytes);
	if (ret == 0)
		ret = parse(data, bytes, answer);
	if (ret != 0)
		free(data);
	return ret;
}
