/* SPDX-License-Identifier: Apache-2.0 */
/* console and serial: release programs under the real supervisor, through handoffs and deaths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>

#include "tests/host/streams.h"

static struct boxrig rig;

static uint64_t generation(struct device *dev)
{
	struct device_status *st = malloc(sizeof(*st));

	assert_non_null(st);
	device_status(dev, st);
	const uint64_t g = st->generation;

	free(st);
	return g;
}

static pid_t active_pid(struct device *dev)
{
	struct device_status *st = malloc(sizeof(*st));

	assert_non_null(st);
	device_status(dev, st);
	const pid_t pid = st->pid;

	free(st);
	return pid;
}

static void replace(struct device *dev, bool carry)
{
	struct replacement r;

	assert_int_equal(device_replace(dev, REPLACE_OPERATOR, carry, &r), 0);
	assert_int_equal(r.fence, FENCE_PARKED);
}

/* Kills the active box and waits until another serves. */
static void kill_active(struct device *dev)
{
	const uint64_t before = generation(dev);

	assert_int_equal(kill(active_pid(dev), SIGKILL), 0);
	for (int i = 0; i < 5000 && generation(dev) <= before; i++)
		usleep(1000);
	assert_true(generation(dev) > before);
	assert_int_equal(device_wait_standby(dev, 10000), 0);
}

/* ---- console ---- */

static void console_out(struct streams *s, gpa_t buf, const char *text, uint32_t len)
{
	const struct ringdrv_seg seg = { buf.raw, len };
	const struct ringdrv_chain chain = { .seg = &seg, .readable = 1, .token = 1 };

	memcpy(guestmem_ptr(&rig.mem, buf, len), text, len);
	assert_int_equal(ringdrv_add(&s->rings[1], &chain), 0);
	ringdrv_publish(&s->rings[1]);
	ringdrv_kick(&s->rings[1]);
}

static void reap_one(struct ringdrv_queue *q, struct ringdrv_done *done)
{
	while (!ringdrv_reap(q, done))
		assert_int_equal(ringdrv_wait(q, 10 * NS_PER_S), 1);
}

/* Text goes out once and in order, whatever happens to the console meanwhile. */
static void test_console_output(void **state)
{
	struct streams s;
	struct ringdrv_done done;
	char text[64], got[64];
	gpa_t buf;

	(void)state;
	streams_create(&s, &rig, DEV_KIND_CONSOLE, NULL);
	assert_int_equal(guestmem_alloc(&rig.mem, 4096, 4096, &buf), 0);
	streams_go(&s);
	for (int i = 0; i < 200; i++) {
		const int len = snprintf(text, sizeof(text), "line %d of the console\n", i);

		if (i % 10 == 3)
			replace(s.dev, i % 20 == 3);
		if (i % 50 == 7)
			kill_active(s.dev);
		console_out(&s, buf, text, (uint32_t)len);
		reap_one(&s.rings[1], &done);
		assert_int_equal(streams_drain(s.output, got, sizeof(got)), len);
		assert_memory_equal(got, text, len);
	}
	streams_destroy(&s);
}

/* A buffer larger than the pipe, the device replaced while the pipe is full: nothing is lost and,
 * in a planned replacement, nothing repeated. */
static void test_console_full_pipe(void **state)
{
	static char sent[256 * 1024], got[sizeof(sent) + 1];
	struct streams s;
	struct ringdrv_done done;
	size_t n = 0;
	gpa_t buf;

	(void)state;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)('a' + i % 23 + (i / 1009) % 3);
	streams_create(&s, &rig, DEV_KIND_CONSOLE, NULL);
	assert_int_equal(guestmem_alloc(&rig.mem, sizeof(sent), 4096, &buf), 0);
	streams_go(&s);
	console_out(&s, buf, sent, sizeof(sent));
	while (n < sizeof(sent)) {
		const uint64_t end = now_ns() + NS_PER_S;
		size_t more = 0;

		replace(s.dev, false);
		while (more == 0 && now_ns() < end)
			more = streams_drain(s.output, got + n, sizeof(got) - n);
		assert_true(more != 0);
		n += more;
	}
	reap_one(&s.rings[1], &done);
	n += streams_drain(s.output, got + n, sizeof(got) - n);
	assert_int_equal(n, sizeof(sent));
	assert_memory_equal(got, sent, sizeof(sent));
	streams_destroy(&s);
}

static void test_console_input(void **state)
{
	struct streams s;
	struct ringdrv_done done;
	char text[64];
	gpa_t buf;

	(void)state;
	streams_create(&s, &rig, DEV_KIND_CONSOLE, NULL);
	assert_int_equal(guestmem_alloc(&rig.mem, 4096, 4096, &buf), 0);
	streams_go(&s);
	for (int i = 0; i < 100; i++) {
		const struct ringdrv_seg seg = { buf.raw, 256 };
		const struct ringdrv_chain chain = { .seg = &seg, .writable = 1, .token = 2 };
		const int len = snprintf(text, sizeof(text), "typed %d", i);

		/* Input before the buffer, and buffer before the input. */
		if (i % 2 == 0)
			assert_int_equal(write(s.input, text, (size_t)len), len);
		if (i % 7 == 0)
			replace(s.dev, false);
		assert_int_equal(ringdrv_add(&s.rings[0], &chain), 0);
		ringdrv_publish(&s.rings[0]);
		ringdrv_kick(&s.rings[0]);
		if (i % 11 == 0)
			replace(s.dev, true);
		if (i % 40 == 5)
			kill_active(s.dev);
		if (i % 2 == 1)
			assert_int_equal(write(s.input, text, (size_t)len), len);
		reap_one(&s.rings[0], &done);
		assert_int_equal(done.len, len);
		assert_memory_equal(guestmem_ptr(&rig.mem, buf, 256), text, len);
	}
	streams_destroy(&s);
}

/* ---- serial ---- */

/* Registers survive a planned replacement that carries, one that does not, and a death. */
static void test_serial_registers(void **state)
{
	struct streams s;

	(void)state;
	streams_create(&s, &rig, DEV_KIND_SERIAL, NULL);
	assert_int_equal(uart_in(&s, UART_LSR), 0xff); /* not started: nobody is there */
	streams_go(&s);
	uart_setup(&s);
	uart_is_set_up(&s);
	for (int i = 0; i < 20; i++) {
		replace(s.dev, true);
		uart_is_set_up(&s);
		replace(s.dev, false);
		uart_is_set_up(&s);
		kill_active(s.dev);
		uart_is_set_up(&s);
	}
	streams_destroy(&s);
}

static void test_serial_output(void **state)
{
	struct streams s;
	char got[16];

	(void)state;
	streams_create(&s, &rig, DEV_KIND_SERIAL, NULL);
	streams_go(&s);
	uart_setup(&s);
	for (int i = 0; i < 500; i++) {
		if (i % 50 == 3)
			replace(s.dev, i % 100 == 3);
		if (i % 200 == 7)
			kill_active(s.dev);
		while (!(uart_in(&s, UART_LSR) & UART_LSR_THRE))
			;
		uart_out(&s, UART_TX, (uint8_t)i);
		assert_int_equal(streams_drain(s.output, got, sizeof(got)), 1);
		assert_int_equal((uint8_t)got[0], (uint8_t)i);
	}
	streams_destroy(&s);
}

/* Input arrives in order, raises the line, and what is in the FIFO survives a planned replacement. */
static void test_serial_input(void **state)
{
	static const char text[] = "fifteen letters";
	struct streams s;
	uint64_t count;

	(void)state;
	streams_create(&s, &rig, DEV_KIND_SERIAL, NULL);
	streams_go(&s);
	uart_setup(&s);
	for (int i = 0; i < 20; i++) {
		while (read(s.call[1], &count, sizeof(count)) > 0)
			;
		assert_int_equal(write(s.input, text, sizeof(text)), sizeof(text));
		while (!(uart_in(&s, UART_LSR) & UART_LSR_DR))
			;
		assert_int_equal(read(s.call[1], &count, sizeof(count)), sizeof(count));
		assert_int_equal(uart_in(&s, UART_IIR) & 0x0f, UART_IIR_RDI);
		replace(s.dev, i % 2);
		for (size_t k = 0; k < sizeof(text); k++)
			assert_int_equal(uart_in(&s, UART_RX), text[k]);
		assert_int_equal(uart_in(&s, UART_LSR) & UART_LSR_DR, 0);
	}
	streams_destroy(&s);
}

/* A box that is stopped from outside does not hold a vCPU for ever: it is taken for hung. */
static void test_serial_hang(void **state)
{
	struct streams s;

	(void)state;
	streams_create(&s, &rig, DEV_KIND_SERIAL, NULL);
	streams_go(&s);
	uart_setup(&s);
	for (int i = 0; i < 5; i++) {
		const uint64_t before = generation(s.dev);

		assert_int_equal(kill(active_pid(s.dev), SIGSTOP), 0);
		assert_int_equal(uart_in(&s, UART_SCR), 0x5a);
		assert_true(generation(s.dev) > before);
		assert_int_equal(device_wait_standby(s.dev, 10000), 0);
	}
	streams_destroy(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_console_output), cmocka_unit_test(test_console_full_pipe),
		cmocka_unit_test(test_console_input),  cmocka_unit_test(test_serial_registers),
		cmocka_unit_test(test_serial_output),  cmocka_unit_test(test_serial_input),
		cmocka_unit_test(test_serial_hang),
	};
	int ret;

	if (boxrig_start(&rig) != 0 || guestmem_add(&rig.mem, 0, 64u << 20, GUESTMEM_4K) != 0 ||
	    boxrig_supervise(&rig) != 0)
		return 1;
	ret = cmocka_run_group_tests_name("streams", tests, NULL, NULL);
	boxrig_stop(&rig);
	return ret;
}
