/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/cc.h"

static struct {
	int fd;
	enum log_level level;
} sink = { STDERR_FILENO, LOG_LEVEL_WARN };

void log_open(int fd, enum log_level level)
{
	sink.fd = fd;
	sink.level = level;
}

void log_set_level(enum log_level level)
{
	sink.level = level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	if (level > sink.level)
		return;
	n = snprintf(line, sizeof(line), "mayfly: ");
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
