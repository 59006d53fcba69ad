/* SPDX-License-Identifier: Apache-2.0 */
#include "core/config_fields.h"

#include <errno.h>
#include <string.h>

#include "core/cc.h"
#include "devmodel/common/rate.h"

#define MIB_SHIFT 20

int config_blame(struct option_error *error, const char *name, int ret)
{
	const struct option_error inner = *error;

	option_fail(error, "%.64s%s%.180s", name, ret == CONFIG_NAMED ? "." : ": ", inner.text);
	return CONFIG_NAMED;
}

/* ---- values ---- */

static int text_take(const struct config_field *f, const json_t *value, void *field,
		     struct option_error *error)
{
	const struct option o = { .min = f->min, .room = f->room, .arg = "" };

	if (!json_is_string(value))
		return option_fail(error, "is not a string");
	return f->parse(&o, json_string_value(value), field, error);
}

static json_t *text_give(const struct config_field *f, const void *field)
{
	(void)f;
	return *(const char *)field != '\0' ? json_string(field) : NULL;
}

const struct config_type config_text = { text_take, text_give };

static int integer(const struct config_field *f, const json_t *value, uint64_t *out,
		   struct option_error *error)
{
	const json_int_t n = json_integer_value(value);

	if (!json_is_integer(value))
		return option_fail(error, "is not a whole number");
	if (n < 0 || (uint64_t)n < f->min || (uint64_t)n > f->max)
		return option_fail(error, "%lld is not between %llu and %llu", (long long)n,
				   (unsigned long long)f->min, (unsigned long long)f->max);
	*out = (uint64_t)n;
	return 0;
}

static int number_take(const struct config_field *f, const json_t *value, void *field,
		       struct option_error *error)
{
	uint64_t n = 0;

	CHECK(f->max <= UINT32_MAX);
	if (integer(f, value, &n, error) != 0)
		return -EINVAL;
	*(uint32_t *)field = (uint32_t)n;
	return 0;
}

static json_t *number_give(const struct config_field *f, const void *field)
{
	(void)f;
	return json_integer(*(const uint32_t *)field);
}

const struct config_type config_number = { number_take, number_give };

static int mib_take(const struct config_field *f, const json_t *value, void *field,
		    struct option_error *error)
{
	uint64_t n = 0;

	if (integer(f, value, &n, error) != 0)
		return -EINVAL;
	*(uint64_t *)field = n << MIB_SHIFT;
	return 0;
}

static json_t *mib_give(const struct config_field *f, const void *field)
{
	(void)f;
	return json_integer((json_int_t)(*(const uint64_t *)field >> MIB_SHIFT));
}

const struct config_type config_mib = { mib_take, mib_give };

static int seconds_take(const struct config_field *f, const json_t *value, void *field,
			struct option_error *error)
{
	const double ms = json_number_value(value) * 1000;

	if (!json_is_number(value))
		return option_fail(error, "is not a number");
	if (!(ms >= (double)f->min && ms <= (double)f->max))
		return option_fail(error, "%g is not between %g and %g", ms / 1000,
				   (double)f->min / 1000, (double)f->max / 1000);
	*(uint64_t *)field = (uint64_t)(ms + 0.5);
	return 0;
}

static json_t *seconds_give(const struct config_field *f, const void *field)
{
	const uint64_t ms = *(const uint64_t *)field;

	(void)f;
	return ms != 0 ? json_real((double)ms / 1000) : NULL;
}

const struct config_type config_seconds = { seconds_take, seconds_give };

static int part_take(const struct config_field *f, const json_t *value, void *field,
		     struct option_error *error)
{
	const double part = json_number_value(value);

	(void)f;
	if (!json_is_number(value) || !(part >= 0 && part <= 1))
		return option_fail(error, "is not a number between 0 and 1");
	*(uint32_t *)field = (uint32_t)(part * 1000 + 0.5);
	return 0;
}

static json_t *part_give(const struct config_field *f, const void *field)
{
	(void)f;
	return json_real(*(const uint32_t *)field / 1000.0);
}

const struct config_type config_part = { part_take, part_give };

static int bool_take(const struct config_field *f, const json_t *value, void *field,
		     struct option_error *error)
{
	(void)f;
	if (!json_is_boolean(value))
		return option_fail(error, "is not true or false");
	*(bool *)field = json_is_true(value);
	return 0;
}

static json_t *bool_give(const struct config_field *f, const void *field)
{
	(void)f;
	return json_boolean(*(const bool *)field);
}

const struct config_type config_bool = { bool_take, bool_give };

static int false_take(const struct config_field *f, const json_t *value, void *field,
		      struct option_error *error)
{
	(void)f, (void)field;
	if (!json_is_boolean(value))
		return option_fail(error, "is not true or false");
	return json_is_false(value) ? 0 : option_fail(error, "true is not supported");
}

static json_t *false_give(const struct config_field *f, const void *field)
{
	(void)f, (void)field;
	return json_false();
}

const struct config_type config_false = { false_take, false_give };

static int only_take(const struct config_field *f, const json_t *value, void *field,
		     struct option_error *error)
{
	(void)field;
	if (!json_is_string(value))
		return option_fail(error, "is not a string");
	if (strcmp(json_string_value(value), f->only) != 0)
		return option_fail(error, "'%.40s' is not supported, only %s is",
				   json_string_value(value), f->only);
	return 0;
}

static json_t *only_give(const struct config_field *f, const void *field)
{
	(void)field;
	return json_string(f->only);
}

const struct config_type config_only = { only_take, only_give };

static int choice_take(const struct config_field *f, const json_t *value, void *field,
		       struct option_error *error)
{
	const struct option o = { .names = f->names };

	if (!json_is_string(value))
		return option_fail(error, "is not a string");
	return option_choice(&o, json_string_value(value), field, error);
}

/* A value that only the command line can name is not shown. */
static json_t *choice_give(const struct config_field *f, const void *field)
{
	const uint32_t value = *(const uint32_t *)field;

	for (uint32_t i = 0; f->names[i] != NULL; i++) {
		if (i == value)
			return json_string(f->names[i]);
	}
	return NULL;
}

const struct config_type config_choice = { choice_take, choice_give };

static int refused_take(const struct config_field *f, const json_t *value, void *field,
			struct option_error *error)
{
	(void)f, (void)value, (void)field;
	return option_fail(error, "not supported");
}

const struct config_type config_refused = { refused_take, NULL };

/* ---- objects ---- */

/* What a key of an object says stands below the object's own. */
static int object_take(const struct config_field *f, const json_t *value, void *field,
		       struct option_error *error)
{
	return config_take(f->table, value, field, NULL, error);
}

static json_t *object_give(const struct config_field *f, const void *field)
{
	json_t *object = config_give(f->table, field);

	if (json_object_size(object) != 0)
		return object;
	json_decref(object);
	return NULL;
}

const struct config_type config_object = { object_take, object_give };

#define BUCKET(key_, field_, required_, min_)                                                      \
	{                                                                                          \
		.key = (key_), .type = &bucket_number, .required = (required_),                    \
		.offset = offsetof(struct rate_limit, field_), .room = sizeof(uint64_t),           \
		.min = (min_), .max = INT64_MAX                                                    \
	}

static int bucket_number_take(const struct config_field *f, const json_t *value, void *field,
			      struct option_error *error)
{
	return integer(f, value, field, error);
}

static json_t *bucket_number_give(const struct config_field *f, const void *field)
{
	(void)f;
	return json_integer((json_int_t) * (const uint64_t *)field);
}

static const struct config_type bucket_number = { bucket_number_take, bucket_number_give };
static const struct config_field bucket_fields[] = {
	BUCKET("size", size, true, 1),
	BUCKET("one_time_burst", burst, false, 0),
	BUCKET("refill_time", refill_ms, true, 1),
};
static const struct config_table bucket_table = { bucket_fields, ARRAY_SIZE(bucket_fields), NULL };

/* The device program checks with the same function, so that it never refuses what was taken here. */
static int bucket_take(const struct config_field *f, const json_t *value, void *field,
		       struct option_error *error)
{
	const struct rate_limit none = { 0 };
	struct rate_limit limit = none;

	const int ret = config_take(&bucket_table, value, &limit, &none, error);

	if (ret != 0)
		return ret;
	(void)f;
	if (rate_check(&limit) != 0)
		return option_fail(error, "no such limit is possible (size, one_time_burst at most "
					  "2^62, refill_time at most 2^40 ms)");
	*(struct rate_limit *)field = limit;
	return 0;
}

static json_t *bucket_give(const struct config_field *f, const void *field)
{
	(void)f;
	return rate_limited(field) ? config_give(&bucket_table, field) : NULL;
}

const struct config_type config_bucket = { bucket_take, bucket_give };

/* ---- tables ---- */

static bool table_has(const struct config_table *table, const char *key)
{
	for (size_t i = 0; i < table->count; i++) {
		if (strcmp(table->fields[i].key, key) == 0)
			return true;
	}
	return false;
}

static int config_blame_unknown(struct option_error *error, const char *key)
{
	return config_blame(error, key, option_fail(error, "unknown key"));
}

static int check_keys(const struct config_table *table, const json_t *object,
		      struct option_error *error)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return option_fail(error, "is not an object");
	json_object_foreach((json_t *)object, key, value)
	{
		if (!table_has(table, key))
			return config_blame_unknown(error, key);
	}
	return 0;
}

/* As if none of its keys had been given. */
static void table_reset(const struct config_table *table, void *base, const void *defaults)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct config_field *f = &table->fields[i];

		if (f->table != NULL)
			table_reset(f->table, (char *)base + f->offset,
				    (const char *)defaults + f->offset);
		else
			memcpy((char *)base + f->offset, (const char *)defaults + f->offset,
			       f->room);
	}
}

static int field_take(const struct config_field *f, const json_t *value, void *base,
		      const void *defaults, struct option_error *error)
{
	int ret = 0;

	if (value != NULL && !json_is_null(value))
		ret = f->type->take(f, value, (char *)base + f->offset, error);
	else if (defaults != NULL && f->required)
		ret = option_fail(error, "must be given");
	else if (defaults == NULL || defaults == base)
		ret = 0;
	else if (f->table != NULL)
		table_reset(f->table, (char *)base + f->offset, (const char *)defaults + f->offset);
	else
		memcpy((char *)base + f->offset, (const char *)defaults + f->offset, f->room);
	return ret != 0 ? config_blame(error, f->key, ret) : 0;
}

int config_take(const struct config_table *table, const json_t *object, void *base,
		const void *defaults, struct option_error *error)
{
	int ret = check_keys(table, object, error);

	for (size_t i = 0; i < table->count && ret == 0; i++) {
		const struct config_field *f = &table->fields[i];

		ret = field_take(f, json_object_get(object, f->key), base, defaults, error);
	}
	if (ret == 0 && table->check != NULL && table->check(base, error) != 0)
		ret = CONFIG_NAMED;
	return ret;
}

json_t *config_give(const struct config_table *table, const void *base)
{
	json_t *object = json_object();

	for (size_t i = 0; i < table->count; i++) {
		const struct config_field *f = &table->fields[i];
		json_t *value = f->type->give != NULL
					? f->type->give(f, (const char *)base + f->offset)
					: NULL;

		if (value != NULL)
			json_object_set_new(object, f->key, value);
	}
	return object;
}
