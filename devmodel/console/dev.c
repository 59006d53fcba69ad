/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.2 section 5.3) with one port: queue 0 carries input to the driver, queue 1
 * output from it.  Backend 0 is the input stream, backend 1 the output stream, both non-blocking.
 *
 * Input is read only when the driver has given a buffer, and straight into it, so nothing is held
 * between the stream and the ring.  Output that the stream does not take now stays in the ring; how
 * much of its buffer has gone out is the only state.
 */
#include <linux/errno.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/common/dev.h"
#include "devmodel/common/sys.h"
#include "devmodel/console/state.h"

#define STREAM_INPUT 0
#define STREAM_OUTPUT 1
#define QUEUE_INPUT 0

STATE_SCHEMA(console_data, CONSOLE_DATA);

static struct console_data *console_data(struct dev *dev)
{
	return (struct console_data *)dev->state[STATE_DATA].bytes;
}

/* Into guest memory. */
static long stream_read(const struct dev *dev, const struct virtq *q,
			const struct virtq_segment *seg)
{
	const uint32_t len = seg->len < CONSOLE_INPUT_MAX ? seg->len : CONSOLE_INPUT_MAX;
	long n;

	dirty_mark(q->log, seg->data, len);
	do
		n = sys_read(dev->launch->fd_backend + STREAM_INPUT, seg->data, len);
	while (n == -EINTR);
	dirty_mark(q->log, seg->data, len);
	return n;
}

/* Input: one buffer gets what one read yields; the driver wants it now, not when the buffer is
 * full. */
static enum serve_result console_input(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));
	int found = virtq_peek(q, &chain);
	uint32_t i;
	long n;

	dev->want[STREAM_INPUT] = false;
	if (found == 0)
		return SERVE_IDLE; /* the next kick brings a buffer */
	if (found > 0 && chain.write_bytes == 0)
		found = virtq_break(q, RING_ERROR_SHORT);
	if (found < 0)
		return SERVE_BROKEN;
	for (i = chain.readable; chain.seg[i].len == 0;)
		i++;
	n = stream_read(dev, q, &chain.seg[i]);
	/* At the end of the stream there is nothing to wait for: poll would return at once, for ever. */
	dev->want[STREAM_INPUT] = n == -EAGAIN;
	if (n <= 0)
		return SERVE_BLOCKED;
	virtq_push(q, chain.head, (uint32_t)n);
	return SERVE_DONE;
}

/* Writes what is left of one segment.  What went out is counted. 0: all of it; else the stream is
 * full, or nobody listens any more (then the rest counts as written: output is lost, not the VM). */
static int stream_write(struct dev *dev, const uint8_t *data, uint32_t len, uint64_t *written)
{
	while (len != 0) {
		const long n = sys_write(dev->launch->fd_backend + STREAM_OUTPUT, data,
					 len < CONSOLE_OUTPUT_MAX ? len : CONSOLE_OUTPUT_MAX);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return -EAGAIN;
		const uint32_t gone = n > 0 ? (uint32_t)n : len;

		data += gone;
		len -= gone;
		*written += gone;
	}
	return 0;
}

static enum serve_result console_output(struct dev *dev, struct virtq *q)
{
	struct console_data *data = console_data(dev);
	struct virtq_chain chain __attribute__((uninitialized));
	const int found = virtq_peek(q, &chain);
	uint64_t at = 0;

	dev->want[STREAM_OUTPUT] = false;
	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	for (uint32_t i = 0; i < chain.readable; i++) {
		const struct virtq_segment *seg = &chain.seg[i];
		const uint64_t skip = data->written > at ? data->written - at : 0;

		at += seg->len;
		if (skip >= seg->len)
			continue;
		if (stream_write(dev, seg->data + skip, seg->len - (uint32_t)skip,
				 &data->written) != 0) {
			dev->want[STREAM_OUTPUT] = true;
			return SERVE_BLOCKED;
		}
	}
	data->written = 0;
	virtq_push(q, chain.head, 0);
	return SERVE_DONE;
}

static enum serve_result console_serve(struct dev *dev, struct virtq *q)
{
	return q->number == QUEUE_INPUT ? console_input(dev, q) : console_output(dev, q);
}

/* Output is dropped; there is nothing to say to a driver that waits for input. */
static enum serve_result console_refuse(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));

	if (q->number == QUEUE_INPUT)
		return SERVE_BLOCKED;
	const int found = virtq_peek(q, &chain);

	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	console_data(dev)->written = 0;
	virtq_push(q, chain.head, 0);
	return SERVE_DONE;
}

/* Either stream is ready: the next round serves the queue that waited. */
static void console_host_event(struct dev *dev, unsigned int j)
{
	dev->want[j] = false;
}

static int console_init(struct dev *dev)
{
	return dev->launch->backends == 2 ? 0 : -EINVAL;
}

static int console_check(const struct dev *dev)
{
	(void)dev; /* any count is harmless: see state.h */
	return 0;
}

const struct dev_ops dev_program = {
	.name = "console",
	.kind = DEV_KIND_CONSOLE,
	.streams = 2,
	.state = { [STATE_DATA] = &console_data_schema },
	.init = console_init,
	.check = console_check,
	.serve = console_serve,
	.refuse = console_refuse,
	.host_event = console_host_event,
};
