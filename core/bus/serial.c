/* SPDX-License-Identifier: Apache-2.0 */
#include "core/bus/serial.h"

#include <linux/serial_reg.h>
#include <stddef.h>

#include "core/machine/layout.h"
#include "devmodel/serial/state.h"

#define SERIAL_PORTS 8

void serial_shadow(uint8_t *shadow, uint8_t offset, uint8_t value)
{
	const int dlab = (shadow[SERIAL_SHADOW_LCR] & UART_LCR_DLAB) != 0;

	shadow[SERIAL_SHADOW_SET] = 1;
	switch (offset) {
	case UART_TX:
		if (dlab)
			shadow[SERIAL_SHADOW_DLL] = value;
		break;
	case UART_IER:
		shadow[dlab ? SERIAL_SHADOW_DLM : SERIAL_SHADOW_IER] = value;
		break;
	case UART_FCR:
		shadow[SERIAL_SHADOW_FCR] = value;
		break;
	case UART_LCR:
		shadow[SERIAL_SHADOW_LCR] = value;
		break;
	case UART_MCR:
		shadow[SERIAL_SHADOW_MCR] = value;
		break;
	case UART_SCR:
		shadow[SERIAL_SHADOW_SCR] = value;
		break;
	default:
		break;
	}
}

static uint64_t serial_port_read(void *ctx, uint64_t offset, uint32_t size)
{
	return device_access(ctx, (uint8_t)offset, (uint8_t)(size > 4 ? 4 : size), false, 0);
}

static void serial_port_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	device_access(ctx, (uint8_t)offset, (uint8_t)(size > 4 ? 4 : size), true, value);
}

int serial_attach(struct bus *ports, struct device *dev)
{
	static const struct bus_ops ops = { serial_port_read, serial_port_write };

	return bus_add(ports, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &ops, dev);
}
