/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  An ELF kernel (vmlinux) is loaded by its program headers' physical addresses
 * and entered in 32-bit mode where its note XEN_ELFNOTE_PHYS32_ENTRY says, with a pointer to struct
 * hvm_start_info.  Segments may not overlap, so that what is loaded does not depend on their order;
 * the entry must lie in one of them.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "core/machine/boot_internal.h"
#include "core/machine/layout.h"

#define SEGMENTS_MAX 64
#define NOTES_MAX 65536
#define NOTE_NAME "Xen"
#define NOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC 0x336ec578
#define MODLIST_AT LAYOUT_PVH_INFO
#define MEMMAP_AT (LAYOUT_PVH_INFO + 0x100)

/* What PVH hands over: xen's public interface start_info, version 1. */
struct hvm_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};

struct hvm_memmap_table_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

_Static_assert(sizeof(struct hvm_start_info) == 56, "as the protocol says");
_Static_assert(sizeof(struct hvm_modlist_entry) == 32, "as the protocol says");
_Static_assert(sizeof(struct hvm_memmap_table_entry) == 24, "as the protocol says");

struct elf {
	struct boot *boot;
	Elf64_Phdr segments[SEGMENTS_MAX];
	uint32_t count;
	uint64_t entry; /* 0: no note yet */
};

static int not_pvh(struct elf *elf, const char *what)
{
	return boot_fail(elf->boot, -ENOEXEC, what);
}

static int read_headers(struct elf *elf)
{
	struct boot *boot = elf->boot;
	Elf64_Ehdr head;
	int ret = boot_pread(boot, boot->config->kernel, &head, sizeof(head), 0);

	if (ret)
		return ret;
	if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
	    head.e_machine != EM_X86_64)
		return not_pvh(
			elf, "kernel: cannot be booted here: an ELF file, but not for 64-bit x86");
	if (head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phnum == 0 ||
	    head.e_phnum > SEGMENTS_MAX)
		return not_pvh(elf, "kernel: damaged ELF header (program headers)");
	elf->count = head.e_phnum;
	if (head.e_phoff > boot->file_bytes)
		return not_pvh(elf, "kernel: the file ends too early");
	return boot_pread(boot, boot->config->kernel, elf->segments,
			  elf->count * sizeof(Elf64_Phdr), head.e_phoff);
}

static int check_overlap(struct elf *elf, uint32_t index)
{
	const Elf64_Phdr *a = &elf->segments[index];

	for (uint32_t i = 0; i < index; i++) {
		const Elf64_Phdr *b = &elf->segments[i];

		if (b->p_type == PT_LOAD && a->p_paddr < b->p_paddr + b->p_memsz &&
		    b->p_paddr < a->p_paddr + a->p_memsz)
			return not_pvh(elf, "kernel: damaged ELF file (segments overlap)");
	}
	return 0;
}

static int load_segment(struct elf *elf, uint32_t index)
{
	const Elf64_Phdr *seg = &elf->segments[index];
	struct boot *boot = elf->boot;
	struct boot_entry *entry = boot->entry;
	int ret;

	if (seg->p_filesz > seg->p_memsz)
		return not_pvh(elf, "kernel: damaged ELF file (segment)");
	if (seg->p_paddr < LAYOUT_KERNEL || seg->p_paddr > boot->ram_end ||
	    seg->p_memsz > boot->ram_end - seg->p_paddr)
		return boot_fail(boot, -ENOMEM, "kernel: does not fit into guest memory");
	ret = check_overlap(elf, index);
	if (ret == 0)
		ret = boot_load_part(boot, seg->p_paddr, seg->p_filesz, seg->p_offset);
	if (ret || seg->p_memsz == 0)
		return ret;
	uint8_t *to = memmap_at(boot->mm, seg->p_paddr, seg->p_memsz);

	memset(to + seg->p_filesz, 0, seg->p_memsz - seg->p_filesz);
	if (entry->kernel == 0 || seg->p_paddr < entry->kernel)
		entry->kernel = seg->p_paddr;
	if (seg->p_paddr + seg->p_memsz > entry->kernel_end)
		entry->kernel_end = seg->p_paddr + seg->p_memsz;
	return 0;
}

/* Each length in a note is rounded up to 4.  A note that does not fit ends the search. */
static void find_entry(struct elf *elf, const uint8_t *notes, uint64_t bytes)
{
	while (bytes >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;

		memcpy(&note, notes, sizeof(note));
		const uint64_t name = ((uint64_t)note.n_namesz + 3) & ~3ull;
		const uint64_t desc = ((uint64_t)note.n_descsz + 3) & ~3ull;

		notes += sizeof(note);
		bytes -= sizeof(note);
		if (name > bytes || desc > bytes - name)
			return;
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == sizeof(NOTE_NAME) &&
		    memcmp(notes, NOTE_NAME, sizeof(NOTE_NAME)) == 0 &&
		    (note.n_descsz == 4 || note.n_descsz == 8))
			memcpy(&elf->entry, notes + name, note.n_descsz);
		notes += name + desc;
		bytes -= name + desc;
	}
}

static int read_notes(struct elf *elf, const Elf64_Phdr *seg)
{
	struct boot *boot = elf->boot;

	if (seg->p_filesz > NOTES_MAX)
		return not_pvh(elf, "kernel: damaged ELF file (notes)");
	if (seg->p_offset > boot->file_bytes || seg->p_filesz > boot->file_bytes - seg->p_offset)
		return not_pvh(elf, "kernel: the file ends too early");
	cleanup_free uint8_t *notes = malloc(seg->p_filesz + 1);

	if (!notes)
		return boot_fail(boot, -ENOMEM, "kernel: no memory to read its notes");
	const int ret = boot_pread(boot, boot->config->kernel, notes, seg->p_filesz, seg->p_offset);

	if (ret == 0)
		find_entry(elf, notes, seg->p_filesz);
	return ret;
}

static int check_entry(struct elf *elf)
{
	for (uint32_t i = 0; i < elf->count; i++) {
		const Elf64_Phdr *seg = &elf->segments[i];

		if (seg->p_type == PT_LOAD && elf->entry >= seg->p_paddr &&
		    elf->entry - seg->p_paddr < seg->p_memsz)
			return 0;
	}
	return not_pvh(elf, "kernel: damaged ELF file (PVH entry)");
}

/* The notes first: where a program that is no kernel wants to be loaded is of no interest. */
static int load_all(struct elf *elf)
{
	int ret = read_headers(elf);

	for (uint32_t i = 0; i < elf->count && ret == 0; i++)
		if (elf->segments[i].p_type == PT_NOTE)
			ret = read_notes(elf, &elf->segments[i]);
	if (ret == 0 && elf->entry == 0)
		ret = not_pvh(elf, "kernel: cannot be booted here: an ELF file without PVH note "
				   "(CONFIG_PVH)");
	for (uint32_t i = 0; i < elf->count && ret == 0; i++)
		if (elf->segments[i].p_type == PT_LOAD)
			ret = load_segment(elf, i);
	return ret ? ret : check_entry(elf);
}

static void write_start_info(struct boot *boot)
{
	const struct hvm_modlist_entry module = {
		.paddr = boot->entry->initrd,
		.size = boot->entry->initrd_end - boot->entry->initrd,
	};
	const struct hvm_start_info info = { .magic = START_INFO_MAGIC,
					     .version = 1,
					     .nr_modules = module.size ? 1 : 0,
					     .modlist_paddr = module.size ? MODLIST_AT : 0,
					     .cmdline_paddr = LAYOUT_CMDLINE,
					     .rsdp_paddr = boot->config->rsdp,
					     .memmap_paddr = MEMMAP_AT,
					     .memmap_entries = boot->map_lines };
	struct hvm_memmap_table_entry map[BOOT_MAP_MAX] = { 0 };

	for (uint32_t i = 0; i < boot->map_lines; i++)
		map[i] = (struct hvm_memmap_table_entry){ .addr = boot->map[i].gpa,
							  .size = boot->map[i].bytes,
							  .type = boot->map[i].type };
	memcpy(memmap_at(boot->mm, LAYOUT_BOOT_PARAMS, sizeof(info)), &info, sizeof(info));
	memcpy(memmap_at(boot->mm, MODLIST_AT, sizeof(module)), &module, sizeof(module));
	memcpy(memmap_at(boot->mm, MEMMAP_AT, sizeof(map)), map, sizeof(map));
}

int boot_elf(struct boot *boot)
{
	struct elf elf = { .boot = boot };
	int ret = load_all(&elf);

	if (ret == 0)
		ret = boot_load_initrd(boot, boot->ram_end);
	if (ret)
		return ret;
	write_start_info(boot);
	boot->entry->protocol = BOOT_PVH;
	boot->entry->rip = elf.entry;
	boot->entry->info = LAYOUT_BOOT_PARAMS;
	return 0;
}
