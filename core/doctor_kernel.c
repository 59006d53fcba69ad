/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel and the machine offer.  Asked of /proc, /sys and of calls that change nothing; what
 * cannot be read is said to be unknown, never guessed.
 */
#include <errno.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/box/host.h"
#include "core/cc.h"
#include "core/doctor.h"

/* The first line of a small file, without its newline. false: it cannot be read. */
static bool read_line(const char *path, char *line, size_t room)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (f == NULL)
		return false;
	ok = fgets(line, (int)room, f) != NULL;
	fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok;
}

static bool read_number(const char *path, long long *value)
{
	char line[64], *end;

	if (!read_line(path, line, sizeof(line)))
		return false;
	*value = strtoll(line, &end, 10);
	return end != line;
}

/* ---- kernel ---- */

static void probe_release(struct doctor *d)
{
	struct utsname uts;

	if (uname(&uts) != 0)
		return;
	doctor_add(d, "kernel", "release", DOCTOR_OK, DOCTOR_NO_VALUE, "%s %s %s", uts.sysname,
		   uts.release, uts.machine);
	doctor_add(d, "kernel", "user", DOCTOR_OK, geteuid(), "%s",
		   geteuid() == 0 ? "root" : "an ordinary user");
}

/* In a child: this process must stay where it is. 0 or errno. */
static int try_user_namespace(void)
{
	const pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno);
	if (pid < 0)
		return errno;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return ECHILD;
	return WEXITSTATUS(status);
}

/* What keeps ordinary users from namespaces, NULL: nothing that is known. */
static const char *user_namespace_lock(void)
{
	static const struct {
		const char *path;
		long long bad;
		const char *cure;
	} locks[] = {
		{ "/proc/sys/user/max_user_namespaces", 0,
		  "sysctl user.max_user_namespaces is 0: set it to some 1000" },
		{ "/proc/sys/kernel/unprivileged_userns_clone", 0,
		  "sysctl kernel.unprivileged_userns_clone is 0: set it to 1" },
		{ "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1,
		  "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: set it to 0, or give "
		  "mayfly an AppArmor profile with userns" },
	};
	long long value;

	for (size_t i = 0; i < ARRAY_SIZE(locks); i++) {
		if (read_number(locks[i].path, &value) && value == locks[i].bad)
			return locks[i].cure;
	}
	return access("/proc/self/ns/user", F_OK) == 0 ? NULL
						       : "the kernel has none (CONFIG_USER_NS)";
}

/* As root nothing is made in one, so only an ordinary user is stopped by their absence; what then
 * fails is the trial box. */
static void probe_user_namespaces(struct doctor *d)
{
	const char *lock = user_namespace_lock();
	const int error = geteuid() == 0 ? 0 : try_user_namespace();

	if (lock == NULL && error == 0)
		doctor_add(d, "kernel", "user-namespaces", DOCTOR_OK, DOCTOR_NO_VALUE,
			   "ordinary users can make them");
	else
		doctor_add(d, "kernel", "user-namespaces", DOCTOR_MISSING, DOCTOR_NO_VALUE,
			   "ordinary users cannot run mayfly: %s",
			   lock != NULL ? lock : strerror(error));
}

static void add_call(struct doctor *d, const char *key, bool there, const char *since)
{
	doctor_add(d, "kernel", key, there ? DOCTOR_OK : DOCTOR_MISSING, DOCTOR_NO_VALUE, "%s%s",
		   there ? "" : "this kernel lacks it: ", there ? "" : since);
}

static void probe_calls(struct doctor *d)
{
	const uint32_t action = SECCOMP_RET_USER_NOTIF;
	struct seal_host host;

	seal_host_probe(&host);
	add_call(d, "seccomp-listener",
		 syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0,
		 "Linux 5.0 has it");
	add_call(d, "pidfd-getfd", syscall(SYS_pidfd_getfd, -1, 0, 0) < 0 && errno != ENOSYS,
		 "Linux 5.6 has it");
	doctor_add(d, "kernel", "landlock-abi", host.landlock_abi > 0 ? DOCTOR_OK : DOCTOR_MISSING,
		   host.landlock_abi, "%d%s", host.landlock_abi,
		   host.landlock_abi > 0 ? "" : ": see seal landlock");
	add_call(d, "mseal", host.mseal, "Linux 6.10 has it");
	add_call(d, "mdwe", host.mdwe, "Linux 6.3 has it");
	add_call(d, "kcmp", host.kcmp,
		 "CONFIG_KCMP; without it descriptors are compared by inode only");
}

/* The supervisor reads its own children; from 2 on that wants a capability. */
static void probe_ptrace(struct doctor *d)
{
	long long scope;

	if (!read_number("/proc/sys/kernel/yama/ptrace_scope", &scope))
		doctor_add(d, "kernel", "ptrace-scope", DOCTOR_OK, DOCTOR_NO_VALUE, "no Yama");
	else if (scope >= 3 || (scope == 2 && geteuid() != 0))
		doctor_add(d, "kernel", "ptrace-scope", DOCTOR_MISSING, scope,
			   "%lld: the VMM may not inspect its sandboxes; sysctl "
			   "kernel.yama.ptrace_scope=1",
			   scope);
	else
		doctor_add(d, "kernel", "ptrace-scope", DOCTOR_OK, scope, "%lld", scope);
}

void doctor_kernel(struct doctor *d)
{
	probe_release(d);
	probe_user_namespaces(d);
	probe_calls(d);
	probe_ptrace(d);
}

/* ---- memory, limits ---- */

static void probe_hugetlb(struct doctor *d, const char *key, const char *size)
{
	char path[96];
	long long free_pages;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%s/free_hugepages", size);
	if (!read_number(path, &free_pages))
		doctor_add(d, "memory", key, DOCTOR_NOTE, DOCTOR_NO_VALUE,
			   "this kernel or CPU has no pages of that size");
	else
		doctor_add(d, "memory", key, DOCTOR_NOTE, free_pages, "%lld pages free",
			   free_pages);
}

/* "always within_size advise [never] deny force" */
static void probe_thp(struct doctor *d)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char line[128], *chosen = NULL;

	if (read_line(path, line, sizeof(line)))
		chosen = strchr(line, '[');
	if (chosen == NULL) {
		doctor_add(d, "memory", "shmem-thp", DOCTOR_NOTE, DOCTOR_NO_VALUE,
			   "this kernel has none");
		return;
	}
	chosen++;
	chosen[strcspn(chosen, "]")] = '\0';
	doctor_add(
		d, "memory", "shmem-thp", DOCTOR_NOTE, DOCTOR_NO_VALUE, "%s%s", chosen,
		strcmp(chosen, "never") == 0 || strcmp(chosen, "deny") == 0
			? "; for pages=thp, as root: echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled"
			: "");
}

static void probe_limit(struct doctor *d, const char *key, int resource, rlim_t wanted,
			const char *why)
{
	struct rlimit limit;
	char soft[24] = "unlimited", hard[24] = "unlimited";

	if (getrlimit(resource, &limit) != 0)
		return;
	if (limit.rlim_cur != RLIM_INFINITY)
		snprintf(soft, sizeof(soft), "%llu", (unsigned long long)limit.rlim_cur);
	if (limit.rlim_max != RLIM_INFINITY)
		snprintf(hard, sizeof(hard), "%llu", (unsigned long long)limit.rlim_max);
	doctor_add(d, "limits", key, limit.rlim_max < wanted ? DOCTOR_MISSING : DOCTOR_NOTE,
		   limit.rlim_max == RLIM_INFINITY ? INT64_MAX : (int64_t)limit.rlim_max,
		   "soft %s, hard %s%s", soft, hard, limit.rlim_max < wanted ? why : "");
}

static void probe_cgroup(struct doctor *d)
{
	struct statfs fs, unified;
	const char *kind = "none mounted";

	if (statfs("/sys/fs/cgroup", &fs) == 0) {
		if (fs.f_type == CGROUP2_SUPER_MAGIC)
			kind = "v2";
		else if (fs.f_type == TMPFS_MAGIC)
			kind = statfs("/sys/fs/cgroup/unified", &unified) == 0 &&
					       unified.f_type == CGROUP2_SUPER_MAGIC
				       ? "v1, v2 beside it without controllers"
				       : "v1";
	}
	doctor_add(d, "limits", "cgroup", DOCTOR_NOTE, DOCTOR_NO_VALUE, "%s", kind);
}

void doctor_host(struct doctor *d)
{
	probe_hugetlb(d, "hugetlb-2m", "2048kB");
	probe_hugetlb(d, "hugetlb-1g", "1048576kB");
	probe_thp(d);
	probe_limit(d, "nofile", RLIMIT_NOFILE, 1024, ": at least 1024 are needed; ulimit -Hn");
	probe_limit(d, "memlock", RLIMIT_MEMLOCK, 0, "");
	probe_cgroup(d);
}
