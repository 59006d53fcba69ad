/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes without effect: each asks the kernel in a way that changes nothing when the answer is yes.
 *
 * What a kernel could do beyond that goes by its release: what keeps a layer away is then the host (a
 * boot parameter, a container's filter, a VMM that is not root) and can be mended there.  Landlock can
 * be left out of a kernel, so that its answer decides: with EOPNOTSUPP it is there, and switched off.
 */
#include "core/box/host.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/cc.h"
#include "devmodel/abi/launch.h"
#include "devmodel/abi/seal.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

/* Boxes of a VM that runs as root get ids that no account has: this and the VMM's pid (22 bits). */
#define BOX_ID_BASE 0x6d000000u

/* The layers that a host may lack; every other one is part of every box. */
static const struct {
	enum seal_layer layer;
	uint32_t want;
	uint32_t since; /* 0: any release */
} optional[] = {
	{ SEAL_LAYER_IDS, SEAL_WANT_IDS, 0 },
	{ SEAL_LAYER_LANDLOCK, SEAL_WANT_LANDLOCK, SEAL_RELEASE(5, 13) },
	{ SEAL_LAYER_MSEAL, SEAL_WANT_MSEAL, SEAL_RELEASE(6, 10) },
	{ SEAL_LAYER_MDWE, SEAL_WANT_MDWE, SEAL_RELEASE(6, 3) },
	{ SEAL_LAYER_LISTENER, SEAL_WANT_LISTENER, SEAL_RELEASE(5, 6) },
};

uint32_t seal_kernel_can(uint32_t release, int landlock, bool root)
{
	uint32_t can = 0;

	for (size_t i = 0; i < ARRAY_SIZE(optional); i++)
		if (release >= optional[i].since)
			can |= optional[i].want;
	if (landlock == -ENOSYS)
		can &= ~SEAL_WANT_LANDLOCK;
	return root ? can : can & ~SEAL_WANT_IDS;
}

uint32_t seal_host_lacks(const struct seal_host *host, uint32_t layers, bool kernel)
{
	uint32_t lacks = 0;

	for (size_t i = 0; i < ARRAY_SIZE(optional); i++) {
		const uint32_t bit = 1u << optional[i].layer, want = optional[i].want;

		if (!(host->seal & want) && ((layers & bit) || (kernel && (host->kernel & want))))
			lacks |= bit;
	}
	return lacks;
}

static uint32_t probe_release(void)
{
	struct utsname uts;
	unsigned major = 0, minor = 0;

	if (uname(&uts) != 0 || sscanf(uts.release, "%u.%u", &major, &minor) != 2)
		return 0;
	return SEAL_RELEASE(major, minor);
}

/* Returns the ABI, or -errno. */
static int probe_landlock(struct seal_host *host)
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
		return -errno;
	host->landlock_abi = (int)abi;
	for (size_t i = 0; i < ARRAY_SIZE(rights) && rights[i].abi <= abi; i++) {
		host->landlock = rights[i].fs;
		host->landlock_net = rights[i].net;
		host->landlock_scope = rights[i].scope;
	}
	return (int)abi;
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
	host->kernel = seal_kernel_can(probe_release(), probe_landlock(host), geteuid() == 0);
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
