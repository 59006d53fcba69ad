/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line a message on stderr or in a file.  Callers pass trusted text only; nothing that
 * a guest or a sandbox wrote may appear in a format argument (docs/attack-surface.md).
 */
#ifndef MAYFLY_CORE_LOG_H
#define MAYFLY_CORE_LOG_H

#include <stdbool.h>

/* NAME, name on the command line and in lines; each has the ones before it. */
#define LOG_LEVELS(X)                                                                              \
	X(OFF, "off")                                                                              \
	X(ERROR, "error")                                                                          \
	X(WARN, "warn")                                                                            \
	X(INFO, "info")                                                                            \
	X(DEBUG, "debug")

enum log_level {
#define LOG_LEVEL_ENUM(NAME, name) LOG_LEVEL_##NAME,
	LOG_LEVELS(LOG_LEVEL_ENUM)
#undef LOG_LEVEL_ENUM
};

/* Where lines go: fd is borrowed and must stay open; messages above `level` are dropped.
 * Before the first call: stderr, warn. */
void log_open(int fd, enum log_level level);

void log_set_level(enum log_level level);
/* What a line begins with beside our name: its level, the source line that it comes from. */
void log_show(bool level, bool origin);

/* For log_open(): a file, made where there is none, or a pipe, which never makes a line wait: where
 * nobody reads, lines are lost.  A descriptor or -errno. */
int log_open_file(const char *path);

/* Thread-safe; each line is one write(2) and may block as that does. */
void log_write(enum log_level level, const char *origin, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define LOG_TEXT(x) #x
#define LOG_TEXT_OF(x) LOG_TEXT(x)
#define LOG_ORIGIN __FILE__ ":" LOG_TEXT_OF(__LINE__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, LOG_ORIGIN, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, LOG_ORIGIN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, LOG_ORIGIN, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, LOG_ORIGIN, __VA_ARGS__)

#endif
