/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/vhost_steps.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/vhost/message.h"
#include "tests/fuzz/fuzz.h"

#define PAGE 4096ull
#define FILE_BYTES (16ull << 20) /* of each memory: sparse */
#define SLOT_BYTES (8ull << 20)  /* apart, by guest address; two that are long overlap */
#define USER_BASE 0x7f0000000000ull
#define SLOTS 16u
#define INFLIGHT_BYTES 65536u

/* ---- descriptors ---- */

enum {
	FD_SEALED, /* the first of its kind: what memory should be .. */
	FD_LOOSE,
	FD_SHORT,
	FD_READ_ONLY,
	FD_PATH,
	FD_TMPFS,
	FD_DIRECTORY,
	FD_NULL,
	FD_PIPE,
	FD_STREAM, /* .. what a channel should be .. */
	FD_DATAGRAM,
	FD_EVENT, /* .. what a kick should be */
	FD_EVENT_BLOCKING,
	FD_EVENT_FULL,
	FD_INFLIGHT, /* a buffer that another back-end left */
	FD_COUNT,
};

static int pool[FD_COUNT];

static int memory_make(uint64_t bytes)
{
	const int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

/* Another description of the same file. */
static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static void sockets_make(void)
{
	int pair[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	pool[FD_STREAM] = pair[0];
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
	pool[FD_DATAGRAM] = pair[0];
	FUZZ_CHECK(pipe2(pair, O_CLOEXEC) == 0);
	pool[FD_PIPE] = pair[1];
}

void vhost_steps_setup(void)
{
	pool[FD_SEALED] = memory_make(FILE_BYTES);
	FUZZ_CHECK(fcntl(pool[FD_SEALED], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	pool[FD_LOOSE] = memory_make(FILE_BYTES);
	pool[FD_SHORT] = memory_make(PAGE);
	pool[FD_READ_ONLY] = reopen(pool[FD_SEALED], O_RDONLY);
	pool[FD_PATH] = reopen(pool[FD_SEALED], O_PATH);
	pool[FD_TMPFS] = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (pool[FD_TMPFS] < 0)
		pool[FD_TMPFS] = memory_make(0);
	FUZZ_CHECK(ftruncate(pool[FD_TMPFS], FILE_BYTES) == 0);
	pool[FD_DIRECTORY] = open("/", O_DIRECTORY | O_CLOEXEC);
	pool[FD_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	pool[FD_EVENT] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	pool[FD_EVENT_BLOCKING] = eventfd(0, EFD_CLOEXEC);
	pool[FD_EVENT_FULL] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	eventfd_write(pool[FD_EVENT_FULL], UINT64_MAX - 1);
	pool[FD_INFLIGHT] = memory_make(INFLIGHT_BYTES);
	sockets_make();
	for (int i = 0; i < FD_COUNT; i++)
		FUZZ_CHECK(pool[i] >= 0);
}

/* Queues of 8 at every 256 bytes, in one of which a request is in flight. */
static void inflight_fill(void)
{
	uint8_t queue[256];
	struct vhost_user_inflight_queue head = { .version = VHOST_USER_INFLIGHT_VERSION,
						  .desc_num = 8 };

	memset(queue, 0, sizeof(queue));
	memcpy(queue, &head, sizeof(head));
	for (off_t at = 0; at < 1024; at += 256)
		FUZZ_CHECK(pwrite(pool[FD_INFLIGHT], queue, sizeof(queue), at) == sizeof(queue));
	FUZZ_CHECK(pwrite(pool[FD_INFLIGHT], &(uint8_t){ 1 }, 1, 3 * 256 + 16) == 1);
}

void vhost_steps_begin(void)
{
	FUZZ_CHECK(ftruncate(pool[FD_LOOSE], FILE_BYTES) == 0);
	FUZZ_CHECK(fcntl(pool[FD_EVENT_BLOCKING], F_SETFL, 0) == 0);
	inflight_fill();
}

void vhost_steps_truncate(const struct vhost_step *s)
{
	FUZZ_CHECK(ftruncate(pool[FD_LOOSE], (off_t)(s->a % 4096 * PAGE)) == 0);
}

/* ---- payloads ---- */

static struct vhost_user_region region_of(uint32_t slot, const struct vhost_step *s)
{
	const uint64_t pages = (s->b & 0xff) == 0 ? SLOT_BYTES / PAGE : s->b & 0xff;

	return (struct vhost_user_region){
		.guest_addr = slot % SLOTS * SLOT_BYTES,
		/* Some are longer than what a slot has. */
		.bytes = pages * PAGE * ((s->b & 0x4000) != 0 ? 64 : 1),
		.user_addr = USER_BASE + slot % SLOTS * SLOT_BYTES * 2,
		.mmap_offset = (s->b >> 8 & 0x3f) * PAGE,
	};
}

static size_t put(uint8_t *to, const void *payload, size_t bytes)
{
	memcpy(to, payload, bytes);
	return bytes;
}

static size_t put_u64(uint8_t *to, uint64_t value)
{
	return put(to, &value, sizeof(value));
}

static size_t put_table(uint8_t *to, const struct vhost_step *s)
{
	const struct vhost_user_memory head = { .count = s->a % (VHOST_USER_MEM_TABLE_MAX + 1) };

	put(to, &head, sizeof(head));
	for (uint32_t i = 0; i < head.count; i++) {
		const struct vhost_user_region r = region_of((s->a >> 8) + i, s);

		put(to + sizeof(head) + i * sizeof(r), &r, sizeof(r));
	}
	return sizeof(head) + head.count * sizeof(struct vhost_user_region);
}

static size_t put_region(uint8_t *to, const struct vhost_step *s)
{
	const struct vhost_user_single_region single = { .region = region_of(s->a, s) };

	return put(to, &single, sizeof(single));
}

/* In a slot, from a page on; used and avail in their own pages, where the largest has room. */
static size_t put_addr(uint8_t *to, const struct vhost_step *s)
{
	const uint64_t base = USER_BASE + (s->a >> 8) % SLOTS * SLOT_BYTES * 2 + s->b * PAGE;
	const struct vhost_user_vring_addr addr = {
		.index = s->a & 3,
		.flags = s->a >> 2 & 1,
		.desc_user_addr = base,
		.avail_user_addr = base + 4 * PAGE,
		.used_user_addr = base + 5 * PAGE,
	};

	return put(to, &addr, sizeof(addr));
}

static size_t put_state(uint8_t *to, const struct vhost_step *s)
{
	struct vhost_user_vring_state state = { .index = s->a & 3, .num = s->b };

	if (s->request == VHOST_USER_SET_VRING_NUM)
		state.num = 1u << s->b % 12;
	if (s->request == VHOST_USER_SET_VRING_ENABLE)
		state.num = (s->b & 7) != 0;
	return put(to, &state, sizeof(state));
}

static size_t put_config(uint8_t *to, const struct vhost_step *s)
{
	const struct vhost_user_config config = { .offset = s->a, .bytes = s->b % 300 };

	put(to, &config, sizeof(config));
	return sizeof(config) + (config.bytes < 256 ? config.bytes : 256);
}

static size_t put_inflight(uint8_t *to, const struct vhost_step *s)
{
	struct vhost_user_inflight inflight = { .queues = s->a & 3, .queue_size = s->b };

	if (s->request == VHOST_USER_SET_INFLIGHT_FD) {
		inflight.queue_size = 8;
		inflight.mmap_bytes = inflight.queues * 256;
		inflight.mmap_offset = s->b;
	}
	return put(to, &inflight, (s->a & 4) != 0 ? 20 : sizeof(inflight));
}

static size_t put_bits(uint8_t *to, const struct vhost_step *s)
{
	const uint64_t features = VHOST_STEP_FEATURES | 1ull << VHOST_USER_F_PROTOCOL_FEATURES;
	const uint64_t all =
		s->request == VHOST_USER_SET_FEATURES ? features : VHOST_PROTOCOL_OFFER;

	return put_u64(to, (all & ~(uint64_t)s->a) | (s->b == 1 ? 1ull << VHOST_F_LOG_ALL : 0));
}

static size_t put_log(uint8_t *to, const struct vhost_step *s)
{
	const struct vhost_user_log log = { .bytes = s->a * PAGE, .mmap_offset = s->b * PAGE };

	return put(to, &log, sizeof(log));
}

static size_t put_payload(uint8_t *to, const struct vhost_step *s)
{
	switch (s->request) {
	case VHOST_USER_SET_FEATURES:
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		return put_bits(to, s);
	case VHOST_USER_SET_MEM_TABLE:
		return put_table(to, s);
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_REM_MEM_REG:
		return put_region(to, s);
	case VHOST_USER_SET_LOG_BASE:
		return put_log(to, s);
	case VHOST_USER_SET_VRING_ADDR:
		return put_addr(to, s);
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		return put_state(to, s);
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return put_u64(to, (s->a & 3) | ((s->b & 1) != 0 ? VHOST_USER_VRING_NOFD : 0));
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		return put_config(to, s);
	case VHOST_USER_GET_INFLIGHT_FD:
	case VHOST_USER_SET_INFLIGHT_FD:
		return put_inflight(to, s);
	case VHOST_USER_SET_DEVICE_STATE_FD:
		return put_u64(to, s->a & 3);
	default:
		return 0;
	}
}

/* ---- descriptors of a message ---- */

static uint32_t fds_right(const struct vhost_step *s)
{
	switch (s->request) {
	case VHOST_USER_SET_MEM_TABLE:
		return s->a % (VHOST_USER_MEM_TABLE_MAX + 1);
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return (s->b & 1) == 0;
	case VHOST_USER_SET_LOG_BASE:
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_SET_BACKEND_REQ_FD:
	case VHOST_USER_SET_INFLIGHT_FD:
	case VHOST_USER_SET_DEVICE_STATE_FD:
		return 1;
	default:
		return 0;
	}
}

/* The kind that is right for it; `fd` says how far from it. */
static uint32_t fd_right(uint32_t request)
{
	switch (request) {
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return FD_EVENT;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		return FD_STREAM;
	case VHOST_USER_SET_INFLIGHT_FD:
		return FD_INFLIGHT;
	default:
		return FD_SEALED;
	}
}

static void put_fds(const struct vhost_step *s, struct vhost_step_message *m)
{
	m->fd_count = (s->how & VHOST_STEP_FDS_ODD) != 0 ? s->fds % (VHOST_STEP_FDS_MAX + 1)
							 : fds_right(s);
	for (uint32_t i = 0; i < m->fd_count; i++)
		m->fds[i] = pool[(fd_right(s->request) + s->fd) % FD_COUNT];
	if (m->fd_count > 1) /* one that is right among others, or the other way round */
		m->fds[s->fds % m->fd_count] = pool[fd_right(s->request)];
}

/* ---- steps ---- */

static size_t take(struct vhost_step_input *in, void *out, size_t bytes)
{
	const size_t n = bytes < in->left ? bytes : in->left;

	if (n != 0)
		memcpy(out, in->data, n);
	in->data += n;
	in->left -= n;
	return n;
}

/* How many bytes, from where. */
static void lay_over(struct vhost_step_input *in, struct vhost_step_message *m)
{
	uint8_t bytes = 0;
	uint16_t from = 0;
	size_t n;

	take(in, &bytes, sizeof(bytes));
	take(in, &from, sizeof(from));
	from %= (uint16_t)sizeof(m->bytes);
	if (bytes > sizeof(m->bytes) - from)
		bytes = (uint8_t)(sizeof(m->bytes) - from);
	n = take(in, m->bytes + from, bytes);
	if (from + n > m->count)
		m->count = from + n;
}

static void message_make(struct vhost_step_input *in, const struct vhost_step *s,
			 struct vhost_step_message *m)
{
	struct vhost_user_header header = { .request = s->request, .flags = VHOST_USER_VERSION };

	memset(m, 0, sizeof(*m));
	header.flags |= (s->how & VHOST_STEP_ACK) != 0 ? VHOST_USER_NEED_REPLY : 0;
	header.size = (uint32_t)put_payload(m->bytes + sizeof(header), s);
	put(m->bytes, &header, sizeof(header));
	m->count = sizeof(header) + header.size;
	put_fds(s, m);
	if ((s->how & VHOST_STEP_OVER) != 0)
		lay_over(in, m);
}

bool vhost_step_next(struct vhost_step_input *in, struct vhost_step *s,
		     struct vhost_step_message *m)
{
	static const enum vhost_step_kind others[] = { VHOST_STEP_TRUNCATE, VHOST_STEP_UNDO,
						       VHOST_STEP_BASE, VHOST_STEP_HANG_UP };
	struct {
		uint8_t request, how, fd, fds;
		uint16_t a, b;
	} raw;

	if (take(in, &raw, sizeof(raw)) != sizeof(raw))
		return false;
	*s = (struct vhost_step){ .request = raw.request,
				  .how = raw.how,
				  .fd = raw.fd,
				  .fds = raw.fds,
				  .a = raw.a,
				  .b = raw.b };
	if ((s->how & VHOST_STEP_CUT) != 0)
		take(in, &s->cut, sizeof(s->cut));
	if (raw.request >= 48 && raw.request < 48 + ARRAY_SIZE(others)) {
		s->kind = others[raw.request - 48];
		return true;
	}
	s->kind = VHOST_STEP_MESSAGE;
	message_make(in, s, m);
	return true;
}
