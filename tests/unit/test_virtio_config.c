/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration space of a device: what the driver sees and writes of it, and what the VMM does. */
#include "core/bus/virtio_pci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cc.h"

#define QUEUES 1u
#include "tests/unit/virtio_fixture.h"

static void test_device_config(void **state)
{
	(void)state;
	assert_int_equal(bus_read(rig.mmio, drv.device, 8), 0x4746454443424140);
	assert_int_equal(bus_read(rig.mmio, drv.device + 3, 2), 0x4443);  /* no alignment here */
	assert_int_equal(bus_read(rig.mmio, drv.device + 22, 4), 0x5756); /* beyond: 0 */
	assert_int_equal(bus_read(rig.mmio, drv.device + 24, 8), 0);
	assert_int_equal(bus_read(rig.mmio, drv.device + 300, 8), 0);
	bus_write(rig.mmio, drv.device + 6, 8, UINT64_MAX);
	assert_int_equal(bus_read(rig.mmio, drv.device + 6, 8), 0x4d4cffffffff4746);
	bus_write(rig.mmio, drv.device + 22, 8, 0);
	assert_int_equal(bus_read(rig.mmio, drv.device + 20, 4), 0x57565554);
	driver_put(&drv, DRIVER_STATUS, 1, 0); /* what the driver wrote is gone, no more */
	assert_int_equal(bus_read(rig.mmio, drv.device + 6, 8), 0x4d4c4b4a49484746);
}

static void test_config_changed(void **state)
{
	uint8_t config[24] = { 7, 6, 5 };
	const uint32_t generation = driver_get(&drv, DRIVER_GENERATION, 1);

	(void)state;
	virtio_pci_config_changed(rig.dev, 0, config, sizeof(config));
	assert_int_equal(driver_get(&drv, DRIVER_GENERATION, 1), generation + 1);
	assert_int_equal(bus_read(rig.mmio, drv.device, 4), 0x050607);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 1), 0);
	driver_bring_up(&drv);
	config[0] = 9;
	virtio_pci_config_changed(rig.dev, 0, config, 1);
	assert_int_equal(driver_get(&drv, DRIVER_GENERATION, 1), generation + 2);
	assert_int_equal(bus_read(rig.mmio, drv.device, 4), 0x050609);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 4), 2);
	assert_int_equal(fake_delivered(&rig.machine, DRIVER_DATA(0)), 1);
	config[0] = 1; /* the same without a word */
	virtio_pci_config_set(rig.dev, 0, config, 1);
	assert_int_equal(driver_get(&drv, DRIVER_GENERATION, 1), generation + 3);
	assert_int_equal(bus_read(rig.mmio, drv.device, 4), 0x050601);
	assert_int_equal(bus_read(rig.mmio, drv.isr, 4), 0);
	assert_int_equal(fake_delivered(&rig.machine, DRIVER_DATA(0)), 1);
}

/* What the driver writes beside it stays and is seen; a reset takes that alone back. */
static void test_config_part(void **state)
{
	uint32_t words[3], want[3] = { 0x43424140, 0x11223344, 0x5a5a5a5a };

	(void)state;
	driver_bring_up(&drv);
	bus_write(rig.mmio, drv.device + 8, 4, want[2]);
	virtio_pci_config_changed(rig.dev, 4, &want[1], sizeof(want[1]));
	virtio_pci_config_get(rig.dev, 0, words, sizeof(words));
	assert_memory_equal(words, want, sizeof(want));
	driver_put(&drv, DRIVER_STATUS, 1, 0);
	virtio_pci_config_get(rig.dev, 8, words, sizeof(words[0]));
	assert_int_equal(words[0], 0x4b4a4948);
}

int main(void)
{
#define VIRTIO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		VIRTIO_TEST(test_device_config),
		VIRTIO_TEST(test_config_changed),
		VIRTIO_TEST(test_config_part),
	};

	return cmocka_run_group_tests_name("virtio_config", tests, NULL, NULL);
}
