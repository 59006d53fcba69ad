/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * Any bytes on the control socket, from either end.
 *
 * The box's side: dev_run() on blk with a small guest memory between guard pages, fed messages until
 * the stream ends.  It must come back with one of its documented errors, and must have said nothing but
 * well-formed reports, of which each PING has its PONG.
 *
 * The VMM's side: channel_receive() and box.c on a box in one of the states in which it is heard.  What
 * the box is then thought to be may only be what its table says a report can make of it, and what is
 * kept or handed on of a report is within bounds.
 *
 * Input: a byte that says which side and how it begins, then messages: u16 length, so many bytes (the
 * last may be cut short).  For the box, a length with bit 15 set is a good ACTIVATE over which the bytes
 * are laid, from the u16 offset with which they begin; so an input need not hold one whole.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/box/autopsy.h"
#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"
#include "devmodel/abi/kinds.h"
#include "devmodel/abi/mem.h"
#include "devmodel/common/dev.h"
#include "tests/fuzz/fuzz.h"

#define MESSAGES_MAX 48 /* and their answers fit into the socket */
#define SIDE_VMM 1u
#define WITH_ERRANDS 0x80u /* of the VMM's side: the device has them */
#define ASKS_FROM 33u      /* likewise: it is one that asks */
#define OVER_ACTIVATE 0x8000u

struct input {
	const uint8_t *data;
	size_t left;
};

static size_t input_take(struct input *in, void *out, size_t bytes)
{
	const size_t n = bytes < in->left ? bytes : in->left;

	if (n != 0)
		memcpy(out, in->data, n);
	in->data += n;
	in->left -= n;
	return n;
}

/* ---- the box's side ---- */

#define MEMORY_GPA 0x10000u
#define MEMORY_BYTES 0x10000u
#define IMAGE_BYTES 0x4000u
#define QUEUE_SIZE 8u

static struct launch_record launch;
static struct state_page page;
static uint8_t *memory;

static void box_side_setup(void)
{
	uint8_t *p = mmap(NULL, MEMORY_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FUZZ_CHECK(p != MAP_FAILED &&
		   mprotect(p + 4096, MEMORY_BYTES, PROT_READ | PROT_WRITE) == 0);
	memory = p + 4096;
	launch.kind = DEV_KIND_BLK;
	launch.queues = 1;
	launch.queue_index[0] = 5;
	launch.backends = 1;
	launch.fd_backend = (uint16_t)memfd_create("image", MFD_CLOEXEC);
	launch.fd_kick = (uint16_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	launch.fd_call = (uint16_t)eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	launch.config.blk.bytes = IMAGE_BYTES;
	launch.config.blk.align = 1;
	launch.state_addr = (uintptr_t)&page;
	launch.map.count = 1;
	launch.map.regions[0] = (struct mem_region){ MEMORY_GPA, MEMORY_BYTES, (uintptr_t)memory };
	FUZZ_CHECK(ftruncate(launch.fd_backend, IMAGE_BYTES) == 0);
}

/* One request for the device's id, so that there is something to serve. */
static void memory_fill(void)
{
	struct virtq_desc *desc = (struct virtq_desc *)memory;
	struct virtq_avail *avail = (struct virtq_avail *)(memory + 0x1000);

	memset(memory, 0, MEMORY_BYTES);
	desc[0] = (struct virtq_desc){ MEMORY_GPA + 0x3000, 16, VIRTQ_DESC_F_NEXT, 1 };
	desc[1] = (struct virtq_desc){ MEMORY_GPA + 0x3100, 20,
				       VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE, 2 };
	desc[2] = (struct virtq_desc){ MEMORY_GPA + 0x3200, 1, VIRTQ_DESC_F_WRITE, 0 };
	memory[0x3000] = 8;
	avail->idx = 1;
}

static size_t message_make(struct input *in, uint8_t *message, size_t room)
{
	struct ctl_activate activate = {
		.header = { CTL_ACTIVATE, 0 },
		.queues = { { MEMORY_GPA, MEMORY_GPA + 0x1000, MEMORY_GPA + 0x2000, QUEUE_SIZE, 0,
			      0 } },
	};
	uint16_t length = 0, offset = 0;
	size_t n = 0;

	input_take(in, &length, sizeof(length));
	if (length & OVER_ACTIVATE) {
		input_take(in, &offset, sizeof(offset));
		memcpy(message, &activate, sizeof(activate));
		n = sizeof(activate);
		offset %= (uint16_t)(n + 1);
	}
	length &= OVER_ACTIVATE - 1;
	const size_t end = offset + input_take(in, message + offset,
					       length < room - offset ? length : room - offset);

	return end > n ? end : n;
}

/* How many messages a box that listens answers with PONG: those that are PINGs, until the first that
 * ends it is not known here; so this is the most. */
static uint32_t box_side_send(struct input *in, int fd)
{
	static uint8_t message[CTL_BYTES_MAX + 64];
	uint32_t pings = 0;

	for (uint32_t i = 0; i < MESSAGES_MAX && in->left > 0; i++) {
		const size_t n = message_make(in, message, sizeof(message));
		uint32_t type = 0;

		if (send(fd, message, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		page.bell++;
		memcpy(&type, message, n < sizeof(type) ? n : sizeof(type));
		pings += n >= sizeof(struct ctl_header) && type == CTL_PING;
	}
	shutdown(fd, SHUT_WR);
	return pings;
}

static void box_side_reports(int fd, uint32_t pings, int ret)
{
	uint32_t seen[REPORT_TYPE_END] = { 0 };
	struct box_report report;
	uint32_t last = 0;

	for (;;) {
		const ssize_t n = recv(fd, &report, sizeof(report), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && errno == ECONNRESET)
			continue; /* once: it ended with messages unread */
		if (n <= 0)
			break;
		FUZZ_CHECK(n == sizeof(report));
		FUZZ_CHECK(report.type == REPORT_ACTIVATED || report.type == REPORT_PARKED ||
			   report.type == REPORT_PONG || report.type == REPORT_BROKEN ||
			   report.type == REPORT_REFUSED);
		seen[report.type]++;
		last = report.type;
		if (report.type == REPORT_PARKED)
			FUZZ_CHECK(report.detail <= STATE_RECORD_MAX);
		if (report.type == REPORT_BROKEN)
			FUZZ_CHECK(report.value == 5 && report.detail > RING_ERROR_NONE &&
				   report.detail < RING_ERROR_COUNT);
	}
	FUZZ_CHECK(seen[REPORT_ACTIVATED] <= 1 && seen[REPORT_PARKED] <= 1);
	FUZZ_CHECK(seen[REPORT_PARKED] == 0 || last == REPORT_PARKED); /* then it is silent */
	FUZZ_CHECK(seen[REPORT_REFUSED] == 0 || last == REPORT_REFUSED);
	FUZZ_CHECK(seen[REPORT_BROKEN] <= 1 && seen[REPORT_PONG] <= pings);
	FUZZ_CHECK((ret == -EBADMSG) == (seen[REPORT_REFUSED] == 1));
}

static void box_side(struct input *in, uint8_t how)
{
	static struct dev dev;
	int pair[2];

	memset(&dev, 0, sizeof(dev));
	memset(&page, 0, sizeof(page));
	memory_fill();
	launch.config.blk.flags = how & BLK_READONLY;
	launch.fd_held = launch.fd_timer = 1000; /* no timer */
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	launch.fd_control = (uint16_t)pair[1];
	const uint32_t pings = box_side_send(in, pair[0]);
	const int ret = dev_run(&dev, &dev_program, &launch);

	FUZZ_CHECK(ret == -EPIPE || ret == -EPROTO || ret == -EBADMSG);
	close(pair[1]);
	box_side_reports(pair[0], pings, ret);
	close(pair[0]);
}

/* ---- the VMM's side: what box.c asks of the others ---- */

/* Errands: done for one that serves, as often as they may come. */
static uint32_t releases, stats;

static int on_release(void *ctx, const struct box_memory *epoch, uint64_t gpa, uint32_t pages);
static int on_stat(void *ctx, uint32_t tag, uint64_t value);

static void on_asked(void *ctx, const struct device_question *question);

static const struct device_hooks hooks = { .release = on_release, .stat = on_stat };
static const struct device_hooks asked_hooks = { .asked = on_asked };
static struct supervisor sup;
static struct device device = { .sup = &sup, .spec = { .id = "fuzzed", .queues = 3, .lanes = 1 } };
static struct generation *gen; /* of one box */
static uint32_t proofs;        /* a bit a look: whether it proves */

static void errand_check(void)
{
	const uint32_t state = gen->boxes[0].state;

	FUZZ_CHECK(state == BOX_STARTING || state == BOX_ACTIVE || state == BOX_QUIESCING);
}

/* Some are answered, some wait for ever. */
static void on_asked(void *ctx, const struct device_question *question)
{
	const struct box *box = &gen->boxes[0];
	struct mem_ask ask;

	(void)ctx;
	FUZZ_CHECK(box->state == BOX_STARTING || box->state == BOX_ACTIVE ||
		   box->state == BOX_QUIESCING);
	FUZZ_CHECK(box->ask.waits && question->lane == 0);
	FUZZ_CHECK(mem_ask_parse(question->value, question->detail, &ask));
	if (ask.blocks % 2 == 0)
		return;
	FUZZ_CHECK(device_answer_question(&device, question, 0) == 0);
	FUZZ_CHECK(!box->ask.waits);
	FUZZ_CHECK(device_answer_question(&device, question, 0) == -ESTALE);
}

static int on_release(void *ctx, const struct box_memory *epoch, uint64_t gpa, uint32_t pages)
{
	(void)ctx, (void)gpa;
	errand_check();
	FUZZ_CHECK(epoch == &sup.memory && ++releases <= RELEASES_PER_SYNC);
	return pages > RELEASE_PAGES_MAX ? -EPROTO : 0;
}

static int on_stat(void *ctx, uint32_t tag, uint64_t value)
{
	(void)ctx, (void)value;
	errand_check();
	FUZZ_CHECK(++stats <= STATS_PER_POLL);
	return tag > 9 ? -EPROTO : 0;
}

static bool look(void)
{
	const bool proven = proofs & 1;

	proofs >>= 1;
	return proven;
}

void log_write(enum log_level level, const char *origin, const char *fmt, ...)
{
	(void)level, (void)origin, (void)fmt;
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events)
{
	(void)loop, (void)events;
	source->fd = fd;
	return 0;
}

/* Of an answer: it is this thread's. */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	fn(arg);
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	(void)loop;
	source->fd = -1;
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	(void)loop, (void)at_ns;
	timer->armed = true;
}

void loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	(void)loop;
	timer->armed = false;
}

bool fence_parked(const struct box *box)
{
	(void)box;
	return look();
}

bool fence_held(const struct box *box, uint64_t id)
{
	(void)box, (void)id;
	return look();
}

void fence_cause(struct box *box)
{
	box->cause_known = true;
}

void fence_dead(struct box *box)
{
	(void)box;
	abort(); /* no report ends one */
}

void fence_stop(struct box *box)
{
	box->seized = look();
}

enum fence fence_stopped(struct box *box)
{
	(void)box;
	return look() ? FENCE_STOPPED : FENCE_NONE;
}

uint32_t fault_doomed(struct device *dev, const struct box *box)
{
	(void)dev, (void)box;
	return 0;
}

bool patrol_is_held(const struct box *box)
{
	(void)box;
	return false;
}

int verify_box(const struct box *box, const char **what)
{
	(void)box;
	*what = "fuzzed";
	return look() ? 0 : -EPERM;
}

uint32_t reg_shadow(struct device *dev, uint8_t *shadow)
{
	(void)dev, (void)shadow;
	return 0;
}

void box_release(struct box *box)
{
	(void)box;
	abort(); /* a report reaps nothing */
}

bool poison_wants_cause(const struct box *box)
{
	(void)box;
	return false;
}

void poison_learn(const struct box *box)
{
	(void)box;
	abort(); /* a report reaps nothing */
}

void autopsy_note(struct autopsy_messages *messages, const struct autopsy_message *message)
{
	(void)messages, (void)message;
}

void device_raise(struct device *dev, enum device_event event)
{
	(void)dev, (void)event;
}

void device_box_reached(struct box *box, enum box_state state, enum device_event event)
{
	FUZZ_CHECK(box->state == state);
	if (event == DEVICE_EV_FENCED)
		FUZZ_CHECK(box->fence == FENCE_PARKED || box->fence == FENCE_STOPPED);
}

void device_box_suspect(struct box *box, enum replace_reason reason)
{
	FUZZ_CHECK(box->state == BOX_STOPPING && reason == REPLACE_PROTOCOL);
}

void device_box_lost(struct box *box)
{
	FUZZ_CHECK(box->state == BOX_DYING);
}

void device_box_reaped(struct box *box)
{
	(void)box;
	abort(); /* a report reaps nothing */
}

void device_box_broke(struct box *box, uint32_t queue, enum ring_error error)
{
	FUZZ_CHECK(box->state == BOX_STARTING || box->state == BOX_ACTIVE ||
		   box->state == BOX_QUIESCING);
	FUZZ_CHECK(queue < device.spec.queues && (unsigned int)error < RING_ERROR_COUNT);
}

/* ---- the VMM's side ---- */

static const uint8_t heard_in[] = { BOX_SEALING, BOX_SETTLING,  BOX_STANDBY, BOX_STARTING,
				    BOX_ACTIVE,  BOX_QUIESCING, BOX_PARKING, BOX_STOPPING,
				    BOX_PENDING, BOX_FENCED,    BOX_DYING };

static bool owns(uint32_t state)
{
	return state >= BOX_STARTING && state <= BOX_PENDING;
}

static bool suspected(uint32_t state)
{
	return state == BOX_STOPPING || state == BOX_FENCED || state == BOX_DYING;
}

static void vmm_side_check(const struct box *box, uint32_t before, bool good)
{
	const uint32_t after = box->state;

	FUZZ_CHECK(after < BOX_STATE_COUNT);
	FUZZ_CHECK(!owns(after) || owns(before)); /* no report makes an owner */
	FUZZ_CHECK(after != BOX_ACTIVE || before == BOX_ACTIVE || before == BOX_STARTING);
	FUZZ_CHECK(after != BOX_STANDBY || before == BOX_STANDBY || before == BOX_SEALING);
	if (owns(before) && !owns(after)) /* only what a look proved */
		FUZZ_CHECK(after == BOX_FENCED && box->fence != FENCE_NONE);
	if (!good && before < BOX_STOPPING)
		FUZZ_CHECK(suspected(after));
	for (int c = 0; c < STATE_CLASSES; c++)
		FUZZ_CHECK(box->record_bytes[c] <= STATE_RECORD_MAX);
}

/* An ANSWER that is owed is sent, to an owner that serves; more than one is never owed. */
static void vmm_side_answer(struct box *box, int fd)
{
	struct ctl_answer answer;

	if (box->errands.answer.armed) {
		box->errands.answer.armed = false;
		box->errands.answer.fire(&box->errands.answer);
	}
	while (recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) > 0) {
		FUZZ_CHECK(answer.header.type == CTL_ANSWER && answer.nonce == box->nonce);
		FUZZ_CHECK(!box->errands.synced && box->errands.releases == 0);
		releases = 0;
	}
}

static void vmm_side_hear(struct input *in, int fd)
{
	struct box *box = &gen->boxes[0];
	uint8_t bytes[64];
	uint16_t length = 0;
	uint32_t type = 0;

	input_take(in, &length, sizeof(length));
	const size_t n = input_take(in, bytes, length % (sizeof(bytes) + 1));

	if (send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
	memcpy(&type, bytes, n < sizeof(type) ? n : sizeof(type));
	const uint32_t before = box->state;
	/* An empty message is an end of the stream: not judged, but nothing more is heard. */
	const bool good = n == 0 || (n == sizeof(struct box_report) && report_is_known(type));

	box->on_control.ready(&box->on_control, EPOLLIN);
	vmm_side_check(box, before, good);
	vmm_side_answer(box, fd);
	FUZZ_CHECK(n != 0 || (box->state == before && box->on_control.fd < 0));
}

static void vmm_side(struct input *in, uint8_t how)
{
	const uint32_t state = (how & ~WITH_ERRANDS) >> 1;
	struct box *box = &gen->boxes[0];
	int pair[2];

	proofs = releases = stats = 0;
	input_take(in, &proofs, sizeof(proofs));
	device.spec.hooks = how & WITH_ERRANDS ? &hooks : state >= ASKS_FROM ? &asked_hooks : NULL;
	device.spec.kind = DEV_KIND_MEM;
	device.active = gen;
	device.ask_due_ns = 0;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	gen->dev = &device;
	gen->lanes = 1;
	box_init(box, gen, 0);
	box->control = box->on_control.fd = pair[0];
	box->state = heard_in[state % ARRAY_SIZE(heard_in)];
	errand_grant_stats(box);
	if (box->state == BOX_SEALING || box->state == BOX_SETTLING)
		box->launch = calloc(1, sizeof(*box->launch));
	for (uint32_t i = 0; i < MESSAGES_MAX && in->left > 0 && box->on_control.fd >= 0; i++)
		vmm_side_hear(in, pair[1]);
	free(box->launch);
	close(pair[0]);
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t how;

	if (memory == NULL) {
		box_side_setup();
		gen = calloc(1, sizeof(*gen) + sizeof(gen->boxes[0]));
		FUZZ_CHECK(gen != NULL);
	}
	if (input_take(&in, &how, 1) == 0)
		return -1;
	if (how & SIDE_VMM)
		vmm_side(&in, how);
	else
		box_side(&in, how);
	return 0;
}
