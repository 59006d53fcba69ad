/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line a rule, by what it is for.  tests/unit/test_confine.c holds it against a golden file: a call
 * more is a diff that somebody reads, and needs a reason that a sceptic accepts.
 *
 * No role has: execve, fork (clone without CLONE_THREAD), executable memory, bpf, perf_event_open,
 * io_uring, userfaultfd, mount, setns, unshare, setuid and its like, keyctl, connect.
 */
#include "core/confine.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>

#include "core/cc.h"

#define R(NAME) (1u << CONFINE_##NAME)
#define ALL ((1u << CONFINE_ROLE_COUNT) - 1)
#define APIS (R(API) | R(HAND))
#define FILES (R(SUPERVISOR) | R(CORONER) | APIS | R(MEMORY) | R(MAIN)) /* who opens any */

#define CALL(name, roles_)                                                                         \
	{                                                                                          \
		.nr = SYS_##name, .roles = (roles_)                                                \
	}
/* Only where argument i, of which the bits of mask count, is so. */
#define WITH(...) WITH_(__VA_ARGS__) /* pairs become two arguments here */
#define WITH_(name, roles_, i, mask_, value_)                                                      \
	{                                                                                          \
		.nr = SYS_##name, .roles = (roles_), .arg_count = 1, .args = {                     \
			{ .index = (i), .mask = (mask_), .value = (value_) }                       \
		}                                                                                  \
	}
/* Only where argument i is this process. */
#define OWN(name, roles_, i)                                                                       \
	{                                                                                          \
		.nr = SYS_##name, .roles = (roles_), .arg_count = 1, .args = {                     \
			{ .index = (i), .own_pid = true }                                          \
		}                                                                                  \
	}
#define WHOLE 0xffffffffull /* an int */
#define IOCTL(request, roles_) WITH(ioctl, roles_, 1, WHOLE, (request)&WHOLE)

/* Never set: what makes a mapping executable, what opens for more than reading. */
#define NOT_EXECUTABLE PROT_EXEC, 0
#define READ_ONLY (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY)), O_RDONLY

/* clang-format off */
const struct confine_rule confine_rules[] = {
	/* libc: memory, locks, ends of threads, time. */
	WITH(mmap, ALL, 2, NOT_EXECUTABLE),
	WITH(mprotect, ALL, 2, NOT_EXECUTABLE),
	CALL(munmap, ALL),
	CALL(mremap, ALL),
	CALL(madvise, ALL),
	CALL(brk, ALL),
	CALL(futex, ALL),
	CALL(set_robust_list, ALL),
	CALL(rseq, ALL),
	CALL(exit, ALL),
	CALL(exit_group, ALL),
	CALL(getpid, ALL),
	CALL(gettid, ALL),
	CALL(clock_gettime, ALL),
	CALL(clock_nanosleep, ALL),
	CALL(nanosleep, ALL),
	CALL(sched_yield, ALL),
	CALL(getrandom, ALL),
	CALL(restart_syscall, ALL),
	/* A crash restores the terminal and happens then (core/process.c), a pause signals a vCPU. */
	CALL(rt_sigreturn, ALL),
	CALL(rt_sigaction, ALL),
	CALL(rt_sigprocmask, ALL),
	OWN(tgkill, ALL, 0),
	WITH(prctl, ALL, 0, WHOLE, PR_SET_NAME),
	WITH(prctl, ALL, 0, WHOLE, PR_SET_TIMERSLACK),

	/* What a thread holds: eventfds, pipes, the log, files. */
	CALL(read, ALL),
	CALL(write, ALL),
	CALL(writev, ALL),
	CALL(close, ALL),
	CALL(poll, ALL),
	CALL(ppoll, ALL),
	CALL(newfstatat, FILES | R(FRONTEND)),
	CALL(fstat, FILES | R(FRONTEND)),
	CALL(lseek, FILES),
	CALL(fcntl, FILES | R(RELAY) | R(FRONTEND)),

	/* The guest changes interrupts and doorbells: virtio-pci and MSI-X, on its vCPU's thread. */
	IOCTL(KVM_RUN, R(VCPU)),
	IOCTL(KVM_IRQFD, R(VCPU) | R(MAIN)),
	IOCTL(KVM_IOEVENTFD, R(VCPU) | R(MAIN)),
	IOCTL(KVM_SET_GSI_ROUTING, R(VCPU) | R(MAIN)),
	/* The power button is the API's, that memory has come is told by who made it. */
	IOCTL(KVM_IRQ_LINE, R(VCPU) | R(MAIN) | R(MEMORY) | APIS),
	IOCTL(KVM_KVMCLOCK_CTRL, APIS | R(MAIN)),

	/* A reset of the machine gives vCPUs and interrupt controllers the state of power-on. */
	IOCTL(KVM_SET_REGS, R(MAIN)),
	IOCTL(KVM_SET_SREGS, R(MAIN)),
	IOCTL(KVM_SET_XSAVE, R(MAIN)),
	IOCTL(KVM_SET_XCRS, R(MAIN)),
	IOCTL(KVM_SET_DEBUGREGS, R(MAIN)),
	IOCTL(KVM_SET_LAPIC, R(MAIN)),
	IOCTL(KVM_SET_MSRS, R(MAIN)),
	IOCTL(KVM_SET_VCPU_EVENTS, R(MAIN)),
	IOCTL(KVM_SET_MP_STATE, R(MAIN)),
	IOCTL(KVM_SET_IRQCHIP, R(MAIN)),
	CALL(pread64, R(MAIN) | R(SUPERVISOR) | APIS), /* the kernel's file again; /proc; autopsies */
	CALL(fallocate, R(MAIN) | R(MEMORY)), /* guest memory begins anew, or goes */
	/* A balloon's pages go back to the host; no other way to call it can grow, move or fill anything. */
	WITH(fallocate, R(SUPERVISOR), 1, WHOLE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),

	/* Guest memory that is added comes from a host's node, and is a slot of KVM's. */
	CALL(mbind, R(MEMORY)),
	IOCTL(KVM_SET_USER_MEMORY_REGION, R(MEMORY)),

	/* Event loops. */
	CALL(epoll_pwait2, R(SUPERVISOR) | R(MAIN)),
	CALL(epoll_ctl, R(SUPERVISOR) | R(MAIN)),

	/* Processes: requests to the spawner, listeners, looks, ends. */
	CALL(sendmsg, R(SUPERVISOR) | APIS | R(MAIN) | R(FRONTEND)),
	CALL(recvmsg, R(SUPERVISOR) | APIS | R(FRONTEND)),
	CALL(sendto, R(SUPERVISOR) | APIS | R(MAIN)),
	CALL(recvfrom, R(SUPERVISOR) | APIS | R(MAIN)),
	WITH(socketpair, R(SUPERVISOR), 0, WHOLE, AF_UNIX),
	CALL(memfd_create, R(SUPERVISOR) | R(MEMORY) | R(FRONTEND)),
	CALL(ftruncate, R(SUPERVISOR) | R(MEMORY) | R(FRONTEND)),
	CALL(getdents64, FILES),
	CALL(readlinkat, R(SUPERVISOR)),
	CALL(readlink, R(SUPERVISOR) | R(FRONTEND)),
	CALL(kcmp, R(SUPERVISOR)),
	CALL(pidfd_open, R(SUPERVISOR)),
	CALL(pidfd_getfd, R(SUPERVISOR)),
	CALL(pidfd_send_signal, R(SUPERVISOR) | R(CORONER) | R(HAND) | R(MAIN)),
	CALL(waitid, R(SUPERVISOR) | R(HAND) | R(MAIN)),
	WITH(ptrace, R(SUPERVISOR) | R(HAND), 0, WHOLE, PTRACE_SEIZE),
	WITH(ptrace, R(SUPERVISOR) | R(HAND), 0, WHOLE, PTRACE_INTERRUPT),
	WITH(ptrace, R(SUPERVISOR), 0, WHOLE, PTRACE_GETREGSET), /* for an autopsy */
	WITH(ptrace, R(HAND), 0, WHOLE, PTRACE_GETREGS),
	WITH(ptrace, R(HAND), 0, WHOLE, PTRACE_SETREGS),
	WITH(ptrace, R(HAND), 0, WHOLE, PTRACE_POKETEXT),
	WITH(ptrace, R(HAND), 0, WHOLE, PTRACE_DETACH),
	IOCTL(SECCOMP_IOCTL_NOTIF_RECV, R(SUPERVISOR)),
	IOCTL(SECCOMP_IOCTL_NOTIF_SEND, R(SUPERVISOR)),
	IOCTL(SECCOMP_IOCTL_NOTIF_ID_VALID, R(SUPERVISOR)),
	IOCTL(SIOCOUTQ, R(SUPERVISOR)),

	/* Autopsies. */
	CALL(process_vm_readv, R(CORONER)),
	CALL(openat, R(CORONER) | R(MAIN)), /* main: metrics on demand, a new log */
	WITH(openat, R(SUPERVISOR) | R(MEMORY) | APIS, 2, READ_ONLY),
	CALL(mkdirat, R(CORONER)),
	CALL(renameat, R(CORONER)),
	CALL(unlinkat, R(CORONER) | R(MAIN)),
	CALL(fsync, R(CORONER)),
	CALL(fchmod, R(CORONER)),

	/* Connections: the API's, and those of a console's socket. */
	CALL(accept4, APIS | R(MAIN) | R(FRONTEND)),
	CALL(shutdown, APIS | R(MAIN)),
	CALL(setsockopt, APIS),
	CALL(getsockopt, APIS),
	CALL(getsockname, APIS | R(FRONTEND)),
	CALL(eventfd2, APIS | R(MAIN)),
	WITH(clone, APIS, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM), /* one a connection */
	CALL(uname, APIS),

	/* A front-end of vhost-user: its descriptors are looked at, its memory is mapped, it gets a buffer, and what
	 * another back-end left in one is read. */
	CALL(fstatfs, R(FRONTEND)),
	CALL(pread64, R(FRONTEND)),
	CALL(pwrite64, R(FRONTEND)),

	/* The end: files of ours go, the spawner is waited for, the terminal is as it was. */
	CALL(unlink, R(MAIN)),
	CALL(rmdir, R(MAIN)),
	CALL(wait4, R(SUPERVISOR) | R(MAIN)), /* of a child that cannot be had by pidfd */
	CALL(kill, R(SUPERVISOR) | R(MAIN)),
	IOCTL(TCGETS, ALL), /* a crash, too */
	IOCTL(TCSETS, ALL),
	IOCTL(TCFLSH, ALL),
#ifdef __SANITIZE_ADDRESS__
	/* Only in builds that look for mistakes of ours; the main thread has no filter there. */
	CALL(sigaltstack, ALL),
	CALL(getrlimit, ALL),
	CALL(prlimit64, ALL),
	CALL(openat, ALL),
	CALL(readlink, ALL),
	CALL(getuid, ALL),
	CALL(sched_getaffinity, ALL),
	CALL(mincore, ALL),
	CALL(newfstatat, ALL),
#endif
};
/* clang-format on */
const size_t confine_rule_count = ARRAY_SIZE(confine_rules);
