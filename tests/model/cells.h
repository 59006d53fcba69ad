/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the verifier that SPIN makes of replace.pml and core/box/table.c, which is linked to it: looks
 * cells up, and prints at the end, to the file that CELLS names, each that the search came by.
 */
#ifndef MAYFLY_TESTS_MODEL_CELLS_H
#define MAYFLY_TESTS_MODEL_CELLS_H

#include <stdio.h>
#include <stdlib.h>

#include "core/box/table.h"

static unsigned char cells_of_boxes[BOX_STATE_COUNT][BOX_EVENT_COUNT];
static unsigned char cells_of_devices[DEVICE_STATE_COUNT][DEVICE_EVENT_COUNT];

static void cells_print(void)
{
	const char *name = getenv("CELLS");
	FILE *out = name != NULL ? fopen(name, "w") : NULL;

	if (out == NULL)
		return;
	for (int s = 0; s < BOX_STATE_COUNT; s++) {
		for (int e = 0; e < BOX_EVENT_COUNT; e++) {
			const struct box_cell c = box_table(s, e);

			if (cells_of_boxes[s][e])
				fprintf(out, "box %s %s: %s, %s\n", box_state_name(s),
					box_event_name(e), box_action_name(c.action),
					box_state_name(c.next));
		}
	}
	for (int s = 0; s < DEVICE_STATE_COUNT; s++) {
		for (int e = 0; e < DEVICE_EVENT_COUNT; e++) {
			const struct device_cell c = device_table(s, e);

			if (cells_of_devices[s][e])
				fprintf(out, "device %s %s: %s, %s\n", device_state_name(s),
					device_event_name(e), device_action_name(c.action),
					device_state_name(c.next));
		}
	}
	fclose(out);
}

/* check.sh asks for a wrong cell: CHANGED_BOX is state, event, then what is to be there. */
#define CHANGED_CELL(...) CHANGED_CELL_(__VA_ARGS__)
#define CHANGED_CELL_(kind, PREFIX, STATE, EVENT, ACTION, NEXT)                                    \
	if (state == PREFIX##_##STATE && event == PREFIX##_EV_##EVENT)                             \
		return (struct kind##_cell){ PREFIX##_DO_##ACTION, PREFIX##_##NEXT, 1 };

static struct box_cell changed_box(int state, int event)
{
#ifdef CHANGED_BOX
	CHANGED_CELL(box, BOX, CHANGED_BOX)
#endif
	return box_table(state, event);
}

static struct device_cell changed_device(int state, int event)
{
#ifdef CHANGED_DEVICE
	CHANGED_CELL(device, DEVICE, CHANGED_DEVICE)
#endif
	return device_table(state, event);
}

static struct box_cell cells_box(int state, int event)
{
	static int begun;

	if (!begun++)
		atexit(cells_print);
	cells_of_boxes[state][event] = 1;
	return changed_box(state, event);
}

static struct device_cell cells_device(int state, int event)
{
	cells_of_devices[state][event] = 1;
	return changed_device(state, event);
}

#endif
