/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the memory map, on real memory and a made-up KVM and supervisor that fail where they are told
 * to: what an addition does in which order, what is left when a step fails (step x fault), and that a
 * removal goes on until it is done.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "tests/rig/fds.h"
#include "tests/unit/memory_world.h"

static uint32_t ejects_at_once; /* the guest consents; 1: refuses; 2: is silent */

static int guest_insert(void *ctx, uint32_t slot, uint64_t gpa, uint64_t bytes, uint32_t proximity)
{
	(void)ctx, (void)slot, (void)gpa, (void)bytes, (void)proximity;
	return note(STEP_INSERT);
}

static int guest_asked(void *ctx, uint32_t slot)
{
	const int ret = note(STEP_ASK);

	(void)ctx;
	if (ejects_at_once == 0)
		memory_ejected(memory, slot);
	else if (ejects_at_once == 1)
		memory_ost(memory, slot, SCI_EVENT_EJECT, 0x82);
	return ret;
}

/* ---- around it ---- */

static int setup(void **state)
{
	const struct memmap_config config = { .bytes = BOOT, .node = -1, .phys_bits = 40 };
	const struct memory_site site = { .map = &map,
					  .guest = { guest_insert, guest_asked, NULL },
					  .boot_bytes = BOOT,
					  .max_bytes = BOOT + 8 * BLOCK,
					  .window = { WINDOW, WINDOW + 16 * BLOCK, BLOCK },
					  .slots = 4,
					  .nodes = 1 };
	const char *what;

	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(memmap_create(&map, &config, &what), 0);
	map_of_kvm = map_of_boxes = 1;
	memset(&fault, 0, sizeof(fault));
	ejects_at_once = 0;
	said[0] = '\0';
	return memory_create(&memory, &site);
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(memory);
	memmap_destroy(&map);
	return 0;
}

static struct dimm_spec spec(const char *id, uint64_t bytes)
{
	struct dimm_spec s = { .bytes = bytes, .node = -1 };

	snprintf(s.id, sizeof(s.id), "%s", id);
	return s;
}

static struct option_error error;
static struct memory_change change;

static int add(const char *id, uint64_t bytes)
{
	const struct dimm_spec s = spec(id, bytes);

	error.text[0] = '\0';
	return memory_add_dimm(memory, &s, &change, &error);
}

static int take_away(const char *id)
{
	error.text[0] = '\0';
	return memory_remove_dimm(memory, id, 50, &change, &error);
}

/* ---- the order ---- */

static void test_order(void **state)
{
	struct dimm_status status[MEMORY_DIMMS_MAX];
	const uint32_t before = fds_open(0);

	(void)state;
	assert_int_equal(add("d0", BLOCK), 0);
	assert_said("slot prepare moved insert ");
	assert_int_equal(change.epoch, 2);
	assert_int_equal(map_of_kvm, 2);
	assert_int_equal(map_of_boxes, 2);
	assert_int_equal(memory_dimms(memory, status), 1);
	assert_int_equal(status[0].state, DIMM_STATE_PRESENT);
	assert_int_equal(status[0].gpa, WINDOW);
	assert_int_equal(status[0].since_epoch, 2);
	assert_int_equal(fds_open(0), before + 1);
	assert_int_equal(take_away("d0"), 0);
	assert_said("ask prepare moved slot gone ");
	assert_int_equal(change.epoch, 3);
	assert_true(revoke_holds(&change.proof));
	assert_int_equal(map_of_kvm, 3);
	assert_int_equal(memory_dimms(memory, status), 0);
	assert_int_equal(map.epoch.map.count, 1);
	assert_int_equal(fds_open(0), before);
}

/* What fails of an addition, and what is done about it. */
static void test_undone(void **state)
{
	static const struct {
		enum step step;
		int fault, ret;
		const char *said, *text;
	} cases[] = {
		{ STEP_SLOT, -EINVAL, -EINVAL, "slot slot ", "d0: KVM does not take it" },
		{ STEP_SLOT, -ENOMEM, -ENOMEM, "slot slot ", "d0: KVM does not take it" },
		{ STEP_PREPARE, -EIO, -EIO, "slot prepare abandon gone slot ", "disk0" },
		{ STEP_PREPARE, -ETIMEDOUT, -EIO, "slot prepare abandon gone slot ", "disk0" },
	};
	const uint32_t before = fds_open(0);
	struct dimm_status status[MEMORY_DIMMS_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fault.step = cases[i].step;
		fault.ret = cases[i].fault;
		fault.times = 1;
		assert_int_equal(add("d0", BLOCK), cases[i].ret);
		assert_non_null(strstr(error.text, cases[i].text));
		assert_said(cases[i].said);
		assert_int_equal(map.epoch.map.epoch, 1);
		assert_int_equal(map.epoch.map.count, 1);
		assert_int_equal(map_of_kvm, 1);
		assert_int_equal(map_of_boxes, 1);
		assert_int_equal(memory_dimms(memory, status), 0);
		assert_int_equal(fds_open(0), before);
	}
	assert_int_equal(add("d0", BLOCK), 0); /* as if nothing had been */
	assert_said("slot prepare moved insert ");
}

/* What lasts is waited for, and what of a removal fails is tried again. */
static void test_goes_on(void **state)
{
	(void)state;
	fault.step = STEP_MOVED;
	fault.ret = -ETIMEDOUT;
	fault.times = 3;
	assert_int_equal(add("d0", BLOCK), 0);
	assert_said("slot prepare moved moved moved moved insert ");
	fault.step = STEP_PREPARE;
	fault.ret = -EIO;
	fault.times = 2;
	assert_int_equal(take_away("d0"), 0);
	assert_said("ask prepare prepare prepare moved slot gone ");
	assert_true(revoke_holds(&change.proof));
	assert_int_equal(add("d0", BLOCK), 0);
	said[0] = '\0';
	fault.step = STEP_GONE;
	fault.ret = -ETIMEDOUT;
	fault.times = 2;
	assert_int_equal(take_away("d0"), 0);
	assert_non_null(strstr(said, "prepare moved slot gone gone gone "));
}

/* The VM ends in the midst of a change that lasts: nobody waits for ever, nothing is left. */
static void *end_soon(void *arg)
{
	usleep(20000);
	pthread_mutex_lock(&memory->lock);
	memory->ending = true;
	pthread_cond_broadcast(&memory->changed);
	pthread_mutex_unlock(&memory->lock);
	return arg;
}

static void test_ends(void **state)
{
	pthread_t thread;

	(void)state;
	fault.step = STEP_MOVED;
	fault.ret = -ETIMEDOUT;
	fault.times = UINT32_MAX;
	assert_int_equal(pthread_create(&thread, NULL, end_soon, NULL), 0);
	assert_int_equal(add("d0", BLOCK), -ECANCELED);
	pthread_join(thread, NULL);
}

/* ---- what is asked for ---- */

static void test_refused(void **state)
{
	static const struct {
		const char *id;
		uint64_t bytes;
		int ret;
		const char *text;
	} cases[] = {
		{ "x", 0, -EINVAL, "size_mib: must be a multiple of 128" },
		{ "x", BLOCK + MIB, -EINVAL, "size_mib: must be a multiple of 128" },
		{ "x", 9 * BLOCK, -EINVAL, "size_mib: no more than 1024 MiB can be added" },
		{ "d0", BLOCK, -EEXIST, "id: d0 is there already" },
	};
	struct dimm_spec wrong = spec("x", BLOCK);
	struct dimm_status status[MEMORY_DIMMS_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (i == 3)
			assert_int_equal(add("d0", BLOCK), 0);
		const uint32_t before = fds_open(0);

		assert_int_equal(add(cases[i].id, cases[i].bytes), cases[i].ret);
		assert_non_null(strstr(error.text, cases[i].text));
		assert_int_equal(fds_open(0), before);
	}
	wrong.proximity = 1;
	assert_int_equal(memory_add_dimm(memory, &wrong, &change, &error), -EINVAL);
	assert_non_null(strstr(error.text, "proximity: the guest has 1 NUMA nodes"));
	wrong.proximity = 0;
	wrong.node = 1000;
	assert_int_equal(memory_add_dimm(memory, &wrong, &change, &error), -ENOTSUP);
	assert_non_null(strstr(error.text, "x: memory: no such NUMA node"));
	assert_int_equal(memory_dimms(memory, status), 1);
	assert_int_equal(add("d1", BLOCK), 0);
	assert_int_equal(add("d2", BLOCK), 0);
	assert_int_equal(add("d3", BLOCK), 0);
	assert_int_equal(add("d4", BLOCK), -ENOSPC);
	assert_non_null(strstr(error.text, "all 4 slots"));
	assert_int_equal(take_away("x"), -ENOENT);
	assert_non_null(strstr(error.text, "x: no such memory device"));
}

/* The room of what went is used again; the range of what is between stays. */
static void test_places(void **state)
{
	struct dimm_status status[MEMORY_DIMMS_MAX];

	(void)state;
	assert_int_equal(add("a", BLOCK), 0);
	assert_int_equal(add("b", BLOCK), 0);
	assert_int_equal(take_away("a"), 0);
	assert_int_equal(add("c", 2 * BLOCK), 0);
	assert_int_equal(add("d", BLOCK), 0);
	assert_int_equal(memory_dimms(memory, status), 3);
	for (uint32_t i = 0; i < 3; i++) {
		const uint64_t at = status[i].spec.id[0] == 'b'   ? 1
				    : status[i].spec.id[0] == 'c' ? 2
								  : 0;

		assert_int_equal(status[i].gpa, WINDOW + at * BLOCK);
	}
}

/* ---- the guest ---- */

static void test_guest_refuses(void **state)
{
	struct dimm_status status[MEMORY_DIMMS_MAX];

	(void)state;
	assert_int_equal(add("d0", BLOCK), 0);
	assert_said("slot prepare moved insert ");
	ejects_at_once = 1;
	assert_int_equal(take_away("d0"), -EPERM);
	assert_non_null(strstr(error.text, "_OST status 130"));
	assert_said("ask ");
	assert_int_equal(memory_dimms(memory, status), 1);
	assert_int_equal(status[0].state, DIMM_STATE_PRESENT);
	assert_true(status[0].refused);
	ejects_at_once = 2; /* silent, and then it ejects after all */
	assert_int_equal(take_away("d0"), -ETIMEDOUT);
	assert_int_equal(memory_dimms(memory, status), 1);
	assert_int_equal(status[0].state, DIMM_STATE_ASKED);
	memory_forgotten(memory, 0);
	memory_forgotten(memory, 1);
	memory_forgotten(memory, 1000);
	assert_int_equal(memory_dimms(memory, status), 1);
	assert_int_equal(status[0].state, DIMM_STATE_PRESENT);
	assert_said("ask ");
	ejects_at_once = 0;
	assert_int_equal(take_away("d0"), 0);
	assert_said("ask prepare moved slot gone ");
}

/* Lets the removal go on once somebody waits for it. */
static void *mend_when_awaited(void *arg)
{
	bool awaited = false;

	while (!awaited) {
		usleep(1000);
		pthread_mutex_lock(&memory->lock);
		awaited = memory->dimms[0].waiters != 0;
		pthread_mutex_unlock(&memory->lock);
	}
	pthread_mutex_lock(&lock);
	fault.times = 0;
	pthread_mutex_unlock(&lock);
	return arg;
}

/* It refused, and ejects later by itself, which lasts: who asks meanwhile waits for that. */
static void test_thinks_again(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(add("d0", BLOCK), 0);
	ejects_at_once = 1;
	assert_int_equal(take_away("d0"), -EPERM);
	fault.step = STEP_PREPARE;
	fault.ret = -EIO;
	fault.times = UINT32_MAX;
	memory_ejected(memory, 0);
	assert_int_equal(pthread_create(&thread, NULL, mend_when_awaited, NULL), 0);
	assert_int_equal(take_away("d0"), 0);
	pthread_join(thread, NULL);
	assert_true(revoke_holds(&change.proof));
	assert_int_equal(map.epoch.map.count, 1);
}

/* By itself, twice, or of what is not there: its own loss. */
static void test_guest_ejects(void **state)
{
	struct dimm_status status[MEMORY_DIMMS_MAX];

	(void)state;
	assert_int_equal(add("d0", BLOCK), 0);
	assert_said("slot prepare moved insert ");
	memory_ejected(memory, 1);
	memory_ejected(memory, 1000);
	memory_ost(memory, 1, 0, 0);
	memory_ost(memory, 1000, SCI_EVENT_EJECT, 0x80);
	memory_ost(memory, 0, SCI_EVENT_EJECT, 0x80); /* it was not asked */
	assert_int_equal(memory_dimms(memory, status), 1);
	assert_int_equal(status[0].state, DIMM_STATE_PRESENT);
	memory_ejected(memory, 0);
	memory_ejected(memory, 0);
	assert_said("prepare moved slot gone ");
	while (memory_dimms(memory, status) != 0)
		usleep(1000);
	assert_int_equal(map.epoch.map.count, 1);
}

/* ---- who waits ---- */

static void *add_other(void *arg)
{
	const struct dimm_spec s = spec("d1", BLOCK);
	struct memory_change times;
	struct option_error why;

	*(int *)arg = memory_add_dimm(memory, &s, &times, &why);
	return arg;
}

static enum dimm_state state_of_slot(uint32_t slot)
{
	pthread_mutex_lock(&memory->lock);
	const enum dimm_state state = memory->dimms[slot].state;

	pthread_mutex_unlock(&memory->lock);
	return state;
}

static void wait_for_slot(uint32_t slot, enum dimm_state state)
{
	for (int ms = 0; ms < 5000 && state_of_slot(slot) != state; ms++)
		usleep(1000);
	assert_int_equal(state_of_slot(slot), state);
}

/* One that waited and has not run yet reads of its own DIMM, whatever has become of the slot since. */
static void test_slow_reader(void **state)
{
	struct dimm *d = &memory->dimms[0];
	pthread_t thread;
	int ret = -1;

	(void)state;
	assert_int_equal(add("d0", BLOCK), 0);
	pthread_mutex_lock(&memory->lock);
	d->waiters++;
	pthread_mutex_unlock(&memory->lock);
	memory_ejected(memory, 0);
	wait_for_slot(0, DIMM_STATE_FREE);
	assert_int_equal(pthread_create(&thread, NULL, add_other, &ret), 0);
	usleep(50000);
	assert_int_equal(state_of_slot(0), DIMM_STATE_FREE);
	assert_int_equal(d->added.epoch, 2);
	assert_int_equal(d->removed.epoch, 3);
	assert_true(revoke_holds(&d->removed.proof));
	pthread_mutex_lock(&memory->lock);
	stop_waiting(memory, d);
	pthread_mutex_unlock(&memory->lock);
	pthread_join(thread, NULL);
	assert_int_equal(ret, 0);
	assert_int_equal(d->added.epoch, 4);
	assert_string_equal(d->spec.id, "d1");
}

#define memory_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		memory_test(test_order),         memory_test(test_undone),
		memory_test(test_goes_on),       memory_test(test_ends),
		memory_test(test_refused),       memory_test(test_places),
		memory_test(test_guest_refuses), memory_test(test_guest_ejects),
		memory_test(test_slow_reader),   memory_test(test_thinks_again),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
