/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser.  An option's value goes to its parse function with the address of its field; a group
 * is a set of its own inside a field, so `--memory 512M,max=8G` and the command line are handled by
 * the same code.  On an error each level puts its name before the text on the way out.
 */
#include "core/optparse.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "core/cc.h"

int option_fail(struct option_error *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Says where: puts "dashes name: " before the message. */
static int option_blame(struct option_error *error, const char *dashes, const char *name)
{
	const struct option_error inner = *error;

	return option_fail(error, "%s%s: %.200s", dashes, name, inner.text);
}

static uint64_t *set_given(const struct option_set *set, void *out)
{
	return (uint64_t *)(void *)((char *)out + set->given);
}

static const struct option *set_find(const struct option_set *set, const char *name)
{
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->options[i].name != NULL && strcmp(set->options[i].name, name) == 0)
			return &set->options[i];
	}
	return NULL;
}

static void set_fallbacks(const struct option_set *set, void *out)
{
	struct option_error error;

	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *o = &set->options[i];

		if (o->fallback != NULL)
			CHECK(o->parse(o, o->fallback, (char *)out + o->offset, &error) == 0);
	}
}

/* Groups do not hold groups. */
void options_default(const struct option_set *set, void *out)
{
	CHECK(set->count <= 64);
	memset(out, 0, set->bytes);
	set_fallbacks(set, out);
	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *o = &set->options[i];

		if (o->subset != NULL && o->repeat == 0)
			set_fallbacks(o->subset, (char *)out + o->offset);
	}
}

/* The next element of a repeated option; NULL: there are as many as can be. */
static void *option_next(const struct option *o, void *out)
{
	uint32_t *count = (uint32_t *)(void *)((char *)out + o->count_offset);

	if (*count == o->repeat)
		return NULL;
	return (char *)out + o->offset + (size_t)(*count)++ * o->room;
}

static int option_assign(const struct option_set *set, const struct option *o, void *out,
			 const char *value, struct option_error *error)
{
	const uint64_t bit = 1ull << (o - set->options);
	uint64_t *given = set_given(set, out);
	void *field = (char *)out + o->offset;

	if (o->arg == NULL && value != NULL)
		return option_fail(error, "takes no value");
	if (o->arg != NULL && value == NULL)
		return option_fail(error, "needs a value: %s", o->arg);
	if (o->repeat == 0 && (*given & bit))
		return option_fail(error, "given twice");
	if (o->repeat != 0) {
		field = option_next(o, out);
		if (field == NULL)
			return option_fail(error, "given more than %u times", o->repeat);
		if (o->subset != NULL)
			options_default(o->subset, field);
	}
	*given |= bit;
	return o->parse(o, value, field, error);
}

static int set_assign(const struct option_set *set, void *out, const char *dashes, const char *name,
		      const char *value, struct option_error *error)
{
	const struct option *o = set_find(set, name);

	if (o == NULL)
		return option_fail(error, "%s%.64s: unknown %s", dashes, name,
				   dashes[0] != '\0' ? "option" : "key");
	if (option_assign(set, o, out, value, error) != 0)
		return option_blame(error, dashes, o->name);
	return 0;
}

int options_assign(const struct option_set *set, void *out, const char *name, const char *value,
		   struct option_error *error)
{
	return set_assign(set, out, "--", name, value, error);
}

/* ---- groups ---- */

#define GROUP_BYTES_MAX 8192

/* The first item of `512M,max=8G`: a value without a name. */
static int group_first(const struct option_set *set, void *out, const char *item,
		       struct option_error *error)
{
	return option_assign(set, &set->options[0], out, item, error);
}

static int group_item(const struct option_set *set, void *out, char *item,
		      struct option_error *error)
{
	char *value = strchr(item, '=');

	if (value != NULL)
		*value++ = '\0';
	if (item[0] == '\0')
		return option_fail(error, "an empty key (a comma cannot be part of a value)");
	return set_assign(set, out, "", item, value, error);
}

static int group_required(const struct option_set *set, void *out, struct option_error *error)
{
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->options[i].required && !(*set_given(set, out) & 1ull << i))
			return option_fail(error, "needs %s=%s", set->options[i].name,
					   set->options[i].arg);
	}
	return set->check != NULL ? set->check(out, error) : 0;
}

int option_group(const struct option *o, const char *text, void *field, struct option_error *error)
{
	const struct option_set *set = o->subset;
	const size_t length = strlen(text);
	char copy[GROUP_BYTES_MAX];
	char *rest = copy, *item;
	int ret = 0;

	if (length >= sizeof(copy))
		return option_fail(error, "longer than %zu bytes", sizeof(copy) - 1);
	memcpy(copy, text, length + 1);
	item = strsep(&rest, ",");
	if (set->positional && strchr(item, '=') == NULL) {
		ret = group_first(set, field, item, error);
		item = strsep(&rest, ",");
	}
	for (; ret == 0 && item != NULL; item = strsep(&rest, ","))
		ret = group_item(set, field, item, error);
	return ret != 0 ? ret : group_required(set, field, error);
}

static void overlay_operands(const struct option_set *set, void *out, const void *from)
{
	if (set->operands == NULL)
		return;
	memcpy((char *)out + set->operands_offset, (const char *)from + set->operands_offset,
	       set->operands_max * sizeof(const char *));
	memcpy((char *)out + set->operand_count, (const char *)from + set->operand_count,
	       sizeof(uint32_t));
}

void options_overlay(const struct option_set *set, void *out, const void *from)
{
	const uint64_t given = *set_given(set, (void *)from);

	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *o = &set->options[i];
		char *to = (char *)out + o->offset;
		const char *value = (const char *)from + o->offset;

		if (!(given & 1ull << i) || o->repeat != 0)
			continue;
		if (o->subset != NULL)
			options_overlay(o->subset, to, value);
		else
			memcpy(to, value, o->room);
	}
	*set_given(set, out) |= given;
	overlay_operands(set, out, from);
}

/* ---- the command line ---- */

/* A word that is no option. */
static int take_operand(const struct option_set *set, const char *word, void *out,
			struct option_error *error)
{
	uint32_t *count = (uint32_t *)(void *)((char *)out + set->operand_count);
	const char **words = (const char **)(void *)((char *)out + set->operands_offset);

	if (set->operands == NULL || word[0] == '-' || *count == set->operands_max)
		return option_fail(error, "unexpected argument '%.64s'", word);
	words[(*count)++] = word;
	return 0;
}

/* Takes argv[*at], and argv[*at + 1] where it is the value. */
static int parse_one(const struct option_set *set, int argc, char *const *argv, int *at, void *out,
		     struct option_error *error)
{
	const char *arg = argv[*at];
	const char *value = strchr(arg, '=');
	const struct option *o;
	char name[64];

	if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0')
		return take_operand(set, arg, out, error);
	snprintf(name, sizeof(name), "%.*s", value != NULL ? (int)(value - arg - 2) : 63, arg + 2);
	if (value != NULL)
		return set_assign(set, out, "--", name, value + 1, error);
	o = set_find(set, name);
	/* A forgotten value must not swallow the next option; `--cmdline=--x` says that it is one. */
	if (o != NULL && o->arg != NULL && *at + 1 < argc && strncmp(argv[*at + 1], "--", 2) != 0)
		value = argv[++*at];
	return set_assign(set, out, "--", name, value, error);
}

int options_parse(const struct option_set *set, int argc, char *const *argv, void *out,
		  struct option_error *error)
{
	for (int i = 0; i < argc; i++) {
		int ret;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return OPTIONS_HELP;
		ret = parse_one(set, argc, argv, &i, out, error);
		if (ret != 0)
			return ret;
	}
	return set->check != NULL ? set->check(out, error) : 0;
}
