/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything is in the guest's physical, port and interrupt space.  dsdt.asl includes this file
 * to say the same to the guest, so that there may be nothing here but numbers;
 * tests/unit/test_acpi.c looks for them in the compiled table.
 */
#ifndef MAYFLY_CORE_MACHINE_LAYOUT_H
#define MAYFLY_CORE_MACHINE_LAYOUT_H

/* Guest RAM: [0, LOW_END) and from HIGH on.  Between them the 32-bit device hole. */
#define LAYOUT_RAM_LOW_END 0xc0000000ull
#define LAYOUT_MMIO32 0xc0000000ull /* PCI BARs */
#define LAYOUT_MMIO32_END 0xe0000000ull
#define LAYOUT_MMIO32_LAST 0xdfffffffull /* the same window in ACPI's words: iasl cannot count */
#define LAYOUT_MMIO32_BYTES 0x20000000ull
#define LAYOUT_ECAM 0xe0000000ull /* one bus */
#define LAYOUT_ECAM_BYTES 0x100000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_TSS 0xfffbd000ull /* KVM's three pages and identity map, Intel only */
#define LAYOUT_RAM_HIGH 0x100000000ull

/* Low memory at boot. */
#define LAYOUT_GDT 0x500
#define LAYOUT_BOOT_PARAMS 0x7000 /* zero page, or struct hvm_start_info */
#define LAYOUT_PAGE_TABLES 0x9000 /* six pages: 4 GiB in 2 MiB entries */
#define LAYOUT_PVH_INFO 0xf000    /* memory map and module list; one page */
#define LAYOUT_STACK 0x8ff0
#define LAYOUT_CMDLINE 0x20000
#define LAYOUT_CMDLINE_BYTES 0x1000
#define LAYOUT_EBDA 0x9fc00
#define LAYOUT_ACPI 0xe0000 /* RSDP at its start; 128 KiB */
#define LAYOUT_ACPI_BYTES 0x20000
#define LAYOUT_ACPI_INFO 0xfffe0    /* struct acpi_info, read by the DSDT */
#define LAYOUT_RESET_VECTOR 0xffff0 /* code that resets, where a BIOS would have it */
#define LAYOUT_KERNEL 0x100000

/* Ports. */
#define LAYOUT_PORT_KEYBOARD                                                                       \
	0x64 /* of an 8042 that is not there: a write of .._PULSE_RESET resets */
#define LAYOUT_KEYBOARD_PULSE_RESET 0xfe
#define LAYOUT_PORT_SERIAL 0x3f8
#define LAYOUT_PORT_PANIC 0x505 /* pvpanic */
#define LAYOUT_PORT_SLEEP_CONTROL 0x600
#define LAYOUT_PORT_SLEEP_STATUS 0x601
#define LAYOUT_PORT_RESET 0x602 /* any write of LAYOUT_RESET_VALUE */
#define LAYOUT_PORT_GED 0x604   /* 4 bytes, read and clear: GED_* bits */
#define LAYOUT_PORT_DIMM 0x620  /* acpi_memory.c: registers of 4 bytes, DIMM_REG_* */
#define LAYOUT_PORT_DIMM_BYTES 0x24
#define LAYOUT_PORT_PCI_ADDRESS 0xcf8
#define LAYOUT_PORT_PCI_DATA 0xcfc
#define LAYOUT_RESET_VALUE 1
#define LAYOUT_S5_TYPE 5 /* SLP_TYP of _S5 */

#define GED_POWER_BUTTON 1u
#define GED_MEMORY 2u /* a DIMM's slot has an event: DIMM_INSERTED, DIMM_EJECT_ASKED */

/* Slots for DIMMs.  dsdt.asl has as many devices. */
#define LAYOUT_DIMMS_MAX 64
#define LAYOUT_NODES_MAX 8     /* proximity domains that a guest can be told of */
#define LAYOUT_SLICES_MAX 1024 /* KVM's memory slots of all reserves (memmap.h) */

/* Offsets from LAYOUT_PORT_DIMM.  All but the first are of the slot that is selected. */
#define DIMM_REG_SELECT 0x00
#define DIMM_REG_STATE 0x04 /* read: DIMM_* bits; written: those that are 1 are done */
#define DIMM_REG_BASE 0x08  /* guest physical address; two registers, low word first */
#define DIMM_REG_BYTES 0x10 /* length; the same */
#define DIMM_REG_NODE 0x18  /* proximity domain */
#define DIMM_REG_OST_EVENT 0x1c
#define DIMM_REG_OST_STATUS 0x20 /* after .._EVENT: this write is the report */

#define DIMM_PRESENT 1u     /* read only */
#define DIMM_INSERTED 2u    /* event: cleared by writing it */
#define DIMM_EJECT_ASKED 4u /* the same */
#define DIMM_EVENTS 6u      /* both */
#define DIMM_EJECT 8u       /* write only: it is gone when the write has ended */

/* Global system interrupts: 0 .. 23 are the IOAPIC's pins, MSI routes follow. */
#define LAYOUT_GSI_SERIAL 4
#define LAYOUT_GSI_GED 9
#define LAYOUT_GSI_MSI 24
#define LAYOUT_GSI_MAX 1024

#define LAYOUT_CPUS_MAX 32

#endif
