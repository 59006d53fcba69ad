/* SPDX-License-Identifier: Apache-2.0 */
/* Where a measured curve leaves a level. */
#ifndef MAYFLY_BENCH_CROSSING_H
#define MAYFLY_BENCH_CROSSING_H

#include <stdint.h>

/* The x at which the curve through `count` points, straight between them, is first below `level`; x does
 * not descend. The first x where it is from the start; NaN: it never is. */
double crossing_below(const double *x, const double *y, uint32_t count, double level);

#endif
