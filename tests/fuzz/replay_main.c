/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A main() for a fuzz target without libFuzzer: gives it each file of the directories named on the
 * command line, once.  So the inputs that were worth keeping are tried by every compiler and in
 * every `make check`.  A crash is the failure; no input at all is one too, since then nothing was
 * tried.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

/* Reads the whole file into a buffer of exactly its size, so that ASan sees a read past it. */
static uint8_t *replay_read(int fd, size_t size)
{
	uint8_t *data = malloc(size ? size : 1);
	size_t got = 0;

	while (data && got < size) {
		ssize_t n = read(fd, data + got, size - got);

		if (n <= 0) {
			free(data);
			return NULL;
		}
		got += (size_t)n;
	}
	return data;
}

/* 1: an input was tried; 0: not a regular file; -1: could not be read. */
static int replay_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int ret = -1;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0) {
		ret = 0;
		if (S_ISREG(st.st_mode)) {
			uint8_t *data = replay_read(fd, (size_t)st.st_size);

			ret = data ? 1 : -1;
			if (data)
				LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
			free(data);
		}
	}
	close(fd);
	return ret;
}

/* How many inputs the directory had; -1: something in it could not be read. */
static long replay_dir(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	long count = 0;

	if (!dir) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((entry = readdir(dir))) {
		int ret = replay_file(dirfd(dir), entry->d_name);

		if (ret < 0) {
			fprintf(stderr, "replay: %s/%s: unreadable\n", path, entry->d_name);
			count = -1;
			break;
		}
		count += ret;
	}
	closedir(dir);
	return count;
}

/* "build/fuzz/replay_codec" is "codec". */
static const char *replay_name(const char *argv0)
{
	const char *base = strrchr(argv0, '/');
	const char *name = strstr(base ? base : argv0, "replay_");

	return name ? name + strlen("replay_") : argv0;
}

int main(int argc, char **argv)
{
	bool failed = false;
	long total = 0;

	for (int i = 1; i < argc; i++) {
		long count = replay_dir(argv[i]);

		failed |= count < 0;
		total += count < 0 ? 0 : count;
	}
	printf("replay %s: %ld inputs\n", replay_name(argv[0]), total);
	return failed || total == 0;
}
