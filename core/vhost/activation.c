/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cc.h"

#define FDS_FIRST 3 /* SD_LISTEN_FDS_START */

/* LISTEN_PIDFDID is of a systemd that is younger than most. */
static const char *const variables[] = { "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
					 "LISTEN_PIDFDID", "NOTIFY_SOCKET" };

/* ---- sockets ---- */

static int number_of(const char *name, uint64_t *value, struct option_error *error)
{
	const char *text = getenv(name);

	if (option_decimal(text, strlen(text), value) == 0)
		return 0;
	return option_fail(error, "%s: '%.40s' is not a number", name, text);
}

/* Whether there are any, and for this process. */
static int count_fds(uint64_t *count, struct option_error *error)
{
	uint64_t pid = 0;
	int ret;

	*count = 0;
	if (getenv("LISTEN_PID") == NULL || getenv("LISTEN_FDS") == NULL)
		return 0;
	ret = number_of("LISTEN_PID", &pid, error);
	if (ret != 0 || pid != (uint64_t)getpid())
		return ret;
	ret = number_of("LISTEN_FDS", count, error);
	if (ret == 0 && *count > ACTIVATION_FDS_MAX)
		return option_fail(error, "LISTEN_FDS: more than %d", ACTIVATION_FDS_MAX);
	return ret;
}

static int take_fds(struct activation *a, uint32_t count, struct option_error *error)
{
	for (uint32_t i = 0; i < count; i++) {
		const int fd = FDS_FIRST + (int)i;

		if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
			return option_fail(error, "LISTEN_FDS: descriptor %d is not open", fd);
		a->fds[i] = fd;
	}
	a->count = count;
	return 0;
}

/* One for each, or none at all: an older systemd does not say them. */
static int take_names(struct activation *a, struct option_error *error)
{
	const char *rest = getenv("LISTEN_FDNAMES");
	uint32_t i = 0;

	if (rest == NULL || a->count == 0)
		return 0;
	for (;; rest++) {
		const size_t n = strcspn(rest, ":");

		if (i < a->count && n < ACTIVATION_NAME_MAX)
			memcpy(a->names[i], rest, n);
		else
			return option_fail(error,
					   "LISTEN_FDNAMES: more than LISTEN_FDS, or longer "
					   "than %d bytes",
					   ACTIVATION_NAME_MAX - 1);
		i++;
		rest += n;
		if (*rest == '\0')
			break;
	}
	return i == a->count ? 0 : option_fail(error, "LISTEN_FDNAMES: fewer than LISTEN_FDS");
}

static int take_all(struct activation *a, struct option_error *error)
{
	uint64_t count = 0;
	int ret = count_fds(&count, error);

	if (ret == 0)
		ret = take_fds(a, (uint32_t)count, error);
	return ret == 0 ? take_names(a, error) : ret;
}

static bool option_is(int fd, int name, int want)
{
	int value = -1;
	socklen_t room = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &room) == 0 && value == want;
}

static bool listens(int fd)
{
	return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_STREAM) &&
	       option_is(fd, SO_ACCEPTCONN, 1);
}

/* Its place; a->count: none. */
static uint32_t find(const struct activation *a, const char *name, bool only)
{
	uint32_t i = 0;

	while (i < a->count && (a->fds[i] < 0 || strcmp(a->names[i], name) != 0))
		i++;
	return i == a->count && only && a->count == 1 && a->fds[0] >= 0 ? 0 : i;
}

int activation_take(struct activation *a, const char *name, bool only, struct option_error *error)
{
	const uint32_t i = find(a, name, only);
	int fd;

	if (i == a->count) {
		option_fail(error,
			    "%.64s: no socket of systemd's has this name "
			    "(FileDescriptorName=)",
			    name);
		return -ENOENT;
	}
	fd = a->fds[i];
	if (!listens(fd))
		return option_fail(error,
				   "%.64s: descriptor %d ('%.64s') is not a unix stream "
				   "socket that listens",
				   name, fd, a->names[i]);
	a->fds[i] = -1;
	return fd;
}

/* ---- notification ---- */

/* A path, or with an @ in front an abstract name. */
static int notify_address(const char *path, struct sockaddr_un *address, socklen_t *bytes)
{
	const size_t n = strlen(path);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((path[0] != '/' && path[0] != '@') || n < 2)
		return -EAFNOSUPPORT;
	if (n >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, n);
	if (path[0] == '@')
		address->sun_path[0] = '\0';
	*bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	return 0;
}

/* What was opened is the caller's, connected or not. */
static int notify_connect(const char *path, int *out)
{
	struct sockaddr_un address;
	socklen_t bytes;
	const int ret = notify_address(path, &address, &bytes);

	if (ret != 0)
		return ret;
	*out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (*out >= 0 && connect(*out, (const struct sockaddr *)&address, bytes) == 0)
		return 0;
	return -errno;
}

static int notify_open(struct activation *a, struct option_error *error)
{
	const char *path = getenv("NOTIFY_SOCKET");
	const int ret = path != NULL ? notify_connect(path, &a->notify) : 0;

	if (ret == 0)
		return 0;
	cc_close(&a->notify);
	option_fail(error, "NOTIFY_SOCKET: cannot connect to %.110s: %s", path, strerror(-ret));
	return ret;
}

int activation_notify(const struct activation *a, const char *text)
{
	if (a->notify < 0)
		return 0;
	return send(a->notify, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* ---- both ---- */

int activation_open(struct activation *a, struct option_error *error)
{
	int ret;

	memset(a, 0, sizeof(*a));
	a->notify = -1;
	ret = take_all(a, error);
	if (ret == 0)
		ret = notify_open(a, error);
	if (ret != 0)
		a->count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		unsetenv(variables[i]);
	return ret;
}

void activation_close(struct activation *a)
{
	for (uint32_t i = 0; i < a->count; i++)
		cc_close(&a->fds[i]);
	a->count = 0;
	cc_close(&a->notify);
}
