/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is handed to others as a file: guest memory, state pages, what a front-end keeps. */
#ifndef MAYFLY_CORE_MEMFD_H
#define MAYFLY_CORE_MEMFD_H

#include <stdint.h>

/* A memfd of so many zeroes, close-on-exec, which nobody can execute where the kernel knows of that (6.3).  flags:
 * MFD_* besides; seals: F_SEAL_* to put on it, or 0.  The descriptor, or -errno of memfd_create(2), ftruncate(2),
 * fcntl(2).  Does not block. */
int memfd_make(const char *name, unsigned int flags, uint64_t bytes, int seals);

#endif
