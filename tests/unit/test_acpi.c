/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables as a guest finds them: by their bytes, at the offsets of the specification; the
 * addresses in the DSDT; and all of them through iasl, there and back.  The registers behind them.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/machine/acpi.h"
#include "core/machine/layout.h"

#define MEMORY_BYTES (1 << 20)
#define TABLES 5

struct tables {
	struct memmap mm;
	uint64_t rsdp;
	const uint8_t *by_kind[TABLES]; /* in the order of `names` */
};

enum { FADT, MADT, MCFG, SRAT, DSDT };
static const char *const names[TABLES] = { "FACP", "APIC", "MCFG", "SRAT", "DSDT" };

static uint64_t get(const uint8_t *at, uint32_t offset, uint32_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, at + offset, bytes);
	return value;
}

static uint32_t length_of(const uint8_t *table)
{
	return (uint32_t)get(table, 4, 4);
}

static void assert_sum(const uint8_t *table, uint32_t bytes)
{
	uint8_t sum = 0;

	for (uint32_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + table[i]);
	assert_int_equal(sum, 0);
}

/* The table at gpa, whole, inside the range that the memory map calls ACPI. */
static const uint8_t *table_at(struct tables *t, uint64_t gpa, const char *signature)
{
	const uint8_t *table = memmap_at(&t->mm, gpa, 36);

	assert_true(gpa >= LAYOUT_ACPI && gpa % 4 == 0);
	assert_non_null(table);
	assert_memory_equal(table, signature, 4);
	assert_true(gpa + length_of(table) <= LAYOUT_ACPI_INFO);
	assert_sum(table, length_of(table));
	return table;
}

static void build_config(struct tables *t, const struct acpi_config *config)
{
	const uint32_t count = config->range_count ? SRAT + 1 : SRAT;
	const uint8_t *rsdp, *xsdt;

	memset(t, 0, sizeof(*t));
	t->mm.boot.count = 1;
	t->mm.boot.regions[0].bytes = MEMORY_BYTES;
	t->mm.boot.regions[0].addr = (uint64_t)(uintptr_t)malloc(MEMORY_BYTES);
	memset(memmap_at(&t->mm, 0, MEMORY_BYTES), 0xff, MEMORY_BYTES);
	assert_int_equal(acpi_build(&t->mm, config, &t->rsdp), 0);
	assert_int_equal(t->rsdp, LAYOUT_ACPI);
	rsdp = memmap_at(&t->mm, t->rsdp, 36);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_sum(rsdp, 20);
	assert_int_equal(get(rsdp, 15, 1), 2);
	assert_int_equal(get(rsdp, 16, 4), 0); /* no RSDT */
	assert_int_equal(get(rsdp, 20, 4), 36);
	assert_sum(rsdp, 36);
	xsdt = table_at(t, get(rsdp, 24, 8), "XSDT");
	assert_int_equal(length_of(xsdt), 36 + count * 8);
	for (uint32_t i = 0; i < count; i++)
		t->by_kind[i] = table_at(t, get(xsdt, 36 + 8 * i, 8), names[i]);
	assert_int_equal(get(t->by_kind[FADT], 40, 4), get(t->by_kind[FADT], 140, 8));
	t->by_kind[DSDT] = table_at(t, get(t->by_kind[FADT], 140, 8), "DSDT");
}

/* Without an SRAT. */
static void build(struct tables *t, uint32_t cpus)
{
	const struct acpi_config config = { .cpus = cpus };

	build_config(t, &config);
}

static void tables_free(struct tables *t)
{
	free((void *)(uintptr_t)t->mm.boot.regions[0].addr);
}

static void assert_io_register(const uint8_t *gas, uint16_t port)
{
	assert_int_equal(get(gas, 0, 1), 1); /* system I/O */
	assert_int_equal(get(gas, 1, 1), 8); /* bits */
	assert_int_equal(get(gas, 2, 1), 0);
	assert_int_equal(get(gas, 3, 1), 1); /* by bytes */
	assert_int_equal(get(gas, 4, 8), port);
}

static void test_fadt(void **state)
{
	struct tables t;
	const uint8_t *fadt;

	(void)state;
	build(&t, 2);
	fadt = t.by_kind[FADT];
	assert_int_equal(length_of(fadt), 276);
	assert_int_equal(get(fadt, 8, 1), 6);
	assert_int_equal(get(fadt, 36, 4), 0); /* no FACS, no fixed hardware */
	for (uint32_t i = 46; i < 108; i++)
		assert_int_equal(fadt[i], 0);
	assert_int_equal(get(fadt, 109, 2), 1 << 2 | 1 << 5); /* no VGA, no RTC; no 8042 */
	/* WBINVD, buttons are not fixed, reset register, hardware-reduced */
	assert_int_equal(get(fadt, 112, 4), 1 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20);
	assert_io_register(fadt + 116, LAYOUT_PORT_RESET);
	assert_int_equal(get(fadt, 128, 1), LAYOUT_RESET_VALUE);
	assert_io_register(fadt + 244, LAYOUT_PORT_SLEEP_CONTROL);
	assert_io_register(fadt + 256, LAYOUT_PORT_SLEEP_STATUS);
	tables_free(&t);
}

static void test_madt(void **state)
{
	(void)state;
	for (uint32_t cpus = 1; cpus <= LAYOUT_CPUS_MAX; cpus++) {
		uint32_t lapics = 0, ioapics = 0, nmis = 0, at = 44;
		struct tables t;
		const uint8_t *madt;

		build(&t, cpus);
		madt = t.by_kind[MADT];
		assert_int_equal(get(madt, 36, 4), LAYOUT_LAPIC);
		assert_int_equal(get(madt, 40, 4), 0); /* no PIC */
		for (; at < length_of(madt); at += madt[at + 1]) {
			const uint8_t *e = madt + at;

			if (e[0] == 0) {
				assert_int_equal(e[1], 8);
				assert_int_equal(e[2], lapics);
				assert_int_equal(e[3], lapics++);
				assert_int_equal(get(e, 4, 4), 1);
			} else if (e[0] == 1) {
				assert_int_equal(e[1], 12);
				assert_int_equal(get(e, 4, 4), LAYOUT_IOAPIC);
				assert_int_equal(get(e, 8, 4), 0);
				ioapics++;
			} else {
				assert_memory_equal(e, "\x04\x06\xff\x00\x00\x01", 6);
				nmis++;
			}
		}
		assert_int_equal(at, length_of(madt));
		assert_int_equal(lapics, cpus);
		assert_int_equal(ioapics, 1);
		assert_int_equal(nmis, 1);
		/* What the DSDT reads. */
		assert_int_equal(get(memmap_at(&t.mm, LAYOUT_ACPI_INFO, 4), 0, 4), cpus);
		assert_memory_equal(memmap_at(&t.mm, LAYOUT_RESET_VECTOR, 9),
				    "\xba\x02\x06\xb0\x01\xee\xf4\xeb\xfd", 9);
		tables_free(&t);
	}
}

static void test_mcfg(void **state)
{
	struct tables t;
	const uint8_t *mcfg;

	(void)state;
	build(&t, 1);
	mcfg = t.by_kind[MCFG];
	assert_int_equal(length_of(mcfg), 60);
	assert_int_equal(get(mcfg, 44, 8), LAYOUT_ECAM);
	assert_int_equal(get(mcfg, 52, 2), 0); /* segment */
	assert_int_equal(mcfg[54], 0);         /* from bus .. */
	assert_int_equal(mcfg[55], LAYOUT_ECAM_BYTES / (1 << 20) - 1);
	tables_free(&t);
}

static const struct acpi_config with_room = {
	.cpus = 3,
	.range_count = 4,
	.ranges = { { .bytes = LAYOUT_RAM_LOW_END },
		    { .gpa = LAYOUT_RAM_HIGH, .bytes = 1ull << 30 },
		    { .gpa = 6ull << 30, .bytes = 0x12345678000, .hotplug = true },
		    { .gpa = 7ull << 40, .node = 0x1020304, .hotplug = true } },
};

/* ACPI 6.4 section 5.2.16: every byte. */
static void test_srat(void **state)
{
	static const uint8_t zeros[12] = { 0 };
	struct tables t;
	const uint8_t *srat;

	(void)state;
	build_config(&t, &with_room);
	srat = t.by_kind[SRAT];
	assert_int_equal(length_of(srat), 48 + 4 * 40 + 3 * 16);
	assert_int_equal(get(srat, 8, 1), 3);
	assert_int_equal(get(srat, 36, 4), 1);
	assert_memory_equal(srat + 40, zeros, 8);
	for (uint32_t i = 0; i < 4; i++) {
		const struct acpi_range *range = &with_room.ranges[i];
		const uint8_t *e = srat + 48 + 40 * i;

		assert_int_equal(get(e, 0, 2), 40 << 8 | 1);
		assert_int_equal(get(e, 2, 4), range->node);
		assert_memory_equal(e + 6, zeros, 2);
		assert_int_equal(get(e, 8, 8), range->gpa);
		assert_int_equal(get(e, 16, 8), range->bytes);
		assert_memory_equal(e + 24, zeros, 4);
		assert_int_equal(get(e, 28, 4), range->hotplug ? 3 : 1);
		assert_memory_equal(e + 32, zeros, 8);
	}
	for (uint32_t i = 0; i < 3; i++) {
		const uint8_t *e = srat + 48 + 4 * 40 + 16 * i;

		assert_int_equal(get(e, 0, 2), 16 << 8);
		assert_int_equal(e[2], 0);
		assert_int_equal(e[3], i);
		assert_int_equal(get(e, 4, 4), 1);
		assert_memory_equal(e + 8, zeros, 8);
	}
	tables_free(&t);
}

/* As many CPUs and ranges as there can be. */
static void test_largest(void **state)
{
	struct acpi_config config = { .cpus = LAYOUT_CPUS_MAX, .range_count = ACPI_RANGES_MAX };
	struct tables t;

	(void)state;
	for (uint32_t i = 0; i < ACPI_RANGES_MAX; i++)
		config.ranges[i] = (struct acpi_range){ .gpa = (uint64_t)i << 40, .bytes = 4096 };
	build_config(&t, &config);
	assert_int_equal(length_of(t.by_kind[SRAT]), 48 + ACPI_RANGES_MAX * 40 + 32 * 16);
	tables_free(&t);
}

/* How often the bytes stand in the DSDT. */
static uint32_t occurrences(const struct tables *t, const void *bytes, size_t count)
{
	const uint8_t *at = t->by_kind[DSDT], *end = at + length_of(at);
	uint32_t n = 0;

	for (; (size_t)(end - at) >= count; at++)
		n += memcmp(at, bytes, count) == 0;
	return n;
}

/* ACPI 6.4 section 6.4: the resource descriptors, as bytes. */
static uint32_t has_ports(const struct tables *t, uint16_t port, uint8_t count)
{
	const uint8_t want[] = { 0x47,
				 1,
				 (uint8_t)port,
				 (uint8_t)(port >> 8),
				 (uint8_t)port,
				 (uint8_t)(port >> 8),
				 1,
				 count };

	return occurrences(t, want, sizeof(want));
}

static uint32_t has_memory(const struct tables *t, uint32_t base, uint32_t bytes)
{
	uint8_t want[12] = { 0x86, 9, 0, 1 };

	memcpy(want + 4, &base, 4);
	memcpy(want + 8, &bytes, 4);
	return occurrences(t, want, sizeof(want));
}

#define EDGE 3u /* consumer, edge, high, exclusive */
#define LEVEL 1u

static uint32_t has_interrupt(const struct tables *t, uint32_t gsi, uint8_t flags)
{
	uint8_t want[9] = { 0x89, 6, 0, flags, 1 };

	memcpy(want + 5, &gsi, 4);
	return occurrences(t, want, sizeof(want));
}

static uint32_t has_window(const struct tables *t, uint64_t from, uint64_t to)
{
	const uint32_t words[] = { 0, (uint32_t)from, (uint32_t)to - 1, 0, (uint32_t)(to - from) };
	uint8_t want[26] = { 0x87, 23, 0, 0, 0x0c, 1 }; /* memory, fixed at both ends, writable */

	memcpy(want + 6, words, sizeof(words));
	return occurrences(t, want, sizeof(want));
}

static void test_dsdt_addresses(void **state)
{
	const uint8_t s5[] = { '_', 'S', '5', '_', 0x12, 0x07, 0x04, 0x0a, LAYOUT_S5_TYPE };
	const uint8_t ged[] = {
		'E', 'V', 'T', 'S', 1, 0x0b, LAYOUT_PORT_GED & 0xff, LAYOUT_PORT_GED >> 8, 0x0a, 4
	};
	const uint8_t dimm[] = { 'D',
				 'R',
				 'E',
				 'G',
				 1,
				 0x0b,
				 LAYOUT_PORT_DIMM & 0xff,
				 LAYOUT_PORT_DIMM >> 8,
				 0x0a,
				 LAYOUT_PORT_DIMM_BYTES };
	const uint8_t pnp0c80[] = { '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0c, 0x80 };
	uint8_t info[] = { 'I', 'N', 'F', 'O', 0, 0x0c, 0, 0, 0, 0, 0x0a, 4 };
	const uint32_t info_at = LAYOUT_ACPI_INFO;
	struct tables t;

	(void)state;
	build(&t, 1);
	assert_int_equal(has_window(&t, LAYOUT_MMIO32, LAYOUT_MMIO32_END), 1);
	assert_int_equal(has_memory(&t, LAYOUT_ECAM, LAYOUT_ECAM_BYTES), 1);
	assert_int_equal(has_ports(&t, LAYOUT_PORT_PCI_ADDRESS, 8), 1);
	assert_int_equal(LAYOUT_PORT_PCI_DATA, LAYOUT_PORT_PCI_ADDRESS + 4);
	assert_int_equal(has_ports(&t, LAYOUT_PORT_SLEEP_CONTROL, 8), 1);
	assert_int_equal(has_ports(&t, LAYOUT_PORT_DIMM, LAYOUT_PORT_DIMM_BYTES), 1);
	assert_int_equal(has_ports(&t, LAYOUT_PORT_SERIAL, 8), 1);
	assert_int_equal(has_ports(&t, LAYOUT_PORT_PANIC, 1), 1);
	assert_int_equal(has_interrupt(&t, LAYOUT_GSI_SERIAL, EDGE), 1);
	assert_int_equal(has_interrupt(&t, LAYOUT_GSI_GED, LEVEL), 1);
	assert_int_equal(occurrences(&t, s5, sizeof(s5)), 1);
	assert_int_equal(occurrences(&t, ged, sizeof(ged)), 1);
	assert_int_equal(occurrences(&t, dimm, sizeof(dimm)), 1);
	assert_int_equal(occurrences(&t, pnp0c80, sizeof(pnp0c80)), LAYOUT_DIMMS_MAX);
	memcpy(info + 6, &info_at, 4);
	assert_int_equal(occurrences(&t, info, sizeof(info)), 1);
	assert_int_equal(occurrences(&t, "ACPI0007", 9), LAYOUT_CPUS_MAX);
	tables_free(&t);
}

static void test_no_memory(void **state)
{
	struct tables t;

	(void)state;
	build(&t, 1);
	t.mm.boot.regions[0].bytes = LAYOUT_ACPI + LAYOUT_ACPI_BYTES - 1;
	assert_int_equal(acpi_build(&t.mm, &with_room, &t.rsdp), -ENOMEM);
	tables_free(&t);
}

static long read_file(const char *path, uint8_t *to, size_t room)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return -1;
	const size_t n = fread(to, 1, room, file);

	fclose(file);
	return (long)n;
}

/* Checksum and compiler are iasl's in what it has made. */
static void forget_compiler(uint8_t *table)
{
	table[9] = 0;
	memset(table + 28, 0, 8);
}

static void round_trip(const struct tables *t, const char *dir, uint32_t kind)
{
	const uint32_t bytes = length_of(t->by_kind[kind]);
	uint8_t before[16384], after[16384 + 1];
	char command[256], path[128];
	FILE *file;

	assert_true(bytes <= sizeof(before));
	memcpy(before, t->by_kind[kind], bytes);
	snprintf(path, sizeof(path), "%s/t.dat", dir);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(before, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
	snprintf(command, sizeof(command),
		 "cd %s && iasl -d t.dat >d.log 2>&1 && iasl -we -p back t.dsl >c.log 2>&1 && "
		 "! grep -iE 'invalid|warning +[0-9]|bad checksum|error +[0-9]' d.log c.log",
		 dir);
	assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): the test's own words
	snprintf(path, sizeof(path), "%s/back.aml", dir);
	assert_int_equal(read_file(path, after, sizeof(after)), bytes);
	forget_compiler(before);
	forget_compiler(after);
	assert_memory_equal(before, after, bytes);
}

static void test_iasl(void **state)
{
	char dir[] = "/tmp/mayfly-acpi.XXXXXX", command[64];
	struct tables t;

	(void)state;
	if (system("command -v iasl >/dev/null") != 0) { // NOLINT(cert-env33-c)
		puts("no iasl here");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	build_config(&t, &with_room);
	for (uint32_t kind = 0; kind < TABLES; kind++)
		round_trip(&t, dir, kind);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0); // NOLINT(cert-env33-c)
	tables_free(&t);
}

struct heard {
	enum guest_end end;
	uint32_t count;
};

static void hear(void *ctx, enum guest_end end)
{
	struct heard *heard = ctx;

	heard->end = end;
	heard->count++;
}

static void expect_end(struct bus *ports, struct heard *heard, uint16_t port, uint64_t value,
		       enum guest_end end)
{
	*heard = (struct heard){ .end = GUEST_END_NONE };
	bus_write(ports, port, 1, value);
	assert_int_equal(heard->end, end);
	assert_int_equal(heard->count, end != GUEST_END_NONE);
}

static void test_registers(void **state)
{
	struct heard heard = { .count = 0 };
	struct vm vm = { .fd = -1 };
	struct acpi_regs regs = { .vm = &vm, .ended = hear, .ctx = &heard };
	const uint64_t enable = 0x20;
	struct bus *ports;

	(void)state;
	assert_int_equal(bus_create(&ports), 0);
	assert_int_equal(acpi_regs_attach(&regs, ports), 0);
	assert_int_equal(acpi_regs_attach(&regs, ports), -EEXIST);
	for (uint64_t type = 0; type < 8; type++) {
		const uint64_t value = type << 2;

		expect_end(ports, &heard, LAYOUT_PORT_SLEEP_CONTROL, value, GUEST_END_NONE);
		expect_end(ports, &heard, LAYOUT_PORT_SLEEP_CONTROL, value | enable,
			   type == LAYOUT_S5_TYPE ? GUEST_END_POWER_OFF : GUEST_END_NONE);
	}
	expect_end(ports, &heard, LAYOUT_PORT_SLEEP_STATUS, 0x80, GUEST_END_NONE);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_SLEEP_STATUS, 1), 0);
	expect_end(ports, &heard, LAYOUT_PORT_RESET, 0, GUEST_END_NONE);
	expect_end(ports, &heard, LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE, GUEST_END_RESET);
	expect_end(ports, &heard, LAYOUT_PORT_GED, 0xff, GUEST_END_NONE);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_PANIC, 1), 1);
	expect_end(ports, &heard, LAYOUT_PORT_PANIC, 2, GUEST_END_NONE);
	expect_end(ports, &heard, LAYOUT_PORT_PANIC, 1, GUEST_END_PANIC);
	for (uint32_t value = 0; value < LAYOUT_KEYBOARD_PULSE_RESET; value++)
		expect_end(ports, &heard, LAYOUT_PORT_KEYBOARD, value, GUEST_END_NONE);
	expect_end(ports, &heard, LAYOUT_PORT_KEYBOARD, LAYOUT_KEYBOARD_PULSE_RESET,
		   GUEST_END_RESET);
	/* No data, as on a bus that nobody answers, but for what Linux waits for. */
	assert_int_equal(bus_read(ports, LAYOUT_PORT_KEYBOARD, 1), 0xfd);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_KEYBOARD - 4, 1), 0xff);
	bus_destroy(ports);
}

static void test_button(void **state)
{
	struct heard heard = { .count = 0 };
	struct vm vm = { .fd = -1 };
	struct acpi_regs regs = { .vm = &vm, .ended = hear, .ctx = &heard };
	struct bus *ports;

	(void)state;
	assert_int_equal(bus_create(&ports), 0);
	assert_int_equal(acpi_regs_attach(&regs, ports), 0);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_GED, 4), 0);
	assert_int_equal(acpi_power_button(&regs), -EBADF); /* no KVM here */
	/* Other widths neither see nor take it. */
	assert_int_equal(bus_read(ports, LAYOUT_PORT_GED, 1), 0);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_GED, 2), 0);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_GED, 4), GED_POWER_BUTTON);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_GED, 4), 0);
	assert_int_equal(acpi_power_button(&regs), -EBADF);
	acpi_regs_reset(&regs);
	assert_int_equal(bus_read(ports, LAYOUT_PORT_GED, 4), 0);
	assert_int_equal(heard.count, 0);
	bus_destroy(ports);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fadt),      cmocka_unit_test(test_madt),
		cmocka_unit_test(test_mcfg),      cmocka_unit_test(test_srat),
		cmocka_unit_test(test_largest),   cmocka_unit_test(test_dsdt_addresses),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_iasl),
		cmocka_unit_test(test_registers), cmocka_unit_test(test_button),
	};

	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
