/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/bus/pci.c: config space by both ways, against a model of bytes and masks.  Where BARs are is
 * in test_pci_bar.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/pci_dut.h"

static void test_header(void **state)
{
	static const uint8_t body[6] = { 1, 2, 3, 4, 5, 6 };
	static const uint8_t writable[6] = { 0, 0xff, 0, 0, 0, 0x0f };

	(void)state;
	assert_int_equal(get(0, PCI_VENDOR, 4), 0x50001234);
	assert_int_equal(get(0, PCI_REVISION, 4), 0xabcdef07);
	assert_int_equal(get(0, PCI_SUBVENDOR, 4), 0x99994321);
	assert_int_equal(get(0, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	assert_int_equal(get(0, PCI_STATUS, 2), 0);
	assert_int_equal(get(0, 0x0e, 1), 0); /* type 0, one function */
	assert_int_equal(get(0, 0x3d, 1), 0); /* no interrupt pin */
	dut_init(4, 0);
	assert_int_equal(pci_device_add_cap(&duts[4].pci, 0x09, body, 6, writable), 0x40);
	assert_int_equal(pci_device_add_cap(&duts[4].pci, 0x11, body, 1, NULL), 0x48);
	assert_int_equal(pci_device_add_cap(&duts[4].pci, 0x05, body, 6, NULL), 0x4c);
	assert_int_equal(pci_plug(&host, &duts[4].pci), 0);
	assert_int_equal(get(4, PCI_STATUS, 2), PCI_STATUS_CAPABILITIES);
	assert_int_equal(get(4, PCI_CAPABILITIES, 1), 0x40);
	assert_int_equal(get(4, 0x40, 4), 0x02014809);
	assert_int_equal(get(4, 0x48, 4), 0x00014c11);
	assert_int_equal(get(4, 0x4c, 2), 0x0005);
	put(4, 0x40, 4, 0xffffffff);
	put(4, 0x44, 4, 0xffffffff);
	assert_int_equal(get(4, 0x40, 4), 0xff014809);
	assert_int_equal(get(4, 0x44, 4), 0x0f050403);
	/* The bridge. */
	assert_int_equal(bus_read(mmio, ecam(0, PCI_REVISION), 4) >> 8, 0x060000);
}

static void test_cap_room(void **state)
{
	static const uint8_t body[256];
	struct pci_device *pci = &duts[5].pci;

	(void)state;
	dut_init(5, 0);
	assert_int_equal(pci_device_add_cap(pci, 9, body, 256, NULL), -ENOSPC);
	assert_int_equal(pci_device_add_cap(pci, 9, body, 191, NULL), -ENOSPC);
	assert_int_equal(pci_device_add_cap(pci, 9, body, 186, NULL), 0x40);
	assert_int_equal(pci_device_add_cap(pci, 9, body, 3, NULL), -ENOSPC);
	assert_int_equal(pci_device_add_cap(pci, 9, body, 2, NULL), 0xfc);
	assert_int_equal(pci_device_add_cap(pci, 9, body, 0, NULL), -ENOSPC);
	assert_int_equal(pci->config[0x41], 0xfc);
}

static void test_nobody_home(void **state)
{
	(void)state;
	assert_int_equal(bus_read(mmio, ecam(31, 0), 4), 0xffffffff);
	assert_int_equal(bus_read(mmio, ecam(1, 0x1000), 4), 0xffffffff); /* function 1 */
	assert_int_equal(bus_read(mmio, ecam(1, 0x100), 4), 0xffffffff);
	assert_int_equal(bus_read(mmio, ecam(1, 0xfff), 1), 0xff);
	bus_write(mmio, ecam(31, 4), 4, 0xffffffff);
	bus_write(mmio, ecam(1, 0x1004), 4, 0xffffffff);
	bus_write(mmio, ecam(1, 0x100), 8, UINT64_MAX);
	assert_int_equal(get(0, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
}

/* A model of one device: bytes and masks. */
struct model {
	uint8_t bytes[0x1008];
	uint8_t mask[0x1008];
};

static void model_init(struct model *m, uint32_t i)
{
	memset(m->bytes, 0xff, sizeof(m->bytes));
	memset(m->mask, 0, sizeof(m->mask));
	memcpy(m->bytes, duts[i].pci.config, PCI_CONFIG_BYTES);
	/* As the specification has it, not as the device says. */
	m->mask[4] = 0x06;
	m->mask[5] = 0x04;
	m->mask[0x0c] = m->mask[0x0d] = m->mask[0x3c] = 0xff;
	m->mask[0x11] = 0xc0;
	m->mask[0x12] = m->mask[0x13] = 0xff;
}

static uint64_t model_get(const struct model *m, uint32_t at, uint32_t size)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < size; i++)
		value |= (uint64_t)m->bytes[at + i] << (8 * i);
	return value;
}

static void model_put(struct model *m, uint32_t at, uint32_t size, uint64_t value)
{
	for (uint32_t i = 0; i < size; i++) {
		const uint8_t byte = (uint8_t)(value >> (8 * i));

		m->bytes[at + i] =
			(uint8_t)((m->bytes[at + i] & ~m->mask[at + i]) | (byte & m->mask[at + i]));
	}
}

static uint64_t random_value(void)
{
	return (uint64_t)(uint32_t)random() << 40 ^ (uint64_t)(uint32_t)random() << 20 ^
	       (uint64_t)(uint32_t)random();
}

static void test_every_access_by_ecam(void **state)
{
	static struct model m;

	(void)state;
	srandom(1);
	model_init(&m, 1);
	for (uint32_t round = 0; round < 40000; round++) {
		const uint32_t size = 1u << random() % 4;
		const uint32_t at = round < 0x1000 ? round : (uint32_t)random() % 0x108;
		const uint64_t value = random_value();

		if (round >= 0x1000 || at < 0x100) {
			bus_write(mmio, ecam(2, at), size, value);
			model_put(&m, at, size, value);
		}
		assert_true(bus_read(mmio, ecam(2, at), size) == model_get(&m, at, size));
	}
	for (uint32_t at = 0; at < 0x1000; at++) /* an access across the end finds ones there */
		assert_true(bus_read(mmio, ecam(2, at), 8) == model_get(&m, at, 8));
}

static void test_every_access_by_ports(void **state)
{
	static struct model m;

	(void)state;
	srandom(2);
	model_init(&m, 2);
	for (uint32_t round = 0; round < 40000; round++) {
		const uint32_t size = 1u << random() % 3;
		const uint32_t at = (uint32_t)random() % 0x100;
		const uint16_t port = (uint16_t)(LAYOUT_PORT_PCI_DATA + at % 4);
		const uint64_t value = random_value() & 0xffffffff;
		const bool fits = at % 4 + size <= 4;

		bus_write(ports, LAYOUT_PORT_PCI_ADDRESS, 4, 0x80000000 | 3 << 11 | (at & ~3u));
		bus_write(ports, port, size, value);
		if (fits)
			model_put(&m, at, size, value);
		assert_true(bus_read(ports, port, size) ==
			    (fits ? model_get(&m, at, size) : UINT64_MAX >> (64 - 8 * size)));
	}
}

static uint32_t by_ports(uint32_t address)
{
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS, 4, address);
	return (uint32_t)bus_read(ports, LAYOUT_PORT_PCI_DATA, 4);
}

static void test_address_register(void **state)
{
	(void)state;
	assert_int_equal(by_ports(0x80000800), 0x50001234);
	assert_int_equal(by_ports(0x80000803),
			 0x50001234); /* the low bits are not the register's */
	assert_int_equal(by_ports(0x00000800), 0xffffffff); /* not enabled */
	assert_int_equal(by_ports(0x80010800), 0xffffffff); /* bus 1 */
	assert_int_equal(by_ports(0x80000900), 0xffffffff); /* function 1 */
	assert_int_equal(by_ports(0x81000800), 0xffffffff); /* register 0x100 */
	assert_int_equal(by_ports(0x8000f800), 0xffffffff); /* nobody */
	/* Only accesses of 4 bytes are to the register. */
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS, 4, 0x80001000);
	for (uint32_t i = 0; i < 4; i++) {
		bus_write(ports, LAYOUT_PORT_PCI_ADDRESS + i, 1, 0x55);
		assert_int_equal(bus_read(ports, LAYOUT_PORT_PCI_ADDRESS + i, 1), 0xff);
	}
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS, 2, 0x5555);
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS + 1, 4, 0x55555555);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_PCI_ADDRESS, 4), 0x80001000);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_PCI_DATA, 4), 0x50011234);
	/* Linux's probe for the mechanism. */
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS + 3, 1, 1);
	bus_write(ports, LAYOUT_PORT_PCI_ADDRESS, 4, 0x80000000);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_PCI_ADDRESS, 4), 0x80000000);
}

static void test_hooks_see_what_is_theirs(void **state)
{
	static const uint8_t body[2];

	(void)state;
	dut_init(4, 0);
	assert_int_equal(pci_device_add_cap(&duts[4].pci, 9, body, 2, NULL), 0x40);
	assert_int_equal(pci_plug(&host, &duts[4].pci), 0);
	duts[4].reads_ahead = true;
	put(4, PCI_INTERRUPT_LINE, 1, 3);
	put(4, PCI_BAR(0), 4, 3);
	assert_int_equal(duts[4].written, 0);
	put(4, PCI_COMMAND + 1, 1, 0);
	put(4, PCI_STATUS, 2, 0);
	assert_int_equal(duts[4].written, 1);
	put(4, 0x3c, 8, 0);
	put(4, 0x42, 1, 0);
	assert_int_equal(duts[4].written, 3);
	get(4, 0x3c, 4);
	assert_int_equal(duts[4].readings, 0);
	assert_int_equal(get(4, 0x42, 1), 1); /* the hook comes first */
	assert_int_equal(get(4, 0x41, 2) >> 8, 2);
	assert_false(pci_bus_master(&duts[4].pci));
	put(4, PCI_COMMAND, 2, 0xffff);
	assert_true(pci_bus_master(&duts[4].pci));
	assert_int_equal(get(4, PCI_COMMAND, 2), 0x0406);
}

int main(void)
{
#define PCI_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		PCI_TEST(test_header),
		PCI_TEST(test_cap_room),
		PCI_TEST(test_nobody_home),
		PCI_TEST(test_every_access_by_ecam),
		PCI_TEST(test_every_access_by_ports),
		PCI_TEST(test_address_register),
		PCI_TEST(test_hooks_see_what_is_theirs),
	};

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
