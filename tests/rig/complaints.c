/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation: none beyond the header. */
#include "tests/rig/complaints.h"

#include <stdarg.h>
#include <stdio.h>

void complaints_add(struct complaints *complaints, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(complaints->last, sizeof(complaints->last), format, args);
	va_end(args);
	if (!complaints->quiet && complaints->count < COMPLAINTS_PRINTED)
		fprintf(stderr, "rig: %s\n", complaints->last);
	complaints->count++;
}
