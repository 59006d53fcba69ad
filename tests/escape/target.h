/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets of the escape check: release device programs under the real supervisor, on the host
 * rig's guest memory.  A kind is a line in a table here (target.c) and what it needs besides; every
 * part of the check goes over the variants, so a further kind comes by adding its lines.
 */
#ifndef MAYFLY_ESCAPE_TARGET_H
#define MAYFLY_ESCAPE_TARGET_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/box/internal.h"
#include "tests/rig/boxrig.h"

/* One shape of one kind.  The name is that of its golden file. */
struct target_variant {
	const char *name;
	enum dev_kind kind;
	uint32_t queues;
	bool readonly;
	bool timer;
	bool plain; /* stands for its kind where one of them is enough */
};

extern const struct target_variant target_variants[];
extern const uint32_t target_variant_count;

/* What a box of this variant is launched with: numbers, configuration, filter; no process is made,
 * and nothing in it depends on the machine.  0 or -errno. */
int target_launch(const struct target_variant *variant, struct launch_record *launch);
/* POLICY_IF_* of a variant. */
uint32_t target_when(const struct target_variant *variant);

/* Spawner, guest memory, supervisor, and the log.  One a program. */
struct target_rig {
	struct boxrig box;
	int log_read, log_write;
	char log[16384]; /* what the VMM logged since target_log_clear(), cut off when it is full */
	uint32_t log_bytes;
};

/* From the main thread.  0; 77: it cannot be done here, the reason was printed (the status that says
 * so to tests/run.sh); 1: it failed, as said on stderr. */
int target_rig_start(struct target_rig *rig);
void target_rig_stop(struct target_rig *rig);
/* Everything that was logged; valid until the next call. */
const char *target_log(struct target_rig *rig);
void target_log_clear(struct target_rig *rig);

/* A device that runs. */
struct target {
	struct target_rig *rig;
	const struct target_variant *variant;
	struct device_spec spec;
	struct device *dev;
	const struct launch_record
		*launch; /* of lane 0: numbers and configuration, not addresses */
	struct ringdrv_queue rings[BOX_QUEUES_MAX];
	int kick[BOX_QUEUES_MAX], call[BOX_QUEUES_MAX];
	int backends[BOX_BACKENDS_MAX];
	int peers[BOX_BACKENDS_MAX]; /* the VMM's ends of pipes; -1 where there is none */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool started;
	bool given_up;
	uint64_t replaced;       /* replacements so far .. */
	struct replacement last; /* .. and the last of them */
};

/* Makes the device, waits for its verified standby and starts it.  0; -EPERM: the VMM refuses the
 * standby (target_log() says why); -ETIMEDOUT; other -errno. */
int target_create(struct target *t, struct target_rig *rig, const struct target_variant *variant);
void target_destroy(struct target *t);

/* The process that owns the rings now; 0: none. */
pid_t target_pid(struct target *t);
/* Waits until more than `seen` replacements were made, and copies the last.  0 or -ETIMEDOUT. */
int target_wait_replaced(struct target *t, uint64_t seen, struct replacement *r);

#endif
