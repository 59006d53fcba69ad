/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reserve: memory of which the guest has as much as it and the operator agree on, by virtio-mem (virtio 1.2
 * section 5.15).  What is plugged is known here (virtio_mem.h), the memory is memmap.h's, and each change of what is
 * mapped is an epoch like any other (memory.h):
 *
 *   grow     one epoch that has all that will be usable, before the guest hears of the new size
 *   plug     answered at once; huge pages are taken from the host first
 *   unplug   answered when the pages are back at the host
 *   shrink   one epoch without what is not plugged any more, when the target is reached, or the guest does
 *            nothing about it for RESERVE_IDLE_MS; after that no process can reach it (proven)
 *
 * A guest that plugs and unplugs for ever causes an epoch a second, which is its own pause.
 */
#ifndef MAYFLY_HOTPLUG_RESERVE_H
#define MAYFLY_HOTPLUG_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"
#include "core/bus/virtio_kinds.h"
#include "core/machine/memmap.h"
#include "core/options.h"
#include "hotplug/revoke.h"
#include "hotplug/virtio_mem.h"

#define RESERVE_IDLE_MS 10000

struct memory;
struct memory_change;

/* Its device, as the guest has it.  Called with locks held: must not wait. */
struct reserve_guest {
	/* The configuration space is this from now on; tell: with its interrupt. */
	void (*space)(void *ctx, const struct virtio_mem_space *space, bool tell);
	void *ctx;
};

struct reserve_spec {
	char id[OPTION_ID_MAX + 1]; /* the device's */
	uint64_t block_bytes;
	uint32_t node; /* proximity domain */
	enum mem_pages pages;
};

struct reserve_status {
	struct reserve_spec spec;
	uint64_t gpa, total_bytes, slot_bytes;
	uint64_t plugged_bytes, requested_bytes, usable_bytes, mapped_bytes;
	/* The last epoch without what it had before; 0: none yet. */
	uint32_t shrunk_epoch;
	struct revoke_proof proof;
};

/* ---- building: before the guest runs ---- */

/* The next of the machine's reserves. 0; -EINVAL with *what: the field and its limit; -ENOMEM. */
int reserve_add(struct memory *memory, const struct reserve_spec *spec, const char **what);
/* What its device is made with. */
void reserve_config(struct memory *memory, uint32_t reserve, struct mem_config *config);

/* ---- its device ---- */

/* A question of its box, on the supervisor's thread (device_hooks.asked); does not wait. */
void reserve_asked(struct memory *memory, uint32_t reserve, struct device *dev,
		   const struct device_question *asked);
/* The driver reset it, and nothing touches its rings. */
void reserve_forget(struct memory *memory, uint32_t reserve);
/* The machine is reset, its devices are, and vCPUs do not run: all is unplugged.  Waits for pages that are
 * on their way to the host. */
void reserve_machine_reset(struct memory *memory, uint32_t reserve);
/* Whom to tell; all NULL: nobody (any more). */
void reserve_attach(struct memory *memory, uint32_t reserve, const struct reserve_guest *guest);

/* ---- the operator ---- */

/* How much the guest is to have.  Waits until it was told: for an epoch where it is to have more.  0;
 * -EINVAL, -ENOMEM, -EIO with one line in error, and it is as it was; -ECANCELED: the VM is ending. */
int reserve_request(struct memory *memory, uint32_t reserve, uint64_t bytes,
		    struct memory_change *change, struct option_error *error);
/* Up to LAYOUT_NODES_MAX; returns how many there are. */
uint32_t reserve_statuses(struct memory *memory, struct reserve_status *statuses);

#endif
