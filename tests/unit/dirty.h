/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who watches guest memory, for unit tests of device code: a dirty log, and a copy of a ring's memory that
 * is kept by it, as live migration keeps the guest's at its destination.  Device code runs on the test's
 * thread, and each of its marks traps twice, before it is made and after:
 *
 *   DIRTY_LOOK    fetches nothing; what was written so far must be marked at any time: a device that died
 *                 now would leave nothing unmarked
 *   DIRTY_FETCH   takes every mark at the worst moments, and copies the pages; what is written after that
 *                 must be marked anew, or the copy differs in the end
 *
 * Only what the device changes counts: the driver writes before dirty_begin().  One at a time, file scope.
 */
#ifndef MAYFLY_TESTS_UNIT_DIRTY_H
#define MAYFLY_TESTS_UNIT_DIRTY_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include <cmocka.h>

#include "tests/unit/ring.h"

#define DIRTY_PAGES (RING_END_GPA / LOG_PAGE)
#define DIRTY_BYTES ((DIRTY_PAGES + 7) / 8)
#define DIRTY_SPAN ((DIRTY_BYTES + 4095) & ~4095ull)
#define DIRTY_TRAP_FLAG 0x100 /* of eflags: a trap after the next instruction */

enum dirty_watch { DIRTY_LOOK, DIRTY_FETCH };

static struct {
	const struct ring *ring;
	enum dirty_watch watch;
	uint8_t *bits;
	uint8_t *copy;     /* of guest memory, by guest physical address */
	uint32_t unmarked; /* pages that were written and not marked, at any look */
	uint32_t marks;
} dirty;

static inline bool dirty_is_marked(uint64_t gpa)
{
	const uint64_t n = gpa / LOG_PAGE;

	return __atomic_load_n(&dirty.bits[n / 8], __ATOMIC_RELAXED) >> n % 8 & 1;
}

static inline uint32_t dirty_marked(void)
{
	uint32_t n = 0;

	for (uint64_t gpa = 0; gpa < RING_END_GPA; gpa += LOG_PAGE)
		n += dirty_is_marked(gpa);
	return n;
}

/* Each page of the ring's memory. */
static inline void dirty_each(void (*fn)(uint64_t gpa, uint8_t *now, uint8_t *copy))
{
	for (uint32_t i = 0; i < dirty.ring->map.count; i++) {
		const struct mem_region *r = &dirty.ring->map.regions[i];

		for (uint64_t off = 0; off < r->bytes; off += LOG_PAGE)
			fn(r->gpa + off, (uint8_t *)(uintptr_t)(r->addr + off),
			   dirty.copy + r->gpa + off);
	}
}

static inline void dirty_copy_page(uint64_t gpa, uint8_t *now, uint8_t *copy)
{
	(void)gpa;
	memcpy(copy, now, LOG_PAGE);
}

static inline void dirty_look_page(uint64_t gpa, uint8_t *now, uint8_t *copy)
{
	dirty.unmarked += !dirty_is_marked(gpa) && memcmp(copy, now, LOG_PAGE) != 0;
}

/* As a front-end does: the bits first, then what they say. */
static inline void dirty_fetch_page(uint64_t gpa, uint8_t *now, uint8_t *copy)
{
	const uint8_t bit = (uint8_t)(1u << gpa / LOG_PAGE % 8);

	if (__atomic_fetch_and(&dirty.bits[gpa / LOG_PAGE / 8], (uint8_t)~bit, __ATOMIC_SEQ_CST) &
	    bit)
		memcpy(copy, now, LOG_PAGE);
}

static inline void dirty_moment(void)
{
	dirty_each(dirty.watch == DIRTY_LOOK ? dirty_look_page : dirty_fetch_page);
}

static inline void dirty_protect(int prot)
{
	if (mprotect(dirty.bits, DIRTY_SPAN, prot) != 0)
		abort();
}

/* A mark is about to be made. */
static inline void dirty_on_mark(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	const uint64_t off = (uintptr_t)info->si_addr - (uintptr_t)dirty.bits;

	if (off >= DIRTY_SPAN) { /* a fault of somebody else's: again, and for good */
		signal(sig, SIG_DFL);
		return;
	}
	dirty_protect(PROT_READ | PROT_WRITE);
	dirty.marks++;
	dirty_moment();
	u->uc_mcontext.gregs[REG_EFL] |= DIRTY_TRAP_FLAG;
}

/* It is made. */
static inline void dirty_on_marked(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig, (void)info;
	u->uc_mcontext.gregs[REG_EFL] &= ~DIRTY_TRAP_FLAG;
	dirty_moment();
	dirty_protect(PROT_READ);
}

/* A log for all of the ring's memory, in the launch record and for the queue. */
static inline void dirty_open_log(const struct ring *r, struct launch_record *l,
				  struct dirty_log *log, struct virtq *vq)
{
	dirty.ring = r;
	dirty.bits =
		mmap(NULL, DIRTY_SPAN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dirty.copy = calloc(1, RING_END_GPA);
	if (dirty.bits == MAP_FAILED || dirty.copy == NULL)
		abort();
	l->map = r->map;
	l->log_addr = (uint64_t)(uintptr_t)dirty.bits;
	l->log_bytes = DIRTY_BYTES;
	vq->log = dirty_open(log, l);
}

static inline void dirty_close_log(void)
{
	munmap(dirty.bits, DIRTY_SPAN);
	free(dirty.copy);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
}

/* Nothing is marked, the copy is what memory is; from here on marks trap. */
static inline void dirty_begin(enum dirty_watch watch)
{
	struct sigaction mark = { .sa_sigaction = dirty_on_mark, .sa_flags = SA_SIGINFO };
	struct sigaction marked = { .sa_sigaction = dirty_on_marked, .sa_flags = SA_SIGINFO };

	dirty.watch = watch;
	dirty.unmarked = dirty.marks = 0;
	memset(dirty.bits, 0, DIRTY_SPAN);
	dirty_each(dirty_copy_page);
	sigaction(SIGSEGV, &mark, NULL);
	sigaction(SIGTRAP, &marked, NULL);
	dirty_protect(PROT_READ);
}

/* Every byte that was changed since is in the copy, or its page is marked. */
static inline void dirty_end(void)
{
	dirty_protect(PROT_READ | PROT_WRITE);
	dirty.unmarked = dirty.watch == DIRTY_LOOK ? dirty.unmarked : 0;
	dirty_each(dirty_look_page);
	assert_int_equal(dirty.unmarked, 0);
}

#endif
