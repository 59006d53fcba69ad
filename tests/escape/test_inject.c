/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a taken-over box can call: exactly what its policy says, and nothing by another ABI.  Calls
 * are injected into active boxes of the release programs; each forbidden one ends a generation, and
 * must have been seen to: held by the listener, named in the VMM's log, the box fenced by it and
 * replaced.
 *
 * Allowed calls are executed: they come with pointers to nowhere, so that the kernel gets as far as
 * using them and nothing is read or written.
 *
 *   test_inject [PATTERN]    the tests whose names match, as in the shell
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
#include <signal.h>
#include <sys/syscall.h>

#include "core/cc.h"
#include "tests/escape/inject.h"
#include "tests/escape/oracle.h"
#include "tests/escape/target.h"

#define NUMBERS 1024
#define NOWHERE 0x1000 /* below everything that a box has mapped */
#define COMPLAINTS_MAX 20

static struct target_rig rig;

/*
 * What the kernel itself lets past every filter (kernel/seccomp.c): uretprobe since 6.14, uprobe
 * since 6.18.  Neither does anything but on the pages that the kernel maps for a tracer's probes.
 * An older kernel asks the filter.
 */
static const struct exception {
	uint32_t nr;
	enum inject_outcome outcome;
	long ret;
} exceptions[] = {
	{ 335, INJECT_FAULTED, SIGILL },
	{ 336, INJECT_EXECUTED, -ENXIO },
};

/* A device under attack: `in` is attached to its active box or to nothing. */
struct attack {
	struct target target;
	struct oracle oracle;
	struct inject in;
	uint32_t executed, held, exited, wrong;
};

static struct attack attack;

static void attack_begin(struct attack *a, const struct target_variant *v)
{
	const int ret = target_create(&a->target, &rig, v);

	if (ret != 0)
		fail_msg("%s: %s\n%s", v->name, strerror(-ret), target_log(&rig));
	oracle_init(&a->oracle, a->target.launch, a->target.spec.policy_when);
	a->in.pid = 0;
	a->executed = a->held = a->exited = a->wrong = 0;
}

/* It can still be replaced in an orderly way after all that. */
static void attack_end(struct attack *a)
{
	struct replacement r;

	inject_detach(&a->in);
	target_log_clear(&rig);
	assert_int_equal(device_replace(a->target.dev, REPLACE_OPERATOR, true, &r), 0);
	if (r.fence != FENCE_PARKED)
		fail_msg("a handoff afterwards rests on %s, after %u us\n%s", fence_name(r.fence),
			 r.drain_us, target_log(&rig));
	print_message("%u executed, %u held, %u exited\n", a->executed, a->held, a->exited);
	assert_int_equal(a->wrong, 0);
}

/* After each test, whatever became of it. */
static int teardown(void **state)
{
	(void)state;
	inject_detach(&attack.in);
	if (attack.target.dev != NULL)
		target_destroy(&attack.target);
	return 0;
}

static void complain(struct attack *a, enum inject_abi abi, const struct probe *p, const char *why,
		     long ret)
{
	if (a->wrong++ >= COMPLAINTS_MAX)
		return;
	print_error("%s: %s: call %u(%lx, %lx, %lx, %lx, %lx, %lx): %s, %ld\n",
		    a->target.variant->name, inject_abi_name(abi), p->nr, p->args[0], p->args[1],
		    p->args[2], p->args[3], p->args[4], p->args[5], why, ret);
}

/* The supervisor's side of a forbidden call: it learned which, fenced the box by it, replaced it. */
static void check_reaction(struct attack *a, enum inject_abi abi, const struct probe *p,
			   uint64_t seen)
{
	const uint32_t nr = (uint32_t)inject_number(abi, p->nr);
	struct replacement r = { 0 };
	char line[64];

	if (target_wait_replaced(&a->target, seen, &r) != 0)
		fail_msg("%s: no replacement after a forbidden call\n%s", a->target.variant->name,
			 target_log(&rig));
	snprintf(line, sizeof(line), "made a forbidden system call (%d)\n", (int)nr);
	if (r.reason != REPLACE_SECCOMP)
		complain(a, abi, p, replace_reason_name(r.reason), 0);
	else if (r.fence != FENCE_HELD)
		complain(a, abi, p, fence_name(r.fence), 0);
	else if (strstr(target_log(&rig), line) == NULL)
		complain(a, abi, p, "not named in the log", 0);
	target_log_clear(&rig);
}

static enum inject_outcome inject_probe(struct attack *a, enum inject_abi abi,
					const struct probe *p, long *ret)
{
	if (a->in.pid == 0) {
		const int err = inject_attach(&a->in, target_pid(&a->target), false);

		if (err != 0)
			fail_msg("cannot attach: %s", strerror(-err));
	}
	return inject_call(&a->in, abi, inject_number(abi, p->nr), p->args, ret);
}

static bool is_exception(enum inject_abi abi, const struct probe *p, enum inject_outcome outcome,
			 long ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(exceptions); i++) {
		const struct exception *e = &exceptions[i];

		if (abi == INJECT_SYSCALL && p->nr == e->nr && outcome == e->outcome &&
		    ret == e->ret) {
			print_message("call %u is not filtered by this kernel: %s, %ld\n", p->nr,
				      inject_outcome_name(outcome), ret);
			return true;
		}
	}
	return false;
}

/* A call that must be executed, or must not. */
static void probe(struct attack *a, enum inject_abi abi, const struct probe *p)
{
	const bool allowed = abi == INJECT_SYSCALL && oracle_allows(&a->oracle, p->nr, p->args);
	const uint64_t seen = a->target.replaced;
	long ret = 0;
	enum inject_outcome outcome;

	if (allowed && p->nr == SYS_exit_group)
		return; /* test_exit() */
	outcome = inject_probe(a, abi, p, &ret);
	if (is_exception(abi, p, outcome, ret))
		return;
	a->executed += outcome == INJECT_EXECUTED;
	if (allowed) {
		if (outcome != INJECT_EXECUTED || ret == -ENOSYS)
			complain(a, abi, p, inject_outcome_name(outcome), ret);
	} else if (outcome == INJECT_KILLED && ret == SIGKILL) {
		/* By the supervisor, while it was in the call: which fence it took says so. */
		a->held++;
		check_reaction(a, abi, p, seen);
	} else {
		complain(a, abi, p, inject_outcome_name(outcome), ret);
	}
	if (outcome == INJECT_SILENT || outcome == INJECT_FAILED || outcome == INJECT_EXITED)
		fail_msg("cannot go on: %s, %ld", inject_outcome_name(outcome), ret);
}

/* ---- the tests ---- */

static void sweep(const struct target_variant *v, enum inject_abi abi)
{
	attack_begin(&attack, v);
	for (uint32_t nr = 0; nr < NUMBERS; nr++)
		probe(&attack, abi, &(struct probe){ .nr = nr });
	attack_end(&attack);
}

static void test_syscall(void **state)
{
	sweep(*state, INJECT_SYSCALL);
}

static void test_x32(void **state)
{
	sweep(*state, INJECT_X32);
}

static void test_int80(void **state)
{
	if (!inject_int80_works()) {
		print_message("this kernel has no int $0x80 (ia32_emulation)\n");
		skip();
	}
	sweep(*state, INJECT_INT80);
}

/* Numbers that are none, or are cut off on the way to one. */
static void test_odd_numbers(void **state)
{
	static const uint32_t numbers[] = { 1024,       0x3fffffff, 0x7fffffff,
					    0x80000000, 0xffffffff, 0x80000000 | SYS_read };
	attack_begin(&attack, *state);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		probe(&attack, INJECT_SYSCALL, &(struct probe){ .nr = numbers[i] });
	attack_end(&attack);
}

/* Each rule's call, one argument at a time put on and over each edge. */
static void test_arguments(void **state)
{
	attack_begin(&attack, *state);
	for (uint32_t i = 0; i < attack.oracle.count; i++) {
		struct probe base;

		oracle_base(&attack.oracle, i, NOWHERE, &base);
		for (unsigned int arg = 0; arg < 6; arg++) {
			uint64_t values[ORACLE_VALUES_MAX];
			const uint32_t n = oracle_values(&attack.oracle, base.nr, arg, values);

			for (uint32_t k = 0; k < n; k++) {
				struct probe p = base;

				p.args[arg] = values[k];
				probe(&attack, INJECT_SYSCALL, &p);
			}
		}
	}
	attack_end(&attack);
}

/* An allowed call is not by its number allowed in another ABI. */
static void test_foreign_abis(void **state)
{
	const bool int80 = inject_int80_works();

	attack_begin(&attack, *state);
	for (uint32_t i = 0; i < attack.oracle.count; i++) {
		struct probe p;

		oracle_base(&attack.oracle, i, NOWHERE, &p);
		probe(&attack, INJECT_X32, &p);
		if (int80)
			probe(&attack, INJECT_INT80, &p);
	}
	attack_end(&attack);
}

/* To end itself is allowed, with any code; the supervisor takes it for a crash. */
static void test_exit(void **state)
{
	static const int codes[] = { 0, 86, 255 };
	attack_begin(&attack, *state);
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		const struct probe p = { SYS_exit_group, { (uint64_t)codes[i] } };
		const uint64_t seen = attack.target.replaced;
		enum inject_outcome outcome;
		struct replacement r;
		long ret = 0;

		outcome = inject_probe(&attack, INJECT_SYSCALL, &p, &ret);
		/* The supervisor may reap it first, and only it then knows the code. */
		assert_true(outcome == INJECT_EXITED || outcome == INJECT_KILLED);
		if (outcome == INJECT_EXITED)
			assert_int_equal(ret, codes[i]);
		assert_int_equal(target_wait_replaced(&attack.target, seen, &r), 0);
		assert_int_equal(r.reason, REPLACE_CRASH);
		attack.exited++;
	}
	attack_end(&attack);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		CMUnitTestFunction run;
		bool plain; /* for one variant of each kind */
	} parts[] = {
		{ "syscall", test_syscall, true },
		{ "x32", test_x32, true },
		{ "int80", test_int80, true },
		{ "odd numbers", test_odd_numbers, true },
		{ "arguments", test_arguments, false },
		{ "foreign ABIs", test_foreign_abis, false },
		{ "exit", test_exit, true },
	};
	struct CMUnitTest tests[128] = { 0 };
	static char names[128][48];
	size_t n = 0;
	int ret;

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* for example 'blk: *' */
	ret = target_rig_start(&rig);
	if (ret != 0)
		return ret;
	for (uint32_t v = 0; v < target_variant_count; v++) {
		for (size_t i = 0; i < ARRAY_SIZE(parts) && n < ARRAY_SIZE(tests); i++) {
			if (parts[i].plain && !target_variants[v].plain)
				continue;
			snprintf(names[n], sizeof(names[n]), "%s: %s", target_variants[v].name,
				 parts[i].name);
			tests[n].name = names[n];
			tests[n].test_func = parts[i].run;
			tests[n].teardown_func = teardown;
			tests[n].initial_state = (void *)(uintptr_t)&target_variants[v];
			n++;
		}
	}
	ret = _cmocka_run_group_tests("escape: injected calls", tests, n, NULL, NULL);
	target_rig_stop(&rig);
	return ret;
}
