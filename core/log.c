/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/cc.h"

static struct {
	int fd;
	enum log_level level;
	bool show_level, show_origin;
} sink = { .fd = STDERR_FILENO, .level = LOG_LEVEL_WARN };

void log_open(int fd, enum log_level level)
{
	sink.fd = fd;
	sink.level = level;
}

void log_set_level(enum log_level level)
{
	sink.level = level;
}

void log_show(bool level, bool origin)
{
	sink.show_level = level;
	sink.show_origin = origin;
}

int log_open_file(const char *path)
{
	/* Read-write and not blocking, as Firecracker does it: a pipe opens whether somebody reads it
	 * or not, and one that is full stops nobody. */
	const int flags = O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, O_RDWR | flags, 0600);

	if (fd < 0 && errno == EACCES) /* may be one that we can write to, no more */
		fd = open(path, O_WRONLY | flags, 0600);
	return fd >= 0 ? fd : -errno;
}

static int log_begin(char *line, size_t room, enum log_level level, const char *origin)
{
	static const char *const names[] = {
#define LEVEL_NAME(NAME, name) name,
		LOG_LEVELS(LEVEL_NAME)
#undef LEVEL_NAME
	};

	return snprintf(line, room, "mayfly: %s%s%s%s", sink.show_level ? names[level] : "",
			sink.show_level ? ": " : "", sink.show_origin ? origin : "",
			sink.show_origin ? ": " : "");
}

void log_write(enum log_level level, const char *origin, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	if (level > sink.level)
		return;
	n = log_begin(line, sizeof(line), level, origin);
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* A log that cannot be written must not stop a VM: nothing to do about a failure. */
	if (write(sink.fd, line, (size_t)n) < 0)
		return;
}
