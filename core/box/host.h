/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel offers for the seal; asked once at start. */
#ifndef MAYFLY_CORE_BOX_HOST_H
#define MAYFLY_CORE_BOX_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct seal_host {
	uint32_t seal;    /* SEAL_WANT_* that every box gets */
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

#endif
