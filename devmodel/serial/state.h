/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a 16550A.  `control` is what steers it: carried only when the operator or a change of
 * the memory map wants it, else taken from the VMM's shadow.  `data` is the bytes in its FIFO.
 * docs/generations.md says why every value in each range is harmless.
 */
#ifndef MAYFLY_DEVMODEL_SERIAL_STATE_H
#define MAYFLY_DEVMODEL_SERIAL_STATE_H

#include "devmodel/abi/schema.h"

#define SERIAL_FIFO 16

#define SERIAL_DATA(U, B) B(fifo, SERIAL_FIFO, 1, "received, not yet read by the driver")

#define SERIAL_CONTROL(U, B)                                                                       \
	U(u8, ier, 0, 0x0f, 1, "interrupt enable")                                                 \
	U(u8, fcr, 0, 0xff, 1, "FIFO control, as last written")                                    \
	U(u8, lcr, 0, 0xff, 1, "line control")                                                     \
	U(u8, mcr, 0, 0x1f, 1, "modem control")                                                    \
	U(u8, scr, 0, 0xff, 1, "scratch")                                                          \
	U(u16, divisor, 0, 0xffff, 1, "baud rate divisor latch")                                   \
	U(u8, thre, 0, 1, 1, "the transmitter-empty interrupt is pending")                         \
	U(u8, overrun, 0, 1, 1, "the overrun bit is to be shown")

STATE_STRUCT(serial_data, SERIAL_DATA);
STATE_STRUCT(serial_control, SERIAL_CONTROL);

/* Where the VMM's shadow has each register: what was last written to it (statepage.h). */
enum serial_shadow {
	SERIAL_SHADOW_IER,
	SERIAL_SHADOW_FCR,
	SERIAL_SHADOW_LCR,
	SERIAL_SHADOW_MCR,
	SERIAL_SHADOW_SCR,
	SERIAL_SHADOW_DLL,
	SERIAL_SHADOW_DLM,
	SERIAL_SHADOW_SET, /* not 0: something was written since the reset */
};

#endif
