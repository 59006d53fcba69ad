/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/launch.c: what each box is born with.  Descriptors are dense and in the order that
 * devmodel/abi/launch.h documents, for every shape of a device; addresses never overlap, lie where
 * nothing else does, and are others each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "core/box/internal.h"
#include "core/box/policy.h"
#include "core/cc.h"
#include "devmodel/abi/virtio.h"

#define LOW (64ull << 30)
#define HIGH (80ull << 40) /* below 0x55.., where the kernel loads a static-pie */
#define GAP (2ull << 20)
#define GIB (1ull << 30)

#define FD_KICK 1000 /* + queue */
#define FD_CALL 2000 /* + queue */
#define FD_TIMER 3000
#define FD_BACKEND 4000 /* + number */
#define FD_SOCKET 5000
#define FD_STATE 5001
#define FD_REGION 6000 /* + number */
#define FD_LOG 7000
#define LOG_OFFSET 8192

static struct supervisor sup;
static struct device dev;
static struct generation *gen;
static struct launch_record record;
static uint32_t compiled;
static int compile_ret;

/* Its own test is test_policy.c. */
int policy_compile(struct launch_record *launch, uint32_t when)
{
	assert_int_equal(when, dev.spec.policy_when);
	assert_int_equal(launch->lane, compiled);
	assert_true(launch->fd_held > 0);
	launch->filter_count = 7;
	compiled++;
	return compile_ret;
}

static void device_make(uint32_t queues, uint32_t lanes, bool timer, uint32_t backends)
{
	memset(&dev, 0, sizeof(dev));
	dev.sup = &sup;
	dev.timer_fd = timer ? FD_TIMER : -1;
	dev.spec.kind = DEV_KIND_BLK;
	dev.spec.queues = queues;
	dev.spec.lanes = lanes;
	dev.spec.backend_count = backends;
	dev.spec.guest_memory = true;
	dev.spec.fsize = 12345;
	dev.spec.policy_when = 6;
	dev.spec.config.blk.bytes = 1u << 20;
	for (int i = 0; i < BOX_BACKENDS_MAX; i++)
		dev.spec.backends[i] = FD_BACKEND + i;
	compiled = 0;
	assert_int_equal(launch_prepare(&dev), 0);
	assert_int_equal(compiled, lanes);
	gen = calloc(1, sizeof(*gen) + lanes * sizeof(gen->boxes[0]));
	assert_non_null(gen);
	gen->dev = &dev;
	gen->number = 17;
	gen->lanes = lanes;
	/* Not the device's, which may be others by now. */
	for (int i = 0; i < BOX_QUEUES_MAX; i++) {
		gen->wiring.kick[i] = FD_KICK + i;
		gen->wiring.call[i] = FD_CALL + i;
	}
	for (uint32_t i = 0; i < lanes; i++)
		gen->boxes[i] = (struct box){
			.gen = gen, .lane = i, .child_socket = FD_SOCKET, .child_state = FD_STATE
		};
}

static void device_drop(void)
{
	free(dev.launch);
	free(gen);
}

static void memory_make(uint32_t count, uint64_t bytes, uint64_t page_bytes)
{
	memset(&sup.memory, 0, sizeof(sup.memory));
	sup.memory.map.epoch = 3;
	sup.memory.map.count = count;
	/* All of them: what is beyond `count` must not be handed on. */
	for (uint32_t i = 0; i < MEM_REGIONS_MAX; i++) {
		sup.memory.map.regions[i] =
			(struct mem_region){ i * bytes, bytes, 0x7f0000000000 + i * bytes };
		sup.memory.fds[i] = FD_REGION + (int)i;
		sup.memory.offsets[i] = i * page_bytes;
		sup.memory.page_bytes[i] = page_bytes;
	}
}

static void log_make(uint64_t bytes)
{
	sup.memory.log_fd = FD_LOG;
	sup.memory.log_offset = LOG_OFFSET;
	sup.memory.log_bytes = bytes;
}

/* ---- descriptors ---- */

static void expect_queues(const int *fds, const struct launch_record *l, uint32_t *served)
{
	assert_int_equal(l->fd_kick, BOX_FD_CONTROL + 1);
	assert_int_equal(l->fd_call, l->fd_kick + l->queues);
	for (uint32_t i = 0; i < l->queues; i++) {
		const uint16_t q = l->queue_index[i];

		assert_true(q < dev.spec.queues && q % dev.spec.lanes == l->lane);
		assert_true(i == 0 || q > l->queue_index[i - 1]);
		assert_int_equal(*served & 1u << q, 0);
		*served |= 1u << q;
		assert_int_equal(fds[l->fd_kick + i], FD_KICK + q);
		assert_int_equal(fds[l->fd_call + i], FD_CALL + q);
	}
}

static void expect_descriptors(const struct box *box, uint32_t *served)
{
	const bool timer = dev.timer_fd >= 0;
	const struct launch_record *l = &record;
	int fds[SPAWN_FDS_MAX];
	uint32_t n;

	launch_fill(box, &record);
	memset(fds, 0xff, sizeof(fds));
	n = launch_fds(box, l, fds);
	assert_int_equal(n, l->fd_held + BOX_SETUP_REGION + l->map.count + (l->log_bytes != 0));
	assert_in_range(n, 1, SPAWN_FDS_MAX);
	for (uint32_t i = 0; i < n; i++)
		assert_true(fds[i] > 0);
	assert_int_equal(l->fd_control, BOX_FD_CONTROL);
	assert_int_equal(fds[BOX_FD_CONTROL], FD_SOCKET);
	expect_queues(fds, l, served);
	assert_int_equal(l->fd_timer, timer ? l->fd_call + l->queues : l->fd_held);
	if (timer)
		assert_int_equal(fds[l->fd_timer], FD_TIMER);
	assert_int_equal(l->fd_backend, l->fd_call + l->queues + timer);
	assert_int_equal(l->backends, dev.spec.backend_count);
	for (int j = 0; j < l->backends; j++)
		assert_int_equal(fds[l->fd_backend + j], FD_BACKEND + j);
	assert_int_equal(l->fd_held, l->fd_backend + l->backends);
	assert_int_equal(fds[l->fd_held + BOX_SETUP_STATE], FD_STATE);
	for (int k = 0; k < (int)l->map.count; k++)
		assert_int_equal(fds[l->fd_held + BOX_SETUP_REGION + k], FD_REGION + k);
	if (l->log_bytes != 0)
		assert_int_equal(fds[n - 1], FD_LOG);
}

static void test_every_shape(void **state)
{
	(void)state;
	memory_make(3, GIB, 4096);
	for (uint32_t shape = 0; shape < 2 * (BOX_BACKENDS_MAX + 1); shape++) {
		log_make(shape % 3 * 12345);
		for (uint32_t queues = 1; queues <= BOX_QUEUES_MAX; queues++) {
			for (uint32_t lanes = 1; lanes <= queues; lanes++) {
				uint32_t served = 0;

				device_make(queues, lanes, shape % 2, shape / 2);
				for (uint32_t lane = 0; lane < lanes; lane++)
					expect_descriptors(&gen->boxes[lane], &served);
				assert_int_equal(served, (1u << queues) - 1);
				device_drop();
			}
		}
	}
}

/* The most that there can be still goes into one message to the spawner. */
static void test_largest(void **state)
{
	uint32_t served = 0;

	(void)state;
	memory_make(MEM_REGIONS_MAX, GIB, 2u << 20);
	log_make(MEM_REGIONS_MAX * GIB / LOG_PAGE / 8);
	device_make(BOX_QUEUES_MAX, 1, true, BOX_BACKENDS_MAX);
	expect_descriptors(&gen->boxes[0], &served);
	assert_true(record.log_bytes == sup.memory.log_bytes);
	device_drop();
}

static void test_register_device(void **state)
{
	int fds[SPAWN_FDS_MAX];

	(void)state;
	memory_make(5, GIB, 4096);
	log_make(4096);
	device_make(2, 1, false, 2);
	dev.spec.guest_memory = false;
	launch_fill(&gen->boxes[0], &record);
	assert_int_equal(record.map.count, 0);
	assert_true(record.log_bytes == 0);
	assert_int_equal(record.map.epoch, 3);
	assert_int_equal(launch_fds(&gen->boxes[0], &record, fds), record.fd_held + 2);
	device_drop();
}

/* ---- addresses ---- */

struct range {
	uint64_t start, end;
};

static int range_compare(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static void range_take(struct range *r, uint64_t start, uint64_t bytes, uint64_t align)
{
	assert_int_equal(start % align, 0);
	assert_true(start >= LOW && start < HIGH && bytes <= HIGH - start);
	*r = (struct range){ start, start + bytes };
}

static void expect_layout(void)
{
	struct range ranges[MEM_REGIONS_MAX + 3];
	uint32_t n = 0;

	launch_fill(&gen->boxes[0], &record);
	assert_int_equal(record.map.count, sup.memory.map.count);
	for (uint32_t i = 0; i < record.map.count; i++) {
		const struct mem_region *r = &record.map.regions[i];
		const uint64_t page = sup.memory.page_bytes[i];

		assert_true(r->gpa == sup.memory.map.regions[i].gpa);
		assert_true(r->bytes == sup.memory.map.regions[i].bytes);
		assert_true(record.region_offset[i] == sup.memory.offsets[i]);
		range_take(&ranges[n++], r->addr, r->bytes, page > GAP ? page : GAP);
	}
	range_take(&ranges[n++], record.state_addr, STATE_PAGE_BYTES, 4096);
	range_take(&ranges[n++], record.stack_addr, BOX_STACK_BYTES, 4096);
	if (record.log_bytes != 0)
		range_take(&ranges[n++], record.log_addr, launch_log_span(&record), 4096);
	qsort(ranges, n, sizeof(ranges[0]), range_compare);
	for (uint32_t i = 1; i < n; i++)
		assert_true(ranges[i].start >= ranges[i - 1].end + GAP);
}

static void test_layout(void **state)
{
	static const struct {
		uint32_t count, times;
		uint64_t bytes, page_bytes;
	} memories[] = {
		{ 0, 1000, 0, 4096 },
		{ 1, 1000, 4096, 4096 },
		{ 2, 1000, 3 * GIB, 4096 },
		{ 2, 1000, 4 * GIB, GIB },
		{ MEM_REGIONS_MAX, 200, 2u << 20, 2u << 20 },
		{ MEM_REGIONS_MAX, 200, 128u << 20, 4096 },
		{ MEM_REGIONS_MAX, 200, 64 * GIB, GIB }, /* 5 TiB in all */
		{ 16, 200, 1024 * GIB, 2u << 20 },       /* 16 TiB */
		{ 1, 200, 32 * 1024 * GIB, 2u << 20 },
	};

	(void)state;
	device_make(1, 1, false, 1);
	for (size_t m = 0; m < ARRAY_SIZE(memories); m++) {
		memory_make(memories[m].count, memories[m].bytes, memories[m].page_bytes);
		for (uint32_t i = 0; i < memories[m].times; i++) {
			log_make(i % 2 == 0 ? UINT64_MAX : 0);
			expect_layout();
		}
	}
	device_drop();
}

/* Nothing that one generation leaks tells where the next has its things, or how it is known. */
static void test_drawn_anew(void **state)
{
	struct launch_record before;

	(void)state;
	memory_make(2, GIB, 4096);
	log_make(4096);
	device_make(1, 1, false, 1);
	launch_fill(&gen->boxes[0], &before);
	for (int i = 0; i < 100; i++) {
		launch_fill(&gen->boxes[0], &record);
		assert_true(record.log_addr != before.log_addr);
		assert_true(record.state_addr != before.state_addr);
		assert_true(record.stack_addr != before.stack_addr);
		for (uint32_t r = 0; r < record.map.count; r++)
			assert_true(record.map.regions[r].addr != before.map.regions[r].addr);
		for (size_t c = 0; c < ARRAY_SIZE(record.canary); c++)
			assert_true(record.canary[c] != before.canary[c]);
		before = record;
	}
	device_drop();
}

/* The VMM's own addresses are nobody else's business. */
static void test_no_address_of_ours(void **state)
{
	(void)state;
	memory_make(2, GIB, 4096);
	device_make(1, 1, false, 1);
	memset(&record, 0xa5, sizeof(record));
	launch_fill(&gen->boxes[0], &record);
	for (uint32_t i = 0; i < MEM_REGIONS_MAX; i++)
		assert_true(record.map.regions[i].addr < HIGH);
	for (uint32_t i = record.map.count; i < MEM_REGIONS_MAX; i++)
		assert_true(record.map.regions[i].addr == 0 && record.map.regions[i].bytes == 0);
	device_drop();
}

/* ---- the dirty log ---- */

/* Without one there is nothing of it, whatever its descriptor is; of one that is longer than the map can
 * make a box mark there is no more than that: who gives it may say any number. */
static void test_log_bytes(void **state)
{
	static const struct {
		uint64_t given, count, bytes, want;
	} logs[] = {
		{ 0, 2, GIB, 0 },
		{ 1, 2, GIB, 1 },
		{ 4097, 2, GIB, 4097 },
		{ 2 * GIB / LOG_PAGE / 8, 2, GIB, 65536 },
		{ 65537, 2, GIB, 65536 },
		{ UINT64_MAX, 2, GIB, 65536 },
		{ UINT64_MAX, 1, LOG_PAGE, 1 },
		{ UINT64_MAX, 3, 3 * LOG_PAGE, 2 },
		{ UINT64_MAX, 0, GIB, 0 },
	};

	(void)state;
	device_make(1, 1, false, 1);
	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		memory_make((uint32_t)logs[i].count, logs[i].bytes, 4096);
		log_make(logs[i].given);
		launch_fill(&gen->boxes[0], &record);
		assert_true(record.log_bytes == logs[i].want);
		assert_true(launch_log_span(&record) == (logs[i].want + 4095) / 4096 * 4096);
		assert_true(record.log_offset == (logs[i].want != 0 ? LOG_OFFSET : 0));
		assert_int_equal(record.log_addr != 0, logs[i].want != 0);
	}
	device_drop();
}

/* ---- the rest of the record ---- */

static void test_constants(void **state)
{
	(void)state;
	memory_make(1, GIB, 4096);
	sup.host = (struct seal_host){ .seal = SEAL_WANT_LISTENER | SEAL_WANT_MSEAL,
				       .uid = 4711,
				       .gid = 4712,
				       .landlock = 0x1fff,
				       .landlock_net = 3,
				       .landlock_scope = 1 };
	device_make(4, 2, false, 1);
	launch_fill(&gen->boxes[1], &record);
	assert_true(record.magic == LAUNCH_MAGIC);
	assert_int_equal(record.version, LAUNCH_VERSION);
	assert_int_equal(record.kind, DEV_KIND_BLK);
	assert_int_equal(record.generation, 17);
	assert_int_equal(record.lane, 1);
	assert_int_equal(record.lanes, 2);
	assert_int_equal(record.seal, SEAL_WANT_LISTENER | SEAL_WANT_MSEAL);
	assert_int_equal(record.uid, 4711);
	assert_int_equal(record.gid, 4712);
	assert_int_equal(record.landlock, 0x1fff);
	assert_int_equal(record.landlock_net, 3);
	assert_int_equal(record.landlock_scope, 1);
	assert_int_equal(record.fsize, 12345);
	assert_int_equal(record.map.epoch, 3);
	assert_int_equal(record.config.blk.bytes, 1u << 20);
	assert_int_equal(record.filter_count, 7);
	device_drop();
}

static void test_warm(void **state)
{
	(void)state;
	memory_make(1, GIB, 4096);
	device_make(3, 1, false, 1);
	dev.queues[0] = (struct ctl_queue){ 0x1000, 0x2000, 0x3000, 256, 0, 0 };
	dev.queues[2] = (struct ctl_queue){ 0x5000, 0x6000, 0x7000, 2, 0, 0 };
	launch_fill(&gen->boxes[0], &record);
	assert_true(record.warm[0].gpa == 0x1000 && record.warm[0].bytes == virtq_desc_bytes(256));
	assert_true(record.warm[1].gpa == 0x2000 && record.warm[1].bytes == virtq_avail_bytes(256));
	assert_true(record.warm[2].gpa == 0x3000 && record.warm[2].bytes == virtq_used_bytes(256));
	assert_true(record.warm[3].gpa == 0x5000 && record.warm[3].bytes == virtq_desc_bytes(2));
	assert_true(record.warm[5].gpa == 0x7000 && record.warm[5].bytes == virtq_used_bytes(2));
	for (size_t i = 6; i < ARRAY_SIZE(record.warm); i++)
		assert_true(record.warm[i].bytes == 0);
	device_drop();
}

static void test_policy_error(void **state)
{
	(void)state;
	memset(&dev, 0, sizeof(dev));
	dev.sup = &sup;
	dev.timer_fd = -1;
	dev.spec.queues = dev.spec.lanes = 4;
	compiled = 0;
	compile_ret = -E2BIG;
	assert_int_equal(launch_prepare(&dev), -E2BIG);
	compile_ret = 0;
	assert_int_equal(compiled, 1);
	free(dev.launch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_shape),     cmocka_unit_test(test_largest),
		cmocka_unit_test(test_register_device), cmocka_unit_test(test_layout),
		cmocka_unit_test(test_drawn_anew),      cmocka_unit_test(test_no_address_of_ours),
		cmocka_unit_test(test_constants),       cmocka_unit_test(test_warm),
		cmocka_unit_test(test_policy_error),    cmocka_unit_test(test_log_bytes),
	};

	return cmocka_run_group_tests_name("launch", tests, NULL, NULL);
}
