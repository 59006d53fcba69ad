/* SPDX-License-Identifier: Apache-2.0 */
#include "core/programs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"

static int programs_set(char *dir, size_t room, const char *head, const char *tail)
{
	const int n = snprintf(dir, room, "%s%s", head, tail);

	return n < 0 || (size_t)n >= room ? -ENAMETOOLONG : 0;
}

static int find_release(char *dir, size_t room)
{
	static const char *const places[] = { "/../libexec/mayfly",
					      "/dev" }; /* the last for messages */
	const char *env = getenv("MAYFLY_PROGRAMS");
	char exe[PATH_MAX];
	ssize_t n;

	if (env != NULL)
		return programs_set(dir, room, env, "");
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return -errno;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const int ret = programs_set(dir, room, exe, places[i]);

		if (ret != 0)
			return ret;
		if (access(dir, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

int programs_find(char *dir, size_t room, bool faulty)
{
	char release[PATH_MAX];
	int ret = find_release(release, sizeof(release));

	if (programs_set(dir, room, release, faulty ? "/faulty" : "") != 0)
		return -ENAMETOOLONG;
	if (ret == 0 && faulty && access(dir, X_OK) != 0)
		ret = -errno;
	return ret;
}
