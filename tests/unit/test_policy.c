/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/policy.c: from a table of rules to what the kernel will decide.  The compiled filter is run
 * by an interpreter (bpf.h), so that what is tested is a verdict on a system call, not
 * libseccomp's way to it: by hand for what matters, and at random against the tables read as they are
 * documented in devmodel/abi/policy.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/seccomp.h>
#include <time.h>

#include "devmodel/abi/message.h"
#include "devmodel/common/policies.h"
#include "devmodel/rng/state.h"
#include "tests/unit/bpf.h"

static const struct policy *real_policy_of(uint32_t kind)
{
	return policy_of(kind);
}

static const struct policy *const real_common = &policy_common;

/* policy.c finds these tables instead of the real ones, where a test wants others. */
static const struct policy *chosen_common;
static const struct policy *chosen_kind;

static const struct policy *chosen_policy_of(uint32_t kind)
{
	return chosen_kind != NULL ? chosen_kind : real_policy_of(kind);
}

#define policy_of chosen_policy_of
#define policy_common (*chosen_common)
#include "core/box/policy.c"
#undef policy_of
#undef policy_common

static struct launch_record l;

struct syscall_args {
	uint64_t a[6];
};

static uint32_t verdict(int nr, const struct syscall_args *args)
{
	struct seccomp_data data = { .nr = nr, .arch = AUDIT_ARCH_X86_64 };

	memcpy(data.args, args->a, sizeof(data.args));
	return bpf_run(l.filter, l.filter_count, &data);
}

#define CALL(nr, ...) (verdict(nr, &(struct syscall_args){ { __VA_ARGS__ } }))
#define ALLOWED(...) assert_int_equal(CALL(__VA_ARGS__), SECCOMP_RET_ALLOW)
#define HELD(...) assert_int_equal(CALL(__VA_ARGS__), SECCOMP_RET_USER_NOTIF)

/* ---- launch records ---- */

static void record(uint32_t kind, uint16_t queues, bool timer, uint16_t backends)
{
	memset(&l, 0, sizeof(l));
	l.kind = kind;
	l.seal = SEAL_WANT_LISTENER;
	l.queues = queues;
	l.backends = backends;
	l.fd_kick = 1;
	l.fd_call = (uint16_t)(1 + queues);
	l.fd_backend = (uint16_t)(1 + 2 * queues + timer);
	l.fd_held = (uint16_t)(l.fd_backend + backends);
	l.fd_timer = timer ? (uint16_t)(1 + 2 * queues) : l.fd_held;
	l.config.blk.bytes = 5ull << 32;
	chosen_common = real_common;
	chosen_kind = NULL;
}

static void compile(uint32_t when)
{
	assert_int_equal(policy_compile(&l, when), 0);
	assert_in_range(l.filter_count, 1, BOX_FILTER_MAX);
}

#define ALL_WHEN (POLICY_IF_WRITABLE | POLICY_IF_FLUSH | POLICY_IF_TIMER)

/* ---- by hand ---- */

static void test_common(void **state)
{
	(void)state;
	record(DEV_KIND_BLK, 2, true, 1); /* control 0, kicks 1 2, calls 3 4, timer 5, image 6 */
	compile(ALL_WHEN);
	ALLOWED(__NR_read, 0, 0x1234, CTL_BYTES_MAX);
	HELD(__NR_read, 0, 0x1234, CTL_BYTES_MAX + 1);
	HELD(__NR_read, 0, 0x1234, 1ull << 32);
	ALLOWED(__NR_write, 0, 0x1234, sizeof(struct box_report));
	HELD(__NR_write, 0, 0x1234, sizeof(struct box_report) - 1);
	HELD(__NR_write, 0, 0x1234, 0);
	ALLOWED(__NR_ppoll, 0, 4, 0, 0);
	HELD(__NR_ppoll, 0, 5, 0, 0);
	HELD(__NR_ppoll, 0, 4, 1, 0);
	HELD(__NR_ppoll, 0, 4, 0, 1);
	ALLOWED(__NR_close, 7);
	HELD(__NR_close, 6);
	ALLOWED(__NR_exit_group, 86);
	HELD(__NR_exit, 0);
	HELD(BOX_CANARY_NR, 0);
	HELD(__NR_mmap, 0);
	HELD(__NR_restart_syscall, 0);
}

/* A rule for a group stands for each of its descriptors and for no other. */
static void test_groups(void **state)
{
	(void)state;
	for (uint16_t queues = 1; queues <= BOX_QUEUES_MAX; queues++) {
		record(DEV_KIND_BLK, queues, false, 1);
		compile(ALL_WHEN & ~POLICY_IF_TIMER);
		for (uint64_t fd = 0; fd < 48; fd++) {
			const bool kick = fd >= 1 && fd <= queues;
			const bool call = fd > queues && fd <= 2 * queues;

			assert_int_equal(CALL(__NR_read, fd, 0, 8),
					 kick || fd == 0 ? SECCOMP_RET_ALLOW
							 : SECCOMP_RET_USER_NOTIF);
			assert_int_equal(CALL(__NR_write, fd, 0, 8),
					 call ? SECCOMP_RET_ALLOW : SECCOMP_RET_USER_NOTIF);
		}
		HELD(__NR_read, 1, 0, 16);
		HELD(__NR_read, 1ull << 32 | 1, 0, 8); /* all 64 bits of a descriptor */
		ALLOWED(__NR_ppoll, 0, 1u + queues, 0, 0);
	}
}

static void test_blk(void **state)
{
	const uint64_t last = (5ull << 32) - 512;

	(void)state;
	record(DEV_KIND_BLK, 1, false, 1); /* image 3 */
	compile(POLICY_IF_WRITABLE | POLICY_IF_FLUSH);
	ALLOWED(__NR_pread64, 3, 0, BLK_REQUEST_MAX, last);
	HELD(__NR_pread64, 3, 0, BLK_REQUEST_MAX + 1, 0);
	HELD(__NR_pread64, 3, 0, 512, last + 1);
	HELD(__NR_pread64, 3, 0, 512, UINT64_MAX);
	HELD(__NR_pread64, 0, 0, 512, 0);
	ALLOWED(__NR_pwrite64, 3, 0, 512, last);
	HELD(__NR_pwrite64, 3, 0, 512, last + 512);
	HELD(__NR_pwrite64, 4, 0, 512, 0);
	ALLOWED(__NR_fdatasync, 3);
	HELD(__NR_fdatasync, 2);
	ALLOWED(__NR_fallocate, 3, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, last, 512);
	ALLOWED(__NR_fallocate, 3, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 512);
	HELD(__NR_fallocate, 3, 0, 0, 512);
	HELD(__NR_fallocate, 3, FALLOC_FL_ZERO_RANGE, 0, 512);
	HELD(__NR_fallocate, 3, FALLOC_FL_COLLAPSE_RANGE, 0, 512);
	HELD(__NR_fallocate, 3, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1ull << 40);
	HELD(__NR_read, 3, 0, 512);
	HELD(__NR_clock_gettime, CLOCK_MONOTONIC, 0);
}

static void test_blk_conditions(void **state)
{
	(void)state;
	record(DEV_KIND_BLK, 1, false, 1);
	compile(0);
	ALLOWED(__NR_pread64, 3, 0, 512, 0);
	HELD(__NR_pwrite64, 3, 0, 512, 0);
	HELD(__NR_fdatasync, 3);
	HELD(__NR_fallocate, 3, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 512);
	record(DEV_KIND_BLK, 1, true, 1); /* timer 3, image 4 */
	compile(POLICY_IF_TIMER);
	ALLOWED(__NR_clock_gettime, CLOCK_MONOTONIC, 0);
	HELD(__NR_clock_gettime, CLOCK_REALTIME, 0);
	ALLOWED(__NR_timerfd_settime, 3, 0, 0, 0);
	HELD(__NR_timerfd_settime, 3, 1, 0, 0);
	HELD(__NR_timerfd_settime, 4, 0, 0, 0);
	ALLOWED(__NR_read, 3, 0, 8);
	ALLOWED(__NR_pread64, 4, 0, 512, 0);
	HELD(__NR_pread64, 3, 0, 512, 0);
}

static void test_rng(void **state)
{
	(void)state;
	record(DEV_KIND_RNG, 1, false, 1);
	compile(0);
	ALLOWED(__NR_read, 3, 0, RNG_REQUEST_MAX);
	HELD(__NR_read, 3, 0, RNG_REQUEST_MAX + 1);
	HELD(__NR_write, 3, 0, 8);
	HELD(__NR_ioctl, 3, 0, 0);
	HELD(__NR_pread64, 3, 0, 8, 0);
	record(DEV_KIND_RNG, 1, false, 0); /* a box without its backend: the rule is left out */
	compile(0);
	HELD(__NR_read, 3, 0, 8);
}

/* What a balloon is about is nothing that it could do itself. */
static void test_balloon(void **state)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	(void)state;
	record(DEV_KIND_BALLOON, 4, false, 0);
	compile(ALL_WHEN);
	for (int fd = 0; fd < 12; fd++)
		HELD(__NR_fallocate, fd, mode, 0, 4096);
	HELD(__NR_madvise, 0x100000, 4096, 9);
	HELD(__NR_munmap, 0x100000, 4096);
	ALLOWED(__NR_write, 0, 0, sizeof(struct box_report));
	HELD(__NR_write, 0, 0, sizeof(struct box_report) + 1);
}

/* Nothing that every kind may not do, too. */
static void test_mem(void **state)
{
	(void)state;
	record(DEV_KIND_MEM, 1, false, 0);
	compile(0);
	ALLOWED(__NR_read, 0, 0, CTL_BYTES_MAX);
	ALLOWED(__NR_write, 0, 0, sizeof(struct box_report));
	HELD(__NR_write, 0, 0, 2 * sizeof(struct box_report));
	HELD(__NR_read, 3, 0, 8);
	HELD(__NR_write, 3, 0, 8);
	HELD(__NR_madvise, 0, 4096, 4);
	HELD(__NR_fallocate, 3, 3, 0, 4096);
}

/* Foreign system call numbers get what everything else gets: never a way of their own. */
static void test_foreign(void **state)
{
	struct seccomp_data data = { .nr = __NR_exit_group, .arch = AUDIT_ARCH_I386 };

	(void)state;
	record(DEV_KIND_BLK, 1, false, 1);
	compile(ALL_WHEN & ~POLICY_IF_TIMER);
	assert_int_equal(bpf_run(l.filter, l.filter_count, &data), SECCOMP_RET_USER_NOTIF);
	data.arch = AUDIT_ARCH_AARCH64;
	assert_int_equal(bpf_run(l.filter, l.filter_count, &data), SECCOMP_RET_USER_NOTIF);
	HELD(0x40000000 | __NR_exit_group, 0); /* x32 */
	HELD(0x40000000 | __NR_read, 0, 0, 8);
	HELD(-1, 0);
	l.seal = 0; /* no listener on this host */
	compile(0);
	assert_int_equal(CALL(__NR_mmap, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(bpf_run(l.filter, l.filter_count, &data), SECCOMP_RET_KILL_PROCESS);
	ALLOWED(__NR_exit_group, 0);
}

/* ---- tables made up ---- */

static const struct policy nothing = { .rules = NULL, .count = 0 };

static int compile_rules(const struct policy_rule *rules, uint32_t count, uint32_t when)
{
	const struct policy table = { .rules = rules, .count = count };
	int ret;

	chosen_common = &nothing;
	chosen_kind = &table;
	ret = policy_compile(&l, when);
	chosen_kind = NULL;
	return ret;
}

#define TEST(a, o, what, v)                                                                        \
	{                                                                                          \
		.arg = (a), .op = POLICY_##o, .operand = POLICY_##what, .value = (v)               \
	}

static void test_operands(void **state)
{
	static const struct policy_rule rules[] = {
		{ .nr = 1000, .tests = { TEST(5, EQ, VALUE, 0x123456789abcdef0) } },
		{ .nr = 1001, .tests = { TEST(0, EQ, FD_CONTROL, 0) } },
		{ .nr = 1002, .tests = { TEST(1, EQ, FD_KICK, 0) } },
		{ .nr = 1003, .tests = { TEST(2, EQ, FD_CALL, 0) } },
		{ .nr = 1004, .tests = { TEST(3, EQ, FD_TIMER, 0) } },
		{ .nr = 1005, .tests = { TEST(4, EQ, FD_BACKEND, 1) } },
		{ .nr = 1006, .tests = { TEST(0, EQ, FD_LISTENER, 0) } },
		{ .nr = 1007, .tests = { TEST(0, EQ, POLL_COUNT, 0) } },
		{ .nr = 1008, .tests = { TEST(0, EQ, POLL_STREAMS, 2) } },
		{ .nr = 1009, .tests = { TEST(0, EQ, IMAGE_LAST, 0) } },
		{ .nr = 1010, .tests = { TEST(0, EQ, IMAGE_BYTES, 0) } },
	};

	(void)state;
	record(DEV_KIND_BLK, 2, true, 2); /* kicks 1 2, calls 3 4, timer 5, backends 6 7, free 8 */
	assert_int_equal(compile_rules(rules, ARRAY_SIZE(rules), 0), 0);
	ALLOWED(1000, 0, 0, 0, 0, 0, 0x123456789abcdef0);
	HELD(1000, 0, 0, 0, 0, 0, 0x9abcdef0);
	HELD(1000, 0, 0, 0, 0, 0, 0x123456789abcdef1);
	ALLOWED(1001, 0);
	HELD(1001, 1);
	for (uint64_t fd = 0; fd < 10; fd++) {
		assert_int_equal(CALL(1002, 0, fd) == SECCOMP_RET_ALLOW, fd == 1 || fd == 2);
		assert_int_equal(CALL(1003, 0, 0, fd) == SECCOMP_RET_ALLOW, fd == 3 || fd == 4);
		assert_int_equal(CALL(1004, 0, 0, 0, fd) == SECCOMP_RET_ALLOW, fd == 5);
		assert_int_equal(CALL(1005, 0, 0, 0, 0, fd) == SECCOMP_RET_ALLOW, fd == 7);
		assert_int_equal(CALL(1006, fd) == SECCOMP_RET_ALLOW, fd == 8);
		assert_int_equal(CALL(1007, fd) == SECCOMP_RET_ALLOW, fd == 4); /* 1 + 2 + 1 */
		assert_int_equal(CALL(1008, fd) == SECCOMP_RET_ALLOW, fd == 6);
	}
	ALLOWED(1009, (5ull << 32) - 512);
	ALLOWED(1010, 5ull << 32);
	HELD(1010, 0);
}

/* Comparisons are unsigned and of all 64 bits. */
static void test_comparisons(void **state)
{
	static const uint64_t edges[] = { 0,          1,          0x7fffffff,       0x80000000,
					  0xffffffff, 1ull << 32, (1ull << 32) + 1, INT64_MAX,
					  1ull << 63, UINT64_MAX };
	(void)state;
	record(DEV_KIND_BLK, 1, false, 1);
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		const struct policy_rule rules[] = {
			{ .nr = 1, .tests = { TEST(2, LE, VALUE, edges[i]) } },
			{ .nr = 2, .tests = { TEST(2, GE, VALUE, edges[i]) } },
			{ .nr = 3, .tests = { TEST(2, EQ, VALUE, edges[i]) } },
		};

		assert_int_equal(compile_rules(rules, ARRAY_SIZE(rules), 0), 0);
		for (size_t j = 0; j < ARRAY_SIZE(edges); j++) {
			assert_int_equal(CALL(1, 0, 0, edges[j]) == SECCOMP_RET_ALLOW,
					 edges[j] <= edges[i]);
			assert_int_equal(CALL(2, 0, 0, edges[j]) == SECCOMP_RET_ALLOW,
					 edges[j] >= edges[i]);
			assert_int_equal(CALL(3, 0, 0, edges[j]) == SECCOMP_RET_ALLOW, i == j);
		}
	}
}

static void test_conditions(void **state)
{
	static const struct policy_rule rules[] = {
		{ .nr = 1 },
		{ .nr = 2, .when = POLICY_IF_WRITABLE },
		{ .nr = 3, .when = POLICY_IF_WRITABLE | POLICY_IF_FLUSH },
		{ .nr = 4, .tests = { TEST(0, EQ, FD_TIMER, 0) } },
		{ .nr = 5, .tests = { TEST(0, EQ, FD_BACKEND, 1) } },
	};

	(void)state;
	record(DEV_KIND_BLK, 1, false, 1);
	for (uint32_t when = 0; when <= ALL_WHEN; when++) {
		assert_int_equal(compile_rules(rules, ARRAY_SIZE(rules), when), 0);
		ALLOWED(1, 0);
		assert_int_equal(CALL(2, 0) == SECCOMP_RET_ALLOW, (when & 1) != 0);
		assert_int_equal(CALL(3, 0) == SECCOMP_RET_ALLOW, (when & 3) == 3);
		HELD(4, l.fd_timer); /* has none, and the number is the free one */
		HELD(5, l.fd_backend + 1);
	}
}

static void test_errors(void **state)
{
	static const struct policy_rule twice[] = {
		{ .nr = 1, .tests = { TEST(1, LE, VALUE, 9), TEST(1, GE, VALUE, 3) } },
	};
	static const struct policy_rule beyond[] = { { .nr = 1,
						       .tests = { TEST(6, EQ, VALUE, 0) } } };
	static const struct policy_rule good[] = { { .nr = 1 } };
	static struct policy_rule many[BOX_FILTER_MAX];

	(void)state;
	record(DEV_KIND_BLK, 1, false, 1);
	assert_int_equal(compile_rules(twice, 1, 0), -EINVAL);
	assert_int_equal(compile_rules(beyond, 1, 0), -EINVAL);
	for (uint32_t i = 0; i < BOX_FILTER_MAX; i++)
		many[i] = (struct policy_rule){ .nr = (uint16_t)i };
	assert_int_equal(compile_rules(many, BOX_FILTER_MAX, 0), -E2BIG);
	assert_int_equal(compile_rules(good, 1, 0), 0);
	chosen_common = real_common;
	l.kind = DEV_KIND_COUNT;
	assert_int_equal(policy_compile(&l, 0), -EINVAL);
	l.kind = UINT32_MAX;
	assert_int_equal(policy_compile(&l, 0), -EINVAL);
}

/* The same rule by two ways is one rule. */
static void test_same_rule_twice(void **state)
{
	static const struct policy_rule rules[] = {
		{ .nr = 1, .tests = { TEST(0, EQ, FD_KICK, 0) } },
		{ .nr = 1, .tests = { TEST(0, EQ, VALUE, 1) } },
	};

	(void)state;
	record(DEV_KIND_BLK, 1, false, 1);
	assert_int_equal(compile_rules(rules, 2, 0), 0);
	ALLOWED(1, 1);
	HELD(1, 2);
}

/* ---- at random, against the tables ---- */

static uint64_t expected_value(const struct policy_test *t, uint64_t arg)
{
	const uint64_t timer = l.fd_timer != l.fd_held;
	const uint64_t none = ~arg; /* not equal */

	switch (t->operand) {
	case POLICY_FD_KICK: /* any of them */
		return arg >= l.fd_kick && arg - l.fd_kick < l.queues ? arg : none;
	case POLICY_FD_CALL:
		return arg >= l.fd_call && arg - l.fd_call < l.queues ? arg : none;
	case POLICY_FD_TIMER:
		return timer ? l.fd_timer : none;
	case POLICY_FD_BACKEND:
		return t->value < l.backends ? l.fd_backend + t->value : none;
	case POLICY_FD_LISTENER:
		return l.fd_held;
	case POLICY_POLL_COUNT:
		return 1 + l.queues + timer;
	case POLICY_POLL_STREAMS:
		return 1 + l.queues + timer + t->value;
	case POLICY_IMAGE_LAST:
		return l.config.blk.bytes - 512;
	case POLICY_IMAGE_BYTES:
		return l.config.blk.bytes;
	default: /* POLICY_FD_CONTROL has no value of its own */
		return t->value;
	}
}

static bool expected_test(const struct policy_test *t, uint64_t arg)
{
	const uint64_t value = expected_value(t, arg);

	switch (t->op) {
	case POLICY_EQ:
		return arg == value;
	case POLICY_LE:
		return arg <= value;
	case POLICY_GE:
		return arg >= value;
	default:
		return true;
	}
}

static bool expected(const struct policy *table, uint32_t when, int nr, const uint64_t *args)
{
	for (uint32_t i = 0; i < table->count; i++) {
		const struct policy_rule *rule = &table->rules[i];
		bool all = rule->nr == nr && (rule->when & ~when) == 0;

		for (int t = 0; t < POLICY_ARGS_MAX && all; t++)
			all = expected_test(&rule->tests[t], args[rule->tests[t].arg]);
		if (all)
			return true;
	}
	return false;
}

static uint64_t draw(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random >> 11;
}

static uint64_t draw_arg(uint64_t *random)
{
	static const uint64_t lengths[] = { 8,
					    16,
					    512,
					    CTL_BYTES_MAX,
					    BLK_REQUEST_MAX,
					    (5ull << 32) - 512,
					    5ull << 32,
					    UINT64_MAX,
					    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					    BLK_ZERO_MAX_SECTORS * 512ull };

	switch (draw(random) % 4) {
	case 0:
		return 0;
	case 1:
		return draw(random) % 16;
	case 2:
		return draw(random) % 16 | 1ull << (32 + draw(random) % 32);
	default:
		return lengths[draw(random) % ARRAY_SIZE(lengths)] + draw(random) % 3 - 1;
	}
}

static void compare(uint32_t when, uint64_t *random, uint32_t calls)
{
	const struct policy *const tables[] = { real_common, real_policy_of(l.kind) };

	for (uint32_t i = 0; i < calls; i++) {
		const struct policy *own = tables[draw(random) % 2];
		const struct policy *from = own->count != 0 ? own : tables[0];
		const int nr = draw(random) % 8 == 0 ? (int)(draw(random) % 512)
						     : from->rules[draw(random) % from->count].nr;
		struct syscall_args args;

		for (int a = 0; a < 6; a++)
			args.a[a] = draw_arg(random);
		const bool want = expected(tables[0], when, nr, args.a) ||
				  expected(tables[1], when, nr, args.a);

		if ((verdict(nr, &args) == SECCOMP_RET_ALLOW) != want)
			fail_msg(
				"kind %u, when %u: call %d (%#jx, %#jx, %#jx, %#jx): %s, which is wrong",
				l.kind, when, nr, (uintmax_t)args.a[0], (uintmax_t)args.a[1],
				(uintmax_t)args.a[2], (uintmax_t)args.a[3],
				want ? "held" : "allowed");
	}
}

static void test_at_random(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15;

	(void)state;
	for (uint32_t kind = 0; kind < DEV_KIND_COUNT; kind++) {
		for (uint32_t shape = 0; shape < 32; shape++) {
			const bool timer = shape & 4;
			const uint32_t when = shape % 4 | (timer ? POLICY_IF_TIMER : 0);

			record(kind, (uint16_t)(1 + shape % 5), timer, shape >= 16 ? 2 : 1);
			compile(when);
			compare(when, &random, 4000);
		}
	}
}

/* ---- policy_calls() ---- */

static void test_calls(void **state)
{
	uint16_t nrs[64], few[3];
	const uint32_t n = policy_calls(DEV_KIND_BLK, ALL_WHEN, nrs, ARRAY_SIZE(nrs));
	const uint32_t readonly = policy_calls(DEV_KIND_BLK, 0, nrs + 32, 32);

	(void)state;
	chosen_common = real_common;
	for (uint32_t i = 1; i < n; i++)
		assert_true(nrs[i] > nrs[i - 1]);
	assert_true(n > readonly && readonly > 0);
	for (uint32_t i = 0; i < readonly; i++)
		assert_int_not_equal(nrs[32 + i], __NR_pwrite64);
	assert_int_equal(policy_calls(DEV_KIND_BLK, ALL_WHEN, few, ARRAY_SIZE(few)), 3);
}

static int choose_real(void **state)
{
	(void)state;
	chosen_common = real_common;
	chosen_kind = NULL;
	return 0;
}

int main(void)
{
#define POLICY_TEST(name) cmocka_unit_test_setup(name, choose_real)
	const struct CMUnitTest tests[] = {
		POLICY_TEST(test_common),
		POLICY_TEST(test_groups),
		POLICY_TEST(test_blk),
		POLICY_TEST(test_blk_conditions),
		POLICY_TEST(test_rng),
		POLICY_TEST(test_balloon),
		POLICY_TEST(test_mem),
		POLICY_TEST(test_foreign),
		POLICY_TEST(test_operands),
		POLICY_TEST(test_comparisons),
		POLICY_TEST(test_conditions),
		POLICY_TEST(test_errors),
		POLICY_TEST(test_same_rule_twice),
		POLICY_TEST(test_at_random),
		POLICY_TEST(test_calls),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
