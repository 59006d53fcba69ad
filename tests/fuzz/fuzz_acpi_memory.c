/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest can write into the registers of its DIMM slots and of ACPI beside them, and what the VMM
 * does with the slots in between.  A model that is a few lines a step says what must be there:
 *
 *   each register reads as the model has it, each slot is as the model has it
 *   the GED's line is up while an event has not been read, and only then; when it goes up, what it
 *   is about is there to be seen
 *   a hook is called when the model says so, for that slot, and at most once a question
 *   after a look at the GED and through the slots no event is left
 */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "core/machine/acpi_memory.h"
#include "tests/fuzz/fuzz.h"

#define STEP_BYTES 8u
#define BLOCK (128ull << 20)

struct step {
	uint8_t op;
	uint8_t arg; /* size: bits 0-1; the rest as the op says */
	uint16_t at;
	uint32_t value;
};

/* What the VMM is told within one step. */
struct told {
	uint32_t ejected, asked, ost, forgotten, ended;
	uint32_t slot, event, status;
};

static struct model {
	struct acpi_dimm dimms[LAYOUT_DIMMS_MAX];
	uint32_t selected, ost_event, ged;
	struct told told;
} model;

static struct vm machine_vm;
static struct acpi_regs regs;
static struct acpi_memory memory;
static struct bus *ports;
static struct told told;
static bool line;
static int fail_line;

static void check_events(void)
{
	struct acpi_dimm d;

	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++)
		FUZZ_CHECK(acpi_memory_get(&memory, i, &d) == 0 &&
			   d.events == model.dimms[i].events);
}

/* KVM. */
// cppcheck-suppress constParameter // as its header has it
int vm_line(struct vm *vm, uint32_t gsi, bool up)
{
	FUZZ_CHECK(vm == &machine_vm && gsi == LAYOUT_GSI_GED);
	if (up) /* the model goes first */
		check_events();
	line = up;
	return fail_line;
}

static void on_ejected(void *ctx, uint32_t slot, bool asked)
{
	(void)ctx;
	told.ejected++;
	told.asked += asked;
	told.slot = slot;
}

static void on_ost(void *ctx, uint32_t slot, uint32_t event, uint32_t status)
{
	(void)ctx;
	told.ost++;
	told.slot = slot;
	told.event = event;
	told.status = status;
}

static void on_forgotten(void *ctx, uint32_t slot)
{
	(void)ctx;
	told.forgotten++;
	told.slot = slot;
}

static void on_end(void *ctx, enum guest_end end)
{
	(void)ctx, (void)end;
	told.ended++;
}

/* ---- the model ---- */

static struct acpi_dimm *model_dimm(void)
{
	return model.selected < LAYOUT_DIMMS_MAX ? &model.dimms[model.selected] : NULL;
}

static uint32_t model_read(uint32_t reg)
{
	const struct acpi_dimm *d = model_dimm();
	const uint64_t parts[] = { 0, d ? d->gpa : 0, d ? d->bytes : 0, d ? d->node : 0, 0 };

	if (reg == DIMM_REG_SELECT)
		return model.selected;
	if (!d || !d->present)
		return 0;
	if (reg == DIMM_REG_STATE)
		return DIMM_PRESENT | d->events;
	return (uint32_t)(parts[reg / 8] >> (reg % 8 * 8));
}

static void model_eject(struct acpi_dimm *d)
{
	const bool asked = d->eject.is == DIMM_ANSWER_WAITED;

	model.told.ejected = 1;
	model.told.asked = asked;
	model.told.slot = model.selected;
	memset(d, 0, sizeof(*d));
	d->eject.is = asked ? DIMM_ANSWER_OK : DIMM_ANSWER_NONE;
}

static void model_ost(struct acpi_dimm *d, uint32_t status)
{
	const uint32_t event = model.ost_event;
	const bool eject = event == 3;
	struct dimm_said *said = eject ? &d->eject : &d->insert;

	d->ost = true;
	d->ost_event = event;
	d->ost_status = status;
	if (!eject && event != 0 && event != 1 && event != 0x200)
		return;
	if ((eject && (status == 0x84 || status == 0)) || (event == 0x200 && status == 0x80) ||
	    said->is != DIMM_ANSWER_WAITED)
		return;
	said->is = status ? DIMM_ANSWER_REFUSED : DIMM_ANSWER_OK;
	said->status = status;
	model.told.ost = 1;
	model.told.slot = model.selected;
	model.told.event = event;
	model.told.status = status;
}

static void model_write(uint32_t reg, uint32_t value)
{
	struct acpi_dimm *d = model_dimm();

	if (reg == DIMM_REG_SELECT)
		model.selected = value;
	if (reg == DIMM_REG_SELECT || !d)
		return;
	if (reg == DIMM_REG_STATE && d->present) {
		d->events &= ~value;
		if (value & DIMM_EJECT)
			model_eject(d);
	} else if (reg == DIMM_REG_OST_EVENT) {
		model.ost_event = value;
	} else if (reg == DIMM_REG_OST_STATUS) {
		model_ost(d, value);
	}
}

static void model_reset(void)
{
	model.selected = model.ost_event = model.ged = 0;
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
		struct acpi_dimm *d = &model.dimms[i];

		if (d->eject.is == DIMM_ANSWER_WAITED) {
			model.told.forgotten++;
			model.told.slot = i;
		}
		d->insert = d->eject = (struct dimm_said){ 0 };
		d->events = d->ost_event = d->ost_status = 0;
		d->ost = false;
	}
}

/* ---- steps ---- */

static bool whole(uint32_t reg, uint32_t size)
{
	return size == 4 && reg % 4 == 0 && reg < LAYOUT_PORT_DIMM_BYTES;
}

static void guest_read(uint32_t reg, uint32_t size)
{
	const uint32_t want = whole(reg, size) ? model_read(reg) : 0;
	const uint64_t got = bus_read(ports, LAYOUT_PORT_DIMM + reg, size);

	if (reg + size <= LAYOUT_PORT_DIMM_BYTES)
		FUZZ_CHECK(got == want);
}

static void guest_write(uint32_t reg, uint32_t size, uint32_t value)
{
	if (whole(reg, size))
		model_write(reg, value);
	bus_write(ports, LAYOUT_PORT_DIMM + reg, size, value);
}

static void guest_ged(void)
{
	FUZZ_CHECK(bus_read(ports, LAYOUT_PORT_GED, 4) == model.ged);
	model.ged = 0;
}

/* As the DSDT's _EVT. */
static void guest_scan(void)
{
	guest_ged();
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
		guest_write(DIMM_REG_SELECT, 4, i);
		guest_write(DIMM_REG_STATE, 4, model_read(DIMM_REG_STATE) & DIMM_EVENTS);
		FUZZ_CHECK(model.dimms[i].events == 0);
	}
}

/* Ports of ACPI other than the GED's whole register. */
static void guest_other(const struct step *s, uint32_t size)
{
	const uint64_t port = LAYOUT_PORT_SLEEP_CONTROL + s->at % 10;

	if (s->arg & 8)
		bus_write(ports, port, size, s->value);
	else if (port != LAYOUT_PORT_GED || size != 4)
		(void)bus_read(ports, port, size);
	model.told.ended = told.ended; /* its own test says when */
}

static void vmm_insert(const struct step *s)
{
	const uint32_t slot = s->at % (LAYOUT_DIMMS_MAX + 2), node = s->arg % 9;
	const uint64_t gpa = s->value * BLOCK, bytes = (s->arg >> 4) * BLOCK;
	const bool right = slot < LAYOUT_DIMMS_MAX && node < LAYOUT_NODES_MAX && bytes != 0;
	int want = right ? 0 : -EINVAL;

	if (right && model.dimms[slot].present)
		want = -EEXIST;
	if (want == 0) {
		model.dimms[slot] = (struct acpi_dimm){ .present = true,
							.gpa = gpa,
							.bytes = bytes,
							.node = node,
							.events = DIMM_INSERTED,
							.insert.is = DIMM_ANSWER_WAITED };
		model.ged |= GED_MEMORY;
	}
	FUZZ_CHECK(acpi_memory_insert(&memory, slot, gpa, bytes, node) == want);
}

static void vmm_ask(const struct step *s)
{
	const uint32_t slot = s->at % (LAYOUT_DIMMS_MAX + 2);
	int want = slot < LAYOUT_DIMMS_MAX ? 0 : -EINVAL;

	if (want == 0 && !model.dimms[slot].present)
		want = -ENOENT;
	if (want == 0) {
		model.dimms[slot].events |= DIMM_EJECT_ASKED;
		model.dimms[slot].eject = (struct dimm_said){ .is = DIMM_ANSWER_WAITED };
		model.ged |= GED_MEMORY;
	}
	FUZZ_CHECK(acpi_memory_ask_eject(&memory, slot) == want);
}

static void vmm_reset(void)
{
	model_reset();
	acpi_regs_reset(&regs);
	acpi_memory_reset(&memory);
}

static void step(const struct step *s)
{
	const uint32_t size = 1u << (s->arg & 3), reg = s->at % (LAYOUT_PORT_DIMM_BYTES + 4);

	switch (s->op % 12) {
	case 0: /* a slot that there is */
		guest_write(DIMM_REG_SELECT, 4, s->value % LAYOUT_DIMMS_MAX);
		break;
	case 1:
	case 2: /* a register that there is */
		guest_write(reg & ~3u, 4, s->value);
		break;
	case 3:
		guest_write(reg, size, s->value);
		break;
	case 4:
		guest_read(reg & ~3u, 4);
		break;
	case 5:
		guest_read(reg, size);
		break;
	case 6:
		s->arg & 4 ? guest_scan() : guest_ged();
		break;
	case 7:
		guest_other(s, size);
		break;
	case 8:
		vmm_insert(s);
		break;
	case 9:
		vmm_ask(s);
		break;
	case 10:
		fail_line = s->arg & 4 ? -EBADF : 0;
		model.ged |= GED_POWER_BUTTON;
		FUZZ_CHECK(acpi_power_button(&regs) == fail_line);
		break;
	default:
		vmm_reset();
	}
}

static void check(void)
{
	FUZZ_CHECK(memcmp(&told, &model.told, sizeof(told)) == 0);
	FUZZ_CHECK(line == (model.ged != 0));
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++) {
		const struct acpi_dimm *m = &model.dimms[i];
		struct acpi_dimm d;

		FUZZ_CHECK(acpi_memory_get(&memory, i, &d) == 0);
		FUZZ_CHECK(d.present == m->present && d.gpa == m->gpa && d.bytes == m->bytes &&
			   d.node == m->node && d.events == m->events);
		FUZZ_CHECK(d.insert.is == m->insert.is && d.insert.status == m->insert.status);
		FUZZ_CHECK(d.eject.is == m->eject.is && d.eject.status == m->eject.status);
		FUZZ_CHECK(d.ost == m->ost && d.ost_event == m->ost_event &&
			   d.ost_status == m->ost_status);
		FUZZ_CHECK(d.present || (d.events == 0 && d.gpa == 0 && d.bytes == 0));
	}
}

static void begin(void)
{
	memset(&model, 0, sizeof(model));
	line = false;
	fail_line = 0;
	regs = (struct acpi_regs){ .vm = &machine_vm, .ended = on_end };
	memory = (struct acpi_memory){
		.regs = &regs,
		.hooks = { .ejected = on_ejected, .ost = on_ost, .forgotten = on_forgotten }
	};
	FUZZ_CHECK(bus_create(&ports) == 0);
	FUZZ_CHECK(acpi_regs_attach(&regs, ports) == 0);
	FUZZ_CHECK(acpi_memory_attach(&memory, ports) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quiet;

	if (!quiet) { /* that KVM takes no interrupt */
		log_open(-1, LOG_LEVEL_ERROR);
		quiet = true;
	}
	begin();
	for (size_t at = 0; at + STEP_BYTES <= size && at < 2048; at += STEP_BYTES) {
		struct step s;

		memcpy(&s, data + at, sizeof(s));
		memset(&told, 0, sizeof(told));
		memset(&model.told, 0, sizeof(model.told));
		step(&s);
		check();
	}
	bus_destroy(ports);
	return 0;
}
