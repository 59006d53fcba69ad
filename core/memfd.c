/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "core/cc.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int memfd_make(const char *name, unsigned int flags, uint64_t bytes, int seals)
{
	const unsigned int all = MFD_CLOEXEC | MFD_ALLOW_SEALING | flags;
	cleanup_fd int fd = memfd_create(name, all | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before 6.3 */
		fd = memfd_create(name, all);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 ||
	    (seals != 0 && fcntl(fd, F_ADD_SEALS, seals) != 0))
		return -errno;
	return cc_take_fd(&fd);
}
