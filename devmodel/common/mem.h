/* SPDX-License-Identifier: Apache-2.0 */
/* memcpy, memset and memcmp: from mem.c in device programs, from libc in hosted builds. */
#ifndef MAYFLY_DEVMODEL_COMMON_MEM_H
#define MAYFLY_DEVMODEL_COMMON_MEM_H

#include <stddef.h>

void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
