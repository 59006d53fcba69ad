/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem's owner, on real memory and a made-up KVM, supervisor and guest: one epoch each way, pages that
 * go back before the guest has its answer, questions of successors, and what is left when a step fails.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <sys/stat.h>

#include "tests/rig/fds.h"
#include "tests/unit/memory_world.h"

#define ADDR (1ull << 36)
#define PAGES (2 * MIB) /* a block */
#define SLOT (128 * MIB)
#define TOTAL (8 * SLOT)

static struct virtio_mem_space seen; /* as the guest sees it, and how often it was told */
static uint32_t told;
static uint8_t next_at; /* the next request's place in the ring */
static uint32_t questions;
static struct option_error error;
static struct memory_change change;

static void on_space(void *ctx, const struct virtio_mem_space *is, bool tell)
{
	(void)ctx;
	seen = *is;
	told += tell;
}

static int setup(void **state)
{
	const struct memmap_config config = { .bytes = BOOT, .node = -1, .phys_bits = 40 };
	const struct memmap_config reserve = { .bytes = TOTAL, .node = -1 };
	const struct reserve_spec spec = { .id = "mem0", .block_bytes = PAGES };
	const struct reserve_guest guest = { on_space, NULL };
	const struct memory_site site = {
		.map = &map, .boot_bytes = BOOT, .max_bytes = BOOT, .slots = 4, .nodes = 1
	};
	const char *what;
	int ret;

	(void)state;
	log_set_level(LOG_LEVEL_OFF);
	assert_int_equal(memmap_create(&map, &config, &what), 0);
	assert_int_equal(memmap_add_reserve(&map, &reserve, ADDR, SLOT, &what), 0);
	map_of_kvm = map_of_boxes = 1;
	memset(&fault, 0, sizeof(fault));
	memset(&answered, 0, sizeof(answered));
	said[0] = '\0';
	next_at = 0;
	told = 0;
	questions = 0;
	ret = memory_create(&memory, &site);
	if (ret == 0)
		ret = reserve_add(memory, &spec, &what);
	if (ret == 0)
		reserve_attach(memory, 0, &guest);
	return ret;
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(memory);
	memmap_destroy(&map);
	return 0;
}

static int want(uint64_t bytes)
{
	error.text[0] = '\0';
	return reserve_request(memory, 0, bytes, &change, &error);
}

static void put(uint8_t place, uint8_t type, uint64_t block, uint16_t blocks)
{
	const struct device_question question = { .number = ++questions,
						  .value = mem_ask_value(type, place, blocks),
						  .detail = ADDR + block * PAGES };

	reserve_asked(memory, 0, NULL, &question);
}

/* To the last question. */
static uint32_t await_answer(void)
{
	for (int ms = 0; ms < 5000 && answered.number < questions; ms++)
		usleep(1000);
	assert_int_equal(answered.number, questions);
	return answered.value;
}

static uint32_t ask_mem(uint8_t type, uint64_t block, uint16_t blocks)
{
	put(next_at++, type, block, blocks);
	return await_answer();
}

static struct reserve_status status_now(void)
{
	struct reserve_status status;

	assert_int_equal(reserve_statuses(memory, &status), 1);
	return status;
}

static void touch(uint64_t block, uint64_t blocks)
{
	uint8_t *memory_at = (uint8_t *)(uintptr_t)map.reserves[0].addr;

	for (uint64_t i = block; i < block + blocks; i++)
		memory_at[i * PAGES] = 1;
}

static uint64_t pages_of_host(void)
{
	struct stat st;

	assert_int_equal(fstat(map.reserves[0].fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / 4096;
}

static void await_mapped(uint64_t bytes)
{
	for (int ms = 0; ms < 5000 && status_now().mapped_bytes != bytes; ms++)
		usleep(1000);
	assert_int_equal(status_now().mapped_bytes, bytes);
}

/* ---- one epoch each way ---- */

static void test_grows_and_shrinks(void **state)
{
	(void)state;
	assert_int_equal(want(4 * SLOT), 0);
	assert_said("slot prepare moved ");
	assert_int_equal(change.epoch, 2);
	assert_int_equal(map.epoch.map.count, 2);
	assert_int_equal(map.epoch.map.regions[1].gpa, ADDR);
	assert_int_equal(map.epoch.map.regions[1].bytes, 6 * SLOT); /* and 256 MiB */
	assert_true(told == 1 && seen.requested_size == 4 * SLOT &&
		    seen.usable_region_size == 6 * SLOT);
	for (uint16_t i = 0; i < 4; i++)
		assert_int_equal(ask_mem(MEM_PLUG, i * 64u, 64), MEM_ACK);
	assert_int_equal(seen.plugged_size, 4 * SLOT);
	assert_int_equal(told, 1); /* of plugged_size there is no interrupt */
	assert_said("");
	touch(0, 256);
	assert_int_equal(want(0), 0);
	assert_said(""); /* what it has it keeps, until it gives it */
	for (uint16_t i = 3; i < 4; i--)
		assert_int_equal(ask_mem(MEM_UNPLUG, i * 64u, 64), MEM_ACK);
	assert_said("prepare moved slot gone ");
	await_mapped(0);
	assert_int_equal(status_now().plugged_bytes, 0);
	assert_int_equal(status_now().shrunk_epoch, 3);
	assert_true(status_now().proof.blocks == 0 && status_now().proof.maps == 0);
	assert_int_equal(map.epoch.map.count, 1);
}

/* Between the two: it keeps what the guest has, in whole slots. */
static void test_keeps_what_is_plugged(void **state)
{
	(void)state;
	assert_int_equal(want(4 * SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 256), MEM_ACK);
	assert_int_equal(want(SLOT), 0);
	assert_int_equal(ask_mem(MEM_UNPLUG, 10, 192), MEM_ACK);
	await_mapped(4 * SLOT);
	assert_int_equal(status_now().plugged_bytes, SLOT);
	assert_int_equal(ask_mem(MEM_PLUG, 256, 1), MEM_NACK); /* usable, not requested */
}

/* A guest that gives back more than was asked gets it again when it wants to. */
static void test_follows_the_guest(void **state)
{
	(void)state;
	assert_int_equal(want(2 * SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 128), MEM_ACK);
	assert_int_equal(want(SLOT), 0);
	assert_int_equal(ask_mem(MEM_UNPLUG, 64, 64), MEM_ACK);
	await_mapped(SLOT);
	assert_int_equal(ask_mem(MEM_UNPLUG, 0, 1), MEM_ACK);
	await_mapped(4 * SLOT); /* all that is usable */
	assert_int_equal(ask_mem(MEM_PLUG, 200, 1), MEM_ACK);
}

/* ---- pages ---- */

static void test_pages_go_first(void **state)
{
	(void)state;
	assert_int_equal(want(2 * SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 64), MEM_ACK);
	touch(0, 64);
	assert_int_equal(pages_of_host(), 64);
	assert_int_equal(ask_mem(MEM_UNPLUG, 16, 32), MEM_ACK);
	assert_int_equal(pages_of_host(), 32);
	assert_int_equal(ask_mem(MEM_UNPLUG_ALL, 0, 0), MEM_ACK);
	assert_int_equal(pages_of_host(), 0);
	assert_true(told == 1 && seen.usable_region_size == 4 * SLOT);
}

/* Huge pages are taken from the host before the guest has its answer; what cannot be had is not plugged. */
static void test_pages_come_first(void **state)
{
	const int fd = map.reserves[0].fd;

	(void)state;
	memory->reserves[0].spec.pages = MEM_PAGES_2M; /* what is behind it is small ones */
	memory->reserves[0].vmem.requested_bytes = 2 * SLOT;
	memory->reserves[0].vmem.usable_bytes = 2 * SLOT;
	memory->reserves[0].vmem.mapped_bytes = 2 * SLOT;
	assert_int_equal(ask_mem(MEM_PLUG, 0, 4), MEM_ACK);
	assert_int_equal(pages_of_host(), 4 * PAGES / 4096);
	map.reserves[0].fd = -1;
	assert_int_equal(ask_mem(MEM_PLUG, 4, 4), MEM_BUSY);
	assert_int_equal(status_now().plugged_bytes, 4 * PAGES);
	assert_int_equal(seen.plugged_size, 4 * PAGES);
	map.reserves[0].fd = fd;
	assert_int_equal(ask_mem(MEM_PLUG, 4, 4), MEM_ACK);
	assert_int_equal(pages_of_host(), 8 * PAGES / 4096);
}

/* A box dies while the pages of its request are on their way: its successor's question gets the same answer, in
 * whatever order the three meet. */
static void test_successors(void **state)
{
	(void)state;
	assert_int_equal(want(2 * SLOT), 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(ask_mem(MEM_PLUG, 0, 128), MEM_ACK);
		touch(0, 128);
		for (int boxes = 0; boxes < 1 + i % 3; boxes++)
			put(next_at, MEM_UNPLUG, 0, 128);
		next_at++;
		assert_int_equal(await_answer(), MEM_ACK);
		assert_int_equal(status_now().plugged_bytes, 0);
		assert_int_equal(pages_of_host(), 0);
	}
}

static void test_machine_reset(void **state)
{
	(void)state;
	assert_int_equal(want(2 * SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 128), MEM_ACK);
	touch(0, 128);
	reserve_forget(memory, 0);
	assert_int_equal(status_now().plugged_bytes, 2 * SLOT); /* that was the driver's reset */
	reserve_machine_reset(memory, 0);
	assert_int_equal(status_now().plugged_bytes, 0);
	assert_int_equal(status_now().requested_bytes, 2 * SLOT);
	assert_int_equal(pages_of_host(), 0);
	assert_int_equal(seen.plugged_size, 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 128), MEM_ACK);
}

/* ---- faults ---- */

/* Step x fault, as for DIMMs: undone, and the guest has heard nothing. */
static void test_undone(void **state)
{
	static const struct {
		enum step step;
		int fault, ret;
		const char *said, *text;
	} cases[] = {
		{ STEP_SLOT, -EINVAL, -EINVAL, "slot slot ", "mem0: KVM does not take it" },
		{ STEP_PREPARE, -EIO, -EIO, "slot prepare abandon gone slot ", "disk0" },
		{ STEP_PREPARE, -ETIMEDOUT, -EIO, "slot prepare abandon gone slot ", "disk0" },
	};
	const uint32_t before = fds_open(0);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fault.step = cases[i].step;
		fault.ret = cases[i].fault;
		fault.times = 1;
		assert_int_equal(want(SLOT), cases[i].ret);
		assert_non_null(strstr(error.text, cases[i].text));
		assert_said(cases[i].said);
		assert_int_equal(map.epoch.map.epoch, 1);
		assert_int_equal(map_of_kvm, 1);
		assert_int_equal(map_of_boxes, 1);
		assert_true(status_now().requested_bytes == 0 && status_now().mapped_bytes == 0 &&
			    told == 0);
		assert_int_equal(fds_open(0), before);
	}
	assert_int_equal(want(SLOT), 0);
}

/* What can only last, lasts: shrinking goes on until it is done. */
static void test_goes_on(void **state)
{
	(void)state;
	assert_int_equal(want(SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 64), MEM_ACK);
	assert_said("slot prepare moved ");
	fault.step = STEP_PREPARE;
	fault.ret = -EIO;
	fault.times = 2;
	assert_int_equal(want(0), 0);
	assert_int_equal(ask_mem(MEM_UNPLUG, 0, 64), MEM_ACK);
	assert_said("prepare prepare prepare moved slot gone ");
	await_mapped(0);
	fault.step = STEP_GONE;
	fault.ret = -ETIMEDOUT;
	fault.times = 3;
	assert_int_equal(want(SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 64), MEM_ACK);
	assert_said("slot prepare moved ");
	assert_int_equal(want(0), 0);
	assert_int_equal(ask_mem(MEM_UNPLUG, 0, 64), MEM_ACK);
	assert_said("prepare moved slot gone gone gone gone ");
}

static void test_bad_input(void **state)
{
	(void)state;
	assert_int_equal(want(PAGES + 1), -EINVAL);
	assert_string_equal(error.text,
			    "requested_size_mib: must be a multiple of 2 (block_size_mib)");
	assert_int_equal(want(TOTAL + PAGES), -EINVAL);
	assert_string_equal(error.text, "requested_size_mib: no more than 1024 (total_size_mib)");
	assert_said("");
	assert_true(status_now().requested_bytes == 0 && told == 0);
}

/* A guest that plugs and unplugs for ever causes an epoch a second, after the first few. */
static void test_ration(void **state)
{
	(void)state;
	assert_int_equal(want(SLOT), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(ask_mem(MEM_PLUG, 0, 64), MEM_ACK);
		assert_int_equal(ask_mem(MEM_UNPLUG, 0, 1), MEM_ACK);
		assert_int_equal(ask_mem(MEM_PLUG, 0, 1), MEM_ACK);
		usleep(1000);
		assert_int_equal(ask_mem(MEM_UNPLUG, 0, 64), MEM_ACK);
	}
	assert_in_range(map.epoch.map.epoch, 2, 2 + 5 + 50 * 4 / 1000 + 8);
}

/* It ends in the midst of it: who waits is told, and nobody is left. */
static void *ender(void *arg)
{
	(void)arg;
	usleep(20000);
	memory_end(memory);
	return NULL;
}

static void test_ends(void **state)
{
	pthread_t thread;

	(void)state;
	fault.step = STEP_MOVED;
	fault.ret = -ETIMEDOUT;
	fault.times = UINT32_MAX;
	assert_int_equal(pthread_create(&thread, NULL, ender, NULL), 0);
	assert_int_equal(want(SLOT), -ECANCELED);
	pthread_join(thread, NULL);
}

static void *want_slot(void *arg)
{
	struct option_error why;
	struct memory_change made;

	*(int *)arg = reserve_request(memory, 0, SLOT, &made, &why);
	return NULL;
}

/* Who asks when it ends is told so, though what another had asked for is under way still. */
static void test_ends_with_two(void **state)
{
	pthread_t thread;
	int first = 0;

	(void)state;
	gate_shut(&prepare_gate);
	assert_int_equal(pthread_create(&thread, NULL, want_slot, &first), 0);
	gate_await(&prepare_gate);
	memory_end(memory);
	pthread_join(thread, NULL);
	assert_int_equal(first, -ECANCELED);
	assert_int_equal(want(3 * SLOT), -ECANCELED);
	assert_string_equal(error.text, "the VM is ending");
	gate_open(&prepare_gate);
}

static sem_t reset_over;

static void *resets(void *arg)
{
	(void)arg;
	reserve_machine_reset(memory, 0);
	sem_post(&reset_over);
	return NULL;
}

/* As the supervisor does it: the device is reset first, then the machine, which waits for what is owed. */
static void reset_meanwhile(void)
{
	pthread_t thread;

	reserve_forget(memory, 0);
	assert_int_equal(pthread_create(&thread, NULL, resets, NULL), 0);
	pthread_detach(thread);
	usleep(50000); /* it waits by then */
}

/* A machine reset between an answer and the repeated question that is owed the same does not wait for ever. */
static void test_reset_while_owed(void **state)
{
	struct timespec at;

	(void)state;
	sem_init(&reset_over, 0, 0);
	assert_int_equal(want(SLOT), 0);
	assert_int_equal(ask_mem(MEM_PLUG, 0, 4), MEM_ACK);
	gate_shut(&pages_gate);
	put(next_at, MEM_UNPLUG, 0, 4);
	gate_await(&pages_gate);
	put(next_at++, MEM_UNPLUG, 0, 4); /* a successor's */
	on_answer = reset_meanwhile;
	gate_open(&pages_gate);
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += 20;
	assert_int_equal(sem_timedwait(&reset_over, &at), 0);
}

#define RESERVE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RESERVE_TEST(test_grows_and_shrinks),
		RESERVE_TEST(test_keeps_what_is_plugged),
		RESERVE_TEST(test_follows_the_guest),
		RESERVE_TEST(test_pages_go_first),
		RESERVE_TEST(test_pages_come_first),
		RESERVE_TEST(test_successors),
		RESERVE_TEST(test_machine_reset),
		RESERVE_TEST(test_undone),
		RESERVE_TEST(test_goes_on),
		RESERVE_TEST(test_bad_input),
		RESERVE_TEST(test_ration),
		RESERVE_TEST(test_ends),
		RESERVE_TEST(test_ends_with_two),
		RESERVE_TEST(test_reset_while_owed),
	};

	return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
