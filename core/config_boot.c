/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two values that clients of Firecracker write by habit: the kernel's command line, made for a
 * machine without PCI, and the log's level.
 *
 * The command line is read in words as the kernel reads it: spaces part them but within double quotes,
 * and what follows `--` is init's.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "core/cc.h"
#include "core/config_fields.h"
#include "core/log.h"
#include "core/options.h"

/* ---- boot_args ---- */

static const struct {
	const char *word;
	const char *why;
} dropped[] = {
	{ "pci=off", "the devices of this machine are on PCI" },
	/* Firecracker has PICs besides; firectl says it unless told not to. */
	{ "noapic", "serial port and power button have no other way to interrupt" },
};

/* The length of the word at text, spaces in quotes included. */
static size_t word_length(const char *text)
{
	bool quoted = false;
	size_t n = 0;

	for (; text[n] != '\0' && (quoted || text[n] != ' '); n++)
		quoted ^= text[n] == '"';
	return n;
}

/* Takes the word out wherever it stands; how often it did. */
static uint32_t drop_word(char *text, const char *word)
{
	const size_t length = strlen(word);
	char *p = text + strspn(text, " ");
	uint32_t count = 0;

	for (size_t n; *p != '\0' && strcmp(p, "--") != 0 && strncmp(p, "-- ", 3) != 0;) {
		n = word_length(p);
		n += strspn(p + n, " ");
		if (strncmp(p, word, length) != 0 || (p[length] != ' ' && p[length] != '\0')) {
			p += n;
			continue;
		}
		memmove(p, p + n, strlen(p + n) + 1);
		count++;
	}
	/* The space before a word that was the last. */
	for (size_t n = strlen(text); count != 0 && n > 0 && text[n - 1] == ' '; n--)
		text[n - 1] = '\0';
	return count;
}

int config_boot_args(const struct option *o, const char *text, void *field,
		     struct option_error *error)
{
	if (option_text(o, text, field, error) != 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++) {
		if (drop_word(field, dropped[i].word) != 0)
			log_warn("boot_args: %s is left out: %s", dropped[i].word, dropped[i].why);
	}
	return 0;
}

/* ---- level ---- */

/* The first name of a level is the one that is shown. */
static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
	{ "Off", LOG_LEVEL_OFF },     { "Error", LOG_LEVEL_ERROR }, { "Warning", LOG_LEVEL_WARN },
	{ "Warn", LOG_LEVEL_WARN },   { "Info", LOG_LEVEL_INFO },   { "Debug", LOG_LEVEL_DEBUG },
	{ "Trace", LOG_LEVEL_DEBUG }, /* there is nothing finer */
};

static int level_take(const struct config_field *f, const json_t *value, void *field,
		      struct option_error *error)
{
	(void)f;
	if (!json_is_string(value))
		return option_fail(error, "is not a string");
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcasecmp(levels[i].name, json_string_value(value)) == 0) {
			*(uint32_t *)field = levels[i].level;
			return 0;
		}
	}
	return option_fail(error, "'%.40s' is not Error, Warning, Info, Debug, Trace or Off",
			   json_string_value(value));
}

static json_t *level_give(const struct config_field *f, const void *field)
{
	const uint32_t level = *(const uint32_t *)field;
	size_t i = 0;

	(void)f;
	while (i < ARRAY_SIZE(levels) - 1 && levels[i].level != level)
		i++;
	return json_string(levels[i].name);
}

const struct config_type config_level = { level_take, level_give };
