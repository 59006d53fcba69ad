/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory devices (DIMMs) that come and go while the guest runs.  Each change is a new memory epoch, in the
 * order of docs/hotplug.md: add: memory, KVM slot, processes into the new map, each device handed off, and
 * only then the guest is told; remove, once the guest has ejected: hand off, KVM slot, the last process of
 * the old map dead, pages gone, proven (revoke.h).
 *
 * One thread makes all changes, one after the other; whoever asks waits for it, and may go away.  Functions
 * lock inside; those that wait say so.
 */
#ifndef MAYFLY_HOTPLUG_MEMORY_H
#define MAYFLY_HOTPLUG_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/epoch.h"
#include "core/machine/mem_window.h"
#include "core/machine/memmap.h"
#include "core/machine/vm.h"
#include "core/options.h"
#include "hotplug/revoke.h"

#define MEMORY_DIMMS_MAX 64

/* NAME, as the API shows it, meaning. */
#define DIMM_STATES(X)                                                                             \
	X(FREE, "free", "nothing there")                                                           \
	X(ADDING, "adding", "asked for: the change has not ended")                                 \
	X(FAILED, "failed", "it could not be had; who asked has not heard yet")                    \
	X(PRESENT, "present", "in the map, and the guest was told")                                \
	X(ASKED, "eject-asked", "the guest was asked to eject it")                                 \
	X(REMOVING, "removing", "the guest has ejected it: the change has not ended")

enum dimm_state {
#define DIMM_STATE_ENUM(NAME, name, text) DIMM_STATE_##NAME,
	DIMM_STATES(DIMM_STATE_ENUM)
#undef DIMM_STATE_ENUM
		DIMM_STATE_COUNT
};

const char *dimm_state_name(enum dimm_state state);

struct dimm_spec {
	char id[OPTION_ID_MAX + 1];
	uint64_t bytes;
	uint32_t proximity; /* the guest's NUMA node */
	int node;           /* the host's; -1: none */
	enum mem_pages pages;
	bool prealloc;
};

/* Where the time of a change went. */
struct memory_change {
	uint32_t epoch;
	uint64_t allocate_us; /* memory */
	uint64_t slot_us;     /* KVM's own part */
	uint64_t prepare_us;  /* asked for until every device has a process of the new map */
	uint64_t move_us;     /* every device handed off */
	uint64_t
		gone_us; /* remove: until the last process of the old map was reaped, and the proof */
	struct revoke_proof proof;
};

struct dimm_status {
	struct dimm_spec spec;
	enum dimm_state state;
	uint32_t slot;
	uint64_t gpa;
	uint32_t since_epoch;  /* the first that has it */
	bool refused;          /* the guest did not eject it when it was last asked .. */
	uint32_t guest_status; /* .. or said otherwise how it went: _OST (ACPI 6.4 section 6.3.5) */
};

/* A range of the current map, boot RAM too. */
struct memory_region {
	uint64_t gpa, bytes;
	uint64_t page_bytes;
	uint64_t resident_bytes; /* that the host has given for it */
};

/* The last that was removed, and how that was proven; id "": none yet. */
struct memory_removal {
	char id[OPTION_ID_MAX + 1];
	struct memory_change change;
};

/* What the guest sees of it; each is called without locks held. 0 or -errno. */
struct memory_guest {
	int (*insert)(void *ctx, uint32_t slot, uint64_t gpa, uint64_t bytes, uint32_t proximity);
	int (*ask_eject)(void *ctx, uint32_t slot);
	void *ctx;
};

struct memory_site {
	struct memmap
		*map; /* the memory's from now on: its epochs are made here and nowhere else */
	struct vm *vm;
	struct supervisor *sup;
	struct memory_guest guest;
	uint64_t boot_bytes, max_bytes; /* equal: nothing can be added */
	struct mem_window window;       /* where they go; none: likewise */
	enum mem_pages pages;           /* of what is added, where nothing else is said */
	uint32_t slots;
	uint32_t nodes; /* of the guest's proximity domains */
};

struct memory;

/* Begins its thread. 0 or -errno. */
int memory_create(struct memory **out, const struct memory_site *site);
/* The VM is ending: who waits for a change is told (-ECANCELED), none is begun any more. */
void memory_end(struct memory *memory);
/* Likewise, and its threads have ended: a change that goes on is left as it is, questions of boxes stay
 * unanswered.  The supervisor must still be there. */
void memory_stop(struct memory *memory);
/* The same, where that was not done.  No device may speak to it any more. */
void memory_destroy(struct memory *memory);

/* Waits until the guest was told.  0; -EINVAL, -EEXIST (the id), -ENOSPC, -ENOMEM, -ENOTSUP, -EIO with one
 * line in error, and nothing is changed; -ECANCELED: the VM is ending. */
int memory_add_dimm(struct memory *memory, const struct dimm_spec *spec,
		    struct memory_change *change, struct option_error *error);
/* Asks the guest, and waits until the memory is gone.  0; -ENOENT: no such DIMM; -EBUSY: it is being added or
 * removed; -EPERM: the guest refuses; -ETIMEDOUT: the guest has not answered, and may still: the DIMM stays
 * asked for; -ECANCELED. */
int memory_remove_dimm(struct memory *memory, const char *id, uint32_t timeout_ms,
		       struct memory_change *change, struct option_error *error);

/* The number of the current epoch. */
uint32_t memory_epoch(struct memory *memory);
/* Up to MEMORY_DIMMS_MAX; returns how many there are. */
uint32_t memory_dimms(struct memory *memory, struct dimm_status *dimms);
/* The current map: up to MEM_REGIONS_MAX; returns how many there are. */
uint32_t memory_regions(struct memory *memory, struct memory_region *regions);
void memory_last_removal(struct memory *memory, struct memory_removal *removal);
/* What it was made with; never changes. */
const struct memory_site *memory_site(const struct memory *memory);
/* What the guest does with them; from a vCPU's thread, do not wait.  ejected: also without being asked.  ost:
 * source event and status as in _OST. */
void memory_ejected(struct memory *memory, uint32_t slot);
void memory_ost(struct memory *memory, uint32_t slot, uint32_t event, uint32_t status);
/* The machine was reset: what the guest was asked it has forgotten. */
void memory_forgotten(struct memory *memory, uint32_t slot);

#endif
