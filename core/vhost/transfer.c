/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream: a header, then records in their envelopes (core/box/box.h, device_save()).  It fits into a pipe, so
 * that to save nobody waits: the front-end reads after the answer.  To load waits for the front-end's end of the
 * pipe to close, which it does before it asks how it went.
 */
#include "core/vhost/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "core/cc.h"
#include "core/log.h"
#include "core/vhost/broker.h"

#define STREAM_MAGIC 0x74736f6876664dull /* "Mfvhost" */
#define STREAM_VERSION 1u
#define STREAM_MAX 65536u /* what a pipe holds */
#define LOAD_MS 5000

struct stream_header {
	uint64_t magic;
	uint32_t version;
	uint32_t kind; /* enum dev_kind */
	uint32_t queues;
	uint32_t config_bytes;
	uint64_t config_xxh3; /* of what its driver sees: a disk of another size is another disk */
	uint64_t features;    /* that it offers */
};

_Static_assert(sizeof(struct stream_header) == 40, "wire format");

static void header_of(const struct broker *b, struct stream_header *h)
{
	*h = (struct stream_header){
		.magic = STREAM_MAGIC,
		.version = STREAM_VERSION,
		.kind = (uint32_t)b->kind,
		.queues = b->offer.queues,
		.config_bytes = b->offer.config_bytes,
		.config_xxh3 = XXH3_64bits(b->offer.config, b->offer.config_bytes),
		.features = b->offer.features,
	};
}

/* ---- out ---- */

static int save(struct broker *b, int fd)
{
	uint8_t stream[STREAM_MAX];
	struct stream_header header;
	size_t bytes = 0;
	int ret;

	header_of(b, &header);
	memcpy(stream, &header, sizeof(header));
	ret = device_save(b->svc.dev, stream + sizeof(header), STREAM_MAX - sizeof(header), &bytes);
	if (ret != 0)
		return ret;
	bytes += sizeof(header);
	return write(fd, stream, bytes) == (ssize_t)bytes ? 0 : -EAGAIN;
}

/* ---- in ---- */

/* To the end. How many bytes, or -errno. */
static ssize_t read_all(int fd, uint8_t *to, size_t room)
{
	const uint64_t end = now_ns() + LOAD_MS * NS_PER_MS;
	size_t have = 0;

	while (have < room) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		const uint64_t now = now_ns();
		const int left = now < end ? (int)((end - now) / NS_PER_MS) : 0;
		ssize_t n;

		if (poll(&pfd, 1, left) == 0)
			return -ETIMEDOUT;
		n = read(fd, to + have, room - have);
		if (n == 0)
			return (ssize_t)have;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		have += n > 0 ? (size_t)n : 0;
	}
	return -EFBIG;
}

static int load_stream(struct broker *b, const uint8_t *stream, size_t bytes)
{
	struct stream_header header, want;
	struct replacement r = { .planned = false };
	int ret;

	header_of(b, &want);
	if (bytes < sizeof(header))
		return -EBADMSG;
	memcpy(&header, stream, sizeof(header));
	if (memcmp(&header, &want, sizeof(header)) != 0)
		return -EINVAL;
	if (bytes == sizeof(header)) /* a clean start, there as here */
		return 0;
	ret = device_load(b->svc.dev, stream + sizeof(header), bytes - sizeof(header));
	/* Who is sealed decodes it; one that cannot has a successor that starts clean. */
	if (ret == 0)
		ret = device_replace(b->svc.dev, REPLACE_RINGS, true, &r);
	return ret == 0 && !(r.planned && r.carried) ? -EBADMSG : ret;
}

static int load(struct broker *b)
{
	uint8_t stream[STREAM_MAX];
	const ssize_t n = read_all(b->transfer, stream, sizeof(stream));

	return n < 0 ? (int)n : load_stream(b, stream, (size_t)n);
}

/* ---- the two messages ---- */

/* A pipe or a socket, which nobody has to wait for: a file may be on a file system of the front-end's. */
static int check_stream(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		return -EBADF;
	return 0;
}

int transfer_begin(struct broker *b, struct vhost_message *message, struct vhost_message *answer)
{
	cleanup_fd int fd = message_take_fd(message, 0);

	transfer_end(b);
	b->transfer_error = check_stream(fd);
	if (b->transfer_error == 0 &&
	    message->payload.transfer.direction == VHOST_USER_STATE_LOAD) {
		b->transfer = cc_take_fd(&fd);
		return 0;
	}
	if (b->transfer_error == 0)
		b->transfer_error = save(b, fd);
	if (b->transfer_error != 0)
		answer->payload.u64 |= 1;
	return 0;
}

int transfer_check(struct broker *b)
{
	int ret = b->transfer_error;

	if (b->transfer >= 0)
		ret = load(b);
	transfer_end(b);
	if (ret != 0 && broker_may_log(b))
		log_warn("%s: vhost-user: its state was not taken over: %s", b->id, strerror(-ret));
	return ret;
}

void transfer_end(struct broker *b)
{
	cc_close(&b->transfer);
	b->transfer_error = 0;
}
