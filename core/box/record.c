/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State records on their way from one generation to the next.  They are bytes: copied once, when the
 * predecessor is fenced and can no longer change them, put into an envelope that says whose they are,
 * and handed to the successor of exactly that device, lane and class, which decodes them in its seal.
 * The copy outlives the predecessor: a successor may come late (cold), when nothing is left of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/box/internal.h"
#include "core/log.h"

static void record_label(struct envelope *env, const struct box *box, int state_class)
{
	const struct device_spec *spec = &box->gen->dev->spec;

	*env = (struct envelope){
		.provenance = ENVELOPE_HANDOFF,
		.state_class = (uint8_t)state_class,
		.kind = (uint32_t)spec->kind,
		.generation = box->gen->number,
		.lane = box->lane,
	};
	_Static_assert(sizeof(env->device) <= sizeof(spec->id), "an id without its NUL");
	memcpy(env->device, spec->id, strnlen(spec->id, sizeof(env->device)));
}

/* Whether the passage under way hands this class on. */
static bool record_travels(const struct device *dev, int state_class)
{
	return dev->passage.carried && (state_class != STATE_CONTROL || dev->passage.carry);
}

void record_take(struct device *dev, const struct box *box)
{
	for (int c = 0; c < STATE_CLASSES; c++) {
		struct record *r = &dev->records[box->lane * STATE_CLASSES + (uint32_t)c];
		const uint32_t bytes = dev->loaded ? r->envelope.bytes : box->record_bytes[c];

		if (!record_travels(dev, c))
			continue;
		if (!dev->loaded)
			memcpy(r->bytes, box->page->record[c], bytes);
		record_label(&r->envelope, box, c);
		envelope_seal(&r->envelope, r->bytes, bytes);
	}
}

uint32_t record_give(const struct box *box, uint8_t *out, uint32_t *bytes)
{
	const struct device *dev = box->gen->dev;
	uint32_t n = 0;

	for (int c = 0; c < STATE_CLASSES; c++) {
		const struct record *r = &dev->records[box->lane * STATE_CLASSES + (uint32_t)c];
		struct envelope want;

		bytes[c] = 0;
		if (!record_travels(dev, c))
			continue;
		record_label(&want, box, c);
		const uint32_t held = r->envelope.bytes;

		if (held > sizeof(r->bytes) ||
		    envelope_open(&r->envelope, r->bytes, held, &want) != 0 ||
		    r->envelope.generation != dev->passage.from) {
			/* Memory of this process that changed: nobody starts from that. */
			log_error("%s: the state record of generation %llu is damaged: not carried",
				  dev->spec.id, (unsigned long long)dev->passage.from);
			continue;
		}
		bytes[c] = held;
		memcpy(out + n, r->bytes, bytes[c]);
		n += bytes[c];
	}
	return n;
}

/* ---- elsewhere, later ---- */

struct record_call {
	struct device *dev;
	uint8_t *out;
	const uint8_t *in;
	size_t room, bytes;
	int ret;
};

static uint32_t record_count(const struct device *dev)
{
	return dev->spec.lanes * STATE_CLASSES;
}

/* Whose it is is said by what it is in. */
static void record_anonymous(struct envelope *env, const struct device *dev, uint32_t i)
{
	*env = (struct envelope){
		.provenance = ENVELOPE_SNAPSHOT,
		.state_class = (uint8_t)(i % STATE_CLASSES),
		.kind = (uint32_t)dev->spec.kind,
		.lane = i / STATE_CLASSES,
	};
}

static void call_save(void *arg)
{
	struct record_call *call = arg;
	const struct device *dev = call->dev;

	for (uint32_t i = 0; dev->passage.carried && i < record_count(dev); i++) {
		const struct record *r = &dev->records[i];
		const uint32_t n = r->envelope.bytes;
		struct envelope env;

		if (!record_travels(dev, (int)(i % STATE_CLASSES)))
			continue;
		if (call->room - call->bytes < sizeof(env) + n) {
			call->ret = -ENOSPC;
			return;
		}
		record_anonymous(&env, dev, i);
		envelope_seal(&env, r->bytes, n);
		memcpy(call->out + call->bytes, &env, sizeof(env));
		memcpy(call->out + call->bytes + sizeof(env), r->bytes, n);
		call->bytes += sizeof(env) + n;
	}
}

int device_save(struct device *dev, void *out, size_t room, size_t *bytes)
{
	struct record_call call = { .dev = dev, .out = out, .room = room };

	loop_call(dev->sup->loop, call_save, &call);
	*bytes = call.bytes;
	return call.ret;
}

/* The next of those that lie at in, into its place.  The bytes that it took, or -errno. */
static int record_parse(const struct device *dev, const uint8_t *in, size_t bytes,
			struct record *records)
{
	struct envelope env, want;
	uint32_t i;

	if (bytes < sizeof(env))
		return -EBADMSG;
	memcpy(&env, in, sizeof(env));
	if (env.bytes > STATE_RECORD_MAX || env.bytes > bytes - sizeof(env))
		return -EBADMSG;
	if (env.state_class >= STATE_CLASSES || env.lane >= dev->spec.lanes)
		return -EINVAL;
	i = env.lane * STATE_CLASSES + env.state_class;
	record_anonymous(&want, dev, i);
	const int ret = envelope_open(&env, in + sizeof(env), env.bytes, &want);

	if (ret != 0)
		return ret;
	records[i].envelope = env;
	memcpy(records[i].bytes, in + sizeof(env), env.bytes);
	return (int)(sizeof(env) + env.bytes);
}

static void call_load(void *arg)
{
	struct record_call *call = arg;
	struct device *dev = call->dev;
	struct record *records = calloc(record_count(dev), sizeof(*records));
	int n = records != NULL ? 0 : -ENOMEM;

	for (size_t at = 0; n >= 0 && at < call->bytes; at += (size_t)n)
		n = record_parse(dev, call->in + at, call->bytes - at, records);
	if (n < 0) {
		call->ret = n;
		free(records);
		return;
	}
	free(dev->records);
	dev->records = records;
	dev->passage.carried = false; /* these are not that one's */
	dev->loaded = true;
}

int device_load(struct device *dev, const void *in, size_t bytes)
{
	struct record_call call = { .dev = dev, .in = in, .bytes = bytes };

	loop_call(dev->sup->loop, call_load, &call);
	return call.ret;
}
