/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The first bytes of the file say which loader gets it.  A loader reads each
 * header once, into memory of its own, checks it there and uses that copy, since the file may change
 * under it.  It writes only into guest RAM at 1 MiB or above; what lies below is written by this
 * file and by the end of the loader, at addresses of layout.h.
 *
 * The kernel says how much room it wants from where on.  The initrd goes as high as kernel and RAM
 * allow, so that the two meet only when memory is too small for both, and that is refused.
 */
#include "core/machine/boot.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/machine/boot_internal.h"
#include "core/machine/layout.h"

#define PAGE 4096ull
#define PTE_TABLE 0x3ull  /* present, writable */
#define PTE_LARGE 0x83ull /* and a large page */
#define TABLE_ENTRIES 512
#define IDENTITY_TABLES 4 /* a GiB each */

#define GDT_DATA 0x00cf93000000ffffull
#define GDT_CODE32 0x00cf9b000000ffffull
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_TSS 0x00008b0000000067ull

#define ABOUT(boot, fd, text) ((fd) == (boot)->config->kernel ? "kernel: " text : "initrd: " text)

int boot_fail(struct boot *boot, int ret, const char *what)
{
	boot->what = what;
	return ret;
}

int boot_pread(struct boot *boot, int fd, void *to, uint64_t bytes, uint64_t offset)
{
	uint8_t *at = to;

	while (bytes) {
		const ssize_t n = pread(fd, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return boot_fail(boot, -errno, ABOUT(boot, fd, "cannot be read"));
		if (n == 0)
			return boot_fail(boot, -ENOEXEC,
					 ABOUT(boot, fd, "the file ends too early"));
		at += n;
		bytes -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int boot_load_part(struct boot *boot, uint64_t gpa, uint64_t bytes, uint64_t offset)
{
	if (offset > boot->file_bytes || bytes > boot->file_bytes - offset)
		return boot_fail(boot, -ENOEXEC, "kernel: the file ends too early");
	if (bytes == 0)
		return 0;
	if (gpa < LAYOUT_KERNEL || gpa > boot->ram_end || bytes > boot->ram_end - gpa)
		return boot_fail(boot, -ENOMEM, "kernel: does not fit into guest memory");
	void *to = memmap_at(boot->mm, gpa, bytes);

	if (!to)
		return boot_fail(boot, -ENOMEM, "kernel: does not fit into guest memory");
	return boot_pread(boot, boot->config->kernel, to, bytes, offset);
}

static int file_size(struct boot *boot, int fd, uint64_t *bytes)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return boot_fail(boot, -errno, ABOUT(boot, fd, "cannot be read"));
	if (!S_ISREG(st.st_mode))
		return boot_fail(boot, -EINVAL, ABOUT(boot, fd, "must be a regular file"));
	*bytes = (uint64_t)st.st_size;
	return 0;
}

int boot_load_initrd(struct boot *boot, uint64_t limit)
{
	struct boot_entry *entry = boot->entry;
	uint64_t bytes = 0;
	int ret;

	entry->initrd = entry->initrd_end = 0;
	if (boot->config->initrd < 0)
		return 0;
	ret = file_size(boot, boot->config->initrd, &bytes);
	if (ret || bytes == 0)
		return ret;
	if (limit > boot->ram_end)
		limit = boot->ram_end;
	if (bytes > limit || ((limit - bytes) & -PAGE) < entry->kernel_end)
		return boot_fail(boot, -ENOMEM, "initrd: does not fit into guest memory");
	entry->initrd = (limit - bytes) & -PAGE;
	entry->initrd_end = entry->initrd + bytes;
	void *to = memmap_at(boot->mm, entry->initrd, bytes);

	if (!to)
		return boot_fail(boot, -ENOMEM, "initrd: does not fit into guest memory");
	return boot_pread(boot, boot->config->initrd, to, bytes, 0);
}

static void map_add(struct boot *boot, uint64_t gpa, uint64_t end, uint32_t type)
{
	boot->map[boot->map_lines++] = (struct boot_map_line){ gpa, end - gpa, type };
}

/* Boot RAM only, what was plugged later ACPI tells.  The first region holds the first MiB.  ECAM is
 * said to be reserved here as well as in the DSDT, because Linux looks here first. */
static int make_map(struct boot *boot)
{
	const struct mem_map *ram = &boot->mm->boot;

	if (ram->count == 0 || ram->regions[0].gpa != 0 || ram->regions[0].bytes <= LAYOUT_KERNEL)
		return boot_fail(boot, -ENOMEM, "kernel: does not fit into guest memory");
	boot->ram_end = ram->regions[0].bytes;
	map_add(boot, 0, LAYOUT_EBDA, BOOT_MAP_RAM);
	map_add(boot, LAYOUT_EBDA, 0xa0000, BOOT_MAP_RESERVED);
	map_add(boot, LAYOUT_ACPI, LAYOUT_ACPI + LAYOUT_ACPI_BYTES, BOOT_MAP_ACPI);
	map_add(boot, LAYOUT_KERNEL, boot->ram_end, BOOT_MAP_RAM);
	map_add(boot, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_BYTES, BOOT_MAP_RESERVED);
	for (uint32_t i = 1; i < ram->count; i++)
		if (ram->regions[i].gpa == LAYOUT_RAM_HIGH)
			map_add(boot, LAYOUT_RAM_HIGH, LAYOUT_RAM_HIGH + ram->regions[i].bytes,
				BOOT_MAP_RAM);
	return 0;
}

static void write_page_tables(uint64_t *tables)
{
	uint64_t *root = tables, *pointers = tables + TABLE_ENTRIES;

	memset(tables, 0, (2 + IDENTITY_TABLES) * PAGE);
	root[0] = (LAYOUT_PAGE_TABLES + PAGE) | PTE_TABLE;
	for (uint64_t i = 0; i < IDENTITY_TABLES; i++)
		pointers[i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE) | PTE_TABLE;
	for (uint64_t i = 0; i < (uint64_t)IDENTITY_TABLES * TABLE_ENTRIES; i++)
		pointers[TABLE_ENTRIES + i] = i << 21 | PTE_LARGE;
}

/* GDT, page tables, command line: the same for both protocols.  The first MiB is in RAM. */
static void write_low(struct boot *boot)
{
	const bool wide = boot->entry->protocol == BOOT_LINUX64;
	const uint64_t gdt[BOOT_GDT_BYTES / 8] = {
		[BOOT_CS / 8] = wide ? GDT_CODE64 : GDT_CODE32,
		[BOOT_DS / 8] = GDT_DATA,
		[BOOT_TSS / 8] = GDT_TSS,
	};
	char *cmdline = memmap_at(boot->mm, LAYOUT_CMDLINE, LAYOUT_CMDLINE_BYTES);

	memcpy(memmap_at(boot->mm, LAYOUT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	write_page_tables(memmap_at(boot->mm, LAYOUT_PAGE_TABLES, (2 + IDENTITY_TABLES) * PAGE));
	memset(cmdline, 0, LAYOUT_CMDLINE_BYTES);
	memcpy(cmdline, boot->config->cmdline, strlen(boot->config->cmdline));
}

static int load(struct boot *boot)
{
	uint8_t magic[4];
	int ret = make_map(boot);

	if (ret == 0)
		ret = file_size(boot, boot->config->kernel, &boot->file_bytes);
	if (ret == 0 && strlen(boot->config->cmdline) >= LAYOUT_CMDLINE_BYTES)
		ret = boot_fail(boot, -E2BIG, "cmdline: longer than 4095 bytes");
	if (ret == 0)
		ret = boot_pread(boot, boot->config->kernel, magic, sizeof(magic), 0);
	if (ret == 0)
		ret = memcmp(magic, "\177ELF", 4) ? boot_bzimage(boot) : boot_elf(boot);
	if (ret == 0)
		write_low(boot);
	return ret;
}

int boot_load(const struct memmap *mm, const struct boot_config *config, struct boot_entry *entry,
	      const char **what)
{
	struct boot boot = { .mm = mm, .config = config, .entry = entry, .what = "" };

	_Static_assert(LAYOUT_CMDLINE_BYTES == 4096, "said in a message");
	_Static_assert(LAYOUT_PAGE_TABLES + (2 + IDENTITY_TABLES) * PAGE <= LAYOUT_PVH_INFO, "");
	memset(entry, 0, sizeof(*entry));
	const int ret = load(&boot);

	*what = boot.what;
	return ret;
}
