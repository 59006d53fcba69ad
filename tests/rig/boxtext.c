/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation: none beyond the header. */
#include "tests/rig/boxtext.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/uio.h>

void boxtext_read(pid_t pid, struct boxtext *text)
{
	char path[32], line[512];
	uint64_t start = 0, end = 0;
	char exec = 0;

	text->bytes = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");

	while (maps != NULL && exec != 'x' && fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " r-%c", &start, &end, &exec) != 3)
			exec = 0;
	}
	if (maps != NULL)
		fclose(maps);
	if (exec != 'x')
		return;
	const size_t want = end - start < sizeof(text->code) ? end - start : sizeof(text->code);
	const struct iovec here = { text->code, want };
	const struct iovec there = { (void *)(uintptr_t)start, want };
	const ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);

	text->start = start;
	text->bytes = n > 0 ? (size_t)n : 0;
}
