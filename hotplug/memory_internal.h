/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory.c (what is asked for, and by whom) and memory_change.c (how a change is carried out) share.
 */
#ifndef MAYFLY_HOTPLUG_MEMORY_INTERNAL_H
#define MAYFLY_HOTPLUG_MEMORY_INTERNAL_H

#include <pthread.h>

#include "hotplug/memory.h"

struct dimm {
	struct dimm_spec spec;
	enum dimm_state state;
	uint64_t gpa;
	uint32_t since_epoch;
	bool told; /* PRESENT: the guest was told of it; before, it cannot be asked */
	bool refused;
	uint32_t guest_status;
	/* Calls that wait for it and have yet to read how it ended: until then the slot is not taken again. */
	uint32_t waiters;
	/* The worker's, until the state says that it is done. */
	int ret;                     /* FAILED .. */
	const char *what;            /* .. because of this .. */
	char who[DEVICE_ID_MAX + 1]; /* .. and this device; or "" */
	struct memory_change added, removed;
};

struct memory {
	struct memory_site site;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ending;
	struct dimm dimms[MEMORY_DIMMS_MAX];
	struct memory_removal removal;
	struct box_memory next, over; /* the worker's */
};

/* On the worker's thread, without the lock.  add: 0 and the change has come to its end but for the guest; or
 * what memory_add_dimm() returns, and all is as it was.  remove: 0.  Both: -ECANCELED: the VM is ending. */
int memory_change_add(struct memory *memory, struct dimm *dimm);
int memory_change_remove(struct memory *memory, struct dimm *dimm);

#endif
