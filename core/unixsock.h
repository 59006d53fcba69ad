/* SPDX-License-Identifier: Apache-2.0 */
/* Listening on a name that the operator gave: the API's socket and those of consoles. */
#ifndef MAYFLY_CORE_UNIXSOCK_H
#define MAYFLY_CORE_UNIXSOCK_H

/* Makes a stream socket at `path`, mode 0600 from its first moment, and listens.  A socket there that
 * nobody listens on any more (of a VMM that was killed) is removed first; nothing else ever is.
 * flags: SOCK_NONBLOCK or 0.  Does not block.  Returns the socket, the name being the caller's to
 * unlink, or -EADDRINUSE: somebody listens there; -ENOTSOCK: something else has the name;
 * -ENAMETOOLONG; -errno. */
int unixsock_listen(const char *path, int backlog, int flags);

/* The same without listening: whoever connects before listen(2) is refused, and may come again. */
int unixsock_bind(const char *path, int flags);

/* What such an error is in words, for a message that names the path; static or strerror()'s. */
const char *unixsock_error(int ret);

#endif
