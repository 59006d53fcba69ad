/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the sets that bpf_walk() finds to lines.  Halves of arguments become arguments; two sets that
 * differ in one argument only, and adjoin there, become one, until none do.
 */
#include "tests/escape/summary.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/audit.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "tests/escape/bpf.h"

static void add_action(struct summary *s, uint32_t action)
{
	for (uint32_t i = 0; i < s->action_count; i++) {
		if (s->actions[i] == action)
			return;
	}
	if (s->action_count == ARRAY_SIZE(s->actions))
		s->odd = "more actions than one";
	else
		s->actions[s->action_count++] = action;
}

/* One argument of 64 bits from its halves. False: it is not one interval. */
static bool join_halves(const struct bpf_calls *c, unsigned int arg, struct allowed *a)
{
	const uint32_t lo = BPF_WORD_ARG(arg, 0), hi = BPF_WORD_ARG(arg, 1);

	a->low[arg] = (uint64_t)c->low[hi] << 32 | c->low[lo];
	a->high[arg] = (uint64_t)c->high[hi] << 32 | c->high[lo];
	return c->low[hi] == c->high[hi] || (c->low[lo] == 0 && c->high[lo] == UINT32_MAX);
}

static void add_leaf(void *ctx, const struct bpf_calls *c, uint32_t action)
{
	struct summary *s = ctx;

	if (action != SECCOMP_RET_ALLOW) {
		add_action(s, action);
		return;
	}
	if (c->low[BPF_WORD_ARCH] != AUDIT_ARCH_X86_64 ||
	    c->high[BPF_WORD_ARCH] != AUDIT_ARCH_X86_64)
		s->odd = "it allows calls of another architecture";
	else if (c->low[BPF_WORD_NR] != c->high[BPF_WORD_NR])
		s->odd = "it allows a range of numbers";
	else if (s->count == SUMMARY_LINES_MAX)
		s->odd = "it allows too many sets of calls";
	if (s->odd != NULL)
		return;
	struct allowed *a = &s->allowed[s->count++];

	a->nr = c->low[BPF_WORD_NR];
	for (unsigned int i = 0; i < 6; i++) {
		if (!join_halves(c, i, a))
			s->odd = "an argument is bounded in one half only";
	}
}

/* Whether b was merged into a: equal but for one argument, where they adjoin. */
static bool merge(struct allowed *a, const struct allowed *b)
{
	int differs = -1;

	if (a->nr != b->nr)
		return false;
	for (int i = 0; i < 6; i++) {
		if (a->low[i] == b->low[i] && a->high[i] == b->high[i])
			continue;
		if (differs >= 0)
			return false;
		differs = i;
	}
	if (differs < 0)
		return true;
	if (a->high[differs] != UINT64_MAX && a->high[differs] + 1 == b->low[differs])
		a->high[differs] = b->high[differs];
	else if (b->high[differs] != UINT64_MAX && b->high[differs] + 1 == a->low[differs])
		a->low[differs] = b->low[differs];
	else
		return false;
	return true;
}

static void merge_all(struct summary *s)
{
	bool again = true;

	while (again) {
		again = false;
		for (uint32_t i = 0; i < s->count; i++) {
			for (uint32_t j = s->count - 1; j > i; j--) {
				if (!merge(&s->allowed[i], &s->allowed[j]))
					continue;
				s->allowed[j] = s->allowed[--s->count];
				again = true;
			}
		}
	}
}

static int compare(const void *left, const void *right)
{
	const struct allowed *a = left, *b = right;

	if (a->nr != b->nr)
		return a->nr < b->nr ? -1 : 1;
	for (int i = 0; i < 6; i++) {
		if (a->low[i] != b->low[i])
			return a->low[i] < b->low[i] ? -1 : 1;
	}
	return 0;
}

int summary_make(struct summary *s, const struct launch_record *launch)
{
	memset(s, 0, sizeof(*s));
	if (bpf_walk(launch, add_leaf, s) != 0)
		s->odd = "it has an instruction that this check does not know";
	if (s->odd != NULL)
		return -EINVAL;
	qsort(s->allowed, s->count, sizeof(s->allowed[0]), compare);
	merge_all(s);
	qsort(s->allowed, s->count, sizeof(s->allowed[0]), compare);
	return 0;
}

/* ---- text ---- */

struct text {
	char *at;
	size_t room;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	const int n = vsnprintf(t->at, t->room, fmt, ap);

	va_end(ap);
	CHECK(n >= 0 && (size_t)n < t->room);
	t->at += n;
	t->room -= (size_t)n;
}

static const char *action_name(uint32_t action)
{
	switch (action) {
	case SECCOMP_RET_USER_NOTIF:
		return "user-notif";
	case SECCOMP_RET_KILL_PROCESS:
		return "kill-process";
	default:
		return "other";
	}
}

static void put_argument(struct text *t, uint64_t low, uint64_t high)
{
	if (low == 0 && high == UINT64_MAX)
		put(t, "*");
	else if (low == high)
		put(t, "%" PRIu64, low);
	else
		put(t, "%" PRIu64 "..%" PRIu64, low, high);
}

static void put_call(struct text *t, const struct allowed *a)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)a->nr);
	int last = 5;

	while (last >= 0 && a->low[last] == 0 && a->high[last] == UINT64_MAX)
		last--;
	put(t, "%s(", name != NULL ? name : "?");
	for (int i = 0; i <= last; i++) {
		put(t, i == 0 ? "" : ", ");
		put_argument(t, a->low[i], a->high[i]);
	}
	put(t, last < 0 ? "*)\n" : ")\n");
	free(name);
}

static void put_descriptors(struct text *t, const struct launch_record *l)
{
	const struct {
		const char *name;
		uint32_t first, count;
	} groups[] = {
		{ "control", l->fd_control, 1 },
		{ "kick", l->fd_kick, l->queues },
		{ "call", l->fd_call, l->queues },
		{ "timer", l->fd_timer, l->fd_timer < l->fd_held },
		{ "backend", l->fd_backend, l->backends },
		{ "listener", l->fd_held, 1 },
	};

	put(t, "descriptors:");
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (groups[i].count == 1)
			put(t, " %s %u", groups[i].name, groups[i].first);
		else if (groups[i].count > 1)
			put(t, " %s %u..%u", groups[i].name, groups[i].first,
			    groups[i].first + groups[i].count - 1);
	}
	put(t, "\n");
}

void summary_print(const struct summary *s, const struct launch_record *launch, const char *name,
		   char *buffer, size_t room)
{
	struct text t = { buffer, room };

	put(&t, "filter of %s\n", name);
	put(&t, "instructions: %u\n", launch->filter_count);
	put_descriptors(&t, launch);
	put(&t, "anything else:");
	for (uint32_t i = 0; i < s->action_count; i++)
		put(&t, " %s", action_name(s->actions[i]));
	put(&t, "\n");
	for (uint32_t i = 0; i < s->count; i++)
		put_call(&t, &s->allowed[i]);
}
