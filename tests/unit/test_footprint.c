/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums over the maps of several processes, against texts as the kernel writes them; then of a process
 * and its child, whose pages are known.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "benchmarks/footprint.h"

#define BLOCK (4 << 20)

static struct footprint_maps maps;

/* One mapping as smaps has it: the lines that count among some that do not. */
static int put_map(char *text, size_t room, const char *head, int rss, int pss, int anon)
{
	return snprintf(text, room,
			"%s\nSize: 99999 kB\nRss:  %d kB\nPss:  %d kB\nPss_Dirty: 88888 kB\n"
			"Shared_Clean: 77777 kB\nAnonymous: %d kB\nAnonHugePages: 66666 kB\n"
			"VmFlags: rd ex mr\n",
			head, rss, pss, anon);
}

static int add_text(const char *text, size_t bytes, uint64_t program)
{
	FILE *file = fmemopen((void *)(uintptr_t)text, bytes, "r");
	int ret;

	assert_non_null(file);
	ret = footprint_add_smaps(&maps, file, (struct footprint_file){ 0xfd01, program });
	fclose(file);
	return ret;
}

struct line {
	const char *head;
	int rss, pss, anon;
};

static int add_lines(const struct line *lines, size_t count, uint64_t program)
{
	char text[8192];
	int n = 0;

	for (size_t i = 0; i < count; i++)
		n += put_map(text + n, sizeof(text) - (size_t)n, lines[i].head, lines[i].rss,
			     lines[i].pss, lines[i].anon);
	return add_text(text, (size_t)n, program);
}

#define PROGRAM "5590a000-5590b000 r-xp 00001000 fd:01 4711   /usr/bin/mayfly"
#define PROGRAM_DATA "5591a000-5591b000 rw-p 00009000 fd:01 4711   /usr/bin/mayfly"
#define BOX "7590a000-7590b000 r-xp 00001000 fd:01 4712   /dev/mayfly-blk (deleted)"
#define LIBRARY "7f00a000-7f00b000 r-xp 00001000 fd:01 99   /lib/libc.so.6"
#define OTHER_DISK "7f10a000-7f10b000 r-xp 00001000 fd:02 4711   /mnt/lib.so"
#define HEAP "5690a000-5690b000 rw-p 00000000 00:00 0   [heap]"
#define NAMELESS "7f20a000-7f20b000 rw-p 00000000 00:00 0 "
#define GUEST "7f30a000-7f30b000 rw-s 00000000 00:01 7   /memfd:guest (deleted)"
#define STATE "7f40a000-7f40b000 rw-s 00000000 00:01 8   /memfd:state (deleted)"
#define VCPU "7f50a000-7f50b000 rw-s 00000000 00:0e 9   anon_inode:kvm-vcpu:0"

static void test_files_count_once(void **state)
{
	const struct line vmm[] = { { PROGRAM, 100, 50, 0 },
				    { PROGRAM_DATA, 30, 15, 10 },
				    { LIBRARY, 400, 9, 0 } };
	const struct line spawner[] = { { PROGRAM, 120, 70, 0 }, { LIBRARY, 300, 8, 0 } };
	const struct line box[] = { { BOX, 20, 20, 4 } };

	(void)state;
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(add_lines(vmm, 3, 4711), 0);
	assert_int_equal(add_lines(spawner, 2, 4711), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(add_lines(box, 1, 4712), 0);
	assert_int_equal(footprint_files(&maps, true), 120 + 20 + 16);
	assert_int_equal(footprint_files(&maps, false), 400);
	assert_int_equal(maps.shared, 0);
}

/* An inode's number says nothing without its device. */
static void test_a_library_is_no_program(void **state)
{
	const struct line lines[] = { { PROGRAM, 10, 10, 0 }, { OTHER_DISK, 70, 70, 0 } };

	(void)state;
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(add_lines(lines, 2, 4711), 0);
	assert_int_equal(footprint_files(&maps, true), 10);
	assert_int_equal(footprint_files(&maps, false), 70);
}

static void test_memory_by_kind(void **state)
{
	const struct line lines[] = { { HEAP, 300, 300, 300 }, { NAMELESS, 200, 100, 200 },
				      { GUEST, 50, 25, 0 },    { STATE, 12, 6, 0 },
				      { VCPU, 8, 8, 0 },       { STATE, 4, 2, 0 } };

	(void)state;
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(add_lines(lines, 6, 4711), 0);
	assert_int_equal(maps.guest, 25);
	assert_int_equal(maps.shared, 6 + 8 + 2);
	assert_int_equal(footprint_files(&maps, true) + footprint_files(&maps, false), 0);
	assert_int_equal(maps.anon, 0); /* is not added from here */
}

static void test_refused(void **state)
{
	char text[FOOTPRINT_SPANS_MAX * 256 + 256], head[128];
	int n = 0;

	(void)state;
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(add_text("Rss: 4 kB\n", 10, 1), -EIO);
	for (int i = 0; i <= FOOTPRINT_SPANS_MAX; i++) {
		snprintf(head, sizeof(head), "1000-2000 r--p %x000 fd:01 5 /x", i);
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s\nRss: 4 kB\n", head);
	}
	assert_int_equal(add_text(text, (size_t)n, 1), -ENOSPC);
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(footprint_add(&maps, -1), -ENOENT);
}

/* What a fork shares is counted once, what its child wrote twice. */
static void test_fork(void **state)
{
	uint8_t *block =
		mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ready[2], end[2];
	char byte = 0;

	(void)state;
	assert_ptr_not_equal(block, MAP_FAILED);
	memset(block, 1, BLOCK);
	assert_int_equal(pipe(ready) | pipe(end), 0);
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(footprint_add(&maps, getpid()), 0);
	const int64_t alone = maps.anon;
	const pid_t pid = fork();

	if (pid == 0) {
		memset(block, 2, BLOCK / 4);
		_exit(write(ready[1], &byte, 1) != 1 || read(end[0], &byte, 1) != 1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	memset(&maps, 0, sizeof(maps));
	assert_int_equal(footprint_add(&maps, getpid()), 0);
	assert_int_equal(footprint_add(&maps, pid), 0);
	assert_int_equal(write(end[1], &byte, 1), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(maps.processes, 2);
	assert_int_equal(maps.threads, 2);
	assert_true(maps.tables > 0);
	assert_true(alone >= BLOCK >> 10);
	assert_in_range(maps.anon - alone, BLOCK / 4 >> 10, BLOCK / 2 >> 10);
	assert_true(footprint_files(&maps, true) > 0);
	assert_true(footprint_files(&maps, false) > 0);
	munmap(block, BLOCK);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(end[i]);
	}
}

static void test_arithmetic(void **state)
{
	struct footprint samples[] = { { 900, 16, 50, 0, 1 },
				       { 100, 48, 40, 8, 2 },
				       { 500, 32, 60, 4, 3 } };
	const struct footprint middle = footprint_median(samples, 3);
	const struct footprint part = footprint_divided(middle, 10);

	(void)state;
	assert_int_equal(middle.anon, 500);
	assert_int_equal(middle.stack, 32);
	assert_int_equal(middle.slab, 50);
	assert_int_equal(part.anon, 50);
	assert_int_equal(part.slab, 5);
	assert_int_equal(footprint_private(&middle), 500 + 32 + 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_count_once),
		cmocka_unit_test(test_a_library_is_no_program),
		cmocka_unit_test(test_memory_by_kind),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_arithmetic),
	};

	return cmocka_run_group_tests_name("footprint", tests, NULL, NULL);
}
