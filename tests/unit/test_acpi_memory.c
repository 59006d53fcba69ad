/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIMM slots as the guest's ACPI methods see them, by the accesses that they make, and as a guest that
 * does anything else does; what the VMM hears of it; and no event lost between two threads.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "core/log.h"
#include "core/machine/acpi_memory.h"

#define MIB (1ull << 20)
#define GPA 0x123456789000ull
#define BYTES 0x234500000000ull
#define NODE 5u
#define SLOT 7u

struct heard {
	uint32_t ejected, asked, ost, forgotten;
	uint32_t slot, event, status;
};

struct slots {
	struct vm vm;
	struct acpi_regs regs;
	struct acpi_memory memory;
	struct bus *ports;
	struct heard heard;
};

/* What a hook is told is the case already, and it may look. */
static void on_ejected(void *ctx, uint32_t slot, bool asked)
{
	struct slots *s = ctx;
	struct acpi_dimm dimm;

	assert_int_equal(acpi_memory_get(&s->memory, slot, &dimm), 0);
	assert_false(dimm.present);
	s->heard.ejected++;
	s->heard.asked += asked;
	s->heard.slot = slot;
}

static void on_ost(void *ctx, uint32_t slot, uint32_t event, uint32_t status)
{
	struct slots *s = ctx;
	struct acpi_dimm dimm;

	assert_int_equal(acpi_memory_get(&s->memory, slot, &dimm), 0);
	assert_int_equal(dimm.ost_status, status);
	s->heard.ost++;
	s->heard.slot = slot;
	s->heard.event = event;
	s->heard.status = status;
}

static void on_forgotten(void *ctx, uint32_t slot)
{
	struct slots *s = ctx;
	struct acpi_dimm dimm;

	assert_int_equal(acpi_memory_get(&s->memory, slot, &dimm), 0);
	assert_true(dimm.present);
	s->heard.forgotten++;
	s->heard.slot = slot;
}

static struct slots *slots_new(void)
{
	struct slots *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->vm.fd = -1; /* no KVM: events wait in the GED's port */
	s->regs = (struct acpi_regs){ .vm = &s->vm };
	s->memory = (struct acpi_memory){ .regs = &s->regs,
					  .hooks = { .ejected = on_ejected,
						     .ost = on_ost,
						     .forgotten = on_forgotten,
						     .ctx = s } };
	assert_int_equal(bus_create(&s->ports), 0);
	assert_int_equal(acpi_regs_attach(&s->regs, s->ports), 0);
	assert_int_equal(acpi_memory_attach(&s->memory, s->ports), 0);
	return s;
}

static void slots_free(struct slots *s)
{
	bus_destroy(s->ports);
	free(s);
}

/* ---- the guest ---- */

static uint32_t in(struct slots *s, uint32_t reg)
{
	return (uint32_t)bus_read(s->ports, LAYOUT_PORT_DIMM + reg, 4);
}

static void out(struct slots *s, uint32_t reg, uint32_t value)
{
	bus_write(s->ports, LAYOUT_PORT_DIMM + reg, 4, value);
}

static uint32_t state_of(struct slots *s, uint32_t slot)
{
	out(s, DIMM_REG_SELECT, slot);
	return in(s, DIMM_REG_STATE);
}

static uint64_t in64(struct slots *s, uint32_t reg)
{
	const uint64_t low = in(s, reg);

	return low | (uint64_t)in(s, reg + 4) << 32;
}

static void guest_ost(struct slots *s, uint32_t slot, uint32_t event, uint32_t status)
{
	out(s, DIMM_REG_SELECT, slot);
	out(s, DIMM_REG_OST_EVENT, event);
	out(s, DIMM_REG_OST_STATUS, status);
}

static void guest_eject(struct slots *s, uint32_t slot)
{
	out(s, DIMM_REG_SELECT, slot);
	out(s, DIMM_REG_STATE, DIMM_EJECT);
}

/* As the DSDT's DSCN: what was told is counted, by slot. */
static void guest_scan(struct slots *s, uint32_t *inserted, uint32_t *asked)
{
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
		const uint32_t events = state_of(s, i) & DIMM_EVENTS;

		if (events)
			out(s, DIMM_REG_STATE, events);
		inserted[i] += !!(events & DIMM_INSERTED);
		asked[i] += !!(events & DIMM_EJECT_ASKED);
	}
}

static uint32_t guest_ged(struct slots *s)
{
	return (uint32_t)bus_read(s->ports, LAYOUT_PORT_GED, 4);
}

/* ---- */

static struct acpi_dimm get(struct slots *s, uint32_t slot)
{
	struct acpi_dimm dimm;

	assert_int_equal(acpi_memory_get(&s->memory, slot, &dimm), 0);
	return dimm;
}

static void insert(struct slots *s, uint32_t slot)
{
	assert_int_equal(acpi_memory_insert(&s->memory, slot, GPA, BYTES, NODE), 0);
}

/* Inserted, told and taken in use. */
static void in_use(struct slots *s, uint32_t slot)
{
	insert(s, slot);
	out(s, DIMM_REG_SELECT, slot);
	out(s, DIMM_REG_STATE, DIMM_INSERTED);
	guest_ost(s, slot, 1, 0);
	assert_int_equal(get(s, slot).insert.is, DIMM_ANSWER_OK);
	(void)guest_ged(s);
	memset(&s->heard, 0, sizeof(s->heard));
}

static void assert_heard(const struct slots *s, struct heard want)
{
	assert_memory_equal(&s->heard, &want, sizeof(want));
}

static void test_insert(void **state)
{
	struct slots *s = slots_new();
	uint32_t inserted[LAYOUT_DIMMS_MAX] = { 0 }, asked[LAYOUT_DIMMS_MAX] = { 0 };

	(void)state;
	assert_int_equal(state_of(s, SLOT), 0);
	assert_int_equal(guest_ged(s), 0);
	insert(s, SLOT);
	assert_int_equal(guest_ged(s), GED_MEMORY);
	assert_int_equal(guest_ged(s), 0);
	assert_int_equal(state_of(s, SLOT), DIMM_PRESENT | DIMM_INSERTED);
	guest_scan(s, inserted, asked);
	guest_scan(s, inserted, asked);
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
		assert_int_equal(inserted[i], i == SLOT);
		assert_int_equal(asked[i], 0);
		assert_int_equal(state_of(s, i), i == SLOT ? DIMM_PRESENT : 0);
	}
	state_of(s, SLOT);
	assert_int_equal(in64(s, DIMM_REG_BASE), GPA);
	assert_int_equal(in64(s, DIMM_REG_BYTES), BYTES);
	assert_int_equal(in(s, DIMM_REG_NODE), NODE);
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_WAITED);
	guest_ost(s, SLOT, 1, 0);
	assert_heard(s, (struct heard){ .ost = 1, .slot = SLOT, .event = 1 });
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_OK);
	slots_free(s);
}

/* Linux: not the driver's kind of memory, and the like. */
static void test_insert_refused(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	insert(s, SLOT);
	guest_ost(s, SLOT, 0x200, 0x80); /* not done yet */
	assert_int_equal(s->heard.ost, 0);
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_WAITED);
	guest_ost(s, SLOT, 1, 1);
	assert_heard(s, (struct heard){ .ost = 1, .slot = SLOT, .event = 1, .status = 1 });
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_REFUSED);
	assert_int_equal(get(s, SLOT).insert.status, 1);
	/* It has said so; another word changes nothing but what it said last. */
	guest_ost(s, SLOT, 1, 0);
	assert_int_equal(s->heard.ost, 1);
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_REFUSED);
	assert_int_equal(get(s, SLOT).ost_status, 0);
	guest_eject(s, SLOT);
	assert_int_equal(s->heard.ejected, 1);
	/* No status is too odd to be a no. */
	insert(s, SLOT);
	guest_ost(s, SLOT, 1, UINT32_MAX);
	assert_int_equal(s->heard.ost, 2);
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_REFUSED);
	slots_free(s);
}

static void test_bad_calls(void **state)
{
	struct slots *s = slots_new();
	struct acpi_memory *m = &s->memory;
	struct acpi_dimm dimm;

	(void)state;
	assert_int_equal(acpi_memory_insert(m, LAYOUT_DIMMS_MAX, GPA, BYTES, 0), -EINVAL);
	assert_int_equal(acpi_memory_insert(m, UINT32_MAX, GPA, BYTES, 0), -EINVAL);
	assert_int_equal(acpi_memory_insert(m, 0, GPA, 0, 0), -EINVAL);
	assert_int_equal(acpi_memory_insert(m, 0, UINT64_MAX, 2, 0), -EINVAL);
	assert_int_equal(acpi_memory_insert(m, 0, GPA, BYTES, LAYOUT_NODES_MAX), -EINVAL);
	assert_int_equal(acpi_memory_ask_eject(m, LAYOUT_DIMMS_MAX), -EINVAL);
	assert_int_equal(acpi_memory_ask_eject(m, 0), -ENOENT);
	assert_int_equal(acpi_memory_get(m, LAYOUT_DIMMS_MAX, &dimm), -EINVAL);
	assert_int_equal(guest_ged(s), 0);
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++)
		assert_int_equal(state_of(s, i), 0);
	insert(s, 0);
	assert_int_equal(acpi_memory_insert(m, 0, 0, MIB, 0), -EEXIST);
	assert_int_equal(get(s, 0).gpa, GPA);
	assert_int_equal(acpi_memory_attach(m, s->ports), -EEXIST);
	slots_free(s);
}

static void test_eject_asked(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	in_use(s, SLOT);
	assert_int_equal(acpi_memory_ask_eject(&s->memory, SLOT), 0);
	assert_int_equal(guest_ged(s), GED_MEMORY);
	assert_int_equal(state_of(s, SLOT), DIMM_PRESENT | DIMM_EJECT_ASKED);
	out(s, DIMM_REG_STATE, DIMM_EJECT_ASKED);
	guest_ost(s, SLOT, 3, 0x84); /* as Linux begins it */
	assert_heard(s, (struct heard){ 0 });
	assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_WAITED);
	guest_eject(s, SLOT);
	assert_int_equal(in(s, DIMM_REG_STATE), 0); /* with that same write */
	assert_int_equal(in64(s, DIMM_REG_BASE) | in64(s, DIMM_REG_BYTES), 0);
	assert_heard(s, (struct heard){ .ejected = 1, .asked = 1, .slot = SLOT });
	assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_OK);
	guest_ost(s, SLOT, 3, 0); /* as Linux ends it */
	guest_eject(s, SLOT);
	assert_heard(s, (struct heard){ .ejected = 1, .asked = 1, .slot = SLOT });
	/* What Linux says last may come when the slot is another DIMM's. */
	insert(s, SLOT);
	guest_ost(s, SLOT, 3, 0);
	assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_WAITED);
	assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_NONE);
	slots_free(s);
}

static void test_eject_refused(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	in_use(s, SLOT);
	for (uint32_t round = 1; round <= 2; round++) { /* it may be asked again */
		assert_int_equal(acpi_memory_ask_eject(&s->memory, SLOT), 0);
		assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_WAITED);
		assert_int_equal(state_of(s, SLOT), DIMM_PRESENT | DIMM_EJECT_ASKED);
		out(s, DIMM_REG_STATE, DIMM_EJECT_ASKED);
		guest_ost(s, SLOT, 3, 0x84);
		guest_ost(s, SLOT, 3, 0);        /* said, not done: nothing */
		guest_ost(s, SLOT, 0x103, 0x82); /* of another */
		assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_WAITED);
		guest_ost(s, SLOT, 3, 0x82);
		assert_heard(s, (struct heard){
					.ost = round, .slot = SLOT, .event = 3, .status = 0x82 });
		assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_REFUSED);
		assert_int_equal(get(s, SLOT).eject.status, 0x82);
		assert_true(get(s, SLOT).present);
		assert_int_equal(get(s, SLOT).insert.is, DIMM_ANSWER_OK);
	}
	slots_free(s);
}

/* As from /sys/bus/acpi/devices/.../eject in the guest; and after a refusal it is not asked any more. */
static void test_eject_unasked(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	in_use(s, SLOT);
	guest_ost(s, SLOT, 0x103, 0x84);
	guest_eject(s, SLOT);
	guest_ost(s, SLOT, 0x103, 0);
	assert_heard(s, (struct heard){ .ejected = 1, .slot = SLOT });
	assert_int_equal(get(s, SLOT).eject.is, DIMM_ANSWER_NONE);
	in_use(s, SLOT);
	assert_int_equal(acpi_memory_ask_eject(&s->memory, SLOT), 0);
	guest_ost(s, SLOT, 3, 0x82);
	guest_eject(s, SLOT);
	assert_int_equal(s->heard.ejected, 1);
	assert_int_equal(s->heard.asked, 0);
	slots_free(s);
}

/* Taken one by one, and an event that comes after it was taken is one again. */
static void test_events(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	insert(s, SLOT);
	assert_int_equal(acpi_memory_ask_eject(&s->memory, SLOT), 0);
	assert_int_equal(state_of(s, SLOT), DIMM_PRESENT | DIMM_EVENTS);
	out(s, DIMM_REG_STATE, DIMM_INSERTED);
	assert_int_equal(in(s, DIMM_REG_STATE), DIMM_PRESENT | DIMM_EJECT_ASKED);
	out(s, DIMM_REG_STATE, DIMM_PRESENT);
	assert_int_equal(in(s, DIMM_REG_STATE), DIMM_PRESENT | DIMM_EJECT_ASKED);
	out(s, DIMM_REG_STATE, DIMM_EJECT_ASKED);
	assert_int_equal(in(s, DIMM_REG_STATE), DIMM_PRESENT);
	assert_int_equal(acpi_memory_ask_eject(&s->memory, SLOT), 0);
	assert_int_equal(in(s, DIMM_REG_STATE), DIMM_PRESENT | DIMM_EJECT_ASKED);
	out(s, DIMM_REG_STATE, DIMM_EJECT | DIMM_EVENTS);
	assert_int_equal(in(s, DIMM_REG_STATE), 0);
	slots_free(s);
}

static void test_reset(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	in_use(s, 1);
	in_use(s, 2);
	assert_int_equal(acpi_memory_ask_eject(&s->memory, 2), 0);
	in_use(s, 3);
	assert_int_equal(acpi_memory_ask_eject(&s->memory, 3), 0);
	guest_ost(s, 3, 3, 0x82);
	insert(s, 4);
	in_use(s, 5);
	guest_eject(s, 5);
	memset(&s->heard, 0, sizeof(s->heard));
	out(s, DIMM_REG_SELECT, 9);
	acpi_regs_reset(&s->regs);
	acpi_memory_reset(&s->memory);
	assert_heard(s, (struct heard){ .forgotten = 1, .slot = 2 });
	assert_int_equal(in(s, DIMM_REG_SELECT), 0);
	assert_int_equal(guest_ged(s), 0);
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
		const struct acpi_dimm dimm = get(s, i);

		assert_int_equal(state_of(s, i), i >= 1 && i <= 4 ? DIMM_PRESENT : 0);
		assert_int_equal(dimm.insert.is, DIMM_ANSWER_NONE);
		assert_int_equal(dimm.eject.is, DIMM_ANSWER_NONE);
		assert_false(dimm.ost);
	}
	state_of(s, 4);
	assert_int_equal(in64(s, DIMM_REG_BASE), GPA);
	assert_int_equal(in64(s, DIMM_REG_BYTES), BYTES);
	assert_int_equal(in(s, DIMM_REG_NODE), NODE);
	/* A status without its event is not the answer to a question from before. */
	out(s, DIMM_REG_OST_STATUS, 0x82);
	acpi_memory_reset(&s->memory);
	assert_int_equal(s->heard.forgotten, 1);
	slots_free(s);
}

/* All widths and places, and slots that do not exist. */
static void test_nonsense(void **state)
{
	struct slots *s = slots_new();

	(void)state;
	in_use(s, 0);
	state_of(s, 0);
	for (uint32_t at = 0; at < LAYOUT_PORT_DIMM_BYTES; at++)
		for (uint32_t size = 1; size <= 4; size *= 2) {
			if (size == 4 && at % 4 == 0)
				continue;
			if (at + size > LAYOUT_PORT_DIMM_BYTES)
				continue;
			bus_write(s->ports, LAYOUT_PORT_DIMM + at, size, UINT64_MAX);
			assert_int_equal(bus_read(s->ports, LAYOUT_PORT_DIMM + at, size), 0);
		}
	assert_int_equal(in(s, DIMM_REG_SELECT), 0);
	assert_int_equal(in(s, DIMM_REG_STATE), DIMM_PRESENT);
	assert_false(get(s, 0).ost && get(s, 0).ost_status != 0);
	for (uint32_t reg = DIMM_REG_BASE; reg <= DIMM_REG_NODE; reg += 4)
		out(s, reg, UINT32_MAX);
	assert_int_equal(get(s, 0).gpa, GPA);
	assert_int_equal(get(s, 0).bytes, BYTES);
	assert_int_equal(get(s, 0).node, NODE);
	for (uint32_t slot = LAYOUT_DIMMS_MAX; slot; slot *= 2) {
		guest_ost(s, slot, 1, 1);
		guest_eject(s, slot);
		assert_int_equal(in(s, DIMM_REG_SELECT), slot);
		for (uint32_t reg = 4; reg < LAYOUT_PORT_DIMM_BYTES; reg += 4)
			assert_int_equal(in(s, reg), 0);
	}
	for (uint32_t slot = 1; slot < LAYOUT_DIMMS_MAX; slot++)
		guest_eject(s, slot);
	assert_heard(s, (struct heard){ 0 });
	assert_int_equal(state_of(s, 0), DIMM_PRESENT);
	slots_free(s);
}

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(dimm_answer_text(DIMM_ANSWER_REFUSED), "refused");
	assert_string_equal(acpi_ost_text(3, 0x82), "busy");
	assert_string_equal(acpi_ost_text(0x200, 0x82), "insertion not supported");
	assert_string_equal(acpi_ost_text(1, 0), "success");
	assert_non_null(strstr(acpi_ost_text(3, 0xdeadbeef), "does not know"));
}

#define RACE_ROUNDS 400u

struct race {
	struct slots *s;
	uint32_t inserted[LAYOUT_DIMMS_MAX], asked[LAYOUT_DIMMS_MAX];
	bool done;
};

/* The guest: looks through the slots only when the GED says so, and ejects what it is asked to. */
static void *race_guest(void *arg)
{
	struct race *race = arg;
	struct slots *s = race->s;

	while (!__atomic_load_n(&race->done, __ATOMIC_ACQUIRE)) {
		uint32_t before[LAYOUT_DIMMS_MAX];

		if (!(guest_ged(s) & GED_MEMORY))
			continue;
		memcpy(before, race->asked, sizeof(before));
		guest_scan(s, race->inserted, race->asked);
		for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
			if (race->asked[i] == before[i])
				continue;
			state_of(s, i);
			/* Half of a range would be another's. */
			assert_true(in64(s, DIMM_REG_BASE) == (i + 1ull) << 33);
			assert_true(in64(s, DIMM_REG_BYTES) == (i + 1ull) << 34);
			guest_eject(s, i);
		}
	}
	return NULL;
}

/* Each event is waited for, so that none behind it can bring it along. */
static void race_wait(struct race *race, uint32_t slot, bool present)
{
	const uint64_t until = now_ns() + 20 * NS_PER_S;

	while (get(race->s, slot).present != present || get(race->s, slot).events)
		if (now_ns() > until)
			fail_msg("slot %u: an event was lost", slot);
}

static void test_race(void **state)
{
	struct race race = { .s = slots_new() };
	pthread_t guest;

	(void)state;
	assert_int_equal(pthread_create(&guest, NULL, race_guest, &race), 0);
	for (uint32_t round = 0; round < RACE_ROUNDS; round++) {
		const uint32_t slot = round % 5 * 13;

		assert_int_equal(acpi_memory_insert(&race.s->memory, slot, (slot + 1ull) << 33,
						    (slot + 1ull) << 34, 0),
				 0);
		if (round % 2)
			race_wait(&race, slot, true);
		assert_int_equal(acpi_memory_ask_eject(&race.s->memory, slot), 0);
		race_wait(&race, slot, false);
	}
	__atomic_store_n(&race.done, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(guest, NULL), 0);
	assert_int_equal(race.s->heard.ejected, RACE_ROUNDS);
	assert_int_equal(race.s->heard.asked, RACE_ROUNDS);
	slots_free(race.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_insert),        cmocka_unit_test(test_insert_refused),
		cmocka_unit_test(test_bad_calls),     cmocka_unit_test(test_eject_asked),
		cmocka_unit_test(test_eject_refused), cmocka_unit_test(test_eject_unasked),
		cmocka_unit_test(test_events),        cmocka_unit_test(test_reset),
		cmocka_unit_test(test_nonsense),      cmocka_unit_test(test_words),
		cmocka_unit_test(test_race),
	};

	log_open(-1, LOG_LEVEL_ERROR); /* that there is no KVM */
	return cmocka_run_group_tests_name("acpi_memory", tests, NULL, NULL);
}
