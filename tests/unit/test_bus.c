/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/bus/bus.c: who gets which access, and that ranges can come, go and move while others use
 * them.
 */
#include "core/bus/bus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cc.h"

struct page {
	uint64_t tag;
	uint64_t offset; /* of the last access */
	uint64_t value;
	uint32_t size;
	uint32_t writes;
};

static uint64_t page_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct page *page = ctx;

	page->offset = offset;
	page->size = size;
	return page->tag;
}

static void page_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct page *page = ctx;

	page->offset = offset;
	page->size = size;
	page->value = value;
	page->writes++;
}

static const struct bus_ops page_ops = { .read = page_read, .write = page_write };

static struct bus *bus;

static int setup(void **state)
{
	(void)state;
	return bus_create(&bus);
}

static int teardown(void **state)
{
	(void)state;
	bus_destroy(bus);
	return 0;
}

static void test_unclaimed(void **state)
{
	(void)state;
	assert_int_equal(bus_read(bus, 0x1000, 1), 0xff);
	assert_int_equal(bus_read(bus, 0x1000, 2), 0xffff);
	assert_int_equal(bus_read(bus, 0x1000, 4), 0xffffffff);
	assert_true(bus_read(bus, UINT64_MAX, 8) == UINT64_MAX);
	bus_write(bus, 0x1000, 8, 1); /* goes nowhere */
}

static void test_routing(void **state)
{
	struct page a = { .tag = 0x1122334455667788 };
	struct page b = { .tag = 0xb };

	(void)state;
	assert_int_equal(bus_add(bus, 0x1000, 0x10, &page_ops, &a), 0);
	assert_int_equal(bus_add(bus, 0x1010, 0x10, &page_ops, &b), 0);
	assert_true(bus_read(bus, 0x1000, 8) == a.tag);
	assert_int_equal(bus_read(bus, 0x100c, 4), 0x55667788);
	assert_int_equal(a.offset, 0xc);
	assert_int_equal(bus_read(bus, 0x100f, 1), 0x88);
	assert_int_equal(bus_read(bus, 0x1010, 1), 0xb);
	assert_int_equal(b.offset, 0);
	bus_write(bus, 0x1018, 2, 0x12345678);
	assert_int_equal(b.value, 0x5678);
	assert_int_equal(b.offset, 8);
	assert_int_equal(b.size, 2);
	/* Across an end, into a beginning, and odd sizes: nobody's. */
	assert_int_equal(bus_read(bus, 0x100e, 4), 0xffffffff);
	assert_int_equal(bus_read(bus, 0x101f, 2), 0xffff);
	assert_int_equal(bus_read(bus, 0xfff, 2), 0xffff);
	for (uint32_t size = 0; size < 12; size++) {
		if (size != 1 && size != 2 && size != 4 && size != 8)
			bus_write(bus, 0x1010, size, 0);
	}
	assert_int_equal(a.writes, 0);
	assert_int_equal(b.writes, 1);
}

static void test_add_refuses(void **state)
{
	struct page p = { 0 };

	(void)state;
	assert_int_equal(bus_add(bus, 0x1000, 0x1000, &page_ops, &p), 0);
	assert_int_equal(bus_add(bus, 0x1000, 0x1000, &page_ops, &p), -EEXIST);
	assert_int_equal(bus_add(bus, 0x1fff, 1, &page_ops, &p), -EEXIST);
	assert_int_equal(bus_add(bus, 0xfff, 2, &page_ops, &p), -EEXIST);
	assert_int_equal(bus_add(bus, 0, 0x10000, &page_ops, &p), -EEXIST);
	assert_int_equal(bus_add(bus, 0x3000, 0, &page_ops, &p), -EINVAL);
	assert_int_equal(bus_add(bus, UINT64_MAX - 1, 8, &page_ops, &p), -EINVAL);
	assert_int_equal(bus_add(bus, 0xfff, 1, &page_ops, &p), 0);
	assert_int_equal(bus_add(bus, 0x2000, 1, &page_ops, &p), 0);
	assert_int_equal(bus_remove(bus, 0x1001), -ENOENT);
	assert_int_equal(bus_remove(bus, 0x1000), 0);
	assert_int_equal(bus_remove(bus, 0x1000), -ENOENT);
	assert_int_equal(bus_add(bus, 0x1000, 0x1000, &page_ops, &p), 0);
}

static void test_many(void **state)
{
	static struct page pages[200];

	(void)state;
	for (uint32_t i = 0; i < 200; i++) { /* in a scattered order */
		const uint32_t at = i * 77 % 200;

		pages[at].tag = at;
		assert_int_equal(bus_add(bus, at * 0x20ull, 0x10, &page_ops, &pages[at]), 0);
	}
	for (uint32_t i = 0; i < 200; i += 2)
		assert_int_equal(bus_remove(bus, i * 0x20ull), 0);
	for (uint32_t i = 0; i < 200; i++) {
		assert_int_equal(bus_read(bus, i * 0x20 + 8, 4), i % 2 ? i : 0xffffffff);
		assert_int_equal(bus_read(bus, i * 0x20 + 0x10, 4), 0xffffffff);
	}
}

static void test_move(void **state)
{
	struct page a = { .tag = 0xa };
	struct page b = { .tag = 0xb };

	(void)state;
	assert_int_equal(bus_add(bus, 0x1000, 0x1000, &page_ops, &a), 0);
	assert_int_equal(bus_add(bus, 0x8000, 0x1000, &page_ops, &b), 0);
	assert_int_equal(bus_move(bus, 0x1000, 0x1800), 0); /* onto a part of itself */
	assert_int_equal(bus_read(bus, 0x1000, 4), 0xffffffff);
	assert_int_equal(bus_read(bus, 0x2000, 4), 0xa);
	assert_int_equal(a.offset, 0x800);
	assert_int_equal(bus_move(bus, 0x1800, 0x8800), -EEXIST);
	assert_int_equal(bus_move(bus, 0x1800, UINT64_MAX - 0x800), -EINVAL);
	assert_int_equal(bus_move(bus, 0x1000, 0x3000), -ENOENT);
	assert_int_equal(bus_read(bus, 0x2000, 4), 0xa);
	assert_int_equal(bus_move(bus, 0x1800, 0x9000), 0);
	assert_int_equal(bus_read(bus, 0x9000, 4), 0xa);
	assert_int_equal(bus_read(bus, 0x8ffc, 4), 0xb);
}

/* A handler that moves another range, as config space does. */
static uint64_t mover_read(void *ctx, uint64_t offset, uint32_t size)
{
	const uint64_t *where = ctx;

	(void)offset;
	(void)size;
	return (uint64_t)bus_move(bus, where[0], where[1]);
}

static const struct bus_ops mover_ops = { .read = mover_read, .write = page_write };

static void test_move_from_a_handler(void **state)
{
	uint64_t where[2] = { 0x1000, 0x5000 };
	struct page a = { .tag = 0xa };

	(void)state;
	assert_int_equal(bus_add(bus, 0x1000, 0x10, &page_ops, &a), 0);
	assert_int_equal(bus_add(bus, 0, 0x10, &mover_ops, where), 0);
	assert_int_equal(bus_read(bus, 0, 4), 0);
	assert_int_equal(bus_read(bus, 0x5000, 4), 0xa);
	assert_int_equal(bus_read(bus, 0, 4), (uint32_t)-ENOENT);
}

struct slow {
	sem_t entered;
	sem_t leave;
	bool removed; /* atomic */
};

static uint64_t slow_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct slow *slow = ctx;

	(void)size;
	if (offset != 0)
		return 0;
	sem_post(&slow->entered);
	sem_wait(&slow->leave);
	return 0x51;
}

static const struct bus_ops slow_ops = { .read = slow_read, .write = page_write };

static void *slow_access(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)bus_read(bus, 0x1000, 1);
}

static void *slow_remove(void *arg)
{
	struct slow *slow = arg;

	assert_int_equal(bus_remove(bus, 0x1000), 0);
	__atomic_store_n(&slow->removed, true, __ATOMIC_RELEASE);
	return NULL;
}

static void test_remove_waits_for_handlers(void **state)
{
	struct slow slow = { .removed = false };
	pthread_t access[2], remover;
	void *value;

	(void)state;
	sem_init(&slow.entered, 0, 0);
	sem_init(&slow.leave, 0, 0);
	assert_int_equal(bus_add(bus, 0x1000, 0x10, &slow_ops, &slow), 0);
	for (int i = 0; i < 2; i++) {
		pthread_create(&access[i], NULL, slow_access, NULL);
		sem_wait(&slow.entered);
	}
	pthread_create(&remover, NULL, slow_remove, &slow);
	while (bus_read(bus, 0x1008, 8) != UINT64_MAX) /* until nobody new comes in */
		sched_yield();
	usleep(20000);
	assert_false(__atomic_load_n(&slow.removed, __ATOMIC_ACQUIRE));
	sem_post(&slow.leave);
	usleep(20000);
	assert_false(__atomic_load_n(&slow.removed, __ATOMIC_ACQUIRE));
	sem_post(&slow.leave);
	pthread_join(remover, NULL);
	assert_true(slow.removed);
	for (int i = 0; i < 2; i++) {
		pthread_join(access[i], &value);
		assert_int_equal((uintptr_t)value, 0x51);
	}
	sem_destroy(&slow.entered);
	sem_destroy(&slow.leave);
}

static uint64_t const_read(void *ctx, uint64_t offset, uint32_t size)
{
	(void)offset;
	(void)size;
	return *(const uint64_t *)ctx;
}

static const struct bus_ops const_ops = { .read = const_read, .write = page_write };

static bool done; /* atomic */

static void *reader(void *arg)
{
	uint64_t wrong = 0;

	(void)arg;
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		const uint64_t fixed = bus_read(bus, 0x100000, 4);
		const uint64_t moving = bus_read(bus, 0x2000, 4);
		const uint64_t coming = bus_read(bus, 0x1000, 4);

		wrong += fixed != 0xf;
		wrong += moving != 0xa && moving != 0xffffffff;
		wrong += coming != 0xc && coming != 0xffffffff;
	}
	return (void *)(uintptr_t)wrong;
}

static void test_changes_under_load(void **state)
{
	static const uint64_t fixed = 0xf, moving = 0xa;
	pthread_t threads[2];
	void *wrong;

	(void)state;
	__atomic_store_n(&done, false, __ATOMIC_RELEASE);
	assert_int_equal(bus_add(bus, 0x100000, 0x10, &const_ops, (void *)(uintptr_t)&fixed), 0);
	assert_int_equal(bus_add(bus, 0x2000, 0x10, &const_ops, (void *)(uintptr_t)&moving), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, reader, NULL);
	for (int i = 0; i < 5000; i++) {
		/* Freed when removed: a handler that still ran would be seen by ASan. */
		uint64_t *coming = malloc(sizeof(*coming));

		*coming = 0xc;
		assert_int_equal(bus_add(bus, 0x1000, 0x10, &const_ops, coming), 0);
		assert_int_equal(bus_move(bus, 0x2000, 0x3000), 0);
		if (i % 64 == 0)
			sched_yield();
		assert_int_equal(bus_move(bus, 0x3000, 0x2000), 0);
		assert_int_equal(bus_remove(bus, 0x1000), 0);
		*coming = 0xbad;
		free(coming);
	}
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unclaimed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_routing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move_from_a_handler, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_waits_for_handlers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_under_load, setup, teardown),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
