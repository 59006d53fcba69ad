/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values.  All are strict: decimal, no sign, no space, nothing left over, and within the range of
 * the option, which the message gives in the notation that it was to be written in.
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/cc.h"
#include "core/optparse.h"

#define ID_MAX 64

/* A unit and how many of the field's it is; ascending. */
struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },           { "K", 1ull << 10 }, { "M", 1ull << 20 },
	{ "G", 1ull << 30 }, { "T", 1ull << 40 },
};

static const struct unit duration_units[] = {
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60 * 1000ull },
	{ "h", 3600 * 1000ull },
};

int option_decimal(const char *text, size_t length, uint64_t *value)
{
	uint64_t n = 0;

	if (length == 0)
		return -EINVAL;
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)text[i]) || __builtin_mul_overflow(n, 10ull, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(text[i] - '0'), &n))
			return -EINVAL;
	}
	*value = n;
	return 0;
}

int option_flag(const struct option *o, const char *text, void *field, struct option_error *error)
{
	(void)o, (void)text, (void)error;
	*(bool *)field = true;
	return 0;
}

int option_text(const struct option *o, const char *text, void *field, struct option_error *error)
{
	const size_t length = strlen(text);

	if (length < o->min)
		return option_fail(error, "must not be empty");
	if (length >= o->room)
		return option_fail(error, "longer than %u bytes", o->room - 1);
	for (size_t i = 0; i < length; i++) {
		if (iscntrl((unsigned char)text[i]))
			return option_fail(error, "control characters are not allowed");
	}
	memcpy(field, text, length + 1);
	return 0;
}

int option_id(const struct option *o, const char *text, void *field, struct option_error *error)
{
	const size_t length = strlen(text);

	CHECK(o->room == ID_MAX + 1);
	if (length == 0 || length > ID_MAX ||
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") !=
		    length)
		return option_fail(error, "'%.70s' is not 1 to %d characters of A-Z a-z 0-9 _ -",
				   text, ID_MAX);
	memcpy(field, text, length + 1);
	return 0;
}

int option_number(const struct option *o, const char *text, void *field, struct option_error *error)
{
	uint64_t value;

	CHECK(o->max <= UINT32_MAX);
	if (option_decimal(text, strlen(text), &value) != 0)
		return option_fail(error, "'%.40s' is not a number", text);
	if (value < o->min || value > o->max)
		return option_fail(error, "%.40s is not between %llu and %llu", text,
				   (unsigned long long)o->min, (unsigned long long)o->max);
	*(uint32_t *)field = (uint32_t)value;
	return 0;
}

/* In the largest unit that divides it. */
static void unit_format(char *out, size_t room, const struct unit *units, size_t count,
			uint64_t value)
{
	size_t i = count - 1;

	while (i > 0 && (value == 0 || value % units[i].factor != 0))
		i--;
	snprintf(out, room, "%llu%s", (unsigned long long)(value / units[i].factor), units[i].name);
}

/* `digits unit` to a value in the smallest unit. 0 or -EINVAL. */
static int unit_parse(const char *text, const struct unit *units, size_t count,
		      int (*compare)(const char *, const char *), uint64_t *value)
{
	const size_t digits = strspn(text, "0123456789");

	if (option_decimal(text, digits, value) != 0)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (compare(text + digits, units[i].name) == 0)
			return __builtin_mul_overflow(*value, units[i].factor, value) ? -EINVAL : 0;
	}
	return -EINVAL;
}

static int unit_range(const struct option *o, const char *text, uint64_t value,
		      const struct unit *units, size_t count, struct option_error *error)
{
	char min[32], max[32];

	if (value >= o->min && value <= o->max)
		return 0;
	unit_format(min, sizeof(min), units, count, o->min);
	unit_format(max, sizeof(max), units, count, o->max);
	return option_fail(error, "%.40s is not between %s and %s", text, min, max);
}

int option_size(const struct option *o, const char *text, void *field, struct option_error *error)
{
	uint64_t value;

	if (unit_parse(text, size_units, ARRAY_SIZE(size_units), strcasecmp, &value) != 0)
		return option_fail(error, "'%.40s' is not a size such as 512M or 8G", text);
	if (unit_range(o, text, value, size_units, ARRAY_SIZE(size_units), error) != 0)
		return -EINVAL;
	*(uint64_t *)field = value;
	return 0;
}

int option_duration(const struct option *o, const char *text, void *field,
		    struct option_error *error)
{
	uint64_t value;

	if (unit_parse(text, duration_units, ARRAY_SIZE(duration_units), strcmp, &value) != 0)
		return option_fail(error, "'%.40s' is not a duration such as 30s, 500ms or 2m",
				   text);
	if (unit_range(o, text, value, duration_units, ARRAY_SIZE(duration_units), error) != 0)
		return -EINVAL;
	*(uint64_t *)field = value;
	return 0;
}

/* Up to three digits after the point: thousandths. */
static int fraction_parse(const char *text, uint64_t *value)
{
	const char *point = strchr(text, '.');
	const size_t before = point != NULL ? (size_t)(point - text) : strlen(text);
	uint64_t whole, parts = 0;

	if (option_decimal(text, before, &whole) != 0 || whole > 1)
		return -EINVAL;
	if (point != NULL) {
		const size_t after = strlen(point + 1);
		char padded[4] = "000";

		if (after == 0 || after > 3)
			return -EINVAL;
		memcpy(padded, point + 1, after);
		if (option_decimal(padded, 3, &parts) != 0)
			return -EINVAL;
	}
	*value = whole * 1000 + parts;
	return *value <= 1000 ? 0 : -EINVAL;
}

int option_fraction(const struct option *o, const char *text, void *field,
		    struct option_error *error)
{
	uint64_t value;

	(void)o;
	if (fraction_parse(text, &value) != 0)
		return option_fail(error, "'%.40s' is not between 0 and 1, as in 0.25", text);
	*(uint32_t *)field = (uint32_t)value;
	return 0;
}

/* "a, b or c". */
static void choice_list(const char *const *names, char *out, size_t room)
{
	size_t n = 0;

	for (uint32_t i = 0; names[i] != NULL && n < room; i++)
		n += (size_t)snprintf(out + n, room - n, "%s%s",
				      i == 0                 ? ""
				      : names[i + 1] == NULL ? " or "
							     : ", ",
				      names[i]);
}

int option_choice(const struct option *o, const char *text, void *field, struct option_error *error)
{
	char list[160];

	for (uint32_t i = 0; o->names[i] != NULL; i++) {
		if (strcmp(o->names[i], text) == 0) {
			*(uint32_t *)field = i;
			return 0;
		}
	}
	choice_list(o->names, list, sizeof(list));
	return option_fail(error, "'%.40s' is not %s", text, list);
}
