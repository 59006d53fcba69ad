/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of a generation that had to be fenced: one JSON document each (docs/operating.md says
 * what its fields mean).
 *
 *   evidence.c  gathers, on the supervisor's thread, once the successor serves
 *   coroner.c   a thread that reads the stack, writes the document and sees to the bounds
 *   autopsy.c   what the document says; pure
 *
 * Nothing here makes anybody wait: what there is no room, no time or no disk for is counted.
 */
#ifndef MAYFLY_CORE_BOX_AUTOPSY_H
#define MAYFLY_CORE_BOX_AUTOPSY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

#include "core/box/box.h"

#define AUTOPSY_BYTES_MAX (16u << 10) /* of a document */
#define AUTOPSY_FILES_MAX 32          /* of a device; the oldest goes */
#define AUTOPSY_STACK_BYTES 1024u
#define AUTOPSY_MESSAGES 16

/* A message on the control socket, as it was sent or received. */
struct autopsy_message {
	uint64_t at_ns; /* 0: there was none */
	bool sent;      /* by the VMM */
	uint32_t type;  /* CTL_* if sent, else a report's; anything if it was malformed */
	uint32_t value;
	uint64_t detail; /* of a report */
};

/* The last so many; next counts all. */
struct autopsy_messages {
	struct autopsy_message last[AUTOPSY_MESSAGES];
	uint32_t next;
};

/* A forbidden call that the listener held. */
struct autopsy_call {
	bool known;
	int32_t number;
	uint64_t address;
	uint64_t args[6];
};

/* As ring_resume() read it, once each. */
struct autopsy_ring {
	uint16_t size; /* 0: not enabled */
	uint16_t audited;
	uint16_t used;
	uint16_t avail;
};

struct autopsy {
	/* What the VMM knows by itself. */
	char device[DEVICE_ID_MAX + 1];
	enum dev_kind kind;
	uint64_t generation;
	uint32_t epoch, lane, lanes;
	uint64_t
		wall_ns; /* since 1970, of the suspicion; at_ns is the same on the monotonic clock */
	uint64_t at_ns;
	uint64_t age_ns;
	enum replace_reason reason;
	enum fence fence;
	uint32_t seal; /* bit i: enum seal_layer i is in force */
	uint64_t stack_addr, state_addr;
	struct mem_map map;           /* as in the launch record, as are .. */
	uint64_t log_addr, log_bytes; /* .. these: bytes of the mapping, 0 without a log */
	uint32_t queues;
	struct autopsy_ring rings[BOX_QUEUES_MAX];
	struct autopsy_messages messages;
	/* What the kernel said. */
	bool cause_known;
	int killed_by; /* 0: it ended by itself .. */
	int exit_code; /* .. and claimed this */
	struct autopsy_call call;
	bool has_registers;
	struct user_regs_struct registers;
	/* What the box left. */
	uint32_t stack_bytes; /* 0: not known */
	uint8_t stack[AUTOPSY_STACK_BYTES];
};

#define AUTOPSY_TIME_BYTES 40

/* As the documents show it: UTC, to the microsecond. */
void autopsy_time(uint64_t wall_ns, char text[AUTOPSY_TIME_BYTES]);

void autopsy_note(struct autopsy_messages *messages, const struct autopsy_message *message);

/* How much of the recorded stack lies from the stack pointer upward, at most AUTOPSY_STACK_BYTES; 0:
 * it points elsewhere.  A hostile pointer is not followed (facts of the kernel: it may point to where
 * a reader sleeps for ever). */
uint32_t autopsy_stack_span(const struct autopsy *a);

/* The document, not terminated.  Its length; 0: it has more than `room` bytes, or no memory. */
size_t autopsy_format(const struct autopsy *a, char *out, size_t room);

/* ---- coroner.c ---- */

struct coroner;

enum coroner_result { CORONER_PENDING, CORONER_WRITTEN, CORONER_FAILED };

/* Keeps documents in `autopsies` of the directory, which it makes when there is something to keep.
 * dir is borrowed.  told() is called on the coroner's thread when something happened. 0 or -errno. */
int coroner_start(struct coroner **out, int dir, void (*told)(void *ctx), void *ctx);
/* Writes what is left, then ends. */
void coroner_stop(struct coroner *c);

/* Takes a copy.  pidfd (borrowed; -1: there is no stack to read) is of process pid, alive until
 * coroner_has_read() says so or the caller thinks it took too long.  Its ticket, from 1; 0: too many
 * wait, or no descriptor. */
uint64_t coroner_submit(struct coroner *c, const struct autopsy *a, int pid, int pidfd);
bool coroner_has_read(struct coroner *c, uint64_t ticket);
/* The next that is done, in the order of submission: whose. CORONER_PENDING: none. */
enum coroner_result coroner_next(struct coroner *c, char device[DEVICE_ID_MAX + 1],
				 uint64_t *generation);

struct autopsy_entry {
	uint64_t generation;
	uint64_t wall_ns; /* when it was written */
	uint64_t bytes;
};

/* From any thread: what is kept of a device, oldest first.  Their number, at most AUTOPSY_FILES_MAX. */
uint32_t coroner_list(int dir, const char *device, struct autopsy_entry *entries);
/* One document. Its length; -ENOENT: none; other -errno. */
int coroner_read(int dir, const char *device, uint64_t generation, char out[AUTOPSY_BYTES_MAX]);

/* ---- evidence.c, from any thread but the supervisor's ---- */

/* Before the first device: autopsies are kept in this directory from now on; else there are none.
 * 0 or -errno. */
int supervisor_keep_autopsies(struct supervisor *sup, const char *dir);
/* As coroner_list() and coroner_read(). */
uint32_t device_autopsies(const struct device *dev, struct autopsy_entry *entries);
int device_autopsy(const struct device *dev, uint64_t generation, char out[AUTOPSY_BYTES_MAX]);

#endif
