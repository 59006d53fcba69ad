/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The helper that everything slow is left to: it reads the stack of a box that is still there, and
 * writes to a disk that may be full, slow or gone.  Slots are a ring: the supervisor fills `head`, the
 * coroner works at `work`, the supervisor takes results at `tail`.
 *
 * A document appears whole or not at all: it is written under another name and renamed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "core/box/autopsy.h"
#include "core/cc.h"
#include "core/confine.h"
#include "core/log.h"

#define SLOTS 16
#define FOLDER "autopsies"
#define UNFINISHED ".unfinished"
#define NAME_BYTES (DEVICE_ID_MAX + 32)

struct slot {
	struct autopsy autopsy;
	int pid;
	int pidfd; /* a copy of our own; -1: no stack */
	bool read;
	enum coroner_result result;
};

struct coroner {
	pthread_t thread;
	pthread_mutex_t lock; /* head, work, tail, end; result and read of slots */
	pthread_cond_t more;
	uint64_t head, work, tail; /* tickets are head + 1 */
	bool end;
	int dir;
	bool complained; /* coroner's thread: that it cannot write was said */
	void (*told)(void *ctx);
	void *ctx;
	struct slot slots[SLOTS];
};

/* ---- the stack ---- */

/* The number may be another's by now: what was read counts only if the process was there afterwards
 * too, dead or alive, but not reaped. */
static void read_stack(struct slot *slot)
{
	struct autopsy *a = &slot->autopsy;
	const uint32_t n = autopsy_stack_span(a);
	const struct iovec to = { a->stack, n };
	const struct iovec from = { (void *)a->registers.rsp, n }; /* NOLINT(*int-to-ptr) */

	if (slot->pidfd < 0 || n == 0)
		return;
	const ssize_t got = process_vm_readv(slot->pid, &to, 1, &from, 1, 0);

	if (got > 0 && syscall(SYS_pidfd_send_signal, slot->pidfd, 0, NULL, 0) == 0)
		a->stack_bytes = (uint32_t)got;
}

/* ---- files ---- */

/* DEVICE-GENERATION.json; a device's name may have a dash too. */
static bool parse_name(const char *name, const char *device, uint64_t *generation)
{
	const size_t n = strlen(device);
	int used = 0;

	return strncmp(name, device, n) == 0 && name[n] == '-' && name[n + 1] >= '0' &&
	       name[n + 1] <= '9' &&
	       sscanf(name + n + 1, "%" SCNu64 ".json%n", generation, &used) == 1 && used != 0 &&
	       name[n + 1 + (size_t)used] == '\0';
}

static int open_folder(int dir)
{
	return openat(dir, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* By time: a VM that was started again in the same directory counts from 1 again. */
static bool is_older(const struct autopsy_entry *a, const struct autopsy_entry *b)
{
	return a->wall_ns != b->wall_ns ? a->wall_ns < b->wall_ns : a->generation < b->generation;
}

/* Into a sorted list of at most AUTOPSY_FILES_MAX the youngest of which stay; *dropped: which is left
 * out, if one is. */
static uint32_t insert(struct autopsy_entry *entries, uint32_t count,
		       const struct autopsy_entry *entry, struct autopsy_entry *dropped)
{
	uint32_t i = count;

	while (i > 0 && is_older(entry, &entries[i - 1]))
		i--;
	if (count < AUTOPSY_FILES_MAX) {
		memmove(&entries[i + 1], &entries[i], (count - i) * sizeof(*entries));
		entries[i] = *entry;
		return count + 1;
	}
	*dropped = i == 0 ? *entry : entries[0];
	if (i > 0) {
		memmove(&entries[0], &entries[1], (i - 1) * sizeof(*entries));
		entries[i - 1] = *entry;
	}
	return count;
}

static void file_name(char name[NAME_BYTES], const char *device, uint64_t generation)
{
	snprintf(name, NAME_BYTES, "%.*s-%" PRIu64 ".json", DEVICE_ID_MAX, device, generation);
}

/* What is there of a device; tidy: what is beyond the bound goes. */
static uint32_t look_through(int folder, const char *device, struct autopsy_entry *entries,
			     bool tidy)
{
	/* Of its own: the position of a directory belongs to the open file. */
	const int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *file;
	uint32_t count = 0;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((file = readdir(dir)) != NULL) {
		struct autopsy_entry entry, dropped = { 0 };
		char name[NAME_BYTES];
		struct stat st;

		if (!parse_name(file->d_name, device, &entry.generation) ||
		    fstatat(folder, file->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		entry.wall_ns =
			(uint64_t)st.st_mtim.tv_sec * NS_PER_S + (uint64_t)st.st_mtim.tv_nsec;
		entry.bytes = (uint64_t)st.st_size;
		count = insert(entries, count, &entry, &dropped);
		file_name(name, device, dropped.generation);
		if (tidy && dropped.generation != 0)
			unlinkat(folder, name, 0);
	}
	closedir(dir);
	return count;
}

static int write_whole(int folder, const char *text, size_t bytes)
{
	cleanup_fd int fd = openat(folder, UNFINISHED,
				   O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, bytes);
	if (n != (ssize_t)bytes)
		return n < 0 ? -errno : -ENOSPC;
	return fsync(fd) == 0 ? 0 : -errno;
}

/* 0 or -errno; nothing half-written stays. */
static int keep(int dir, const struct autopsy *a)
{
	struct autopsy_entry entries[AUTOPSY_FILES_MAX];
	char text[AUTOPSY_BYTES_MAX], name[NAME_BYTES];
	const size_t bytes = autopsy_format(a, text, sizeof(text));
	int ret;

	if (bytes == 0)
		return -EFBIG;
	if (mkdirat(dir, FOLDER, 0700) != 0 && errno != EEXIST)
		return -errno;
	cleanup_fd int folder = open_folder(dir);

	if (folder < 0)
		return -errno;
	ret = write_whole(folder, text, bytes);
	file_name(name, a->device, a->generation);
	if (ret == 0 && renameat(folder, UNFINISHED, folder, name) != 0)
		ret = -errno;
	if (ret != 0)
		unlinkat(folder, UNFINISHED, 0);
	look_through(folder, a->device, entries, true);
	return ret;
}

/* ---- the thread ---- */

/* One line when it begins, not one for each. */
static void complain(struct coroner *c, const struct autopsy *a, int ret)
{
	if (ret != 0 && !c->complained)
		log_warn("%s: an autopsy cannot be written, those that follow are only counted: %s",
			 a->device, strerror(-ret));
	c->complained = ret != 0;
}

static void examine(struct coroner *c, struct slot *slot)
{
	int ret;

	read_stack(slot);
	cc_close(&slot->pidfd);
	pthread_mutex_lock(&c->lock);
	slot->read = true;
	pthread_mutex_unlock(&c->lock);
	c->told(c->ctx);
	ret = keep(c->dir, &slot->autopsy);
	complain(c, &slot->autopsy, ret);
	pthread_mutex_lock(&c->lock);
	slot->result = ret == 0 ? CORONER_WRITTEN : CORONER_FAILED;
	c->work++;
	pthread_mutex_unlock(&c->lock);
	c->told(c->ctx);
}

static void *coroner_main(void *arg)
{
	struct coroner *c = arg;

	confine_thread(CONFINE_CORONER);
	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (c->work == c->head && !c->end)
			pthread_cond_wait(&c->more, &c->lock);
		if (c->work == c->head)
			break;
		struct slot *slot = &c->slots[c->work % SLOTS];

		pthread_mutex_unlock(&c->lock);
		examine(c, slot);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int coroner_start(struct coroner **out, int dir, void (*told)(void *ctx), void *ctx)
{
	struct coroner *c = calloc(1, sizeof(*c));
	int ret;

	if (c == NULL)
		return -ENOMEM;
	c->dir = dir;
	c->told = told;
	c->ctx = ctx;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	ret = -pthread_create(&c->thread, NULL, coroner_main, c);
	if (ret == 0) {
		*out = c;
		return 0;
	}
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return ret;
}

void coroner_stop(struct coroner *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->end = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- the supervisor's side ---- */

uint64_t coroner_submit(struct coroner *c, const struct autopsy *a, int pid, int pidfd)
{
	cleanup_fd int copy = pidfd < 0 ? -1 : fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
	uint64_t ticket = 0;

	if (pidfd >= 0 && copy < 0)
		return 0;
	pthread_mutex_lock(&c->lock);
	if (c->head - c->tail < SLOTS) {
		struct slot *slot = &c->slots[c->head % SLOTS];

		slot->autopsy = *a;
		slot->pid = pid;
		slot->pidfd = cc_take_fd(&copy);
		slot->read = false;
		slot->result = CORONER_PENDING;
		ticket = ++c->head;
		pthread_cond_signal(&c->more);
	}
	pthread_mutex_unlock(&c->lock);
	return ticket;
}

bool coroner_has_read(struct coroner *c, uint64_t ticket)
{
	pthread_mutex_lock(&c->lock);
	const bool read = ticket <= c->work || c->slots[(ticket - 1) % SLOTS].read;

	pthread_mutex_unlock(&c->lock);
	return read;
}

enum coroner_result coroner_next(struct coroner *c, char device[DEVICE_ID_MAX + 1],
				 uint64_t *generation)
{
	enum coroner_result result = CORONER_PENDING;

	pthread_mutex_lock(&c->lock);
	if (c->tail != c->work) {
		const struct slot *slot = &c->slots[c->tail++ % SLOTS];

		result = slot->result;
		memcpy(device, slot->autopsy.device, DEVICE_ID_MAX + 1);
		*generation = slot->autopsy.generation;
	}
	pthread_mutex_unlock(&c->lock);
	return result;
}

/* ---- what is kept ---- */

uint32_t coroner_list(int dir, const char *device, struct autopsy_entry *entries)
{
	cleanup_fd int folder = open_folder(dir);

	return folder < 0 ? 0 : look_through(folder, device, entries, false);
}

int coroner_read(int dir, const char *device, uint64_t generation, char out[AUTOPSY_BYTES_MAX])
{
	cleanup_fd int folder = open_folder(dir);
	char name[NAME_BYTES];

	if (folder < 0)
		return -errno;
	file_name(name, device, generation);
	cleanup_fd int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	const ssize_t n = read(fd, out, AUTOPSY_BYTES_MAX);

	return n < 0 ? -errno : (int)n;
}
