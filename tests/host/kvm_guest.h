/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest of test_kvm.c: a few hundred bytes that are loaded at 1 MiB as if they were a kernel, in
 * a bzImage (entered in 64-bit mode, 0x200 bytes in) or an ELF file (entered in 32-bit mode at
 * KVM_GUEST_ENTRY32).  The first letter of the command line says what it does; what it finds it
 * reports as numbers.  Included once.
 *
 * Where it keeps things: 0x2000 flags, 0x3000 code of the second CPU, 0x5000 a buffer, 0x6000 IDT.
 */
#ifndef MAYFLY_TESTS_HOST_KVM_GUEST_H
#define MAYFLY_TESTS_HOST_KVM_GUEST_H

#include <stddef.h>
#include <stdint.h>

#define GUEST_PORTS 0x700
#define GUEST_PORTS_BYTES 0x20
#define GUEST_PORT_REPORT 0x700 /* a number */
#define GUEST_PORT_COUNT 0x704  /* reads 1, 2, 3, .. ; its vCPU writes each back to the next */
#define GUEST_PORT_RETURN 0x708
#define GUEST_PORT_STRING 0x70c
#define GUEST_PORT_COUNT1 0x714 /* the same for the second CPU */
#define GUEST_PORT_RETURN1 0x718
#define GUEST_MMIO 0xd0000000 /* reads what was written, but for .. */
#define GUEST_MMIO_BYTES 0x3000
#define GUEST_MMIO_COUNT 0x2000 /* .. this, which counts as GUEST_PORT_COUNT does */

#define GUEST_DONE 0x600d
#define GUEST_BAD 0xbad
#define GUEST_PIN 5 /* of the IOAPIC, as the guest has it, for vector 0x40; MSI is 0x41, GED 0x42 */
#define GUEST_MSI_VECTOR 0x41

extern const uint8_t kvm_guest[], kvm_guest_entry32[], kvm_guest_end[];

/* Ends of one piece of code, which the assembler knows and C does not. */
static inline size_t kvm_guest_bytes(void)
{
	return (uintptr_t)kvm_guest_end - (uintptr_t)kvm_guest;
}

#define KVM_GUEST_ENTRY32                                                                          \
	((uint32_t)(0x100000 + ((uintptr_t)kvm_guest_entry32 - (uintptr_t)kvm_guest)))

/* clang-format off */
asm(
".macro report value\n"
"	mov	\\value, %eax\n"
"	mov	$0x700, %edx\n"
"	out	%eax, %dx\n"
".endm\n"
".macro power_off\n"
"	mov	$0x600, %edx\n"
"	mov	$0x34, %al\n"
"	out	%al, %dx\n"
"99:	hlt\n"
"	jmp	99b\n"
".endm\n"
".macro on letter, to\n"
"	cmp	$\\letter, %al\n"
"	je	\\to\n"
".endm\n"
".macro gate vector, handler\n"
"	lea	\\handler(%rip), %rax\n"
"	mov	%eax, %ecx\n"
"	and	$0xffff, %ecx\n"
"	or	$0x100000, %ecx\n"
"	mov	%ecx, 0x6000 + 16 * \\vector\n"
"	and	$0xffff0000, %eax\n"
"	or	$0x8e00, %eax\n"
"	mov	%eax, 0x6004 + 16 * \\vector\n"
"	movq	$0, 0x6008 + 16 * \\vector\n"
".endm\n"
".macro ioapic index, value\n"
"	movl	$\\index, (%rbx)\n"
"	movl	$\\value, 0x10(%rbx)\n"
".endm\n"
".pushsection .rodata.kvm_guest, \"a\", @progbits\n"
".balign 16\n"
".globl kvm_guest, kvm_guest_entry32, kvm_guest_end\n"
"kvm_guest:\n"
".skip 0x200\n"
".code64\n"
"	mov	%esp, %r8d\n"
"	pushf\n"
"	pop	%r9\n"
"	mov	0x228(%rsi), %edi\n"       /* boot_params.hdr.cmd_line_ptr */
"	mov	(%rdi), %al\n"
"	on	'e', g_entry\n"
"	on	'i', g_io\n"
"	on	'q', g_irq\n"
"	on	'a', g_smp\n"
"	on	'l', g_load\n"
"	on	'r', g_reset\n"
"	on	'b', g_bios\n"
"	on	't', g_triple\n"
"	on	'p', g_panic\n"
"	on	'k', g_keyboard\n"
"	on	'j', g_spin\n"
"	cli\n"                             /* 'h' */
"1:	hlt\n"
"	jmp	1b\n"
"g_spin:	jmp g_spin\n"

"g_triple:\n"
"	push	$0\n"
"	push	$0\n"
"	lidt	(%rsp)\n"
"	ud2\n"

"g_panic:\n"
"	mov	$0x505, %edx\n"
"	in	%dx, %al\n"
"	movzbl	%al, %ebx\n"
"	report	%ebx\n"
"	mov	$0x505, %edx\n"
"	mov	$1, %al\n"
"	out	%al, %dx\n"
"1:	hlt\n"
"	jmp	1b\n"

/* As Linux with reboot=k, but for the command before it, which is not the one. */
"g_keyboard:\n"
"	in	$0x64, %al\n"
"	movzbl	%al, %ebx\n"
"	report	%ebx\n"
"	mov	$0xd1, %al\n"
"	out	%al, $0x64\n"
"	report	$0x600d\n"
"	mov	$0xfe, %al\n"
"	out	%al, $0x64\n"
"1:	hlt\n"
"	jmp	1b\n"

/* The state at the entry, then what can be done with it. */
"g_entry:\n"
"	xor	%ebx, %ebx\n"
"	mov	%cs, %bx\n"
"	report	%ebx\n"
"	mov	%ds, %bx\n"
"	report	%ebx\n"
"	mov	%ss, %bx\n"
"	report	%ebx\n"
"	mov	%cr0, %rbx\n"
"	report	%ebx\n"
"	mov	%cr3, %rbx\n"
"	report	%ebx\n"
"	mov	%cr4, %rbx\n"
"	report	%ebx\n"
"	mov	$0xc0000080, %ecx\n"
"	rdmsr\n"
"	mov	%eax, %ebx\n"
"	report	%ebx\n"
"	report	%esi\n"
"	report	%r8d\n"
"	report	%r9d\n"
"	mov	$1, %eax\n"
"	cpuid\n"
"	shr	$24, %ebx\n"
"	mov	%ecx, %r8d\n"
"	report	%ebx\n"
"	report	%r8d\n"
"	mov	$0xfee00000, %ebx\n"
"	mov	0x30(%rbx), %eax\n"        /* LAPIC version: the 4th GiB is mapped */
"	movzbl	%al, %ebx\n"
"	report	%ebx\n"
"	mov	$0x18, %ebx\n"             /* GDT in memory is what the registers say */
"	mov	%bx, %ds\n"
"	mov	%bx, %ss\n"
"	push	$0x10\n"
"	lea	1f(%rip), %rax\n"
"	push	%rax\n"
"	lretq\n"
"1:	report	$0x600d\n"
"	power_off\n"

"g_io:\n"
"	lea	g_text(%rip), %rsi\n"
"	mov	$0x70c, %edx\n"
"	mov	$6, %ecx\n"
"	rep	outsb\n"
"	lea	g_text(%rip), %rsi\n"
"	mov	$3, %ecx\n"
"	rep	outsw\n"
"	lea	g_text(%rip), %rsi\n"
"	mov	$2, %ecx\n"
"	rep	outsl\n"
"	mov	$0x5000, %edi\n"
"	mov	$5, %ecx\n"
"	rep	insb\n"
"	mov	$2, %ecx\n"
"	rep	insl\n"
"	in	%dx, %al\n"
"	stosb\n"
"	in	%dx, %ax\n"
"	stosw\n"
"	mov	$0x5000, %esi\n"           /* and back: 16 bytes */
"	mov	$16, %ecx\n"
"	rep	outsb\n"
"	mov	$0xd0000000, %ebx\n"
"	movabs	$0x1122334455667788, %rax\n"
"	mov	%rax, 0x10(%rbx)\n"
"	mov	%eax, 0x20(%rbx)\n"
"	mov	%ax, 0x30(%rbx)\n"
"	mov	%al, 0x40(%rbx)\n"
"	mov	%rax, 0xffd(%rbx)\n"       /* across a page: 3 + 5 bytes */
"	mov	0x10(%rbx), %r8\n"
"	report	%r8d\n"
"	shr	$32, %r8\n"
"	report	%r8d\n"
"	mov	0x20(%rbx), %r8d\n"
"	report	%r8d\n"
"	movzwl	0x30(%rbx), %r8d\n"
"	report	%r8d\n"
"	movzbl	0x40(%rbx), %r8d\n"
"	report	%r8d\n"
"	mov	0xffd(%rbx), %r8\n"
"	report	%r8d\n"
"	shr	$32, %r8\n"
"	report	%r8d\n"
"	mov	$0x7f0, %edx\n"            /* nobody's port, nobody's memory */
"	in	%dx, %eax\n"
"	mov	%eax, %r8d\n"
"	report	%r8d\n"
"	mov	0x8000000(%rbx), %r8d\n"
"	report	%r8d\n"
"	power_off\n"
"g_text:	.ascii \"mayfly42\"\n"

"g_irq:\n"
"	call	g_irq_setup\n"
"	report	$0x600d\n"
"1:	sti\n"
"	hlt\n"
"	jmp	1b\n"

"g_irq_setup:\n"
"	gate	0x40, g_pin\n"
"	gate	0x41, g_msi\n"
"	gate	0x42, g_ged\n"
"	sub	$16, %rsp\n"
"	movw	$0xfff, (%rsp)\n"
"	movq	$0x6000, 2(%rsp)\n"
"	lidt	(%rsp)\n"
"	add	$16, %rsp\n"
"	mov	$0xfee00000, %ebx\n"
"	movl	$0x1ff, 0xf0(%rbx)\n"     /* LAPIC on */
"	mov	$0xfec00000, %ebx\n"
"	ioapic	0x1b, 0\n"
"	ioapic	0x1a, 0x40\n"
"	ioapic	0x23, 0\n"
"	ioapic	0x22, 0x42\n"
"	ret\n"
"g_pin:	report	$0x40\n"
"	jmp	g_eoi\n"
"g_msi:	report	$0x41\n"
"	jmp	g_eoi\n"
"g_ged:	mov	$0x604, %edx\n"
"	in	%dx, %eax\n"
"	or	$0x4200, %eax\n"
"	mov	%eax, %ebx\n"
"	report	%ebx\n"
"g_eoi:	mov	$0xfee00000, %ebx\n"
"	movl	$0, 0xb0(%rbx)\n"
"	iretq\n"

/* Starts the second CPU; it does as the byte at 0x2001 says. */
"g_start_ap:\n"
"	lea	g_ap(%rip), %rsi\n"
"	mov	$0x3000, %edi\n"
"	mov	$g_ap_end - g_ap, %ecx\n"
"	rep	movsb\n"
"	mov	$0xfee00000, %ebx\n"
"	movl	$0x01000000, 0x310(%rbx)\n"
"	movl	$0x4500, 0x300(%rbx)\n"    /* INIT */
"	movl	$0x01000000, 0x310(%rbx)\n"
"	movl	$0x4603, 0x300(%rbx)\n"    /* start at 0x3000 */
"	ret\n"

"g_smp:\n"
"	movl	$0, 0x2000\n"
"	call	g_start_ap\n"
"1:	pause\n"
"	cmpb	$1, 0x2000\n"
"	jne	1b\n"
"	report	$0x600d\n"
"	power_off\n"

"g_bios:\n"
"	movl	$0x0200, 0x2000\n"
"	call	g_start_ap\n"
"1:	hlt\n"
"	jmp	1b\n"

"g_load:\n"
"	movl	$0x0100, 0x2000\n"
"	call	g_start_ap\n"
"	xor	%ebx, %ebx\n"
"	xor	%ecx, %ecx\n"
"	mov	$0xd0002000, %esi\n"
"1:	mov	$0x704, %edx\n"
"	in	%dx, %eax\n"
"	inc	%ebx\n"
"	cmp	%ebx, %eax\n"
"	jne	2f\n"
"	mov	$0x708, %edx\n"
"	out	%eax, %dx\n"
"	mov	(%rsi), %eax\n"
"	inc	%ecx\n"
"	cmp	%ecx, %eax\n"
"	je	1b\n"
"2:	report	$0xbad\n"
"3:	hlt\n"
"	jmp	3b\n"

/* The first time: spoils whatever it can reach, then resets. */
"g_reset:\n"
"	incl	0x2010\n"
"	cmpl	$1, 0x2010\n"
"	jne	1f\n"
"	report	$1\n"
"	movl	$0, 0x2000\n"
"	call	g_irq_setup\n"
"	call	g_start_ap\n"
"2:	cmpb	$1, 0x2000\n"
"	jne	2b\n"
"	mov	%cr4, %rax\n"
"	or	$0x600, %rax\n"            /* OSFXSR, OSXMMEXCPT */
"	mov	%rax, %cr4\n"
"	mov	$0xc0000080, %ecx\n"
"	rdmsr\n"
"	or	$0x801, %eax\n"            /* SCE, NX */
"	wrmsr\n"
"	mov	$0x2ff, %ecx\n"            /* MTRRs off */
"	xor	%eax, %eax\n"
"	xor	%edx, %edx\n"
"	wrmsr\n"
"	mov	$0x602, %edx\n"
"	mov	$1, %al\n"
"	out	%al, %dx\n"
"3:	hlt\n"
"	jmp	3b\n"
"1:	report	0x2010\n"
"	mov	%cr4, %rbx\n"
"	report	%ebx\n"
"	mov	$0xc0000080, %ecx\n"
"	rdmsr\n"
"	mov	%eax, %ebx\n"
"	report	%ebx\n"
"	mov	$0x2ff, %ecx\n"
"	rdmsr\n"
"	mov	%eax, %ebx\n"
"	report	%ebx\n"
"	mov	$0xfee00000, %ecx\n"
"	mov	0xf0(%rcx), %ebx\n"
"	report	%ebx\n"
"	mov	$0xfee00000, %ecx\n"
"	mov	0x350(%rcx), %ebx\n"
"	report	%ebx\n"
"	mov	$0xfec00000, %ecx\n"
"	movl	$0x1a, (%rcx)\n"
"	mov	0x10(%rcx), %ebx\n"
"	report	%ebx\n"
"	jmp	g_smp\n"

/* The second CPU, in real mode at 0x3000; its data segment is at 0. */
".code16\n"
"g_ap:\n"
"	xor	%ax, %ax\n"
"	mov	%ax, %ds\n"
"	mov	$0x700, %dx\n"
"	mov	$0xa1, %eax\n"
"	out	%eax, %dx\n"
"	movb	$1, 0x2000\n"
"	cmpb	$1, 0x2001\n"
"	je	1f\n"
"	cmpb	$2, 0x2001\n"
"	jne	3f\n"
"	ljmp	$0xf000, $0xfff0\n"        /* what Linux does without ACPI and EFI */
"3:	hlt\n"
"	jmp	3b\n"
"1:	xor	%ebx, %ebx\n"
"2:	mov	$0x714, %dx\n"
"	in	%dx, %eax\n"
"	inc	%ebx\n"
"	mov	$0x718, %dx\n"
"	out	%eax, %dx\n"
"	cmp	%ebx, %eax\n"
"	je	2b\n"
"	mov	$0xbad, %eax\n"
"	mov	$0x700, %dx\n"
"	out	%eax, %dx\n"
"	jmp	3b\n"
"g_ap_end:\n"

".code32\n"
".balign 16\n"
"kvm_guest_entry32:\n"
"	mov	%ebx, %edi\n"
"	mov	%esp, %esi\n"
"	xor	%ebx, %ebx\n"
"	mov	%cs, %bx\n"
"	report	%ebx\n"
"	mov	%ds, %bx\n"
"	report	%ebx\n"
"	mov	%ss, %bx\n"
"	report	%ebx\n"
"	mov	%cr0, %ebx\n"
"	report	%ebx\n"
"	mov	%cr4, %ebx\n"
"	report	%ebx\n"
"	report	%edi\n"
"	report	(%edi)\n"                  /* magic */
"	report	4(%edi)\n"                 /* version */
"	mov	0x18(%edi), %ebx\n"        /* command line */
"	mov	(%ebx), %ebx\n"
"	movzbl	%bl, %ebx\n"
"	report	%ebx\n"
"	mov	0x20(%edi), %ebx\n"        /* RSDP */
"	report	(%ebx)\n"
"	mov	0x30(%edi), %ebx\n"        /* lines in the memory map */
"	report	%ebx\n"
"	mov	$0x18, %ebx\n"
"	mov	%bx, %ds\n"
"	ljmp	$0x10, $(0x100000 + 1f - kvm_guest)\n"
"1:	report	$0x600d\n"
"	power_off\n"
".balign 16\n"
"kvm_guest_end:\n"
".code64\n"
".popsection\n"
);
/* clang-format on */

#endif
