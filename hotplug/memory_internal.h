/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory.c (DIMMs: what is asked for, and by whom), reserve.c (the same of virtio-mem) and memory_change.c
 * (how a change of the map is carried out) share.
 */
#ifndef MAYFLY_HOTPLUG_MEMORY_INTERNAL_H
#define MAYFLY_HOTPLUG_MEMORY_INTERNAL_H

#include <pthread.h>

#include "core/machine/layout.h"
#include "hotplug/memory.h"
#include "hotplug/reserve.h"
#include "hotplug/virtio_mem.h"

/* What a change of the map has come to. */
struct memory_step {
	const char *id;                /* whose memory it is, for the log */
	const char *what;              /* it failed because of this .. */
	char who[DEVICE_ID_MAX + 1];   /* .. and this device; or "" */
	bool accepted;                 /* the map is the next one */
	bool lingers;                  /* undone, but that a process may have it still */
	struct memory_change *figures; /* filled in as it goes */
};

static inline struct memory_step memory_step_of(const char *id, struct memory_change *figures)
{
	*figures = (struct memory_change){ 0 };
	return (struct memory_step){ .id = id, .what = "", .figures = figures };
}

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
	int ret; /* FAILED, for what the step says */
	struct memory_step step;
	struct memory_change added, removed;
};

struct reserve {
	struct reserve_spec spec;
	struct reserve_guest guest;
	struct vmem vmem;
	/* What the operator wants, until it is so or could not be: one call at a time. */
	bool taken; /* by a call */
	bool wanted;
	uint64_t wanted_bytes;
	int ret;
	/* The guest's request that the giver is at, and the one that came meanwhile. */
	bool owes;
	struct vmem_result result;
	struct question {
		struct device *dev;
		struct device_question asked;
	} question, next;
	bool has_next;
	uint64_t active_ns; /* when the guest last changed something */
	uint64_t due_ns;    /* of epochs that it causes: of ration_take() .. */
	uint64_t due_at_ns; /* .. and when the next may be, once it was taken; 0: it was not */
	/* The worker's. */
	struct memory_step step;
	struct memory_change change, shrunk; /* the last */
	struct revoke_proof proof;           /* of the last to shrink */
};

struct memory {
	struct memory_site site;
	pthread_t worker; /* makes epochs */
	pthread_t giver;  /* gives pages to the guest of a reserve, and to the host */
	bool has_worker, has_giver;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ending;
	struct dimm dimms[MEMORY_DIMMS_MAX];
	struct memory_removal removal;
	struct reserve reserves[LAYOUT_NODES_MAX];
	uint32_t reserve_count;
	struct box_memory next, over; /* the worker's */
};

/* ---- memory_change.c; on the worker's thread, without the lock ---- */

/* To the map in memory->next, which was planned and has more than now.  0; -EIO or what KVM said, and it was
 * undone, but for its memory; -ECANCELED: the VM is ending. */
int memory_change_forth(struct memory *memory, struct memory_step *step);
/* To the map in memory->next, which has less. 0 and no process has it any more; -ECANCELED. */
int memory_change_back(struct memory *memory, struct memory_step *step);

/* add: 0 and the change has come to its end but for the guest; or what memory_add_dimm() returns, and all is as
 * it was.  remove: 0.  Both: -ECANCELED: the VM is ending. */
int memory_change_add(struct memory *memory, struct dimm *dimm);
int memory_change_remove(struct memory *memory, struct dimm *dimm);

/* ---- reserve.c; with the lock held, which is let go of meanwhile ---- */

/* Makes the next epoch that a reserve is in want of.  False: none is; *at_ns: unless something changes, not
 * before then (UINT64_MAX: ever). */
bool reserve_change(struct memory *memory, uint64_t *at_ns);
/* The thread of pages. */
void *reserve_giver(void *arg); /* struct memory */
void reserves_free(struct memory *memory);

#endif
