/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classic BPF as seccomp filters use it, two ways: run on one call, and walked over all calls at
 * once.  Only the instructions that a comparison of system call arguments needs are known; any other
 * is an error, not a guess.
 */
#ifndef MAYFLY_ESCAPE_BPF_H
#define MAYFLY_ESCAPE_BPF_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/launch.h"

/* struct seccomp_data as 32-bit words: number, architecture, instruction pointer, arguments. */
#define BPF_WORDS (sizeof(struct seccomp_data) / 4)
#define BPF_WORD_NR 0
#define BPF_WORD_ARCH 1
#define BPF_WORD_ARG(i, high) (4 + 2 * (i) + (high))

/* What the filter returns for one call. 0 or -EINVAL: not a filter that this knows. */
int bpf_run(const struct launch_record *launch, const struct seccomp_data *data, uint32_t *action);

/* A set of calls: each word within its bounds. */
struct bpf_calls {
	uint32_t low[BPF_WORDS];
	uint32_t high[BPF_WORDS];
};

/* Divides all calls that there are into sets that take one way through the filter, and gives each
 * set to leaf() with the action at its end.  The sets do not overlap and leave nothing out.
 * 0 or -EINVAL. */
int bpf_walk(const struct launch_record *launch,
	     void (*leaf)(void *ctx, const struct bpf_calls *calls, uint32_t action), void *ctx);

#endif
