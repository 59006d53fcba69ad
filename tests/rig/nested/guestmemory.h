/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills so much memory, writes a quarter of it, or 16 MiB if that is less, to the file, reads it back to where it
 * was, and looks at all of it.  Prints what it found: wrong blocks, whether the disk gave errors, and how much of
 * that quarter lay above 4 GiB, which is where QEMU has hot-added memory.  0, or 1 when something was wrong.
 */
#ifndef MAYFLY_RIG_NESTED_GUESTMEMORY_H
#define MAYFLY_RIG_NESTED_GUESTMEMORY_H

int guestmemory(unsigned int mib, const char *path);

#endif
