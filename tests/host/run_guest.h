/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest of test_run_vm.c: what an operator sees of one, in 400 bytes.  It is the payload of a
 * bzImage, entered in 64-bit mode 0x200 bytes in.  The first letter of the command line says what it
 * does; it speaks through COM1.  How often it was booted is counted at 0x2010, which a reset in place
 * leaves alone; ring addresses of the rng are 0x40000 on.  Included once.
 */
#ifndef MAYFLY_TESTS_HOST_RUN_GUEST_H
#define MAYFLY_TESTS_HOST_RUN_GUEST_H

#include <stdint.h>

#define RUN_GUEST_OFF "o"     /* powers off */
#define RUN_GUEST_HALT "h"    /* halts */
#define RUN_GUEST_TRIPLE "t"  /* crashes */
#define RUN_GUEST_PANIC "p"   /* says that it crashed */
#define RUN_GUEST_RESET "r"   /* prints the number of the boot and resets; the third powers off */
#define RUN_GUEST_CRASHES "c" /* the same, but crashes */
#define RUN_GUEST_CYCLE "l"   /* the same without end */
#define RUN_GUEST_ECHO "e"    /* "hello\n", then what comes goes back; button: "B", powers off */
#define RUN_GUEST_DRIVER "v"  /* the same after it has started the rng, the only PCI device */
#define RUN_GUEST_FLOOD "f"   /* a to z, without end */
#define RUN_GUEST_GIVES                                                                            \
	"m" /* "I" for a DIMM that comes, "E" when asked to eject it, which it does */
#define RUN_GUEST_KEEPS "n" /* the same, but "R", and it refuses */

extern const uint8_t run_guest[], run_guest_end[];

/* clang-format off */
asm(
".macro on letter, to\n"
"	cmp	$\\letter, %al\n"
"	je	\\to\n"
".endm\n"
".pushsection .rodata.run_guest, \"a\", @progbits\n"
".balign 16\n"
".globl run_guest, run_guest_end\n"
"run_guest:\n"
".skip 0x200\n"
".code64\n"
"	incl	0x2010\n"
"	mov	0x228(%rsi), %edi\n"       /* boot_params.hdr.cmd_line_ptr */
"	movzbl	(%rdi), %r12d\n"
"	mov	%r12d, %eax\n"
"	on	'o', r_off\n"
"	on	't', r_triple\n"
"	on	'p', r_panic\n"
"	on	'r', r_boot\n"
"	on	'c', r_boot\n"
"	on	'l', r_boot\n"
"	on	'e', r_hello\n"
"	on	'v', r_driver\n"
"	on	'f', r_flood\n"
"	on	'm', r_memory\n"
"	on	'n', r_memory\n"
"	cli\n"
"1:	hlt\n"
"	jmp	1b\n"

"r_off:	mov	$0x600, %edx\n"
"	mov	$0x34, %al\n"
"	out	%al, %dx\n"
"1:	hlt\n"
"	jmp	1b\n"

"r_triple:\n"
"	push	$0\n"
"	push	$0\n"
"	lidt	(%rsp)\n"
"	ud2\n"

"r_panic:\n"
"	mov	$0x505, %edx\n"
"	mov	$1, %al\n"
"	out	%al, %dx\n"
"1:	hlt\n"
"	jmp	1b\n"

"r_put:	mov	%eax, %ebx\n"              /* al; when the transmitter is empty */
"	mov	$0x3fd, %edx\n"
"1:	in	%dx, %al\n"
"	test	$0x20, %al\n"
"	jz	1b\n"
"	mov	%ebx, %eax\n"
"	mov	$0x3f8, %edx\n"
"	out	%al, %dx\n"
"	ret\n"

"r_boot:\n"
"	mov	0x2010, %eax\n"
"	add	$'0', %eax\n"
"	call	r_put\n"
"	cmp	$'l', %r12d\n"
"	je	1f\n"
"	cmpl	$3, 0x2010\n"
"	je	r_off\n"
"	cmp	$'c', %r12d\n"
"	je	r_triple\n"
"1:	mov	$0x602, %edx\n"
"	mov	$1, %al\n"
"	out	%al, %dx\n"
"2:	hlt\n"
"	jmp	2b\n"

"r_flood:\n"
"	mov	$'a', %r13d\n"
"1:	mov	%r13d, %eax\n"
"	call	r_put\n"
"	inc	%r13d\n"
"	cmp	$'z', %r13d\n"
"	jbe	1b\n"
"	jmp	r_flood\n"

/* Registers of core/machine/acpi_memory.c, four slots: select, state, .. */
"r_memory:\n"
"	xor	%r14d, %r14d\n"
"1:	mov	$0x620, %edx\n"
"	mov	%r14d, %eax\n"
"	out	%eax, %dx\n"
"	mov	$0x624, %edx\n"
"	in	%dx, %eax\n"
"	mov	%eax, %r15d\n"
"	test	$2, %r15b\n"
"	jz	2f\n"
"	mov	$2, %eax\n"
"	out	%eax, %dx\n"
"	mov	$'I', %eax\n"
"	call	r_put\n"
"2:	test	$4, %r15b\n"
"	jz	4f\n"
"	mov	$0x624, %edx\n"
"	mov	$4, %eax\n"
"	out	%eax, %dx\n"
"	cmp	$'n', %r12d\n"
"	je	3f\n"
"	mov	$8, %eax\n"
"	out	%eax, %dx\n"
"	mov	$'E', %eax\n"
"	call	r_put\n"
"	jmp	4f\n"
"3:	mov	$0x63c, %edx\n"            /* _OST: of an eject request, device busy */
"	mov	$3, %eax\n"
"	out	%eax, %dx\n"
"	mov	$0x640, %edx\n"
"	mov	$0x82, %eax\n"
"	out	%eax, %dx\n"
"	mov	$'R', %eax\n"
"	call	r_put\n"
"4:	inc	%r14d\n"
"	and	$3, %r14d\n"
"	jmp	1b\n"

/* Slot 1: memory decode, bus master.  Features: VERSION_1.  One queue, of no request. */
"r_driver:\n"
"	mov	$0xe0008000, %ebx\n"
"	movw	$6, 4(%rbx)\n"
"	mov	0x10(%rbx), %ebx\n"        /* BAR 0: common configuration */
"	movb	$1, 0x14(%rbx)\n"
"	movb	$3, 0x14(%rbx)\n"
"	movl	$1, 0x08(%rbx)\n"
"	movl	$1, 0x0c(%rbx)\n"
"	movb	$0xb, 0x14(%rbx)\n"
"	movw	$0, 0x16(%rbx)\n"
"	movl	$0x40000, 0x20(%rbx)\n"
"	movl	$0x41000, 0x28(%rbx)\n"
"	movl	$0x42000, 0x30(%rbx)\n"
"	movw	$1, 0x1c(%rbx)\n"
"	movb	$0xf, 0x14(%rbx)\n"
"	cmpb	$0xf, 0x14(%rbx)\n"
"	jne	r_panic\n"

"r_hello:\n"
"	lea	r_text(%rip), %r13\n"
"1:	movzbl	(%r13), %eax\n"
"	test	%al, %al\n"
"	jz	2f\n"
"	call	r_put\n"
"	inc	%r13\n"
"	jmp	1b\n"
"2:	mov	$0x604, %edx\n"            /* the power button */
"	in	%dx, %eax\n"
"	test	$1, %al\n"
"	jnz	3f\n"
"	mov	$0x3fd, %edx\n"
"	in	%dx, %al\n"
"	test	$1, %al\n"
"	jz	2b\n"
"	mov	$0x3f8, %edx\n"
"	in	%dx, %al\n"
"	call	r_put\n"
"	jmp	2b\n"
"3:	mov	$'B', %eax\n"
"	call	r_put\n"
"	jmp	r_off\n"
"r_text:	.asciz \"hello\\n\"\n"
".balign 16\n"
"run_guest_end:\n"
".popsection\n"
);
/* clang-format on */

#endif
