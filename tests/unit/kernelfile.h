/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel files made by hand: a bzImage and a PVH ELF around a payload.  A test takes one, spoils a
 * field, and sees what the loader says.  The builders return the file's length.
 */
#ifndef MAYFLY_TESTS_UNIT_KERNELFILE_H
#define MAYFLY_TESTS_UNIT_KERNELFILE_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KERNELFILE_SETUP_SECTS 3
#define KERNELFILE_BZ_HEAD ((KERNELFILE_SETUP_SECTS + 1) * 512)
#define KERNELFILE_ELF_HEAD 0x400
#define KERNELFILE_NOTES 0x200 /* offset in an ELF */
#define KERNELFILE_LOAD 0x100000

static inline struct setup_header *kernelfile_header(uint8_t *file)
{
	return (struct setup_header *)(file + offsetof(struct boot_params, hdr));
}

/* The payload is what stands at 1 MiB; its length is a multiple of 16. */
static inline size_t kernelfile_bzimage(uint8_t *file, const void *payload, size_t bytes)
{
	struct setup_header *hdr = kernelfile_header(file);

	memset(file, 0, KERNELFILE_BZ_HEAD);
	hdr->setup_sects = KERNELFILE_SETUP_SECTS;
	hdr->syssize = (uint32_t)(bytes / 16);
	hdr->boot_flag = 0xaa55;
	hdr->jump = (uint16_t)(0xeb | (sizeof(*hdr) - 0x11) << 8); /* jmp behind the header */
	hdr->header = 0x53726448;
	hdr->version = 0x20f;
	hdr->loadflags = LOADED_HIGH;
	hdr->xloadflags = XLF_KERNEL_64;
	hdr->initrd_addr_max = 0x7fffffff;
	hdr->kernel_alignment = 0x200000;
	hdr->relocatable_kernel = 1;
	hdr->cmdline_size = 2047;
	hdr->pref_address = KERNELFILE_LOAD;
	hdr->init_size = 0x100000;
	memcpy(file + KERNELFILE_BZ_HEAD, payload, bytes);
	return KERNELFILE_BZ_HEAD + bytes;
}

static inline Elf64_Phdr *kernelfile_segment(uint8_t *file, uint32_t index)
{
	return (Elf64_Phdr *)(file + sizeof(Elf64_Ehdr)) + index;
}

/* Two segments: [0] the notes, [1] the payload at 1 MiB, with a page of zeroes behind it. */
static inline size_t kernelfile_elf(uint8_t *file, const void *payload, size_t bytes,
				    uint32_t entry)
{
	const Elf64_Nhdr other = { .n_namesz = 4, .n_descsz = 6, .n_type = 1 };
	const Elf64_Nhdr note = { .n_namesz = 4, .n_descsz = 4, .n_type = 18 };
	Elf64_Ehdr *head = (Elf64_Ehdr *)file;
	uint8_t *at = file + KERNELFILE_NOTES;

	memset(file, 0, KERNELFILE_ELF_HEAD);
	memcpy(head->e_ident, ELFMAG, SELFMAG);
	head->e_ident[EI_CLASS] = ELFCLASS64;
	head->e_ident[EI_DATA] = ELFDATA2LSB;
	head->e_machine = EM_X86_64;
	head->e_phoff = sizeof(*head);
	head->e_phentsize = sizeof(Elf64_Phdr);
	head->e_phnum = 2;
	memcpy(at, &other, sizeof(other)); /* somebody else's, padded to 8 */
	memcpy(at + 12, "GNU", 4);
	memcpy(at + 24, &note, sizeof(note));
	memcpy(at + 36, "Xen", 4);
	memcpy(at + 40, &entry, sizeof(entry));
	*kernelfile_segment(file, 0) = (Elf64_Phdr){
		.p_type = PT_NOTE, .p_offset = KERNELFILE_NOTES, .p_filesz = 44, .p_memsz = 44
	};
	*kernelfile_segment(file, 1) = (Elf64_Phdr){ .p_type = PT_LOAD,
						     .p_offset = KERNELFILE_ELF_HEAD,
						     .p_paddr = KERNELFILE_LOAD,
						     .p_filesz = bytes,
						     .p_memsz = bytes + 4096 };
	memcpy(file + KERNELFILE_ELF_HEAD, payload, bytes);
	return KERNELFILE_ELF_HEAD + bytes;
}

/* The file as a descriptor. */
static inline int kernelfile_open(const void *file, size_t bytes)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	if (fd < 0 || write(fd, file, bytes) != (ssize_t)bytes)
		abort();
	return fd;
}

#endif
