/* SPDX-License-Identifier: Apache-2.0 */
/* A console or a serial port of release programs, its input and output pipes whose other ends are here.
 * Failures are cmocka assertions. */
#ifndef MAYFLY_TESTS_HOST_STREAMS_H
#define MAYFLY_TESTS_HOST_STREAMS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/serial_reg.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/bus/serial.h"
#include "core/cc.h"
#include "tests/rig/boxrig.h"
#include "tests/rig/watch.h"

#define STREAMS_FEATURES (RINGDRV_VERSION_1 | RINGDRV_EVENT_IDX)

/* A device with an input and an output stream. */
struct streams {
	struct device *dev;
	int input;  /* we write */
	int output; /* we read */
	int backends[2];
	struct ringdrv_queue rings[2];
	int kick[2], call[2];
};

static inline void streams_pipe(int *read_end, int *write_end)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	*read_end = fds[0];
	*write_end = fds[1];
}

/* watch: NULL, or who hears of it */
static inline void streams_create(struct streams *s, struct boxrig *rig, enum dev_kind kind,
				  struct watch *watch)
{
	struct device_spec spec = {
		.kind = kind,
		.queues = 2,
		.lanes = 1,
		.backend_count = 2,
		.guest_memory = kind == DEV_KIND_CONSOLE,
		.fsize = 1,
		.shadow = kind == DEV_KIND_SERIAL ? serial_shadow : NULL,
		.hooks = watch != NULL ? &watch_hooks : NULL,
		.ctx = watch,
	};

	memset(s, 0, sizeof(*s));
	snprintf(spec.id, sizeof(spec.id), "%s", kind == DEV_KIND_CONSOLE ? "console" : "serial");
	streams_pipe(&s->backends[0], &s->input);
	streams_pipe(&s->output, &s->backends[1]);
	memcpy(spec.backends, s->backends, sizeof(s->backends));
	for (int i = 0; i < 2; i++) {
		s->kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		s->call[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		spec.kick[i] = s->kick[i];
		spec.call[i] = s->call[i];
		if (kind == DEV_KIND_CONSOLE) {
			const struct ringdrv_config rc = {
				.features = STREAMS_FEATURES,
				.size = 16,
				.number = (uint16_t)i,
				.fds_given = true,
				.fd_kick = s->kick[i],
				.fd_call = s->call[i],
			};

			assert_int_equal(ringdrv_init(&s->rings[i], &rig->mem, &rc), 0);
		}
	}
	assert_int_equal(device_create(rig->sup, &spec, &s->dev), 0);
	assert_int_equal(device_wait_standby(s->dev, 10000), 0);
}

static inline void streams_go(struct streams *s)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };

	if (s->rings[0].desc != NULL) {
		ringdrv_describe(&s->rings[0], &queues[0]);
		ringdrv_describe(&s->rings[1], &queues[1]);
	}
	assert_int_equal(device_start(s->dev, STREAMS_FEATURES, queues), 0);
}

static inline void streams_destroy(struct streams *s)
{
	device_destroy(s->dev);
	for (int i = 0; i < 2; i++) {
		ringdrv_free(&s->rings[i]);
		cc_close(&s->kick[i]);
		cc_close(&s->call[i]);
		cc_close(&s->backends[i]);
	}
	cc_close(&s->input);
	cc_close(&s->output);
}

static inline size_t streams_drain(int fd, char *buf, size_t room)
{
	const ssize_t n = read(fd, buf, room);

	return n < 0 ? 0 : (size_t)n;
}

/* ---- a UART's registers ---- */

static inline uint8_t uart_in(struct streams *s, uint8_t reg)
{
	return (uint8_t)device_access(s->dev, reg, 1, false, 0);
}

static inline void uart_out(struct streams *s, uint8_t reg, uint8_t value)
{
	device_access(s->dev, reg, 1, true, value);
}

static inline void uart_setup(struct streams *s)
{
	uart_out(s, UART_LCR, UART_LCR_DLAB);
	uart_out(s, UART_DLL, 1);
	uart_out(s, UART_DLM, 0);
	uart_out(s, UART_LCR, UART_LCR_WLEN8);
	uart_out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	uart_out(s, UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	uart_out(s, UART_IER, UART_IER_RDI);
	uart_out(s, UART_SCR, 0x5a);
}

static inline void uart_is_set_up(struct streams *s)
{
	assert_int_equal(uart_in(s, UART_LCR), UART_LCR_WLEN8);
	assert_int_equal(uart_in(s, UART_IER), UART_IER_RDI);
	assert_int_equal(uart_in(s, UART_MCR), UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	assert_int_equal(uart_in(s, UART_SCR), 0x5a);
	assert_int_equal(uart_in(s, UART_IIR) & 0xc0, 0xc0);
	assert_int_equal(uart_in(s, UART_LSR) & UART_LSR_THRE, UART_LSR_THRE);
	uart_out(s, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	assert_int_equal(uart_in(s, UART_DLL), 1);
	assert_int_equal(uart_in(s, UART_DLM), 0);
	uart_out(s, UART_LCR, UART_LCR_WLEN8);
}

#endif
