/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a kernel into guest memory: bzImage by the 64-bit boot protocol (Documentation/arch/x86/
 * boot.rst, protocol 2.12 or later with XLF_KERNEL_64), ELF by the PVH protocol (xen
 * docs/misc/pvh.pandoc; note XEN_ELFNOTE_PHYS32_ENTRY).  The kernel file is the operator's, but is
 * treated as hostile: every offset and length in it is checked.
 */
#ifndef MAYFLY_CORE_MACHINE_BOOT_H
#define MAYFLY_CORE_MACHINE_BOOT_H

#include <stdint.h>

#include "core/machine/memmap.h"

/* The GDT at LAYOUT_GDT: flat segments with the selectors that Linux asks for, in both modes. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_TSS 0x20
#define BOOT_GDT_BYTES 0x30

/* How vCPU 0 begins. */
struct boot_entry {
	enum { BOOT_LINUX64, BOOT_PVH } protocol;
	uint64_t rip;
	uint64_t info;               /* gpa of boot_params (rsi), or of hvm_start_info (rbx) */
	uint64_t kernel, kernel_end; /* what the kernel occupies until it has memory management */
	uint64_t initrd, initrd_end; /* equal: none */
};

struct boot_config {
	int kernel; /* borrowed descriptors; read with pread */
	int initrd; /* -1: none */
	const char
		*cmdline; /* "" allowed; shorter than LAYOUT_CMDLINE_BYTES and the kernel's limit */
	uint64_t rsdp;    /* gpa of the ACPI RSDP */
};

/* 0; -ENOEXEC: not a kernel; -ENOMEM: does not fit; -E2BIG: command line; -errno of reading; *what
 * says it in words (static text), which begin with what they are about: "kernel: ", "initrd: " or
 * "cmdline: ".  May be called again for a reset. */
int boot_load(const struct memmap *mm, const struct boot_config *config, struct boot_entry *entry,
	      const char **what);

#endif
