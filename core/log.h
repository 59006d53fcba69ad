/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line a message on stderr or in a file.  Callers pass trusted text only; nothing that
 * a guest or a sandbox wrote may appear in a format argument (docs/attack-surface.md).
 */
#ifndef MAYFLY_CORE_LOG_H
#define MAYFLY_CORE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Where lines go: fd is borrowed and must stay open; messages above `level` are dropped.
 * Before the first call: stderr, warn. */
void log_open(int fd, enum log_level level);

void log_set_level(enum log_level level);

/* Thread-safe; each line is one write(2) and may block as that does. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
