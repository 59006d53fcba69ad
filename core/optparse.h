/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options by table.  A verb's options are one const table; from it come the parser, `--help`, the
 * manual page and the keys of the configuration file.  Options are parsed into a plain struct that
 * owns no memory.  What the options are: options.h.
 *
 * Nothing here blocks or keeps state; errors are one line of text that names the option.
 */
#ifndef MAYFLY_CORE_OPTPARSE_H
#define MAYFLY_CORE_OPTPARSE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct option_error {
	char text[256];
};

struct option;
struct option_set;

/* Parses text into the option's field.  0, or -EINVAL with error filled in (without the name). */
typedef int option_parse_fn(const struct option *option, const char *text, void *field,
			    struct option_error *error);

struct option {
	const char *name; /* without dashes; NULL: a number of the enum that has no option */
	const char
		*json; /* where a configuration file has it; NULL: nowhere.  _mib, _s, _ms: unit */
	const char *arg;      /* what help calls its value; NULL: a flag */
	const char *fallback; /* what it is when not given, as it would be given; NULL: zeroes */
	const char *text;     /* help, one sentence without a full stop */
	option_parse_fn *parse;
	uint32_t offset; /* of the field in the set's struct */
	uint32_t room;   /* its size; of a repeated one: of one element */
	uint64_t min;    /* numbers: the least value; text: length */
	uint64_t max;
	const char *const *names;        /* option_choice: NULL-terminated, in the enum's order */
	const struct option_set *subset; /* option_group: `key=value,...` */
	uint32_t repeat;                 /* 0: once; else at most so often, the field is an array */
	uint32_t count_offset;           /* repeated: uint32_t, elements given so far */
	uint32_t required;               /* keys of a group only */
};

struct option_set {
	const struct option *options; /* by the numbers of an enum: bits in `given` */
	uint32_t count;               /* at most 64 */
	uint32_t bytes;               /* of the struct */
	uint32_t given;               /* offset of its uint64_t: bit i when option i was given */
	uint32_t
		positional; /* group: the first item may be the value of option 0, without its name */
	/* A verb's words that are no options, in their order: what help calls them (NULL: none are
	 * taken), how many at most, and where they go: const char *[operands_max], uint32_t. */
	const char *operands;
	uint32_t operands_max;
	uint32_t operands_offset;
	uint32_t operand_count;
	int (*check)(void *out,
		     struct option_error *error); /* what holds between options; or NULL */
};

/* ---- value parsers: what they read, and the field's type ---- */

option_parse_fn option_flag;     /* bool; text is NULL */
option_parse_fn option_text;     /* char[room]: min..max bytes, no control characters */
option_parse_fn option_id;       /* char[65]: [A-Za-z0-9_-]{1,64} */
option_parse_fn option_number;   /* uint32_t: decimal */
option_parse_fn option_size;     /* uint64_t, bytes: 4096, 64K, 512M, 8G, 1T */
option_parse_fn option_duration; /* uint64_t, ms: 500ms, 30s, 2m, 1h */
option_parse_fn option_fraction; /* uint32_t, thousandths: 0, 0.25, 1 */
option_parse_fn option_choice;   /* uint32_t: place of the name in `names` */
option_parse_fn option_group;    /* a struct, by subset */

/* Writes the message; returns -EINVAL. */
int option_fail(struct option_error *error, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Strict decimal, no sign, no space, within uint64_t. 0 or -EINVAL. */
int option_decimal(const char *text, size_t length, uint64_t *value);

/* ---- sets ---- */

/* All zeroes, then every fallback. */
void options_default(const struct option_set *set, void *out);

/* One option by name, as `--name value` gives it; value NULL: a flag.  Does not call set->check.
 * 0 or -EINVAL. */
int options_assign(const struct option_set *set, void *out, const char *name, const char *value,
		   struct option_error *error);

#define OPTIONS_HELP 1 /* --help or -h was among them */

/* Takes argv[0 .. argc): `--name value`, `--name=value`, `--flag`, and the set's operands, which are
 * not copied.  out has the defaults (options_default).  0 and checked; OPTIONS_HELP; -EINVAL. */
int options_parse(const struct option_set *set, int argc, char *const *argv, void *out,
		  struct option_error *error);

/* Everything that was given in `from` goes onto `out`, key by key where an option is a group, and operands; not
 * what is repeated. */
void options_overlay(const struct option_set *set, void *out, const void *from);

/* ---- verbs ---- */

struct verb {
	const char *name;
	const char *text; /* one line */
	const char *man;  /* a paragraph, plain text */
	const struct option_set *set;
	int (*main)(const void *options); /* returns the exit status */
};

void verb_help(FILE *out, const struct verb *verb);
void verbs_help(FILE *out, const struct verb *verbs, size_t count);
/* mayfly(1), troff. */
void verbs_man(FILE *out, const struct verb *verbs, size_t count);

#endif
