/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors a process has: what a test compares before and after. */
#ifndef MAYFLY_RIG_FDS_H
#define MAYFLY_RIG_FDS_H

#include <stdint.h>
#include <sys/types.h>

/* 0: this process, with the one that counting takes.  The process must be there. */
uint32_t fds_open(pid_t pid);

#endif
