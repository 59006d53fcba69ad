/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between boot.c and the two loaders.  A loader puts the kernel into guest memory, asks for the
 * initrd to be placed above it, and writes what its protocol hands to the kernel.
 */
#ifndef MAYFLY_CORE_MACHINE_BOOT_INTERNAL_H
#define MAYFLY_CORE_MACHINE_BOOT_INTERNAL_H

#include <stdint.h>

#include "core/machine/boot.h"

#define BOOT_MAP_MAX 8

/* One line of the guest's memory map; types as in E820 and PVH, which agree. */
#define BOOT_MAP_RAM 1
#define BOOT_MAP_RESERVED 2
#define BOOT_MAP_ACPI 3

struct boot_map_line {
	uint64_t gpa;
	uint64_t bytes;
	uint32_t type;
};

struct boot {
	const struct memmap *mm;
	const struct boot_config *config;
	struct boot_entry *entry;
	uint64_t file_bytes; /* of the kernel */
	uint64_t ram_end;    /* of low RAM: kernel and initrd lie below */
	struct boot_map_line map[BOOT_MAP_MAX];
	uint32_t map_lines;
	const char *what;
};

/* Says what is wrong; returns ret. */
int boot_fail(struct boot *boot, int ret, const char *what);

/* Reads exactly `bytes` at `offset`. 0 or -errno; past the end of the file: -ENOEXEC. */
int boot_pread(struct boot *boot, int fd, void *to, uint64_t bytes, uint64_t offset);
/* The same from the kernel file into guest RAM from 1 MiB on. -ENOMEM: does not fit. */
int boot_load_part(struct boot *boot, uint64_t gpa, uint64_t bytes, uint64_t offset);

/* Places and reads the initrd: as high as it goes, wholly below `limit` and above the kernel
 * (entry->kernel_end). */
int boot_load_initrd(struct boot *boot, uint64_t limit);

int boot_bzimage(struct boot *boot);
int boot_elf(struct boot *boot);

#endif
