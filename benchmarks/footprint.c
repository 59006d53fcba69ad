/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/footprint.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

int footprint_others(struct footprint *now)
{
	const int64_t own = footprint_status(0, "RssAnon");

	if (own < 0 || footprint_read(now) != 0)
		return -EIO;
	now->anon -= own;
	return 0;
}

struct footprint footprint_minus(const struct footprint *a, const struct footprint *b)
{
	struct footprint left = *a, right = *b;

	for (size_t i = 0; i < FIELDS; i++)
		*field(&left, i) -= *field(&right, i);
	return left;
}

struct footprint footprint_divided(struct footprint f, uint32_t by)
{
	for (size_t i = 0; i < FIELDS; i++)
		*field(&f, i) /= by;
	return f;
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

/* ---- maps ---- */

/* What smaps says of one mapping. */
struct mapping {
	struct footprint_file file;
	uint64_t offset;
	int64_t rss, pss, anon;
	char name[128];
};

/* "5590-5591 r-xp 00001000 fd:01 4711      /usr/bin/x", or false: another line. */
static bool map_begins(const char *line, struct mapping *map)
{
	uint64_t from, to, offset, inode;
	uint32_t major, minor;
	int name = 0;

	if (sscanf(line,
		   "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %" SCNx32 ":%" SCNx32 " %" SCNu64
		   " %n",
		   &from, &to, &offset, &major, &minor, &inode, &name) != 6)
		return false;
	*map = (struct mapping){ .file = { makedev(major, minor), inode }, .offset = offset };
	snprintf(map->name, sizeof(map->name), "%.*s", (int)strcspn(line + name, "\n"),
		 line + name);
	return true;
}

static void map_says(const char *line, struct mapping *map)
{
	sscanf(line, "Rss: %" SCNd64, &map->rss);
	sscanf(line, "Pss: %" SCNd64, &map->pss);
	sscanf(line, "Anonymous: %" SCNd64, &map->anon);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool same_file(const struct footprint_file *a, const struct footprint_file *b)
{
	return a->device == b->device && a->inode == b->inode;
}

static int add_file(struct footprint_maps *maps, const struct mapping *map, bool program)
{
	const int64_t kib = map->rss - map->anon;
	struct footprint_span *s = maps->spans;

	while (s < maps->spans + maps->span_count &&
	       !(same_file(&s->file, &map->file) && s->offset == map->offset))
		s++;
	if (s == maps->spans + FOOTPRINT_SPANS_MAX)
		return -ENOSPC;
	if (s == maps->spans + maps->span_count) {
		*s = (struct footprint_span){ .file = map->file, .offset = map->offset };
		maps->span_count++;
	}
	s->program |= program;
	s->kib = kib > s->kib ? kib : s->kib;
	return 0;
}

/* What is anonymous is added by footprint_add(): only the sum of all maps has it in parts. */
static int add_mapping(struct footprint_maps *maps, const struct mapping *map,
		       struct footprint_file program)
{
	if (starts(map->name, "/memfd:guest"))
		maps->guest += map->pss;
	else if (starts(map->name, "/memfd:") || starts(map->name, "anon_inode:"))
		maps->shared += map->pss;
	else if (map->name[0] == '/')
		return add_file(maps, map, same_file(&map->file, &program));
	return 0;
}

int footprint_add_smaps(struct footprint_maps *maps, FILE *smaps, struct footprint_file program)
{
	struct mapping map = { .name = "" }, next;
	bool any = false;
	char line[512];
	int ret = 0;

	while (ret == 0 && fgets(line, sizeof(line), smaps) != NULL) {
		if (!map_begins(line, &next)) {
			map_says(line, &map);
			continue;
		}
		ret = add_mapping(maps, &map, program);
		map = next;
		any = true;
	}
	if (ret != 0)
		return ret;
	return any ? add_mapping(maps, &map, program) : -EIO;
}

int footprint_add(struct footprint_maps *maps, pid_t pid)
{
	char path[64];
	struct stat exe;
	FILE *smaps;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	const int64_t anon = read_line(path, "Pss_Anon"), tables = footprint_status(pid, "VmPTE"),
		      threads = footprint_status(pid, "Threads");

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (stat(path, &exe) != 0)
		return -errno;
	if (anon < 0 || tables < 0 || threads < 0)
		return -EIO;
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	smaps = fopen(path, "re");
	if (smaps == NULL)
		return -errno;
	ret = footprint_add_smaps(maps, smaps, (struct footprint_file){ exe.st_dev, exe.st_ino });
	fclose(smaps);
	maps->anon += anon;
	maps->tables += tables;
	maps->threads += (uint32_t)threads;
	maps->processes++;
	return ret;
}

int64_t footprint_files(const struct footprint_maps *maps, bool program)
{
	int64_t kib = 0;

	for (uint32_t i = 0; i < maps->span_count; i++)
		kib += maps->spans[i].program == program ? maps->spans[i].kib : 0;
	return kib;
}

/* ---- one process ---- */

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
