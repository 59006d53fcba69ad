/* SPDX-License-Identifier: Apache-2.0 */
/* The program `mayfly` in a test: called until it ends, or started and asked by its API. */
#ifndef MAYFLY_TESTS_RIG_MAYFLY_H
#define MAYFLY_TESTS_RIG_MAYFLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAYFLY_OUTPUT_MAX 16384
#define MAYFLY_WORDS_MAX 32

struct mayfly_result {
	int status; /* exit status; -1: a signal */
	char out[MAYFLY_OUTPUT_MAX];
	char err[MAYFLY_OUTPUT_MAX];
};

/* The one beside the test: build/X/tests/host/test_Y -> build/X/mayfly.  0 or -errno. */
int mayfly_find(char *path, size_t room);
/* The same of a program that lies so many folders deeper, itself counted. */
int mayfly_above(uint32_t levels, char *path, size_t room);

/* words: separated by single spaces. Runs it and waits. 0 or -errno. */
int mayfly_call(const char *words, struct mayfly_result *result);

/* Starts it, its stderr in err (a descriptor); returns when its socket answers.  0 or -errno;
 * -ECHILD: it ended before. */
int mayfly_start(const char *words, const char *socket_path, int err, pid_t *pid);
/* SIGTERM, and waits: the exit status, -1: a signal. */
int mayfly_stop(pid_t pid);

/* Whether a VM can be made here; else why not. */
bool mayfly_kvm_usable(const char **why);

#endif
