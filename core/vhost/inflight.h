/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buffer of requests in flight (docs/interop/vhost-user.rst of QEMU, "Inflight I/O tracking").  A front-end
 * keeps it over the death of a back-end and gives it to the next, which learns from it what was taken and not
 * answered.
 *
 * Devices of ours take a request, answer it, and take the next, and used->idx says how far they are: of all that
 * the buffer can say there is nothing to say, and whoever takes over from us has to go on at used->idx.  That is
 * exactly what a buffer says in which no entry is in flight: where to begin is used->idx plus their number.  (Its
 * own used_idx may be behind: what follows from that is that entries of the last batch are cleared, which they
 * are.)  So it is made once, right for good, and no request costs anything.
 */
#ifndef MAYFLY_CORE_VHOST_INFLIGHT_H
#define MAYFLY_CORE_VHOST_INFLIGHT_H

#include <stdint.h>

#include "core/vhost/protocol.h"

/* A new buffer for so many rings of such a size.  0 with *answer and *fd, which is the caller's; -EINVAL: more
 * rings than `queues`, or longer than any; -errno of memfd_create(2). */
int inflight_make(const struct vhost_user_inflight *wanted, uint32_t queues,
		  struct vhost_user_inflight *answer, int *fd);

/* One that a front-end kept; fd is looked at, and stays the caller's.  0: we can go on from it; with *why
 * (static text): -EINVAL, -EBADF it is none; -EBUSY: another back-end left requests in it that were taken out of
 * order, and nobody of ours can go on from there. */
int inflight_check(const struct vhost_user_inflight *kept, uint32_t queues, int fd,
		   const char **why);

#endif
