/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The meaning of devmodel/abi/policy.h, written a second time: core/box/policy.c gives rules to
 * libseccomp, here they are just evaluated.
 */
#include "tests/escape/oracle.h"

#include <stddef.h>
#include <string.h>

#include "core/cc.h"
#include "devmodel/common/policies.h"

/* A bound as an interval: every operand is one, a single value or a group of descriptors. */
struct bound {
	uint64_t first, last; /* empty: first > last */
};

static struct bound one(uint64_t value)
{
	return (struct bound){ value, value };
}

static struct bound group(uint64_t first, uint64_t count)
{
	return count != 0 ? (struct bound){ first, first + count - 1 } : (struct bound){ 1, 0 };
}

static uint64_t waits_for(const struct launch_record *l)
{
	const bool timer = l->fd_timer < l->fd_held;

	return 1u + l->queues + timer;
}

static struct bound operand(const struct launch_record *l, const struct policy_test *t)
{
	switch ((enum policy_operand)t->operand) {
	case POLICY_VALUE:
		break;
	case POLICY_FD_CONTROL:
		return one(BOX_FD_CONTROL);
	case POLICY_FD_KICK:
		return group(l->fd_kick, l->queues);
	case POLICY_FD_CALL:
		return group(l->fd_call, l->queues);
	case POLICY_FD_TIMER:
		return group(l->fd_timer, l->fd_timer < l->fd_held);
	case POLICY_FD_BACKEND:
		return group(l->fd_backend + t->value, t->value < l->backends);
	case POLICY_FD_LISTENER:
		return one(l->fd_held);
	case POLICY_POLL_COUNT:
		return one(waits_for(l));
	case POLICY_POLL_STREAMS:
		return one(waits_for(l) + t->value);
	case POLICY_IMAGE_LAST:
		return one(l->config.blk.bytes - BLK_SECTOR);
	case POLICY_IMAGE_BYTES:
		return one(l->config.blk.bytes);
	}
	return one(t->value);
}

static bool test_holds(const struct launch_record *l, const struct policy_test *t, uint64_t value)
{
	const struct bound b = operand(l, t);

	switch ((enum policy_op)t->op) {
	case POLICY_EQ:
		return value >= b.first && value <= b.last;
	case POLICY_LE:
		return value <= b.last;
	case POLICY_GE:
		return value >= b.first;
	case POLICY_NONE:
		break;
	}
	return true;
}

static bool rule_holds(const struct launch_record *l, const struct policy_rule *rule,
		       const uint64_t args[6])
{
	for (int i = 0; i < POLICY_ARGS_MAX; i++) {
		const struct policy_test *t = &rule->tests[i];

		if (t->op != POLICY_NONE && !test_holds(l, t, args[t->arg]))
			return false;
	}
	return true;
}

/* Whether the rule can hold at all: its condition is met and its descriptors are there. */
static bool rule_stands(const struct launch_record *l, uint32_t when,
			const struct policy_rule *rule)
{
	if ((rule->when & when) != rule->when)
		return false;
	for (int i = 0; i < POLICY_ARGS_MAX; i++) {
		const struct policy_test *t = &rule->tests[i];
		const struct bound b = operand(l, t);

		if (t->op != POLICY_NONE && b.first > b.last)
			return false;
	}
	return true;
}

void oracle_init(struct oracle *o, const struct launch_record *launch, uint32_t when)
{
	const struct policy *const tables[] = { &policy_common, policy_of(launch->kind) };

	*o = (struct oracle){ .launch = launch };
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
		for (uint32_t r = 0; r < tables[t]->count; r++) {
			const struct policy_rule *rule = &tables[t]->rules[r];

			if (!rule_stands(launch, when, rule))
				continue;
			CHECK(o->count < ORACLE_RULES_MAX);
			o->rules[o->count++] = rule;
		}
	}
}

bool oracle_allows(const struct oracle *o, uint64_t nr, const uint64_t args[6])
{
	for (uint32_t i = 0; i < o->count; i++) {
		const struct policy_rule *rule = o->rules[i];

		if (rule->nr == nr && rule_holds(o->launch, rule, args))
			return true;
	}
	return false;
}

void oracle_base(const struct oracle *o, uint32_t i, uint64_t any, struct probe *p)
{
	const struct policy_rule *rule = o->rules[i];

	p->nr = rule->nr;
	for (int a = 0; a < 6; a++)
		p->args[a] = any;
	for (int t = 0; t < POLICY_ARGS_MAX; t++) {
		const struct policy_test *test = &rule->tests[t];

		if (test->op != POLICY_NONE)
			p->args[test->arg] = operand(o->launch, test).first;
	}
}

bool oracle_pins(const struct oracle *o, uint32_t nr, unsigned int arg)
{
	for (uint32_t i = 0; i < o->count; i++) {
		const struct policy_rule *rule = o->rules[i];

		for (int t = 0; t < POLICY_ARGS_MAX && rule->nr == nr; t++) {
			if (rule->tests[t].op != POLICY_NONE && rule->tests[t].arg == arg)
				return true;
		}
	}
	return false;
}

static void add(uint64_t *values, uint32_t *n, uint64_t value)
{
	for (uint32_t i = 0; i < *n; i++) {
		if (values[i] == value)
			return;
	}
	CHECK(*n < ORACLE_VALUES_MAX);
	values[(*n)++] = value;
}

static void add_edges(uint64_t *values, uint32_t *n, uint64_t value)
{
	add(values, n, value);
	add(values, n, value - 1);
	add(values, n, value + 1);
	add(values, n, value ^ 1ull << 32);
	add(values, n, value ^ 1ull << 63);
	add(values, n, value | 0xffffffffull << 32);
	add(values, n, value & 0xffffffffull);
}

uint32_t oracle_values(const struct oracle *o, uint32_t nr, unsigned int arg,
		       uint64_t values[ORACLE_VALUES_MAX])
{
	uint32_t n = 0;

	add(values, &n, 0);
	add(values, &n, ~0ull);
	for (uint32_t i = 0; i < o->count; i++) {
		const struct policy_rule *rule = o->rules[i];

		for (int t = 0; t < POLICY_ARGS_MAX && rule->nr == nr; t++) {
			const struct policy_test *test = &rule->tests[t];

			if (test->op == POLICY_NONE || test->arg != arg)
				continue;
			add_edges(values, &n, operand(o->launch, test).first);
			add_edges(values, &n, operand(o->launch, test).last);
			for (uint64_t fd = 0;
			     test->operand >= POLICY_FD_CONTROL &&
			     test->operand <= POLICY_FD_LISTENER && fd <= o->launch->fd_held + 2u;
			     fd++)
				add(values, &n, fd);
		}
	}
	return n;
}
