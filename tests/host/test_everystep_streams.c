/* SPDX-License-Identifier: Apache-2.0 */
/* Release console and serial programs, killed at every instruction of what they do: see everystep.h.
 * What may repeat or be lost is what docs/generations.md says, and counted. */
#include <poll.h>
#include <pthread.h>

#include "tests/host/everystep.h"
#include "tests/host/streams.h"

#define TEXT_BYTES                                                                                 \
	48 /* of which any may be in the input at once: less than a serial FIFO holds twice */
#define FIFO_BYTES 12
#define UNTOUCHED 0xee

static struct boxrig rig;
static struct streams streams;
static struct watch watch;

struct access {
	uint8_t reg;
	bool write;
	uint8_t value;
};

/* The vCPU that makes it. */
static struct vcpu {
	pthread_t thread;
	struct access access;
	uint8_t result;
	bool waits;
} vcpu;

static void *vcpu_main(void *arg)
{
	(void)arg;
	vcpu.result = (uint8_t)device_access(streams.dev, vcpu.access.reg, 1, vcpu.access.write,
					     vcpu.access.value);
	return NULL;
}

static uint8_t vcpu_end(void)
{
	vcpu.waits = false;
	assert_int_equal(pthread_join(vcpu.thread, NULL), 0);
	return vcpu.result;
}

static void open_streams(struct everystep *e, enum dev_kind kind)
{
	watch_init(&watch);
	streams_create(&streams, &rig, kind, &watch);
	streams_go(&streams);
	assert_int_equal(watch_wait(&watch, WATCH_STARTED, 1, SCENE_WAIT_MS), 0);
	*e = (struct everystep){ .kind = dev_kind_name(kind),
				 .dev = streams.dev,
				 .watch = &watch,
				 .kicks = streams.kick,
				 .calls = streams.call,
				 .queues = 2,
				 .random = 1,
				 .wait_at = STEP_NOWHERE };
}

/* Also what a test that failed has left open. */
static int close_streams(void **state)
{
	(void)state;
	device_reset(streams.dev);
	assert_int_equal(device_wait_idle(streams.dev, SCENE_WAIT_MS), 0);
	if (vcpu.waits)
		vcpu_end();
	streams_destroy(&streams);
	watch_free(&watch);
	return 0;
}

/* Something else in each case. */
static void case_text(const struct everystep *e, uint32_t salt, uint8_t *text, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		text[i] = (uint8_t)('0' + (e->number * 5 + salt * 3 + i) % 64);
}

/* Output came, perhaps a second time from the beginning. */
static void check_output(struct everystep *e, const uint8_t *text, size_t bytes)
{
	char got[3 * TEXT_BYTES];
	const size_t n = streams_drain(streams.output, got, sizeof(got));

	assert_true(n == bytes || n == 2 * bytes);
	for (size_t at = 0; at < n; at += bytes)
		assert_memory_equal(got + at, text, bytes);
	assert_false(n != bytes && (e->untouched || e->whole));
	e->repeated += n != bytes;
}

static void give_input(const uint8_t *text, size_t bytes)
{
	assert_int_equal(write(streams.input, text, bytes), bytes);
}

/* ---- console ---- */

static struct buffer {
	uint64_t gpa;
	uint8_t *at;
} buffer;

static void console_add(uint32_t queue, uint32_t bytes)
{
	const struct ringdrv_seg seg = { buffer.gpa, bytes };
	const struct ringdrv_chain chain = {
		.seg = &seg, .readable = queue == 1, .writable = queue == 0, .token = 1
	};

	assert_int_equal(ringdrv_add(&streams.rings[queue], &chain), 0);
	step_submit(&streams.rings[queue]);
}

static void output_begin(struct everystep *e, const void *arg)
{
	(void)arg;
	case_text(e, 0, buffer.at, TEXT_BYTES);
	console_add(1, TEXT_BYTES);
}

static void output_check(struct everystep *e, const void *arg)
{
	(void)arg;
	assert_int_equal(step_reap(&streams.rings[1]).len, 0);
	check_output(e, buffer.at, TEXT_BYTES);
	step_check_ring(&streams.rings[1]);
}

/* The text is there before the buffer. */
static void input_begin(struct everystep *e, const void *arg)
{
	uint8_t text[TEXT_BYTES];

	(void)arg;
	case_text(e, 0, text, sizeof(text));
	memset(buffer.at, UNTOUCHED, 2 * TEXT_BYTES);
	give_input(text, sizeof(text));
	console_add(0, 2 * TEXT_BYTES);
}

/* The buffer is there before the text. */
static void arrival_begin(struct everystep *e, const void *arg)
{
	uint8_t text[TEXT_BYTES];

	(void)arg;
	case_text(e, 0, text, sizeof(text));
	memset(buffer.at, UNTOUCHED, 2 * TEXT_BYTES);
	console_add(0, 2 * TEXT_BYTES);
	step_settle(e);
	give_input(text, sizeof(text));
}

static void input_check(struct everystep *e, const void *arg)
{
	struct ringdrv_queue *ring = &streams.rings[0];
	uint8_t text[TEXT_BYTES];

	(void)arg;
	case_text(e, 0, text, sizeof(text));
	if (ringdrv_pending(ring) == 0) { /* the first pass was to serve what there is */
		assert_false(e->untouched || e->whole);
		e->lost++;
		case_text(e, 1, text, sizeof(text));
		give_input(text, sizeof(text));
	}
	assert_int_equal(step_reap(ring).len, sizeof(text));
	assert_memory_equal(buffer.at, text, sizeof(text));
	for (int i = TEXT_BYTES; i < 2 * TEXT_BYTES; i++)
		assert_int_equal(buffer.at[i], UNTOUCHED);
	step_check_ring(ring);
}

#define OUTPUT(name, phase)                                                                        \
	{                                                                                          \
		name, STEP_##phase, output_begin, output_check, NULL, SYS_write                    \
	}

static void test_console(void **state)
{
	static const struct situation situations[] = {
		OUTPUT("output", SERVE),
		{ "input that waits", STEP_SERVE, input_begin, input_check, NULL, 0 },
		{ "input that arrives", STEP_SERVE, arrival_begin, input_check, NULL, 0 },
		OUTPUT("quiesce with output waiting", QUIESCE),
		OUTPUT("quiesce within output", BELL),
		OUTPUT("activation for one that died, output waiting", RECOVERY),
		OUTPUT("activation with a record, output waiting", HANDOFF),
		{ "activation for one that died, input waiting", STEP_RECOVERY, input_begin,
		  input_check, NULL, 0 },
	};
	struct everystep e;
	gpa_t gpa;

	(void)state;
	open_streams(&e, DEV_KIND_CONSOLE);
	assert_int_equal(guestmem_alloc(&rig.mem, 4096, 4096, &gpa), 0);
	buffer = (struct buffer){ gpa.raw, guestmem_ptr(&rig.mem, gpa, 4096) };
	for (size_t i = 0; i < ARRAY_SIZE(situations); i++)
		step_situation(&e, &situations[i]);
}

/* ---- serial ---- */

/* Returns when the request is there to be taken, or when the vCPU had to wait for so long that the box
 * was taken for hanging: on a machine that is busy. */
static void vcpu_begin(struct everystep *e, const struct access *access)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	struct pollfd kick = { streams.kick[0], POLLIN, 0 };
	struct device_status status;

	vcpu.access = *access;
	assert_int_equal(pthread_create(&vcpu.thread, NULL, vcpu_main, NULL), 0);
	vcpu.waits = true;
	while (poll(&kick, 1, 10) == 0 && !step_is_left(e, &status))
		assert_true(now_ns() < end);
}

static void access_begin(struct everystep *e, const void *arg)
{
	vcpu_begin(e, arg);
}

static void read_check(struct everystep *e, const void *arg)
{
	const struct access *access = arg;

	(void)e;
	assert_int_equal(vcpu_end(), access->value);
	uart_is_set_up(&streams);
}

static void write_check(struct everystep *e, const void *arg)
{
	const struct access *access = arg;

	(void)e;
	vcpu_end();
	assert_int_equal(uart_in(&streams, access->reg), access->value);
	uart_setup(&streams);
	uart_is_set_up(&streams);
}

static void send_begin(struct everystep *e, const void *arg)
{
	struct access access = { UART_TX, true, 0 };

	(void)arg;
	case_text(e, 0, &access.value, 1);
	vcpu_begin(e, &access);
}

static void send_check(struct everystep *e, const void *arg)
{
	(void)arg;
	vcpu_end();
	check_output(e, &vcpu.access.value, 1);
	uart_is_set_up(&streams);
}

/* A byte is taken out of the FIFO, whose rest goes with the box. */
static void take_begin(struct everystep *e, const void *arg)
{
	const struct access access = { UART_RX, false, 0 };
	uint8_t text[FIFO_BYTES];

	(void)arg;
	case_text(e, 0, text, sizeof(text));
	give_input(text, sizeof(text));
	step_settle(e);
	vcpu_begin(e, &access);
}

static void take_check(struct everystep *e, const void *arg)
{
	const uint8_t got = vcpu_end();
	uint8_t right;

	(void)arg;
	case_text(e, 0, &right, 1);
	assert_true(got == right || (got == 0 && !e->whole));
	e->lost += got == 0;
	assert_int_equal(uart_in(&streams, UART_LSR) & UART_LSR_DR, 0);
	uart_is_set_up(&streams);
}

static void receive_begin(struct everystep *e, const void *arg)
{
	uint8_t text[FIFO_BYTES];

	(void)arg;
	case_text(e, 0, text, sizeof(text));
	give_input(text, sizeof(text));
}

/* All of it and an interrupt, or nothing. */
static void receive_check(struct everystep *e, const void *arg)
{
	uint8_t text[FIFO_BYTES];
	uint64_t count;

	(void)arg;
	case_text(e, 0, text, sizeof(text));
	if (uart_in(&streams, UART_LSR) & UART_LSR_DR) {
		assert_int_equal(read(streams.call[1], &count, sizeof(count)), sizeof(count));
		for (size_t i = 0; i < sizeof(text); i++)
			assert_int_equal(uart_in(&streams, UART_RX), text[i]);
	} else {
		assert_false(e->untouched);
		e->lost++;
	}
	assert_int_equal(uart_in(&streams, UART_LSR) & UART_LSR_DR, 0);
	uart_is_set_up(&streams);
}

#define SEND(name, phase)                                                                          \
	{                                                                                          \
		name, STEP_##phase, send_begin, send_check, NULL, 0                                \
	}

static void test_serial(void **state)
{
	static const struct access scratch = { UART_SCR, true, 0xa7 };
	static const struct access enable = { UART_IER, true, UART_IER_RDI | UART_IER_THRI };
	static const struct access line = { UART_LCR, false, UART_LCR_WLEN8 };
	static const struct situation situations[] = {
		SEND("output of a byte", SERVE),
		{ "scratch register written", STEP_SERVE, access_begin, write_check, &scratch, 0 },
		{ "interrupts enabled", STEP_SERVE, access_begin, write_check, &enable, 0 },
		{ "register read", STEP_SERVE, access_begin, read_check, &line, 0 },
		{ "received byte read", STEP_SERVE, take_begin, take_check, NULL, 0 },
		{ "input that arrives", STEP_SERVE, receive_begin, receive_check, NULL, 0 },
		SEND("quiesce with output waiting", QUIESCE),
		SEND("activation for one that died, output waiting", RECOVERY),
		SEND("activation with records, output waiting", HANDOFF),
		{ "activation for one that died, input waiting", STEP_RECOVERY, receive_begin,
		  receive_check, NULL, 0 },
	};
	struct everystep e;

	(void)state;
	open_streams(&e, DEV_KIND_SERIAL);
	uart_setup(&streams);
	for (size_t i = 0; i < ARRAY_SIZE(situations); i++)
		step_situation(&e, &situations[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_console, close_streams),
		cmocka_unit_test_teardown(test_serial, close_streams),
	};
	const struct scene_group group = { .name = "everystep_streams", .bytes = 64u << 20 };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
