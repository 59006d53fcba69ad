/* SPDX-License-Identifier: Apache-2.0 */
/* Policy tables (devmodel/KIND/policy.c) and real descriptor numbers to BPF, by libseccomp. */
#ifndef MAYFLY_CORE_BOX_POLICY_H
#define MAYFLY_CORE_BOX_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/abi/launch.h"
#include "devmodel/abi/policy.h"

/*
 * Compiles the common rules and those of launch->kind into launch->filter.  Of the launch record it
 * reads kind, descriptor positions, seal (listener: the default action is USER_NOTIF, else
 * KILL_PROCESS; foreign ABIs get the same) and, for blk, config.  `when`: POLICY_IF_*.
 * 0; -EINVAL: a rule makes no sense; -E2BIG: more than BOX_FILTER_MAX instructions; else -errno of
 * libseccomp.  Takes 0.2 to 0.6 ms: once a device, not once a generation.
 */
int policy_compile(struct launch_record *launch, uint32_t when);

/* The program that a scmp_filter_ctx stands for, into out.  Its bytes; -E2BIG: more than room; -errno. */
int policy_export(void *ctx, void *out, size_t room);

/* The numbers of the system calls that a kind may make at all, ascending; returns how many (at most
 * max are written).  For benchmarks and docs. */
uint32_t policy_calls(enum dev_kind kind, uint32_t when, uint16_t *nrs, uint32_t max);

#endif
