/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw x86-64 system calls for device programs: no libc, no errno.  Each returns the kernel's value,
 * -errno on failure.  Hosted builds (fuzzers, sanitizers, the in-process rig) use the same calls.
 * What a sealed box may call is in its policy, not here; the calls at the end are for the seal.
 */
#ifndef MAYFLY_DEVMODEL_COMMON_SYS_H
#define MAYFLY_DEVMODEL_COMMON_SYS_H

#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define sys_call0(nr) sys_call6((nr), 0, 0, 0, 0, 0, 0)
#define sys_call1(nr, a) sys_call6((nr), (long)(a), 0, 0, 0, 0, 0)
#define sys_call2(nr, a, b) sys_call6((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define sys_call3(nr, a, b, c) sys_call6((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sys_call4(nr, a, b, c, d) sys_call6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys_call5(nr, a, b, c, d, e)                                                               \
	sys_call6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

static inline long sys_read(int fd, void *buf, size_t len)
{
	return sys_call3(__NR_read, fd, buf, len);
}

static inline long sys_write(int fd, const void *buf, size_t len)
{
	return sys_call3(__NR_write, fd, buf, len);
}

static inline long sys_pread(int fd, void *buf, size_t len, uint64_t off)
{
	return sys_call4(__NR_pread64, fd, buf, len, off);
}

static inline long sys_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	return sys_call4(__NR_pwrite64, fd, buf, len, off);
}

static inline long sys_fdatasync(int fd)
{
	return sys_call1(__NR_fdatasync, fd);
}

static inline long sys_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
	return sys_call4(__NR_fallocate, fd, mode, off, len);
}

static inline long sys_close(int fd)
{
	return sys_call1(__NR_close, fd);
}

_Noreturn static inline void sys_exit(int code)
{
	for (;;)
		sys_call1(__NR_exit_group, code);
}

#endif
