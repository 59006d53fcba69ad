/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The hash covers every byte of the envelope but its own field, which counts
 * as zeroes, and then the record.  So whatever is damaged, header or content, gives -EBADMSG, and
 * only an envelope that is whole is compared with what the caller wants: -EINVAL then says that the
 * record was put in the wrong place, not that it rotted.
 *
 * The envelope may lie in a file mapping: it is copied once and only the copy is looked at.
 */
#include "snapshot/envelope.h"

#include <errno.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* for a hash state that is not on the heap */
#include <xxhash.h>

static uint64_t envelope_hash(const struct envelope *env, const void *record, size_t bytes)
{
	struct envelope copy = *env;
	XXH3_state_t state;

	copy.xxh3 = 0;
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, &copy, sizeof(copy));
	XXH3_64bits_update(&state, record, bytes);
	return XXH3_64bits_digest(&state);
}

void envelope_seal(struct envelope *env, const void *record, size_t bytes)
{
	env->magic = ENVELOPE_MAGIC;
	env->version = ENVELOPE_VERSION;
	/* A length that the field cannot hold is one that envelope_open() never finds equal. */
	env->bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
	env->xxh3 = envelope_hash(env, record, bytes);
}

static int envelope_check_whole(const struct envelope *env, const void *record, size_t bytes)
{
	if (env->magic != ENVELOPE_MAGIC || env->version != ENVELOPE_VERSION)
		return -EBADMSG;
	if (env->provenance != ENVELOPE_HANDOFF && env->provenance != ENVELOPE_SNAPSHOT)
		return -EBADMSG;
	if (env->bytes != bytes || bytes >= UINT32_MAX)
		return -EBADMSG;
	return env->xxh3 == envelope_hash(env, record, bytes) ? 0 : -EBADMSG;
}

int envelope_open(const struct envelope *env, const void *record, size_t bytes,
		  const struct envelope *want)
{
	const struct envelope copy = *env;

	if (envelope_check_whole(&copy, record, bytes))
		return -EBADMSG;
	if (copy.kind != want->kind || copy.lane != want->lane ||
	    copy.state_class != want->state_class)
		return -EINVAL;
	return memcmp(copy.device, want->device, sizeof(copy.device)) ? -EINVAL : 0;
}
