/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry of a device program: relocate, arm the stack protector, read the launch record, map, leave
 * the kernel's stack, put on the seal, serve.  Freestanding: nothing runs before _start.
 */
#include <asm/errno.h>
#include <elf.h>
#include <linux/mman.h>
#include <stdint.h>

#include "devmodel/abi/exit.h"
#include "devmodel/common/dev.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/seal.h"
#include "devmodel/common/sys.h"

#define PAGE 4096ul

/* Hidden, or clang looks them up in the GOT, which is not relocated yet. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));
extern const Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

/* -mstack-protector-guard=global: the compiler's names. */
uintptr_t __stack_chk_guard;
_Noreturn void __stack_chk_fail(void);
_Noreturn void start_main(const uint64_t *sp);

/* Page-aligned and whole pages, so that it can be made read-only once read. */
static union {
	struct launch_record record;
	uint8_t pages[(sizeof(struct launch_record) + PAGE - 1) / PAGE * PAGE];
} launch __attribute__((aligned(4096)));

static struct dev device;

_Noreturn void __stack_chk_fail(void)
{
	sys_exit(BOX_EXIT_STACK);
}

__asm__(".text\n"
	".globl _start\n"
	"_start:\n"
	"	endbr64\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call start_main\n"
	"	ud2\n");

/* Static-pie is its own dynamic linker: only relative relocations can be there. */
__attribute__((no_stack_protector)) static void start_relocate(void)
{
	const uintptr_t base = (uintptr_t)&__ehdr_start;
	const Elf64_Rela *rela = NULL;
	size_t bytes = 0;

	for (const Elf64_Dyn *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELA)
			rela = (const Elf64_Rela *)(base + d->d_un.d_ptr);
		else if (d->d_tag == DT_RELASZ)
			bytes = d->d_un.d_val;
	}
	for (size_t i = 0; i < bytes / sizeof(*rela); i++) {
		if (ELF64_R_TYPE(rela[i].r_info) != R_X86_64_RELATIVE)
			sys_exit(BOX_EXIT_BUG);
		*(uintptr_t *)(base + rela[i].r_offset) = base + (uintptr_t)rela[i].r_addend;
	}
}

/* What needed relocating never changes again. */
__attribute__((no_stack_protector)) static void start_relro(void)
{
	const uintptr_t base = (uintptr_t)&__ehdr_start;
	const Elf64_Phdr *ph = (const Elf64_Phdr *)(base + __ehdr_start.e_phoff);

	for (unsigned int i = 0; i < __ehdr_start.e_phnum; i++) {
		if (ph[i].p_type != PT_GNU_RELRO)
			continue;
		const uintptr_t from = (base + ph[i].p_vaddr) & ~(PAGE - 1);
		const uintptr_t to = (base + ph[i].p_vaddr + ph[i].p_memsz) & ~(PAGE - 1);

		if (to > from && sys_call3(__NR_mprotect, from, to - from, PROT_READ) != 0)
			sys_exit(BOX_EXIT_BUG);
	}
}

/* The kernel gives 16 random bytes by AT_RANDOM; a NUL byte first stops string overruns. */
__attribute__((no_stack_protector)) static void start_guard(const uint64_t *sp)
{
	const uint64_t *p = sp + 1 + sp[0] + 1; /* argc, argv, NULL */

	while (*p++ != 0) /* envp */
		;
	for (; p[0] != AT_NULL; p += 2) {
		if (p[0] == AT_RANDOM)
			__stack_chk_guard = *(const uint64_t *)p[1] & ~0xfful;
	}
	if (__stack_chk_guard == 0)
		sys_exit(BOX_EXIT_BUG);
}

static void start_launch(void)
{
	const long n = sys_read(BOX_FD_CONTROL, &launch.record, sizeof(launch.record));

	if (n != sizeof(launch.record) || launch.record.magic != LAUNCH_MAGIC ||
	    launch.record.version != LAUNCH_VERSION || launch.record.kind != dev_program.kind)
		sys_exit(BOX_EXIT_LAUNCH);
	if (sys_call3(__NR_mprotect, &launch, sizeof(launch), PROT_READ) != 0)
		sys_exit(BOX_EXIT_LAUNCH);
}

/* On the new stack. */
_Noreturn static void start_sealed(void)
{
	seal_close(&launch.record);
	switch (dev_run(&device, &dev_program, &launch.record)) {
	case -EPIPE:
		sys_exit(BOX_EXIT_ORPHAN);
	case -EBADMSG:
		sys_exit(BOX_EXIT_RECORD);
	case -EPROTO:
		sys_exit(BOX_EXIT_CONTROL);
	default:
		sys_exit(BOX_EXIT_BUG);
	}
}

__attribute__((no_stack_protector)) _Noreturn void start_main(const uint64_t *sp)
{
	start_relocate();
	start_guard(sp);
	start_relro();
	start_launch();
	seal_map(&launch.record);
	__asm__ volatile("mov %0, %%rsp\n"
			 "xor %%ebp, %%ebp\n"
			 "call *%1\n"
			 "ud2\n"
			 :
			 : "r"(launch.record.stack_addr + BOX_STACK_BYTES), "r"(start_sealed)
			 : "memory");
	__builtin_unreachable();
}
