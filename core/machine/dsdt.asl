/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest is told of its machine.  Goes through the C preprocessor (mk/rules.mk), so that
 * every number is the one in layout.h.
 *
 * The number of CPUs is not known when this is compiled: it stands in struct acpi_info, which
 * acpi_build() writes at LAYOUT_ACPI_INFO.
 */
#include "core/machine/layout.h"

#define CPU(NAME, NUMBER) \
	Device (NAME) \
	{ \
		Name (_HID, "ACPI0007") \
		Name (_UID, NUMBER) \
		Method (_STA, 0, NotSerialized) \
		{ \
			If (NUMBER < CPUS) { Return (0x0F) } \
			Return (0) \
		} \
	}

DefinitionBlock ("", "DSDT", 2, "MAYFLY", "MAYFLYVM", 1)
{
	/* Soft-off: SLP_TYP for the sleep control register. */
	Name (\_S5, Package () { LAYOUT_S5_TYPE, 0, 0, 0 })

	Scope (\_SB)
	{
		OperationRegion (INFO, SystemMemory, LAYOUT_ACPI_INFO, 4)
		Field (INFO, DWordAcc, NoLock, Preserve)
		{
			CPUS, 32
		}

		CPU (C000, 0)
		CPU (C001, 1)
		CPU (C002, 2)
		CPU (C003, 3)
		CPU (C004, 4)
		CPU (C005, 5)
		CPU (C006, 6)
		CPU (C007, 7)
		CPU (C008, 8)
		CPU (C009, 9)
		CPU (C00A, 10)
		CPU (C00B, 11)
		CPU (C00C, 12)
		CPU (C00D, 13)
		CPU (C00E, 14)
		CPU (C00F, 15)
		CPU (C010, 16)
		CPU (C011, 17)
		CPU (C012, 18)
		CPU (C013, 19)
		CPU (C014, 20)
		CPU (C015, 21)
		CPU (C016, 22)
		CPU (C017, 23)
		CPU (C018, 24)
		CPU (C019, 25)
		CPU (C01A, 26)
		CPU (C01B, 27)
		CPU (C01C, 28)
		CPU (C01D, 29)
		CPU (C01E, 30)
		CPU (C01F, 31)

		/* MSI only: no interrupt pins to route, and no I/O ports behind the bridge. */
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, LAYOUT_PORT_PCI_ADDRESS, LAYOUT_PORT_PCI_ADDRESS, 1, 8)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite, 0, LAYOUT_MMIO32,
					LAYOUT_MMIO32_LAST, 0, LAYOUT_MMIO32_BYTES)
			})

			/* The guest may have all that it asks for: nothing here has PCIe services. */
			Method (_OSC, 4, Serialized)
			{
				CreateDWordField (Arg3, 0, STS)
				If (Arg0 != ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
				{
					STS |= 0x04
				}
				If (Arg1 != 1)
				{
					STS |= 0x08
				}
				Return (Arg3)
			}
		}

		/* ECAM: a guest uses it only if a motherboard resource covers it. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, LAYOUT_ECAM, LAYOUT_ECAM_BYTES)
				IO (Decode16, LAYOUT_PORT_SLEEP_CONTROL, LAYOUT_PORT_SLEEP_CONTROL, 1, 8)
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, LAYOUT_PORT_SERIAL, LAYOUT_PORT_SERIAL, 1, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)
				{
					LAYOUT_GSI_SERIAL
				}
			})
		}

		Device (PEVT)
		{
			Name (_HID, "QEMU0001")
			Name (_UID, 0)
			Name (_STA, 0x0F)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, LAYOUT_PORT_PANIC, LAYOUT_PORT_PANIC, 1, 1)
			})
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		/* Events of the machine: a line that is up until the port has been read that says which. */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive)
				{
					LAYOUT_GSI_GED
				}
			})
			OperationRegion (EVTS, SystemIO, LAYOUT_PORT_GED, 4)
			Field (EVTS, DWordAcc, NoLock, WriteAsZeros)
			{
				PEND, 32
			}
			Method (_EVT, 1, Serialized)
			{
				Local0 = PEND
				If (Local0 & GED_POWER_BUTTON)
				{
					Notify (PWRB, 0x80)
				}
			}
		}
	}
}
