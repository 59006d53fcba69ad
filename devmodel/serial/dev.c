/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART (TI PC16550D data sheet), as far as drivers use one: both FIFOs, the interrupts for
 * received data and an empty transmitter, line status, loopback, modem lines always ready.  Baud
 * rates and framing are remembered and mean nothing.
 *
 * The transmitter holds at most one byte: it goes to the output stream at once, or THRE stays clear
 * until the stream has room.  The interrupt line is edge-triggered: it is pulsed when a cause
 * appears that was not there before, and whenever a pending cause is (re-)enabled.
 */
#include <linux/errno.h>
#include <linux/serial_reg.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/common/dev.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/sys.h"
#include "devmodel/serial/state.h"

#define STREAM_INPUT 0
#define STREAM_OUTPUT 1
#define CALL_LINE 1 /* which call eventfd is the interrupt line */

STATE_SCHEMA(serial_data, SERIAL_DATA);
STATE_SCHEMA(serial_control, SERIAL_CONTROL);

/* Not carried: derived, or a byte that was promised to nobody yet. */
struct serial_private {
	uint8_t holding; /* the byte in the transmitter, while full */
	uint8_t full;
	uint8_t cause; /* interrupt causes (IER bits) when last looked at */
	uint8_t input_ended;
};

_Static_assert(sizeof(struct serial_private) <= DEV_PRIVATE_BYTES, "dev.h");

static struct serial_data *serial_fifo(struct dev *dev)
{
	return (struct serial_data *)dev->state[STATE_DATA].bytes;
}

static struct serial_control *serial_regs(struct dev *dev)
{
	return (struct serial_control *)dev->state[STATE_CONTROL].bytes;
}

static struct serial_private *serial_private(struct dev *dev)
{
	return (struct serial_private *)dev->priv.bytes;
}

/* ---- interrupts ---- */

static uint8_t serial_causes(struct dev *dev)
{
	const struct serial_control *r = serial_regs(dev);
	uint8_t cause = 0;

	if (r->overrun != 0)
		cause |= UART_IER_RLSI;
	if (serial_fifo(dev)->fifo_len != 0)
		cause |= UART_IER_RDI;
	if (r->thre != 0)
		cause |= UART_IER_THRI;
	return cause & r->ier;
}

/* Pulses the line for each cause that is new; `again`: for every one that is there. */
static void serial_interrupt(struct dev *dev, bool again)
{
	struct serial_private *p = serial_private(dev);
	const uint8_t cause = serial_causes(dev);
	const uint64_t one = 1;

	if ((cause & (again ? 0xffu : (uint8_t)~p->cause)) != 0)
		sys_write(dev->launch->fd_call + CALL_LINE, &one, sizeof(one));
	p->cause = cause;
}

/* ---- streams ---- */

static void serial_transmit(struct dev *dev)
{
	struct serial_private *p = serial_private(dev);

	if (p->full == 0)
		return;
	/* Anything but a full pipe: gone, or nobody listens; either way the transmitter is empty. */
	dev->want[STREAM_OUTPUT] =
		sys_write(dev->launch->fd_backend + STREAM_OUTPUT, &p->holding, 1) == -EAGAIN;
	if (dev->want[STREAM_OUTPUT])
		return;
	p->full = 0;
	serial_regs(dev)->thre = 1;
}

static void serial_receive(struct dev *dev)
{
	struct serial_data *d = serial_fifo(dev);
	struct serial_private *p = serial_private(dev);

	if (d->fifo_len < SERIAL_FIFO && p->input_ended == 0) {
		const long n = sys_read(dev->launch->fd_backend + STREAM_INPUT,
					d->fifo + d->fifo_len, SERIAL_FIFO - d->fifo_len);

		if (n > 0)
			d->fifo_len += (uint32_t)n;
		p->input_ended = n == 0;
	}
	dev->want[STREAM_INPUT] = d->fifo_len < SERIAL_FIFO && p->input_ended == 0;
}

static void serial_host_event(struct dev *dev, unsigned int j)
{
	if (j == STREAM_INPUT)
		serial_receive(dev);
	else
		serial_transmit(dev);
	serial_interrupt(dev, false);
}

/* ---- registers ---- */

static uint8_t serial_take(struct dev *dev)
{
	struct serial_data *d = serial_fifo(dev);
	const uint8_t byte = d->fifo[0];

	if (d->fifo_len == 0)
		return 0;
	d->fifo_len--;
	for (uint32_t i = 0; i < d->fifo_len; i++)
		d->fifo[i] = d->fifo[i + 1];
	dev->want[STREAM_INPUT] = serial_private(dev)->input_ended == 0;
	return byte;
}

static void serial_send(struct dev *dev, uint8_t byte)
{
	struct serial_control *r = serial_regs(dev);
	struct serial_private *p = serial_private(dev);
	struct serial_data *d = serial_fifo(dev);

	r->thre = 0;
	serial_private(dev)->cause &= (uint8_t)~UART_IER_THRI; /* the next empty one is news */
	if (r->mcr & UART_MCR_LOOP) {
		if (d->fifo_len < SERIAL_FIFO)
			d->fifo[d->fifo_len++] = byte;
		else
			r->overrun = 1;
		r->thre = 1;
		return;
	}
	p->holding = byte; /* a driver that does not wait for THRE overwrites, as on the chip */
	p->full = 1;
	serial_transmit(dev);
}

static uint8_t serial_iir(struct dev *dev)
{
	struct serial_control *r = serial_regs(dev);
	const uint8_t cause = serial_causes(dev);
	uint8_t id = UART_IIR_NO_INT;

	if (cause & UART_IER_RLSI) {
		id = UART_IIR_RLSI;
	} else if (cause & UART_IER_RDI) {
		id = UART_IIR_RDI;
	} else if (cause & UART_IER_THRI) {
		id = UART_IIR_THRI;
		r->thre = 0; /* reading it is the acknowledgement */
		serial_private(dev)->cause &= (uint8_t)~UART_IER_THRI;
	}
	return id | ((r->fcr & UART_FCR_ENABLE_FIFO) ? 0xc0 : 0);
}

static uint8_t serial_lsr(struct dev *dev)
{
	struct serial_control *r = serial_regs(dev);
	uint8_t lsr = 0;

	if (serial_fifo(dev)->fifo_len != 0)
		lsr |= UART_LSR_DR;
	if (r->overrun != 0)
		lsr |= UART_LSR_OE;
	if (serial_private(dev)->full == 0)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	r->overrun = 0;
	return lsr;
}

/* In loopback the outputs are the inputs (data sheet, table 5). */
static uint8_t serial_msr(struct dev *dev)
{
	const uint8_t mcr = serial_regs(dev)->mcr;

	if (!(mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	return (uint8_t)(((mcr & UART_MCR_RTS) ? UART_MSR_CTS : 0) |
			 ((mcr & UART_MCR_DTR) ? UART_MSR_DSR : 0) |
			 ((mcr & UART_MCR_OUT1) ? UART_MSR_RI : 0) |
			 ((mcr & UART_MCR_OUT2) ? UART_MSR_DCD : 0));
}

static uint8_t serial_read(struct dev *dev, uint8_t offset)
{
	struct serial_control *r = serial_regs(dev);
	const bool dlab = (r->lcr & UART_LCR_DLAB) != 0;

	switch (offset) {
	case UART_RX:
		return dlab ? (uint8_t)r->divisor : serial_take(dev);
	case UART_IER:
		return dlab ? (uint8_t)(r->divisor >> 8) : r->ier;
	case UART_IIR:
		return serial_iir(dev);
	case UART_LCR:
		return r->lcr;
	case UART_MCR:
		return r->mcr;
	case UART_LSR:
		return serial_lsr(dev);
	case UART_MSR:
		return serial_msr(dev);
	default:
		return r->scr;
	}
}

static void serial_enable(struct dev *dev, uint8_t ier)
{
	struct serial_control *r = serial_regs(dev);

	/* Enabling the transmitter interrupt while it is empty raises it: drivers count on that. */
	if ((ier & ~r->ier & UART_IER_THRI) && serial_private(dev)->full == 0)
		r->thre = 1;
	r->ier = ier & 0x0f;
	serial_private(dev)->cause = 0;
}

static void serial_write(struct dev *dev, uint8_t offset, uint8_t value)
{
	struct serial_control *r = serial_regs(dev);
	const bool dlab = (r->lcr & UART_LCR_DLAB) != 0;

	switch (offset) {
	case UART_TX:
		if (dlab)
			r->divisor = (uint16_t)((r->divisor & 0xff00) | value);
		else
			serial_send(dev, value);
		break;
	case UART_IER:
		if (dlab)
			r->divisor = (uint16_t)((r->divisor & 0x00ff) | (value << 8));
		else
			serial_enable(dev, value);
		break;
	case UART_FCR:
		r->fcr = value;
		if (value & UART_FCR_CLEAR_RCVR)
			serial_fifo(dev)->fifo_len = 0;
		break;
	case UART_LCR:
		r->lcr = value;
		break;
	case UART_MCR:
		r->mcr = value & 0x1f;
		break;
	case UART_SCR:
		r->scr = value;
		break;
	default:
		break; /* LSR and MSR are read-only */
	}
}

/* Wider accesses reach the first register only, as on the bus that it had. */
static uint64_t serial_access(struct dev *dev, const struct reg_request *request)
{
	const uint8_t offset = request->offset & 7;
	uint64_t value = 0;

	if (request->write != 0)
		serial_write(dev, offset, (uint8_t)request->value);
	else
		value = serial_read(dev, offset);
	serial_receive(dev);
	serial_interrupt(dev, false);
	return value;
}

/* ---- life ---- */

static int serial_init(struct dev *dev)
{
	return dev->launch->backends == 2 && dev->launch->queues == 2 ? 0 : -EINVAL;
}

/* Ranges say all: every combination of register values is one that a driver could have made. */
static int serial_check(const struct dev *dev)
{
	(void)dev;
	return 0;
}

/* From the record if it was carried, else from what the VMM saw the driver write. */
static void serial_activate(struct dev *dev)
{
	struct serial_control *r = serial_regs(dev);
	const uint8_t *s = dev->shadow;

	if (!dev->carried[STATE_CONTROL] && s[SERIAL_SHADOW_SET] != 0) {
		r->ier = s[SERIAL_SHADOW_IER] & 0x0f;
		r->fcr = s[SERIAL_SHADOW_FCR];
		r->lcr = s[SERIAL_SHADOW_LCR];
		r->mcr = s[SERIAL_SHADOW_MCR] & 0x1f;
		r->scr = s[SERIAL_SHADOW_SCR];
		r->divisor = (uint16_t)(s[SERIAL_SHADOW_DLL] | (s[SERIAL_SHADOW_DLM] << 8));
		r->thre = 1; /* whatever was being sent is sent or lost */
	}
	serial_receive(dev);
	/* An interrupt of the predecessor may have been lost with it; one too many is harmless. */
	serial_interrupt(dev, true);
}

/* A byte that the stream did not take yet is tried once more; the successor starts empty. */
static void serial_quiesce(struct dev *dev)
{
	serial_transmit(dev);
	if (serial_private(dev)->full != 0)
		serial_regs(dev)->thre = 1;
}

const struct dev_ops dev_program = {
	.name = "serial",
	.kind = DEV_KIND_SERIAL,
	.streams = 2,
	.state = { [STATE_DATA] = &serial_data_schema, [STATE_CONTROL] = &serial_control_schema },
	.init = serial_init,
	.check = serial_check,
	.activate = serial_activate,
	.access = serial_access,
	.host_event = serial_host_event,
	.quiesce = serial_quiesce,
};
