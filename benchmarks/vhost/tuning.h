/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of its ways of doing I/O suits qemu-storage-daemon best here: each is tried, in turns, with one request
 * outstanding and with many.
 */
#ifndef MAYFLY_BENCH_VHOST_TUNING_H
#define MAYFLY_BENCH_VHOST_TUNING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define TUNING_CHOICES 3 /* threads, io_uring, native */
#define TUNING_DEPTHS 2  /* 1, 32 */

/* Zeroes before. */
struct tuning {
	uint32_t best;
	double iops[TUNING_CHOICES][TUNING_DEPTHS];   /* medians; 0: it did not start */
	double shares[TUNING_CHOICES][TUNING_DEPTHS]; /* of what all did in a round: medians */
};

/* Some 10 s. 0 or -errno; -ECHILD: not one of them starts. */
int tuning_measure(struct tuning *t, bool direct);
/* The best, as its option aio= has it. */
const char *tuning_aio(const struct tuning *t);
/* {"aio", "tried_iops_qd1_qd32": {NAME: [IOPS, IOPS], ..}} */
json_t *tuning_object(const struct tuning *t);

#endif
