/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A slot's event is set first and the GED raised afterwards; the guest reads the
 * GED's port first, which takes the bit there, and looks through the slots afterwards.  So an event is
 * found in this round or raises the next one.  In a slot the guest clears an event before it acts on it,
 * so that one that comes meanwhile is set again.
 *
 * The guest's CPUs may do anything with the registers, at once.  Each access is carried out under the lock
 * and leaves a state that is one of those that there are; what two CPUs can mix up (selector and data, event
 * and status of an _OST) is their own slots.  The DSDT's methods hold a mutex for that.
 *
 * An ejection empties the slot within the write itself: Linux looks at _STA directly after _EJ0, and says
 * "Eject incomplete" of a device that is enabled still.
 */
#include "core/machine/acpi_memory.h"

#include <errno.h>
#include <string.h>

#include "core/cc.h"
#include "core/log.h"

#define REG_BYTES 4u

#define OST_BUS_CHECK 0x000u
#define OST_DEVICE_CHECK 0x001u
#define OST_EJECT_REQUEST 0x003u
#define OST_OS_INSERT 0x200u

#define OST_SUCCESS 0x00u
#define NO_CODE UINT64_MAX /* no 32 bits of a guest are that */

_Static_assert(DIMM_EVENTS == (DIMM_INSERTED | DIMM_EJECT_ASKED), "");
_Static_assert(LAYOUT_PORT_DIMM_BYTES == DIMM_REG_OST_STATUS + REG_BYTES, "the last register");

/* What an _OST answers, ACPI 6.4 section 6.3.5: source event, request, and the status with which the
 * guest says that it has not done yet. */
enum request { REQUEST_INSERT, REQUEST_EJECT, REQUEST_NONE };

static const struct {
	uint32_t event;
	enum request request;
	uint64_t unfinished;
} ost_events[] = {
	{ OST_BUS_CHECK, REQUEST_INSERT, NO_CODE },
	{ OST_DEVICE_CHECK, REQUEST_INSERT, NO_CODE },
	{ OST_OS_INSERT, REQUEST_INSERT, 0x80 },
	{ OST_EJECT_REQUEST, REQUEST_EJECT, 0x84 },
};

/* The same section's status codes; of the notifications for an insertion Linux gives those of an ejection. */
static const struct {
	uint64_t event;
	uint32_t status;
	const char *text;
} ost_texts[] = {
	{ OST_OS_INSERT, 0x80, "insertion in progress" },
	{ OST_OS_INSERT, 0x81, "the driver could not be loaded" },
	{ OST_OS_INSERT, 0x82, "insertion not supported" },
	{ NO_CODE, 0x00, "success" },
	{ NO_CODE, 0x01, "failure" },
	{ NO_CODE, 0x02, "notification not recognised" },
	{ NO_CODE, 0x80, "not supported" },
	{ NO_CODE, 0x81, "in use" },
	{ NO_CODE, 0x82, "busy" },
	{ NO_CODE, 0x83, "something it depends on is busy" },
	{ NO_CODE, 0x84, "ejection in progress" },
};

const char *dimm_answer_text(enum dimm_answer answer)
{
	static const char *const words[] = {
#define DIMM_ANSWER_WORD(NAME, word) [DIMM_ANSWER_##NAME] = (word),
		DIMM_ANSWERS(DIMM_ANSWER_WORD)
#undef DIMM_ANSWER_WORD
	};

	CHECK(answer < DIMM_ANSWER_COUNT);
	return words[answer];
}

const char *acpi_ost_text(uint32_t event, uint32_t status)
{
	for (size_t i = 0; i < ARRAY_SIZE(ost_texts); i++)
		if ((ost_texts[i].event == event || ost_texts[i].event == NO_CODE) &&
		    ost_texts[i].status == status)
			return ost_texts[i].text;
	return "a status that the specification does not know";
}

/* NULL: no such slot. */
static struct acpi_dimm *dimm_at(struct acpi_memory *memory, uint32_t slot)
{
	return slot < LAYOUT_DIMMS_MAX ? &memory->dimms[slot] : NULL;
}

/* ---- the guest's side; with the lock ---- */

static uint32_t read_register(const struct acpi_dimm *dimm, uint64_t reg)
{
	switch (reg) {
	case DIMM_REG_STATE:
		return (dimm->present ? DIMM_PRESENT : 0) | dimm->events;
	case DIMM_REG_BASE:
		return (uint32_t)dimm->gpa;
	case DIMM_REG_BASE + REG_BYTES:
		return (uint32_t)(dimm->gpa >> 32);
	case DIMM_REG_BYTES:
		return (uint32_t)dimm->bytes;
	case DIMM_REG_BYTES + REG_BYTES:
		return (uint32_t)(dimm->bytes >> 32);
	case DIMM_REG_NODE:
		return dimm->node;
	default:
		return 0;
	}
}

/* What is to be told when the lock is free. */
struct news {
	bool ejected, asked, ost;
	uint32_t slot, event, status;
};

static void write_state(struct acpi_dimm *dimm, uint32_t value, struct news *news)
{
	if (!dimm->present)
		return;
	dimm->events &= ~(value & DIMM_EVENTS);
	if (!(value & DIMM_EJECT))
		return;
	news->ejected = true;
	news->asked = dimm->eject.is == DIMM_ANSWER_WAITED;
	*dimm = (struct acpi_dimm){ .eject.is = news->asked ? DIMM_ANSWER_OK : DIMM_ANSWER_NONE };
}

/* Whether the guest has answered `said` with this status. */
static bool take_answer(struct dimm_said *said, enum request request, uint32_t status)
{
	/* That an ejection went well is believed of the ejection itself. */
	if (said->is != DIMM_ANSWER_WAITED || (request == REQUEST_EJECT && status == OST_SUCCESS))
		return false;
	said->is = status == OST_SUCCESS ? DIMM_ANSWER_OK : DIMM_ANSWER_REFUSED;
	said->status = status;
	return true;
}

static void write_ost(struct acpi_dimm *dimm, uint32_t event, uint32_t status, struct news *news)
{
	dimm->ost = true;
	dimm->ost_event = event;
	dimm->ost_status = status;
	for (size_t i = 0; i < ARRAY_SIZE(ost_events); i++) {
		const enum request request = ost_events[i].request;

		if (ost_events[i].event != event || ost_events[i].unfinished == status)
			continue;
		news->ost = take_answer(request == REQUEST_EJECT ? &dimm->eject : &dimm->insert,
					request, status);
		news->event = event;
		news->status = status;
	}
}

static void write_register(struct acpi_memory *memory, uint64_t reg, uint32_t value,
			   struct news *news)
{
	struct acpi_dimm *dimm = dimm_at(memory, memory->selected);

	news->slot = memory->selected;
	if (reg == DIMM_REG_SELECT)
		memory->selected = value;
	else if (dimm && reg == DIMM_REG_STATE)
		write_state(dimm, value, news);
	else if (dimm && reg == DIMM_REG_OST_EVENT)
		memory->ost_event = value;
	else if (dimm && reg == DIMM_REG_OST_STATUS)
		write_ost(dimm, memory->ost_event, value, news);
}

/* ---- ports ---- */

static bool is_register(uint64_t offset, uint32_t size)
{
	return size == REG_BYTES && offset % REG_BYTES == 0;
}

static uint64_t memory_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct acpi_memory *memory = ctx;
	uint32_t value = 0;

	if (!is_register(offset, size))
		return 0;
	pthread_mutex_lock(&memory->lock);
	const struct acpi_dimm *dimm = dimm_at(memory, memory->selected);

	if (offset == DIMM_REG_SELECT)
		value = memory->selected;
	else if (dimm)
		value = read_register(dimm, offset);
	pthread_mutex_unlock(&memory->lock);
	return value;
}

static void memory_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct acpi_memory *memory = ctx;
	const struct acpi_memory_hooks *hooks = &memory->hooks;
	struct news news = { .ejected = false };

	if (!is_register(offset, size))
		return;
	pthread_mutex_lock(&memory->lock);
	write_register(memory, offset, (uint32_t)value, &news);
	pthread_mutex_unlock(&memory->lock);
	if (news.ejected && hooks->ejected)
		hooks->ejected(hooks->ctx, news.slot, news.asked);
	if (news.ost && hooks->ost)
		hooks->ost(hooks->ctx, news.slot, news.event, news.status);
}

static const struct bus_ops memory_ops = { .read = memory_read, .write = memory_write };

int acpi_memory_attach(struct acpi_memory *memory, struct bus *ports)
{
	pthread_mutex_init(&memory->lock, NULL);
	return bus_add(ports, LAYOUT_PORT_DIMM, LAYOUT_PORT_DIMM_BYTES, &memory_ops, memory);
}

/* ---- the VMM's side ---- */

/* Without an interrupt the event waits for the next one: what was done stays done. */
static void raise_event(struct acpi_memory *memory)
{
	const int ret = acpi_ged_raise(memory->regs, GED_MEMORY);

	if (ret != 0)
		log_warn("memory: KVM takes no interrupt for the guest's event: %s",
			 strerror(-ret));
}

int acpi_memory_insert(struct acpi_memory *memory, uint32_t slot, uint64_t gpa, uint64_t bytes,
		       uint32_t node)
{
	struct acpi_dimm *dimm = dimm_at(memory, slot);
	int ret = 0;

	if (!dimm || node >= LAYOUT_NODES_MAX || bytes == 0 || gpa + bytes < gpa)
		return -EINVAL;
	pthread_mutex_lock(&memory->lock);
	if (dimm->present)
		ret = -EEXIST;
	else
		*dimm = (struct acpi_dimm){ .present = true,
					    .gpa = gpa,
					    .bytes = bytes,
					    .node = node,
					    .events = DIMM_INSERTED,
					    .insert.is = DIMM_ANSWER_WAITED };
	pthread_mutex_unlock(&memory->lock);
	if (ret == 0)
		raise_event(memory);
	return ret;
}

int acpi_memory_ask_eject(struct acpi_memory *memory, uint32_t slot)
{
	struct acpi_dimm *dimm = dimm_at(memory, slot);
	int ret = 0;

	if (!dimm)
		return -EINVAL;
	pthread_mutex_lock(&memory->lock);
	if (dimm->present) {
		dimm->events |= DIMM_EJECT_ASKED;
		dimm->eject = (struct dimm_said){ .is = DIMM_ANSWER_WAITED };
	} else {
		ret = -ENOENT;
	}
	pthread_mutex_unlock(&memory->lock);
	if (ret == 0)
		raise_event(memory);
	return ret;
}

int acpi_memory_get(struct acpi_memory *memory, uint32_t slot, struct acpi_dimm *out)
{
	const struct acpi_dimm *dimm = dimm_at(memory, slot);

	if (!dimm)
		return -EINVAL;
	pthread_mutex_lock(&memory->lock);
	*out = *dimm;
	pthread_mutex_unlock(&memory->lock);
	return 0;
}

/* True: it was asked to eject, and is not any more. */
static bool reset_dimm(struct acpi_dimm *dimm)
{
	const bool waited = dimm->eject.is == DIMM_ANSWER_WAITED;

	*dimm = (struct acpi_dimm){
		.present = dimm->present, .gpa = dimm->gpa, .bytes = dimm->bytes, .node = dimm->node
	};
	return waited;
}

void acpi_memory_reset(struct acpi_memory *memory)
{
	bool forgotten[LAYOUT_DIMMS_MAX];

	pthread_mutex_lock(&memory->lock);
	memory->selected = 0;
	memory->ost_event = 0;
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++)
		forgotten[i] = reset_dimm(&memory->dimms[i]);
	pthread_mutex_unlock(&memory->lock);
	for (uint32_t i = 0; i < LAYOUT_DIMMS_MAX; i++)
		if (forgotten[i] && memory->hooks.forgotten)
			memory->hooks.forgotten(memory->hooks.ctx, i);
}
