/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters are made before there are threads, and put on by each thread itself.  A call that is not
 * allowed raises SIGSYS: the line that names it is what turns a rule that was forgotten into a report,
 * and the process ends, its boxes with it.  Calls that libc tries first and can do without are refused
 * with ENOSYS instead.
 */
#include "core/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/box/policy.h"
#include "core/cc.h"

static const char *const role_names[] = {
#define ROLE_NAME(NAME, name, text) name,
	CONFINE_ROLES(ROLE_NAME)
#undef ROLE_NAME
};

/* Of this process, as are threads. */
static struct sock_filter filters[CONFINE_ROLE_COUNT][CONFINE_FILTER_MAX];
static struct sock_fprog programs[CONFINE_ROLE_COUNT];
static bool begun;
static void (*last_act)(void);
static _Thread_local const char *role_name = "unnamed";

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* asm-generic/siginfo.h, of which libc shows a part */
#endif

/* In the end, by a process that traces the main thread. */
#ifdef __SANITIZE_ADDRESS__
#define SEEKS_LEAKS true
#else
#define SEEKS_LEAKS false
#endif

/* ---- filters ---- */

/* libc takes clone, whose flags can be looked at. */
static const int refused[] = { SYS_clone3 };

static int add_rule(scmp_filter_ctx ctx, const struct confine_rule *rule)
{
	struct scmp_arg_cmp args[CONFINE_ARGS];

	for (uint32_t i = 0; i < rule->arg_count; i++) {
		const bool own = rule->args[i].own_pid;

		args[i] = (struct scmp_arg_cmp){
			.arg = rule->args[i].index,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = own ? UINT64_MAX : rule->args[i].mask,
			.datum_b = own ? (uint64_t)getpid() : rule->args[i].value,
		};
	}
	const int ret =
		seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rule->nr, rule->arg_count, args);

	return ret == -EEXIST ? 0 : ret;
}

static int add_rules(scmp_filter_ctx ctx, enum confine_role role)
{
	int ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	for (size_t i = 0; i < ARRAY_SIZE(refused) && ret == 0; i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), refused[i], 0);
	for (size_t i = 0; i < confine_rule_count && ret == 0; i++) {
		if (confine_rules[i].roles & 1u << role)
			ret = add_rule(ctx, &confine_rules[i]);
	}
	return ret;
}

int confine_compile(enum confine_role role, struct sock_filter *filter)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int ret;

	if (ctx == NULL)
		return -ENOMEM;
	ret = add_rules(ctx, role);
	if (ret == 0)
		ret = policy_export(ctx, filter, CONFINE_FILTER_MAX * sizeof(filter[0]));
	seccomp_release(ctx);
	return ret < 0 ? ret : (int)((size_t)ret / sizeof(filter[0]));
}

/* Async-signal-safe, all of it; one line, one write. */
static void tell(unsigned int nr)
{
	char line[160], digits[16], *p = digits + sizeof(digits) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + nr % 10);
	while ((nr /= 10) != 0);
	char *end = stpcpy(stpcpy(line, "mayfly: thread '"), role_name);

	end = stpcpy(stpcpy(end, "' made system call "), p);
	end = stpcpy(end, ", which is none of the VMM's: a bug of mayfly, or an attack\n");
	if (write(STDERR_FILENO, line, (size_t)(end - line)) < 0)
		return; /* there is nobody to tell */
}

/* Also sent by hand, like any other signal.  Then it happens as it would have. */
static void on_forbidden(int number, siginfo_t *info, void *context)
{
	(void)context;
	last_act();
	if (info->si_code == SYS_SECCOMP)
		tell((unsigned int)info->si_syscall);
	signal(number, SIG_DFL);
	raise(number);
}

/* ---- privileges ---- */

/* Boxes of root's VMM have ids of their own: they are inspected and signalled across users.  Files that
 * the operator names are root's to open, whoever they belong to. */
#define CAPS_KEPT                                                                                  \
	(1u << CAP_SYS_PTRACE | 1u << CAP_KILL | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH)

static int drop_bounding(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		/* An ordinary user may not; no_new_privs does for that one. */
		if (prctl(PR_CAPBSET_DROP, cap) != 0 && errno != EPERM)
			return -errno;
	}
	return 0;
}

static int drop_caps(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) != 0)
		return -errno;
	data[0].permitted &= CAPS_KEPT;
	data[0].effective &= CAPS_KEPT;
	data[1].permitted = data[1].effective = 0;
	data[0].inheritable = data[1].inheritable = 0;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
		return -errno;
	return syscall(SYS_capset, &header, data) != 0 ? -errno : 0;
}

int confine_become(uid_t uid, gid_t gid)
{
	struct stat st;
	const bool kvm = stat("/dev/kvm", &st) == 0 && st.st_gid != 0 && (st.st_mode & S_IRGRP);

	if (drop_bounding() != 0 || setgroups(kvm ? 1 : 0, &st.st_gid) != 0 ||
	    setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
		return -errno;
	/* As exec would have it: /proc/self is ours, and core dumps go by the limit. */
	return prctl(PR_SET_DUMPABLE, 1) != 0 ? -errno : 0;
}

int confine_begin(void (*last)(void), const char **what)
{
	struct sigaction act = { .sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO };
	int ret;

	*what = "drop capabilities";
	ret = drop_bounding();
	if (ret == 0)
		ret = drop_caps();
	if (ret != 0)
		return ret;
	*what = "set no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	*what = "make seccomp filters";
	for (int i = 0; i < CONFINE_ROLE_COUNT; i++) {
		ret = confine_compile((enum confine_role)i, filters[i]);
		if (ret < 0)
			return ret;
		programs[i] = (struct sock_fprog){ (unsigned short)ret, filters[i] };
	}
	*what = "handle SIGSYS";
	last_act = last;
	if (sigaction(SIGSYS, &act, NULL) != 0)
		return -errno;
	begun = true;
	return 0;
}

void confine_thread(enum confine_role role)
{
	sigset_t set;

	if (role != CONFINE_VCPU && role != CONFINE_MAIN) /* these have names of their own */
		prctl(PR_SET_NAME, role_names[role]);
	if (!begun || (role == CONFINE_MAIN && SEEKS_LEAKS))
		return;
	role_name = role_names[role];
	/* Blocked, it would kill without a word. */
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &programs[role]) == 0);
}
