/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a kernel file, into guest memory with nothing mapped around it.  What is accepted must
 * leave kernel, initrd and entry point in RAM and apart from each other; what is refused must say why.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/machine/boot.h"
#include "core/machine/layout.h"
#include "tests/fuzz/fuzz.h"

#define MEMORY_BYTES (4ull << 20)
#define GUARD_BYTES 4096
#define INITRD_BYTES 5000
#define CMDLINE "console=ttyS0"

static struct memmap mm;
static int kernel, initrd;

static void set_up(void)
{
	static const uint8_t content[INITRD_BYTES];
	uint8_t *raw = mmap(NULL, MEMORY_BYTES + 2 * GUARD_BYTES, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FUZZ_CHECK(raw != MAP_FAILED);
	raw += GUARD_BYTES;
	FUZZ_CHECK(mprotect(raw, MEMORY_BYTES, PROT_READ | PROT_WRITE) == 0);
	mm.boot.count = 1;
	mm.boot.regions[0] = (struct mem_region){ 0, MEMORY_BYTES, (uint64_t)(uintptr_t)raw };
	kernel = memfd_create("kernel", MFD_CLOEXEC);
	initrd = memfd_create("initrd", MFD_CLOEXEC);
	FUZZ_CHECK(kernel >= 0 && initrd >= 0);
	FUZZ_CHECK(write(initrd, content, sizeof(content)) == sizeof(content));
}

static void check_accepted(const struct boot_entry *entry)
{
	const uint64_t least = entry->protocol == BOOT_PVH ? entry->kernel : LAYOUT_KERNEL;

	FUZZ_CHECK(entry->kernel >= LAYOUT_KERNEL && entry->kernel < entry->kernel_end);
	FUZZ_CHECK(entry->kernel_end <= MEMORY_BYTES);
	FUZZ_CHECK(entry->rip >= least && entry->rip < entry->kernel_end);
	FUZZ_CHECK(entry->initrd % 4096 == 0 && entry->initrd >= entry->kernel_end);
	FUZZ_CHECK(entry->initrd_end == entry->initrd + INITRD_BYTES);
	FUZZ_CHECK(entry->initrd_end <= MEMORY_BYTES);
	FUZZ_CHECK(entry->info == LAYOUT_BOOT_PARAMS);
	FUZZ_CHECK(strcmp(memmap_at(&mm, LAYOUT_CMDLINE, 4096), CMDLINE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_config config = { .cmdline = CMDLINE, .rsdp = LAYOUT_ACPI };
	struct boot_entry entry;
	const char *what;

	if (mm.boot.count == 0)
		set_up();
	FUZZ_CHECK(ftruncate(kernel, 0) == 0);
	FUZZ_CHECK(pwrite(kernel, data, size, 0) == (ssize_t)size);
	config.kernel = kernel;
	config.initrd = initrd;
	const int ret = boot_load(&mm, &config, &entry, &what);

	if (ret == 0) {
		check_accepted(&entry);
		return 0;
	}
	FUZZ_CHECK(ret == -ENOEXEC || ret == -ENOMEM || ret == -E2BIG);
	FUZZ_CHECK(what[0] != '\0');
	return 0;
}
