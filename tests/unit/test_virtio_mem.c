/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug/virtio_mem.c: every rule by itself.  All of them together: test_virtio_mem_model.c. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <string.h>

#include "core/cc.h"
#include "hotplug/virtio_mem.h"

#define MIB (1ull << 20)
#define BLOCK (2 * MIB)
#define ADDR (4ull << 30)
#define BLOCKS 512u

static struct vmem v;
static uint8_t at; /* the next request's place */

static const struct vmem_spec plain = { .addr = ADDR,
					.region_bytes = BLOCKS * BLOCK,
					.block_bytes = BLOCK,
					.page_bytes = 4096,
					.slot_bytes = BLOCK,
					.node = 3 };

static int setup(void **state)
{
	const char *why;

	(void)state;
	at = 0;
	return vmem_init(&v, &plain, &why);
}

static int teardown(void **state)
{
	(void)state;
	vmem_free(&v);
	return 0;
}

static struct vmem_result ask_at(uint8_t place, uint8_t request, uint64_t addr, uint16_t blocks)
{
	const struct mem_ask asked = { request, place, blocks, addr };
	struct vmem_result result;

	vmem_ask(&v, &asked, &result);
	return result;
}

static struct vmem_result ask(uint8_t request, uint64_t addr, uint16_t blocks)
{
	return ask_at(at++, request, addr, blocks);
}

#define expect(type, request, block, count)                                                        \
	assert_int_equal(ask(MEM_##request, ADDR + (block)*BLOCK, count).answer,                   \
			 mem_answer_value(MEM_##type, 0))

static void expect_state(enum mem_state state, uint64_t block, uint16_t count)
{
	assert_int_equal(ask(MEM_STATE, ADDR + block * BLOCK, count).answer,
			 mem_answer_value(MEM_ACK, (uint16_t)state));
}

/* As an owner does it. */
static void want(uint64_t blocks)
{
	const struct vmem_next next = vmem_before(&v, blocks * BLOCK);

	if (next.step == VMEM_GROW)
		assert_int_equal(vmem_mapped(&v, next.bytes), 0);
	assert_int_equal(vmem_request(&v, blocks * BLOCK), 0);
}

/* ---- what it may be ---- */

static void test_spec(void **state)
{
	static const struct {
		struct vmem_spec spec;
		const char *why;
	} bad[] = {
		{ { ADDR, 64 * MIB, 1 * MIB, 4096, 2 * MIB, 0 }, "block_size: not a power" },
		{ { ADDR, 64 * MIB, 3 * MIB, 4096, 2 * MIB, 0 }, "block_size: not a power" },
		{ { ADDR, 64 * MIB, 0, 4096, 2 * MIB, 0 }, "block_size: not a power" },
		{ { ADDR, 64 * MIB, 2 * MIB, 3000, 2 * MIB, 0 }, "page size" },
		{ { ADDR, 64 * MIB, 2 * MIB, 0, 2 * MIB, 0 }, "page size" },
		{ { ADDR, 4096 * MIB, 2 * MIB, 1024 * MIB, 2 * MIB, 0 }, "block_size: less" },
		{ { ADDR, 63 * MIB, 2 * MIB, 4096, 2 * MIB, 0 }, "region size: not" },
		{ { ADDR, 64 * MIB, 2 * MIB, 4096, 0, 0 }, "slot_size: not" },
		{ { ADDR, 64 * MIB, 4 * MIB, 4096, 6 * MIB, 0 }, "slot_size: not" },
		{ { ADDR, 96 * MIB, 2 * MIB, 4096, 64 * MIB, 0 }, "region size: not" },
		{ { ADDR, 0, 2 * MIB, 4096, 2 * MIB, 0 }, "region size: not" },
		{ { ADDR, VMEM_REGION_MAX + BLOCK, 2 * MIB, 4096, 2 * MIB, 0 },
		  "region size: more" },
		{ { ADDR + MIB, 64 * MIB, 2 * MIB, 4096, 2 * MIB, 0 }, "region address: not" },
		{ { -(32 * MIB), 64 * MIB, 2 * MIB, 4096, 2 * MIB, 0 }, "region address: beyond" },
		{ { ADDR, 64 * MIB, 2 * MIB, 4096, 2 * MIB, 65536 }, "node" },
	};
	const char *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vmem w;

		assert_int_equal(vmem_init(&w, &bad[i].spec, &why), -EINVAL);
		assert_ptr_equal(strstr(why, bad[i].why), why);
	}
}

static void test_check(void **state)
{
	const char *why;

	(void)state;
	assert_int_equal(vmem_check(&v, 0, &why), 0);
	assert_int_equal(vmem_check(&v, BLOCKS * BLOCK, &why), 0);
	assert_int_equal(vmem_check(&v, BLOCK + 1, &why), -EINVAL);
	assert_non_null(strstr(why, "multiple"));
	assert_int_equal(vmem_check(&v, (BLOCKS + 1) * BLOCK, &why), -EINVAL);
	assert_non_null(strstr(why, "more than"));
	assert_int_equal(vmem_request(&v, BLOCK + 1), -EINVAL);
	assert_int_equal(vmem_request(&v, (BLOCKS + 1) * BLOCK), -EINVAL);
	assert_int_equal(v.requested_bytes, 0);
}

/* ---- requests ---- */

static void test_plug(void **state)
{
	struct vmem_result r;

	(void)state;
	want(16);
	r = ask(MEM_PLUG, ADDR + 4 * BLOCK, 8);
	assert_int_equal(r.answer, mem_answer_value(MEM_ACK, 0));
	assert_true(r.changed && !r.repeated && r.punch.bytes == 0);
	assert_int_equal(v.plugged_bytes, 8 * BLOCK);
	expect(ERROR, PLUG, 4, 8);  /* all plugged */
	expect(ERROR, PLUG, 11, 2); /* one of them */
	expect(ERROR, PLUG, 3, 2);  /* at the other end */
	expect(NACK, PLUG, 12, 9);  /* more than is wanted */
	expect(ACK, PLUG, 12, 8);   /* just as much */
	expect(NACK, PLUG, 40, 1);  /* and no more */
	assert_int_equal(v.plugged_bytes, 16 * BLOCK);
	expect_state(MEM_PLUGGED, 4, 16);
	expect_state(MEM_UNPLUGGED, 20, 4);
	expect_state(MEM_MIXED, 3, 2);
	expect_state(MEM_MIXED, 19, 2);
	assert_int_equal(v.plugged_bytes, 16 * BLOCK);
}

static void test_unplug(void **state)
{
	struct vmem_result r;

	(void)state;
	want(16);
	expect(ACK, PLUG, 0, 16);
	r = ask(MEM_UNPLUG, ADDR + 5 * BLOCK, 3);
	assert_int_equal(r.answer, mem_answer_value(MEM_ACK, 0));
	assert_true(r.changed && r.punch.addr == ADDR + 5 * BLOCK && r.punch.bytes == 3 * BLOCK);
	assert_int_equal(v.plugged_bytes, 13 * BLOCK);
	r = ask(MEM_UNPLUG, ADDR + 5 * BLOCK, 3);
	assert_int_equal(r.answer, mem_answer_value(MEM_ERROR, 0));
	assert_true(!r.changed && r.punch.bytes == 0);
	expect(ERROR, UNPLUG, 4, 2);
	expect(ERROR, UNPLUG, 15, 2);
	expect(ACK, UNPLUG, 15, 1);
	assert_int_equal(v.plugged_bytes, 12 * BLOCK);
}

static void test_unplug_all(void **state)
{
	struct vmem_result r;

	(void)state;
	want(256);
	expect(ACK, PLUG, 0, 16);
	expect(ACK, PLUG, 200, 16);
	want(8);
	assert_int_equal(v.usable_bytes, 384 * BLOCK); /* does not shrink .. */
	r = ask(MEM_UNPLUG_ALL, 12345, 0); /* what else the request says is of no interest */
	assert_int_equal(r.answer, mem_answer_value(MEM_ACK, 0));
	assert_true(r.changed && r.punch.addr == ADDR && r.punch.bytes == v.mapped_bytes);
	assert_int_equal(v.plugged_bytes, 0);
	assert_int_equal(v.usable_bytes, 136 * BLOCK); /* .. but here */
	expect_state(MEM_UNPLUGGED, 0, 136);
	expect(ERROR, STATE, 136, 1);
	assert_false(ask(MEM_UNPLUG_ALL, 0, 0).changed);
}

static const uint8_t ranged[] = { MEM_PLUG, MEM_UNPLUG, MEM_STATE };

/* Wrong in itself, whatever is plugged: the three that name blocks. */
static void test_bad_ranges(void **state)
{
	static const struct {
		uint64_t addr;
		uint16_t blocks;
	} bad[] = {
		{ ADDR, 0 },
		{ ADDR + 1, 1 },
		{ ADDR + BLOCK / 2, 1 },
		{ ADDR - BLOCK, 1 },
		{ 0, 1 },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX - BLOCK + 1, 2 }, /* wraps */
		{ ADDR, 145 },                 /* 16 + 128 blocks are usable */
		{ ADDR + 143 * BLOCK, 2 },
		{ ADDR + 144 * BLOCK, 1 },
		{ ADDR, 65535 },
		{ ADDR + BLOCKS * BLOCK, 1 },
	};

	(void)state;
	want(16);
	assert_int_equal(v.usable_bytes, 144 * BLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(ranged); k++)
			assert_int_equal(ask(ranged[k], bad[i].addr, bad[i].blocks).answer,
					 mem_answer_value(MEM_ERROR, 0));
	}
	assert_int_equal(v.plugged_bytes, 0);
	expect_state(MEM_UNPLUGGED, 143, 1);
}

static void test_other(void **state)
{
	(void)state;
	want(16);
	expect(ERROR, OTHER, 0, 1);
	expect(BUSY, REFUSE, 0, 1);
	assert_int_equal(ask(200, ADDR, 1).answer, mem_answer_value(MEM_ERROR, 0));
	assert_int_equal(v.plugged_bytes, 0);
}

static void test_busy(void **state)
{
	(void)state;
	want(16);
	expect(ACK, PLUG, 0, 4);
	v.busy = true;
	expect(BUSY, PLUG, 4, 1);
	expect(BUSY, UNPLUG, 0, 1);
	expect(BUSY, UNPLUG_ALL, 0, 0);
	expect(ERROR, PLUG, 0, 1); /* wrong is wrong also then */
	expect_state(MEM_PLUGGED, 0, 4);
	v.busy = false;
	assert_int_equal(v.plugged_bytes, 4 * BLOCK);
	expect(ACK, UNPLUG, 0, 4);
}

/* ---- repetition ---- */

static void test_repeated(void **state)
{
	struct vmem_result r;

	(void)state;
	want(16);
	assert_false(ask_at(0, MEM_PLUG, ADDR, 4).repeated);
	for (int i = 0; i < 3; i++) {
		r = ask_at(0, MEM_PLUG, ADDR, 4); /* would be an error */
		assert_int_equal(r.answer, mem_answer_value(MEM_ACK, 0));
		assert_true(r.repeated && !r.changed && r.punch.bytes == 0);
	}
	assert_int_equal(ask_at(1, MEM_PLUG, ADDR, 4).answer, mem_answer_value(MEM_ERROR, 0));
	r = ask_at(1, MEM_UNPLUG, ADDR, 4); /* whatever it says now */
	assert_true(r.repeated && r.answer == mem_answer_value(MEM_ERROR, 0));
	assert_int_equal(v.plugged_bytes, 4 * BLOCK);
	assert_int_equal(ask_at(2, MEM_UNPLUG, ADDR, 4).answer, mem_answer_value(MEM_ACK, 0));
	r = ask_at(2, MEM_REFUSE, 0, 0); /* its servers died of it: but it was done */
	assert_true(r.repeated && r.answer == mem_answer_value(MEM_ACK, 0));
	assert_int_equal(ask_at(3, MEM_STATE, ADDR, 4).answer,
			 mem_answer_value(MEM_ACK, MEM_UNPLUGGED));
	assert_int_equal(ask_at(3, MEM_STATE, ADDR, 4).answer,
			 mem_answer_value(MEM_ACK, MEM_UNPLUGGED));
}

/* The place comes round; the one before last is not known any more. */
static void test_places_come_round(void **state)
{
	(void)state;
	want(16);
	for (int i = 0; i < 600; i++) {
		const struct vmem_result r = ask(i % 2 ? MEM_UNPLUG : MEM_PLUG, ADDR, 4);

		assert_true(!r.repeated && r.changed && r.answer == mem_answer_value(MEM_ACK, 0));
	}
}

/* Rings begin anew: the first request stands where one stood that was answered. */
static void test_forget(void **state)
{
	(void)state;
	want(16);
	assert_int_equal(ask_at(0, MEM_PLUG, ADDR, 4).answer, mem_answer_value(MEM_ACK, 0));
	vmem_forget(&v);
	assert_int_equal(v.plugged_bytes, 4 * BLOCK);
	assert_int_equal(ask_at(0, MEM_PLUG, ADDR, 4).answer, mem_answer_value(MEM_ERROR, 0));
}

static void test_machine_reset(void **state)
{
	struct vmem_range range;

	(void)state;
	want(16);
	expect(ACK, PLUG, 0, 4);
	range = vmem_machine_reset(&v);
	assert_true(range.addr == ADDR && range.bytes == v.mapped_bytes);
	assert_int_equal(v.plugged_bytes, 0);
	assert_int_equal(v.requested_bytes, 16 * BLOCK);
	assert_false(ask_at((uint8_t)(at - 1), MEM_PLUG, ADDR, 4).repeated);
}

/* ---- the operator ---- */

static void test_grow(void **state)
{
	struct vmem_next next;

	(void)state;
	next = vmem_before(&v, 64 * BLOCK);
	assert_true(next.step == VMEM_GROW && next.bytes == 192 * BLOCK);
	assert_int_equal(vmem_request(&v, 64 * BLOCK),
			 -EAGAIN); /* the guest would hear too early */
	assert_true(v.requested_bytes == 0 && v.usable_bytes == 0);
	expect(ERROR, PLUG, 0, 1);
	assert_int_equal(vmem_mapped(&v, next.bytes), 0);
	expect(ERROR, PLUG, 0, 1); /* mapped is not usable */
	assert_int_equal(vmem_before(&v, 64 * BLOCK).step, VMEM_NOTHING);
	assert_int_equal(vmem_request(&v, 64 * BLOCK), 0);
	assert_true(v.requested_bytes == 64 * BLOCK && v.usable_bytes == 192 * BLOCK);
	assert_int_equal(vmem_next(&v, true).step, VMEM_NOTHING); /* the guest may still plug */
	next = vmem_before(&v, BLOCKS * BLOCK);
	assert_true(next.step == VMEM_GROW && next.bytes == BLOCKS * BLOCK); /* there is no more */
	want(BLOCKS);
	assert_int_equal(v.usable_bytes, BLOCKS * BLOCK);
	expect(ACK, PLUG, 0, BLOCKS);
	assert_int_equal(v.plugged_bytes, BLOCKS * BLOCK);
}

static void test_shrink(void **state)
{
	struct vmem_next next;

	(void)state;
	want(64);
	expect(ACK, PLUG, 0, 64);
	assert_int_equal(vmem_next(&v, false).step, VMEM_NOTHING); /* nothing was unplugged */
	assert_int_equal(vmem_before(&v, 16 * BLOCK).step, VMEM_NOTHING);
	want(16);
	assert_int_equal(vmem_next(&v, false).step, VMEM_NOTHING); /* the guest is at it */
	expect(ACK, UNPLUG, 40, 24);
	assert_int_equal(vmem_next(&v, false).step, VMEM_NOTHING);
	next = vmem_next(&v, true); /* it does not get there */
	assert_true(next.step == VMEM_SHRINK && next.bytes == 40 * BLOCK);
	expect(ACK, UNPLUG, 4, 24);
	next = vmem_next(&v, false);
	assert_true(next.step == VMEM_SHRINK && next.bytes == 40 * BLOCK);
	assert_int_equal(vmem_mapped(&v, 39 * BLOCK), -EINVAL); /* plugged */
	assert_int_equal(vmem_mapped(&v, 40 * BLOCK), 0);
	assert_int_equal(vmem_next(&v, true).step, VMEM_NOTHING);
	assert_int_equal(vmem_mapped(&v, 40 * BLOCK + 1), -EINVAL);
	assert_int_equal(vmem_mapped(&v, (BLOCKS + 1) * BLOCK), -EINVAL);
}

/* What is mapped is whole slots. */
static void test_slots(void **state)
{
	struct vmem_next next;

	(void)state;
	v.spec.slot_bytes = 64 * BLOCK;
	next = vmem_before(&v, 10 * BLOCK);
	assert_true(next.step == VMEM_GROW && next.bytes == 192 * BLOCK); /* of 138 */
	assert_int_equal(vmem_mapped(&v, 138 * BLOCK), -EINVAL);
	want(10);
	expect(ACK, PLUG, 60, 10);
	want(0);
	expect(ACK, UNPLUG, 65, 5);
	next = vmem_next(&v, true);
	assert_true(next.step == VMEM_SHRINK && next.bytes == 128 * BLOCK);
	expect(ACK, UNPLUG, 60, 5);
	next = vmem_next(&v, false);
	assert_true(next.step == VMEM_SHRINK && next.bytes == 0);
}

/* What the host does not have is not plugged, whoever asks again. */
static void test_take_back(void **state)
{
	struct vmem_result r;

	(void)state;
	want(64);
	r = ask(MEM_PLUG, ADDR + 3 * BLOCK, 4);
	assert_true(r.changed && r.plugged.addr == ADDR + 3 * BLOCK &&
		    r.plugged.bytes == 4 * BLOCK);
	vmem_take_back(&v, &r);
	assert_int_equal(r.answer, mem_answer_value(MEM_BUSY, 0));
	assert_false(r.changed);
	assert_int_equal(v.plugged_bytes, 0);
	r = ask_at((uint8_t)(at - 1), MEM_PLUG, ADDR + 3 * BLOCK, 4);
	assert_true(r.repeated && r.answer == mem_answer_value(MEM_BUSY, 0));
	expect(ACK, PLUG, 3, 4);
}

/* Less than what is usable is mapped, and the guest plugs elsewhere: it has to wait for an epoch. */
static void test_plug_of_unmapped(void **state)
{
	struct vmem_next next;

	(void)state;
	want(64);
	expect(ACK, PLUG, 0, 64);
	assert_int_equal(vmem_mapped(&v, 64 * BLOCK), 0);
	expect(ACK, UNPLUG, 0, 1);
	expect(BUSY, PLUG, 100, 1);
	expect(ACK, UNPLUG, 63, 1);
	expect(BUSY, PLUG, 63, 2);
	next = vmem_next(&v, false);
	assert_true(next.step == VMEM_GROW && next.bytes == v.usable_bytes);
	assert_int_equal(vmem_mapped(&v, next.bytes), 0);
	expect(ACK, PLUG, 100, 1);
	want(0);
	expect(ACK, UNPLUG_ALL, 0, 0);
	next = vmem_next(&v, false);
	assert_true(next.step == VMEM_SHRINK && next.bytes == 0 && v.usable_bytes == 0);
}

static void test_runs(void **state)
{
	struct vmem_range range;
	uint64_t from = 0;

	(void)state;
	want(300);
	expect(ACK, PLUG, 3, 2);
	expect(ACK, PLUG, 64, 128);
	expect(ACK, PLUG, 200, 1);
	assert_true(vmem_plugged(&v, &from, &range));
	assert_true(range.addr == ADDR + 3 * BLOCK && range.bytes == 2 * BLOCK);
	assert_true(vmem_plugged(&v, &from, &range));
	assert_true(range.addr == ADDR + 64 * BLOCK && range.bytes == 128 * BLOCK);
	assert_true(vmem_plugged(&v, &from, &range));
	assert_true(range.addr == ADDR + 200 * BLOCK && range.bytes == BLOCK);
	assert_false(vmem_plugged(&v, &from, &range));
	from = 192 * BLOCK;
	assert_true(vmem_unplugged(&v, &from, &range));
	assert_true(range.addr == ADDR + 192 * BLOCK && range.bytes == 8 * BLOCK);
	assert_true(vmem_unplugged(&v, &from, &range));
	assert_true(range.addr == ADDR + 201 * BLOCK && range.bytes == (BLOCKS - 201) * BLOCK);
	assert_false(vmem_unplugged(&v, &from, &range));
}

static void test_space(void **state)
{
	struct virtio_mem_space space;

	(void)state;
	want(16);
	expect(ACK, PLUG, 0, 4);
	vmem_space(&v, &space);
	assert_int_equal(space.block_size, BLOCK);
	assert_int_equal(space.node_id, 3);
	assert_int_equal(space.addr, ADDR);
	assert_int_equal(space.region_size, BLOCKS * BLOCK);
	assert_int_equal(space.usable_region_size, 144 * BLOCK);
	assert_int_equal(space.plugged_size, 4 * BLOCK);
	assert_int_equal(space.requested_size, 16 * BLOCK);
}

#define vmem_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		vmem_test(test_spec),
		vmem_test(test_check),
		vmem_test(test_plug),
		vmem_test(test_unplug),
		vmem_test(test_unplug_all),
		vmem_test(test_bad_ranges),
		vmem_test(test_other),
		vmem_test(test_busy),
		vmem_test(test_repeated),
		vmem_test(test_places_come_round),
		vmem_test(test_forget),
		vmem_test(test_machine_reset),
		vmem_test(test_grow),
		vmem_test(test_shrink),
		vmem_test(test_plug_of_unmapped),
		vmem_test(test_slots),
		vmem_test(test_take_back),
		vmem_test(test_runs),
		vmem_test(test_space),

	};

	return cmocka_run_group_tests_name("virtio_mem", tests, NULL, NULL);
}
