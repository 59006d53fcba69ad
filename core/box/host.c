/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes without effect: each asks the kernel in a way that changes nothing when the answer is yes.
 */
#include "core/box/host.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/cc.h"
#include "devmodel/abi/launch.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

/* Boxes of a VM that runs as root get ids that no account has: this and the VMM's pid (22 bits). */
#define BOX_ID_BASE 0x6d000000u

static void probe_landlock(struct seal_host *host)
{
	/* Which rights each ABI brought (Documentation/userspace-api/landlock.rst). */
	static const struct {
		int abi;
		uint32_t fs, net, scope;
	} rights[] = {
		{ 1, 0x1fff, 0, 0 },   { 2, 0x3fff, 0, 0 },   { 3, 0x7fff, 0, 0 },
		{ 4, 0x7fff, 0x3, 0 }, { 5, 0xffff, 0x3, 0 }, { 6, 0xffff, 0x3, 0x3 },
	};
	const long abi =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 1)
		return;
	host->landlock_abi = (int)abi;
	for (size_t i = 0; i < ARRAY_SIZE(rights) && rights[i].abi <= abi; i++) {
		host->landlock = rights[i].fs;
		host->landlock_net = rights[i].net;
		host->landlock_scope = rights[i].scope;
	}
}

static bool probe_listener(void)
{
	const uint32_t action = SECCOMP_RET_USER_NOTIF;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0)
		return false;
	return syscall(SYS_pidfd_getfd, -1, 0, 0) < 0 && errno != ENOSYS;
}

static uint32_t probe_filters(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	uint32_t n = 0;

	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL && sscanf(line, "Seccomp_filters: %u", &n) != 1)
		;
	fclose(f);
	return n;
}

void seal_host_probe(struct seal_host *host)
{
	*host = (struct seal_host){ 0 };
	probe_landlock(host);
	host->listener = probe_listener();
	host->mseal = syscall(SYS_mseal, 0, 0, 0) == 0;
	host->mdwe = prctl(PR_GET_MDWE, 0, 0, 0, 0) >= 0;
	host->kcmp = syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0) >= 0 || errno != ENOSYS;
	host->filters = probe_filters();
	host->uid = geteuid();
	host->gid = getegid();
	host->seal = (host->landlock_abi > 0 ? SEAL_WANT_LANDLOCK : 0) |
		     (host->mseal ? SEAL_WANT_MSEAL : 0) | (host->mdwe ? SEAL_WANT_MDWE : 0) |
		     (host->listener ? SEAL_WANT_LISTENER : 0);
	if (host->uid == 0) {
		host->uid = host->gid = BOX_ID_BASE + (uint32_t)getpid();
		host->seal |= SEAL_WANT_IDS;
	}
}
