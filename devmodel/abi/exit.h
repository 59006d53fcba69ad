/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exit codes of device programs: why a generation ended by its own hand.  A box may claim any of
 * them, so the supervisor only shows the code; what it does next never depends on it.
 */
#ifndef MAYFLY_ABI_EXIT_H
#define MAYFLY_ABI_EXIT_H

#define BOX_EXITS(X)                                                                               \
	X(LAUNCH, 80, "launch record missing or malformed")                                        \
	X(SEAL, 81, "a step of the seal failed")                                                   \
	X(ORPHAN, 82, "the VMM is gone")                                                           \
	X(CONTROL, 83, "a control message out of place")                                           \
	X(RECORD, 84, "the carried state record was refused")                                      \
	X(STACK, 85, "stack protector: a buffer was overrun")                                      \
	X(BUG, 86, "a broken invariant of the device program")

enum box_exit {
#define BOX_EXIT_ENUM(NAME, code, text) BOX_EXIT_##NAME = (code),
	BOX_EXITS(BOX_EXIT_ENUM)
#undef BOX_EXIT_ENUM
};

#endif
