/* SPDX-License-Identifier: Apache-2.0 */
/* The seal, as a device program puts it on itself; see seal.c for the order and why. */
#ifndef MAYFLY_DEVMODEL_COMMON_SEAL_H
#define MAYFLY_DEVMODEL_COMMON_SEAL_H

#include "devmodel/abi/launch.h"
#include "devmodel/abi/seal.h"

/* Before the stack is switched: maps state page, stack and regions at the launch record's
 * addresses.  On failure reports and exits. */
void seal_map(const struct launch_record *launch);

/* All the rest, on the new stack, up to SEALED.  On failure reports and exits; on return every layer
 * that the record asked for is in force. */
void seal_close(const struct launch_record *launch);

#endif
