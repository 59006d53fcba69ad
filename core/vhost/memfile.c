/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define PAGE 4096u
#define HUGETLBFS_MAGIC_ 0x958458f6
#define TMPFS_MAGIC_ 0x01021994

static int fail(const char **why, const char *text)
{
	*why = text;
	return -EBADF;
}

int memfile_check(int fd, uint64_t end, uint64_t *page_bytes, const char **why)
{
	struct stat st;
	struct statfs fs;
	const int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0 || !S_ISREG(st.st_mode))
		return fail(why, "its descriptor is not a file's");
	if ((flags & O_ACCMODE) != O_RDWR || (flags & O_PATH) != 0)
		return fail(why, "its file is not open for reading and writing");
	if (fs.f_type != HUGETLBFS_MAGIC_ && fs.f_type != TMPFS_MAGIC_)
		return fail(why, "its file is not shared memory (memfd, tmpfs or hugetlbfs)");
	if ((uint64_t)st.st_size < end)
		return fail(why, "its file is shorter than it says");
	*page_bytes = fs.f_type == HUGETLBFS_MAGIC_ ? (uint64_t)fs.f_bsize : PAGE;
	return 0;
}
