/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VMM's threads may ask of the kernel: the filters as they were compiled, against their rules,
 * and the rules against tests/unit/confine.txt, so that a call more is a diff that somebody reads.
 *
 *   test_confine --golden   writes that file
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <linux/audit.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/confine.h"
#include "tests/unit/bpf.h"

#define GOLDEN "tests/unit/confine.txt"
#define NUMBERS 1024
#define TRIES 64

static struct launch_insn filter[CONFINE_FILTER_MAX];
static uint32_t count;

_Static_assert(sizeof(struct launch_insn) == sizeof(struct sock_filter), "the same thing");

static uint32_t decide(uint32_t arch, uint32_t nr, const uint64_t args[6])
{
	struct seccomp_data data = { .nr = (int)nr, .arch = arch };

	memcpy(data.args, args, sizeof(data.args));
	return bpf_run(filter, count, &data) & SECCOMP_RET_ACTION_FULL;
}

static void at_random(uint64_t args[6])
{
	for (int i = 0; i < 6; i++)
		args[i] = (uint64_t)mrand48() << 32 ^ (uint64_t)mrand48();
}

static bool holds(const struct confine_rule *rule, const uint64_t args[6])
{
	for (uint32_t i = 0; i < rule->arg_count; i++) {
		const uint64_t arg = args[rule->args[i].index];

		if (rule->args[i].own_pid ? arg != (uint64_t)getpid()
					  : (arg & rule->args[i].mask) != rule->args[i].value)
			return false;
	}
	return true;
}

/* Whether the rules let it pass. */
static bool allowed(enum confine_role role, uint32_t nr, const uint64_t args[6])
{
	for (size_t i = 0; i < confine_rule_count; i++) {
		const struct confine_rule *rule = &confine_rules[i];

		if (rule->nr == nr && (rule->roles & 1u << role) && holds(rule, args))
			return true;
	}
	return false;
}

static void try_call(enum confine_role role, uint32_t nr, const uint64_t args[6])
{
	const uint32_t got = decide(AUDIT_ARCH_X86_64, nr, args);
	const uint32_t want = allowed(role, nr, args) ? SECCOMP_RET_ALLOW
			      : nr == SYS_clone3      ? SECCOMP_RET_ERRNO
						      : SECCOMP_RET_TRAP;

	if (got != want)
		fail_msg("role %d: call %u: %#x, not %#x", role, nr, got, want);
}

/* Arguments of each rule's kind, all others at random; and all at random. */
static void try_number(enum confine_role role, uint32_t nr)
{
	uint64_t args[6];

	for (int i = 0; i < TRIES; i++) {
		at_random(args);
		try_call(role, nr, args);
	}
	for (size_t i = 0; i < confine_rule_count; i++) {
		const struct confine_rule *rule = &confine_rules[i];

		if (rule->nr != nr)
			continue;
		at_random(args);
		for (uint32_t a = 0; a < rule->arg_count; a++) {
			uint64_t *arg = &args[rule->args[a].index];

			*arg = rule->args[a].own_pid
				       ? (uint64_t)getpid()
				       : (*arg & ~rule->args[a].mask) | rule->args[a].value;
		}
		try_call(role, nr, args);
	}
}

static void test_filters(void **state)
{
	uint64_t args[6];

	(void)state;
	for (int role = 0; role < CONFINE_ROLE_COUNT; role++) {
		const int n =
			confine_compile((enum confine_role)role, (struct sock_filter *)filter);

		assert_in_range(n, 1, 4096);
		count = (uint32_t)n;
		for (uint32_t nr = 0; nr < NUMBERS; nr++)
			try_number((enum confine_role)role, nr);
		at_random(args);
		for (uint32_t nr = 0; nr < NUMBERS; nr++) { /* int $0x80, x32 */
			assert_int_equal(decide(AUDIT_ARCH_I386, nr, args),
					 SECCOMP_RET_KILL_PROCESS);
			assert_int_not_equal(decide(AUDIT_ARCH_X86_64, nr | 0x40000000u, args),
					     SECCOMP_RET_ALLOW);
		}
	}
}

/* ---- the golden file ---- */

static void write_rule(FILE *out, const struct confine_rule *rule)
{
	cleanup_free char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, rule->nr);

	fprintf(out, "\t%s", name != NULL ? name : "?");
	for (uint32_t i = 0; i < rule->arg_count && !rule->args[i].own_pid; i++)
		fprintf(out, " argument %u & %#llx == %#llx", rule->args[i].index,
			(unsigned long long)rule->args[i].mask,
			(unsigned long long)rule->args[i].value);
	fputs(rule->args[0].own_pid ? " of this process\n" : "\n", out);
}

static void write_roles(FILE *out)
{
	static const char *const names[] = {
#define ROLE_NAME(NAME, name, text) name,
		CONFINE_ROLES(ROLE_NAME)
#undef ROLE_NAME
	};

	for (int role = 0; role < CONFINE_ROLE_COUNT; role++) {
		fprintf(out, "%s\n", names[role]);
		for (size_t i = 0; i < confine_rule_count; i++) {
			if (confine_rules[i].roles & 1u << role)
				write_rule(out, &confine_rules[i]);
		}
	}
}

static void test_golden(void **state)
{
	char *text = NULL, old[65536];
	size_t bytes = 0;
	FILE *now = open_memstream(&text, &bytes), *f = fopen(GOLDEN, "re");

	(void)state;
	assert_non_null(f);
	write_roles(now);
	fclose(now);
	old[fread(old, 1, sizeof(old) - 1, f)] = '\0';
	fclose(f);
#ifndef __SANITIZE_ADDRESS__ /* which has rules of its own */
	assert_string_equal(text, old);
#endif
	free(text);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_golden),
	};
	FILE *out;

	if (argc != 2 || strcmp(argv[1], "--golden") != 0)
		return cmocka_run_group_tests_name("confine", tests, NULL, NULL);
	out = fopen(GOLDEN, "we");
	if (out == NULL)
		return 1;
	write_roles(out);
	return fclose(out);
}
