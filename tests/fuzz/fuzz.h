/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target is one file, tests/fuzz/fuzz_NAME.c, with a corpus in tests/fuzz/corpus/NAME.  It is
 * built twice: by clang with libFuzzer (make fuzz), and with replay_main.c by any compiler (make
 * check).  With `// dev: KIND` in its first lines it is linked with devmodel/KIND/dev.c.
 */
#ifndef MAYFLY_TESTS_FUZZ_FUZZ_H
#define MAYFLY_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stays in every build: a fuzzer without its checks finds only crashes. */
#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
