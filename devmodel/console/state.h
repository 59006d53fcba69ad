/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a console generation leaves to its successor: how much of the output buffer that is being
 * written has gone out, class `data`: whatever its value, at worst a piece of the guest's own
 * output is missing.
 */
#ifndef MAYFLY_DEVMODEL_CONSOLE_STATE_H
#define MAYFLY_DEVMODEL_CONSOLE_STATE_H

#include "devmodel/abi/schema.h"

#define CONSOLE_INPUT_MAX 4096u  /* bytes taken from the input stream at once */
#define CONSOLE_OUTPUT_MAX 4096u /* bytes given to the output stream at once, PIPE_BUF */

#define CONSOLE_DATA(U, B)                                                                         \
	U(u64, written, 0, 1ull << 40, 1, "bytes of the output buffer in hand that have gone out")

STATE_STRUCT(console_data, CONSOLE_DATA);

#endif
