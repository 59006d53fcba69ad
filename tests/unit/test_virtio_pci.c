/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport as a driver sees it: the sequences of Linux, and those of drivers that do not keep
 * to the rules.  Interrupts, doorbells and PCI matters are in test_virtio_irq.c, the device's
 * configuration space in test_virtio_config.c.
 */
#include "core/bus/virtio_pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cc.h"

#define QUEUES 3u
#include "tests/unit/virtio_fixture.h"

static void test_probe(void **state)
{
	const uint64_t bar = fake_bar(&rig, 1);

	(void)state;
	assert_int_equal(fake_config_read(&rig, 1, PCI_VENDOR, 4), 0x10421af4);
	assert_int_equal(fake_config_read(&rig, 1, PCI_REVISION, 1), 1);
	assert_int_equal(fake_config_read(&rig, 1, PCI_INTERRUPT_LINE, 2), 0);
	for (uint32_t type = 1; type < 6; type++) {
		assert_int_not_equal(drv.cap[type], 0);
		if (type == 5)
			continue;
		assert_int_equal(fake_config_read(&rig, 1, drv.cap[type] + 4, 1), 0); /* BAR */
		assert_in_range(driver_part(&drv, type) +
					fake_config_read(&rig, 1, drv.cap[type] + 12, 4),
				bar + 1, bar + VIRTIO_BAR_BYTES);
	}
	assert_int_equal(fake_config_read(&rig, 1, drv.cap[1] + 12, 4), 56);
	assert_int_equal(fake_config_read(&rig, 1, drv.cap[2] + 12, 4), 4 * QUEUES);
	assert_int_equal(fake_config_read(&rig, 1, drv.cap[4] + 12, 4), 24);
	assert_int_equal(fake_config_read(&rig, 1, drv.cap[2] + 2, 1), 20);
	assert_int_equal(drv.multiplier, 4);
	assert_int_equal(fake_config_read(&rig, 1, drv.msix + 2, 2), QUEUES); /* vectors - 1 */
	assert_int_equal(driver_get(&drv, 0x12, 2), QUEUES);
	assert_int_equal(driver_offered(&drv), rig.spec.features);
	assert_int_equal(driver_status(&drv), 0);
}

static void check_started(uint32_t times)
{
	const struct fake_backend *b = &rig.backend;

	assert_int_equal(b->starts, times);
	assert_int_equal(driver_status(&drv), DRIVER_RUNS);
	assert_true(b->running);
	assert_int_equal(b->features, rig.spec.features);
	for (uint32_t q = 0; q < BOX_QUEUES_MAX; q++) {
		assert_int_equal(b->queues[q].size, q < QUEUES ? 128 : 0);
		assert_int_equal(b->queues[q].next, 0);
		assert_true(b->queues[q].desc_gpa == (q < QUEUES ? driver_ring(q, 0) : 0));
		assert_true(b->queues[q].avail_gpa == (q < QUEUES ? driver_ring(q, 1) : 0));
		assert_true(b->queues[q].used_gpa == (q < QUEUES ? driver_ring(q, 2) : 0));
	}
}

static void test_bring_up_and_again(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	check_started(1);
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	assert_int_equal(driver_status(&drv), 0);
	assert_int_equal(rig.backend.resets, 1);
	for (uint32_t q = 0; q < QUEUES; q++) { /* nothing of the first life is left */
		driver_put(&drv, DRIVER_SELECT, 2, q);
		assert_int_equal(driver_get(&drv, DRIVER_SIZE, 2), 256);
		assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 0);
		assert_int_equal(driver_get(&drv, DRIVER_VECTOR, 2), 0xffff);
		assert_int_equal(driver_get(&drv, 0x20, 4), 0);
	}
	assert_int_equal(driver_get(&drv, 0x10, 2), 0xffff);
	driver_put(&drv, 0x08, 4, 0);
	assert_int_equal(driver_get(&drv, 0x0c, 4), 0);
	driver_bring_up(&drv);
	check_started(2);
}

static void test_queues_that_are_not_enabled(void **state)
{
	(void)state;
	fake_config_write(&rig, 1, PCI_COMMAND, 2, 6);
	driver_negotiate(&drv, UINT64_MAX);
	driver_setup_queue(&drv, 1, 64, 0xffff);
	driver_put(&drv, DRIVER_SELECT, 2, 2);
	driver_put(&drv, DRIVER_SIZE, 2, 32);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	assert_true(rig.backend.running);
	assert_int_equal(rig.backend.queues[0].size, 0);
	assert_int_equal(rig.backend.queues[1].size, 64);
	assert_int_equal(rig.backend.queues[2].size, 0);
}

static void test_features(void **state)
{
	const uint64_t all = rig.spec.features;
	const uint64_t v1 = 1ull << VIRTIO_F_VERSION_1;
	const struct {
		uint64_t features;
		bool good;
		uint64_t required; /* of what the device cannot do without */
	} cases[] = {
		{ v1 | 0x40, false, 0x200 },
		{ v1 | 0x240, true, 0x200 },
		{ all, true, 0 },
		{ v1, true, 0 },
		{ 0, false, 0 },
		{ all & ~v1, false, 0 },
		{ all | 1, false, 0 },
		{ all | 1ull << 63, false, 0 },
		{ all | 1ull << 33, false, 0 },
		{ UINT64_MAX, false, 0 },
	};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
		driver_put(&drv, DRIVER_STATUS, 1, 0);
		driver_put(&drv, DRIVER_STATUS, 1, 1);
		driver_put(&drv, DRIVER_STATUS, 1, 3);
		rig.dev->spec.required = cases[i].required;
		driver_accept(&drv, cases[i].features);
		driver_put(&drv, DRIVER_STATUS, 1, DRIVER_READY);
		assert_int_equal(driver_status(&drv), cases[i].good ? DRIVER_READY : 3);
		driver_put(&drv, DRIVER_STATUS, 1, DRIVER_RUNS); /* as if it had not looked */
		assert_int_equal(driver_status(&drv), cases[i].good ? DRIVER_RUNS : 3);
		driver_accept(&drv, 0); /* too late, where they were accepted */
		assert_int_equal(driver_get(&drv, 0x0c, 4),
				 cases[i].good ? cases[i].features >> 32 : 0);
	}
	assert_int_equal(rig.backend.starts, 0); /* not a bus master */
}

static void test_features_beyond_64(void **state)
{
	(void)state;
	for (uint32_t select = 2; select < 40; select++) {
		driver_put(&drv, 0x00, 4, select);
		assert_int_equal(driver_get(&drv, 0x04, 4), 0);
	}
	driver_put(&drv, 0x00, 4, UINT32_MAX);
	assert_int_equal(driver_get(&drv, 0x04, 4), 0);
	driver_put(&drv, DRIVER_STATUS, 1, 3);
	driver_accept(&drv, rig.spec.features);
	driver_put(&drv, 0x08, 4, 2);
	driver_put(&drv, 0x0c, 4, 1); /* bit 64 */
	driver_put(&drv, DRIVER_STATUS, 1, DRIVER_READY);
	assert_int_equal(driver_status(&drv), 3);
	driver_put(&drv, 0x0c, 4, 0);
	driver_put(&drv, 0x08, 4, UINT32_MAX);
	driver_put(&drv, 0x0c, 4, 1); /* nowhere */
	assert_int_equal(driver_get(&drv, 0x0c, 4), 0);
	driver_put(&drv, DRIVER_STATUS, 1, DRIVER_READY);
	assert_int_equal(driver_status(&drv), DRIVER_READY);
}

/* What a status write makes of a status, by the rules and nothing else. */
static uint8_t expected(uint8_t status, uint8_t value)
{
	static const uint8_t order[] = { 1, 2, 8, 4 };
	uint8_t before = 0;

	if (value == 0)
		return 0;
	if ((value & status) != status)
		return status;
	for (uint32_t i = 0; i < ARRAY_SIZE(order); i++) {
		if ((value & order[i]) && (i == 0 || (status & before)))
			status |= order[i];
		before = order[i];
	}
	return status | (value & 128);
}

static void test_status_in_any_order(void **state)
{
	uint8_t status = 0;

	(void)state;
	fake_config_write(&rig, 1, PCI_COMMAND, 2, 6);
	srandom(4);
	while (rig.backend.resets < 10) { /* those of a running device are rationed */
		const uint8_t any = (uint8_t)random();
		const uint8_t value = random() % 16 == 0 ? 0 : random() % 4 ? any | status : any;
		const bool runs = rig.backend.running;

		driver_accept(&drv, rig.spec.features);
		driver_put(&drv, DRIVER_STATUS, 1, value);
		status = expected(status, value);
		assert_int_equal(driver_status(&drv), status);
		/* A driver that has given up is not started, one that runs is not stopped by it. */
		assert_int_equal(rig.backend.running,
				 status && (runs || ((status & 4) && !(status & 128))));
	}
	assert_true(rig.backend.starts >= 10);
}

static void test_queue_size(void **state)
{
	static const uint32_t bad[] = { 0, 3, 255, 257, 512, 1024, 0x8000, 65535 };

	(void)state;
	driver_put(&drv, DRIVER_SIZE, 2, 64); /* before FEATURES_OK */
	assert_int_equal(driver_get(&drv, DRIVER_SIZE, 2), 256);
	driver_negotiate(&drv, UINT64_MAX);
	for (uint32_t size = 1; size <= 256; size *= 2) {
		driver_put(&drv, DRIVER_SIZE, 2, size);
		assert_int_equal(driver_get(&drv, DRIVER_SIZE, 2), size);
		for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
			driver_put(&drv, DRIVER_SIZE, 2, bad[i]);
			assert_int_equal(driver_get(&drv, DRIVER_SIZE, 2), size);
		}
	}
}

static void test_queue_that_does_not_exist(void **state)
{
	static const uint32_t bad[] = { QUEUES, 16, 17, 255, 0x7fff, 0xffff };

	(void)state;
	driver_negotiate(&drv, UINT64_MAX);
	for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
		driver_setup_queue(&drv, bad[i], 128, 0);
		assert_int_equal(driver_get(&drv, DRIVER_SELECT, 2), bad[i]);
		for (uint32_t at = DRIVER_SIZE; at < 0x20; at += 2)
			assert_int_equal(driver_get(&drv, at, 2), 0);
		for (uint32_t at = 0x20; at < 0x38; at += 4)
			assert_int_equal(driver_get(&drv, at, 4), 0);
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		driver_put(&drv, DRIVER_SELECT, 2, q);
		assert_int_equal(driver_get(&drv, DRIVER_SIZE, 2), 256);
		assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 0);
		assert_int_equal(driver_get(&drv, DRIVER_NOTIFY_OFF, 2), q);
	}
}

/* Tries to change everything about queue 0; whether anything gave. */
static bool meddle(void)
{
	bool changed = false;

	driver_put(&drv, DRIVER_SELECT, 2, 0);
	driver_put(&drv, DRIVER_SIZE, 2, 16);
	changed = changed || driver_get(&drv, DRIVER_SIZE, 2) == 16;
	for (uint32_t at = 0x20; at < 0x38; at += 4) {
		driver_put(&drv, at, 4, 0xabc000);
		changed = changed || driver_get(&drv, at, 4) == 0xabc000;
	}
	return changed;
}

static void test_queue_phases(void **state)
{
	(void)state;
	fake_config_write(&rig, 1, PCI_COMMAND, 2, 6);
	assert_false(meddle());
	driver_put(&drv, DRIVER_ENABLE, 2, 1);
	assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 0);
	driver_negotiate(&drv, UINT64_MAX);
	assert_true(meddle());
	for (uint32_t value = 0; value < 20; value++) {
		if (value == 1)
			continue;
		driver_put(&drv, DRIVER_ENABLE, 2, value);
		assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 0);
	}
	driver_setup_queue(&drv, 0, 128, 1);
	assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 1);
	assert_false(meddle());
	driver_put(&drv, DRIVER_ENABLE, 2, 0); /* only a reset can */
	assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 1);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	driver_setup_queue(&drv, 1, 128, 2); /* too late */
	assert_int_equal(driver_get(&drv, DRIVER_ENABLE, 2), 0);
	assert_int_equal(driver_get(&drv, DRIVER_VECTOR, 2), 2);
	assert_int_equal(rig.backend.queues[0].size, 128);
	assert_int_equal(rig.backend.queues[1].size, 0);
}

/* Every register, but for the features, which a selector governs. */
static void dump(uint32_t *values)
{
	static const struct {
		uint8_t at;
		uint8_t size;
	} regs[] = {
		{ 0x00, 4 }, { 0x08, 4 }, { 0x10, 2 }, { 0x12, 2 }, { 0x14, 1 },
		{ 0x15, 1 }, { 0x16, 2 }, { 0x18, 2 }, { 0x1a, 2 }, { 0x1c, 2 },
		{ 0x1e, 2 }, { 0x20, 4 }, { 0x24, 4 }, { 0x28, 4 }, { 0x2c, 4 },
		{ 0x30, 4 }, { 0x34, 4 }, { 0x04, 4 }, { 0x0c, 4 },
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(regs); i++)
		values[i] = driver_get(&drv, regs[i].at, regs[i].size);
}

/* What the specification says can be accessed, and a 64-bit field as a whole. */
static bool defined(uint32_t at, uint32_t size)
{
	if (at < 0x10)
		return at % size == 0 && size >= 4;
	if (at >= 0x20)
		return at % size == 0 && size >= 4;
	return at == 0x14 || at == 0x15 ? size == 1 : size == 2 && at % 2 == 0;
}

static void test_undefined_accesses_to_every_offset(void **state)
{
	uint32_t before[19], after[19];

	(void)state;
	driver_negotiate(&drv, UINT64_MAX);
	driver_put(&drv, DRIVER_SELECT, 2, 1);
	for (uint32_t size = 1; size <= 8; size *= 2) {
		for (uint32_t at = 0; at < 0x48; at++) {
			if (at + size <= 0x38 && defined(at, size))
				continue;
			dump(before);
			bus_write(rig.mmio, drv.common + at, size, UINT64_MAX);
			bus_write(rig.mmio, drv.common + at, size, 0);
			assert_true(bus_read(rig.mmio, drv.common + at, size) == 0);
			dump(after);
			assert_memory_equal(before, after, sizeof(before));
		}
	}
	bus_write(rig.mmio, drv.common + 0x28, 8, 0x1122334455667788);
	assert_true(bus_read(rig.mmio, drv.common + 0x28, 8) == 0x1122334455667788);
	assert_int_equal(driver_get(&drv, 0x2c, 4), 0x11223344);
}

static void test_every_offset_of_the_bar(void **state)
{
	const uint64_t bar = fake_bar(&rig, 1);

	(void)state;
	for (uint32_t size = 1; size <= 8; size *= 2) {
		for (uint32_t at = 0x38; at < VIRTIO_BAR_BYTES; at++) {
			bus_read(rig.mmio, bar + at, size);
			bus_write(rig.mmio, bar + at, size, 0x5a5a5a5a5a5a5a5a);
		}
	}
	/* Between the parts there is nothing, and an access across two is to neither. */
	assert_true(bus_read(rig.mmio, bar + 0x40, 8) == 0);
	assert_true(bus_read(rig.mmio, bar + 0x6000, 8) == 0);
	assert_true(bus_read(rig.mmio, bar + 0x1ffc, 8) == 0);
	assert_int_equal(driver_status(&drv), 0);
	driver_bring_up(&drv);
	check_started(1);
}

static void test_reset_waits_for_the_backend(void **state)
{
	(void)state;
	rig.backend.answers = false;
	driver_bring_up(&drv);
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	assert_int_equal(rig.backend.resets, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(driver_status(&drv), DRIVER_RUNS);
	/* A driver that does not wait gets nowhere. */
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	driver_put(&drv, DRIVER_STATUS, 1, 1);
	driver_negotiate(&drv, UINT64_MAX);
	driver_setup_queue(&drv, 1, 128, 0);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(driver_status(&drv), DRIVER_RUNS);
	assert_int_equal(driver_get(&drv, DRIVER_SELECT, 2), 0);
	assert_int_equal(driver_get(&drv, DRIVER_SIZE, 2), 256);
	assert_int_equal(rig.backend.starts, 1);
	assert_int_equal(rig.backend.resets, 1);
	virtio_pci_reset_done(rig.dev);
	assert_int_equal(driver_status(&drv), 0);
	driver_bring_up(&drv);
	check_started(2);
	driver_put(&drv, DRIVER_STATUS, 1, 0); /* the first answer does not do for this one */
	assert_int_equal(driver_status(&drv), DRIVER_RUNS);
	virtio_pci_reset_done(rig.dev);
	assert_int_equal(driver_status(&drv), 0);
}

/* Complete without anybody reading the status. */
static void test_reset_completes_by_itself(void **state)
{
	(void)state;
	rig.backend.answers = false;
	driver_bring_up(&drv);
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	virtio_pci_reset_done(rig.dev);
	driver_put(&drv, DRIVER_STATUS, 1, 1);
	assert_int_equal(driver_status(&drv), 1);
}

static void test_resets_are_rationed(void **state)
{
	uint64_t begun = now_ns();
	uint32_t waits = 0;

	(void)state;
	for (uint32_t i = 0; i < 25; i++) {
		driver_bring_up(&drv);
		assert_int_equal(rig.backend.starts, i + 1);
		driver_put(&drv, DRIVER_STATUS, 1, 0);
		assert_int_equal(rig.backend.resets, i + 1);
		if (i < 20)
			assert_int_equal(driver_status(&drv), 0);
		while (driver_status(&drv) != 0)
			waits++;
	}
	begun = now_ns() - begun;
	assert_true(begun >= 500 * NS_PER_MS);
	assert_true(waits > 5);
	/* Resets of a device that does not run cost nothing. */
	for (uint32_t i = 0; i < 10000; i++) {
		driver_put(&drv, DRIVER_STATUS, 1, 1);
		driver_put(&drv, DRIVER_STATUS, 1, 0);
		assert_int_equal(driver_status(&drv), 0);
	}
	assert_int_equal(rig.backend.resets, 25);
}

/* Stopped by taking Bus Master away, it has cost a generation all the same. */
static void test_resets_without_master_are_rationed(void **state)
{
	uint64_t begun = now_ns();

	(void)state;
	for (uint32_t i = 0; i < 25; i++) {
		driver_bring_up(&drv);
		assert_int_equal(rig.backend.starts, i + 1);
		fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		assert_int_equal(rig.backend.resets, i + 1);
		driver_put(&drv, DRIVER_STATUS, 1, 0);
		while (driver_status(&drv) != 0)
			;
	}
	begun = now_ns() - begun;
	assert_true(begun >= 500 * NS_PER_MS);
}

static void test_start_fails(void **state)
{
	(void)state;
	rig.backend.fail_start = -EBUSY;
	driver_bring_up(&drv);
	assert_int_equal(rig.backend.starts, 1);
	assert_int_equal(driver_status(&drv), DRIVER_RUNS | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(fake_delivered(&rig.machine, DRIVER_DATA(0)), 1);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(rig.backend.starts, 1); /* not again before a reset */
	rig.backend.fail_start = 0;
	driver_bring_up(&drv);
	check_started(2);
	assert_int_equal(rig.backend.resets, 0);
}

static void test_needs_reset(void **state)
{
	(void)state;
	virtio_pci_needs_reset(rig.dev); /* before there is a driver: seen, not announced */
	assert_int_equal(driver_status(&drv), VIRTIO_STATUS_NEEDS_RESET);
	driver_bring_up(&drv);
	check_started(1);
	assert_int_equal(fake_delivered(&rig.machine, DRIVER_DATA(0)), 0);
	virtio_pci_needs_reset(rig.dev);
	assert_int_equal(fake_delivered(&rig.machine, DRIVER_DATA(0)), 1);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 1), 2);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 1), 0);
	assert_int_equal(driver_status(&drv), DRIVER_RUNS | VIRTIO_STATUS_NEEDS_RESET);
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	assert_int_equal(driver_status(&drv), 0);
	driver_bring_up(&drv);
	check_started(2);
}

static void test_machine_reset(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	virtio_pci_needs_reset(rig.dev);
	rig.backend.running = false; /* its owner has stopped it */
	pci_reset(&rig.host);
	virtio_pci_machine_reset(rig.dev);
	assert_int_equal(fake_irqfds(&rig.machine), 0);
	assert_int_equal(fake_bells(&rig.machine), QUEUES);
	assert_int_equal(driver_status(&drv), 0);
	assert_int_equal(fake_config_read(&rig, 1, drv.msix + 2, 2), QUEUES);
	assert_int_equal(bus_read(rig.mmio, drv.table, 4), 0);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 1), 0);
	driver_bring_up(&drv);
	check_started(2);
	assert_int_equal(rig.backend.resets, 0);
}

int main(void)
{
#define VIRTIO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		VIRTIO_TEST(test_probe),
		VIRTIO_TEST(test_bring_up_and_again),
		VIRTIO_TEST(test_queues_that_are_not_enabled),
		VIRTIO_TEST(test_features),
		VIRTIO_TEST(test_features_beyond_64),
		VIRTIO_TEST(test_status_in_any_order),
		VIRTIO_TEST(test_queue_size),
		VIRTIO_TEST(test_queue_that_does_not_exist),
		VIRTIO_TEST(test_queue_phases),
		VIRTIO_TEST(test_undefined_accesses_to_every_offset),
		VIRTIO_TEST(test_every_offset_of_the_bar),
		VIRTIO_TEST(test_reset_waits_for_the_backend),
		VIRTIO_TEST(test_reset_completes_by_itself),
		VIRTIO_TEST(test_resets_are_rationed),
		VIRTIO_TEST(test_resets_without_master_are_rationed),
		VIRTIO_TEST(test_start_fails),
		VIRTIO_TEST(test_needs_reset),
		VIRTIO_TEST(test_machine_reset),
	};

	return cmocka_run_group_tests_name("virtio_pci", tests, NULL, NULL);
}
