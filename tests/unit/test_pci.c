/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/bus/pci.c and pci_bar.c: config space by both ways, against a model of bytes and masks; where
 * BARs go when a guest moves them, and where they do not.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/bus/pci_internal.h"
#include "core/cc.h"
#include "core/machine/layout.h"

#define BAR_BYTES 0x4000u
#define DEVICES 4u
#define STRIDE 0x4000ull /* BAR_BYTES, in addresses */

struct dut {
	struct pci_device pci;
	uint64_t tag;  /* what its BAR reads as */
	uint64_t from; /* of the last move */
	uint64_t to;
	uint32_t moves;
	uint32_t written;
	uint32_t readings;
	bool reads_ahead; /* the reading hook counts into the capability */
};

static struct bus *ports;
static struct bus *mmio;
static struct pci_host host;
static struct dut duts[PCI_SLOTS];

static uint64_t bar_read(void *ctx, uint64_t offset, uint32_t size)
{
	(void)size;
	return ((struct dut *)ctx)->tag + offset;
}

static void bar_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	(void)offset;
	(void)size;
	((struct dut *)ctx)->tag = value;
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

static void dut_moved(struct pci_device *pci, uint32_t bar, uint64_t from, uint64_t to)
{
	struct dut *dut = pci->ctx;

	assert_int_equal(bar, 0);
	assert_true(from == dut->to); /* no move is left out */
	dut->from = from;
	dut->to = to;
	dut->moves++;
}

static void dut_written(struct pci_device *pci, uint32_t at, uint32_t size)
{
	(void)at;
	(void)size;
	((struct dut *)pci->ctx)->written++;
}

static void dut_reading(struct pci_device *pci, uint32_t at, uint32_t size)
{
	struct dut *dut = pci->ctx;

	(void)at;
	(void)size;
	dut->readings++;
	if (dut->reads_ahead)
		pci->config[0x42] = (uint8_t)dut->readings;
}

static const struct pci_hooks hooks = {
	.moved = dut_moved,
	.written = dut_written,
	.reading = dut_reading,
};

static void dut_init(uint32_t i, uint32_t bytes)
{
	const struct pci_identity id = {
		.vendor = 0x1234,
		.device = (uint16_t)(0x5000 + i),
		.subvendor = 0x4321,
		.subdevice = 0x9999,
		.revision = 7,
		.class = 0xabcdef,
	};

	duts[i] = (struct dut){ .tag = 0x1000000ull * (i + 1) };
	pci_device_init(&duts[i].pci, &id, &hooks, &duts[i]);
	if (bytes != 0)
		pci_device_add_bar(&duts[i].pci, 0, bytes, &bar_ops, &duts[i]);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(bus_create(&ports), 0);
	assert_int_equal(bus_create(&mmio), 0);
	assert_int_equal(pci_host_create(&host, ports, mmio), 0);
	for (uint32_t i = 0; i < DEVICES; i++) {
		dut_init(i, BAR_BYTES);
		assert_int_equal(pci_plug(&host, &duts[i].pci), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < PCI_SLOTS; i++) {
		if (host.slots[i] != NULL)
			pci_unplug(&host, host.slots[i]);
	}
	pci_host_destroy(&host);
	assert_int_equal(bus_read(mmio, LAYOUT_ECAM, 4), 0xffffffff);
	assert_int_equal(bus_read(mmio, LAYOUT_MMIO32, 4), 0xffffffff);
	bus_destroy(ports);
	bus_destroy(mmio);
	return 0;
}

static uint64_t ecam(uint32_t slot, uint32_t at)
{
	return LAYOUT_ECAM + slot * 0x8000ull + at;
}

static uint32_t get(uint32_t i, uint32_t at, uint32_t size)
{
	return (uint32_t)bus_read(mmio, ecam(i + 1, at), size);
}

static void put(uint32_t i, uint32_t at, uint32_t size, uint32_t value)
{
	bus_write(mmio, ecam(i + 1, at), size, value);
}

static void put_bar(uint32_t i, uint32_t value)
{
	put(i, PCI_BAR(0), 4, value);
}

static void decode(uint32_t i, bool on)
{
	put(i, PCI_COMMAND, 2, on ? PCI_COMMAND_MEMORY : 0);
}

/* Which device answers there; -1: none. */
static int who(uint64_t addr)
{
	const uint64_t value = bus_read(mmio, addr, 8);

	return value == UINT64_MAX ? -1 : (int)(value / 0x1000000) - 1;
}

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
		PCI_TEST(test_header),
		PCI_TEST(test_cap_room),
		PCI_TEST(test_nobody_home),
		PCI_TEST(test_every_access_by_ecam),
		PCI_TEST(test_every_access_by_ports),
		PCI_TEST(test_address_register),
		PCI_TEST(test_hooks_see_what_is_theirs),
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

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
