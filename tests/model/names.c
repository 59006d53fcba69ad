/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the names of table.h as the model wants them: `#define BOX_STANDBY 4`.  The cells behind the
 * names need no printing, since the model calls the table itself. */
#include <stdio.h>

#include "core/box/table.h"

#define PRINT(prefix, NAME) printf("#define " #prefix #NAME " %d\n", prefix##NAME);
#define BOX_STATE(NAME, ms, text) PRINT(BOX_, NAME)
#define BOX_EVENT(NAME, suspicion, text) PRINT(BOX_EV_, NAME)
#define BOX_ACTION(NAME, text) PRINT(BOX_DO_, NAME)
#define DEVICE_STATE(NAME, api, text) PRINT(DEVICE_, NAME)
#define DEVICE_EVENT(NAME, text) PRINT(DEVICE_EV_, NAME)
#define DEVICE_ACTION(NAME, text) PRINT(DEVICE_DO_, NAME)

int main(void)
{
	BOX_STATES(BOX_STATE)
	BOX_EVENTS(BOX_EVENT)
	BOX_ACTIONS(BOX_ACTION)
	DEVICE_STATES(DEVICE_STATE)
	DEVICE_EVENTS(DEVICE_EVENT)
	DEVICE_ACTIONS(DEVICE_ACTION)
	return ferror(stdout) || fflush(stdout) != 0;
}
