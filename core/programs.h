/* SPDX-License-Identifier: Apache-2.0 */
/* Where the device programs are. */
#ifndef MAYFLY_CORE_PROGRAMS_H
#define MAYFLY_CORE_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The folder with mayfly-blk, mayfly-rng ...: $MAYFLY_PROGRAMS if set; else, seen from the running
 * executable, dev/ beside it (a build tree) or ../libexec/mayfly (an installation), whichever is
 * there.  0 and an absolute path (as given, for the variable); -ENOENT: neither, and dir names the
 * first that was tried; -ENAMETOOLONG; -errno of /proc/self/exe.  faulty: the set that misbehaves on
 * order, in faulty/ of that folder.
 */
int programs_find(char *dir, size_t room, bool faulty);

#endif
