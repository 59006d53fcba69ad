/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two readers of one program.  The walk carries bounds for each word instead of a value: a
 * comparison with a constant splits them in up to three parts, and each goes its own way.  The
 * accumulator only ever holds a word of the call, so that it is enough to know which.  Jumps only
 * go forward, so both end.
 */
#include "tests/escape/bpf.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>

#include "core/cc.h"

#define ACCUMULATOR_UNSET ((uint32_t)BPF_WORDS)

_Static_assert(sizeof(struct seccomp_data) == 64, "16 words");

/* Whether the jump is taken for a value. 1, 0, or -EINVAL. */
static int jump_taken(const struct launch_insn *insn, uint32_t value)
{
	switch (insn->code) {
	case BPF_JMP | BPF_JEQ | BPF_K:
		return value == insn->k;
	case BPF_JMP | BPF_JGT | BPF_K:
		return value > insn->k;
	case BPF_JMP | BPF_JGE | BPF_K:
		return value >= insn->k;
	default:
		return -EINVAL;
	}
}

static bool is_load(const struct launch_insn *insn)
{
	return insn->code == (BPF_LD | BPF_W | BPF_ABS) && insn->k % 4 == 0 &&
	       insn->k / 4 < BPF_WORDS;
}

int bpf_run(const struct launch_record *l, const struct seccomp_data *data, uint32_t *action)
{
	uint32_t words[BPF_WORDS], a = 0;

	memcpy(words, data, sizeof(words));
	for (uint32_t pc = 0; pc < l->filter_count; pc++) {
		const struct launch_insn *insn = &l->filter[pc];
		int taken;

		if (is_load(insn)) {
			a = words[insn->k / 4];
		} else if (insn->code == (BPF_RET | BPF_K)) {
			*action = insn->k;
			return 0;
		} else if (insn->code == (BPF_JMP | BPF_JA)) {
			pc += insn->k;
		} else {
			taken = jump_taken(insn, a);
			if (taken < 0)
				return taken;
			pc += taken ? insn->jt : insn->jf;
		}
	}
	return -EINVAL; /* ran off its end */
}

/* ---- the walk ---- */

/* Calls that have come to an instruction. */
struct visit {
	uint32_t pc;
	uint32_t word; /* which is in the accumulator */
	struct bpf_calls calls;
};

/* Not followed yet.  Each jump takes one off and puts at most three on, and there are no more jumps on
 * a way than instructions. */
struct walk {
	const struct launch_record *launch;
	uint32_t count;
	struct visit visits[2 * BOX_FILTER_MAX + 1];
};

/* The part of the calls whose word lies within [low, high]: takes the jump, or does not. */
static int walk_part(struct walk *w, const struct visit *from, uint64_t low, uint64_t high)
{
	const struct launch_insn *insn = &w->launch->filter[from->pc];
	const uint32_t word = from->word;
	struct visit next = *from;
	int taken;

	if (low < from->calls.low[word])
		low = from->calls.low[word];
	if (high > from->calls.high[word])
		high = from->calls.high[word];
	if (low > high)
		return 0; /* nobody goes this way */
	next.calls.low[word] = (uint32_t)low;
	next.calls.high[word] = (uint32_t)high;
	taken = jump_taken(insn, (uint32_t)low); /* the same for the whole part */
	if (taken < 0)
		return taken;
	next.pc = from->pc + 1 + (taken ? insn->jt : insn->jf);
	CHECK(w->count < ARRAY_SIZE(w->visits));
	w->visits[w->count++] = next;
	return 0;
}

/* Below the constant, it, above: no comparison tells apart what is within one of these. */
static int walk_jump(struct walk *w, const struct visit *from)
{
	const uint64_t k = w->launch->filter[from->pc].k;
	int ret = 0;

	if (from->word == ACCUMULATOR_UNSET)
		return -EINVAL;
	if (k > 0)
		ret = walk_part(w, from, 0, k - 1);
	if (ret == 0)
		ret = walk_part(w, from, k, k);
	if (ret == 0)
		ret = walk_part(w, from, k + 1, UINT32_MAX);
	return ret;
}

/* On to the next jump, or to the end. 1: ended with *action; 0: a jump; -EINVAL. */
static int walk_straight(const struct walk *w, struct visit *v, uint32_t *action)
{
	for (; v->pc < w->launch->filter_count; v->pc++) {
		const struct launch_insn *insn = &w->launch->filter[v->pc];

		if (is_load(insn)) {
			v->word = insn->k / 4;
		} else if (insn->code == (BPF_JMP | BPF_JA)) {
			v->pc += insn->k;
		} else if (insn->code == (BPF_RET | BPF_K)) {
			*action = insn->k;
			return 1;
		} else {
			return 0;
		}
	}
	return -EINVAL;
}

int bpf_walk(const struct launch_record *launch,
	     void (*leaf)(void *ctx, const struct bpf_calls *calls, uint32_t action), void *ctx)
{
	static struct walk w;
	int ret = 0;

	w.launch = launch;
	w.count = 1;
	w.visits[0] = (struct visit){ .pc = 0, .word = ACCUMULATOR_UNSET };
	memset(w.visits[0].calls.high, 0xff, sizeof(w.visits[0].calls.high));
	while (ret == 0 && w.count > 0) {
		struct visit v = w.visits[--w.count];
		uint32_t action = 0;

		ret = walk_straight(&w, &v, &action);
		if (ret == 0)
			ret = walk_jump(&w, &v);
		else if (ret == 1)
			leaf(ctx, &v.calls, action);
		if (ret == 1)
			ret = 0;
	}
	return ret;
}
