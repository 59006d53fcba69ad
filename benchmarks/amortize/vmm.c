/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the VMM's process, as a device model is in most VMMs: the hosted program in a thread of this one.
 * A change is an entry in its map.  Nothing is waited for: it looks only where requests point it, and
 * there are none of that region before the entry is there and after it is gone.
 */
#include "benchmarks/amortize/scheme.h"

static int start(struct scheme *s)
{
	const int ret = scheme_add_bare(s);

	return ret != 0 ? ret : bareblk_go(&s->bare, &s->rig.mem, s->program, -1);
}

static int on_added(struct scheme *s)
{
	void *addr = guestmem_ptr(&s->rig.mem, gpa_make(SCHEME_NEW_GPA), SCHEME_NEW_BYTES);

	scheme_map_add(&s->bare.inproc.launch.map, (uintptr_t)addr);
	return 0;
}

static int on_taken(struct scheme *s)
{
	scheme_map_take(&s->bare.inproc.launch.map);
	return 0;
}

const struct scheme_ops scheme_vmm = {
	.letter = "a",
	.name = "in-vmm",
	.cannot = "that a bug in the device model stays in it: it has all that the VMM has",
	.start = start,
	.added = on_added,
	.taken = on_taken,
};
