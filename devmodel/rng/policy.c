/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rng may do besides policy_common: read its source.  The source is opened read-only, so the
 * kernel would refuse a write as well; and no ioctl, by which entropy could be credited.
 */
#include "devmodel/common/policies.h"

#include <asm/unistd.h>

#include "devmodel/rng/state.h"

static const struct policy_rule rules[] = {
	{ .name = "read",
	  .nr = __NR_read,
	  .reason =
		  "entropy for the driver, straight into guest memory, one request's worth at most",
	  .tests = { POLICY_IS_FD(BACKEND), POLICY_AT_MOST(2, RNG_REQUEST_MAX) } },
};

const struct policy policy_rng = POLICY_TABLE(rules);
