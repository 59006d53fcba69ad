/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/crossing.h"

#include <math.h>

double crossing_below(const double *x, const double *y, uint32_t count, double level)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!(y[i] < level))
			continue;
		if (i == 0)
			return x[0];
		return x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]);
	}
	return NAN;
}
