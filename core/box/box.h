/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: devices whose processes are made, sealed, verified, activated, fenced, replaced
 * and killed.  It runs a thread of its own; every function here but the hooks may be called from any
 * other thread.  The states of a device and what is legal in each: box/table.h.
 *
 * The caller (the VMM's transport, or the host rig) owns the guest's view: ring addresses, features,
 * eventfds, configuration.  The supervisor owns processes.  docs/generations.md has the theory.
 */
#ifndef MAYFLY_CORE_BOX_BOX_H
#define MAYFLY_CORE_BOX_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/box/host.h"
#include "core/box/spawn.h"
#include "core/box/suspect.h"
#include "devmodel/abi/config.h"
#include "devmodel/abi/gpa.h"
#include "devmodel/abi/kinds.h"
#include "devmodel/abi/launch.h"
#include "devmodel/abi/message.h"

#define DEVICE_ID_MAX 64
#define DEVICE_LANES_MAX 16
#define DEVICE_DEATHS_MAX 64 /* the largest death budget */

struct supervisor;
struct device;
struct news; /* core/box/news.h */

/* One memory epoch as the VMM has it.  map.regions[i].addr is the VMM's own mapping. */
struct box_memory {
	struct mem_map map;
	int fds[MEM_REGIONS_MAX];          /* memfd of each region; borrowed */
	uint64_t offsets[MEM_REGIONS_MAX]; /* where the region begins in it */
	uint64_t page_bytes[MEM_REGIONS_MAX];
	uint64_t slot_bytes[MEM_REGIONS_MAX]; /* KVM has it in memory slots of so many; 0: in one */
	/* The dirty log in which boxes mark what they write (devmodel/abi/launch.h), of whoever watches
	 * guest memory: a file that can be written, in 4 KiB pages, which must not shrink.  It should
	 * reach up to the last page of the map: what lies beyond it is not marked. */
	int log_fd;          /* borrowed, as fds are */
	uint64_t log_offset; /* a multiple of 4096 */
	uint64_t log_bytes;  /* 0: there is none, whatever log_fd is */
};

/* Why a generation was replaced: NAME, name as the API shows it. */
#define REPLACE_REASONS(X)                                                                         \
	X(SCHEDULE, "schedule")                                                                    \
	X(MEMORY_MAP, "memory-map")                                                                \
	X(RINGS, "rings")                                                                          \
	X(OPERATOR, "operator")                                                                    \
	X(CRASH, "crash")                                                                          \
	X(SECCOMP, "seccomp")                                                                      \
	X(HANG, "hang")                                                                            \
	X(PROTOCOL, "protocol")                                                                    \
	X(RING, "ring")                                                                            \
	X(STORM, "storm")                                                                          \
	X(AUDIT, "audit")

enum replace_reason {
#define REPLACE_REASON_ENUM(NAME, name) REPLACE_##NAME,
	REPLACE_REASONS(REPLACE_REASON_ENUM)
#undef REPLACE_REASON_ENUM
		REPLACE_REASON_COUNT
};

const char *replace_reason_name(enum replace_reason reason);
const char *dev_kind_name(enum dev_kind kind);

/* How it was replaced: NAME, name.  By reason, since every recovery has a suspicion for its own. */
#define PASSAGES(X)                                                                                \
	X(HANDOFF, "handoff")                                                                      \
	X(RECOVERY, "recovery")

enum passage_kind {
#define PASSAGE_ENUM(NAME, name) PASSAGE_##NAME,
	PASSAGES(PASSAGE_ENUM)
#undef PASSAGE_ENUM
		PASSAGE_COUNT
};

static inline bool replace_reason_planned(enum replace_reason reason)
{
	return reason <= REPLACE_OPERATOR;
}

/* What a fence rests on, weakest claim last; docs/generations.md says what each proves. */
#define FENCES(X)                                                                                  \
	X(NONE, "none")                                                                            \
	X(PARKED, "parked")                                                                        \
	X(HELD, "held")                                                                            \
	X(STOPPED, "stopped")                                                                      \
	X(EXITING, "exiting")                                                                      \
	X(DEAD, "dead")

enum fence {
#define FENCE_ENUM(NAME, name) FENCE_##NAME,
	FENCES(FENCE_ENUM)
#undef FENCE_ENUM
		FENCE_COUNT
};

const char *fence_name(enum fence fence);

/* One finished replacement. */
struct replacement {
	uint64_t from; /* generation numbers */
	uint64_t to;
	bool planned; /* handoff; else recovery */
	bool carried; /* a state record was handed on */
	bool cold;    /* no standby was ready when it was needed */
	enum replace_reason reason;
	enum fence fence;
	uint32_t in_flight; /* requests that the old generation left to the new one */
	uint32_t drain_us;  /* QUIESCE sent to PARKED seen; 0 for a recovery */
	uint32_t switch_us; /* PARKED seen, or suspicion raised, to ACTIVATED */
};

/* A box asks (REPORT_ASK) and waits for device_answer_question(). */
struct device_question {
	uint64_t generation;
	uint32_t lane;
	uint32_t number; /* of the box's */
	uint32_t value;  /* of the report: the kind's, range-checked (devmodel/abi/mem.h) .. */
	uint64_t detail; /* .. of a box that may be hostile */
};

/* Hooks run on the supervisor's thread and must not call back into a function that waits for it. */
struct device_hooks {
	void (*started)(void *ctx);    /* first pass done after device_start() */
	void (*reset_done)(void *ctx); /* after device_reset(): nothing touches rings */
	void (*needs_reset)(void *ctx, const char *why); /* static text */
	void (*replaced)(void *ctx, const struct replacement *r);
	/* Kinds of which a box has work for the VMM (core/box/errand.c); of others NULL.  0, or -EPROTO: what
	 * the box says cannot be, and makes it suspect.
	 * release: so many pages of RELEASE_PAGE bytes from gpa on hold nothing; memory is the epoch as
	 * it is now.  Nothing was checked.  It holds the supervisor up, and so has to be short. */
	int (*release)(void *ctx, const struct box_memory *memory, uint64_t gpa, uint32_t pages);
	/* A number that the driver gave. */
	int (*stat)(void *ctx, uint32_t tag, uint64_t value);
	/* A question, one at a time from each box.  May be answered in here, or later; never is only for a
	 * device that is about to be destroyed. */
	void (*asked)(void *ctx, const struct device_question *question);
};

struct device_spec {
	char id[DEVICE_ID_MAX + 1];
	enum dev_kind kind;
	uint32_t queues;
	uint32_t lanes; /* boxes a generation, 1 .. queues; queue q is served by lane q % lanes */
	int kick[BOX_QUEUES_MAX]; /* eventfds, EFD_NONBLOCK; borrowed, must outlive the device */
	int call[BOX_QUEUES_MAX];
	int backends[BOX_BACKENDS_MAX]; /* borrowed */
	uint32_t backend_count;
	bool guest_memory;    /* ring devices: true */
	uint64_t fsize;       /* RLIMIT_FSIZE */
	uint32_t policy_when; /* POLICY_IF_* */
	union dev_config config;
	/* Register devices: notes a write that was carried out, for a clean start. */
	void (*shadow)(uint8_t *shadow, uint8_t offset, uint8_t value);
	uint32_t death_budget;   /* this many deaths, at most DEVICE_DEATHS_MAX, .. */
	uint32_t death_window_s; /* .. in this time quarantine it; 0: never */
	/* A request that so many boxes died of is answered with an error; 0: never. */
	uint32_t poison_limit;
	struct suspect_limits limits;
	uint32_t audit_ms;                /* how often the seal is checked again; 0: never */
	const struct device_hooks *hooks; /* may be NULL, each may be NULL */
	void *ctx;
};

/* Eventfds of all queues of a device, served or not; as in device_spec. */
struct device_wiring {
	int kick[BOX_QUEUES_MAX];
	int call[BOX_QUEUES_MAX];
};

/* What of a device may become other while it serves; each change is a handoff to a generation that was born
 * with it (core/box/epoch.h).  Descriptors are borrowed until the next change is over (EPOCH_MOVED). */
struct device_shape {
	uint64_t features;
	/* size 0: not served.  Where one begins is read from the ring: `next` and `refuse` are not looked
	 * at. */
	struct ctl_queue queues[BOX_QUEUES_MAX];
	struct device_wiring wiring;
	uint64_t fsize;
	union dev_config config;
};

/* Upper bounds of a histogram's buckets, in microseconds; one more has no bound. */
#define DEVICE_BUCKETS(X)                                                                          \
	X(25)                                                                                      \
	X(50) X(100) X(200) X(500) X(1000) X(2000) X(5000) X(10000) X(50000) X(200000) X(1000000)

struct device_histogram {
#define DEVICE_BUCKET_COUNT(us) +1
	uint64_t counts[1 DEVICE_BUCKETS(DEVICE_BUCKET_COUNT)];
#undef DEVICE_BUCKET_COUNT
	uint64_t sum_us;
};

#define DEVICE_SAMPLES 512 /* the last so many switch and drain times are kept for percentiles */

struct device_status {
	const char *state;
	uint64_t generation; /* 0: none active */
	uint32_t epoch;
	bool maps;                  /* guest memory: it is a ring device */
	pid_t pid;                  /* of lane 0; 0: none */
	pid_t standby_pid;          /* 0: none ready */
	bool standby_ready;         /* every box of it is sealed and verified */
	uint64_t standby_sealed_ns; /* lane 0: asked of the spawner to SEALED seen */
	uint64_t standby_verify_ns; /* the check from outside */
	uint64_t age_ns;
	uint64_t replacements[REPLACE_REASON_COUNT];
	uint64_t deaths_by_reason[REPLACE_REASON_COUNT]; /* all there ever were */
	uint64_t cold;
	uint64_t stalls;    /* fences that were overdue */
	uint64_t slow;      /* times that a backend call took longer than hang_ms */
	uint64_t poisoned;  /* requests answered with an error because their servers died of them */
	uint64_t faults;    /* injected (core/box/fault.h) */
	bool faulty;        /* the programs are the faulty set */
	uint64_t autopsies; /* written (core/box/autopsy.h) .. */
	uint64_t autopsies_skipped; /* .. beyond the rate, or too many waited .. */
	uint64_t autopsies_failed;  /* .. or could not be written */
	uint32_t deaths_in_window;
	uint32_t samples;
	uint32_t switch_us[DEVICE_SAMPLES]; /* newest last */
	uint32_t drain_us[DEVICE_SAMPLES];
	struct device_histogram switches[PASSAGE_COUNT]; /* all there ever were */
	struct device_histogram drains;                  /* of handoffs */
	const char *broken;                              /* NULL, or why */
};

/* The spawner is borrowed and must outlive the supervisor. memory is copied, its descriptors are
 * borrowed. 0 or -errno. */
int supervisor_create(struct supervisor **out, struct spawner *spawner,
		      const struct seal_host *host, const struct box_memory *memory);
/* Kills and reaps every box of every device; devices must have been destroyed. */
void supervisor_destroy(struct supervisor *sup);

/* What happens is told there, from the next device_create() on. Borrowed, and must outlive it. */
void supervisor_tell(struct supervisor *sup, struct news *news);

/* Adds a device and begins to make its standby.  0; -EINVAL: the spec makes no sense; -ENOMEM;
 * -ENOTSUP: libseccomp cannot express the policy. */
int device_create(struct supervisor *sup, const struct device_spec *spec, struct device **out);
/* Kills its boxes and waits until they are reaped. */
void device_destroy(struct device *dev);

/* The driver set DRIVER_OK.  Returns at once; hooks->started follows.  -EBUSY: not idle. */
int device_start(struct device *dev, uint64_t features, const struct ctl_queue *queues);
/* The driver wrote 0.  Returns at once; hooks->reset_done follows when the generation is fenced. */
void device_reset(struct device *dev);

/* Waits until a reset is complete. 0, or -ETIMEDOUT (timeout_ms 0: never). */
int device_wait_idle(struct device *dev, uint32_t timeout_ms);

/* A planned replacement; waits until it is done.  carry: hand the control state on too.
 * 0 and *result; -EBUSY: not in this state or one waits already; -ECANCELED: a reset or a break
 * came first, or it was given up.  When the old generation dies on the way, the recovery is the
 * answer: result->planned is false. */
int device_replace(struct device *dev, enum replace_reason reason, bool carry,
		   struct replacement *result);
/* The same without waiting; what becomes of it shows in hooks->replaced and the status.  0, or -EBUSY:
 * one waits already; -ENOMEM. */
int device_replace_post(struct device *dev, enum replace_reason reason, bool carry);
/* Quarantined: tries again.  -EBUSY: it is not. */
int device_revive(struct device *dev);
/* Suspicion from outside the supervisor (operator, tests): fences and recovers.  -EBUSY: not
 * active. */
int device_condemn(struct device *dev, enum replace_reason reason);

/* The answer, from any thread, also within hooks->asked.  0; -ESTALE: who asked serves no more, or was
 * answered; its successor asks again, and the answer is then to be the same. */
int device_answer_question(struct device *dev, const struct device_question *question,
			   uint32_t value);
/* Sends POLL to the active generation, if one serves (devmodel/abi/message.h). */
void device_poll(struct device *dev);

/* What the last handoff carried, for this device elsewhere or at another time: records, each in its envelope
 * (snapshot/envelope.h), which name no device.  A clean start carried none.  0; -ENOSPC: room is too small. */
int device_save(struct device *dev, void *out, size_t room, size_t *bytes);
/* Such records become what the next planned replacement carries, whatever its predecessor leaves.  0; -EBADMSG:
 * damaged; -EINVAL: not of this kind or of as many lanes; nothing was changed then. */
int device_load(struct device *dev, const void *in, size_t bytes);

void device_status(struct device *dev, struct device_status *status);

/* Register devices: one access of a vCPU, offset within the device, size 1, 2 or 4.  Blocks until a
 * generation answered it, through as many replacements as it takes; judged every 5 ms.  What a read
 * yields; ones where no generation serves (not started, broken, quarantined). */
uint64_t device_access(struct device *dev, uint8_t offset, uint8_t size, bool write,
		       uint64_t value);

/* Waits until a standby is sealed and verified. 0, or -ETIMEDOUT. */
int device_wait_standby(struct device *dev, uint32_t timeout_ms);

#endif
