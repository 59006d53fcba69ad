/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What console may do besides policy_common: read its input pipe and write its output pipe.  Both
 * are non-blocking pipes to the VMM, which relays a terminal, a file or a socket: the box never has
 * a terminal, on which an ioctl could push input.
 */
#include "devmodel/common/policies.h"

#include <asm/unistd.h>

#include "devmodel/console/state.h"

static const struct policy_rule rules[] = {
	{ .name = "read",
	  .nr = __NR_read,
	  .reason = "input, straight into the driver's buffer",
	  .tests = { POLICY_IS_FD(BACKEND), POLICY_AT_MOST(2, CONSOLE_INPUT_MAX) } },
	{ .name = "write",
	  .nr = __NR_write,
	  .reason = "output, straight from the driver's buffer",
	  .tests = { { .arg = 0, .op = POLICY_EQ, .operand = POLICY_FD_BACKEND, .value = 1 },
		     POLICY_AT_MOST(2, CONSOLE_OUTPUT_MAX) } },
	{ .name = "ppoll",
	  .nr = __NR_ppoll,
	  .reason = "the main loop's wait, with both streams",
	  .tests = { { .arg = 1, .op = POLICY_EQ, .operand = POLICY_POLL_STREAMS, .value = 2 },
		     POLICY_IS(2, 0),
		     POLICY_IS(3, 0) } },
};

const struct policy policy_console = POLICY_TABLE(rules);
