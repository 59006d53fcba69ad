/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the option tables say, for people: `--help` and the manual page.  Whatever is printed here
 * comes from the tables, so that it cannot differ from what is parsed.
 */
#include <string.h>

#include "core/cc.h"
#include "core/optparse.h"

#define HELP_COLUMN 26

/* ---- --help ---- */

/* What stands behind an option's own text. */
static void help_notes(FILE *out, const struct option *o)
{
	if (o->fallback != NULL)
		fprintf(out, " (default: %s)", o->fallback);
	if (o->required)
		fputs(" (must be given)", out);
	if (o->repeat != 0)
		fprintf(out, " (up to %u times)", o->repeat);
}

static void help_line(FILE *out, const char *lead, const char *equals, const struct option *o)
{
	int n = fprintf(out, "%s%s%s%s", lead, o->name, o->arg != NULL ? equals : "",
			o->arg != NULL ? o->arg : "");

	/* What is too long for the column has a line of its own. */
	if (n >= HELP_COLUMN) {
		fputc('\n', out);
		n = 0;
	}
	fprintf(out, "%*s%s", HELP_COLUMN - n, "", o->text);
	help_notes(out, o);
	fputc('\n', out);
}

static void help_set(FILE *out, const struct option_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *o = &set->options[i];

		if (o->name == NULL)
			continue;
		help_line(out, "  --", " ", o);
		for (uint32_t k = 0; o->subset != NULL && k < o->subset->count; k++)
			help_line(out, "      ", "=", &o->subset->options[k]);
	}
}

void verb_help(FILE *out, const struct verb *verb)
{
	fprintf(out, "usage: mayfly %s%s%s [option]..\n%s\n\n", verb->name,
		verb->set->operands != NULL ? " " : "",
		verb->set->operands != NULL ? verb->set->operands : "", verb->text);
	help_set(out, verb->set);
	fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "--help", "this text");
}

void verbs_help(FILE *out, const struct verb *verbs, size_t count)
{
	fputs("usage: mayfly VERB [option]..   mayfly VERB --help says which options\n\n", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, verbs[i].name, verbs[i].text);
	fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "--version", "the version");
	fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, "--man", "the manual page, for man -l");
}

/* ---- mayfly(1) ---- */

/* Text in which nothing is troff's. */
static void man_text(FILE *out, const char *text)
{
	if (text[0] == '.' || text[0] == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void man_option(FILE *out, const char *dashes, const char *equals, const struct option *o)
{
	fputs(".TP\n.B ", out);
	man_text(out, dashes);
	man_text(out, o->name);
	if (o->arg != NULL) {
		fputs("\\fR", out);
		fputs(equals, out);
		fputs("\\fI", out);
		man_text(out, o->arg);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	man_text(out, o->text);
	help_notes(out, o);
	fputs(".\n", out);
	if (o->json != NULL) {
		fputs("In a configuration file: \\fB", out);
		man_text(out, o->json);
		fputs("\\fR.\n", out);
	}
}

static void man_set(FILE *out, const struct option_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		const struct option *o = &set->options[i];

		if (o->name != NULL)
			man_option(out, "--", " ", o);
		if (o->name == NULL || o->subset == NULL)
			continue;
		fputs(".RS\n", out);
		for (uint32_t k = 0; k < o->subset->count; k++)
			man_option(out, "", "=", &o->subset->options[k]);
		fputs(".RE\n", out);
	}
}

static void man_verb(FILE *out, const struct verb *verb)
{
	fprintf(out, ".SS mayfly %s\n", verb->name);
	if (verb->set->operands != NULL) {
		fputs(".B ", out);
		man_text(out, verb->set->operands);
		fputs("\n.PP\n", out);
	}
	man_text(out, verb->man);
	fputc('\n', out);
	man_set(out, verb->set);
}

void verbs_man(FILE *out, const struct verb *verbs, size_t count)
{
	fputs(".\\\" Made from the option tables: make man\n", out);
	fputs(".TH MAYFLY 1 \"\" \"mayfly " MAYFLY_VERSION "\"\n"
	      ".SH NAME\nmayfly \\- a virtual machine monitor whose device models are sealed and "
	      "replaceable\n"
	      ".SH SYNOPSIS\n.B mayfly\n.I VERB\n[\\fIoption\\fR]..\n"
	      ".SH VERBS\n",
	      out);
	for (size_t i = 0; i < count; i++)
		man_verb(out, &verbs[i]);
	fputs(".SH VALUES\n"
	      "A SIZE is a number of bytes, with K, M, G or T of so many KiB, MiB, GiB or TiB; a\n"
	      "DURATION a number with ms, s, m or h; an ID or NAME 1 to 64 of A\\-Z a\\-z 0\\-9 _ "
	      "\\-.\n"
	      "An option's value follows it as the next argument or after an equals sign.\n"
	      "Within a value of the form KEY=VALUE,.. commas separate; none can be part of a "
	      "value.\n"
	      ".SH EXIT STATUS\n"
	      ".TP\n0\nIt did what it was asked to.\n"
	      ".TP\n1\nThe host or the configuration does not allow it.\n"
	      ".TP\n2\nUsage.\n"
	      ".TP\n3\nThe guest crashed (mayfly run with \\-\\-no\\-reboot).\n",
	      out);
}
