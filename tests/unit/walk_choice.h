/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choices for walk.h.  Each is a number, of which 0 is what a healthy machine and an honest box would
 * give; together they are a path, which is given, or drawn beyond what is given, and always recorded.
 */
#ifndef MAYFLY_TESTS_UNIT_WALK_CHOICE_H
#define MAYFLY_TESTS_UNIT_WALK_CHOICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define WALK_CHOICES 4096

static struct walk {
	uint8_t path[WALK_CHOICES];
	uint8_t width[WALK_CHOICES];
	uint32_t len; /* of the path that is given */
	uint32_t pos;
	uint64_t random; /* beyond it: 0: the first of everything; else drawn */
	bool kind;       /* everything goes well, whatever the path says */
	bool loud;       /* show what happens and what the supervisor logs */
	uint32_t faults; /* of the host, still to be had */
	jmp_buf failed;
} walk;

_Noreturn static void walk_fail(const char *what)
{
	if (walk.loud)
		fprintf(stderr, "walk: %s\n", what);
	longjmp(walk.failed, 1);
}

/* Runs it; if it fails, once more along the same path, to be seen, and fails the test. */
static void walk_try(void (*run)(void))
{
	if (setjmp(walk.failed) == 0) {
		run();
		return;
	}
	if (setjmp(walk.failed) == 0 && !walk.loud) {
		walk.len = walk.pos;
		walk.random = 0;
		walk.loud = true;
		run();
	}
	fail_msg("a walk of %u choices went wrong", walk.len);
}

__attribute__((format(printf, 1, 2))) static void walk_say(const char *fmt, ...)
{
	va_list ap;

	if (!walk.loud)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
}

#define WALK_CHECK(cond)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			walk_fail(#cond);                                                          \
	} while (0)

static uint32_t walk_draw(uint32_t n)
{
	walk.random ^= walk.random << 13;
	walk.random ^= walk.random >> 7;
	walk.random ^= walk.random << 17;
	return (uint32_t)(walk.random >> 16) % n;
}

/* 0 to n - 1; 0 is what a healthy machine and an honest box would give. */
static uint32_t pick_rarely(uint32_t n, uint32_t rarely)
{
	uint32_t value = 0;

	if (n < 2 || walk.kind)
		return 0;
	if (walk.pos == WALK_CHOICES)
		walk_fail("a step that makes no end of choices");
	if (walk.pos < walk.len)
		value = walk.path[walk.pos];
	else if (walk.random != 0 && walk_draw(rarely) == 0)
		value = walk_draw(n);
	WALK_CHECK(value < n);
	walk.path[walk.pos] = (uint8_t)value;
	walk.width[walk.pos++] = (uint8_t)n;
	return value;
}

static uint32_t pick(uint32_t n)
{
	return pick_rarely(n, 1);
}

/* The host has run out of something. */
static bool fault(void)
{
	if (walk.faults == 0 || pick_rarely(2, 16) == 0)
		return false;
	walk.faults--;
	return true;
}

#endif
