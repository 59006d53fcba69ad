/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Every table is a packed struct of the specification, filled in and copied
 * behind the one before; the only ones whose length varies are MADT, SRAT and DSDT, and the XSDT, because
 * the SRAT may be missing.  The DSDT was compiled
 * when mayfly was built; what depends on the run, the number of CPUs, it reads from struct acpi_info
 * at the end of the range.
 *
 * "Hardware-reduced" means that no PC hardware need be emulated for ACPI's sake: no PM timer, no SCI,
 * no PIC.  Power-off and reset are two of the ports of acpi_regs.c, the power button is an event of
 * the GED in the DSDT.
 *
 * Linux does not use the reset register of such a machine: it asks EFI, and without EFI it goes back
 * to real mode and jumps to the BIOS at F000:FFF0.  So there is code there that writes the register.
 */
#include "core/machine/acpi.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/cc.h"
#include "core/machine/layout.h"
#include "dsdt.h"

_Static_assert(LAYOUT_MMIO32_LAST == LAYOUT_MMIO32_END - 1, "");
_Static_assert(LAYOUT_MMIO32_BYTES == LAYOUT_MMIO32_END - LAYOUT_MMIO32, "");
_Static_assert(LAYOUT_ACPI_INFO + 16 == LAYOUT_RESET_VECTOR, "");
_Static_assert(LAYOUT_RESET_VECTOR + 16 == LAYOUT_ACPI + LAYOUT_ACPI_BYTES, "");
_Static_assert(LAYOUT_ACPI + sizeof(dsdt_aml_code) + 4096 < LAYOUT_ACPI_INFO,
	       "room for all tables");

#define PACKED __attribute__((packed))
#define TABLE_ALIGN 16u

#define GAS_IO 1   /* generic address: system I/O space */
#define GAS_BYTE 1 /* access size */

#define FADT_WBINVD (1u << 0)
#define FADT_POWER_BUTTON (1u << 4) /* none in fixed hardware */
#define FADT_SLEEP_BUTTON (1u << 5)
#define FADT_RESET_REG (1u << 10)
#define FADT_HW_REDUCED (1u << 20)
#define FADT_BOOT_NO_VGA (1u << 2)
#define FADT_BOOT_NO_CMOS_RTC (1u << 5)

#define MADT_LAPIC 0
#define MADT_IOAPIC 1
#define MADT_LAPIC_NMI 4
#define MADT_ENABLED 1
#define MADT_ALL_CPUS 0xff
#define LINT1 1

#define SRAT_CPU 0
#define SRAT_MEMORY 1
#define SRAT_ENABLED (1u << 0)
#define SRAT_HOTPLUG (1u << 1)

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;

struct acpi_gas {
	uint8_t space;
	uint8_t bits;
	uint8_t bit_offset;
	uint8_t access;
	uint64_t address;
} PACKED;

struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} PACKED;

struct acpi_xsdt {
	struct acpi_header header;
	uint64_t tables[4]; /* FADT, MADT, MCFG; SRAT or none */
} PACKED;

struct acpi_fadt {
	struct acpi_header header;
	uint32_t facs;
	uint32_t dsdt;
	uint8_t legacy[64]; /* fixed hardware; preferred PM profile 0 */
	uint8_t century;
	uint16_t boot_arch;
	uint8_t reserved;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_facs;
	uint64_t x_dsdt;
	struct acpi_gas fixed[8];
	struct acpi_gas sleep_control;
	struct acpi_gas sleep_status;
	char hypervisor[8];
} PACKED;

struct acpi_madt {
	struct acpi_header header;
	uint32_t lapic;
	uint32_t flags; /* no PCAT_COMPAT: no PIC to be switched off */
} PACKED;

struct acpi_madt_lapic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} PACKED;

struct acpi_madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address;
	uint32_t gsi_base;
} PACKED;

struct acpi_madt_lapic_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} PACKED;

struct acpi_madt_all {
	struct acpi_madt madt;
	struct acpi_madt_ioapic ioapic;
	struct acpi_madt_lapic_nmi nmi;
	struct acpi_madt_lapic cpus[LAYOUT_CPUS_MAX]; /* as many as there are */
} PACKED;

struct acpi_mcfg {
	struct acpi_header header;
	uint64_t reserved;
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved2;
} PACKED;

struct acpi_srat {
	struct acpi_header header;
	uint32_t reserved1; /* 1, for compatibility */
	uint64_t reserved2;
} PACKED;

struct acpi_srat_cpu {
	uint8_t type, length;
	uint8_t node_low;
	uint8_t apic_id;
	uint32_t flags;
	uint8_t sapic_eid;
	uint8_t node_high[3];
	uint32_t clock_domain;
} PACKED;

struct acpi_srat_memory {
	uint8_t type, length;
	uint32_t node;
	uint16_t reserved1;
	uint64_t base;
	uint64_t bytes;
	uint32_t reserved2;
	uint32_t flags;
	uint64_t reserved3;
} PACKED;

struct acpi_srat_all {
	struct acpi_srat srat;
	struct acpi_srat_memory ranges[ACPI_RANGES_MAX]; /* as many as there are, then the CPUs */
	struct acpi_srat_cpu cpus[LAYOUT_CPUS_MAX];
} PACKED;

/* For the DSDT. */
struct acpi_info {
	uint32_t cpus;
} PACKED;

_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.4 section 5.2.5.3");
_Static_assert(offsetof(struct acpi_fadt, boot_arch) == 109, "ACPI 6.4 table 5.9");
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.4 table 5.9");
_Static_assert(sizeof(struct acpi_srat) == 48, "ACPI 6.4 section 5.2.16");
_Static_assert(sizeof(struct acpi_srat_cpu) == 16, "ACPI 6.4 section 5.2.16.1");
_Static_assert(sizeof(struct acpi_srat_memory) == 40, "ACPI 6.4 section 5.2.16.2");
_Static_assert(sizeof(struct acpi_mcfg) == 60, "PCI firmware specification 3.2, table 4-3");

/* mov $LAYOUT_PORT_RESET, %dx; mov $LAYOUT_RESET_VALUE, %al; out %al, %dx; 1: hlt; jmp 1b */
static const uint8_t reset_code[] = { 0xba,
				      LAYOUT_PORT_RESET & 0xff,
				      LAYOUT_PORT_RESET >> 8,
				      0xb0,
				      LAYOUT_RESET_VALUE,
				      0xee,
				      0xf4,
				      0xeb,
				      0xfd };

/* Where the next table goes. */
struct writer {
	const struct memmap *mm;
	uint64_t at;
};

static uint8_t checksum(const void *table, size_t bytes)
{
	const uint8_t *b = table;
	uint8_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + b[i]);
	return (uint8_t)-sum;
}

static struct acpi_header header(const char *signature, size_t bytes, uint8_t revision)
{
	struct acpi_header h = { .length = (uint32_t)bytes,
				 .revision = revision,
				 .oem_revision = 1,
				 .creator_revision = 1 };

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, "MAYFLY", sizeof(h.oem_id));
	memcpy(h.oem_table_id, "MAYFLYVM", sizeof(h.oem_table_id));
	memcpy(h.creator_id, "MYFL", sizeof(h.creator_id));
	return h;
}

/* Copies it into guest memory and returns where it is. */
static uint64_t put(struct writer *w, const void *table, size_t bytes)
{
	const uint64_t at = w->at;
	void *to = memmap_at(w->mm, at, bytes);

	CHECK(to && at + bytes <= LAYOUT_ACPI_INFO);
	memcpy(to, table, bytes);
	w->at = (at + bytes + TABLE_ALIGN - 1) & ~(uint64_t)(TABLE_ALIGN - 1);
	return at;
}

/* The same for a table that has no checksum yet. */
static uint64_t put_summed(struct writer *w, void *table)
{
	struct acpi_header *h = table;

	h->checksum = checksum(table, h->length);
	return put(w, table, h->length);
}

static struct acpi_gas io_register(uint16_t port)
{
	return (struct acpi_gas){ .space = GAS_IO, .bits = 8, .access = GAS_BYTE, .address = port };
}

static uint64_t put_fadt(struct writer *w, uint64_t dsdt)
{
	struct acpi_fadt fadt = {
		.header = header("FACP", sizeof(fadt), 6),
		.minor = 4,
		.dsdt = (uint32_t)dsdt,
		.x_dsdt = dsdt,
		.boot_arch =
			FADT_BOOT_NO_VGA | FADT_BOOT_NO_CMOS_RTC, /* nor an 8042: its bit is 0 */
		.flags = FADT_WBINVD | FADT_POWER_BUTTON | FADT_SLEEP_BUTTON | FADT_RESET_REG |
			 FADT_HW_REDUCED,
		.reset_reg = io_register(LAYOUT_PORT_RESET),
		.reset_value = LAYOUT_RESET_VALUE,
		.sleep_control = io_register(LAYOUT_PORT_SLEEP_CONTROL),
		.sleep_status = io_register(LAYOUT_PORT_SLEEP_STATUS),
		.hypervisor = "MAYFLY",
	};

	return put_summed(w, &fadt);
}

static uint64_t put_madt(struct writer *w, uint32_t cpus)
{
	const size_t bytes =
		offsetof(struct acpi_madt_all, cpus) + cpus * sizeof(struct acpi_madt_lapic);
	struct acpi_madt_all all = {
		.madt = { .header = header("APIC", bytes, 5), .lapic = LAYOUT_LAPIC },
		.ioapic = { .type = MADT_IOAPIC,
			    .length = sizeof(all.ioapic),
			    .address = LAYOUT_IOAPIC },
		.nmi = { .type = MADT_LAPIC_NMI,
			 .length = sizeof(all.nmi),
			 .uid = MADT_ALL_CPUS,
			 .lint = LINT1 },
	};

	for (uint32_t i = 0; i < cpus; i++)
		all.cpus[i] = (struct acpi_madt_lapic){ .type = MADT_LAPIC,
							.length = sizeof(all.cpus[i]),
							.uid = (uint8_t)i,
							.apic_id = (uint8_t)i,
							.flags = MADT_ENABLED };
	return put_summed(w, &all);
}

static uint64_t put_mcfg(struct writer *w)
{
	struct acpi_mcfg mcfg = { .header = header("MCFG", sizeof(mcfg), 1), .base = LAYOUT_ECAM };

	return put_summed(w, &mcfg);
}

static struct acpi_srat_memory srat_memory(const struct acpi_range *range)
{
	return (struct acpi_srat_memory){ .type = SRAT_MEMORY,
					  .length = sizeof(struct acpi_srat_memory),
					  .node = range->node,
					  .base = range->gpa,
					  .bytes = range->bytes,
					  .flags = SRAT_ENABLED |
						   (range->hotplug ? SRAT_HOTPLUG : 0) };
}

static uint64_t put_srat(struct writer *w, const struct acpi_config *config)
{
	const uint32_t ranges = config->range_count;
	const size_t bytes = sizeof(struct acpi_srat) + ranges * sizeof(struct acpi_srat_memory) +
			     config->cpus * sizeof(struct acpi_srat_cpu);
	struct acpi_srat_all all = { .srat = { .header = header("SRAT", bytes, 3),
					       .reserved1 = 1 } };
	uint8_t *cpus = (uint8_t *)&all.ranges[ranges];

	CHECK(ranges <= ACPI_RANGES_MAX);
	for (uint32_t i = 0; i < ranges; i++)
		all.ranges[i] = srat_memory(&config->ranges[i]);
	for (uint32_t i = 0; i < config->cpus; i++) {
		const struct acpi_srat_cpu cpu = { .type = SRAT_CPU,
						   .length = sizeof(cpu),
						   .apic_id = (uint8_t)i,
						   .flags = SRAT_ENABLED };

		memcpy(cpus + i * sizeof(cpu), &cpu, sizeof(cpu));
	}
	return put_summed(w, &all);
}

static uint64_t put_rsdp(struct writer *w, uint64_t xsdt)
{
	struct acpi_rsdp rsdp = { .revision = 2, .length = sizeof(rsdp), .xsdt = xsdt };

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, "MAYFLY", sizeof(rsdp.oem_id));
	rsdp.checksum = checksum(&rsdp, 20);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	return put(w, &rsdp, sizeof(rsdp));
}

/* All but the DSDT; returns where the XSDT is. */
static uint64_t put_tables(struct writer *w, const struct acpi_config *config, uint64_t dsdt)
{
	const size_t left_out = config->range_count ? 0 : sizeof(uint64_t);
	struct acpi_xsdt xsdt = { .header = header("XSDT", sizeof(xsdt) - left_out, 1) };

	xsdt.tables[0] = put_fadt(w, dsdt);
	xsdt.tables[1] = put_madt(w, config->cpus);
	xsdt.tables[2] = put_mcfg(w);
	if (config->range_count)
		xsdt.tables[3] = put_srat(w, config);
	return put_summed(w, &xsdt);
}

int acpi_build(const struct memmap *mm, const struct acpi_config *config, uint64_t *rsdp)
{
	/* The RSDP stands first, where legacy firmware would be looked through for it. */
	struct writer first = { mm, LAYOUT_ACPI };
	struct writer w = { mm, LAYOUT_ACPI + 64 };
	const struct acpi_info info = { .cpus = config->cpus };

	CHECK(config->cpus >= 1 && config->cpus <= LAYOUT_CPUS_MAX);
	void *at = memmap_at(mm, LAYOUT_ACPI, LAYOUT_ACPI_BYTES);

	if (!at)
		return -ENOMEM;
	memset(at, 0, LAYOUT_ACPI_BYTES);
	memcpy(memmap_at(mm, LAYOUT_ACPI_INFO, sizeof(info)), &info, sizeof(info));
	memcpy(memmap_at(mm, LAYOUT_RESET_VECTOR, sizeof(reset_code)), reset_code,
	       sizeof(reset_code));
	const uint64_t dsdt = put(&w, dsdt_aml_code, sizeof(dsdt_aml_code));

	*rsdp = put_rsdp(&first, put_tables(&w, config, dsdt));
	return 0;
}
