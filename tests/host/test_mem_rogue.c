/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-mem program that does not keep to the rules (tests/rig/rogue_mem).  Who asks out of turn is
 * replaced; who lies harms its own guest, which is told what is not so, and nobody else.
 */
#include <unistd.h>

#include "tests/host/scene.h"
#include "tests/rig/memrig.h"
#include "tests/rig/rogue_mem/rogue_mem.h"

#define WANTED 64u /* blocks */

static struct boxrig rig;
static struct memrig mem;

static int setup(void **state)
{
	const struct device_spec like = { .death_budget = 0 };
	const int ret = memrig_create(&rig, &mem, WANTED, &like);

	(void)state;
	mem.plain = true;
	return ret;
}

static int teardown(void **state)
{
	(void)state;
	memrig_destroy(&mem);
	return 0;
}

static struct mem_resp ask(enum rogue_mem how, uint16_t type, uint64_t block, uint16_t blocks)
{
	struct mem_resp resp;

	mem.pad = (uint16_t)how;
	assert_int_equal(memrig_do(&mem, type, block, blocks, &resp), 0);
	return resp;
}

static void check_state(enum mem_state state, uint64_t block, uint16_t blocks)
{
	const struct mem_resp resp = ask(ROGUE_MEM_HONEST, MEM_STATE, block, blocks);

	assert_int_equal(resp.type, MEM_ACK);
	assert_int_equal(resp.state, state);
}

static uint64_t deaths_now(enum replace_reason reason)
{
	struct device_status status;

	device_status(mem.dev, &status);
	return status.deaths_by_reason[reason];
}

/* What is done with the request that it misbehaves about: once, or not at all. */
static void try_crime(enum rogue_mem how, const char *name)
{
	const uint64_t seen = deaths_now(REPLACE_PROTOCOL);
	const uint64_t limit = now_ns() + SCENE_WAIT_MS * NS_PER_MS;

	mem.hold = true; /* no answer comes before it is found out */
	mem.pad = (uint16_t)how;
	assert_int_equal(memrig_add(&mem, MEM_PLUG, 0, 4, 5), 0);
	ringdrv_publish(&mem.ring);
	(void)ringdrv_kick(&mem.ring);
	while (deaths_now(REPLACE_PROTOCOL) == seen) {
		if (now_ns() > limit)
			fail_msg("%s: nothing came of it", name);
		usleep(1000);
	}
	assert_int_equal(deaths_now(REPLACE_CRASH), 0);
	/* The request stays in the ring, and every generation does the same: the driver gives up on it. */
	mem.hold = false;
	assert_int_equal(memrig_restart(&mem), 0);
	assert_true(mem.v.plugged_bytes == 0 || mem.v.plugged_bytes == 4 * MEMRIG_BLOCK);
	assert_int_equal(ask(ROGUE_MEM_HONEST, MEM_UNPLUG_ALL, 0, 0).type, MEM_ACK);
	check_state(MEM_UNPLUGGED, 0, WANTED);
}

static void test_crimes(void **state)
{
	static const struct {
		enum rogue_mem how;
		const char *name;
	} crimes[] = {
		{ ROGUE_MEM_TWICE, "twice" },     { ROGUE_MEM_FLOOD, "flood" },
		{ ROGUE_MEM_UNKNOWN, "unknown" }, { ROGUE_MEM_PARKED, "parked" },
		{ ROGUE_MEM_SYNC, "sync" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(crimes); i++)
		try_crime(crimes[i].how, crimes[i].name);
}

/* It says that a request is the last one again: the guest gets that one's answer, and nothing is done. */
static void test_stands_elsewhere(void **state)
{
	(void)state;
	assert_int_equal(ask(ROGUE_MEM_HONEST, MEM_PLUG, 0, 4).type, MEM_ACK);
	assert_int_equal(ask(ROGUE_MEM_AGAIN, MEM_PLUG, 4, 4).type, MEM_ACK);
	assert_int_equal(mem.v.plugged_bytes, 4 * MEMRIG_BLOCK);
	assert_int_equal(mem.repeated, 1);
	check_state(MEM_UNPLUGGED, 4, 4);
	assert_int_equal(watch_count(&mem.watch, WATCH_REPLACED), 0);
}

/* It asks for more than its guest does, or for nothing: never for more than the operator wants. */
static void test_lies(void **state)
{
	(void)state;
	assert_int_equal(ask(ROGUE_MEM_SILENT, MEM_PLUG, 0, 4).type, MEM_ACK);
	check_state(MEM_UNPLUGGED, 0, 4);
	assert_int_equal(ask(ROGUE_MEM_ELSEWHERE, MEM_PLUG, 0, 4).type, MEM_ACK);
	check_state(MEM_PLUGGED, 0, 8);
	assert_int_equal(ask(ROGUE_MEM_ELSEWHERE, MEM_PLUG, 8, WANTED).type, MEM_ACK);
	check_state(MEM_UNPLUGGED, 8, WANTED);
	assert_int_equal(mem.v.plugged_bytes, 8 * MEMRIG_BLOCK);
	assert_int_equal(watch_count(&mem.watch, WATCH_REPLACED), 0);
}

#define mem_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		mem_test(test_crimes),
		mem_test(test_stands_elsewhere),
		mem_test(test_lies),
	};
	const struct scene_group group = { .name = "mem_rogue", .bytes = 64u << 20 };

	if (boxrig_use("rogue/mem") != 0)
		return 1;
	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
