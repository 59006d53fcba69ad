/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation: none beyond the header. */
#include "tests/rig/fds.h"

#include <dirent.h>
#include <stdio.h>

#include "core/cc.h"

uint32_t fds_open(pid_t pid)
{
	char path[32] = "/proc/self/fd";
	const struct dirent *entry;
	uint32_t n = 0;

	if (pid != 0)
		snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);

	CHECK(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}
