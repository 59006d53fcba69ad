/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled filters, without a process: what each lets through is written down in a golden file
 * that a reader of a change sees, and is exactly what the policy tables say, at every edge of every
 * argument and for every ABI.
 *
 *   test_filters            compare
 *   test_filters --golden   write tests/escape/golden
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/audit.h>

#include "core/cc.h"
#include "tests/escape/bpf.h"
#include "tests/escape/inject.h"
#include "tests/escape/oracle.h"
#include "tests/escape/summary.h"
#include "tests/escape/target.h"

#define GOLDEN_DIR "tests/escape/golden"
#define TEXT_MAX 65536
#define NUMBERS 1024

static struct launch_record launch;
static struct summary summary;

static void prepare(const struct target_variant *v)
{
	assert_int_equal(target_launch(v, &launch), 0);
	if (summary_make(&summary, &launch) != 0)
		fail_msg("%s: %s", v->name, summary.odd);
}

static void golden_path(const struct target_variant *v, char *path, size_t room)
{
	snprintf(path, room, "%s/%s.txt", GOLDEN_DIR, v->name);
}

/* ---- golden ---- */

/* The first line in which two texts differ, for the message. */
static void print_difference(const char *old, const char *new)
{
	while (*old != '\0' && *old == *new)
		old++, new ++;
	print_error("from here on\n--- golden\n%.400s\n--- now\n%.400s\n", old, new);
}

static void test_golden(void **state)
{
	const struct target_variant *v = *state;
	static char text[TEXT_MAX], golden[TEXT_MAX];
	char path[256];
	size_t n = 0;
	FILE *f;

	prepare(v);
	summary_print(&summary, &launch, v->name, text, sizeof(text));
	golden_path(v, path, sizeof(path));
	f = fopen(path, "re");
	if (f != NULL) {
		n = fread(golden, 1, sizeof(golden) - 1, f);
		fclose(f);
	}
	golden[n] = '\0';
	if (strcmp(text, golden) == 0)
		return;
	print_difference(golden, text);
	fail_msg("%s: what this filter allows has changed; if that is meant, `make golden` and "
		 "commit the difference for review",
		 path);
}

static int write_golden(void)
{
	static char text[TEXT_MAX];

	for (uint32_t i = 0; i < target_variant_count; i++) {
		const struct target_variant *v = &target_variants[i];
		char path[256];
		FILE *f;

		if (target_launch(v, &launch) != 0 || summary_make(&summary, &launch) != 0) {
			fprintf(stderr, "%s: %s\n", v->name,
				summary.odd != NULL ? summary.odd : "cannot be compiled");
			return 1;
		}
		summary_print(&summary, &launch, v->name, text, sizeof(text));
		golden_path(v, path, sizeof(path));
		f = fopen(path, "we");
		if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0) {
			fprintf(stderr, "%s: %s\n", path, strerror(errno));
			return 1;
		}
		printf("%s: %u instructions\n", path, launch.filter_count);
	}
	return 0;
}

/* ---- filter against policy ---- */

static uint32_t run(uint32_t arch, uint64_t nr, const uint64_t args[6])
{
	struct seccomp_data data = { .nr = (int)nr, .arch = arch };
	uint32_t action = 0;

	for (int i = 0; i < 6; i++)
		data.args[i] = args[i];
	assert_int_equal(bpf_run(&launch, &data, &action), 0);
	return action;
}

/* One call by one ABI: allowed exactly where the policy says so, else told to the listener. */
static void check_call(const struct oracle *o, uint32_t arch, uint64_t nr, const uint64_t args[6])
{
	const bool allowed = arch == AUDIT_ARCH_X86_64 && oracle_allows(o, nr, args);
	const uint32_t want = allowed ? SECCOMP_RET_ALLOW : SECCOMP_RET_USER_NOTIF;
	const uint32_t action = run(arch, nr, args);

	if (action != want)
		fail_msg("arch %x call %lu(%lx, %lx, %lx, %lx, %lx, %lx): %x, should be %x", arch,
			 nr, args[0], args[1], args[2], args[3], args[4], args[5], action, want);
}

static void check_all_abis(const struct oracle *o, uint32_t nr, const uint64_t args[6])
{
	static const uint32_t arches[] = { AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0 };

	check_call(o, AUDIT_ARCH_X86_64, nr, args);
	check_call(o, AUDIT_ARCH_X86_64, nr | INJECT_X32_BIT, args);
	for (size_t i = 0; i < ARRAY_SIZE(arches); i++) {
		check_call(o, arches[i], nr, args);
		check_call(o, arches[i], nr | INJECT_X32_BIT, args);
	}
}

/* Every number, with the arguments of every rule, so that no rule holds for a number not its own. */
static void test_numbers(void **state)
{
	static const uint32_t odd[] = { 0x7fffffff, 0x80000000, 0xffffffff, 0x3fffffff };
	struct oracle o;

	prepare(*state);
	oracle_init(&o, &launch, target_when(*state));
	for (uint32_t i = 0; i < o.count; i++) {
		struct probe p;

		oracle_base(&o, i, 0, &p);
		for (uint32_t nr = 0; nr < NUMBERS; nr++)
			check_all_abis(&o, nr, p.args);
		for (size_t k = 0; k < ARRAY_SIZE(odd); k++)
			check_all_abis(&o, odd[k], p.args);
	}
}

struct values {
	uint32_t count;
	uint64_t value[ORACLE_VALUES_MAX];
};

/* Goes on to the next combination, as an odometer does. False: that was the last. */
static bool next_combination(uint32_t at[6], const struct values v[6])
{
	for (unsigned int arg = 0; arg < 6; arg++) {
		if (++at[arg] < v[arg].count)
			return true;
		at[arg] = 0;
	}
	return false;
}

/* Every combination of the values of the arguments. */
static uint64_t check_product(const struct oracle *o, struct probe *p, const struct values v[6])
{
	uint32_t at[6] = { 0 };
	uint64_t n = 0;

	do {
		for (unsigned int arg = 0; arg < 6; arg++)
			p->args[arg] = v[arg].value[at[arg]];
		check_call(o, AUDIT_ARCH_X86_64, p->nr, p->args);
		n++;
	} while (next_combination(at, v));
	return n;
}

/* Every edge of every argument that a rule names, each with each. */
static void test_edges(void **state)
{
	struct oracle o;
	uint64_t n = 0;

	prepare(*state);
	oracle_init(&o, &launch, target_when(*state));
	for (uint32_t i = 0; i < o.count; i++) {
		struct values v[6];
		struct probe p;

		oracle_base(&o, i, 0, &p);
		for (unsigned int a = 0; a < 6; a++) {
			v[a].count = 1;
			v[a].value[0] = 0x7ffe12345678;
			if (oracle_pins(&o, p.nr, a))
				v[a].count = oracle_values(&o, p.nr, a, v[a].value);
		}
		n += check_product(&o, &p, v);
	}
	print_message("%lu calls\n", n);
}

/* The corners of each allowed set, and one step out of it at each side. */
static void test_summary(void **state)
{
	struct oracle o;

	prepare(*state);
	oracle_init(&o, &launch, target_when(*state));
	assert_true(summary.count >= 1);
	for (uint32_t i = 0; i < summary.count; i++) {
		const struct allowed *a = &summary.allowed[i];

		assert_true(oracle_allows(&o, a->nr, a->low));
		assert_true(oracle_allows(&o, a->nr, a->high));
		assert_int_equal(run(AUDIT_ARCH_X86_64, a->nr, a->low), SECCOMP_RET_ALLOW);
		assert_int_equal(run(AUDIT_ARCH_X86_64, a->nr, a->high), SECCOMP_RET_ALLOW);
		for (int k = 0; k < 6; k++) {
			uint64_t args[6];

			memcpy(args, a->low, sizeof(args));
			args[k] = a->low[k] - 1;
			check_call(&o, AUDIT_ARCH_X86_64, a->nr, args);
			args[k] = a->high[k] + 1;
			check_call(&o, AUDIT_ARCH_X86_64, a->nr, args);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		CMUnitTestFunction run;
	} parts[] = {
		{ "golden", test_golden },
		{ "numbers", test_numbers },
		{ "edges", test_edges },
		{ "summary", test_summary },
	};
	struct CMUnitTest tests[64] = { 0 };
	static char names[64][48];
	size_t n = 0;

	if (argc > 1)
		return strcmp(argv[1], "--golden") == 0 ? write_golden() : 2;
	for (uint32_t v = 0; v < target_variant_count; v++) {
		for (size_t i = 0; i < ARRAY_SIZE(parts) && n < ARRAY_SIZE(tests); i++, n++) {
			snprintf(names[n], sizeof(names[n]), "%s: %s", target_variants[v].name,
				 parts[i].name);
			tests[n].name = names[n];
			tests[n].test_func = parts[i].run;
			tests[n].initial_state = (void *)(uintptr_t)&target_variants[v];
		}
	}
	return _cmocka_run_group_tests("escape: filters", tests, n, NULL, NULL);
}
