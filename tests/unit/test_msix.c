/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/bus/msix.c on a machine that behaves as KVM does: each signal interrupts once, whatever is
 * masked when, and routes are set no more often than they change.
 */
#include "core/bus/msix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cc.h"
#include "tests/unit/virtio_fake.h"

#define SOURCES 4u
#define ADDRESS 0xfee00000u

static struct fake_machine machine;
static struct msix msix;
static int events[SOURCES];

static int setup(void **state)
{
	(void)state;
	fake_machine_init(&machine);
	for (uint32_t i = 0; i < SOURCES; i++)
		events[i] = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(msix_init(&msix, &machine.ops, events, SOURCES), 0);
	assert_int_equal(fake_gsis(&machine), SOURCES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	msix_fini(&msix);
	assert_int_equal(fake_gsis(&machine), 0);
	assert_int_equal(fake_irqfds(&machine), 0);
	assert_int_equal(machine.wrong, 0);
	for (uint32_t i = 0; i < SOURCES; i++)
		close(events[i]);
	pthread_mutex_destroy(&machine.lock);
	return 0;
}

static void word(uint32_t vector, uint32_t index, uint32_t value)
{
	msix_table_write(&msix, vector * 16ull + index * 4ull, 4, value);
}

/* As Linux writes an entry: masked, address, data, then unmasked or not. */
static void entry(uint32_t vector, uint32_t data, bool masked)
{
	word(vector, 3, 1);
	word(vector, 0, ADDRESS);
	word(vector, 1, 0);
	word(vector, 2, data);
	word(vector, 3, masked);
}

static void signal_source(uint32_t source)
{
	eventfd_write(events[source], 1);
	fake_pump(&machine);
}

static uint32_t delivered(uint32_t vector)
{
	return machine.gsi[msix.vector[vector].gsi].delivered;
}

static uint32_t pending(void)
{
	return (uint32_t)msix_pba_read(&msix, 0, 4);
}

static void test_table_is_memory(void **state)
{
	(void)state;
	for (uint32_t v = 0; v < SOURCES; v++) {
		assert_true(msix_table_read(&msix, v * 16ull, 8) == 0);
		assert_true(msix_table_read(&msix, v * 16ull + 8, 8) == 1ull << 32); /* masked */
		msix_table_write(&msix, v * 16ull, 8, 0x1122334455667700 + v);
		msix_table_write(&msix, v * 16ull + 8, 8, UINT64_MAX - v);
	}
	for (uint32_t v = 0; v < SOURCES; v++) {
		assert_int_equal(msix_table_read(&msix, v * 16ull, 4),
				 0x55667700); /* aligned to 4 */
		assert_int_equal(msix_table_read(&msix, v * 16ull + 4, 4), 0x11223344);
		assert_int_equal(msix_table_read(&msix, v * 16ull + 8, 4), 0xffffffff - v);
		assert_int_equal(msix_table_read(&msix, v * 16ull + 12, 4), 1);
	}
	assert_int_equal(machine.gsi[msix.vector[0].gsi].sets, 0);
}

static void test_undefined_accesses(void **state)
{
	(void)state;
	for (uint32_t at = 0; at < SOURCES * 16 + 32; at++) {
		for (uint32_t size = 1; size <= 8; size *= 2) {
			const bool defined = size >= 4 && at % size == 0 && at < SOURCES * 16;

			if (defined)
				continue;
			msix_table_write(&msix, at, size, 0);
			assert_true(msix_table_read(&msix, at, size) == 0);
			if (at != 0 || size < 4)
				assert_true(msix_pba_read(&msix, at, size) == 0);
		}
	}
	for (uint32_t v = 0; v < SOURCES; v++) /* nobody took a mask away */
		assert_int_equal(msix_table_read(&msix, v * 16ull + 12, 4), 1);
}

static void test_life(void **state)
{
	(void)state;
	assert_int_equal(msix_bind(&msix, 0, 1), 1);
	entry(1, 0x31, false);
	assert_int_equal(fake_irqfds(&machine), 0);
	msix_set_live(&msix, true);
	assert_int_equal(fake_irqfds(&machine), 1);
	signal_source(0);
	signal_source(0);
	assert_int_equal(delivered(1), 2);
	assert_int_equal(machine.gsi[msix.vector[1].gsi].address, ADDRESS);
	assert_int_equal(machine.gsi[msix.vector[1].gsi].data, 0x31);
	msix_reset(&msix);
	assert_int_equal(fake_irqfds(&machine), 0);
	assert_int_equal(msix_table_read(&msix, 16, 4), 0);
	assert_int_equal(msix_table_read(&msix, 28, 4), 1);
	assert_int_equal(msix.source[0].vector, MSIX_NO_VECTOR);
	assert_false(msix.live);
}

static void test_vector_out_of_range(void **state)
{
	static const uint16_t bad[] = { SOURCES, 100, 0x7fff, 0xfffe, 0xffff };

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(msix_bind(&msix, 2, 3), 3);
		assert_int_equal(msix_bind(&msix, 2, bad[i]), MSIX_NO_VECTOR);
	}
	msix_set_live(&msix, true);
	signal_source(2);
	assert_int_equal(pending(), 0);
	assert_int_equal(fake_irqfds(&machine), 0);
}

static void test_routes_only_when_changed(void **state)
{
	const struct fake_gsi *gsi = &machine.gsi[msix.vector[0].gsi];

	(void)state;
	msix_bind(&msix, 0, 0);
	msix_bind(&msix, 1, 0);
	msix_set_live(&msix, true);
	entry(0, 0x41, true);
	assert_int_equal(gsi->sets, 0); /* nobody needs it yet */
	for (int i = 0; i < 10; i++) {
		word(0, 3, 0);
		word(0, 3, 1);
		msix_set_live(&msix, false);
		msix_set_live(&msix, true);
	}
	assert_int_equal(gsi->sets, 1);
	entry(0, 0x41, false); /* the same again */
	assert_int_equal(gsi->sets, 1);
	entry(0, 0x42, false);
	assert_int_equal(gsi->sets, 2);
	word(0, 2, 0x43); /* while it is not masked */
	assert_int_equal(gsi->sets, 3);
	assert_int_equal(gsi->data, 0x43);
	entry(1, 0x50, false); /* nobody's vector */
	assert_int_equal(machine.gsi[msix.vector[1].gsi].sets, 0);
}

static void test_shared_vector(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		msix_bind(&msix, i, 2);
	msix_set_live(&msix, true);
	entry(2, 0x60, false);
	assert_int_equal(fake_irqfds(&machine), 3);
	for (uint32_t i = 0; i < 3; i++)
		signal_source(i);
	assert_int_equal(delivered(2), 3);
	word(2, 3, 1);
	assert_int_equal(fake_irqfds(&machine), 0);
	signal_source(1);
	assert_int_equal(pending(), 4);
	msix_bind(&msix, 1, 3); /* takes what it has with it */
	assert_int_equal(pending(), 8);
	msix_bind(&msix, 1, 2);
	signal_source(0);
	word(2, 3, 0);
	assert_int_equal(delivered(2), 5);
	assert_int_equal(pending(), 0);
}

static void test_pending_is_not_consumed_by_looking(void **state)
{
	(void)state;
	msix_bind(&msix, 3, 0);
	msix_set_live(&msix, true);
	entry(0, 0x70, true);
	signal_source(3);
	for (int i = 0; i < 5; i++)
		assert_int_equal(msix_pba_read(&msix, 0, i % 2 ? 4 : 8), 1);
	word(0, 3, 0);
	assert_int_equal(delivered(0), 1);
	assert_int_equal(pending(), 0);
}

static void test_without_a_vector_nothing_is_kept(void **state)
{
	(void)state;
	signal_source(0);
	msix_set_live(&msix, true);
	entry(0, 0x71, false);
	msix_bind(&msix, 0, 0);
	assert_int_equal(delivered(0), 0);
	signal_source(0);
	assert_int_equal(delivered(0), 1);
	msix_bind(&msix, 0, MSIX_NO_VECTOR);
	signal_source(0);
	msix_bind(&msix, 0, 0);
	assert_int_equal(delivered(0), 1);
}

static void test_refusals_lose_nothing(void **state)
{
	(void)state;
	msix_bind(&msix, 0, 0);
	msix_set_live(&msix, true);
	machine.fail_route = -ENOMEM;
	entry(0, 0x80, false);
	signal_source(0);
	assert_int_equal(pending(), 1);
	machine.fail_route = 0;
	machine.fail_irqfd = -EBUSY;
	word(0, 3, 0);
	assert_int_equal(pending(), 1);
	machine.fail_irqfd = 0;
	word(0, 3, 0);
	assert_int_equal(delivered(0), 1);
	/* A new route that cannot be had: rather late than to the old place. */
	machine.fail_route = -ENOMEM;
	word(0, 2, 0x81);
	signal_source(0);
	assert_int_equal(delivered(0), 1);
	machine.fail_route = 0;
	word(0, 3, 0);
	assert_int_equal(delivered(0), 2);
	assert_int_equal(machine.gsi[msix.vector[0].gsi].data, 0x81);
}

static void test_no_gsis_left(void **state)
{
	struct msix second;

	(void)state;
	machine.gsis_left = 2;
	assert_int_equal(msix_init(&second, &machine.ops, events, SOURCES), -ENOSPC);
	assert_int_equal(machine.gsis_left, 2);
	assert_int_equal(fake_gsis(&machine), SOURCES);
}

/* The rules of MSI-X without eventfds: what must have been delivered, and what is pending. */
struct model {
	bool live;
	bool masked[SOURCES];
	uint16_t vector[SOURCES];
	bool kept[SOURCES]; /* of a source */
	uint32_t delivered[SOURCES];
};

static bool model_open(const struct model *m, uint32_t source)
{
	return m->live && m->vector[source] != MSIX_NO_VECTOR && !m->masked[m->vector[source]];
}

static void model_flush(struct model *m)
{
	for (uint32_t i = 0; i < SOURCES; i++) {
		if (!m->kept[i] || !model_open(m, i))
			continue;
		m->delivered[m->vector[i]]++;
		m->kept[i] = false;
	}
}

static void model_check(const struct model *m)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < SOURCES; i++) {
		if (m->kept[i] && m->vector[i] != MSIX_NO_VECTOR)
			bits |= 1u << m->vector[i];
		assert_int_equal(delivered(i), m->delivered[i]);
	}
	assert_int_equal(pending(), bits);
}

static void step(struct model *m, uint32_t op, uint32_t arg)
{
	const uint32_t i = arg % SOURCES;

	switch (op) {
	case 0:
		m->live = arg & 4;
		msix_set_live(&msix, m->live);
		break;
	case 1:
		m->masked[i] = arg & 4;
		word(i, 3, m->masked[i]);
		break;
	case 2:
		if (m->vector[i] == MSIX_NO_VECTOR)
			m->kept[i] = false;
		m->vector[i] = arg / 8 % 8 < SOURCES ? (uint16_t)(arg / 8 % 8) : MSIX_NO_VECTOR;
		assert_int_equal(msix_bind(&msix, i, (uint16_t)(arg / 8 % 8)), m->vector[i]);
		break;
	case 3: /* rewritten while masked, or not */
		word(i, arg / 8 % 3, arg);
		break;
	default:
		m->kept[i] = true;
		model_flush(m); /* before the next signal: none may melt into it */
		signal_source(i);
	}
	model_flush(m);
}

static void test_masks_in_every_order(void **state)
{
	struct model m = { .live = false };

	(void)state;
	srandom(3);
	for (uint32_t i = 0; i < SOURCES; i++) {
		m.masked[i] = true;
		m.vector[i] = MSIX_NO_VECTOR;
	}
	for (uint32_t round = 0; round < 100000; round++) {
		step(&m, (uint32_t)random() % 7, (uint32_t)random() >> 3);
		model_check(&m);
		assert_true(fake_irqfds(&machine) <= SOURCES);
	}
	assert_true(m.delivered[0] > 1000);
}

/* A device signals while the guest masks and unmasks: as many interrupts as the last state allows,
 * and none is lost at the end. */
static void *signaller(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		eventfd_write(*(int *)arg, 1);
		if (i % 16 == 0)
			fake_pump(&machine);
	}
	return NULL;
}

static void test_masks_under_load(void **state)
{
	pthread_t thread;
	uint32_t before;

	(void)state;
	msix_bind(&msix, 0, 0);
	msix_set_live(&msix, true);
	entry(0, 0x90, false);
	pthread_create(&thread, NULL, signaller, &events[0]);
	for (uint32_t i = 0; i < 5000; i++) {
		word(0, 3, i & 1);
		msix_pba_read(&msix, 0, 4);
	}
	word(0, 3, 1);
	pthread_join(thread, NULL);
	signal_source(0);
	assert_int_equal(pending(), 1);
	before = delivered(0);
	word(0, 3, 0);
	assert_int_equal(pending(), 0);
	assert_int_equal(delivered(0), before + 1);
	signal_source(0);
	assert_int_equal(delivered(0), before + 2);
}

int main(void)
{
#define MSIX_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		MSIX_TEST(test_table_is_memory),
		MSIX_TEST(test_undefined_accesses),
		MSIX_TEST(test_life),
		MSIX_TEST(test_vector_out_of_range),
		MSIX_TEST(test_routes_only_when_changed),
		MSIX_TEST(test_shared_vector),
		MSIX_TEST(test_pending_is_not_consumed_by_looking),
		MSIX_TEST(test_without_a_vector_nothing_is_kept),
		MSIX_TEST(test_refusals_lose_nothing),
		MSIX_TEST(test_no_gsis_left),
		MSIX_TEST(test_masks_in_every_order),
		MSIX_TEST(test_masks_under_load),
	};

	return cmocka_run_group_tests_name("msix", tests, NULL, NULL);
}
