/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A bzImage is a boot sector, setup code, and the protected-mode kernel; only
 * the last is loaded, at LAYOUT_KERNEL, and entered 0x200 bytes in.  It unpacks itself to where it
 * prefers to run, and wants init_size bytes from there on; both come from the setup header, which
 * goes into the zero page with what we fill in.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/machine/boot_internal.h"
#include "core/machine/layout.h"

#define SECTOR 512u
#define HEADER_AT offsetof(struct boot_params, hdr) /* in the file as in the zero page */
#define HEADER_MAGIC 0x53726448u                    /* "HdrS" */
#define HEADER_LENGTH_AT 0x201                      /* of what follows 0x202 */
#define HEADER_LEAST offsetof(struct setup_header, handover_offset) /* all that is used */
#define BOOT_FLAG 0xaa55
#define PROTOCOL_LEAST 0x20c
#define SETUP_SECTS_DEFAULT 4
#define LOADER_UNKNOWN 0xff
#define ENTRY64 0x200

_Static_assert(offsetof(struct boot_params, hdr) == 0x1f1, "as the protocol says");
_Static_assert(sizeof(struct boot_params) == 4096, "as the protocol says");

static int not_linux(struct boot *boot, const char *what)
{
	return boot_fail(boot, -ENOEXEC, what);
}

/* Reads as much of the header as the kernel has, and no more than is known here. */
static int read_header(struct boot *boot, struct setup_header *hdr)
{
	uint8_t head[HEADER_AT + sizeof(*hdr)] = { 0 };
	const uint64_t have = boot->file_bytes < sizeof(head) ? boot->file_bytes : sizeof(head);
	const int ret = boot_pread(boot, boot->config->kernel, head, have, 0);

	if (ret)
		return ret;
	const size_t end = HEADER_LENGTH_AT + 1u + head[HEADER_LENGTH_AT];
	const size_t bytes = (end < sizeof(head) ? end : sizeof(head)) - HEADER_AT;

	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, head + HEADER_AT, bytes);
	if (hdr->boot_flag != BOOT_FLAG || hdr->header != HEADER_MAGIC)
		return not_linux(
			boot, "kernel: cannot be booted here: neither a bzImage nor an ELF file");
	if (hdr->version < PROTOCOL_LEAST)
		return not_linux(boot, "kernel: boot protocol older than 2.12 (Linux 3.8)");
	if (bytes < HEADER_LEAST)
		return not_linux(boot, "kernel: damaged header (length)");
	if (end > boot->file_bytes)
		return not_linux(boot, "kernel: the file ends too early");
	return 0;
}

static int check_header(struct boot *boot, const struct setup_header *hdr)
{
	if (!(hdr->loadflags & LOADED_HIGH))
		return not_linux(boot, "kernel: a zImage; a bzImage is wanted");
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return not_linux(boot, "kernel: has no 64-bit entry point");
	if (hdr->kernel_alignment == 0 || (hdr->kernel_alignment & (hdr->kernel_alignment - 1)))
		return not_linux(boot, "kernel: damaged header (kernel_alignment)");
	if (hdr->syssize == 0)
		return not_linux(boot, "kernel: damaged header (syssize)");
	if (strlen(boot->config->cmdline) > hdr->cmdline_size)
		return boot_fail(boot, -E2BIG, "cmdline: longer than this kernel allows");
	return 0;
}

/* Where the kernel will run, as Documentation/arch/x86/boot.rst has it under init_size. 0: past
 * what 64 bits can say. */
static uint64_t runtime_start(const struct setup_header *hdr)
{
	const uint64_t mask = hdr->kernel_alignment - 1;
	uint64_t start = LAYOUT_KERNEL;

	if (!hdr->relocatable_kernel)
		return hdr->pref_address;
	if (start < hdr->pref_address)
		start = hdr->pref_address;
	return start > UINT64_MAX - mask ? 0 : (start + mask) & ~mask;
}

static int load_kernel(struct boot *boot, const struct setup_header *hdr)
{
	const uint64_t sects = hdr->setup_sects ? hdr->setup_sects : SETUP_SECTS_DEFAULT;
	const uint64_t bytes = (uint64_t)hdr->syssize * 16, start = runtime_start(hdr);
	int ret;

	if (bytes <= ENTRY64)
		return not_linux(boot, "kernel: damaged header (syssize)");
	if (start < LAYOUT_KERNEL)
		return not_linux(boot, "kernel: damaged header (pref_address)");
	if (start > boot->ram_end || hdr->init_size > boot->ram_end - start)
		return boot_fail(boot, -ENOMEM, "kernel: does not fit into guest memory");
	ret = boot_load_part(boot, LAYOUT_KERNEL, bytes, (sects + 1) * SECTOR);
	if (ret)
		return ret;
	boot->entry->kernel = LAYOUT_KERNEL;
	boot->entry->kernel_end = start + hdr->init_size;
	if (boot->entry->kernel_end < LAYOUT_KERNEL + bytes)
		boot->entry->kernel_end = LAYOUT_KERNEL + bytes;
	return 0;
}

static void write_zero_page(struct boot *boot, struct setup_header *hdr)
{
	struct boot_params *params = memmap_at(boot->mm, LAYOUT_BOOT_PARAMS, sizeof(*params));

	hdr->type_of_loader = LOADER_UNKNOWN;
	hdr->cmd_line_ptr = LAYOUT_CMDLINE;
	hdr->ramdisk_image = (uint32_t)boot->entry->initrd; /* below initrd_addr_max: 32 bits */
	hdr->ramdisk_size = (uint32_t)(boot->entry->initrd_end - boot->entry->initrd);
	hdr->setup_data = 0;
	memset(params, 0, sizeof(*params));
	params->hdr = *hdr;
	params->acpi_rsdp_addr = boot->config->rsdp;
	params->e820_entries = (uint8_t)boot->map_lines;
	for (uint32_t i = 0; i < boot->map_lines; i++)
		params->e820_table[i] = (struct boot_e820_entry){ .addr = boot->map[i].gpa,
								  .size = boot->map[i].bytes,
								  .type = boot->map[i].type };
}

int boot_bzimage(struct boot *boot)
{
	struct setup_header hdr;
	int ret = read_header(boot, &hdr);

	if (ret == 0)
		ret = check_header(boot, &hdr);
	if (ret == 0)
		ret = load_kernel(boot, &hdr);
	if (ret == 0)
		ret = boot_load_initrd(boot, (uint64_t)hdr.initrd_addr_max + 1);
	if (ret)
		return ret;
	write_zero_page(boot, &hdr);
	boot->entry->protocol = BOOT_LINUX64;
	boot->entry->rip = LAYOUT_KERNEL + ENTRY64;
	boot->entry->info = LAYOUT_BOOT_PARAMS;
	return 0;
}
