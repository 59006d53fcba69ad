/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: the files that the whole process may reach from here on, and its children, and their
 * children.  Also: no TCP, no signal to and no tracing of anybody outside, no abstract sockets of others.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/box/host.h"
#include "core/cc.h"
#include "core/confine.h"
#include "core/options.h"

#define TRUNCATE (1ull << 14)  /* LANDLOCK_ACCESS_FS_TRUNCATE: younger than the headers */
#define IOCTL_DEV (1ull << 15) /* LANDLOCK_ACCESS_FS_IOCTL_DEV */

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE (LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATE)
#define RUN LANDLOCK_ACCESS_FS_EXECUTE
#define SOCKET (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define KEEP                                                                                       \
	(LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | SOCKET |                      \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR)
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | WRITE | RUN | IOCTL_DEV) /* the rest: of folders */

struct ruleset {
	int fd;
	uint64_t handled;
};

static uint64_t rights(uint32_t access)
{
	static const struct {
		uint32_t bit;
		uint64_t rights;
	} table[] = {
		{ CONFINE_READ, READ },
		{ CONFINE_WRITE, WRITE },
		{ CONFINE_RUN, RUN },
		{ CONFINE_MAKE, LANDLOCK_ACCESS_FS_MAKE_REG },
		{ CONFINE_SOCKET, SOCKET },
		{ CONFINE_KEEP, KEEP },
		{ CONFINE_RMDIR, LANDLOCK_ACCESS_FS_REMOVE_DIR },
	};
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		sum |= access & table[i].bit ? table[i].rights : 0;
	return sum;
}

static int add_rule(const struct ruleset *set, const char *path, uint64_t allowed)
{
	cleanup_fd int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .parent_fd = fd };
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		allowed |= IOCTL_DEV; /* of /dev/kvm, of a disk */
	if (!S_ISDIR(st.st_mode))
		allowed &= OF_FILES;
	rule.allowed_access = allowed & set->handled;
	if (rule.allowed_access == 0)
		return 0;
	return syscall(SYS_landlock_add_rule, set->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0
		       ? -errno
		       : 0;
}

/* A file that is still to be made can only be named by its folder. */
static int add_path(const struct ruleset *set, const struct confine_path *p)
{
	char folder[OPTION_PATH_MAX];
	int ret = add_rule(set, p->path, rights(p->access));

	if (ret != -ENOENT || !(p->access & CONFINE_MAKE))
		return ret == -ENOENT || ret == -ENOTDIR || ret == -EACCES ? 0 : ret;
	snprintf(folder, sizeof(folder), "%s", p->path);
	ret = add_rule(set, dirname(folder), rights(p->access));
	return ret == -ENOENT || ret == -EACCES ? 0 : ret; /* whoever opens it says so */
}

int confine_files(const struct confine_path *paths, size_t count, const char **what)
{
	struct seal_host host;
	int ret = 0;

	/* pthread_cancel() would load it later, when no library can be read, nor code be mapped. */
	*what = "load libgcc_s.so.1";
	if (dlopen("libgcc_s.so.1", RTLD_NOW) == NULL)
		return -ELIBACC;
	seal_host_probe(&host);
	if (host.landlock_abi == 0)
		return 0;
	const struct {
		uint64_t fs, net, scope;
	} attr = { host.landlock, host.landlock_net, host.landlock_scope };
	/* Older kernels take it as long as what they do not know is 0. */
	cleanup_fd int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	const struct ruleset set = { fd, host.landlock };

	*what = "make Landlock rules";
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < count && ret == 0; i++)
		ret = add_path(&set, &paths[i]);
	if (ret != 0)
		return ret;
	*what = "put on Landlock";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		return -errno;
	return 0;
}
