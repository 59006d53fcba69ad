/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is true of one virtio-mem device (virtio 1.2 section 5.15): which blocks of its region are
 * plugged, how much is wanted, how much may be used, and what the last request was answered.  It lives
 * in the VMM; a device process only carries questions and answers (devmodel/mem).  Pure: no system call,
 * no lock, no clock; whoever owns a struct vmem calls from one thread at a time.
 *
 * Sizes are in bytes and multiples of the block, counted from the region's address:
 *
 *   plugged    what the guest has
 *   requested  what the operator wants it to have: blocks are plugged up to that
 *   usable     where the guest may plug; grows with `requested`, shrinks at UNPLUG_ALL only (5.15.4.2)
 *   mapped     what the memory epoch has of the region, a prefix of it.  A plugged block is mapped;
 *              a usable one need not be, and PLUG of it is then BUSY until an epoch maps it
 *
 * Repetition.  A device process can die between the VMM's answer and the used entry; its successor
 * finds the request still there and asks again.  A PLUG of what is plugged is an error, so it must be
 * known for what it is.  The program says where in the ring a request stands (struct mem_ask.at), and
 * requests are completed one at a time and in order: one that stands where the last answered one stood
 * is that one.  It gets that answer, whatever it says now, and changes nothing.
 *
 * A process that lies about any of this asks for what the guest could have asked for itself.  A wrong
 * place turns a new request into a repetition (the guest believes an answer that is another's) or a
 * repetition into a new request (judged by the same rules).  Its guest then has a wrong idea of its own
 * blocks.  Nothing is plugged beyond `requested` or outside `mapped`, and what is punched is unplugged.
 */
#ifndef MAYFLY_HOTPLUG_VIRTIO_MEM_H
#define MAYFLY_HOTPLUG_VIRTIO_MEM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bus/virtio_kinds.h"
#include "devmodel/abi/config.h"
#include "devmodel/abi/mem.h"

#define VMEM_BLOCK_MIN (2ull << 20)
#define VMEM_REGION_MAX (1ull << 46) /* 64 TiB: a bitmap of 4 MiB at the smallest block */
/* How much more is usable than is requested: a driver of Linux plugs whole memory blocks (128 MiB), which
 * the region's ends may cut. */
#define VMEM_EXTENT (256ull << 20)

struct vmem_spec {
	uint64_t addr; /* guest physical, a multiple of the block */
	uint64_t region_bytes;
	uint64_t block_bytes; /* a power of two, at least VMEM_BLOCK_MIN and a page of the region */
	uint64_t page_bytes;  /* of the region's memory, a power of two */
	uint64_t slot_bytes;  /* what is mapped is a multiple of it, and it of the block */
	uint32_t node;        /* ACPI proximity domain */
};

struct vmem {
	struct vmem_spec spec;
	uint64_t usable_bytes;
	uint64_t requested_bytes;
	uint64_t plugged_bytes;
	uint64_t mapped_bytes;
	bool unplugged; /* blocks were, since what is mapped was last set */
	bool busy; /* the owner's: PLUG, UNPLUG and UNPLUG_ALL are answered BUSY while it is set */
	uint64_t *bitmap; /* a bit a block, set: plugged; owned */
	bool answered;    /* a request was, since the rings began .. */
	uint8_t at;       /* .. there .. */
	uint32_t answer;  /* .. with this, mem_answer_value() */
};

/* Guest physical; bytes 0: none. */
struct vmem_range {
	uint64_t addr;
	uint64_t bytes;
};

/* Nothing plugged, requested or mapped.  0; -ENOMEM; -EINVAL with *why, static text: the field and its
 * limit.  On error there is nothing to free. */
int vmem_init(struct vmem *v, const struct vmem_spec *spec, const char **why);
/* Also of one that is all zero. */
void vmem_free(struct vmem *v);

/* ---- the guest ---- */

struct vmem_result {
	uint32_t answer;           /* for the device process */
	bool changed;              /* plugged or usable did: the configuration space does, too */
	bool repeated;             /* answered before */
	struct vmem_range plugged; /* just now */
	struct vmem_range
		punch; /* unplugged just now: to be given back before the answer is sent */
};

/* One request.  Never fails: whatever is asked has an answer. */
void vmem_ask(struct vmem *v, const struct mem_ask *ask, struct vmem_result *result);

/* What was plugged just now cannot be had from the host: it is not, and the answer is BUSY. */
void vmem_take_back(struct vmem *v, struct vmem_result *result);

/* The driver reset the device, after the fence: rings begin anew, blocks stay as they are (5.15.5.2). */
void vmem_forget(struct vmem *v);
/* The machine is reset: all is unplugged.  What is to be punched. */
struct vmem_range vmem_machine_reset(struct vmem *v);

/* ---- the operator ---- */

/* Whether it can be requested.  0, or -EINVAL with *why: not a multiple of the block, or more than the
 * region has. */
int vmem_check(const struct vmem *v, uint64_t requested_bytes, const char **why);

enum vmem_step {
	VMEM_NOTHING,
	VMEM_GROW,   /* an epoch that maps the first `bytes` of the region; then vmem_mapped() */
	VMEM_SHRINK, /* vmem_mapped() with fewer, then the epoch; then vmem_unplugged() is punched */
};

struct vmem_next {
	enum vmem_step step;
	uint64_t bytes;
};

/* What has to be done before vmem_request(): GROW, or nothing. */
struct vmem_next vmem_before(const struct vmem *v, uint64_t requested_bytes);
/* Sets the requested size; the usable one follows.  The configuration space and its interrupt are the
 * caller's.  0; -EINVAL as vmem_check(); -EAGAIN: vmem_before() was not done. */
int vmem_request(struct vmem *v, uint64_t requested_bytes);
/* What is to be done now.  SHRINK: blocks were unplugged, and the target is reached, or the guest has more
 * and `idle`, which is the end of the caller's patience; the map keeps what is plugged.  GROW: it has less than
 * is usable, and the guest may plug again. */
struct vmem_next vmem_next(const struct vmem *v, bool idle);
/* So much of the region is mapped by every process that serves: nothing beyond is plugged from here on.
 * 0; -EINVAL: not a multiple of the slot, more than the region, or a plugged block lies beyond. */
int vmem_mapped(struct vmem *v, uint64_t bytes);

/* ---- what is so ---- */

/* The next run of blocks at or after *at_bytes, a multiple of the block, that are all (un)plugged;
 * *at_bytes becomes its end.  False: there is none. */
bool vmem_plugged(const struct vmem *v, uint64_t *at_bytes, struct vmem_range *range);
bool vmem_unplugged(const struct vmem *v, uint64_t *at_bytes, struct vmem_range *range);

/* The device configuration as it is now, and what the transport is created with. */
void vmem_space(const struct vmem *v, struct virtio_mem_space *space);
void vmem_config(const struct vmem *v, struct mem_config *config);

#endif
