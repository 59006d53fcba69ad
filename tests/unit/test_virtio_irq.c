/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport and what is around it: interrupts, doorbells, the window in config space, Bus Master,
 * failures at creation, and other threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cc.h"

#define QUEUES 2u
#include "tests/unit/virtio_fixture.h"

static uint32_t delivered(uint32_t vector)
{
	return fake_delivered(&rig.machine, DRIVER_DATA(vector));
}

static void call(uint32_t queue)
{
	eventfd_write(rig.spec.call[queue], 1);
	fake_pump(&rig.machine);
}

static uint32_t pending(void)
{
	return (uint32_t)bus_read(rig.mmio, drv.pba, 4);
}

static void test_interrupts(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	assert_int_equal(fake_irqfds(&rig.machine), QUEUES + 1);
	call(0);
	call(1);
	call(1);
	assert_int_equal(delivered(0), 0);
	assert_int_equal(delivered(1), 1);
	assert_int_equal(delivered(2), 2);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 1), 0); /* MSI-X only: never the queue bit */
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	assert_int_equal(fake_irqfds(&rig.machine), 0);
	call(0);
	driver_bring_up(&drv);
	assert_int_equal(delivered(1), 1); /* what came in between was for nobody */
}

static void test_all_ways_to_mask(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	for (uint32_t way = 0; way < 4; way++) {
		const uint32_t before = delivered(1);

		if (way == 0)
			driver_vector_mask(&drv, 1, true);
		else if (way == 1)
			driver_msix_control(&drv, MSIX_CONTROL_ENABLED | MSIX_CONTROL_MASKED);
		else if (way == 2)
			driver_msix_control(&drv, 0);
		else
			fake_config_write(&rig, 1, drv.msix + 3, 1, 0x40); /* by its high byte */
		call(0);
		call(0);
		assert_int_equal(delivered(1), before);
		assert_int_equal(pending(), 2);
		driver_vector_mask(&drv, 1, false);
		driver_msix_control(&drv, MSIX_CONTROL_ENABLED);
		assert_int_equal(delivered(1), before + 1);
		assert_int_equal(pending(), 0);
	}
}

/* One vector for everything, as Linux does when it gets too few. */
static void test_one_vector(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	driver_put(&drv, 0x10, 2, 1);
	driver_put(&drv, DRIVER_SELECT, 2, 0);
	driver_put(&drv, DRIVER_VECTOR, 2, 1);
	driver_put(&drv, DRIVER_SELECT, 2, 1);
	driver_put(&drv, DRIVER_VECTOR, 2, 1);
	assert_int_equal(driver_get(&drv, DRIVER_VECTOR, 2), 1);
	call(0);
	call(1);
	virtio_pci_config_changed(rig.dev, 0, "x", 1);
	assert_int_equal(delivered(1), 3);
}

static void test_vectors_out_of_range(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	driver_put(&drv, DRIVER_SELECT, 2, 0);
	for (uint32_t vector = QUEUES + 1; vector < 0x10000; vector += 13) {
		driver_put(&drv, DRIVER_VECTOR, 2, vector);
		assert_int_equal(driver_get(&drv, DRIVER_VECTOR, 2), 0xffff);
		driver_put(&drv, 0x10, 2, vector);
		assert_int_equal(driver_get(&drv, 0x10, 2), 0xffff);
	}
	assert_int_equal(fake_irqfds(&rig.machine), QUEUES - 1);
	driver_put(&drv, DRIVER_VECTOR, 2, QUEUES);
	assert_int_equal(driver_get(&drv, DRIVER_VECTOR, 2), QUEUES);
}

static void test_doorbells(void **state)
{
	(void)state;
	assert_int_equal(fake_bells(&rig.machine), QUEUES);
	driver_bring_up(&drv);
	for (uint32_t q = 0; q < QUEUES; q++) {
		driver_put(&drv, DRIVER_SELECT, 2, q);
		fake_write(&rig,
			   drv.notify + (uint64_t)driver_get(&drv, DRIVER_NOTIFY_OFF, 2) *
						drv.multiplier,
			   2, 0xabcd);
		for (uint32_t other = 0; other < QUEUES; other++)
			assert_int_equal(fake_take(rig.spec.kick[other]), other == q);
	}
}

static void test_doorbells_by_hand(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= 8; size *= 2) {
		bus_write(rig.mmio, drv.notify, size, 0);
		assert_true(fake_take(rig.spec.kick[0]));
		assert_false(fake_take(rig.spec.kick[1]));
		bus_write(rig.mmio, drv.notify + 4, size, 0);
		assert_true(fake_take(rig.spec.kick[1]));
		for (uint32_t at = 1; at < 4; at++) /* no queue's */
			bus_write(rig.mmio, drv.notify + at, size, 0);
		bus_write(rig.mmio, drv.notify + 4ull * QUEUES, size, 0);
		assert_false(fake_take(rig.spec.kick[0]));
		assert_false(fake_take(rig.spec.kick[1]));
		assert_true(bus_read(rig.mmio, drv.notify, size) == 0);
	}
	/* A count at its limit does not stop a vCPU. */
	eventfd_write(rig.spec.kick[0], UINT64_MAX - 1);
	bus_write(rig.mmio, drv.notify, 4, 0);
	assert_true(fake_take(rig.spec.kick[0]));
}

static void test_doorbells_that_cannot_be_had(void **state)
{
	const uint64_t bar = fake_bar(&rig, 1);

	(void)state;
	rig.machine.fail_bell = -ENOSPC;
	fake_config_write(&rig, 1, PCI_BAR(0), 4, (uint32_t)bar + VIRTIO_BAR_BYTES);
	assert_int_equal(fake_bells(&rig.machine), 0);
	driver_probe(&drv, &rig);
	fake_write(&rig, drv.notify + 4, 2, 1);
	assert_true(fake_take(rig.spec.kick[1]));
	rig.machine.fail_bell = 0;
	fake_config_write(&rig, 1, PCI_BAR(0), 4, (uint32_t)bar);
	assert_int_equal(fake_bells(&rig.machine), QUEUES);
}

static void test_doorbells_stay(void **state)
{
	const uint32_t bar = (uint32_t)fake_bar(&rig, 1);
	uint32_t changes;

	(void)state;
	changes = rig.machine.bell_changes;
	assert_int_equal(changes, QUEUES);
	for (int i = 0; i < 10; i++) {
		driver_bring_up(&drv);
		driver_put(&drv, DRIVER_STATUS, 1, 0);
		fake_config_write(&rig, 1, PCI_COMMAND, 2, 0);
		fake_config_write(&rig, 1, PCI_BAR(0), 4, 0xffffffff);
		fake_config_write(&rig, 1, PCI_BAR(0), 4, bar);
		fake_config_write(&rig, 1, PCI_COMMAND, 2, 6);
	}
	pci_reset(&rig.host);
	virtio_pci_machine_reset(rig.dev);
	assert_int_equal(rig.machine.bell_changes, changes);
	fake_config_write(&rig, 1, PCI_BAR(0), 4, bar + VIRTIO_BAR_BYTES);
	assert_int_equal(rig.machine.bell_changes, changes + 2 * QUEUES);
	driver_probe(&drv, &rig);
	test_doorbells(state);
}

static void window(uint32_t bar, uint32_t offset, uint32_t length)
{
	fake_config_write(&rig, 1, drv.cap[5] + 4, 1, bar);
	fake_config_write(&rig, 1, drv.cap[5] + 8, 4, offset);
	fake_config_write(&rig, 1, drv.cap[5] + 12, 4, length);
}

static uint32_t window_get(uint32_t offset, uint32_t length)
{
	window(0, offset, length);
	return fake_config_read(&rig, 1, drv.cap[5] + 16, length);
}

static void window_put(uint32_t offset, uint32_t length, uint32_t value)
{
	window(0, offset, length);
	fake_config_write(&rig, 1, drv.cap[5] + 16, length, value);
}

static void test_window(void **state)
{
	(void)state;
	driver_bring_up(&drv);
	assert_int_equal(window_get(DRIVER_STATUS, 1), DRIVER_RUNS);
	assert_int_equal(window_get(0x12, 2), QUEUES);
	assert_int_equal(window_get(VIRTIO_DEVICE_AT + 4, 4), 0x47464544);
	window_put(DRIVER_SELECT, 2, 1);
	assert_int_equal(driver_get(&drv, DRIVER_SELECT, 2), 1);
	window_put(VIRTIO_NOTIFY_AT + 4, 2, 1);
	assert_true(fake_take(rig.spec.kick[1]));
	virtio_pci_config_changed(rig.dev, 0, "y", 1);
	assert_int_equal(window_get(VIRTIO_ISR_AT, 1), 2);
	assert_int_equal(window_get(VIRTIO_ISR_AT, 1), 0);
	window_put(DRIVER_STATUS, 1, 0);
	assert_int_equal(rig.backend.resets, 1);
	assert_int_equal(window_get(DRIVER_STATUS, 1), 0);
}

static void test_window_to_nowhere(void **state)
{
	static const struct {
		uint32_t bar, offset, length;
	} bad[] = {
		{ 1, DRIVER_STATUS, 1 },
		{ 0xff, DRIVER_STATUS, 1 },
		{ 0, DRIVER_STATUS, 0 },
		{ 0, DRIVER_STATUS, 3 },
		{ 0, DRIVER_STATUS, 8 },
		{ 0, DRIVER_STATUS, 0x101 },
		{ 0, DRIVER_STATUS + VIRTIO_BAR_BYTES, 1 },
		{ 0, DRIVER_SELECT - 1, 2 },
		{ 0, UINT32_MAX, 1 },
		{ 0, UINT32_MAX - 3, 4 },
	};

	(void)state;
	driver_put(&drv, DRIVER_STATUS, 1, 1);
	for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
		window(bad[i].bar, bad[i].offset, bad[i].length);
		fake_config_write(&rig, 1, drv.cap[5] + 16, 4, 0x55);
		assert_int_equal(fake_config_read(&rig, 1, drv.cap[5] + 16, 4), 0x55);
		assert_int_equal(driver_status(&drv), 1);
		assert_int_equal(driver_get(&drv, DRIVER_SELECT, 2), 0);
	}
	/* Nothing else of the capability can be written. */
	fake_config_write(&rig, 1, drv.cap[5], 4, 0);
	assert_int_equal(fake_config_read(&rig, 1, drv.cap[5], 4) & 0xffff00ff, 0x05140009);
}

static void test_bus_master_late(void **state)
{
	(void)state;
	fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	driver_negotiate(&drv, UINT64_MAX);
	driver_enable_msix(&drv);
	driver_setup_queue(&drv, 0, 64, 1);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(driver_status(&drv), DRIVER_RUNS);
	assert_int_equal(rig.backend.starts, 0);
	assert_int_equal(fake_irqfds(&rig.machine), 0);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig.backend.starts, 1);
	assert_int_equal(fake_irqfds(&rig.machine), 1);
	assert_int_equal(rig.backend.queues[0].size, 64);
}

static void test_bus_master_taken_away(void **state)
{
	(void)state;
	rig.backend.answers = false;
	driver_bring_up(&drv);
	call(0);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(rig.backend.resets, 1);
	assert_int_equal(fake_irqfds(&rig.machine), 0);
	assert_int_equal(driver_status(&drv), DRIVER_READY | VIRTIO_STATUS_NEEDS_RESET);
	/* Back again: nobody knows where the rings are, so it stays where it is. */
	fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	virtio_pci_reset_done(rig.dev);
	driver_add_status(&drv, VIRTIO_STATUS_DRIVER_OK);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig.backend.starts, 1);
	assert_int_equal(driver_status(&drv), DRIVER_READY | VIRTIO_STATUS_NEEDS_RESET);
	driver_bring_up(&drv);
	assert_int_equal(rig.backend.starts, 2);
	assert_int_equal(rig.backend.resets, 1); /* it was stopped already */
	assert_int_equal(driver_status(&drv), DRIVER_RUNS);
}

static void test_bus_master_off_during_reset(void **state)
{
	(void)state;
	rig.backend.answers = false;
	driver_bring_up(&drv);
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, 0);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, 6);
	assert_int_equal(rig.backend.resets, 1);
	assert_int_equal(rig.backend.starts, 1);
	virtio_pci_reset_done(rig.dev);
	assert_int_equal(driver_status(&drv), 0);
}

static void test_creation_fails(void **state)
{
	const struct virtio_pci_spec good = rig.spec;
	struct virtio_pci_spec spec = good;
	struct virtio_pci *dev = NULL;

	(void)state;
	for (uint32_t left = 0; left <= QUEUES; left++) {
		rig.machine.gsis_left = left;
		assert_int_equal(virtio_pci_create(&dev, &rig.host, &good), -ENOSPC);
		assert_int_equal(rig.machine.gsis_left, left);
	}
	rig.machine.gsis_left = FAKE_GSIS;
	spec.queues = 0;
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), -EINVAL);
	spec.queues = BOX_QUEUES_MAX + 1;
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), -EINVAL);
	spec = good;
	spec.queue_size = 96;
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), -EINVAL);
	spec.queue_size = 2 * VIRTQ_SIZE_MAX;
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), -EINVAL);
	spec = good;
	spec.config_bytes = VIRTIO_CONFIG_MAX + 1;
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), -EINVAL);
	spec = good;
	spec.features &= ~(1ull << VIRTIO_F_VERSION_1);
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), -EINVAL);
	for (uint32_t slot = 2; slot < PCI_SLOTS; slot++)
		rig.host.slots[slot] = &rig.host.bridge;
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &good), -ENOSPC);
	for (uint32_t slot = 2; slot < PCI_SLOTS; slot++)
		rig.host.slots[slot] = NULL;
	assert_null(dev);
	assert_int_equal(fake_gsis(&rig.machine), QUEUES + 1);
	assert_int_equal(fake_bells(&rig.machine), QUEUES);
}

/* No device configuration, and as many queues as can be. */
static void test_other_shapes(void **state)
{
	struct virtio_pci_spec spec = rig.spec;
	struct virtio_pci *dev = NULL;

	(void)state;
	spec.config_bytes = 0;
	spec.queues = BOX_QUEUES_MAX;
	for (uint32_t q = 0; q < BOX_QUEUES_MAX; q++) {
		spec.kick[q] = rig.spec.kick[0];
		spec.call[q] = rig.spec.call[0];
	}
	assert_int_equal(virtio_pci_create(&dev, &rig.host, &spec), 0);
	assert_int_equal(fake_gsis(&rig.machine), QUEUES + 1 + BOX_QUEUES_MAX + 1);
	for (uint32_t at = fake_config_read(&rig, 2, PCI_CAPABILITIES, 1); at != 0;
	     at = fake_config_read(&rig, 2, at + 1, 1)) {
		if (fake_config_read(&rig, 2, at, 1) == 0x09)
			assert_int_not_equal(fake_config_read(&rig, 2, at + 3, 1), 4);
		else
			assert_int_equal(fake_config_read(&rig, 2, at + 2, 2), BOX_QUEUES_MAX);
	}
	virtio_pci_destroy(dev);
	virtio_pci_destroy(NULL);
	assert_int_equal(fake_config_read(&rig, 2, 0, 4), 0xffffffff);
}

/* The backend's thread reports while a vCPU, inside the backend's call, waits for it. */
static void *reporter(void *arg)
{
	virtio_pci_config_changed(arg, 0, "z", 1);
	virtio_pci_needs_reset(arg);
	virtio_pci_reset_done(arg);
	return NULL;
}

static void waiting_reset(void *ctx)
{
	struct fake_backend *b = ctx;
	pthread_t thread;

	b->resets++;
	b->running = false;
	pthread_create(&thread, NULL, reporter, b->dev);
	pthread_join(thread, NULL);
}

static void test_backend_may_be_waited_for(void **state)
{
	(void)state;
	rig.backend.ops.reset = waiting_reset;
	driver_bring_up(&drv);
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	assert_int_equal(driver_status(&drv), 0);
	driver_bring_up(&drv);
	fake_config_write(&rig, 1, PCI_COMMAND, 2, 0); /* with the PCI host's lock held, too */
	assert_int_equal(rig.backend.resets, 2);
}

static bool done; /* atomic */

/* A guest's CPU that does anything to the device. */
static void *hostile(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)arg * 0x9e3779b97f4a7c15u + 1;

	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		static const uint16_t parts[] = { 0,      0x14,   0x10,   0x1000,
						  0x2000, 0x3000, 0x4000, 0x5000 };
		const uint32_t size = 1u << (x >> 20 & 3);
		const uint64_t at = parts[x >> 24 & 7] + (x >> 28 & 63);
		const uint32_t config = x >> 27 & 0xff;

		if ((x & 7) == 0)
			bus_write(rig.mmio, fake_ecam(1, config), size, x >> 32);
		else if ((x & 7) == 1)
			bus_read(rig.mmio, fake_ecam(1, config), size);
		else if (x & 8)
			bus_write(rig.mmio, LAYOUT_MMIO32 + at, size, x >> 40);
		else
			bus_read(rig.mmio, LAYOUT_MMIO32 + at, size);
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return NULL;
}

static void test_threads(void **state)
{
	const uint64_t end = now_ns() + 500 * NS_PER_MS;
	pthread_t threads[2];

	(void)state;
	driver_bring_up(&drv);
	__atomic_store_n(&done, false, __ATOMIC_RELEASE);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, hostile, (void *)(i + 1));
	while (now_ns() < end) {
		eventfd_write(rig.spec.call[0], 1);
		virtio_pci_config_changed(rig.dev, 0, "abc", 3);
		virtio_pci_needs_reset(rig.dev);
		fake_pump(&rig.machine);
	}
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(fake_irqfds(&rig.machine) <= QUEUES + 1);
	/* And it is a good device again when the driver is. */
	pci_reset(&rig.host);
	rig.backend.running = false;
	virtio_pci_machine_reset(rig.dev);
	driver_probe(&drv, &rig);
	driver_bring_up(&drv);
	assert_int_equal(driver_status(&drv), DRIVER_RUNS);
	for (uint32_t q = 0; q < QUEUES; q++)
		fake_take(rig.spec.kick[q]);
	test_doorbells_by_hand(state);
	call(1);
	assert_true(delivered(2) >= 1);
}

int main(void)
{
#define VIRTIO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		VIRTIO_TEST(test_interrupts),
		VIRTIO_TEST(test_all_ways_to_mask),
		VIRTIO_TEST(test_one_vector),
		VIRTIO_TEST(test_vectors_out_of_range),
		VIRTIO_TEST(test_doorbells),
		VIRTIO_TEST(test_doorbells_by_hand),
		VIRTIO_TEST(test_doorbells_that_cannot_be_had),
		VIRTIO_TEST(test_doorbells_stay),
		VIRTIO_TEST(test_window),
		VIRTIO_TEST(test_window_to_nowhere),
		VIRTIO_TEST(test_bus_master_late),
		VIRTIO_TEST(test_bus_master_taken_away),
		VIRTIO_TEST(test_bus_master_off_during_reset),
		VIRTIO_TEST(test_creation_fails),
		VIRTIO_TEST(test_other_shapes),
		VIRTIO_TEST(test_backend_may_be_waited_for),
		VIRTIO_TEST(test_threads),
	};

	return cmocka_run_group_tests_name("virtio_irq", tests, NULL, NULL);
}
