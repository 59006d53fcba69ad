/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are memory.  A front-end hands over what it likes: a file on a file system of its own (FUSE), or of
 * a server that is gone, would have whoever reads or maps it wait for as long as it likes.
 */
#ifndef MAYFLY_CORE_VHOST_MEMFILE_H
#define MAYFLY_CORE_VHOST_MEMFILE_H

#include <stdint.h>

/* A memfd, or a file on tmpfs or hugetlbfs, open for reading and writing, with bytes up to `end`; its owner may
 * truncate it all the same.  0 with the size of its pages; -EBADF with *why (static text). */
int memfile_check(int fd, uint64_t end, uint64_t *page_bytes, const char **why);

#endif
