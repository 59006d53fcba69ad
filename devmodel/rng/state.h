/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an rng generation leaves to its successor: the level of its rate limit, class `data`, so
 * that a planned replacement hands out no fresh burst.
 */
#ifndef MAYFLY_DEVMODEL_RNG_STATE_H
#define MAYFLY_DEVMODEL_RNG_STATE_H

#include "devmodel/abi/schema.h"
#include "devmodel/common/rate.h"

#define RNG_REQUEST_MAX (64u << 10) /* bytes given for one request, read in one call at most */

#define RNG_DATA(U, B)                                                                             \
	RATE_FIELDS(U, bandwidth)                                                                  \
	U(u8, carried, 1, 1, 1, "a predecessor wrote this record")

STATE_STRUCT(rng_data, RNG_DATA);

#endif
