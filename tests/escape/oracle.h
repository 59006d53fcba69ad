/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a policy allows, read off its tables and not off the filter that was compiled from them; and
 * the calls at its edges, by which filter and kernel are tried.
 */
#ifndef MAYFLY_ESCAPE_ORACLE_H
#define MAYFLY_ESCAPE_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/launch.h"
#include "devmodel/abi/policy.h"

#define ORACLE_RULES_MAX 64

struct oracle {
	const struct launch_record *launch;
	uint32_t count; /* rules in force, of the common table and the kind's */
	const struct policy_rule *rules[ORACLE_RULES_MAX];
};

struct probe {
	uint32_t nr;
	uint64_t args[6];
};

/* Of the launch record, which must outlive it: kind, numbers, configuration.  when: POLICY_IF_*. */
void oracle_init(struct oracle *o, const struct launch_record *launch, uint32_t when);

/* Whether a call by the 64-bit ABI is allowed.  (By any other, none is.) */
bool oracle_allows(const struct oracle *o, uint64_t nr, const uint64_t args[6]);

/* An allowed call of rule i; what the rule leaves open is `any`. */
void oracle_base(const struct oracle *o, uint32_t i, uint64_t any, struct probe *p);

#define ORACLE_VALUES_MAX 128
/* Values of one argument of one call at which its answer may change: each bound that any rule of
 * the call sets, its neighbours, the same with high bits set, every descriptor; n of them. */
uint32_t oracle_values(const struct oracle *o, uint32_t nr, unsigned int arg,
		       uint64_t values[ORACLE_VALUES_MAX]);
/* Whether any rule of the call tests the argument. */
bool oracle_pins(const struct oracle *o, uint32_t nr, unsigned int arg);

#endif
