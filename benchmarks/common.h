/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What benchmarks of device processes share: their arguments, figures for reports, CPUs, and the
 * check that what is measured is what a user would run.
 */
#ifndef MAYFLY_BENCH_COMMON_H
#define MAYFLY_BENCH_COMMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "benchmarks/hist.h"
#include "benchmarks/report.h"
#include "core/box/epoch.h"
#include "tests/rig/boxrig.h"

struct bench_args {
	uint64_t count;   /* of this shard */
	uint64_t seconds; /* measure no longer than this in all */
	uint32_t shard;   /* 0 .. shards - 1 */
	uint32_t shards;
};

/* --count N --seconds N --shard i/n (i from 1); *args holds the defaults.  0, or -EINVAL after a
 * line on stderr. */
int bench_args(int argc, char **argv, struct bench_args *args);

/* Microseconds with one decimal, of a percentile in nanoseconds. */
json_t *bench_us(const struct hist *hist, double q);

/* The value at the fraction q (0 to 1) of `count` values, which are sorted by it; count > 0. */
double bench_quantile(double *values, uint32_t count, double q);

/* Puts "value" under "name", taking the reference. */
void bench_put(json_t *object, const char *name, json_t *value);

/* Binds a thread to one CPU of those it may use, counted from 0 and round. pid 0: this thread. 0 or
 * -errno. */
int bench_pin(pid_t pid, uint32_t cpu);
/* Binds it to all of them but that one; to that where there is no other. */
int bench_pin_beside(pid_t pid, uint32_t cpu);
/* Back to all that this process had when bench_pin() was first called. */
int bench_unpin(pid_t pid);

/* Keeps all CPUs from halting, by processes that run only where nobody else wants to: for ratios of
 * throughput.  In a VM a halt and the wake-up from it cost more than a request, and whatever keeps CPUs
 * busy between requests would seem to make them faster.  On the main thread: they die with it.  0 or
 * -errno; bench_rest() in either case. */
struct bench_awake {
	pid_t pids[16];
	uint32_t count;
};

int bench_stay_awake(struct bench_awake *awake);
void bench_rest(struct bench_awake *awake);

/* Sleeps; to the microsecond where the machine lets it. */
void bench_sleep_us(uint64_t us);

/* xorshift; *state must not be 0. */
uint64_t bench_random(uint64_t *state);

/* Eventfd round trips between two threads on two CPUs, `count` of them, into *hist.  0 or -errno. */
int bench_rtt(struct hist *hist, uint32_t count);

/* What a load of blk is in every benchmark of pauses: 4 KiB reads and writes, half and half, on an image
 * of so many bytes, every byte checked.  No flushes: how long those take is the disk's doing. */
struct blkload_config bench_blk_load(uint64_t image_bytes, uint64_t seed);
/* Where an image in page cache, or for O_DIRECT, lives: $TMPDIR or /var/tmp. */
const char *bench_image_dir(void);

/* Steps the load for ns from now; *iops: completions a second of that time. 0 or -errno; -ETIMEDOUT: none
 * for 20 s. */
int bench_window(struct blkload *load, uint64_t ns, double *iops);

/* The longest gap between completions of a window that is over goes into *hist; the gap that it ends
 * in is waited for: the load must not rest.  cut: the first gap counts from t0 only.  None where it
 * is no longer known: rather none than a wrong one.  0 or -errno. */
int bench_note_gap(const struct blkload *load, uint64_t t0, uint64_t t1, bool cut,
		   struct hist *hist);
/* Sleeps for ns and notes that window's. */
int bench_quiet_window(const struct blkload *load, uint64_t ns, struct hist *hist);

/* How planned handoffs were fenced. */
struct bench_fences {
	uint64_t counts[FENCE_COUNT];
	uint64_t late; /* of those that were not parked: a deadline had passed, on a slow host */
};

/* One more; of recoveries none. */
void bench_note_fence(struct bench_fences *fences, const struct replacement *r);
/* `fence` and `late` of the report.  False, and said on stderr: some were not parked, and not for a deadline. */
bool bench_report_fences(struct report *report, const struct bench_fences *fences);

/* A rig with one region of guest memory, all of it populated. */
struct bench_rig {
	struct boxrig rig;
	struct guestmem_huge huge_pages;
	bool huge; /* it has 2 MiB pages: they were asked for and could be had */
};

/* 0 or -errno; bench_rig_stop() in either case, with devices destroyed.  Where 2 MiB pages cannot be
 * had, says so and takes others. */
int bench_rig_start(struct bench_rig *b, enum guestmem_pages pages, uint64_t bytes);
void bench_rig_stop(struct bench_rig *b);

/* Has every device of a rig handed off into its guest memory as it is now; *prepared_ns: when each had a
 * generation for it.  0 or -errno, said on stderr. */
int bench_move(const struct boxrig *rig, enum epoch_until until, uint64_t *prepared_ns);

/* Whether a process of a device is one of a release build and wears what /proc shows of the seal; else says so. */
bool bench_wears_seal(pid_t pid);

/* Names the layers in force in the report.  False, with a line on stderr, when they are not what a
 * user gets by default: all that this kernel has, release programs, and the process `pid` (a
 * standby) wears them as far as /proc shows. */
bool bench_seal(struct report *report, const struct boxrig *rig, pid_t pid);

#endif
