/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills so much memory (at least 16 MiB), writes the last 16 MiB of it to the file, reads them back to where they
 * were, and looks at all of it.  Prints what it found: wrong blocks, whether the disk gave errors, and how much
 * of the 16 MiB lay above 4 GiB, which is where QEMU has hot-added memory.  0, or 1 when something was wrong.
 */
#ifndef MAYFLY_RIG_NESTED_GUESTMEMORY_H
#define MAYFLY_RIG_NESTED_GUESTMEMORY_H

int guestmemory(unsigned int mib, const char *path);

#endif
