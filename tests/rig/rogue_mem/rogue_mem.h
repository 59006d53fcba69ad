/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-mem program that breaks the rules of asking: what it does with a request, its driver chooses
 * by the first padding field, which means nothing to an honest one.  NAME, what it does.
 */
#ifndef MAYFLY_RIG_ROGUE_MEM_ROGUE_MEM_H
#define MAYFLY_RIG_ROGUE_MEM_ROGUE_MEM_H

#define ROGUE_MEMS(X)                                                                              \
	X(HONEST, "asks, and gives the answer")                                                    \
	X(TWICE, "asks, and again before there is an answer")                                      \
	X(FLOOD, "asks without end")                                                               \
	X(UNKNOWN, "asks for what there is not")                                                   \
	X(PARKED, "asks, and says that it parked")                                                 \
	X(SYNC, "says what is another kind's to say")                                              \
	X(AGAIN, "says of each request that it stands where the last one stood")                   \
	X(ELSEWHERE, "asks for twice as much, and calls it done")                                  \
	X(SILENT, "asks nothing, and says that it is done")

enum rogue_mem {
#define ROGUE_MEM_ENUM(NAME, text) ROGUE_MEM_##NAME,
	ROGUE_MEMS(ROGUE_MEM_ENUM)
#undef ROGUE_MEM_ENUM
		ROGUE_MEM_COUNT
};

#endif
