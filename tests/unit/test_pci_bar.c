/* SPDX-License-Identifier: Apache-2.0 */
/* core/bus/pci_bar.c: where BARs go when a guest moves them, and where they do not. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/cc.h"
#include "tests/unit/pci_dut.h"

static void test_sizing_moves_nothing(void **state)
{
	const uint32_t home = get(0, PCI_BAR(0), 4);

	(void)state;
	assert_int_equal(duts[0].moves, 1);
	for (int with_decode = 0; with_decode < 2; with_decode++) {
		decode(0, with_decode);
		put_bar(0, 0xffffffff);
		assert_int_equal(get(0, PCI_BAR(0), 4), ~(BAR_BYTES - 1));
		assert_int_equal(who(home), 0);
		put_bar(0, home);
		decode(0, true);
		assert_int_equal(get(0, PCI_BAR(0), 4), home);
	}
	for (uint32_t bar = 1; bar < 6; bar++) {
		put(0, PCI_BAR(bar), 4, 0xffffffff);
		assert_int_equal(get(0, PCI_BAR(bar), 4), 0);
	}
	put(0, 0x30, 4, 0xffffffff); /* no expansion ROM */
	assert_int_equal(get(0, 0x30, 4), 0);
	assert_int_equal(duts[0].moves, 1);
	assert_int_equal(who(home), 0);
}

static void test_moves(void **state)
{
	const uint32_t home = get(0, PCI_BAR(0), 4);
	const uint32_t there = LAYOUT_MMIO32_END - BAR_BYTES;

	(void)state;
	decode(0, false);
	put_bar(0, there);
	assert_int_equal(who(home), 0); /* not before it is decoded */
	decode(0, true);
	assert_int_equal(who(home), -1);
	assert_int_equal(who(there), 0);
	assert_int_equal(who(there + BAR_BYTES - 8), 0);
	assert_int_equal(duts[0].from, home);
	assert_int_equal(duts[0].to, there);
	put_bar(0, there - BAR_BYTES); /* with decode on */
	assert_int_equal(who(there - 8), 0);
	assert_int_equal(who(there), -1);
	assert_int_equal(duts[0].moves, 3);
}

static void test_moves_outside_the_window(void **state)
{
	static const uint32_t bad[] = {
		0, 0x100000, 0xbfffc000, 0xe0000000, 0xfee00000, 0xffffc000
	};
	const uint32_t home = get(0, PCI_BAR(0), 4);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_bar(0, bad[i]);
		assert_int_equal(get(0, PCI_BAR(0), 4), bad[i]);
		assert_int_equal(who(home), 0);
		decode(0, false);
		decode(0, true);
	}
	assert_int_equal(duts[0].moves, 1);
	assert_int_equal(bus_read(mmio, ecam(1, 0), 4), 0x50001234); /* ECAM was not taken over */
	put_bar(0, home);
	assert_int_equal(who(home), 0);
	assert_int_equal(duts[0].moves, 1);
}

static void test_a_bar_at_home_stays(void **state)
{
	const uint32_t a = get(0, PCI_BAR(0), 4);
	const uint32_t b = get(1, PCI_BAR(0), 4);

	(void)state;
	put_bar(0, b);
	assert_int_equal(who(b), 1);
	assert_int_equal(who(a), 0);
	/* When the other leaves, its turn has come. */
	put_bar(1, LAYOUT_MMIO32 + 0x100000);
	assert_int_equal(who(b), 0);
	assert_int_equal(who(a), -1);
	assert_int_equal(who(LAYOUT_MMIO32 + 0x100000), 1);
	/* Also when it goes for good. */
	put_bar(0, LAYOUT_MMIO32 + 0x100000);
	assert_int_equal(who(b), 0);
	pci_unplug(&host, &duts[1].pci);
	assert_int_equal(who(LAYOUT_MMIO32 + 0x100000), 0);
	assert_int_equal(duts[1].to, 0);
}

static void test_swap(void **state)
{
	const uint32_t a = get(0, PCI_BAR(0), 4);
	const uint32_t b = get(1, PCI_BAR(0), 4);

	(void)state;
	decode(0, false);
	decode(1, false);
	put_bar(0, b);
	put_bar(1, a);
	decode(0, true);
	assert_int_equal(who(b), 0);
	assert_int_equal(duts[1].to, 0); /* it gave way */
	decode(1, true);
	assert_int_equal(who(a), 1);
	assert_int_equal(who(b), 0);
	/* And back, with decode on: the first waits until the second no longer insists. */
	put_bar(0, a);
	assert_int_equal(who(a), 1);
	assert_int_equal(who(b), 0);
	put_bar(1, b);
	assert_int_equal(who(a), 0);
	assert_int_equal(who(b), 1);
}

static void test_a_chain_settles(void **state)
{
	uint32_t home[DEVICES];

	(void)state;
	for (uint32_t i = 0; i < DEVICES; i++)
		home[i] = get(i, PCI_BAR(0), 4);
	/* Each wants the next one's place, and gets it when that one wants another; the one before
	 * the last has no place until the last moves. */
	for (uint32_t i = 0; i + 1 < DEVICES; i++)
		put_bar(i, home[i + 1]);
	for (uint32_t i = 0; i + 2 < DEVICES; i++)
		assert_int_equal(who(home[i + 1]), (int)i);
	assert_int_equal(duts[DEVICES - 2].to, 0);
	assert_int_equal(who(home[DEVICES - 1]), DEVICES - 1);
	put_bar(DEVICES - 1, LAYOUT_MMIO32 + 0x200000);
	for (uint32_t i = 0; i + 1 < DEVICES; i++)
		assert_int_equal(who(home[i + 1]), (int)i);
	assert_int_equal(who(LAYOUT_MMIO32 + 0x200000), DEVICES - 1);
	assert_int_equal(who(home[0]), -1);
}

static void test_sizes_overlap(void **state)
{
	(void)state;
	dut_init(4, 4 * BAR_BYTES);
	assert_int_equal(pci_plug(&host, &duts[4].pci), 0);
	assert_int_equal(get(4, PCI_BAR(0), 4) % (4 * BAR_BYTES), 0);
	/* The large one lies over four small ones that are not decoded. */
	for (uint32_t i = 0; i < DEVICES; i++) {
		decode(i, false);
		put_bar(i, (uint32_t)(LAYOUT_MMIO32 + 0x400000 + i * STRIDE));
		decode(i, true);
		decode(i, false);
	}
	put_bar(4, LAYOUT_MMIO32 + 0x400000);
	for (uint32_t i = 0; i < DEVICES; i++) {
		assert_int_equal(duts[i].to, 0);
		assert_int_equal(who(LAYOUT_MMIO32 + 0x400000 + i * STRIDE), 4);
		decode(i, true); /* too late */
		assert_int_equal(duts[i].to, 0);
	}
	/* A byte of one at home is enough to keep it out. */
	put_bar(4, LAYOUT_MMIO32 + 0x800000);
	for (uint32_t i = 0; i < DEVICES; i++)
		assert_int_equal(who(LAYOUT_MMIO32 + 0x400000 + i * STRIDE), (int)i);
	put_bar(4, LAYOUT_MMIO32 + 0x400000);
	assert_int_equal(duts[4].to, LAYOUT_MMIO32 + 0x800000);
}

static void test_reset(void **state)
{
	static uint8_t before[DEVICES][PCI_CONFIG_BYTES];
	uint32_t home[DEVICES];

	(void)state;
	for (uint32_t i = 0; i < DEVICES; i++) {
		home[i] = get(i, PCI_BAR(0), 4);
		memcpy(before[i], duts[i].pci.config, PCI_CONFIG_BYTES);
	}
	for (uint32_t i = 0; i < DEVICES; i++)
		decode(i, false);
	for (uint32_t i = 0; i < DEVICES; i++) { /* a ring of exchanges, the last one not decoded */
		put_bar(i, home[(i + 1) % DEVICES]);
		put(i, PCI_COMMAND, 2, i + 1 < DEVICES ? 0x406 : 0x400);
		put(i, PCI_INTERRUPT_LINE, 1, 9);
	}
	assert_int_equal(who(home[1]), 0);
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS, 4, 0x80000000);
	pci_reset(&host);
	for (uint32_t i = 0; i < DEVICES; i++) {
		assert_int_equal(who(home[i]), (int)i);
		assert_int_equal(duts[i].to, home[i]);
		assert_memory_equal(duts[i].pci.config, before[i], PCI_CONFIG_BYTES);
	}
	assert_int_equal(bus_read(ports, LAYOUT_PORT_PCI_ADDRESS, 4), 0);
}

static void test_slots_and_window_run_out(void **state)
{
	uint32_t plugged = DEVICES;
	uint64_t end;

	(void)state;
	for (; plugged < PCI_SLOTS - 1; plugged++) {
		dut_init(plugged, 0x20);
		assert_int_equal(pci_plug(&host, &duts[plugged].pci), 0);
		assert_int_equal(who(duts[plugged].to), (int)plugged);
	}
	dut_init(31, 0);
	assert_int_equal(pci_plug(&host, &duts[31].pci), -ENOSPC);
	pci_unplug(&host, &duts[9].pci);
	assert_int_equal(get(9, 0, 4), 0xffffffff);
	dut_init(31, 0x20000000); /* the whole window, which is not free */
	assert_int_equal(pci_plug(&host, &duts[31].pci), -ENOSPC);
	assert_int_equal(get(9, 0, 4), 0xffffffff);
	dut_init(31, 0x10000000);
	assert_int_equal(pci_plug(&host, &duts[31].pci), 0);
	assert_int_equal(duts[31].pci.slot, 10);
	end = duts[31].to;
	assert_int_equal(end, LAYOUT_MMIO32 + 0x10000000);
	pci_unplug(&host, &duts[31].pci);
	assert_int_equal(who(end), -1);
}

/* A place that a device has after a reset is not given to another in the meantime. */
static void test_plug_keeps_off_the_places_after_reset(void **state)
{
	const uint32_t home = get(0, PCI_BAR(0), 4);

	(void)state;
	put_bar(0, LAYOUT_MMIO32 + 0x100000);
	assert_int_equal(who(home), -1);
	dut_init(4, BAR_BYTES);
	assert_int_equal(pci_plug(&host, &duts[4].pci), 0);
	assert_int_equal(who(home), -1);
	pci_reset(&host);
	assert_int_equal(who(home), 0);
	assert_int_equal(who(duts[4].to), 4);
}

static void test_two_bars(void **state)
{
	struct pci_device *pci = &duts[4].pci;
	uint32_t at[2];

	(void)state;
	dut_init(4, 0);
	pci->hooks = NULL;
	pci_device_add_bar(pci, 0, 0x1000, &bar_ops, &duts[4]);
	pci_device_add_bar(pci, 5, 0x2000, &bar_ops, &duts[5]);
	duts[5].tag = 0x6000000;
	assert_int_equal(pci_plug(&host, pci), 0);
	at[0] = get(4, PCI_BAR(0), 4);
	at[1] = get(4, PCI_BAR(5), 4);
	assert_int_equal(who(at[0]), 4);
	assert_int_equal(who(at[1]), 5);
	/* One of a device's own BARs does not move onto the other either. */
	put(4, PCI_BAR(0), 4, at[1] + 0x1000);
	assert_int_equal(who(at[1] + 0x1000), 5);
	assert_int_equal(who(at[0]), 4);
}

static bool done; /* atomic */

static void *prober(void *arg)
{
	const uint32_t slot = (uint32_t)(uintptr_t)arg;
	uintptr_t wrong = 0;

	for (uint32_t i = 0; !__atomic_load_n(&done, __ATOMIC_ACQUIRE); i++) {
		wrong += bus_read(mmio, ecam(slot, 0), 4) != 0x50001234 + ((slot - 1) << 16);
		bus_write(mmio, ecam(slot, PCI_BAR(0)), 4, LAYOUT_MMIO32 + i % 64 * STRIDE);
		bus_write(mmio, ecam(slot, PCI_COMMAND), 2, i & 6);
		bus_read(mmio, LAYOUT_MMIO32 + i % 61 * STRIDE, 4);
	}
	return (void *)wrong;
}

static void test_two_threads(void **state)
{
	pthread_t threads[2];
	void *wrong;

	(void)state;
	__atomic_store_n(&done, false, __ATOMIC_RELEASE);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, prober, (void *)(i + 1));
	for (uint32_t i = 0; i < 300; i++) { /* a device comes and goes meanwhile */
		dut_init(4, BAR_BYTES);
		assert_int_equal(pci_plug(&host, &duts[4].pci), 0);
		pci_unplug(&host, &duts[4].pci);
		assert_int_equal(duts[4].to, 0);
	}
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < 2; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
}

int main(void)
{
#define PCI_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		PCI_TEST(test_sizing_moves_nothing),
		PCI_TEST(test_moves),
		PCI_TEST(test_moves_outside_the_window),
		PCI_TEST(test_a_bar_at_home_stays),
		PCI_TEST(test_swap),
		PCI_TEST(test_a_chain_settles),
		PCI_TEST(test_sizes_overlap),
		PCI_TEST(test_reset),
		PCI_TEST(test_slots_and_window_run_out),
		PCI_TEST(test_plug_keeps_off_the_places_after_reset),
		PCI_TEST(test_two_bars),
		PCI_TEST(test_two_threads),
	};

	return cmocka_run_group_tests_name("pci_bar", tests, NULL, NULL);
}
