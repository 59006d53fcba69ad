/* SPDX-License-Identifier: Apache-2.0 */
/* The code of a sealed process of this user's, as it is in its memory. */
#ifndef MAYFLY_RIG_BOXTEXT_H
#define MAYFLY_RIG_BOXTEXT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct boxtext {
	uint64_t start; /* where the first executable mapping begins */
	size_t bytes;   /* of code; 0: not to be had */
	uint8_t code[1 << 16];
};

void boxtext_read(pid_t pid, struct boxtext *text);

#endif
