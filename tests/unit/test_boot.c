/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel loader against files made by hand: what a good one leaves in guest memory, and what
 * becomes of every kind of bad one.  Guest memory here has nothing mapped around it.
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
#include <sys/mman.h>

#include "core/machine/boot.h"
#include "core/machine/layout.h"
#include "tests/unit/kernelfile.h"

#define MIB (1ull << 20)
#define MEMORY_BYTES (16 * MIB)
#define PAYLOAD 4096u
#define FILE_MAX 16384
#define RSDP 0xe0000

/* One test's world: memory, a kernel file to spoil, what came of it. */
struct world {
	struct memmap mm;
	uint8_t *raw;
	uint8_t file[FILE_MAX];
	size_t bytes;
	char cmdline[LAYOUT_CMDLINE_BYTES + 16];
	int initrd;
	struct boot_entry entry;
	const char *what;
};

static void set_memory(struct world *w, uint64_t bytes)
{
	w->mm.boot = (struct mem_map){ .epoch = 1, .count = 1 };
	w->mm.boot.regions[0] = (struct mem_region){ 0, bytes, (uint64_t)(uintptr_t)w->raw + 4096 };
}

static struct world *world_make(bool elf)
{
	struct world *w = calloc(1, sizeof(*w));
	uint8_t payload[PAYLOAD];

	assert_non_null(w);
	w->raw = mmap(NULL, MEMORY_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(w->raw, MAP_FAILED);
	assert_int_equal(mprotect(w->raw + 4096, MEMORY_BYTES, PROT_READ | PROT_WRITE), 0);
	set_memory(w, MEMORY_BYTES);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 7 + 1);
	w->bytes = elf ? kernelfile_elf(w->file, payload, sizeof(payload), 0x100010)
		       : kernelfile_bzimage(w->file, payload, sizeof(payload));
	w->initrd = -1;
	strcpy(w->cmdline, "console=ttyS0");
	return w;
}

static void world_free(struct world *w)
{
	munmap(w->raw, MEMORY_BYTES + 8192);
	if (w->initrd >= 0)
		close(w->initrd);
	free(w);
}

static int world_load_file(struct world *w, size_t bytes)
{
	const int kernel = kernelfile_open(w->file, bytes);
	const struct boot_config config = {
		.kernel = kernel, .initrd = w->initrd, .cmdline = w->cmdline, .rsdp = RSDP
	};
	const int ret = boot_load(&w->mm, &config, &w->entry, &w->what);

	close(kernel);
	/* A failure has words, always, and they say of what. */
	assert_non_null(w->what);
	assert_true((ret == 0) == (w->what[0] == '\0'));
	assert_non_null(strstr("kernel: initrd: cmdline: ", strndupa(w->what, 8)));
	return ret;
}

static int world_load(struct world *w)
{
	return world_load_file(w, w->bytes);
}

static void expect(struct world *w, int ret, const char *words)
{
	assert_int_equal(world_load(w), ret);
	if (!strstr(w->what, words))
		fail_msg("'%s' does not speak of '%s'", w->what, words);
}

static void set_initrd(struct world *w, size_t bytes)
{
	uint8_t *content = malloc(bytes ? bytes : 1);

	assert_non_null(content);
	memset(content, 0xa5, bytes);
	w->initrd = kernelfile_open(content, bytes);
	free(content);
}

static const void *at(struct world *w, uint64_t gpa, uint64_t bytes)
{
	const void *p = memmap_at(&w->mm, gpa, bytes);

	assert_non_null(p);
	return p;
}

/* What both protocols leave behind. */
static void assert_common(struct world *w)
{
	const uint64_t *tables = at(w, LAYOUT_PAGE_TABLES, 6 * 4096);

	assert_string_equal(at(w, LAYOUT_CMDLINE, LAYOUT_CMDLINE_BYTES), w->cmdline);
	assert_int_equal(tables[0], (LAYOUT_PAGE_TABLES + 0x1000) | 3);
	for (uint64_t gib = 0; gib < 4; gib++) {
		assert_int_equal(tables[512 + gib], (LAYOUT_PAGE_TABLES + 0x2000 + gib * 4096) | 3);
		for (uint64_t i = 0; i < 512; i++)
			assert_int_equal(tables[1024 + gib * 512 + i],
					 (gib << 30) + (i << 21) + 0x83);
	}
	assert_int_equal(tables[1], 0);
	assert_int_equal(tables[512 + 4], 0);
}

static void test_bzimage(void **state)
{
	struct world *w = world_make(false);
	const struct boot_params *params;

	(void)state;
	set_initrd(w, 5000);
	assert_int_equal(world_load(w), 0);
	assert_int_equal(w->entry.protocol, BOOT_LINUX64);
	assert_int_equal(w->entry.rip, 0x100200);
	assert_int_equal(w->entry.info, LAYOUT_BOOT_PARAMS);
	assert_memory_equal(at(w, 0x100000, PAYLOAD), w->file + KERNELFILE_BZ_HEAD, PAYLOAD);
	assert_common(w);
	params = at(w, LAYOUT_BOOT_PARAMS, sizeof(*params));
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_int_equal(params->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	assert_int_equal(params->acpi_rsdp_addr, RSDP);
	/* As high as it goes, page-aligned. */
	assert_int_equal(params->hdr.ramdisk_image, MEMORY_BYTES - 8192);
	assert_int_equal(params->hdr.ramdisk_size, 5000);
	assert_int_equal(*(const uint8_t *)at(w, MEMORY_BYTES - 8192 + 4999, 1), 0xa5);
	assert_int_equal(*(const uint8_t *)at(w, MEMORY_BYTES - 8192 + 5000, 1), 0);
	assert_int_equal(params->e820_entries, 5);
	assert_int_equal(params->e820_table[0].addr, 0);
	assert_int_equal(params->e820_table[0].size, LAYOUT_EBDA);
	assert_int_equal(params->e820_table[2].addr, LAYOUT_ACPI);
	assert_int_equal(params->e820_table[2].type, 3);
	assert_int_equal(params->e820_table[3].addr, MIB);
	assert_int_equal(params->e820_table[3].size, MEMORY_BYTES - MIB);
	assert_int_equal(params->e820_table[3].type, 1);
	assert_int_equal(params->e820_table[4].addr, LAYOUT_ECAM);
	assert_int_equal(params->e820_table[4].type, 2);
	world_free(w);
}

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t lines, reserved;
};

static void test_elf(void **state)
{
	struct world *w = world_make(true);
	const struct start_info *info;
	const uint64_t *module, *map;

	(void)state;
	set_initrd(w, 4096);
	memset(memmap_at(&w->mm, 0x100000, 3 * 4096), 0xee, 3 * 4096);
	assert_int_equal(world_load(w), 0);
	assert_int_equal(w->entry.protocol, BOOT_PVH);
	assert_int_equal(w->entry.rip, 0x100010);
	assert_memory_equal(at(w, 0x100000, PAYLOAD), w->file + KERNELFILE_ELF_HEAD, PAYLOAD);
	assert_int_equal(*(const uint8_t *)at(w, 0x100000 + PAYLOAD, 1), 0); /* bss */
	assert_int_equal(*(const uint8_t *)at(w, 0x100000 + PAYLOAD + 4095, 1), 0);
	assert_int_equal(*(const uint8_t *)at(w, 0x100000 + PAYLOAD + 4096, 1), 0xee);
	assert_common(w);
	info = at(w, w->entry.info, sizeof(*info));
	assert_int_equal(info->magic, 0x336ec578);
	assert_int_equal(info->version, 1);
	assert_int_equal(info->modules, 1);
	assert_int_equal(info->rsdp, RSDP);
	assert_int_equal(info->cmdline, LAYOUT_CMDLINE);
	module = at(w, info->modlist, 32);
	assert_int_equal(module[0], MEMORY_BYTES - 4096);
	assert_int_equal(module[1], 4096);
	assert_int_equal(info->lines, 5);
	map = at(w, info->memmap, 5 * 24);
	assert_int_equal(map[3 * 3], MIB);
	assert_int_equal(map[3 * 3 + 1], MEMORY_BYTES - MIB);
	assert_int_equal((uint32_t)map[3 * 3 + 2], 1);
	world_free(w);
}

/* The second region of boot RAM is told; what was plugged elsewhere is not. */
static void test_high_memory(void **state)
{
	struct world *w = world_make(false);
	const struct boot_params *params;
	struct mem_map *map = &w->mm.boot;

	(void)state;
	map->count = 3;
	map->regions[1] = (struct mem_region){ LAYOUT_RAM_HIGH, MIB, map->regions[0].addr };
	map->regions[2] = (struct mem_region){ 2 * LAYOUT_RAM_HIGH, MIB, map->regions[0].addr };
	assert_int_equal(world_load(w), 0);
	params = at(w, LAYOUT_BOOT_PARAMS, sizeof(*params));
	assert_int_equal(params->e820_entries, 6);
	assert_int_equal(params->e820_table[5].addr, LAYOUT_RAM_HIGH);
	assert_int_equal(params->e820_table[5].size, MIB);
	world_free(w);
}

static void test_again(void **state)
{
	struct world *w = world_make(false);

	(void)state;
	assert_int_equal(world_load(w), 0);
	memset(memmap_at(&w->mm, 0, MEMORY_BYTES), 0xff, MEMORY_BYTES);
	strcpy(w->cmdline, "x");
	assert_int_equal(world_load(w), 0);
	assert_common(w);
	assert_memory_equal(at(w, 0x100000, PAYLOAD), w->file + KERNELFILE_BZ_HEAD, PAYLOAD);
	const struct boot_params *params = at(w, LAYOUT_BOOT_PARAMS, sizeof(*params));

	assert_int_equal(params->hdr.ramdisk_size, 0);
	assert_int_equal(params->ext_ramdisk_size, 0);
	world_free(w);
}

/* Every file that ends early is refused, whatever is missing. */
static void test_truncated(void **state)
{
	(void)state;
	for (int elf = 0; elf < 2; elf++) {
		struct world *w = world_make(elf);

		assert_int_equal(world_load_file(w, w->bytes), 0);
		for (size_t bytes = 0; bytes < w->bytes; bytes++)
			assert_int_equal(world_load_file(w, bytes), -ENOEXEC);
		world_free(w);
	}
}

/* One bad header a line: changes the good one. */
static const struct bad_bzimage {
	size_t offset;
	uint32_t bytes;
	uint64_t value;
	int ret;
	const char *words;
} bad_bzimages[] = {
#define FIELD(name) offsetof(struct setup_header, name), sizeof(((struct setup_header *)0)->name)
	{ FIELD(boot_flag), 0, -ENOEXEC, "neither" },
	{ FIELD(header), 0, -ENOEXEC, "neither" },
	{ FIELD(version), 0x20b, -ENOEXEC, "2.12" },
	{ FIELD(version), 0, -ENOEXEC, "2.12" },
	{ FIELD(loadflags), 0, -ENOEXEC, "zImage" },
	{ FIELD(xloadflags), 0, -ENOEXEC, "64-bit" },
	{ FIELD(kernel_alignment), 0, -ENOEXEC, "kernel_alignment" },
	{ FIELD(kernel_alignment), 0x300000, -ENOEXEC, "kernel_alignment" },
	{ FIELD(kernel_alignment), 0x80000000, -ENOMEM, "does not fit" },
	{ FIELD(syssize), 0, -ENOEXEC, "syssize" },
	{ FIELD(syssize), 0x20, -ENOEXEC, "syssize" },
	{ FIELD(syssize), PAYLOAD / 16 + 1, -ENOEXEC, "too early" },
	{ FIELD(syssize), 0xffffffff, -ENOEXEC, "too early" },
	{ FIELD(setup_sects), 4, -ENOEXEC, "too early" },
	{ FIELD(setup_sects), 255, -ENOEXEC, "too early" },
	{ FIELD(init_size), 0xffffffff, -ENOMEM, "does not fit" },
	{ FIELD(init_size), MEMORY_BYTES - MIB + 1, -ENOMEM, "does not fit" },
	{ FIELD(pref_address), UINT64_MAX, -ENOEXEC, "pref_address" },
	{ FIELD(pref_address), UINT64_MAX - 0x1fffff, -ENOMEM, "does not fit" },
	{ FIELD(pref_address), 1ull << 40, -ENOMEM, "does not fit" },
	{ FIELD(cmdline_size), 12, -E2BIG, "this kernel" },
	{ FIELD(cmdline_size), 0, -E2BIG, "this kernel" },
#undef FIELD
};

static void test_bad_bzimages(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_bzimages) / sizeof(bad_bzimages[0]); i++) {
		const struct bad_bzimage *bad = &bad_bzimages[i];
		struct world *w = world_make(false);

		memcpy((uint8_t *)kernelfile_header(w->file) + bad->offset, &bad->value,
		       bad->bytes);
		expect(w, bad->ret, bad->words);
		world_free(w);
	}
}

/* A kernel that cannot move itself runs where it says, which may not be the first MiB. */
static void test_not_relocatable(void **state)
{
	struct world *w = world_make(false);

	(void)state;
	kernelfile_header(w->file)->relocatable_kernel = 0;
	kernelfile_header(w->file)->pref_address = 4 * MIB;
	assert_int_equal(world_load(w), 0);
	assert_int_equal(w->entry.kernel_end, 5 * MIB);
	kernelfile_header(w->file)->pref_address = 0x8000;
	expect(w, -ENOEXEC, "pref_address");
	world_free(w);
}

/* The header may be longer than ours, or shorter, but not by what is needed of it. */
static void test_header_length(void **state)
{
	struct world *w = world_make(false);

	(void)state;
	w->file[0x201] = 0xff;
	assert_int_equal(world_load(w), 0);
	w->file[0x201] = 0x62; /* 2.12, but for handover_offset */
	assert_int_equal(world_load(w), 0);
	for (uint32_t length = 0; length < 0x62; length++) {
		w->file[0x201] = (uint8_t)length;
		assert_int_equal(world_load(w), -ENOEXEC);
	}
	world_free(w);
}

static Elf64_Ehdr *elf_head(struct world *w)
{
	return (Elf64_Ehdr *)w->file;
}

static void bad_class(struct world *w)
{
	elf_head(w)->e_ident[EI_CLASS] = ELFCLASS32;
}

static void bad_machine(struct world *w)
{
	elf_head(w)->e_machine = EM_386;
}

static void bad_phentsize(struct world *w)
{
	elf_head(w)->e_phentsize = 32;
}

static void bad_phnum(struct world *w)
{
	elf_head(w)->e_phnum = 0xffff;
}

static void bad_phnum0(struct world *w)
{
	elf_head(w)->e_phnum = 0;
}

static void bad_phoff(struct world *w)
{
	elf_head(w)->e_phoff = UINT64_MAX - 16;
}

static void bad_filesz(struct world *w)
{
	kernelfile_segment(w->file, 1)->p_filesz = PAYLOAD + 4097;
}

static void bad_offset(struct world *w)
{
	kernelfile_segment(w->file, 1)->p_offset = UINT64_MAX - 100;
}

static void bad_low(struct world *w)
{
	kernelfile_segment(w->file, 1)->p_paddr = 0xff000;
}

static void bad_high(struct world *w)
{
	kernelfile_segment(w->file, 1)->p_paddr = MEMORY_BYTES - PAYLOAD;
}

static void bad_wrap(struct world *w)
{
	kernelfile_segment(w->file, 1)->p_paddr = UINT64_MAX - 10;
}

static void bad_memsz(struct world *w)
{
	kernelfile_segment(w->file, 1)->p_memsz = UINT64_MAX - 0x100000;
}

static void bad_overlap(struct world *w)
{
	elf_head(w)->e_phnum = 3;
	*kernelfile_segment(w->file, 2) = *kernelfile_segment(w->file, 1);
	kernelfile_segment(w->file, 2)->p_paddr += PAYLOAD + 4095;
}

static void bad_note_size(struct world *w)
{
	kernelfile_segment(w->file, 0)->p_filesz = 1 << 20;
}

static void bad_note_offset(struct world *w)
{
	kernelfile_segment(w->file, 0)->p_offset = UINT64_MAX - 8;
}

static void bad_note_gone(struct world *w)
{
	kernelfile_segment(w->file, 0)->p_type = PT_NULL;
	bad_low(w); /* where a program that is no kernel wants to be is of no interest */
}

static void bad_note_name(struct world *w)
{
	w->file[KERNELFILE_NOTES + 36] = 'x';
}

static void bad_note_type(struct world *w)
{
	w->file[KERNELFILE_NOTES + 32] = 19;
}

static void bad_note_length(struct world *w)
{
	memset(w->file + KERNELFILE_NOTES, 0xff, 8); /* of the note before it */
}

static void bad_note_desc(struct world *w)
{
	w->file[KERNELFILE_NOTES + 28] = 3;
}

static void bad_entry(struct world *w)
{
	const uint32_t outside = 0x100000 + PAYLOAD + 4096;

	memcpy(w->file + KERNELFILE_NOTES + 40, &outside, sizeof(outside));
}

static const struct bad_elf {
	void (*spoil)(struct world *w);
	int ret;
	const char *words;
} bad_elves[] = {
	{ bad_class, -ENOEXEC, "64-bit x86" },
	{ bad_machine, -ENOEXEC, "64-bit x86" },
	{ bad_phentsize, -ENOEXEC, "program headers" },
	{ bad_phnum, -ENOEXEC, "program headers" },
	{ bad_phnum0, -ENOEXEC, "program headers" },
	{ bad_phoff, -ENOEXEC, "too early" },
	{ bad_filesz, -ENOEXEC, "segment" },
	{ bad_offset, -ENOEXEC, "too early" },
	{ bad_low, -ENOMEM, "does not fit" },
	{ bad_high, -ENOMEM, "does not fit" },
	{ bad_wrap, -ENOMEM, "does not fit" },
	{ bad_memsz, -ENOMEM, "does not fit" },
	{ bad_overlap, -ENOEXEC, "overlap" },
	{ bad_note_size, -ENOEXEC, "notes" },
	{ bad_note_offset, -ENOEXEC, "too early" },
	{ bad_note_gone, -ENOEXEC, "without PVH" },
	{ bad_note_name, -ENOEXEC, "without PVH" },
	{ bad_note_type, -ENOEXEC, "without PVH" },
	{ bad_note_length, -ENOEXEC, "without PVH" },
	{ bad_note_desc, -ENOEXEC, "without PVH" },
	{ bad_entry, -ENOEXEC, "PVH entry" },
};

static void test_bad_elves(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_elves) / sizeof(bad_elves[0]); i++) {
		struct world *w = world_make(true);

		bad_elves[i].spoil(w);
		expect(w, bad_elves[i].ret, bad_elves[i].words);
		world_free(w);
	}
}

static void test_initrd_places(void **state)
{
	struct world *w = world_make(false);

	(void)state;
	/* Kernel until 2 MiB; below the limit, which is inclusive, and page-aligned. */
	kernelfile_header(w->file)->kernel_alignment = 0x1000;
	kernelfile_header(w->file)->initrd_addr_max = 3 * MIB - 1;
	set_initrd(w, MIB);
	assert_int_equal(world_load(w), 0);
	assert_int_equal(w->entry.kernel_end, 2 * MIB);
	assert_int_equal(w->entry.initrd, 2 * MIB);
	kernelfile_header(w->file)->initrd_addr_max--;
	expect(w, -ENOMEM, "initrd");
	kernelfile_header(w->file)->initrd_addr_max = 0;
	expect(w, -ENOMEM, "initrd");
	kernelfile_header(w->file)->initrd_addr_max = 0xffffffff;
	assert_int_equal(world_load(w), 0);
	assert_int_equal(w->entry.initrd_end, MEMORY_BYTES);
	world_free(w);
	w = world_make(false);
	set_initrd(w, 0); /* an empty one is none */
	assert_int_equal(world_load(w), 0);
	assert_int_equal(w->entry.initrd, w->entry.initrd_end);
	world_free(w);
}

static void test_small_memory(void **state)
{
	(void)state;
	for (int elf = 0; elf < 2; elf++) {
		struct world *w = world_make(elf);

		for (uint64_t bytes = 4096; bytes <= MIB; bytes *= 2) {
			set_memory(w, bytes);
			expect(w, -ENOMEM, "does not fit");
		}
		set_memory(w, MIB + 4096);
		expect(w, -ENOMEM, "does not fit");
		set_memory(w, 0);
		w->mm.boot.count = 0;
		expect(w, -ENOMEM, "does not fit");
		world_free(w);
	}
}

static void test_cmdline(void **state)
{
	struct world *w = world_make(true);

	(void)state;
	memset(w->cmdline, 'x', LAYOUT_CMDLINE_BYTES);
	w->cmdline[LAYOUT_CMDLINE_BYTES] = '\0';
	expect(w, -E2BIG, "4095");
	w->cmdline[LAYOUT_CMDLINE_BYTES - 1] = '\0';
	assert_int_equal(world_load(w), 0);
	assert_common(w);
	w->cmdline[0] = '\0';
	assert_int_equal(world_load(w), 0);
	assert_common(w);
	world_free(w);
}

static void test_not_files(void **state)
{
	struct world *w = world_make(false);
	int pipes[2], kernel = kernelfile_open(w->file, w->bytes);
	struct boot_config config = { .kernel = -1, .initrd = -1, .cmdline = "" };

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(boot_load(&w->mm, &config, &w->entry, &w->what), -EBADF);
	assert_string_equal(w->what, "kernel: cannot be read");
	config.kernel = pipes[0];
	assert_int_equal(boot_load(&w->mm, &config, &w->entry, &w->what), -EINVAL);
	assert_string_equal(w->what, "kernel: must be a regular file");
	config.kernel = kernel;
	config.initrd = pipes[0];
	assert_int_equal(boot_load(&w->mm, &config, &w->entry, &w->what), -EINVAL);
	assert_string_equal(w->what, "initrd: must be a regular file");
	close(pipes[0]);
	close(pipes[1]);
	close(kernel);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bzimage),         cmocka_unit_test(test_elf),
		cmocka_unit_test(test_high_memory),     cmocka_unit_test(test_again),
		cmocka_unit_test(test_truncated),       cmocka_unit_test(test_bad_bzimages),
		cmocka_unit_test(test_not_relocatable), cmocka_unit_test(test_header_length),
		cmocka_unit_test(test_bad_elves),       cmocka_unit_test(test_initrd_places),
		cmocka_unit_test(test_small_memory),    cmocka_unit_test(test_cmdline),
		cmocka_unit_test(test_not_files),
	};

	return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
