/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket's name outlives the process that was killed; whether anybody still listens on it only
 * connect() can tell.  ECONNREFUSED is the one answer that means nobody: of a listener whose queue is
 * full it is EAGAIN, and of one that is another user's EACCES.
 */
#include "core/unixsock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cc.h"

/* 0: the name is free now. */
static int unixsock_clear(const struct sockaddr_un *address)
{
	struct stat st;
	cleanup_fd int fd = -1;

	if (lstat(address->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) == 0 || errno == ENOENT ? 0 : -errno;
}

int unixsock_bind(const char *path, int flags)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;
	int ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	ret = unixsock_clear(&address);
	if (ret != 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	/* The mode of the socket's inode is that of the file which bind() makes: never wider. */
	if (fd < 0 || fchmod(fd, 0600) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		return -errno;
	return cc_take_fd(&fd);
}

int unixsock_listen(const char *path, int backlog, int flags)
{
	cleanup_fd int fd = unixsock_bind(path, flags);

	if (fd >= 0 && listen(fd, backlog) != 0) {
		const int ret = -errno;

		unlink(path);
		return ret;
	}
	return cc_take_fd(&fd);
}

const char *unixsock_error(int ret)
{
	switch (ret) {
	case -EADDRINUSE:
		return "somebody listens there";
	case -ENOTSOCK:
		return "something is there that is not a socket";
	default:
		return strerror(-ret);
	}
}
