/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table.  Where two layers would refuse a call, the row names the one that the kernel asks
 * first, or the call is shaped so that only one has a say.  Nothing here harms the host if it is
 * executed after all: signals are number 0, names and clocks are left alone.
 *
 * What only the filter refuses is not in it: a user namespace of its own, userfaultfd, memory that it
 * maps anew, one more descriptor.  None of them leads out of what the other layers leave.
 */
#include "tests/escape/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/random.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "core/cc.h"

#define SYMBOL_MARK 0x5e5eull
#define SYMBOL(name) (SYMBOL_MARK << 48 | (uint64_t)LAYER_##name << 32)
#define AT(member) (SYMBOL(SCRATCH) + offsetof(struct layer_scratch, member))
#define CALL(number, ...)                                                                          \
	{                                                                                          \
		.set = true, .nr = (number), .args = { __VA_ARGS__ }                               \
	}
#define CLOSE_RESULT CALL(SYS_close, SYMBOL(RESULT))
#define PAGE 4096u
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define NO_FD ((uint64_t)-1)
#define SECUREBITS                                                                                 \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                           \
	 SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |   \
	 SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

#define ROW(name, text, result, ...)                                                               \
	{                                                                                          \
		.layer = (name), .what = (text), .want = (long)(result), __VA_ARGS__               \
	}
#define BLK .kinds = 1u << DEV_KIND_BLK
#define RNG .kinds = 1u << DEV_KIND_RNG
#define MSEAL .needs = SEAL_WANT_MSEAL
#define MDWE .needs = SEAL_WANT_MDWE
#define IDS .needs = SEAL_WANT_IDS
#define LANDLOCK(abi) .needs = SEAL_WANT_LANDLOCK, .landlock_abi = (abi)
#define SOCKET(type) .before = CALL(SYS_socket, AF_INET, (type), 0), .after = CLOSE_RESULT
#define MAPPED                                                                                     \
	.before = CALL(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, ANON, NO_FD, 0),                 \
	.after = CALL(SYS_munmap, SYMBOL(RESULT), PAGE)

/* clang-format off */
const struct layer_row layer_rows[] = {
	ROW("fds", "TIOCSTI on its control socket", -ENOTTY,
	    .call = CALL(SYS_ioctl, BOX_FD_CONTROL, TIOCSTI, AT(word))),
	ROW("fds", "pwrite to a read-only image", -EBADF,
	    .call = CALL(SYS_pwrite64, SYMBOL(BACKEND_FD), AT(word), 8, 0),
	    BLK, .backend = LAYER_READONLY),
	ROW("listener", "the listener's descriptor", -EBADF,
	    .call = CALL(SYS_fcntl, SYMBOL(FREE_FD), F_GETFD)),

	ROW("bounding", "CAP_SYS_ADMIN in the bounding set", 0,
	    .call = CALL(SYS_prctl, PR_CAPBSET_READ, CAP_SYS_ADMIN)),
	ROW("bounding", "the securebits", SECUREBITS,
	    .call = CALL(SYS_prctl, PR_GET_SECUREBITS)),

	ROW("ids", "its user id", SYMBOL(UID), .call = CALL(SYS_getuid), IDS),
	ROW("ids", "supplementary groups", 0, .call = CALL(SYS_getgroups, 0, 0), IDS),

	ROW("pdeathsig", "the death signal", 0, .call = CALL(SYS_prctl, PR_GET_PDEATHSIG, AT(out)),
	    .out = SIGKILL),

	ROW("caps", "setuid(0)", -EPERM, .call = CALL(SYS_setuid, 0), IDS),
	ROW("caps", "setgroups", -EPERM, .call = CALL(SYS_setgroups, 0, 0)),
	ROW("caps", "capset", -EPERM, .call = CALL(SYS_capset, AT(cap_header), AT(cap_data))),
	ROW("caps", "mount of a tmpfs", -EPERM,
	    .call = CALL(SYS_mount, AT(word), AT(root), AT(word), 0, 0)),
	ROW("caps", "sethostname", -EPERM, .call = CALL(SYS_sethostname, AT(word), 4)),
	ROW("caps", "chroot", -EPERM, .call = CALL(SYS_chroot, AT(root))),
	ROW("caps", "unshare of mounts", -EPERM, .call = CALL(SYS_unshare, CLONE_NEWNS)),
	ROW("caps", "ioctl RNDADDTOENTCNT on the entropy source", -EPERM,
	    .call = CALL(SYS_ioctl, SYMBOL(BACKEND_FD), RNDADDTOENTCNT, AT(limit)), RNG),

	ROW("nnp", "no_new_privs", 1, .call = CALL(SYS_prctl, PR_GET_NO_NEW_PRIVS)),

	ROW("rlimits", "a second new descriptor", -EMFILE, .call = CALL(SYS_dup, 0),
	    .before = CALL(SYS_dup, 0), .after = CLOSE_RESULT),
	ROW("rlimits", "clone", -EAGAIN, .call = CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0)),
	ROW("rlimits", "vfork", -EAGAIN, .call = CALL(SYS_vfork)),
	ROW("rlimits", "pwrite past the image", -EFBIG,
	    .call = CALL(SYS_pwrite64, SYMBOL(BACKEND_FD), AT(word), 8, SYMBOL(IMAGE_BYTES)),
	    BLK, .backend = LAYER_WRITABLE),
	ROW("rlimits", "ftruncate to more than the image", -EFBIG,
	    .call = CALL(SYS_ftruncate, SYMBOL(BACKEND_FD), SYMBOL(IMAGE_PAGE)),
	    BLK, .backend = LAYER_WRITABLE),
	ROW("rlimits", "mlock", -EPERM, .call = CALL(SYS_mlock, SYMBOL(STACK), PAGE)),
	ROW("rlimits", "a real-time scheduler", -EPERM,
	    .call = CALL(SYS_sched_setscheduler, 0, SCHED_FIFO, AT(priority))),
	ROW("rlimits", "a higher priority", -EACCES,
	    .call = CALL(SYS_setpriority, PRIO_PROCESS, 0, (uint64_t)-1)),
	ROW("rlimits", "a higher limit", -EPERM,
	    .call = CALL(SYS_prlimit64, 0, RLIMIT_NPROC, AT(limit), 0)),

	ROW("landlock", "open of /", -EACCES,
	    .call = CALL(SYS_open, AT(root), O_RDONLY), LANDLOCK(1)),
	ROW("landlock", "connect by TCP", -EACCES,
	    .call = CALL(SYS_connect, SYMBOL(RESULT), AT(loopback), sizeof(struct sockaddr_in)),
	    SOCKET(SOCK_STREAM), LANDLOCK(4)),
	ROW("landlock", "bind by TCP", -EACCES,
	    .call = CALL(SYS_bind, SYMBOL(RESULT), AT(loopback), sizeof(struct sockaddr_in)),
	    SOCKET(SOCK_STREAM), LANDLOCK(4)),

	ROW("mseal", "mprotect of the state page", -EPERM,
	    .call = CALL(SYS_mprotect, SYMBOL(STATE), STATE_PAGE_BYTES, PROT_READ), MSEAL),
	ROW("mseal", "mprotect of its stack", -EPERM,
	    .call = CALL(SYS_mprotect, SYMBOL(STACK), BOX_STACK_BYTES, PROT_READ | PROT_WRITE),
	    MSEAL),
	ROW("mseal", "mprotect of its text", -EPERM,
	    .call = CALL(SYS_mprotect, SYMBOL(TEXT), PAGE, PROT_READ | PROT_EXEC), MSEAL),
	ROW("mseal", "mremap of the state page", -EPERM,
	    .call = CALL(SYS_mremap, SYMBOL(STATE), STATE_PAGE_BYTES, STATE_PAGE_BYTES + PAGE,
			 MREMAP_MAYMOVE), MSEAL),
	ROW("mseal", "mmap over guest memory", -EPERM,
	    .call = CALL(SYS_mmap, SYMBOL(REGION), PAGE, PROT_READ | PROT_WRITE, ANON | MAP_FIXED,
			 NO_FD, 0), MSEAL),
	ROW("mseal", "munmap of guest memory", -EPERM,
	    .call = CALL(SYS_munmap, SYMBOL(REGION), PAGE), MSEAL),
	ROW("mseal", "munmap of the state page", -EPERM,
	    .call = CALL(SYS_munmap, SYMBOL(STATE), STATE_PAGE_BYTES), MSEAL),

	ROW("mdwe", "mmap writable and executable", -EACCES,
	    .call = CALL(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, ANON, NO_FD, 0),
	    MDWE),
	ROW("mdwe", "mprotect of new memory to executable", -EACCES,
	    .call = CALL(SYS_mprotect, SYMBOL(RESULT), PAGE, PROT_READ | PROT_EXEC), MAPPED, MDWE),

	ROW("dumpable", "dumpable", 0, .call = CALL(SYS_prctl, PR_GET_DUMPABLE)),
	ROW("seccomp", "its mode", 2, .call = CALL(SYS_prctl, PR_GET_SECCOMP)),

	ROW("namespaces", "a new file", -EROFS,
	    .call = CALL(SYS_open, AT(file), O_WRONLY | O_CREAT, 0600)),
	ROW("namespaces", "stat of /etc", -ENOENT, .call = CALL(SYS_stat, AT(etc), AT(word))),
	ROW("namespaces", "kill of the VMM", -ESRCH, .call = CALL(SYS_kill, SYMBOL(VMM_PID), 0)),
	ROW("namespaces", "kill of everybody", -ESRCH, .call = CALL(SYS_kill, (uint64_t)-1, 0)),
	ROW("namespaces", "ptrace of the VMM", -ESRCH,
	    .call = CALL(SYS_ptrace, PTRACE_SEIZE, SYMBOL(VMM_PID), 0, 0)),
	ROW("namespaces", "the VMM's memory", -ESRCH,
	    .call = CALL(SYS_process_vm_readv, SYMBOL(VMM_PID), AT(iov), 1, AT(iov), 1, 0)),
	ROW("namespaces", "connect by UDP", -ENETUNREACH,
	    .call = CALL(SYS_connect, SYMBOL(RESULT), AT(loopback), sizeof(struct sockaddr_in)),
	    SOCKET(SOCK_DGRAM)),
};
/* clang-format on */
const uint32_t layer_row_count = ARRAY_SIZE(layer_rows);

/* ---- symbols ---- */

static void find_mapping(uint64_t symbols[LAYER_SYMBOLS], const struct target *t, uint64_t sp,
			 const char *line)
{
	const struct box *box = &t->dev->active->boxes[0];
	uint64_t start, end, inode;
	char prot[5];

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64, &start, &end, prot,
		   &inode) != 4)
		return;
	if (sp > start && sp <= end)
		symbols[LAYER_STACK] = start;
	else if (inode == box->state_ino)
		symbols[LAYER_STATE] = start;
	else if (strcmp(prot, "r-xp") == 0)
		symbols[LAYER_TEXT] = start;
	else if (strstr(line, "memfd:") != NULL && symbols[LAYER_REGION] == 0)
		symbols[LAYER_REGION] = start;
}

static int write_scratch(const struct inject *in, uint64_t at)
{
	struct layer_scratch scratch = {
		.root = "/",
		.file = "/x",
		.etc = "/etc",
		.word = "none",
		.loopback = { .sin_family = AF_INET,
			      .sin_port = htons(9),
			      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
		.limit = { 1, 1 },
		.cap_header = { _LINUX_CAPABILITY_VERSION_3, 0 },
		.cap_data = { ~0u, ~0u, 0, 1, 1, 0 },
		.iov = { (void *)(uintptr_t)PAGE, 8 },
		.priority = 1,
	};
	const struct iovec from = { &scratch, sizeof(scratch) };
	const struct iovec to = { (void *)(uintptr_t)at, sizeof(scratch) };

	return process_vm_writev(in->pid, &from, 1, &to, 1, 0) == sizeof(scratch) ? 0 : -errno;
}

int layer_prepare(uint64_t symbols[LAYER_SYMBOLS], const struct target *t, const struct inject *in)
{
	char path[32], line[512];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", in->pid);
	maps = fopen(path, "re");
	if (maps == NULL)
		return -errno;
	memset(symbols, 0, LAYER_SYMBOLS * sizeof(*symbols));
	while (fgets(line, sizeof(line), maps) != NULL)
		find_mapping(symbols, t, in->sp, line);
	fclose(maps);
	if (symbols[LAYER_STACK] == 0 || symbols[LAYER_STATE] == 0 || symbols[LAYER_TEXT] == 0)
		return -ENOENT;
	/* The far end of the stack: an idle box is nowhere near it. */
	symbols[LAYER_SCRATCH] = symbols[LAYER_STACK];
	symbols[LAYER_VMM_PID] = (uint64_t)getpid();
	symbols[LAYER_FREE_FD] = t->launch->fd_held;
	symbols[LAYER_BACKEND_FD] = t->launch->fd_backend;
	symbols[LAYER_IMAGE_BYTES] = t->spec.fsize;
	symbols[LAYER_IMAGE_PAGE] = t->spec.fsize + PAGE;
	symbols[LAYER_UID] = t->rig->box.host.uid;
	return write_scratch(in, symbols[LAYER_SCRATCH]);
}

static uint64_t resolve(uint64_t value, const uint64_t *symbols)
{
	const uint32_t symbol = (uint32_t)(value >> 32) & 0xffff;

	if (value >> 48 != SYMBOL_MARK || symbol >= LAYER_SYMBOLS)
		return value;
	return symbols[symbol] + (value & UINT32_MAX);
}

/* ---- trying ---- */

bool layer_applies(const struct layer_row *row, const struct target *t,
		   const uint64_t symbols[LAYER_SYMBOLS])
{
	const struct seal_host *host = &t->rig->box.host;

	if ((host->seal & row->needs) != row->needs || host->landlock_abi < row->landlock_abi)
		return false;
	if (row->kinds != 0 && (row->kinds & 1u << t->spec.kind) == 0)
		return false;
	if (row->backend != LAYER_ANY && (row->backend == LAYER_READONLY) != t->variant->readonly)
		return false;
	return row->call.args[0] != SYMBOL(REGION) || symbols[LAYER_REGION] != 0;
}

static int try_call(const struct layer_call *call, const uint64_t *symbols, struct inject *in,
		    long *got)
{
	uint64_t args[6];

	for (int i = 0; i < 6; i++)
		args[i] = resolve(call->args[i], symbols);
	return inject_call(in, INJECT_SYSCALL, call->nr, args, got) == INJECT_EXECUTED ? 0 : -EIO;
}

static uint32_t read_out(const uint64_t *symbols, const struct inject *in)
{
	uint32_t out = 0;
	const struct iovec to = { &out, sizeof(out) };
	const struct iovec from = { (void *)(uintptr_t)resolve(AT(out), symbols), sizeof(out) };

	return process_vm_readv(in->pid, &to, 1, &from, 1, 0) == sizeof(out) ? out : 0;
}

long layer_want(const struct layer_row *row, const uint64_t symbols[LAYER_SYMBOLS])
{
	return row->out != 0 ? (long)row->out : (long)resolve((uint64_t)row->want, symbols);
}

int layer_try(const struct layer_row *row, uint64_t symbols[LAYER_SYMBOLS], struct inject *in,
	      long *got)
{
	const struct layer_call close_free = CALL(SYS_close, SYMBOL(FREE_FD));
	long ret = 0;
	int err = 0;

	symbols[LAYER_RESULT] = 0;
	if (row->before.set) {
		err = try_call(&row->before, symbols, in, got);
		symbols[LAYER_RESULT] = (uint64_t)*got;
		if (err != 0 || *got < 0)
			return err != 0 ? err : 1;
	}
	err = try_call(&row->call, symbols, in, got);
	if (err == 0 && row->after.set)
		err = try_call(&row->after, symbols, in, &ret);
	/* What should not have been opened does not stand in the way of the next row. */
	if (err == 0)
		err = try_call(&close_free, symbols, in, &ret);
	if (err != 0)
		return err;
	if (row->out != 0 && *got == 0)
		*got = (long)read_out(symbols, in);
	return *got != layer_want(row, symbols);
}
