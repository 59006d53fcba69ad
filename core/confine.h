/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMM's own seal: what each of its threads may ask of the kernel once it has begun its work, so that
 * a hole in the VMM is bounded, too.  confine_rules.c has the rules; docs/threat-model.md says what they
 * are worth.  Nothing here has an effect before confine_begin(), so that tests and tools which link
 * parts of the VMM are not confined.
 */
#ifndef MAYFLY_CORE_CONFINE_H
#define MAYFLY_CORE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* NAME, the thread's name, what it does. */
#define CONFINE_ROLES(X)                                                                           \
	X(VCPU, "vcpu", "runs the guest and answers its exits")                                    \
	X(SUPERVISOR, "supervisor", "makes, inspects, fences and ends device processes")           \
	X(CORONER, "coroner", "reads stacks of the fenced, writes autopsies")                      \
	X(RELAY, "relay", "takes a guest's output to where it leads")                              \
	X(API, "api", "HTTP and JSON of whoever may connect")                                      \
	X(HAND, "hand", "the same where faults may be injected (--allow-faults)")                  \
	X(MEMORY, "memory", "makes and ends memory epochs")                                        \
	X(FRONTEND, "front-end", "takes vhost-user messages, and what comes with them")            \
	X(MAIN, "main", "the loop, once the guest runs: relays, schedules, resets, the end")

enum confine_role {
#define CONFINE_ROLE_ENUM(NAME, name, text) CONFINE_##NAME,
	CONFINE_ROLES(CONFINE_ROLE_ENUM)
#undef CONFINE_ROLE_ENUM
		CONFINE_ROLE_COUNT
};

#define CONFINE_ARGS 2

/* A call that roles may make: each of `args` holds where (argument & mask) == value; of one that names the
 * process, where it is this one. */
struct confine_rule {
	uint16_t nr;
	uint16_t roles; /* bit i: enum confine_role i */
	uint8_t arg_count;
	struct {
		uint8_t index;
		bool own_pid;
		uint64_t mask, value;
	} args[CONFINE_ARGS];
};

extern const struct confine_rule confine_rules[];
extern const size_t confine_rule_count;

struct sock_filter;

#define CONFINE_FILTER_MAX 1024 /* BPF instructions */

/* A role's filter, into CONFINE_FILTER_MAX of them. How many they are, or -errno, as policy_export() has it. */
int confine_compile(enum confine_role role, struct sock_filter *filter);

/* Becomes this user and group, for good, with no other group but the one of /dev/kvm.  Before any
 * thread. Of root only: 0 or -errno. */
int confine_become(uid_t uid, gid_t gid);

/* What may be done beneath a path, or with the file that it is: any of these. */
enum confine_access {
	CONFINE_READ = 1,
	CONFINE_WRITE = 2,
	CONFINE_RUN = 4,
	CONFINE_MAKE = 8,    /* plain files */
	CONFINE_SOCKET = 16, /* make sockets; remove anything but folders */
	CONFINE_KEEP = 32,   /* make and remove: it is ours */
	CONFINE_RMDIR = 64,  /* remove folders */
};

struct confine_path {
	const char *
		path; /* one that is not there, or cannot be reached, is passed over; with MAKE its folder
			     stands for it */
	uint32_t access;
};

/* Nothing but these files from now on, by Landlock, for this process and those that it makes; and whom it
 * does not make, it can neither trace nor signal.  For good; sets no_new_privs.  Before any thread.  0, also
 * where the kernel has no Landlock; -errno with *what naming the step (static text). */
int confine_files(const struct confine_path *paths, size_t count, const char **what);

/* Before any thread, after all other signal handlers: no privileges from now on but those that root's VMM
 * needs for what is another user's (docs/threat-model.md), and none to be gained by exec.  Filters are
 * made, for threads that begin after this.  last: async-signal-safe, before a forbidden call ends the
 * process.  0, or -errno with *what naming the step (static text). */
int confine_begin(void (*last)(void), const char **what);

/* The calling thread, and those that it makes, from here on.  Also names it, confined or not.  Never
 * fails: a thread that cannot be confined ends the process. */
void confine_thread(enum confine_role role);

#endif
