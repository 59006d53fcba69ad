/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly doctor`: what this host offers.  A list of findings, each with a group, a key, a state and
 * a sentence; from it come the words, the JSON and the exit status.
 */
#ifndef MAYFLY_CORE_DOCTOR_H
#define MAYFLY_CORE_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct doctor_options;

/* NAME, as it is shown, meaning. */
#define DOCTOR_STATES(X)                                                                           \
	X(OK, "ok", "there, and nothing to be done")                                               \
	X(NOTE, "note", "worth knowing; nothing fails for it")                                     \
	X(MISSING, "missing", "a VM runs, with less: the text says what, why and what to do")      \
	X(BLOCKING, "blocking", "no VM can run here until this is mended")

enum doctor_state {
#define DOCTOR_STATE_ENUM(NAME, name, text) DOCTOR_##NAME,
	DOCTOR_STATES(DOCTOR_STATE_ENUM)
#undef DOCTOR_STATE_ENUM
		DOCTOR_STATE_COUNT
};

#define DOCTOR_FINDINGS_MAX 96
#define DOCTOR_NO_VALUE INT64_MIN

struct doctor_finding {
	const char *group;
	const char *key;
	enum doctor_state state;
	int64_t value; /* DOCTOR_NO_VALUE: it is not about a number */
	char text[320];
};

struct doctor {
	uint32_t count;
	struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
};

/* Adds one; group and key are static text, findings of a group come one after the other. */
void doctor_add(struct doctor *doctor, const char *group, const char *key, enum doctor_state state,
		int64_t value, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* The probes.  Each only adds findings; none changes anything on the host.  doctor_box() starts a
 * spawner and a supervisor and ends them: call it from the main thread, without other threads. */
void doctor_kernel(struct doctor *doctor);
void doctor_box(struct doctor *doctor);
void doctor_kvm(struct doctor *doctor);
void doctor_host(struct doctor *doctor);

/* No finding is blocking. */
bool doctor_ready(const struct doctor *doctor);
void doctor_print(const struct doctor *doctor, FILE *out);
/* One object: a member a group, in it a member a finding {"state","text"[,"value"]}; "version",
 * "ready", "blocking": the texts of the blocking findings.  The caller frees it; NULL: no memory. */
char *doctor_json(const struct doctor *doctor);

/* All probes, printed.  Exit status: 0 when a VM can run here, else 1. */
int doctor_main(const struct doctor_options *options);

#endif
