/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a blk generation leaves to its successor: the levels of its rate limits, class `data`, so
 * that a planned replacement hands out no fresh burst.  Requests need nothing: rings and image are
 * all there is, and what was not published is run again.
 */
#ifndef MAYFLY_DEVMODEL_BLK_STATE_H
#define MAYFLY_DEVMODEL_BLK_STATE_H

#include "devmodel/abi/schema.h"
#include "devmodel/common/rate.h"

#define BLK_DATA(U, B)                                                                             \
	RATE_FIELDS(U, bandwidth)                                                                  \
	RATE_FIELDS(U, ops)                                                                        \
	U(u8, carried, 1, 1, 1, "a predecessor wrote this record")

STATE_STRUCT(blk_data, BLK_DATA);

#endif
