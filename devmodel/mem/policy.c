/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mem may do besides policy_common: nothing.  It asks with a report and waits in the read of control
 * messages, which every kind may do; it has no backend.
 */
#include "devmodel/common/policies.h"

const struct policy policy_mem = { .rules = 0, .count = 0 };
