/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolves operands and hands the rules to libseccomp.  Two of its defaults would be wrong here: for
 * a foreign ABI it kills the thread (set to the default action, so that int 0x80 is held like all
 * else), and it refuses two tests of one argument in one rule, which the tables respect.
 */
#include "core/box/policy.h"

#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>

#include "core/cc.h"
#include "devmodel/common/policies.h"

struct compiler {
	scmp_filter_ctx ctx;
	const struct launch_record *launch;
	uint32_t when;
};

static uint64_t poll_count(const struct launch_record *l)
{
	return 1u + l->queues + (l->fd_timer != l->fd_held ? 1u : 0u);
}

/* The value of an operand; `i` selects within a group of descriptors. */
static uint64_t operand_value(const struct launch_record *l, const struct policy_test *t,
			      uint32_t i)
{
	switch ((enum policy_operand)t->operand) {
	case POLICY_VALUE:
		return t->value;
	case POLICY_FD_CONTROL:
		return l->fd_control;
	case POLICY_FD_KICK:
		return l->fd_kick + i;
	case POLICY_FD_CALL:
		return l->fd_call + i;
	case POLICY_FD_TIMER:
		return l->fd_timer;
	case POLICY_FD_BACKEND:
		return l->fd_backend + t->value;
	case POLICY_FD_LISTENER:
		return l->fd_held;
	case POLICY_POLL_COUNT:
		return poll_count(l);
	case POLICY_POLL_STREAMS:
		return poll_count(l) + t->value;
	case POLICY_IMAGE_LAST:
		return l->config.blk.bytes - BLK_SECTOR;
	case POLICY_IMAGE_BYTES:
		return l->config.blk.bytes;
	}
	return 0;
}

/* How often a rule stands: once for each descriptor of a group; 0 where the box has none. */
static uint32_t rule_repeats(const struct launch_record *l, const struct policy_rule *rule)
{
	for (int i = 0; i < POLICY_ARGS_MAX; i++) {
		const struct policy_test *t = &rule->tests[i];

		if (t->op == POLICY_NONE)
			continue;
		if (t->operand == POLICY_FD_KICK || t->operand == POLICY_FD_CALL)
			return l->queues;
		if (t->operand == POLICY_FD_TIMER)
			return l->fd_timer != l->fd_held;
		if (t->operand == POLICY_FD_BACKEND)
			return t->value < l->backends;
	}
	return 1;
}

static int rule_add(const struct compiler *c, const struct policy_rule *rule, uint32_t repeat)
{
	static const enum scmp_compare ops[] = {
		[POLICY_EQ] = SCMP_CMP_EQ, [POLICY_LE] = SCMP_CMP_LE, [POLICY_GE] = SCMP_CMP_GE
	};
	struct scmp_arg_cmp cmp[POLICY_ARGS_MAX];
	unsigned int n = 0;

	for (int i = 0; i < POLICY_ARGS_MAX; i++) {
		const struct policy_test *t = &rule->tests[i];

		if (t->op == POLICY_NONE)
			continue;
		cmp[n++] = (struct scmp_arg_cmp){
			.arg = t->arg,
			.op = ops[t->op],
			.datum_a = operand_value(c->launch, t, repeat),
		};
	}
	return seccomp_rule_add_array(c->ctx, SCMP_ACT_ALLOW, rule->nr, n, cmp);
}

static int table_add(const struct compiler *c, const struct policy *policy)
{
	for (uint32_t i = 0; i < policy->count; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		const uint32_t repeats = rule_repeats(c->launch, rule);

		if ((rule->when & c->when) != rule->when)
			continue;
		for (uint32_t r = 0; r < repeats; r++) {
			const int ret = rule_add(c, rule, r);

			if (ret != 0 && ret != -EEXIST)
				return ret;
		}
	}
	return 0;
}

/* libseccomp writes BPF to descriptors only (2.5.4). */
int policy_export(void *ctx, void *out, size_t room)
{
	cleanup_fd int fd = memfd_create("filter", MFD_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = seccomp_export_bpf(ctx, fd);
	if (ret != 0)
		return ret;
	const off_t bytes = lseek(fd, 0, SEEK_END);

	if (bytes <= 0 || bytes > (off_t)room)
		return -E2BIG;
	return pread(fd, out, (size_t)bytes, 0) == bytes ? (int)bytes : -EIO;
}

int policy_compile(struct launch_record *launch, uint32_t when)
{
	const uint32_t action =
		(launch->seal & SEAL_WANT_LISTENER) ? SCMP_ACT_NOTIFY : SCMP_ACT_KILL_PROCESS;
	const struct policy *policy = policy_of(launch->kind);
	struct compiler c = { .launch = launch, .when = when };
	int ret;

	if (policy == NULL)
		return -EINVAL;
	c.ctx = seccomp_init(action);
	if (c.ctx == NULL)
		return -ENOMEM;
	ret = seccomp_attr_set(c.ctx, SCMP_FLTATR_ACT_BADARCH, action);
	if (ret == 0)
		ret = table_add(&c, &policy_common);
	if (ret == 0)
		ret = table_add(&c, policy);
	if (ret == 0)
		ret = policy_export(c.ctx, launch->filter, sizeof(launch->filter));
	seccomp_release(c.ctx);
	if (ret < 0)
		return ret;
	launch->filter_count = (uint32_t)((size_t)ret / sizeof(launch->filter[0]));
	return 0;
}

static uint32_t insert_unique(uint16_t *nrs, uint32_t n, uint32_t max, uint16_t nr)
{
	uint32_t at = 0;

	while (at < n && nrs[at] < nr)
		at++;
	if ((at < n && nrs[at] == nr) || n == max)
		return n;
	memmove(&nrs[at + 1], &nrs[at], (n - at) * sizeof(*nrs));
	nrs[at] = nr;
	return n + 1;
}

uint32_t policy_calls(enum dev_kind kind, uint32_t when, uint16_t *nrs, uint32_t max)
{
	const struct policy *const tables[] = { &policy_common, policy_of(kind) };
	uint32_t n = 0;

	for (size_t t = 0; t < ARRAY_SIZE(tables) && tables[t] != NULL; t++) {
		for (uint32_t i = 0; i < tables[t]->count; i++) {
			const struct policy_rule *rule = &tables[t]->rules[i];

			if ((rule->when & when) == rule->when)
				n = insert_unique(nrs, n, max, rule->nr);
		}
	}
	return n;
}
