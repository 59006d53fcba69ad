/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/footprint.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"

/* The fields of struct footprint, which is an array of numbers to all but its users. */
static const char *const lines[] = {
#define FOOTPRINT_LINE(name, line) line,
	FOOTPRINT_FIELDS(FOOTPRINT_LINE)
#undef FOOTPRINT_LINE
};

#define FIELDS (sizeof(struct footprint) / sizeof(int64_t))

_Static_assert(FIELDS == ARRAY_SIZE(lines), "one line a field");

static int64_t *field(struct footprint *f, size_t i)
{
	return (int64_t *)f + i;
}

/* The number on the line "NAME: N kB" of a file, or -1. */
static int64_t read_line(const char *path, const char *name)
{
	const size_t length = strlen(name);
	FILE *file = fopen(path, "re");
	char line[256];
	int64_t value = -1;

	while (file != NULL && value < 0 && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, name, length) == 0 && line[length] == ':' &&
		    sscanf(line + length + 1, "%" SCNd64, &value) != 1)
			value = -1;
	}
	if (file != NULL)
		fclose(file);
	return value;
}

int footprint_read(struct footprint *now)
{
	for (size_t i = 0; i < FIELDS; i++) {
		*field(now, i) = read_line("/proc/meminfo", lines[i]);
		if (*field(now, i) < 0)
			return -EIO;
	}
	return 0;
}

struct footprint footprint_minus(const struct footprint *a, const struct footprint *b)
{
	struct footprint left = *a, right = *b;

	for (size_t i = 0; i < FIELDS; i++)
		*field(&left, i) -= *field(&right, i);
	return left;
}

int64_t footprint_private(const struct footprint *f)
{
	return f->anon + f->stack + f->slab;
}

static size_t sort_by; /* field; qsort has no argument to pass it in */

static int compare(const void *a, const void *b)
{
	const int64_t x = ((const int64_t *)a)[sort_by], y = ((const int64_t *)b)[sort_by];

	return (x > y) - (x < y);
}

struct footprint footprint_median(struct footprint *samples, uint32_t count)
{
	struct footprint median = { 0 };

	for (sort_by = 0; sort_by < FIELDS && count != 0; sort_by++) {
		qsort(samples, count, sizeof(*samples), compare);
		*field(&median, sort_by) = *field(&samples[count / 2], sort_by);
	}
	return median;
}

int64_t footprint_status(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid != 0 ? pid : getpid());
	return read_line(path, name);
}

int64_t footprint_text(pid_t pid)
{
	char path[64];
	Elf64_Ehdr header;
	int64_t bytes = 0;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return -1;
	for (uint32_t i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr ph;
		const off_t at = (off_t)(header.e_phoff + i * sizeof(ph));

		if (pread(fd, &ph, sizeof(ph), at) != sizeof(ph))
			return -1;
		if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X))
			bytes += (int64_t)ph.p_memsz;
	}
	return bytes;
}
