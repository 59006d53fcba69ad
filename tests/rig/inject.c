/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trap is one byte, written through /proc/PID/mem into the program's own copy of the page (which
 * may be read-only and sealed: the kernel lets a debugger): a box that runs meanwhile sees the old
 * instruction or the new one.
 */
#include "tests/rig/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"
#include "tests/rig/boxtext.h"

#define MOV_EAX 0xb8
#define MOV_BYTES 5 /* opcode, number */
#define NEAR_BYTES 32
#define HLT 0xf4 /* privileged: SIGSEGV */

/* Offset of "mov $nr, %eax" with a syscall instruction soon after; 0: there is none.  *syscall is
 * that one's. */
static size_t find_call(const struct boxtext *text, long nr, size_t *syscall)
{
	const uint8_t mov[MOV_BYTES] = { MOV_EAX, (uint8_t)nr, (uint8_t)(nr >> 8) };

	for (size_t i = 1; i + MOV_BYTES + NEAR_BYTES <= text->bytes; i++) {
		if (memcmp(text->code + i, mov, sizeof(mov)) != 0)
			continue;
		const uint8_t *after = text->code + i + MOV_BYTES;
		const uint8_t *at = memmem(after, NEAR_BYTES, "\x0f\x05", 2);

		if (at == NULL)
			continue;
		*syscall = (size_t)(at - text->code);
		return i;
	}
	return 0;
}

int inject_trap(struct inject_trap *trap, pid_t pid, long nr)
{
	static struct boxtext text;
	char path[32];
	size_t at, call;

	trap->mem = -1;
	boxtext_read(pid, &text);
	at = find_call(&text, nr, &call);
	if (at == 0)
		return -ENOEXEC;
	trap->number = text.start + at + 1;
	trap->syscall = text.start + call;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	trap->mem = open(path, O_RDWR | O_CLOEXEC);
	return trap->mem < 0 ? -errno : 0;
}

static int trap_write(const struct inject_trap *trap, uint64_t at, uint8_t byte)
{
	return pwrite(trap->mem, &byte, 1, (off_t)at) == 1 ? 0 : -errno;
}

int inject_trap_fault(const struct inject_trap *trap)
{
	return trap_write(trap, trap->syscall, HLT);
}

int inject_trap_call(const struct inject_trap *trap, uint8_t nr)
{
	return trap_write(trap, trap->number, nr);
}

void inject_trap_free(struct inject_trap *trap)
{
	cc_close(&trap->mem);
}

static int thread_children(const char *tid, pid_t *pids, uint32_t max)
{
	char path[300];
	uint32_t n = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%s/children", tid);
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return -errno;
	while (n < max && fscanf(f, "%d", &pids[n]) == 1)
		n++;
	fclose(f);
	return (int)n;
}

int inject_children(pid_t *pids, uint32_t max)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	uint32_t n = 0;
	int ret = dir == NULL ? -errno : 0;

	while (dir != NULL && ret >= 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		ret = thread_children(entry->d_name, pids + n, max - n);
		if (ret == -ENOENT)
			ret = 0; /* the thread has just ended */
		n += ret > 0 ? (uint32_t)ret : 0;
	}
	if (dir != NULL)
		closedir(dir);
	return ret < 0 ? ret : (int)n;
}
