/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state page: shared by one box and the VMM, a memfd sealed against resizing, new for each
 * generation.  The VMM writes only `bell`.  All else is written by a box that may be hostile: the
 * VMM copies it once, after the fence, and decodes none of it.
 */
#ifndef MAYFLY_ABI_STATEPAGE_H
#define MAYFLY_ABI_STATEPAGE_H

#include <stdint.h>

#define STATE_PAGE_BYTES 12288

/* Two classes of state (docs/generations.md): `data` cannot steer the successor whatever its bytes
 * and is carried on every planned replacement; `control` only where the operator or a change of the
 * memory map wants it. */
enum state_class { STATE_DATA, STATE_CONTROL, STATE_CLASSES };
#define STATE_RECORD_MAX 4096

struct state_page {
	uint32_t bell; /* messages sent so far; the box compares it once a request */
	uint32_t pad[15];
	uint64_t served; /* requests completed, a hint for metrics */
	uint8_t reserved[4096 - 72];
	uint8_t record[STATE_CLASSES][STATE_RECORD_MAX];
};

_Static_assert(sizeof(struct state_page) == STATE_PAGE_BYTES, "wire format");

#endif
