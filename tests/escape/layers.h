/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of the seal under the filter: what each refuses when seccomp is out of the way.  A table
 * of system calls, each with the layer that must refuse it and how that layer says no.
 */
#ifndef MAYFLY_ESCAPE_LAYERS_H
#define MAYFLY_ESCAPE_LAYERS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/escape/inject.h"
#include "tests/escape/target.h"

/* Written into the box's stack, for calls that want a pointer. */
struct layer_scratch {
	char root[8];
	char file[8];
	char etc[8];
	char word[8];
	struct sockaddr_in loopback;
	uint64_t limit[2];
	uint32_t cap_header[2];
	uint32_t cap_data[6];
	struct iovec iov; /* of nothing that is mapped */
	int32_t priority;
	uint32_t out; /* zero at first */
};

/* What symbols in the arguments stand for in one box. */
enum layer_symbol {
	LAYER_SCRATCH,
	LAYER_RESULT, /* what `before` returned */
	LAYER_STATE,  /* addresses of mappings; 0: it has none */
	LAYER_REGION,
	LAYER_TEXT,
	LAYER_STACK,
	LAYER_VMM_PID,
	LAYER_FREE_FD,
	LAYER_BACKEND_FD,
	LAYER_IMAGE_BYTES,
	LAYER_IMAGE_PAGE, /* a page more */
	LAYER_UID,
	LAYER_SYMBOLS
};

/* Backend 0 as it was opened. */
enum layer_backend { LAYER_ANY, LAYER_WRITABLE, LAYER_READONLY };

struct layer_call {
	bool set;
	uint32_t nr;
	uint64_t args[6];
};

struct layer_row {
	const char *layer; /* a name of devmodel/abi/seal.h */
	const char *what;
	long want; /* a value, or -errno */
	struct layer_call call;
	struct layer_call before; /* must succeed */
	struct layer_call after;
	uint32_t needs; /* SEAL_WANT_*: only where the host has these */
	uint32_t kinds; /* bits of enum dev_kind; 0: all */
	enum layer_backend backend;
	int landlock_abi; /* at least */
	uint32_t out;     /* not 0: the call returns 0 and leaves this in layer_scratch.out */
};

extern const struct layer_row layer_rows[];
extern const uint32_t layer_row_count;

/* Fills in what the symbols mean, from /proc/PID/maps and the target, and writes the scratch area
 * into the attached box.  0 or -errno. */
int layer_prepare(uint64_t symbols[LAYER_SYMBOLS], const struct target *t, const struct inject *in);

/* Whether a row can be tried here; false for what the host lacks or the kind has not. */
bool layer_applies(const struct layer_row *row, const struct target *t,
		   const uint64_t symbols[LAYER_SYMBOLS]);

/* What the row wants in this box: a value, or -errno. */
long layer_want(const struct layer_row *row, const uint64_t symbols[LAYER_SYMBOLS]);

/* Tries one row. 0: refused as it must be; 1: not, *got is what came instead; -EIO: the box did not
 * survive it. */
int layer_try(const struct layer_row *row, uint64_t symbols[LAYER_SYMBOLS], struct inject *in,
	      long *got);

#endif
