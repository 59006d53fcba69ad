/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory epochs: how the devices of a supervisor come into another memory map.  A sandbox cannot map, so
 * each is replaced by one that was born into the new map, in two steps, so that all that can fail comes
 * first (docs/hotplug.md):
 *
 *   prepare   generations are born into the new map from here on; those that serve stay as they are
 *   move      each device is handed off, one at a time; nothing fails any more, it can only last
 *   abandon   instead of move: back to the map before
 *
 * One change at a time: the caller sees to it.  None of these may be called on the supervisor's thread.
 */
#ifndef MAYFLY_CORE_BOX_EPOCH_H
#define MAYFLY_CORE_BOX_EPOCH_H

#include "core/box/box.h"

/* `next` is copied, its descriptors are borrowed until no generation of it is left; its number is
 * one that was never used.  Waits until every device that serves, or will, has a standby of it.  0, or with the
 * id of the device that is in the way in `who`: -EIO: its processes cannot be made in this map; -ETIMEDOUT.
 * On error supervisor_abandon_memory() has to follow; or the call again with the same map, after which there
 * is no way back. */
int supervisor_prepare_memory(struct supervisor *sup, const struct box_memory *next,
			      uint32_t timeout_ms, char who[DEVICE_ID_MAX + 1]);

/* The same, for this reason, and what is born is of this shape, too, which is copied.  Its rings are used from
 * the handoff on, and may have been served before by somebody else: used->idx is what it is then.  Also -ENOMEM,
 * -ENOTSUP: as device_create(); nothing was changed then, but supervisor_abandon_memory() may follow all the
 * same. */
int supervisor_prepare_shape(struct supervisor *sup, const struct box_memory *next,
			     enum replace_reason reason, struct device *dev,
			     const struct device_shape *shape, uint32_t timeout_ms,
			     char who[DEVICE_ID_MAX + 1]);

/* Generations are born into the map, and of the shape, before the last prepare again, of its old number.  A device
 * that had to be recovered in between may serve from the abandoned one: supervisor_move_memory() gets it back. */
void supervisor_abandon_memory(struct supervisor *sup);

enum epoch_until {
	EPOCH_MOVED, /* no generation of another epoch serves, or could */
	EPOCH_GONE,  /* no process of another epoch is left */
};

/* Waits at most timeout_ms (0: for ever). 0; -ETIMEDOUT: the device in `who` is not there yet (a fence that
 * is overdue); what was begun goes on, and the call may be made again. */
int supervisor_move_memory(struct supervisor *sup, enum epoch_until until, uint32_t timeout_ms,
			   char who[DEVICE_ID_MAX + 1]);

#endif
