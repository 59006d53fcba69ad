/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy tables of all kinds, and how their lines are written.  Hosted code only: no device
 * program links a policy.
 */
#ifndef MAYFLY_DEVMODEL_COMMON_POLICIES_H
#define MAYFLY_DEVMODEL_COMMON_POLICIES_H

#include <stdint.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/abi/policy.h"

#define POLICY_DECLARE(NAME, name, virtio_id, outward) extern const struct policy policy_##name;
DEV_KINDS(POLICY_DECLARE)
#undef POLICY_DECLARE

/* The table of a kind, to be used together with policy_common.  NULL: there is no such kind, or it
 * has no policy yet, and nothing of the kind may be started. */
const struct policy *policy_of(uint32_t kind);

/* Argument tests, for use in a table: argument, what it must be. */
/* clang-format off */
#define POLICY_IS_FD(group) { .arg = 0, .op = POLICY_EQ, .operand = POLICY_FD_##group }
#define POLICY_IS(a, v) { .arg = (a), .op = POLICY_EQ, .operand = POLICY_VALUE, .value = (v) }
#define POLICY_AT_MOST(a, v) { .arg = (a), .op = POLICY_LE, .operand = POLICY_VALUE, .value = (v) }
#define POLICY_IS_THE(a, what) { .arg = (a), .op = POLICY_EQ, .operand = POLICY_##what }
#define POLICY_WITHIN(a, what) { .arg = (a), .op = POLICY_LE, .operand = POLICY_##what }
/* clang-format on */

/* A const struct policy over a const array of rules. */
#define POLICY_TABLE(array)                                                                        \
	{                                                                                          \
		.rules = (array), .count = sizeof(array) / sizeof((array)[0])                      \
	}

#endif
