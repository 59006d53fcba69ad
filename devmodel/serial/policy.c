/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What serial may do besides policy_common: read its input pipe, write its output pipe, a FIFO's
 * worth and a byte at a time.  It has no guest memory, so there is nothing else to reach.
 */
#include "devmodel/common/policies.h"

#include <asm/unistd.h>

#include "devmodel/serial/state.h"

static const struct policy_rule rules[] = {
	{ .name = "read",
	  .nr = __NR_read,
	  .reason = "input for the receive FIFO",
	  .tests = { POLICY_IS_FD(BACKEND), POLICY_AT_MOST(2, SERIAL_FIFO) } },
	{ .name = "write",
	  .nr = __NR_write,
	  .reason = "the byte that the driver sends",
	  .tests = { { .arg = 0, .op = POLICY_EQ, .operand = POLICY_FD_BACKEND, .value = 1 },
		     POLICY_IS(2, 1) } },
	{ .name = "ppoll",
	  .nr = __NR_ppoll,
	  .reason = "the main loop's wait, with both streams",
	  .tests = { { .arg = 1, .op = POLICY_EQ, .operand = POLICY_POLL_STREAMS, .value = 2 },
		     POLICY_IS(2, 0),
		     POLICY_IS(3, 0) } },
};

const struct policy policy_serial = POLICY_TABLE(rules);
