/* SPDX-License-Identifier: Apache-2.0 */
// dev: serial
/*
 * The UART's register file: any sequence of accesses, input arriving and output blocking at any
 * time, and replacements in between, carried and clean.  After each step the state must encode, and
 * a successor must take it and show the same registers.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/common/dev.h"
#include "devmodel/serial/state.h"
#include "snapshot/codec.h"
#include "tests/fuzz/fuzz.h"

static struct launch_record launch;
static struct dev dev;
static int our_input, our_output;

static void pipe_at(int number, int *ours, int box_end)
{
	int fds[2];

	FUZZ_CHECK(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
	FUZZ_CHECK(dup2(fds[box_end], number) == number);
	close(fds[box_end]);
	*ours = fds[!box_end];
}

static void setup(void)
{
	launch.kind = DEV_KIND_SERIAL;
	launch.queues = 2;
	launch.backends = 2;
	launch.fd_backend = 200;
	launch.fd_call = 210;
	pipe_at(200, &our_input, 0);
	pipe_at(201, &our_output, 1);
	for (int i = 0; i < 2; i++)
		FUZZ_CHECK(dup2(eventfd(0, EFD_NONBLOCK), 210 + i) == 210 + i);
}

static void drain(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

static void begin(const uint8_t *shadow)
{
	memset(&dev, 0, sizeof(dev));
	dev.launch = &launch;
	dev.shadow = shadow;
	FUZZ_CHECK(dev_program.init(&dev) == 0);
}

static uint64_t access_register(uint8_t offset, uint8_t write, uint8_t value)
{
	const struct reg_request request = {
		.seq = 1, .offset = offset, .size = 1, .write = write, .value = value
	};

	return dev_program.access(&dev, &request);
}

/* A planned replacement: what parked is what goes on. */
static void replace(void)
{
	static const uint8_t shadow[REG_SHADOW_BYTES];
	uint8_t record[STATE_CLASSES][STATE_RECORD_MAX];
	int bytes[STATE_CLASSES];

	dev_program.quiesce(&dev);
	for (int c = 0; c < STATE_CLASSES; c++) {
		bytes[c] = state_encode(dev_program.state[c], dev.state[c].bytes, record[c],
					sizeof(record[c]));
		FUZZ_CHECK(bytes[c] > 0);
	}
	const uint64_t before[] = { access_register(3, 0, 0), access_register(4, 0, 0),
				    access_register(7, 0, 0) };

	begin(shadow);
	for (int c = 0; c < STATE_CLASSES; c++) {
		FUZZ_CHECK(state_decode(dev_program.state[c], record[c], (size_t)bytes[c],
					dev.state[c].bytes) == 0);
		dev.carried[c] = true;
	}
	FUZZ_CHECK(dev_program.check(&dev) == 0);
	dev_program.activate(&dev);
	FUZZ_CHECK(access_register(3, 0, 0) == before[0]);
	FUZZ_CHECK(access_register(4, 0, 0) == before[1]);
	FUZZ_CHECK(access_register(7, 0, 0) == before[2]);
}

/* A clean start with whatever the shadow holds. */
static void restart(const uint8_t *bytes, size_t n)
{
	uint8_t shadow[REG_SHADOW_BYTES] = { 0 };

	memcpy(shadow, bytes, n < sizeof(shadow) ? n : sizeof(shadow));
	begin(shadow);
	dev_program.activate(&dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t none[REG_SHADOW_BYTES];

	if (launch.queues == 0)
		setup();
	drain(our_output);
	begin(none);
	dev_program.activate(&dev);
	for (size_t i = 0; i + 2 <= size; i += 2) {
		const uint8_t what = data[i], value = data[i + 1];

		if (what < 0x40)
			FUZZ_CHECK(access_register(what & 7, (what >> 3) & 1, value) <= 0xff);
		else if (what < 0x60)
			FUZZ_CHECK(write(our_input, data + i, size - i < 32 ? size - i : 32) != 0);
		else if (what < 0x70)
			dev_program.host_event(&dev, what & 1);
		else if (what < 0x80)
			drain(our_output);
		else if (what < 0x88)
			replace();
		else if (what < 0x90)
			restart(data + i, size - i);
	}
	replace();
	/* The box's end is ours too: nothing of this input may be left for the next. */
	drain(launch.fd_backend);
	return 0;
}
