/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document.  Every number that a box could choose is shown as a number, every byte of its own in
 * hex; no text of it is.  What is not known is null.
 */
#include "core/box/autopsy.h"

#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "core/cc.h"
#include "devmodel/abi/seal.h"

void autopsy_note(struct autopsy_messages *messages, const struct autopsy_message *message)
{
	messages->last[messages->next++ % AUTOPSY_MESSAGES] = *message;
}

uint32_t autopsy_stack_span(const struct autopsy *a)
{
	const uint64_t off = a->registers.rsp - a->stack_addr; /* below wraps to beyond */
	const uint64_t left = BOX_STACK_BYTES - off;

	if (!a->has_registers || a->stack_addr == 0 || off >= BOX_STACK_BYTES)
		return 0;
	return (uint32_t)(left < AUTOPSY_STACK_BYTES ? left : AUTOPSY_STACK_BYTES);
}

static json_t *hex(uint64_t value)
{
	return json_sprintf("0x%llx", (unsigned long long)value);
}

static json_t *number(uint64_t value)
{
	/* JSON's numbers end below 2^63 here; what does not fit is no time or count of ours. */
	return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

void autopsy_time(uint64_t wall_ns, char text[AUTOPSY_TIME_BYTES])
{
	const time_t seconds = (time_t)(wall_ns / NS_PER_S);
	struct tm tm = { 0 };
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(text, AUTOPSY_TIME_BYTES - sizeof(".123456Z"), "%FT%T", &tm);
	snprintf(text + n, AUTOPSY_TIME_BYTES - n, ".%06uZ",
		 (uint32_t)(wall_ns % NS_PER_S / NS_PER_US));
}

static json_t *time_json(uint64_t wall_ns)
{
	char text[AUTOPSY_TIME_BYTES];

	autopsy_time(wall_ns, text);
	return json_string(text);
}

static json_t *signal_json(const struct autopsy *a)
{
	const char *name = sigabbrev_np(a->killed_by);

	if (!a->cause_known || a->killed_by == 0)
		return json_null();
	return json_pack("{s:i, s:s}", "number", a->killed_by, "name",
			 name != NULL ? name : "real-time");
}

static json_t *exit_json(const struct autopsy *a)
{
	return a->cause_known && a->killed_by == 0 ? json_integer(a->exit_code) : json_null();
}

/* Held by the listener; or, of a box that was stopped, the call that it was in. */
static json_t *call_json(const struct autopsy *a)
{
	const struct user_regs_struct *r = &a->registers;
	const struct autopsy_call stopped = {
		.known = a->has_registers && (int64_t)r->orig_rax >= 0,
		.number = (int32_t)r->orig_rax,
		.address = r->rip,
		.args = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 },
	};
	const struct autopsy_call *call = a->call.known ? &a->call : &stopped;
	json_t *args;

	if (!call->known)
		return json_null();
	args = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(call->args); i++)
		json_array_append_new(args, hex(call->args[i]));
	return json_pack("{s:i, s:b, s:o, s:o}", "number", call->number, "forbidden", a->call.known,
			 "address", hex(call->address), "arguments", args);
}

/* clang-format off */
#define REGISTERS(X)                                                                               \
	X(rip) X(rsp) X(rbp) X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi)                             \
	X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15)                                      \
	X(orig_rax) X(eflags) X(cs) X(ss) X(fs_base) X(gs_base)
/* clang-format on */

static json_t *registers_json(const struct autopsy *a)
{
	json_t *registers;

	if (!a->has_registers)
		return json_null();
	registers = json_object();
#define REGISTER_JSON(name) json_object_set_new(registers, #name, hex(a->registers.name));
	REGISTERS(REGISTER_JSON)
#undef REGISTER_JSON
	return registers;
}

static json_t *stack_json(const struct autopsy *a)
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * AUTOPSY_STACK_BYTES];
	const uint32_t n = a->stack_bytes;

	if (n == 0 || n > sizeof(a->stack))
		return json_null();
	for (uint32_t i = 0; i < n; i++) {
		text[2 * i] = digits[a->stack[i] >> 4];
		text[2 * i + 1] = digits[a->stack[i] & 15];
	}
	return json_pack("{s:o, s:o}", "address", hex(a->registers.rsp), "bytes",
			 json_stringn(text, 2 * (size_t)n));
}

static void map_add(json_t *map, const char *what, uint64_t addr, uint64_t bytes)
{
	json_array_append_new(map,
			      json_pack("{s:s, s:o, s:o, s:s}", "what", what, "address", hex(addr),
					"bytes", number(bytes), "protection", "rw-"));
}

/* Of what the launch record named; code and data of the program lie where exec put them. */
static json_t *map_json(const struct autopsy *a)
{
	json_t *map = json_array();

	if (a->stack_addr != 0)
		map_add(map, "stack", a->stack_addr, BOX_STACK_BYTES);
	if (a->state_addr != 0)
		map_add(map, "state", a->state_addr, STATE_PAGE_BYTES);
	for (uint32_t i = 0; i < a->map.count && i < MEM_REGIONS_MAX; i++)
		map_add(map, "memory", a->map.regions[i].addr, a->map.regions[i].bytes);
	if (a->log_bytes != 0)
		map_add(map, "log", a->log_addr, a->log_bytes);
	return map;
}

static json_t *queues_json(const struct autopsy *a)
{
	json_t *queues = json_array();

	for (uint32_t i = 0; i < a->queues && i < BOX_QUEUES_MAX; i++) {
		const struct autopsy_ring *r = &a->rings[i];

		if (r->size != 0)
			json_array_append_new(queues, json_pack("{s:i, s:i, s:i, s:i, s:i}",
								"queue", (int)i, "size", r->size,
								"audited", r->audited, "used",
								r->used, "avail", r->avail));
	}
	return queues;
}

static const char *message_name(const struct autopsy_message *m)
{
	static const char *const sent[] = {
#define CTL_NAME(NAME, number, text) [number] = #NAME,
		CTL_TYPES(CTL_NAME)
#undef CTL_NAME
	};
	static const char *const reports[] = {
#define REPORT_NAME(NAME, number, text) [number] = #NAME,
		REPORT_TYPES(REPORT_NAME)
#undef REPORT_NAME
	};

	if (m->sent)
		return m->type < ARRAY_SIZE(sent) ? sent[m->type] : NULL;
	return m->type < ARRAY_SIZE(reports) ? reports[m->type] : NULL;
}

/* Oldest first. */
static json_t *messages_json(const struct autopsy *a)
{
	json_t *messages = json_array();

	for (uint32_t i = 0; i < AUTOPSY_MESSAGES; i++) {
		const struct autopsy_message *m =
			&a->messages.last[(a->messages.next + i) % AUTOPSY_MESSAGES];

		if (m->at_ns == 0)
			continue;
		json_array_append_new(
			messages,
			json_pack("{s:o, s:s, s:I, s:s?, s:I, s:o}", "t_us",
				  number(m->at_ns / NS_PER_US), "from", m->sent ? "vmm" : "box",
				  "type", (json_int_t)m->type, "name", message_name(m), "value",
				  (json_int_t)m->value, "detail", hex(m->detail)));
	}
	return messages;
}

static json_t *seal_json(const struct autopsy *a)
{
	static const char *const names[] = {
#define LAYER_NAME(NAME, name, text) #name,
		SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
	};
	json_t *seal = json_array();

	for (uint32_t i = 0; i < SEAL_LAYER_COUNT; i++) {
		if (a->seal & (1u << i))
			json_array_append_new(seal, json_string(names[i]));
	}
	return seal;
}

static json_t *autopsy_json(const struct autopsy *a)
{
	return json_pack(
		"{s:s, s:s, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, "
		"s:o, s:o, s:o, s:o}",
		"device", a->device, "kind", dev_kind_name(a->kind), "generation",
		number(a->generation), "epoch", (json_int_t)a->epoch, "lane", (json_int_t)a->lane,
		"lanes", (json_int_t)a->lanes, "time", time_json(a->wall_ns), "t_us",
		number(a->at_ns / NS_PER_US), "age_us", number(a->age_ns / NS_PER_US), "reason",
		replace_reason_name(a->reason), "fence", fence_name(a->fence), "signal",
		signal_json(a), "exit_code", exit_json(a), "call", call_json(a), "registers",
		registers_json(a), "stack", stack_json(a), "map", map_json(a), "queues",
		queues_json(a), "messages", messages_json(a), "seal", seal_json(a));
}

size_t autopsy_format(const struct autopsy *a, char *out, size_t room)
{
	json_t *document = autopsy_json(a);
	const size_t n = json_dumpb(document, out, room, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(document);
	return n <= room ? n : 0;
}
