/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State records on their way from one generation to the next.  They are bytes: copied once, when the
 * predecessor is fenced and can no longer change them, put into an envelope that says whose they are,
 * and handed to the successor of exactly that device, lane and class, which decodes them in its seal.
 * The copy outlives the predecessor: a successor may come late (cold), when nothing is left of it.
 */
#include <errno.h>
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

		if (!record_travels(dev, c))
			continue;
		memcpy(r->bytes, box->page->record[c], box->record_bytes[c]);
		record_label(&r->envelope, box, c);
		envelope_seal(&r->envelope, r->bytes, box->record_bytes[c]);
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
