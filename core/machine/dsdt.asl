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

/*
 * A slot for a DIMM.  The methods that do the work are further down, and take the slot's number.
 */
#define DIMM(NAME, NUMBER) \
	Device (NAME) \
	{ \
		Name (_HID, EisaId ("PNP0C80")) \
		Name (_UID, NUMBER) \
		Method (_STA, 0, NotSerialized) { Return (DSTA (NUMBER)) } \
		Method (_CRS, 0, NotSerialized) { Return (DCRS (NUMBER)) } \
		Method (_PXM, 0, NotSerialized) { Return (DPXM (NUMBER)) } \
		Method (_OST, 3, NotSerialized) { DOST (NUMBER, Arg0, Arg1) } \
		Method (_EJ0, 1, NotSerialized) { DEJ0 (NUMBER) } \
	}

#define DIMM_NOTIFY(NAME, NUMBER) \
	If (Arg0 == NUMBER) { Notify (NAME, Arg1) }

#define DIMMS(X) \
	X (M000, 0) \
	X (M001, 1) \
	X (M002, 2) \
	X (M003, 3) \
	X (M004, 4) \
	X (M005, 5) \
	X (M006, 6) \
	X (M007, 7) \
	X (M008, 8) \
	X (M009, 9) \
	X (M00A, 10) \
	X (M00B, 11) \
	X (M00C, 12) \
	X (M00D, 13) \
	X (M00E, 14) \
	X (M00F, 15) \
	X (M010, 16) \
	X (M011, 17) \
	X (M012, 18) \
	X (M013, 19) \
	X (M014, 20) \
	X (M015, 21) \
	X (M016, 22) \
	X (M017, 23) \
	X (M018, 24) \
	X (M019, 25) \
	X (M01A, 26) \
	X (M01B, 27) \
	X (M01C, 28) \
	X (M01D, 29) \
	X (M01E, 30) \
	X (M01F, 31) \
	X (M020, 32) \
	X (M021, 33) \
	X (M022, 34) \
	X (M023, 35) \
	X (M024, 36) \
	X (M025, 37) \
	X (M026, 38) \
	X (M027, 39) \
	X (M028, 40) \
	X (M029, 41) \
	X (M02A, 42) \
	X (M02B, 43) \
	X (M02C, 44) \
	X (M02D, 45) \
	X (M02E, 46) \
	X (M02F, 47) \
	X (M030, 48) \
	X (M031, 49) \
	X (M032, 50) \
	X (M033, 51) \
	X (M034, 52) \
	X (M035, 53) \
	X (M036, 54) \
	X (M037, 55) \
	X (M038, 56) \
	X (M039, 57) \
	X (M03A, 58) \
	X (M03B, 59) \
	X (M03C, 60) \
	X (M03D, 61) \
	X (M03E, 62) \
	X (M03F, 63)

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

		/*
		 * DIMMs (core/machine/acpi_memory.h).  Of the registers one slot's are there at a time: the
		 * mutex keeps others from selecting another meanwhile.
		 */
		Mutex (DLCK, 0)
		OperationRegion (DREG, SystemIO, LAYOUT_PORT_DIMM, LAYOUT_PORT_DIMM_BYTES)
		Field (DREG, DWordAcc, NoLock, WriteAsZeros)
		{
			DSEL, 32, /* DIMM_REG_SELECT and so on, in their order */
			DSTT, 32,
			DBAS, 64,
			DLEN, 64,
			DNOD, 32,
			DOEV, 32,
			DOSC, 32
		}

		Method (DSTA, 1, Serialized)
		{
			Acquire (DLCK, 0xFFFF)
			DSEL = Arg0
			Local0 = DSTT
			Release (DLCK)
			If (Local0 & DIMM_PRESENT) { Return (0x0F) }
			Return (0)
		}

		Method (DCRS, 1, Serialized)
		{
			Name (RNGE, ResourceTemplate ()
			{
				QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable,
					ReadWrite, 0, 0, 0, 0, 1,,, RNG, AddressRangeMemory, TypeStatic)
			})
			CreateQWordField (RNGE, RNG._MIN, RMIN)
			CreateQWordField (RNGE, RNG._MAX, RMAX)
			CreateQWordField (RNGE, RNG._LEN, RLEN)
			Acquire (DLCK, 0xFFFF)
			DSEL = Arg0
			RMIN = DBAS
			RLEN = DLEN
			Release (DLCK)
			RMAX = RMIN + RLEN - 1
			Return (RNGE)
		}

		Method (DPXM, 1, Serialized)
		{
			Acquire (DLCK, 0xFFFF)
			DSEL = Arg0
			Local0 = DNOD
			Release (DLCK)
			Return (Local0)
		}

		Method (DOST, 3, Serialized)
		{
			Acquire (DLCK, 0xFFFF)
			DSEL = Arg0
			DOEV = Arg1
			DOSC = Arg2
			Release (DLCK)
		}

		Method (DEJ0, 1, Serialized)
		{
			Acquire (DLCK, 0xFFFF)
			DSEL = Arg0
			DSTT = DIMM_EJECT
			Release (DLCK)
		}

		DIMMS (DIMM)

		Method (DNTF, 2, NotSerialized)
		{
			DIMMS (DIMM_NOTIFY)
		}

		/* Each event is taken before it is told, so that the next one of its kind is one again. */
		Method (DSCN, 0, Serialized)
		{
			Local0 = 0
			While (Local0 < LAYOUT_DIMMS_MAX)
			{
				Acquire (DLCK, 0xFFFF)
				DSEL = Local0
				Local1 = DSTT & DIMM_EVENTS
				If (Local1) { DSTT = Local1 }
				Release (DLCK)
				If (Local1 & DIMM_INSERTED) { DNTF (Local0, 1) }
				If (Local1 & DIMM_EJECT_ASKED) { DNTF (Local0, 3) }
				Local0++
			}
		}

		/* MSI only: no interrupt pins to route, and no I/O ports behind the bridge. */
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)
			Name (_PXM, 0)
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
				IO (Decode16, LAYOUT_PORT_DIMM, LAYOUT_PORT_DIMM, 1,
					LAYOUT_PORT_DIMM_BYTES)
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
				If (Local0 & GED_MEMORY)
				{
					DSCN ()
				}
			}
		}
	}
}
