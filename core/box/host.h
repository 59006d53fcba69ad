/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel offers for the seal; asked once at start. */
#ifndef MAYFLY_CORE_BOX_HOST_H
#define MAYFLY_CORE_BOX_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct seal_host {
	uint32_t seal; /* SEAL_WANT_* that every box gets */
	uint32_t
		kernel; /* SEAL_WANT_* that this kernel could do for this user, switched on or not */
	int landlock_abi; /* 0: none */
	bool listener;    /* seccomp user notification and pidfd_getfd */
	bool mseal;
	bool mdwe;
	bool kcmp;
	uint32_t filters; /* seccomp filters that this process already has, and so its children */
	uid_t uid;        /* with SEAL_WANT_IDS: the boxes' ids */
	gid_t gid;
	uint32_t landlock; /* access rights to handle */
	uint32_t landlock_net;
	uint32_t landlock_scope;
};

/* Never fails: what cannot be found out counts as missing. */
void seal_host_probe(struct seal_host *host);

#define SEAL_RELEASE(major, minor) ((uint32_t)(major) << 16 | (uint32_t)(minor))
/* SEAL_WANT_* that a kernel of this release could do.  landlock: its ABI, or -errno of asking; root: an
 * ordinary user has no other ids to give, whatever the kernel.  Pure. */
uint32_t seal_kernel_can(uint32_t release, int landlock, bool root);
/* Which of the layers that are wanted (bit i: enum seal_layer i) are not to be had; kernel: wanted is
 * also all that the kernel could do. Pure. */
uint32_t seal_host_lacks(const struct seal_host *host, uint32_t layers, bool kernel);

#endif
