/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launch record: all that a generation knows when it is born.  It is the first message on the
 * control socket, written before the process exists and read by it once, before anything else.
 *
 * Descriptors.  Numbers 0 .. fd_held - 1 stay for life, dense; fd_held is the one free number (for
 * the Landlock rule set, then for the seccomp listener), and what stands above it at exec (state
 * page, regions, dirty log) is closed once mapped:
 *
 *   0                 control socket, SOCK_SEQPACKET
 *   fd_kick  + i      kick eventfd of queue queue_index[i]: the box may only read it
 *   fd_call  + i      call eventfd of the same queue: the box may only write it
 *   fd_timer          timerfd (CLOCK_MONOTONIC, non-blocking); absent: equal to fd_held
 *   fd_backend + j    what the kind needs (blk: the image; rng: the entropy source)
 *   fd_held           free
 *   fd_held + 1       the state page, until mapped
 *   fd_held + 2 + k   memory region k, until mapped
 *   after the last    the dirty log, until mapped; none where log_bytes is 0
 */
#ifndef MAYFLY_ABI_LAUNCH_H
#define MAYFLY_ABI_LAUNCH_H

#include <stdint.h>

#include "devmodel/abi/config.h"
#include "devmodel/abi/gpa.h"

#define LAUNCH_MAGIC 0x796c66796d /* "myfly" */
#define LAUNCH_VERSION 1

#define BOX_QUEUES_MAX 16
#define BOX_BACKENDS_MAX 4
#define BOX_FILTER_MAX 1024 /* BPF instructions */
#define BOX_WARM_MAX (3 * BOX_QUEUES_MAX)
#define BOX_FD_CONTROL 0
#define BOX_SETUP_STATE 1  /* + fd_held */
#define BOX_SETUP_REGION 2 /* + fd_held + region; the dirty log where one more would be */

/* What the launching VMM wants of the seal; layers that the host lacks are left out by the VMM,
 * which names them in its status, and never by the box. */
#define SEAL_WANT_IDS 1u /* as root: drop groups, set uid and gid */
#define SEAL_WANT_LANDLOCK 2u
#define SEAL_WANT_MSEAL 4u
#define SEAL_WANT_MDWE 8u
#define SEAL_WANT_LISTENER 16u /* seccomp with a listener; else the default action kills */

struct launch_insn { /* struct sock_filter, without its header */
	uint16_t code;
	uint8_t jt;
	uint8_t jf;
	uint32_t k;
};

struct launch_warm { /* guest physical */
	uint64_t gpa;
	uint64_t bytes;
};

struct launch_record {
	uint64_t magic;
	uint32_t version;
	uint32_t kind; /* enum dev_kind */
	uint64_t generation;
	uint32_t lane; /* which of the device's boxes this is */
	uint32_t lanes;

	uint16_t fd_control; /* BOX_FD_CONTROL; hosted builds use another */
	uint16_t fd_held;
	uint16_t fd_kick;
	uint16_t fd_call;
	uint16_t fd_timer;
	uint16_t fd_backend;
	uint16_t backends;
	uint16_t queues;
	uint16_t queue_index[BOX_QUEUES_MAX]; /* device-wide number of each of this box's queues */

	uint32_t seal; /* SEAL_WANT_* */
	uint32_t uid;  /* with SEAL_WANT_IDS */
	uint32_t gid;
	uint32_t landlock; /* access rights to handle, file system (all that the ABI has) */
	uint32_t landlock_net;
	uint32_t landlock_scope;
	uint64_t fsize;     /* RLIMIT_FSIZE */
	uint64_t canary[3]; /* arguments of the agreed forbidden call, BOX_CANARY_NR */

	uint64_t state_addr; /* STATE_PAGE_BYTES */
	uint64_t stack_addr; /* BOX_STACK_BYTES, nothing mapped on either side */

	struct mem_map map; /* addr: where to map each; register devices have none */
	uint64_t region_offset[MEM_REGIONS_MAX]; /* offset of each region in its descriptor */
	uint64_t region_page[MEM_REGIONS_MAX];   /* bytes of a page that the host backs it with */

	/* What of guest memory is written is marked here, a bit for each LOG_PAGE of it from address 0 on:
	 * bit n % 8 of byte n / 8 (devmodel/common/dirty.h).  log_bytes 0: there is no log. */
	uint64_t log_addr;   /* where to map it: launch_log_span() bytes, shared */
	uint64_t log_offset; /* in its descriptor, a multiple of 4096 */
	uint64_t log_bytes;  /* what lies behind them in the last page is nobody's */

	/* Where the rings lie as far as the VMM knows (bytes 0: it does not): page tables are filled
	 * there before the seal, for the first pass of a successor.  A hint, no more: ACTIVATE says. */
	struct launch_warm warm[BOX_WARM_MAX];

	union dev_config config;

	uint32_t filter_count;
	uint32_t core_limit; /* RLIMIT_CORE */
	struct launch_insn filter[BOX_FILTER_MAX];
};

#define LOG_PAGE 4096ull /* vhost's VHOST_LOG_PAGE */

/* The log's mapping: whole pages. */
static inline uint64_t launch_log_span(const struct launch_record *launch)
{
	return (launch->log_bytes + 4095) & ~4095ull;
}

#define BOX_STACK_BYTES (32u << 10)
#define BOX_CANARY_NR 110 /* getppid: in nobody's policy, harmless if it were executed */

_Static_assert(sizeof(struct launch_insn) == 8, "struct sock_filter");
_Static_assert(sizeof(struct launch_record) % 8 == 0, "no tail padding");

#endif
