/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that processes cost, read from /proc.  System-wide counters are the only ones that have
 * what the kernel holds for a process; they also have what everybody else does meanwhile, so they are
 * read around large steps, several times up and down, and the median counts.
 */
#ifndef MAYFLY_BENCH_FOOTPRINT_H
#define MAYFLY_BENCH_FOOTPRINT_H

#include <stdint.h>
#include <sys/types.h>

/* NAME, line of /proc/meminfo. */
#define FOOTPRINT_FIELDS(X)                                                                        \
	X(anon, "AnonPages")                                                                       \
	X(stack, "KernelStack")                                                                    \
	X(slab, "Slab")                                                                            \
	X(tables, "PageTables")                                                                    \
	X(vmalloc, "VmallocUsed")

/* KiB; differences may be negative. */
struct footprint {
#define FOOTPRINT_MEMBER(name, line) int64_t name;
	FOOTPRINT_FIELDS(FOOTPRINT_MEMBER)
#undef FOOTPRINT_MEMBER
};

/* 0 or -EIO. */
int footprint_read(struct footprint *now);
struct footprint footprint_minus(const struct footprint *a, const struct footprint *b);
/* What is charged to a process alone: anonymous pages, kernel stacks, slab. */
int64_t footprint_private(const struct footprint *f);

/* The median of each field. Sorts the samples. */
struct footprint footprint_median(struct footprint *samples, uint32_t count);

/* One "Name: N kB" line of /proc/PID/status (pid 0: this process), or -1. */
int64_t footprint_status(pid_t pid, const char *name);

/* Bytes of code in the file that a process was started from, or -1: executable segments. */
int64_t footprint_text(pid_t pid);

#endif
