/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of core/vhost's modules share: messages, descriptors of all kinds, how many are open. */
#ifndef MAYFLY_TESTS_UNIT_VHOST_H
#define MAYFLY_TESTS_UNIT_VHOST_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cc.h"
#include "core/vhost/message.h"
#include "tests/rig/fds.h"

#define PAGE 4096ull

/* A payload and descriptors, as they would have come. */
static inline struct vhost_message message_make(uint32_t request, const void *payload, size_t bytes)
{
	struct vhost_message m = { .header = { request, VHOST_USER_VERSION, (uint32_t)bytes } };

	assert_true(bytes <= sizeof(m.payload));
	if (bytes != 0)
		memcpy(m.payload.bytes, payload, bytes);
	return m;
}

static inline void message_add_fd(struct vhost_message *m, int fd)
{
	assert_true(fd >= 0);
	m->fds[m->fd_count++] = fd;
}

static inline int memory_make(uint64_t bytes)
{
	const int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

static inline int event_make(int flags)
{
	const int fd = eventfd(0, EFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	return fd;
}

/* The same file, opened again. */
static inline int reopen(int fd, int flags)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	assert_true(again >= 0);
	return again;
}

#endif
