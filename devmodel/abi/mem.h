/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem as the driver, the device program and the VMM speak of it (virtio 1.2 section 5.15.6).  The
 * program hands on what the driver asks (REPORT_ASK) and what the VMM answers (CTL_ANSWER), and decides
 * nothing: every value of every field is one that a driver may have written.
 *
 * A question says where its request stands: the low bits of its index in the available ring.  Requests
 * are completed one by one in order, so each stands one further than the one before; a question that
 * stands where the last one stood that was answered is that one again, asked by a successor of the box
 * that died with the answer.
 */
#ifndef MAYFLY_ABI_MEM_H
#define MAYFLY_ABI_MEM_H

#include <stdbool.h>
#include <stdint.h>

/* Requests; the last two are mayfly's own and no driver's. */
#define MEM_REQUESTS(X)                                                                            \
	X(PLUG, 0, "plug blocks")                                                                  \
	X(UNPLUG, 1, "unplug blocks")                                                              \
	X(UNPLUG_ALL, 2, "unplug all blocks")                                                      \
	X(STATE, 3, "are blocks plugged")                                                          \
	X(OTHER, 4, "a type that nobody knows")                                                    \
	X(REFUSE, 5, "to be refused, whatever it is (poison, quarantine)")

enum mem_request {
#define MEM_REQUEST_ENUM(NAME, number, text) MEM_##NAME = (number),
	MEM_REQUESTS(MEM_REQUEST_ENUM)
#undef MEM_REQUEST_ENUM
		MEM_REQUEST_END
};

enum mem_response { MEM_ACK, MEM_NACK, MEM_BUSY, MEM_ERROR };
enum mem_state { MEM_PLUGGED, MEM_UNPLUGGED, MEM_MIXED };

/* As they lie in guest memory. */
struct mem_req {
	uint16_t type;
	uint16_t pad[3];
	uint64_t addr;
	uint16_t blocks;
	uint16_t pad2[3];
};

struct mem_resp {
	uint16_t type;
	uint16_t pad[3];
	uint16_t state; /* of STATE that is acknowledged; else 0 */
};

/* A question. */
struct mem_ask {
	uint8_t request; /* enum mem_request */
	uint8_t at;      /* where it stands in the ring, modulo 256 */
	uint16_t blocks;
	uint64_t addr; /* guest physical */
};

/* In a report: value and, as it is, the address as its detail. */
static inline uint32_t mem_ask_value(uint8_t request, uint8_t at, uint16_t blocks)
{
	return request | (uint32_t)at << 8 | (uint32_t)blocks << 16;
}

/* False: no device program says this.  Of a box that may be hostile: any other bits are legal. */
static inline bool mem_ask_parse(uint32_t value, uint64_t detail, struct mem_ask *ask)
{
	*ask = (struct mem_ask){ (uint8_t)value, (uint8_t)(value >> 8), (uint16_t)(value >> 16),
				 detail };
	return ask->request < MEM_REQUEST_END;
}

/* The value of an answer. */
static inline uint32_t mem_answer_value(uint16_t type, uint16_t state)
{
	return type | (uint32_t)state << 16;
}

static inline struct mem_resp mem_answer_parse(uint32_t value)
{
	return (struct mem_resp){ .type = (uint16_t)value, .state = (uint16_t)(value >> 16) };
}

_Static_assert(sizeof(struct mem_req) == 24, "virtio 1.2 section 5.15.6");
_Static_assert(sizeof(struct mem_resp) == 10, "virtio 1.2 section 5.15.6");

#endif
