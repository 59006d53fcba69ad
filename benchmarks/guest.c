/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The guest's code and, on the pages behind it, its rings with their requests
 * already in them: a device finds them when it starts, so nothing is notified.  It is loaded at 1 MiB
 * and entered 0x200 bytes in, in 64-bit mode with the first 4 GiB mapped as they are.
 *
 * A ring is a page: descriptors at 0, available ring at 0x100, used ring at 0x200, what the requests
 * need from 0x300.  It is one of 16 entries.
 */
#include "benchmarks/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/cc.h"
#include "tests/unit/kernelfile.h"

extern const uint8_t bench_guest[], bench_guest_end[];

/* clang-format off */
asm(
".pushsection .rodata.bench_guest, \"a\", @progbits\n"
".balign 4096\n"
".globl bench_guest, bench_guest_end\n"
"bench_guest:\n"
".skip 0x200\n"
"	cli\n"
"	mov	$0xe0008000, %esi\n"       /* slot 1 in ECAM: the disk */
"	mov	$0x101000, %edi\n"         /* its ring */
"	mov	$1, %ebp\n"
"	call	g_device\n"
"	mov	$0xe0010000, %esi\n"       /* rng */
"	mov	$1, %ebp\n"
"	call	g_device\n"
"	mov	$0xe0018000, %esi\n"       /* console: input, output */
"	mov	$2, %ebp\n"
"	call	g_device\n"
"1:	pause\n"
"	cmpw	$1, 0x101202\n"            /* used idx */
"	jne	1b\n"
"	cmpw	$1, 0x102202\n"
"	jne	1b\n"
"	cmpw	$1, 0x104202\n"
"	jne	1b\n"
"	mov	$0x3f8, %edx\n"
"	mov	$'r', %al\n"
"	out	%al, %dx\n"
"2:	hlt\n"
"	jmp	2b\n"

/* esi: configuration space; edi: page of the first ring, moved on; ebp: how many. */
"g_device:\n"
"	movw	$6, 4(%rsi)\n"             /* memory decode, bus master */
"	mov	0x10(%rsi), %ebx\n"        /* BAR 0: the common configuration */
"	and	$0xfffffff0, %ebx\n"
"	movb	$1, 0x14(%rbx)\n"          /* ACKNOWLEDGE, DRIVER */
"	movb	$3, 0x14(%rbx)\n"
"	movl	$1, 0x08(%rbx)\n"
"	movl	$1, 0x0c(%rbx)\n"          /* VERSION_1, nothing else */
"	movb	$11, 0x14(%rbx)\n"         /* FEATURES_OK */
"	xor	%ecx, %ecx\n"
"1:	mov	%cx, 0x16(%rbx)\n"         /* queue */
"	movw	$16, 0x18(%rbx)\n"         /* size */
"	mov	%edi, 0x20(%rbx)\n"
"	lea	0x100(%rdi), %eax\n"
"	mov	%eax, 0x28(%rbx)\n"
"	lea	0x200(%rdi), %eax\n"
"	mov	%eax, 0x30(%rbx)\n"
"	movw	$1, 0x1c(%rbx)\n"          /* enable */
"	add	$0x1000, %edi\n"
"	inc	%ecx\n"
"	cmp	%ebp, %ecx\n"
"	jne	1b\n"
"	movb	$15, 0x14(%rbx)\n"         /* DRIVER_OK */
"	ret\n"

".balign 4096\n"                           /* disk: read the first sector */
"	.quad	0x101300; .long 16;  .short 1, 1\n"
"	.quad	0x101400; .long 512; .short 3, 2\n"
"	.quad	0x101310; .long 1;   .short 2, 0\n"
".balign 256\n"
"	.short	0, 1, 0\n"
".balign 4096\n"                           /* rng: 64 bytes */
"	.quad	0x102300; .long 64;  .short 2, 0\n"
".balign 256\n"
"	.short	0, 1, 0\n"
".balign 4096\n"                           /* console: nothing to put input into */
".skip 4096\n"
"	.quad	0x104300; .long 1;   .short 0, 0\n"
".balign 256\n"
"	.short	0, 1, 0\n"
".balign 4096\n"
"bench_guest_end:\n"
".popsection\n"
);
/* clang-format on */

static int write_all(const char *path, const void *data, size_t bytes)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	const ssize_t n = fd >= 0 ? write(fd, data, bytes) : -1;

	return n < 0 ? -errno : n == (ssize_t)bytes ? 0 : -EIO;
}

int guest_write(const char *path)
{
	const size_t bytes = (size_t)((uintptr_t)bench_guest_end - (uintptr_t)bench_guest);
	uint8_t *file = malloc(KERNELFILE_BZ_HEAD + bytes);
	int ret;

	if (file == NULL)
		return -ENOMEM;
	ret = write_all(path, file, kernelfile_bzimage(file, bench_guest, bytes));
	free(file);
	return ret;
}
