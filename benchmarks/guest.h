/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for measurements of a whole VM: it drives a disk, an rng and a console (slots 1 to 3 of the
 * PCI bus, in the order in which `mayfly run` plugs them) as a driver does, has each answer one
 * request, writes one 'r' to the serial port and halts for ever.
 */
#ifndef MAYFLY_BENCH_GUEST_H
#define MAYFLY_BENCH_GUEST_H

#define GUEST_READY 'r'

/* Writes it to a new file, as a kernel that `mayfly run --kernel` takes. 0 or -errno. */
int guest_write(const char *path);

#endif
