/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI memory devices: slots for DIMMs that come and go while the guest runs.  ACPI 6.4: memory devices,
 * PNP0C80, in chapter 9; 5.6.6 notifications 1 (device check) and 3 (eject request); 6.2 _CRS and _PXM;
 * 6.3.3 _EJ0, 6.3.5 _OST, 6.3.7 _STA.  The devices are in dsdt.asl; this is what stands behind their
 * methods: a block of ports (LAYOUT_PORT_DIMM, registers DIMM_REG_*), and what the VMM says and hears.
 *
 * It neither maps nor unmaps: a slot is inserted when its range is there already, and when the guest has
 * ejected it somebody else takes the range away.
 *
 * Nothing here blocks, but for a lock that is held for a few instructions.
 */
#ifndef MAYFLY_CORE_MACHINE_ACPI_MEMORY_H
#define MAYFLY_CORE_MACHINE_ACPI_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/bus/bus.h"
#include "core/machine/acpi.h"
#include "core/machine/layout.h"

/* What the guest made of what it was asked: NAME, word for the API. */
#define DIMM_ANSWERS(X)                                                                            \
	X(NONE, "none")       /* it was not asked, or was reset since: it finds what is there */   \
	X(WAITED, "waiting")  /* it has not answered */                                            \
	X(OK, "ok")           /* it uses it; it has ejected it */                                  \
	X(REFUSED, "refused") /* says `status` */

enum dimm_answer {
#define DIMM_ANSWER_ENUM(NAME, word) DIMM_ANSWER_##NAME,
	DIMM_ANSWERS(DIMM_ANSWER_ENUM)
#undef DIMM_ANSWER_ENUM
		DIMM_ANSWER_COUNT
};

struct dimm_said {
	enum dimm_answer is;
	uint32_t status; /* of the _OST that was the answer; 0 else */
};

struct acpi_dimm {
	bool present;
	uint64_t gpa, bytes;
	uint32_t node;   /* proximity domain */
	uint32_t events; /* not taken by the guest yet: DIMM_INSERTED, DIMM_EJECT_ASKED */
	struct dimm_said insert, eject;
	bool ost; /* there was an _OST since it was inserted, ejected or reset; the last one: */
	uint32_t ost_event, ost_status;
};

/* That the guest refused an insertion does not say that it leaves the range alone: only ejected() does.
 * (A Linux that says "Already enumerated" refuses the event of a DIMM that it came upon by itself at boot.)
 *
 * Called without locks, from the vCPU's thread whose access it is; forgotten() from whoever resets.
 * Must not wait.  Any may be NULL.  However much a guest writes, there is at most one ejected() for each
 * insertion, and one ost() for each insertion and each request. */
struct acpi_memory_hooks {
	/* The slot is empty: the guest has let go of the range.  asked: acpi_memory_ask_eject() came first. */
	void (*ejected)(void *ctx, uint32_t slot, bool asked);
	/* The guest's answer to an insertion (yes or no) or to an eject request (no; yes is ejected()):
	 * source event and status of its _OST. */
	void (*ost)(void *ctx, uint32_t slot, uint32_t event, uint32_t status);
	/* A reset came before the answer to an eject request: it is void, the slot stays. */
	void (*forgotten)(void *ctx, uint32_t slot);
	void *ctx;
};

struct acpi_memory {
	struct acpi_regs *regs;
	struct acpi_memory_hooks hooks;
	pthread_mutex_t lock; /* of all below */
	uint32_t selected;    /* as the guest wrote it: any value */
	uint32_t ost_event;   /* that the next write of a status is about */
	struct acpi_dimm dimms[LAYOUT_DIMMS_MAX];
};

/* Claims the ports; regs and hooks are set, all else 0.  0 or -errno. */
int acpi_memory_attach(struct acpi_memory *memory, struct bus *ports);

/* Tells the guest of a DIMM whose range is mapped (any thread).  0; -EINVAL: no such slot or node, or an
 * empty range or one that wraps; -EEXIST: the slot is not empty. */
int acpi_memory_insert(struct acpi_memory *memory, uint32_t slot, uint64_t gpa, uint64_t bytes,
		       uint32_t node);

/* Asks the guest to eject it (any thread), again if it was asked before.  0; -EINVAL: no such slot;
 * -ENOENT: it is empty. */
int acpi_memory_ask_eject(struct acpi_memory *memory, uint32_t slot);

/* A slot as it is now (any thread).  0; -EINVAL: no such slot. */
int acpi_memory_get(struct acpi_memory *memory, uint32_t slot, struct acpi_dimm *out);

/* After a reset of the machine, with its vCPUs paused: slots that are not empty stay so, the guest finds
 * them at its boot; events and answers are gone, requests void. */
void acpi_memory_reset(struct acpi_memory *memory);

const char *dimm_answer_text(enum dimm_answer answer);
/* What a status of an _OST means with that source event (static text). */
const char *acpi_ost_text(uint32_t event, uint32_t status);

#endif
