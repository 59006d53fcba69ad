/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What balloon may do besides policy_common: nothing.  It releases no memory itself, which would take a
 * descriptor of the memory, or madvise: it tells the VMM, by reports, which every kind may write.
 */
#include "devmodel/common/policies.h"

#include <stddef.h>

const struct policy policy_balloon = { .rules = NULL, .count = 0 };
