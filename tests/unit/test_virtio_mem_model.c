/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug/virtio_mem.c against a model that knows no shortcut: an array of blocks, and random requests. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <string.h>

#include "hotplug/virtio_mem.h"

#define BLOCK (2ull << 20)
#define ADDR (4ull << 30)
#define BLOCKS 512u
#define SLOT 4u /* blocks */

static struct vmem v;

static struct {
	bool plugged[BLOCKS];
	uint32_t usable, requested, mapped, count;
	uint64_t random;
	struct mem_ask last;
	bool unplugged, answered;
	uint32_t answer;
} m;

static uint32_t draw(uint32_t below)
{
	m.random ^= m.random << 13;
	m.random ^= m.random >> 7;
	m.random ^= m.random << 17;
	return (uint32_t)(m.random >> 33) % below;
}

static uint32_t model_usable(uint32_t requested)
{
	const uint32_t usable = requested == 0 ? 0 : requested + 128;

	return usable < BLOCKS ? usable : BLOCKS;
}

static uint32_t model_slots(uint32_t blocks)
{
	return (blocks + SLOT - 1) / SLOT * SLOT;
}

static uint32_t model_end(void)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i < BLOCKS; i++)
		end = m.plugged[i] ? i + 1 : end;
	return end;
}

static uint32_t model_count(uint64_t first, uint32_t blocks)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < blocks; i++)
		n += m.plugged[first + i];
	return n;
}

static void model_set(uint64_t first, uint32_t blocks, bool plugged)
{
	for (uint32_t i = 0; i < blocks; i++)
		m.plugged[first + i] = plugged;
	m.count += plugged ? blocks : -blocks;
	m.unplugged |= !plugged;
}

static uint32_t model_blocks(const struct mem_ask *a)
{
	const uint64_t first = (a->addr - ADDR) / BLOCK;

	if (a->addr < ADDR || (a->addr - ADDR) % BLOCK != 0 || a->blocks == 0 ||
	    first + a->blocks > m.usable)
		return MEM_ERROR;
	const uint32_t n = model_count(first, a->blocks);

	if (a->request == MEM_STATE)
		return mem_answer_value(MEM_ACK, n == 0           ? MEM_UNPLUGGED
						 : n == a->blocks ? MEM_PLUGGED
								  : MEM_MIXED);
	if (n != (a->request == MEM_PLUG ? 0 : a->blocks))
		return MEM_ERROR;
	if (a->request == MEM_PLUG && m.count + a->blocks > m.requested)
		return MEM_NACK;
	if (v.busy || (a->request == MEM_PLUG && first + a->blocks > m.mapped))
		return MEM_BUSY;
	model_set(first, a->blocks, a->request == MEM_PLUG);
	return MEM_ACK;
}

static uint32_t model_judge(const struct mem_ask *a)
{
	if (a->request == MEM_REFUSE)
		return MEM_BUSY;
	if (a->request == MEM_OTHER)
		return MEM_ERROR;
	if (a->request != MEM_UNPLUG_ALL)
		return model_blocks(a);
	if (v.busy)
		return MEM_BUSY;
	memset(m.plugged, 0, sizeof(m.plugged));
	m.unplugged |= m.count != 0;
	m.count = 0;
	m.usable = model_usable(m.requested);
	return MEM_ACK;
}

static void model_ask(void)
{
	const uint32_t wild = draw(40);
	struct mem_ask a = m.last;
	struct vmem_result r;

	if (draw(8) != 0) { /* else: that one again */
		a.at++;
		a.request = wild < 2    ? (uint8_t)draw(MEM_REQUEST_END)
			    : wild < 20 ? MEM_PLUG
			    : wild < 36 ? MEM_UNPLUG
					: MEM_STATE;
		a.addr = ADDR + draw(BLOCKS) * BLOCK + (draw(50) == 0 ? 4096 : 0);
		a.blocks =
			(uint16_t)(draw(40) == 0 ? draw(65536) : 1 + draw(wild % 4 == 0 ? 90 : 4));
		m.answered = false;
	}
	vmem_ask(&v, &a, &r);
	assert_int_equal(r.repeated, m.answered);
	if (!m.answered)
		m.answer = model_judge(&a);
	assert_int_equal(r.answer, m.answer);
	if (r.plugged.bytes != 0 && draw(8) == 0) {
		model_set((r.plugged.addr - ADDR) / BLOCK, (uint32_t)(r.plugged.bytes / BLOCK),
			  false);
		m.answer = MEM_BUSY;
		vmem_take_back(&v, &r);
		assert_int_equal(r.answer, MEM_BUSY);
	}
	m.answered = true;
	m.last = a;
	for (uint64_t i = 0; i < r.punch.bytes / BLOCK; i++)
		assert_false(m.plugged[(r.punch.addr - ADDR) / BLOCK + i]);
}

static void model_request(void)
{
	const uint32_t blocks = draw(6) == 0 ? 0 : draw(BLOCKS + 1);
	const uint32_t usable = model_usable(blocks) > m.usable ? model_usable(blocks) : m.usable;
	const bool grow = blocks > m.count && usable > m.mapped;
	const struct vmem_next next = vmem_before(&v, blocks * BLOCK);

	assert_int_equal(next.step, grow ? VMEM_GROW : VMEM_NOTHING);
	assert_int_equal(vmem_request(&v, blocks * BLOCK), grow ? -EAGAIN : 0);
	if (grow) {
		assert_int_equal(next.bytes, model_slots(usable) * BLOCK);
		assert_int_equal(vmem_mapped(&v, next.bytes), 0);
		m.mapped = model_slots(usable);
		m.unplugged = false;
		assert_int_equal(vmem_request(&v, blocks * BLOCK), 0);
	}
	m.usable = usable;
	m.requested = blocks;
}

static void model_next(void)
{
	const bool idle = draw(2) == 0;
	const struct vmem_next next = vmem_next(&v, idle);
	const bool grow = m.count < m.requested && m.mapped < m.usable;
	const uint32_t end = model_slots(model_end());
	const bool shrink = m.unplugged && end < m.mapped &&
			    (m.count == m.requested || (idle && m.count > m.requested));

	assert_int_equal(next.step, grow ? VMEM_GROW : shrink ? VMEM_SHRINK : VMEM_NOTHING);
	if (next.step == VMEM_NOTHING)
		return;
	assert_int_equal(next.bytes, (grow ? model_slots(m.usable) : end) * BLOCK);
	assert_int_equal(vmem_mapped(&v, next.bytes), 0);
	m.unplugged = false;
	m.mapped = (uint32_t)(next.bytes / BLOCK);
}

static void model_compare(void)
{
	struct vmem_range range;
	uint64_t from = 0;
	uint32_t n = 0;

	assert_int_equal(v.plugged_bytes, m.count * BLOCK);
	assert_int_equal(v.usable_bytes, m.usable * BLOCK);
	assert_int_equal(v.requested_bytes, m.requested * BLOCK);
	assert_true(model_end() <= m.mapped && model_end() <= m.usable && m.requested <= m.usable);
	while (vmem_plugged(&v, &from, &range)) {
		const uint32_t blocks = (uint32_t)(range.bytes / BLOCK);

		assert_int_equal(model_count((range.addr - ADDR) / BLOCK, blocks), blocks);
		n += blocks;
	}
	assert_int_equal(n, m.count);
}

static void test_model(void **state)
{
	const struct vmem_spec spec = { .addr = ADDR,
					.region_bytes = BLOCKS * BLOCK,
					.block_bytes = BLOCK,
					.page_bytes = 4096,
					.slot_bytes = SLOT * BLOCK };
	const char *why;

	(void)state;
	assert_int_equal(vmem_init(&v, &spec, &why), 0);
	memset(&m, 0, sizeof(m));
	m.random = 88172645463325252ull;
	for (int i = 0; i < 200000; i++) {
		const uint32_t what = draw(100);

		if (what < 2)
			model_request();
		else if (what < 6)
			model_next();
		else if (what == 6)
			v.busy = !v.busy && draw(4) == 0;
		else if (what == 7 && draw(4) == 0)
			vmem_forget(&v), m.answered = false;
		else
			model_ask();
		if (i % 16 == 0)
			model_compare();
	}
	vmem_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests_name("virtio_mem_model", tests, NULL, NULL);
}
