/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  F_SEAL_WRITE is the proof: the kernel gives it only when there is no writable shared
 * mapping of the file in any process, and from then on allows no new one and no write (fcntl(2), since Linux
 * 3.17).  Every mapping of guest memory is one.  A hole cannot be punched after it, so the pages go first:
 * one that somebody touched in between shows in `blocks`, and in the seal being refused.
 *
 * What is read in /proc is for the eye, and for descriptors, which the seal says nothing of: a sandbox closes
 * those of regions before its seal.
 */
#include "hotplug/revoke.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/cc.h"

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_WRITE 8
#endif

static bool is_denied(void)
{
	return errno == EACCES || errno == EPERM;
}

/* What is looked for. */
struct sought {
	struct stat st;
	uint64_t from; /* offset in it: mappings that reach beyond */
	int fd; /* descriptors but for this one; -1: none are counted, nor mappings of our own */
};

/* A line of maps is: range, permissions, offset, MAJOR:MINOR, inode, path. */
static bool line_names(const char *line, const struct sought *s)
{
	uint64_t begin, end, offset, inode;
	unsigned int major, minor;

	return sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %x:%x %" SCNu64, &begin, &end,
		      &offset, &major, &minor, &inode) == 6 &&
	       inode == s->st.st_ino && major == major(s->st.st_dev) &&
	       minor == minor(s->st.st_dev) && offset + (end - begin) > s->from;
}

/* False: not to be looked into. */
static bool count_maps(int proc, const char *pid, const struct sought *s, uint32_t *count)
{
	char path[32];
	cleanup_free char *line = NULL;
	size_t room = 0;

	snprintf(path, sizeof(path), "%.16s/maps", pid);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	FILE *file = fd >= 0 ? fdopen(fd, "re") : NULL;

	if (file == NULL)
		return !is_denied();
	while (getline(&line, &room, file) > 0)
		*count += line_names(line, s);
	fclose(file);
	return true;
}

static bool count_fds(int proc, const char *pid, const struct sought *s, uint32_t *count)
{
	char path[32];
	const struct dirent *entry;
	struct stat other;
	const bool own = strtol(pid, NULL, 10) == getpid();

	snprintf(path, sizeof(path), "%.16s/fd", pid);
	const int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir == NULL)
		return !is_denied();
	while ((entry = readdir(dir)) != NULL) {
		if (own && strtol(entry->d_name, NULL, 10) == s->fd)
			continue;
		/* Follows the link, as opening it would: the file that the descriptor is of. */
		if (isdigit(entry->d_name[0]) && fstatat(dirfd(dir), entry->d_name, &other, 0) == 0)
			*count += other.st_ino == s->st.st_ino && other.st_dev == s->st.st_dev;
	}
	closedir(dir);
	return true;
}

static void look_into(int proc, const char *pid, const struct sought *s, struct revoke_proof *proof)
{
	if (s->fd < 0 && strtol(pid, NULL, 10) == getpid())
		return;
	const bool maps = count_maps(proc, pid, s, &proof->maps);
	const bool fds = s->fd < 0 || count_fds(proc, pid, s, &proof->fds);

	proof->hidden += !maps || !fds;
}

/* Threads share what their process has, and one that ends meanwhile has nothing. */
static int look_around(const struct sought *s, struct revoke_proof *proof)
{
	const struct dirent *entry;
	DIR *dir = opendir("/proc");

	if (dir == NULL)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		if (isdigit(entry->d_name[0]))
			look_into(dirfd(dir), entry->d_name, s, proof);
	}
	closedir(dir);
	return 0;
}

int revoke_region(int fd, struct revoke_proof *proof)
{
	struct sought s = { .fd = fd };

	*proof = (struct revoke_proof){ 0 };
	if (fstat(fd, &s.st) != 0)
		return -errno;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, s.st.st_size) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0 || fstat(fd, &s.st) != 0)
		return -errno;
	proof->sealed = true;
	proof->blocks = (uint64_t)s.st.st_blocks;
	return look_around(&s, proof);
}

int revoke_tail(int fd, uint64_t from, struct revoke_proof *proof)
{
	struct sought s = { .from = from, .fd = -1 };
	struct stat after;

	*proof = (struct revoke_proof){ 0 };
	if (fstat(fd, &s.st) != 0)
		return -errno;
	const off_t bytes = s.st.st_size - (off_t)from;

	if (bytes <= 0)
		return 0;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, bytes) != 0)
		return -errno;
	const int ret = look_around(&s, proof);

	/* A second time, after the look: it takes nothing from a file of which nobody has that part. */
	if (fstat(fd, &s.st) != 0 ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, bytes) != 0 ||
	    fstat(fd, &after) != 0)
		return -errno;
	proof->blocks = (uint64_t)(s.st.st_blocks - after.st_blocks);
	return ret;
}
