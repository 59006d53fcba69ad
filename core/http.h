/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the API: one request, one connection, an answer of bounded length.  Enough of HTTP/1.1
 * for the server in core/api and no more.
 */
#ifndef MAYFLY_CORE_HTTP_H
#define MAYFLY_CORE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct http_answer {
	unsigned int status;
	char *body; /* malloc()ed, terminated */
	size_t bytes;
};

/* body NULL: none.  Blocks, at most wait_s seconds without a byte of the answer.  0 and *answer, whose body the caller frees; -errno as connect(2) and so on have it; -EPROTO:
 * what came is not an answer; -EMSGSIZE: too long; -ETIMEDOUT. */
int http_ask(const char *socket_path, const char *method, const char *path, const char *body,
	     unsigned int wait_s, struct http_answer *answer);

/* An answer without an end: fn gets each line, terminated, without its newline; false ends it.  An
 * answer of another status than 200 is one to http_ask().  0: the other end closed, or fn said so, *answer
 * having no body; else as http_ask(). */
int http_lines(const char *socket_path, const char *path, bool (*fn)(void *ctx, const char *line),
	       void *ctx, struct http_answer *answer);

#endif
