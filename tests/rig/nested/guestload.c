/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guestload: the load that runs in the guest of `make demo`, a static program so that the guest's
 * initial file system needs no libraries for it.
 *
 *   guestload run DIRS SECONDS WRITERS HAMMERS [DEVICE]   until DEVICE begins with "stop", or SECONDS
 *   guestload check DIR                          verifies what a run left behind
 *   guestload memory MIB FILE                    fills so much memory, writes and reads FILE from there;
 *                                                high_kib of that lay above 4 GiB
 *
 * DIRS are folders with commas between, each on a disk of its own: workers take them in turn.
 *
 * Theory of operation.  Every file describes its own content: each 4 KiB block carries the writer,
 * the round, its own number and the number of blocks, and the rest of it follows from those.  So a
 * block that was lost, torn, misplaced, or is from an earlier round, shows when it is read.  Writers
 * write a file, fsync it, read it back from the disk (O_DIRECT; one in four buffered, then with the
 * caches dropped), compare each byte, and keep the last two files.
 *
 * Making and comparing content costs this side more than the disk, so writers alone leave the disk
 * idle most of the time.  Hammers keep it busy: each overwrites a file of 1 MiB at once and at once
 * again, from memory in which only the round, in each sector, changes; every 16th is read back and
 * compared.  They go before the writers (nice), so that the next write follows the last.
 * Further processes read /dev/hwrng and write numbered lines to the console and the serial port,
 * which the host checks for gaps.
 *
 * The last line is `files=.. bytes=.. verified=.. errors=.. hammered=.. rng_bytes=.. ticks=.. slowest_ms=..`;
 * bytes and verified are the writers', slowest_ms is of the write of a hammer that took longest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rig/nested/guestblock.h"
#include "tests/rig/nested/guestmemory.h"

#define FILE_BLOCKS 256u /* the largest file */
#define HAMMER_BLOCKS 256u
#define HAMMER_VERIFY 16 /* every so many rounds */
#define SECTOR_WORDS 64u
#define WORKERS_MAX 64
#define OTHERS 3u /* workers that use other devices */
#define DIR_BYTES 256
#define RNG_BYTES 512
#define RNG_PAUSE_MS 20
#define CONSOLE_PAUSE_MS 100
#define SERIAL_PAUSE_MS 500

struct counters { /* of one worker; in memory shared with the parent */
	uint64_t files, bytes, verified, errors, hammered, rng_bytes, ticks, slowest_ms;
};

struct shared {
	volatile int stop;
	struct counters workers[WORKERS_MAX];
};

struct worker {
	struct shared *shared;
	struct counters *count;
	char dir[DIR_BYTES];
	unsigned int number;
};

static void complain(struct counters *count, const char *what, const char *path, int err)
{
	count->errors++;
	printf("guestload: %s %s: %s\n", what, path, err ? strerror(err) : "wrong content");
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(unsigned int ms)
{
	const struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- writers ---- */

struct job {
	char path[512];
	uint64_t round;
	unsigned int blocks;
	bool direct;
};

/* Pieces of differing size, so that requests differ. */
static unsigned int piece(const struct job *job, unsigned int at)
{
	const unsigned int want = (unsigned int)(mix(job->round * 1000 + at) % CHUNK_BLOCKS) + 1;

	return want < job->blocks - at ? want : job->blocks - at;
}

static int file_write(struct worker *w, const struct job *job, struct block *buffer)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | (job->direct ? O_DIRECT : 0);
	const int fd = open(job->path, flags, 0600);
	int ret = fd < 0 ? errno : 0;
	unsigned int n;

	for (unsigned int at = 0; at < job->blocks && ret == 0; at += n) {
		n = piece(job, at);
		for (unsigned int i = 0; i < n; i++)
			block_make(&buffer[i], w->number, job->round, at + i, job->blocks);
		ret = transferred(pwrite(fd, buffer, n * BLOCK, (off_t)at * BLOCK), n);
		w->count->bytes += n * BLOCK;
	}
	if (ret == 0 && fsync(fd) != 0)
		ret = errno;
	if (fd >= 0 && close(fd) != 0 && ret == 0)
		ret = errno;
	return ret;
}

static void drop_caches(int fd)
{
	const int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (caches < 0 || write(caches, "1", 1) != 1)
		printf("guestload: caches are not dropped: %s\n", strerror(errno));
	if (caches >= 0)
		close(caches);
}

static int file_verify(struct worker *w, const struct job *job, struct block *buffer)
{
	const int fd = open(job->path, O_RDONLY | (job->direct ? O_DIRECT : 0));
	int ret = fd < 0 ? errno : 0;
	unsigned int n;

	if (ret == 0 && !job->direct)
		drop_caches(fd);
	for (unsigned int at = 0; at < job->blocks && ret == 0; at += n) {
		n = piece(job, at);
		ret = transferred(pread(fd, buffer, n * BLOCK, (off_t)at * BLOCK), n);
		for (unsigned int i = 0; i < n && ret == 0; i++) {
			if (!block_holds(&buffer[i], w->number, job->round, at + i, job->blocks))
				complain(w->count, "verify", job->path, 0);
			else
				w->count->verified += BLOCK;
		}
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

static void writer_round(struct worker *w, uint64_t round, struct block *buffer)
{
	struct job job = {
		.round = round,
		.blocks = (unsigned int)(mix(w->number * 7919 + round) % FILE_BLOCKS) + 1,
		.direct = (w->number + round) % 4 != 0,
	};
	int ret;

	snprintf(job.path, sizeof(job.path), "%s/w%u.%" PRIu64, w->dir, w->number, round);
	ret = file_write(w, &job, buffer);
	if (ret != 0)
		complain(w->count, "write", job.path, ret);
	else if ((ret = file_verify(w, &job, buffer)) != 0)
		complain(w->count, "read", job.path, ret);
	w->count->files++;
	if (round < 3)
		return;
	snprintf(job.path, sizeof(job.path), "%s/w%u.%" PRIu64, w->dir, w->number, round - 2);
	if (unlink(job.path) != 0)
		complain(w->count, "unlink", job.path, errno);
}

static void writer_main(struct worker *w)
{
	struct block *buffer = buffer_make(CHUNK_BLOCKS);

	for (uint64_t round = 1; !w->shared->stop && w->count->errors < 20; round++)
		writer_round(w, round, buffer);
}

/* ---- hammers ---- */

/* The round stands in the last word of each sector. */
static void hammer_stamp(struct block *buffer, uint64_t round)
{
	uint64_t *words = (uint64_t *)(void *)buffer;

	for (size_t i = SECTOR_WORDS - 1; i < HAMMER_BLOCKS * BLOCK / 8; i += SECTOR_WORDS)
		words[i] = round;
}

/* What hammer n has written in its last round. */
static struct block *hammer_content(uint64_t n)
{
	struct block *buffer = buffer_make(HAMMER_BLOCKS);

	for (unsigned int i = 0; i < HAMMER_BLOCKS; i++)
		block_make(&buffer[i], n, 0, i, HAMMER_BLOCKS);
	return buffer;
}

/* The file holds one round, the one given (0: any), and nothing else. */
static void hammer_verify(struct worker *w, const char *path, struct block *want, uint64_t round)
{
	static struct block *got;
	const int fd = open(path, O_RDONLY | O_DIRECT);
	int ret;

	if (got == NULL)
		got = buffer_make(HAMMER_BLOCKS);
	ret = fd < 0 ? errno : transferred(pread(fd, got, HAMMER_BLOCKS * BLOCK, 0), HAMMER_BLOCKS);
	if (fd >= 0)
		close(fd);
	if (round == 0)
		hammer_stamp(want, ((const uint64_t *)(const void *)got)[SECTOR_WORDS - 1]);
	if (ret != 0 || memcmp(got, want, HAMMER_BLOCKS * BLOCK) != 0)
		complain(w->count, "verify", path, ret);
}

/* 0 or an error number. */
static int hammer_write(struct counters *count, int fd, const struct block *buffer)
{
	const uint64_t begun = now_ms();
	const int ret = transferred(pwrite(fd, buffer, HAMMER_BLOCKS * BLOCK, 0), HAMMER_BLOCKS);
	const uint64_t took = now_ms() - begun;

	count->hammered += HAMMER_BLOCKS * BLOCK;
	if (took > count->slowest_ms)
		count->slowest_ms = took;
	return ret;
}

static void hammer_main(struct worker *w)
{
	struct block *buffer = hammer_content(w->number);
	char path[512];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/h%u", w->dir, w->number);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	if (fd < 0)
		ret = errno;
	for (uint64_t round = 1; ret == 0 && (!w->shared->stop || round == 1); round++) {
		hammer_stamp(buffer, round);
		ret = hammer_write(w->count, fd, buffer);
		if (round % HAMMER_VERIFY == 0)
			hammer_verify(w, path, buffer, round);
	}
	if (ret != 0)
		complain(w->count, "hammer", path, ret);
	if (fd >= 0)
		close(fd);
}

/* ---- the other devices ---- */

static void rng_main(struct worker *w)
{
	uint8_t bytes[RNG_BYTES], before[RNG_BYTES] = { 0 };
	const int fd = open("/dev/hwrng", O_RDONLY);

	if (fd < 0)
		complain(w->count, "open", "/dev/hwrng", errno);
	while (fd >= 0 && !w->shared->stop) {
		const ssize_t n = read(fd, bytes, sizeof(bytes));

		if (n <= 0) {
			complain(w->count, "read", "/dev/hwrng", n < 0 ? errno : EIO);
			break;
		}
		/* 16 equal bytes by chance would be the first in the life of the universe. */
		if (n >= 16 && memcmp(bytes, before, 16) == 0)
			complain(w->count, "read", "/dev/hwrng", 0);
		memcpy(before, bytes, (size_t)n);
		w->count->rng_bytes += (uint64_t)n;
		pause_ms(RNG_PAUSE_MS);
	}
}

/* Lines `tick NAME N CHECK`: whoever reads them sees a gap, a repetition, or a garbled one. */
static void ticker(struct worker *w, const char *path, const char *name, unsigned int ms)
{
	const int fd = open(path, O_WRONLY | O_NOCTTY);
	char line[64];

	if (fd < 0)
		complain(w->count, "open", path, errno);
	for (uint64_t n = 1; fd >= 0 && !w->shared->stop; n++) {
		const int length = snprintf(line, sizeof(line), "tick %s %" PRIu64 " %04x\n", name,
					    n, (unsigned int)(n * 40503 % 65536));

		if (write(fd, line, (size_t)length) != length) {
			complain(w->count, "write", path, errno);
			break;
		}
		w->count->ticks++;
		pause_ms(ms);
	}
}

static void console_main(struct worker *w)
{
	ticker(w, "/dev/hvc0", "console", CONSOLE_PAUSE_MS);
}

static void serial_main(struct worker *w)
{
	ticker(w, "/dev/ttyS0", "serial", SERIAL_PAUSE_MS);
}

/* ---- run ---- */

static pid_t start(void (*body)(struct worker *), struct worker *w)
{
	const int niceness = body == hammer_main ? -10 : body == writer_main ? 10 : 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid != 0)
		return pid;
	if (setpriority(PRIO_PROCESS, 0, niceness) != 0)
		complain(w->count, "setpriority", w->dir, errno);
	body(w);
	fflush(stdout);
	_exit(0);
}

/* The first bytes of a disk that the host writes to; past every cache. */
static bool told_to_stop(int fd, struct block *buffer)
{
	return fd >= 0 && pread(fd, buffer, BLOCK, 0) == BLOCK && memcmp(buffer, "stop", 4) == 0;
}

static void wait_for_end(struct shared *s, const char *device, unsigned int seconds,
			 unsigned int writers)
{
	const time_t end = time(NULL) + (time_t)seconds;
	const int fd = device != NULL ? open(device, O_RDONLY | O_DIRECT) : -1;
	struct block *buffer = buffer_make(CHUNK_BLOCKS);
	bool told = false;

	if (device != NULL && fd < 0)
		complain(&s->workers[WORKERS_MAX - 1], "open", device, errno);
	while (time(NULL) < end && !told_to_stop(fd, buffer)) {
		unsigned int running = 0;

		pause_ms(200);
		for (unsigned int i = 0; i < writers; i++)
			running += s->workers[i].files > 0;
		if (!told && running == writers)
			printf("DEMO-GUEST: load runs, %u writers\n", writers);
		told |= running == writers;
		fflush(stdout);
	}
	s->stop = 1;
	if (fd >= 0)
		close(fd);
}

static int summary(const struct shared *s)
{
	struct counters sum = { 0 };

	for (unsigned int i = 0; i < WORKERS_MAX; i++) {
		const struct counters *c = &s->workers[i];

		sum.files += c->files;
		sum.bytes += c->bytes;
		sum.verified += c->verified;
		sum.errors += c->errors;
		sum.hammered += c->hammered;
		sum.rng_bytes += c->rng_bytes;
		sum.ticks += c->ticks;
		if (c->slowest_ms > sum.slowest_ms)
			sum.slowest_ms = c->slowest_ms;
	}
	printf("files=%" PRIu64 " bytes=%" PRIu64 " verified=%" PRIu64 " errors=%" PRIu64
	       " hammered=%" PRIu64 " rng_bytes=%" PRIu64 " ticks=%" PRIu64 " slowest_ms=%" PRIu64
	       "\n",
	       sum.files, sum.bytes, sum.verified, sum.errors, sum.hammered, sum.rng_bytes,
	       sum.ticks, sum.slowest_ms);
	return sum.errors != 0;
}

/* The one of the folders (commas between) that is the turn of worker n. */
static void take_dir(char *dir, const char *dirs, unsigned int n)
{
	unsigned int count = 1;

	for (const char *p = dirs; *p != '\0'; p++)
		count += *p == ',';
	for (n %= count; n > 0; n--)
		dirs = strchr(dirs, ',') + 1;
	snprintf(dir, DIR_BYTES, "%.*s", (int)strcspn(dirs, ","), dirs);
}

static unsigned int start_all(struct shared *s, const char *dirs, unsigned int writers,
			      unsigned int hammers, pid_t *pids)
{
	static void (*const others[OTHERS])(struct worker *) = { rng_main, console_main,
								 serial_main };
	const unsigned int all = writers + hammers + OTHERS;

	for (unsigned int i = 0; i < all; i++) {
		struct worker w = { .shared = s, .count = &s->workers[i], .number = i };

		take_dir(w.dir, dirs, i);
		if (i < writers)
			pids[i] = start(writer_main, &w);
		else
			pids[i] = start(i < writers + hammers ? hammer_main
							      : others[i - writers - hammers],
					&w);
		if (pids[i] < 0)
			complain(w.count, "start", "a worker", errno);
	}
	return all;
}

static int run(char **argv)
{
	const unsigned int seconds = (unsigned int)strtoul(argv[1], NULL, 10);
	const unsigned int writers = (unsigned int)strtoul(argv[2], NULL, 10);
	const unsigned int hammers = (unsigned int)strtoul(argv[3], NULL, 10);
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[WORKERS_MAX];
	unsigned int all;

	if (s == MAP_FAILED || writers == 0 || writers + hammers > WORKERS_MAX - OTHERS ||
	    writers > WORKERS_MAX || hammers > WORKERS_MAX) {
		fprintf(stderr, "guestload: 1 to %u writers and hammers, not %u and %u\n",
			WORKERS_MAX - OTHERS, writers, hammers);
		return 2;
	}
	all = start_all(s, argv[0], writers, hammers, pids);
	wait_for_end(s, argv[4], seconds, writers);
	for (unsigned int i = 0; i < all; i++) {
		int status = 0;

		if (pids[i] > 0 && (waitpid(pids[i], &status, 0) < 0 || status != 0))
			complain(&s->workers[i], "wait for", "a worker", ECHILD);
	}
	return summary(s);
}

/* ---- check ---- */

static void check_hammered(struct worker *w, const char *name)
{
	char path[512];

	if (sscanf(name, "h%u", &w->number) != 1)
		return;
	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	hammer_verify(w, path, hammer_content(w->number), 0);
	w->count->files++;
}

/* Whose file it is, is in its name; how long it is, in its first block. */
static void check_file(struct worker *w, const char *name, struct block *buffer)
{
	struct job job = { .direct = true };
	int fd;

	if (sscanf(name, "w%u.%" SCNu64, &w->number, &job.round) != 2)
		return;
	snprintf(job.path, sizeof(job.path), "%s/%s", w->dir, name);
	fd = open(job.path, O_RDONLY | O_DIRECT);
	if (fd < 0 || pread(fd, buffer, BLOCK, 0) != BLOCK || buffer->blocks == 0 ||
	    buffer->blocks > FILE_BLOCKS)
		complain(w->count, "check", job.path, 0);
	else
		job.blocks = (unsigned int)buffer->blocks;
	if (fd >= 0)
		close(fd);
	const int ret = job.blocks != 0 ? file_verify(w, &job, buffer) : 0;

	if (ret != 0)
		complain(w->count, "read", job.path, ret);
	w->count->files++;
}

static int check(const char *path)
{
	static struct shared s;
	struct worker w = { .shared = &s, .count = &s.workers[0] };
	struct block *buffer = buffer_make(CHUNK_BLOCKS);
	DIR *dir = opendir(path);
	const struct dirent *entry;

	snprintf(w.dir, sizeof(w.dir), "%s", path);
	if (dir == NULL) {
		complain(w.count, "open", path, errno);
		return summary(&s);
	}
	while ((entry = readdir(dir)) != NULL) {
		check_file(&w, entry->d_name, buffer);
		check_hammered(&w, entry->d_name);
	}
	closedir(dir);
	return summary(&s);
}

int main(int argc, char **argv)
{
	if ((argc == 6 || argc == 7) && strcmp(argv[1], "run") == 0)
		return run(argv + 2);
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return check(argv[2]);
	if (argc == 4 && strcmp(argv[1], "memory") == 0)
		return guestmemory((unsigned int)atoi(argv[2]), argv[3]);
	fprintf(stderr, "usage: guestload run DIRS SECONDS WRITERS HAMMERS [DEVICE] | check DIR | "
			"memory MIB FILE\n");
	return 2;
}
