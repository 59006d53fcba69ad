/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that somebody else may truncate.  A read of what is no longer there is SIGBUS; where the address lies
 * in guarded memory the page is replaced by one of zeroes, which nobody shares, and the read goes on.  What it
 * yields is then as wrong as anything that a hostile front-end could have written there.
 */
#ifndef MAYFLY_CORE_VHOST_GUARD_H
#define MAYFLY_CORE_VHOST_GUARD_H

#include <stdbool.h>
#include <stdint.h>

/* Takes SIGBUS; one outside guarded memory goes to the handler that was there before.  Before any thread; again is
 * nothing.  0 or -errno. */
int guard_begin(void);
/* Of pages of this size, which the host backs it with. False: no room.  Any thread. */
bool guard_add(const void *start, uint64_t bytes, uint64_t page_bytes);
/* Before the munmap. Any thread. */
void guard_remove(const void *start);

#endif
