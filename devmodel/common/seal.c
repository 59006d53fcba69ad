/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seal.  Runs once in every generation, before it has seen a byte that a guest wrote.  The order
 * is part of the design: each step needs what the steps before it left and takes away what no later
 * step needs.  A step that fails ends the generation; it is reported by name and never skipped.
 *
 * The code here is trusted only in that nothing hostile runs yet; the VMM checks from outside what
 * can be seen from outside (core/box/verify.c) before the generation is used.
 *
 * SEAL_OMIT_name builds leave one layer out; they exist so that the escape check can show that it
 * would notice.
 */
#include "devmodel/common/seal.h"

#include <asm/errno.h>
#include <asm/resource.h>
#include <asm/signal.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>

#include "devmodel/abi/exit.h"
#include "devmodel/abi/message.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"

#ifndef __NR_mseal
#define __NR_mseal 462
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE 4096ul
#define WARM_STACK (4 * PAGE)        /* as deep as a request goes */
#define ADDRESS_END 0x7ffffffff000ul /* end of user addresses with four-level paging */
#define RANGES_MAX (MEM_REGIONS_MAX + 4)
#define UID_NONE ((unsigned int)-1)

struct range {
	uint64_t start;
	uint64_t end;
};

/* By the linker: the program's first and last byte. */
extern const char __ehdr_start[];
extern const char _end[];

_Noreturn static void seal_failed(const struct launch_record *l, enum seal_layer layer, long err)
{
	const struct box_report report = { REPORT_FAILED, (uint32_t)layer, (uint64_t)-err };

	sys_write(l->fd_control, &report, sizeof(report));
	sys_exit(BOX_EXIT_SEAL);
}

static void seal_report(const struct launch_record *l, enum report_type type, uint32_t value)
{
	const struct box_report report = { type, value, 0 };

	if (sys_write(l->fd_control, &report, sizeof(report)) != sizeof(report))
		sys_exit(BOX_EXIT_ORPHAN);
}

static void seal_check(const struct launch_record *l, enum seal_layer layer, long ret)
{
	if (ret < 0)
		seal_failed(l, layer, ret);
}

/*
 * Mappings.  Should: map exactly what the record lists, where it says.  Mustn't: replace a mapping
 * (MAP_FIXED_NOREPLACE), touch a page (the cost must not depend on guest size), reserve one of the host's
 * huge pages (MAP_NORESERVE): which are to be had is the VMM's to decide.
 */
static void map_at(const struct launch_record *l, uint64_t addr, uint64_t bytes, int fd,
		   uint64_t off)
{
	const int flags = MAP_FIXED_NOREPLACE |
			  (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_NORESERVE);
	const long ret = sys_call6(__NR_mmap, (long)addr, (long)bytes, PROT_READ | PROT_WRITE,
				   flags, fd, (long)off);

	seal_check(l, SEAL_LAYER_MAPS, ret);
	if ((uint64_t)ret != addr)
		seal_failed(l, SEAL_LAYER_MAPS, -EEXIST);
	/* Guest memory must not reach a core dump of the host. */
	if (fd >= 0)
		seal_check(l, SEAL_LAYER_MAPS, sys_call3(__NR_madvise, addr, bytes, MADV_DONTDUMP));
}

/* Best effort: a kernel before 5.14 says EINVAL, and the first requests are slower. */
static void warm(uint64_t addr, uint64_t bytes, int advice)
{
	const uint64_t start = addr & ~(PAGE - 1);

	sys_call3(__NR_madvise, start, (addr + bytes - start + PAGE - 1) & ~(PAGE - 1), advice);
}

/* A ring, and where its pages are marked. */
static void warm_ring(const struct launch_record *l, const struct launch_warm *w)
{
	const void *ring = gpa_span(&l->map, gpa_make(w->gpa), w->bytes);
	const uint64_t first = w->gpa / LOG_PAGE / 8;

	if (ring == NULL)
		return;
	warm((uintptr_t)ring, w->bytes, MADV_POPULATE_WRITE);
	const uint64_t last = (w->gpa + w->bytes - 1) / LOG_PAGE / 8;

	if (last < l->log_bytes)
		warm(l->log_addr + first, last - first + 1, MADV_POPULATE_WRITE);
}

/*
 * Should: take the page faults that a successor's first request would take, while nobody waits for
 * it: program, stack, state page, rings.  Mustn't: go near other guest memory (the cost must not
 * depend on guest size), change a byte (MADV_POPULATE_WRITE does not).
 */
static void seal_warm(const struct launch_record *l)
{
	warm((uintptr_t)__ehdr_start, (uint64_t)(_end - __ehdr_start), MADV_POPULATE_READ);
	warm(l->stack_addr + BOX_STACK_BYTES - WARM_STACK, WARM_STACK, MADV_POPULATE_WRITE);
	warm(l->state_addr, STATE_PAGE_BYTES, MADV_POPULATE_WRITE);
	for (uint32_t i = 0; i < BOX_WARM_MAX; i++)
		warm_ring(l, &l->warm[i]);
}

void seal_map(const struct launch_record *l)
{
	map_at(l, l->stack_addr, BOX_STACK_BYTES, -1, 0);
	map_at(l, l->state_addr, STATE_PAGE_BYTES, l->fd_held + BOX_SETUP_STATE, 0);
	for (uint32_t i = 0; i < l->map.count; i++) {
		const struct mem_region *r = &l->map.regions[i];

		map_at(l, r->addr, r->bytes, l->fd_held + BOX_SETUP_REGION + (int)i,
		       l->region_offset[i]);
	}
	if (l->log_bytes != 0)
		map_at(l, l->log_addr, launch_log_span(l),
		       l->fd_held + BOX_SETUP_REGION + (int)l->map.count, l->log_offset);
	seal_warm(l);
}

static void range_add(struct range *ranges, uint32_t *n, uint64_t start, uint64_t bytes)
{
	uint32_t i = (*n)++;

	for (; i > 0 && ranges[i - 1].start > start; i--)
		ranges[i] = ranges[i - 1];
	ranges[i] = (struct range){ start, start + bytes };
}

/* What stays mapped, sorted by address. */
static uint32_t seal_ranges(const struct launch_record *l, struct range *ranges)
{
	const uint64_t image = (uintptr_t)__ehdr_start;
	const uint64_t end = ((uintptr_t)_end + PAGE - 1) & ~(PAGE - 1);
	uint32_t n = 0;

	range_add(ranges, &n, image, end - image);
	range_add(ranges, &n, l->stack_addr, BOX_STACK_BYTES);
	range_add(ranges, &n, l->state_addr, STATE_PAGE_BYTES);
	for (uint32_t i = 0; i < l->map.count; i++)
		range_add(ranges, &n, l->map.regions[i].addr, l->map.regions[i].bytes);
	if (l->log_bytes != 0)
		range_add(ranges, &n, l->log_addr, launch_log_span(l));
	return n;
}

/*
 * Should: unmap the complement of what stays, so that the original stack, vdso, and whatever a
 * kernel of tomorrow maps are gone.  Mustn't: still run on the original stack.
 */
static void seal_maps(const struct launch_record *l, const struct range *ranges, uint32_t n)
{
#ifndef SEAL_OMIT_maps
	uint64_t from = 0;

	for (uint32_t i = 0; i <= n; i++) {
		const uint64_t to = i < n ? ranges[i].start : ADDRESS_END;

		if (to > from)
			seal_check(l, SEAL_LAYER_MAPS, sys_call2(__NR_munmap, from, to - from));
		if (i < n)
			from = ranges[i].end;
	}
#else
	(void)l, (void)ranges, (void)n;
#endif
}

/* Should: close what only the mappings needed.  Mustn't: run before seal_map(). */
static void seal_fds(const struct launch_record *l)
{
#ifndef SEAL_OMIT_fds
	seal_check(l, SEAL_LAYER_FDS, sys_call3(__NR_close_range, l->fd_held, ~0u, 0));
#else
	sys_close(l->fd_held); /* the one that later steps need to be free */
#endif
}

/*
 * Should: drop the bounding set and lock the securebits while CAP_SETPCAP is there.  Mustn't: run
 * after the uid change, which takes CAP_SETPCAP away (as root; an ordinary user would not notice).
 */
static void seal_bounding(const struct launch_record *l)
{
#ifndef SEAL_OMIT_bounding
	long ret;

	for (int cap = 0;; cap++) {
		ret = sys_call2(__NR_prctl, PR_CAPBSET_DROP, cap);
		if (ret == -EINVAL)
			break; /* past the kernel's last capability */
		seal_check(l, SEAL_LAYER_BOUNDING, ret);
	}
	ret = sys_call2(__NR_prctl, PR_SET_SECUREBITS,
			SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED);
	seal_check(l, SEAL_LAYER_BOUNDING, ret);
#else
	(void)l;
#endif
}

/* Should: leave the VMM's user, as root.  Mustn't: come after the loss of CAP_SETUID. */
static void seal_ids(const struct launch_record *l)
{
#ifndef SEAL_OMIT_ids
	if (!(l->seal & SEAL_WANT_IDS))
		return;
	seal_check(l, SEAL_LAYER_IDS, sys_call2(__NR_setgroups, 0, 0));
	seal_check(l, SEAL_LAYER_IDS, sys_call3(__NR_setresgid, l->gid, l->gid, l->gid));
	seal_check(l, SEAL_LAYER_IDS, sys_call3(__NR_setresuid, l->uid, l->uid, l->uid));
#else
	(void)l;
#endif
}

/*
 * Should: die with the VMM.  The signal is cleared by setresuid, so it comes after; the byte that
 * follows fails with EPIPE when the VMM was gone before (getppid cannot tell: it is 0 in a pid
 * namespace of one's own).
 */
static void seal_pdeathsig(const struct launch_record *l)
{
#ifndef SEAL_OMIT_pdeathsig
	seal_check(l, SEAL_LAYER_PDEATHSIG, sys_call2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL));
#endif
	seal_report(l, REPORT_HELLO, 0);
}

static void seal_caps(const struct launch_record *l)
{
#ifndef SEAL_OMIT_caps
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	const struct __user_cap_data_struct none[2] = { { 0 } };
	long ret = sys_call5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

	seal_check(l, SEAL_LAYER_CAPS, ret);
	seal_check(l, SEAL_LAYER_CAPS, sys_call2(__NR_capset, &header, none));
#else
	(void)l;
#endif
}

static void seal_nnp(const struct launch_record *l)
{
#ifndef SEAL_OMIT_nnp
	seal_check(l, SEAL_LAYER_NNP, sys_call5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
#else
	(void)l;
#endif
}

/* Elsewhere than as pid 1 a write past RLIMIT_FSIZE raises SIGXFSZ instead of EFBIG, and a write
 * to a control socket whose VMM is gone SIGPIPE instead of EPIPE. */
static void seal_ignore(const struct launch_record *l, int signal)
{
	const struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} ignore = { SIG_IGN, 0, NULL, 0 };

	seal_check(l, SEAL_LAYER_RLIMITS, sys_call4(__NR_rt_sigaction, signal, &ignore, 0, 8));
}

/* Should: leave one free descriptor number, which the Landlock rule set and then the listener take. */
static void seal_rlimits(const struct launch_record *l)
{
	seal_ignore(l, SIGXFSZ);
	seal_ignore(l, SIGPIPE);
#ifndef SEAL_OMIT_rlimits
	const struct {
		int what;
		uint64_t limit;
	} limits[] = {
		{ RLIMIT_NOFILE, l->fd_held + 1u },
		{ RLIMIT_FSIZE, l->fsize },
		{ RLIMIT_NPROC, 0 },
		{ RLIMIT_CORE, l->core_limit },
		{ RLIMIT_MEMLOCK, 0 },
		{ RLIMIT_RTPRIO, 0 },
		{ RLIMIT_NICE, 0 },
		{ RLIMIT_MSGQUEUE, 0 },
		{ RLIMIT_SIGPENDING, 0 },
	};

	for (uint32_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const uint64_t both[2] = { limits[i].limit, limits[i].limit };

		seal_check(l, SEAL_LAYER_RLIMITS,
			   sys_call4(__NR_prlimit64, 0, limits[i].what, both, 0));
	}
#endif
}

/* Should: handle every access right that this kernel's Landlock knows, and allow none. */
static void seal_landlock(const struct launch_record *l)
{
#ifndef SEAL_OMIT_landlock
	const struct {
		uint64_t fs;
		uint64_t net;
		uint64_t scope;
	} attr = { l->landlock, l->landlock_net, l->landlock_scope };

	if (!(l->seal & SEAL_WANT_LANDLOCK))
		return;
	const long fd = sys_call3(__NR_landlock_create_ruleset, &attr, sizeof(attr), 0);

	seal_check(l, SEAL_LAYER_LANDLOCK, fd);
	seal_check(l, SEAL_LAYER_LANDLOCK, sys_call2(__NR_landlock_restrict_self, fd, 0));
	seal_check(l, SEAL_LAYER_LANDLOCK, sys_close((int)fd));
#else
	(void)l;
#endif
}

static void seal_mseal(const struct launch_record *l, const struct range *ranges, uint32_t n)
{
#ifndef SEAL_OMIT_mseal
	if (!(l->seal & SEAL_WANT_MSEAL))
		return;
	for (uint32_t i = 0; i < n; i++)
		seal_check(l, SEAL_LAYER_MSEAL,
			   sys_call3(__NR_mseal, ranges[i].start, ranges[i].end - ranges[i].start,
				     0));
#else
	(void)l, (void)ranges, (void)n;
#endif
}

static void seal_mdwe(const struct launch_record *l)
{
#ifndef SEAL_OMIT_mdwe
	if (l->seal & SEAL_WANT_MDWE)
		seal_check(l, SEAL_LAYER_MDWE,
			   sys_call5(__NR_prctl, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0));
#else
	(void)l;
#endif
}

static void seal_dumpable(const struct launch_record *l)
{
#ifndef SEAL_OMIT_dumpable
	seal_check(l, SEAL_LAYER_DUMPABLE, sys_call2(__NR_prctl, PR_SET_DUMPABLE, 0));
#else
	(void)l;
#endif
}

/*
 * The VMM's word that it has the listener, and that it was alive after the death signal was armed.  A
 * VMM that is killed dies thread by thread: it may have passed its children on before the signal was
 * armed and have its files open long enough for HELLO and HALF not to fail.  Without this the agreed
 * call would then wait for ever, for this process has the listener too.
 */
#ifndef SEAL_OMIT_seccomp
static void seal_await_go(const struct launch_record *l)
{
	struct ctl_header go = { 0, 0 };

	if (sys_read(l->fd_control, &go, sizeof(go)) != sizeof(go) || go.type != CTL_GO)
		sys_exit(BOX_EXIT_ORPHAN);
}
#endif

/*
 * Should: put the filter on and, with a listener, tell its number and make the agreed forbidden
 * call.  The VMM has by then taken the listener; it sees that call, and so that this filter is in
 * force and reports to it, and lets it fail once with ENOSYS.  Mustn't: keep the listener.
 */
static void seal_seccomp(const struct launch_record *l)
{
#ifndef SEAL_OMIT_seccomp
	const struct sock_fprog prog = {
		.len = (unsigned short)l->filter_count,
		.filter = (struct sock_filter *)(uintptr_t)l->filter,
	};
	const int listen = (l->seal & SEAL_WANT_LISTENER) != 0;
	const long fd = sys_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
				  listen ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, &prog);

	seal_check(l, SEAL_LAYER_SECCOMP, fd);
	if (!listen)
		return;
	seal_report(l, REPORT_HALF, (uint32_t)fd);
	seal_await_go(l);
	const long ret = sys_call3(BOX_CANARY_NR, l->canary[0], l->canary[1], l->canary[2]);

	if (ret != -ENOSYS)
		seal_failed(l, SEAL_LAYER_LISTENER, -EPROTO);
#ifndef SEAL_OMIT_listener
	seal_check(l, SEAL_LAYER_LISTENER, sys_close((int)fd));
#endif
#else
	(void)l;
#endif
}

void seal_close(const struct launch_record *l)
{
	struct range ranges[RANGES_MAX];
	const uint32_t n = seal_ranges(l, ranges);

	seal_maps(l, ranges, n);
	seal_fds(l);
	seal_bounding(l);
	seal_ids(l);
	seal_pdeathsig(l);
	seal_caps(l);
	seal_nnp(l);
	seal_rlimits(l);
	seal_landlock(l);
	seal_mseal(l, ranges, n);
	seal_mdwe(l);
	seal_dumpable(l);
	seal_seccomp(l);
	seal_report(l, REPORT_SEALED, 0);
}
