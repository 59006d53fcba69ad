/* SPDX-License-Identifier: Apache-2.0 */
/* core/vhost/guard.h: what becomes of a SIGBUS, in guarded memory and elsewhere. */
#include <signal.h>

#include "core/vhost/guard.h"
#include "tests/unit/vhost.h"

static sigjmp_buf out;
static const void *told; /* of the handler that was there before */

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	told = info->si_addr;
	siglongjmp(out, 1);
}

/* In each test, as cmocka has handlers of its own around it. */
static void begin(void)
{
	struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	assert_int_equal(sigaction(SIGBUS, &act, NULL), 0);
	assert_int_equal(guard_begin(), 0);
	assert_int_equal(guard_begin(), 0); /* else it would pass on to itself */
}

static uint8_t *map_truncated(void)
{
	const int fd = memory_make(2 * PAGE);
	uint8_t *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(p != MAP_FAILED);
	memset(p, 0xaa, 2 * PAGE);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	close(fd);
	return p;
}

/* Its page only is replaced, and nobody shares what it is now. */
static void test_guarded_memory_reads_as_zeroes(void **state)
{
	uint8_t *p = map_truncated();

	(void)state;
	begin();
	assert_true(guard_add(p, 2 * PAGE, PAGE));
	assert_int_equal(*(volatile uint8_t *)(p + PAGE + 5), 0);
	assert_int_equal(p[PAGE - 1], 0xaa);
	guard_remove(p);
	munmap(p, 2 * PAGE);
}

/* It goes where it went before us: with all that came with it, and once. */
static void test_others_are_passed_on(void **state)
{
	uint8_t *p = map_truncated();

	(void)state;
	begin();
	told = NULL;
	if (sigsetjmp(out, 1) == 0) {
		(void)*(volatile uint8_t *)(p + PAGE + 5);
		fail_msg("it is there");
	}
	assert_ptr_equal(told, p + PAGE + 5);
	munmap(p, 2 * PAGE);
}

static void test_no_longer_guarded(void **state)
{
	uint8_t *p = map_truncated();

	(void)state;
	begin();
	assert_true(guard_add(p, 2 * PAGE, PAGE));
	guard_remove(p);
	told = NULL;
	if (sigsetjmp(out, 1) == 0) {
		(void)*(volatile uint8_t *)(p + PAGE);
		fail_msg("it is there");
	}
	assert_ptr_equal(told, p + PAGE);
	munmap(p, 2 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guarded_memory_reads_as_zeroes),
		cmocka_unit_test(test_others_are_passed_on),
		cmocka_unit_test(test_no_longer_guarded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
