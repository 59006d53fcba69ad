/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compiled seccomp filter, run as the kernel runs it: the part of classic BPF that libseccomp makes
 * use of.  Anything else fails the test that runs it.
 */
#ifndef MAYFLY_TESTS_UNIT_BPF_H
#define MAYFLY_TESTS_UNIT_BPF_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "devmodel/abi/launch.h"

static inline uint32_t bpf_load(const struct seccomp_data *data, uint32_t at)
{
	uint32_t value;

	assert_true(at % 4 == 0 && at + sizeof(value) <= sizeof(*data));
	memcpy(&value, (const uint8_t *)data + at, sizeof(value));
	return value;
}

static inline uint32_t bpf_jump(const struct launch_insn *insn, uint32_t a)
{
	bool taken = false;

	switch (BPF_OP(insn->code)) {
	case BPF_JA:
		return insn->k;
	case BPF_JEQ:
		taken = a == insn->k;
		break;
	case BPF_JGT:
		taken = a > insn->k;
		break;
	case BPF_JGE:
		taken = a >= insn->k;
		break;
	case BPF_JSET:
		taken = (a & insn->k) != 0;
		break;
	default:
		fail_msg("jump %#x", insn->code);
	}
	return taken ? insn->jt : insn->jf;
}

static inline uint32_t bpf_run(const struct launch_insn *filter, uint32_t count,
			       const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (uint32_t pc = 0; pc < count; pc++) {
		const struct launch_insn *insn = &filter[pc];

		switch (BPF_CLASS(insn->code)) {
		case BPF_LD:
			assert_int_equal(insn->code, BPF_LD | BPF_W | BPF_ABS);
			a = bpf_load(data, insn->k);
			break;
		case BPF_ALU:
			assert_int_equal(insn->code, BPF_ALU | BPF_AND | BPF_K);
			a &= insn->k;
			break;
		case BPF_JMP:
			pc += bpf_jump(insn, a);
			break;
		case BPF_RET:
			return insn->k;
		default:
			fail_msg("instruction %#x", insn->code);
		}
	}
	fail_msg("the filter has no end");
	return 0;
}

#endif
