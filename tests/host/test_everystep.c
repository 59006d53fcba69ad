/* SPDX-License-Identifier: Apache-2.0 */
/* Release blk, rng and mem programs, killed at every instruction of what they do: see everystep.h. */
#include <fcntl.h>
#include <unistd.h>

#include "tests/host/everystep.h"
#include "tests/rig/memrig.h"

#define SECTOR 512u
#define PIECE 1024u /* from one segment of a buffer to the next */
#define PIECES 4
#define GUARD 64
#define UNTOUCHED 0xee
#define STATUS_NONE 0xff
#define SPAN 64u /* sectors that each case has to itself */

static struct boxrig rig;

/* ---- blk ---- */

enum { READ = 0, WRITE = 1, FLUSH = 4 };

struct shape {
	uint32_t type;
	uint16_t cut[PIECES]; /* bytes of each segment; 0: no more */
	bool indirect;
};

/* As they lie in guest memory. */
struct request {
	uint32_t type, ioprio;
	uint64_t sector;
	uint8_t status;
	uint8_t guard[15];
	uint8_t data[PIECES * PIECE + GUARD];
};

struct work { /* at once in the ring */
	struct shape shapes[2];
	uint32_t count;
};

static struct disk {
	struct scene *s;
	struct request *requests;
	uint64_t gpa;
} disk;

/* What sectors hold after `version` was written to them. */
static void fill(uint8_t *to, uint32_t bytes, uint64_t sector, uint64_t version)
{
	for (uint32_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)((sector + i / SECTOR) * 131 + version * 17 + i % SECTOR * 7);
}

static uint32_t shape_bytes(const struct shape *shape)
{
	uint32_t bytes = 0;

	for (int i = 0; i < PIECES; i++)
		bytes += shape->cut[i];
	return bytes;
}

/* Between a request's pieces and its data in a row. */
static void copy_pieces(const struct shape *shape, struct request *r, uint8_t *row, bool out)
{
	for (uint32_t i = 0; i < PIECES; row += shape->cut[i++]) {
		if (out)
			memcpy(r->data + i * PIECE, row, shape->cut[i]);
		else
			memcpy(row, r->data + i * PIECE, shape->cut[i]);
	}
}

/* Each case has sectors of its own. */
static uint64_t case_sector(const struct everystep *e)
{
	return SPAN + e->number * SPAN % (SCENE_SECTORS - 2 * SPAN);
}

static void add(struct everystep *e, uint32_t at, const struct shape *shape)
{
	struct request *r = &disk.requests[at];
	const uint64_t here = disk.gpa + at * sizeof(*r);
	struct ringdrv_seg segs[PIECES + 2] = { { here, 16 } };
	uint8_t row[PIECES * PIECE];
	uint16_t n = 1;

	memset(r, UNTOUCHED, sizeof(*r));
	r->type = shape->type;
	r->ioprio = 0;
	r->sector = case_sector(e);
	fill(row, shape_bytes(shape), r->sector, e->number + 1);
	if (shape->type == WRITE)
		copy_pieces(shape, r, row, true);
	for (uint32_t i = 0; i < PIECES && shape->cut[i] != 0; i++)
		segs[n++] = (struct ringdrv_seg){ here + offsetof(struct request, data) + i * PIECE,
						  shape->cut[i] };
	segs[n++] = (struct ringdrv_seg){ here + offsetof(struct request, status), 1 };
	const uint16_t writable = shape->type == READ ? (uint16_t)(n - 1) : 1;
	const struct ringdrv_chain chain = { .seg = segs,
					     .readable = (uint16_t)(n - writable),
					     .writable = writable,
					     .indirect = shape->indirect,
					     .token = at };

	assert_int_equal(ringdrv_add(&disk.s->blk.rings[0], &chain), 0);
}

static uint64_t version_before(const struct everystep *e, const struct work *work)
{
	return work->shapes[0].type == WRITE ? e->number : e->number + 1;
}

static void blk_begin(struct everystep *e, const void *arg)
{
	struct ringdrv_queue *ring = &disk.s->blk.rings[0];
	const struct work *work = arg;
	const uint64_t first = case_sector(e) - SPAN / 2;
	uint8_t image[SPAN * SECTOR];

	fill(image, sizeof(image), first, version_before(e, work));
	assert_int_equal(pwrite(disk.s->blk.image, image, sizeof(image), (off_t)(first * SECTOR)),
			 sizeof(image));
	for (uint32_t i = 0; i < work->count; i++)
		add(e, i, &work->shapes[i]);
	step_submit(ring);
}

static void check_request(struct everystep *e, uint32_t at, const struct shape *shape, uint32_t len)
{
	struct request *r = &disk.requests[at];
	const uint32_t bytes = shape_bytes(shape);
	uint8_t row[PIECES * PIECE], right[sizeof(row)];

	assert_int_equal(r->status, 0);
	assert_int_equal(len, shape->type == READ ? bytes + 1 : 1);
	copy_pieces(shape, r, row, false);
	fill(right, bytes, case_sector(e), e->number + 1);
	if (shape->type != FLUSH)
		assert_memory_equal(row, right, bytes);
	for (uint32_t i = 0; i < PIECES; i++) {
		const uint32_t end = i == PIECES - 1 ? sizeof(r->data) : (i + 1) * PIECE;

		for (uint32_t at_byte = i * PIECE + shape->cut[i]; at_byte < end; at_byte++)
			assert_int_equal(r->data[at_byte], UNTOUCHED);
	}
	for (size_t i = 0; i < sizeof(r->guard); i++)
		assert_int_equal(r->guard[i], UNTOUCHED);
}

static void check_image(struct everystep *e, const struct work *work)
{
	const uint64_t first = case_sector(e) - SPAN / 2;
	uint8_t image[SPAN * SECTOR], right[sizeof(image)];

	fill(right, sizeof(right), first, version_before(e, work));
	fill(right + sizeof(right) / 2, shape_bytes(&work->shapes[0]), case_sector(e),
	     e->number + 1);
	assert_int_equal(pread(disk.s->blk.image, image, sizeof(image), (off_t)(first * SECTOR)),
			 sizeof(image));
	assert_memory_equal(image, right, sizeof(image));
}

/* Every request answered once, in order, called for. */
static void blk_check(struct everystep *e, const void *arg)
{
	struct ringdrv_queue *ring = &disk.s->blk.rings[0];
	const struct work *work = arg;

	for (uint32_t i = 0; i < work->count; i++) {
		const struct ringdrv_done done = step_reap(ring);

		assert_int_equal(done.token, i);
		check_request(e, i, &work->shapes[i], done.len);
	}
	check_image(e, work);
	step_check_ring(ring);
}

#define BLK(name, phase, work)                                                                     \
	{                                                                                          \
		name, STEP_##phase, blk_begin, blk_check, &(work), SYS_pread64                     \
	}

static void step_blk(const char *kind, uint64_t features, const struct situation *situations,
		     size_t count)
{
	const struct boxrig_blk_config config = { .features = features };
	struct scene *s = scene_create(&rig, &config);
	struct everystep e = { .kind = kind,
			       .dev = s->blk.dev,
			       .watch = &s->watch,
			       .kicks = &s->blk.rings[0].fd_kick,
			       .calls = &s->blk.rings[0].fd_call,
			       .queues = 1,
			       .random = 1,
			       .wait_at = STEP_NOWHERE };
	gpa_t gpa;

	assert_int_equal(guestmem_alloc(&rig.mem, 2 * sizeof(struct request), 4096, &gpa), 0);
	disk = (struct disk){ s, guestmem_ptr(&rig.mem, gpa, 2 * sizeof(struct request)), gpa.raw };
	scene_start(s);
	for (size_t i = 0; i < count; i++)
		step_situation(&e, &situations[i]);
	scene_close(s);
}

static const struct work read_one = { { { READ, { 1024 }, false } }, 1 };
static const struct work write_one = { { { WRITE, { 1024 }, false } }, 1 };

static void test_blk(void **state)
{
	static const struct work flush = { { { FLUSH, { 0 }, false } }, 1 };
	static const struct work indirect = { { { READ, { 512, 512, 512 }, true } }, 1 };
	static const struct work askew = { { { WRITE, { 300, 212 }, false } }, 1 };
	static const struct work pair = { { { WRITE, { 512 }, false }, { READ, { 512 }, false } },
					  2 };
	static const struct situation situations[] = {
		BLK("read", SERVE, read_one),
		BLK("write", SERVE, write_one),
		BLK("flush", SERVE, flush),
		BLK("indirect read of three segments", SERVE, indirect),
		BLK("write of segments cut within a sector", SERVE, askew),
		BLK("write, and read of the same", SERVE, pair),
		BLK("quiesce with a read waiting", QUIESCE, read_one),
		BLK("quiesce within a read", BELL, read_one),
		BLK("activation for one that died, a write waiting", RECOVERY, write_one),
		BLK("activation with a record, a read waiting", HANDOFF, read_one),
	};

	(void)state;
	step_blk("blk", 0, situations, ARRAY_SIZE(situations));
}

/* There the used flags say whether to kick, and a box dies with kicks suppressed. */
static void test_blk_without_event_idx(void **state)
{
	static const struct situation situations[] = {
		BLK("write", SERVE, write_one),
		BLK("quiesce with a read waiting", QUIESCE, read_one),
	};

	(void)state;
	step_blk("blk without event idx", RINGDRV_VERSION_1, situations, ARRAY_SIZE(situations));
}

/* ---- rng ---- */

#define RNG_BYTES 64

static struct entropy {
	struct boxrig_rng rng;
	struct watch watch;
	uint64_t gpa;
	uint8_t *buffer; /* RNG_BYTES and a guard */
} entropy;

static void rng_create(void)
{
	const struct boxrig_rng_config config = {
		.id = "rng", .ring_size = 16, .hooks = &watch_hooks, .ctx = &entropy.watch
	};
	gpa_t gpa;

	watch_init(&entropy.watch);
	assert_int_equal(guestmem_alloc(&rig.mem, RNG_BYTES + GUARD, 64, &gpa), 0);
	entropy.gpa = gpa.raw;
	entropy.buffer = guestmem_ptr(&rig.mem, gpa, RNG_BYTES + GUARD);
	assert_int_equal(boxrig_rng_create(&rig, &config, &entropy.rng), 0);
	assert_int_equal(boxrig_rng_go(&entropy.rng), 0);
	assert_int_equal(watch_wait(&entropy.watch, WATCH_STARTED, 1, SCENE_WAIT_MS), 0);
}

static int rng_destroy(void **state)
{
	(void)state;
	boxrig_rng_destroy(&entropy.rng);
	watch_free(&entropy.watch);
	return 0;
}

static void rng_begin(struct everystep *e, const void *arg)
{
	const struct ringdrv_seg segs[] = { { entropy.gpa, RNG_BYTES / 2 },
					    { entropy.gpa + RNG_BYTES / 2, RNG_BYTES / 2 } };
	const struct ringdrv_chain chain = { .seg = segs, .writable = 2, .token = e->number };

	(void)arg;
	memset(entropy.buffer, UNTOUCHED, RNG_BYTES + GUARD);
	assert_int_equal(ringdrv_add(&entropy.rng.ring, &chain), 0);
	step_submit(&entropy.rng.ring);
}

static void rng_check(struct everystep *e, const void *arg)
{
	const struct ringdrv_done done = step_reap(&entropy.rng.ring);
	int untouched = 0;

	(void)arg;
	assert_int_equal(done.token, e->number);
	assert_int_equal(done.len, RNG_BYTES);
	for (int i = 0; i < RNG_BYTES; i++)
		untouched += entropy.buffer[i] == UNTOUCHED;
	assert_true(untouched < RNG_BYTES / 4); /* by chance this happens less than once in 2^60 */
	for (int i = RNG_BYTES; i < RNG_BYTES + GUARD; i++)
		assert_int_equal(entropy.buffer[i], UNTOUCHED);
	step_check_ring(&entropy.rng.ring);
}

#define RNG(name, phase)                                                                           \
	{                                                                                          \
		name, STEP_##phase, rng_begin, rng_check, NULL, 0                                  \
	}

static void test_rng(void **state)
{
	static const struct situation situations[] = {
		RNG("request", SERVE),
		RNG("quiesce with a request waiting", QUIESCE),
		RNG("activation for one that died, a request waiting", RECOVERY),
		RNG("activation with a record, a request waiting", HANDOFF),
	};

	(void)state;
	rng_create();
	struct everystep e = { .kind = "rng",
			       .dev = entropy.rng.dev,
			       .watch = &entropy.watch,
			       .kicks = &entropy.rng.ring.fd_kick,
			       .calls = &entropy.rng.ring.fd_call,
			       .queues = 1,
			       .random = 1,
			       .wait_at = STEP_NOWHERE };

	for (size_t i = 0; i < ARRAY_SIZE(situations); i++)
		step_situation(&e, &situations[i]);
}

/* ---- mem ---- */

#define MEM_WANTED 64u /* blocks */

static struct memrig mem;

/* A request, what has to be so before it, and what is so after. */
struct deal {
	uint16_t type;
	uint64_t block;
	uint16_t blocks;
	uint16_t undo; /* the request that puts things back; itself: there is nothing to put back */
	enum mem_state after;
};

static void mem_begin(struct everystep *e, const void *arg)
{
	const struct deal *d = arg;

	assert_int_equal(memrig_add(&mem, d->type, d->block, d->blocks, e->number), 0);
	step_submit(&mem.ring);
}

static void mem_do(uint16_t type, const struct deal *d, struct mem_resp *resp)
{
	assert_int_equal(memrig_do(&mem, type, d->block, d->blocks, resp), 0);
	assert_int_equal(resp->type, MEM_ACK);
}

/* What the guest was told, what the VMM knows, and what it tells of it when it is asked. */
static void mem_agrees(const struct deal *d, const struct mem_resp *resp)
{
	struct mem_resp state;
	struct vmem_range range;
	uint64_t from = 0;

	assert_int_equal(resp->type, MEM_ACK);
	assert_int_equal(resp->state, d->type == MEM_STATE ? d->after : 0);
	mem_do(MEM_STATE, d, &state);
	assert_int_equal(state.state, d->after);
	pthread_mutex_lock(&mem.lock);
	assert_int_equal(vmem_plugged(&mem.v, &from, &range), d->after == MEM_PLUGGED);
	if (d->after == MEM_PLUGGED) {
		assert_int_equal(range.addr, MEMRIG_ADDR + d->block * MEMRIG_BLOCK);
		assert_int_equal(range.bytes, d->blocks * MEMRIG_BLOCK);
		assert_false(vmem_plugged(&mem.v, &from, &range));
	}
	pthread_mutex_unlock(&mem.lock);
}

static void mem_check(struct everystep *e, const void *arg)
{
	const struct ringdrv_done done = step_reap(&mem.ring);
	const struct deal *d = arg;
	struct mem_resp resp;

	assert_int_equal(done.token, e->number);
	assert_int_equal(memrig_answer(&mem, &done, &resp), 0);
	mem_agrees(d, &resp);
	if (d->undo != d->type)
		mem_do(d->undo, d, &resp);
	step_check_ring(&mem.ring);
}

static int mem_destroy(void **state)
{
	(void)state;
	memrig_destroy(&mem);
	return 0;
}

#define MEM(name, phase, deal)                                                                     \
	{                                                                                          \
		name, STEP_##phase, mem_begin, mem_check, &(deal), SYS_write                       \
	}

static void test_mem(void **state)
{
	static const struct deal plug = { MEM_PLUG, 7, 40, MEM_UNPLUG, MEM_PLUGGED };
	static const struct deal unplug = { MEM_UNPLUG, 7, 40, MEM_PLUG, MEM_UNPLUGGED };
	static const struct deal all = { MEM_UNPLUG_ALL, 7, 40, MEM_PLUG, MEM_UNPLUGGED };
	static const struct deal look = { MEM_STATE, 7, 40, MEM_STATE, MEM_PLUGGED };
	static const struct situation situations[] = {
		MEM("plug", SERVE, plug),
		MEM("quiesce with a plug waiting", QUIESCE, plug),
		MEM("quiesce within a plug", BELL, plug),
		MEM("activation for one that died, a plug waiting", RECOVERY, plug),
		MEM("activation for one that parked, a plug waiting", HANDOFF, plug),
		MEM("unplug", SERVE, unplug),
		MEM("quiesce within an unplug", BELL, unplug),
		MEM("activation for one that died, an unplug waiting", RECOVERY, unplug),
		MEM("unplug of all", SERVE, all),
		MEM("state", SERVE, look),
	};
	const struct device_spec like = { .death_budget = 0 };
	struct mem_resp resp;

	(void)state;
	assert_int_equal(memrig_create(&rig, &mem, MEM_WANTED, &like), 0);
	struct everystep e = { .kind = "mem",
			       .dev = mem.dev,
			       .watch = &mem.watch,
			       .kicks = &mem.ring.fd_kick,
			       .calls = &mem.ring.fd_call,
			       .queues = 1,
			       .random = 1,
			       .wait_at = STEP_NOWHERE };
	bool plugged = false;

	for (size_t i = 0; i < ARRAY_SIZE(situations); i++) {
		const struct deal *d = situations[i].arg;
		const uint64_t repeated = mem.repeated;

		if (plugged != (d->type != MEM_PLUG))
			mem_do(plugged ? MEM_UNPLUG : MEM_PLUG, d, &resp);
		plugged = d->type != MEM_PLUG;
		step_situation(&e, &situations[i]);
		/* Some died with the answer, and it was given again. */
		assert_true(mem.repeated > repeated || situations[i].phase == STEP_QUIESCE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_blk),
		scene_test(test_blk_without_event_idx),
		cmocka_unit_test_teardown(test_rng, rng_destroy),
		cmocka_unit_test_teardown(test_mem, mem_destroy),
	};
	const struct scene_group group = { .name = "everystep", .bytes = 64u << 20 };

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
