/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state page: shared by one box and the VMM, a memfd sealed against resizing, new for each
 * generation.  The VMM writes only `bell` and `request`.  All else is written by a box that may be hostile: the
 * VMM copies it once, after the fence, and decodes none of it.
 */
#ifndef MAYFLY_ABI_STATEPAGE_H
#define MAYFLY_ABI_STATEPAGE_H

#include <stdint.h>

#define STATE_PAGE_BYTES 12288

/*
 * Register devices.  An access of a vCPU is a request that the VMM writes and announces on the kick
 * eventfd of queue 0; the box publishes the answer in slot seq % 2 and signals the call eventfd of
 * queue 0.  (Queue 1's call eventfd is the interrupt line.)  A slot is whole when begin == end ==
 * seq.  So after a death the answer of the access in flight is found, or the access is run again,
 * never both.
 */
struct reg_request {
	uint32_t seq; /* from 1, device-wide; written last */
	uint8_t offset;
	uint8_t size; /* 1, 2 or 4 */
	uint8_t write;
	uint8_t pad;
	uint64_t value; /* of a write */
};

struct reg_slot {
	uint32_t begin;
	uint32_t end;
	uint64_t value; /* of a read */
};

/* The last value written to each register, as the VMM saw it pass: what a clean start begins with. */
#define REG_SHADOW_BYTES 32

/* Two classes of state (docs/generations.md): `data` cannot steer the successor whatever its bytes
 * and is carried on every planned replacement; `control` only where the operator or a change of the
 * memory map wants it. */
enum state_class { STATE_DATA, STATE_CONTROL, STATE_CLASSES };
#define STATE_RECORD_MAX 4096

struct state_page {
	uint32_t bell; /* messages sent so far; the box compares it once a request */
	uint32_t pad[15];
	uint64_t served; /* requests completed, a hint for metrics */
	uint32_t busy;   /* 1 + number of the queue of which a request is being served; 0: none */
	uint32_t pad2;
	struct reg_request request;
	struct reg_slot slots[2];
	uint8_t reserved[4096 - 128];
	uint8_t record[STATE_CLASSES][STATE_RECORD_MAX];
};

_Static_assert(sizeof(struct state_page) == STATE_PAGE_BYTES, "wire format");

#endif
