/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that processes cost, read from /proc.  System-wide counters are the only ones that have
 * what the kernel holds for a process; they also have what everybody else does meanwhile, so they are
 * read around large steps, several times up and down, and the median counts.
 *
 * What processes hold by themselves their maps say, exactly and whatever others do: footprint_add()
 * adds up those that belong together and counts what they share once.
 */
#ifndef MAYFLY_BENCH_FOOTPRINT_H
#define MAYFLY_BENCH_FOOTPRINT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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
/* The same without this process's own anonymous memory. */
int footprint_others(struct footprint *now);
struct footprint footprint_minus(const struct footprint *a, const struct footprint *b);
struct footprint footprint_divided(struct footprint f, uint32_t by);
/* What is charged to a process alone: anonymous pages, kernel stacks, slab. */
int64_t footprint_private(const struct footprint *f);

/* The median of each field. Sorts the samples. */
struct footprint footprint_median(struct footprint *samples, uint32_t count);

/* ---- several processes together ---- */

#define FOOTPRINT_SPANS_MAX 256

struct footprint_file {
	uint64_t device, inode;
};

/* One mapping of a file, in whichever processes it is. */
struct footprint_span {
	struct footprint_file file;
	uint64_t offset;
	bool program; /* of the file that one of the processes runs; else a library */
	int64_t kib;  /* resident in the process that has most of it */
};

/* KiB; starts as zeroes. */
struct footprint_maps {
	int64_t anon;   /* a page that several have of a fork counts once, in parts */
	int64_t shared; /* memfds and kernel pages that they map, likewise; without .. */
	int64_t guest;  /* .. guest memory */
	int64_t tables;
	uint32_t processes, threads;
	uint32_t span_count;
	struct footprint_span spans[FOOTPRINT_SPANS_MAX];
};

/* Adds a process, or -errno: -ESRCH it is gone, -EIO what it says was not understood, -ENOSPC. */
int footprint_add(struct footprint_maps *maps, pid_t pid);
/* The part of it that reads smaps, of a process that runs this program. 0, -EIO or -ENOSPC. */
int footprint_add_smaps(struct footprint_maps *maps, FILE *smaps, struct footprint_file program);

/* KiB of files that are resident: of programs, or of libraries. */
int64_t footprint_files(const struct footprint_maps *maps, bool program);

/* ---- one process ---- */

/* One "Name: N kB" line of /proc/PID/status (pid 0: this process), or -1. */
int64_t footprint_status(pid_t pid, const char *name);

/* Bytes of code in the file that a process was started from, or -1: executable segments. */
int64_t footprint_text(pid_t pid);

#endif
