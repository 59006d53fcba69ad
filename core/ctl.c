/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of the table a command: what is asked of the server, and how its answer is shown to
 * people.  With --json the answer is printed as it came.
 */
#include "core/ctl.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "core/cc.h"
#include "core/http.h"
#include "core/options.h"

#define EXIT_USAGE 2
#define WAIT_S 120 /* a replacement waits for slow storage */
#define PATH_BYTES 128

struct ctl {
	const struct ctl_options *options;
	const char *socket;
	const struct command *command;
};

/* What stands behind the command. */
enum operands {
	OPERANDS_NONE,
	OPERANDS_ID,
	OPERANDS_ID_NUMBER, /* the number may be missing */
	OPERANDS_ID_FAULT,
	OPERANDS_BALLOON, /* the word, and what is wanted of it, which may be missing */
};

struct command {
	const char *name;
	enum operands operands;
	const char *method;
	const char *path;                   /* printf format where there is an id */
	const char *one;                    /* the same where there is a number, too */
	const char *body;                   /* printf format where there is a fault */
	void (*show)(const json_t *answer); /* NULL: nothing to show, or text */
	bool endless;                       /* a line after the other, each shown */
};

/* ---- for people ---- */

static long long number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value != NULL ? value : "-";
}

static long long total(const json_t *counts)
{
	long long sum = 0;
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)counts, key, value) sum += json_integer_value(value);
	return sum;
}

static void show_devices(const json_t *answer)
{
	printf("%-16s %-8s %-13s %10s %12s %16s %16s %9s\n", "device", "kind", "state",
	       "generation", "replacements", "drain us p50/99", "switch us p50/99", "age s");
	for (size_t i = 0; i < json_array_size(answer); i++) {
		const json_t *d = json_array_get(answer, i);
		const json_t *drain = json_object_get(d, "drain_us");
		const json_t *change = json_object_get(d, "switch_us");
		char drains[48], changes[48];

		snprintf(drains, sizeof(drains), "%lld/%lld", number(drain, "p50"),
			 number(drain, "p99"));
		snprintf(changes, sizeof(changes), "%lld/%lld", number(change, "p50"),
			 number(change, "p99"));
		printf("%-16s %-8s %-13s %10lld %12lld %16s %16s %9.1f\n", text(d, "id"),
		       text(d, "kind"), text(d, "state"), number(d, "generation"),
		       total(json_object_get(d, "replacements")), drains, changes,
		       json_number_value(json_object_get(d, "age_s")));
	}
}

/* `key: value`, the members of objects on one line. */
static void show_object(const json_t *answer)
{
	const char *key, *inner;
	json_t *value, *member;

	json_object_foreach((json_t *)answer, key, value)
	{
		printf("%-17s", key);
		if (json_is_object(value)) {
			json_object_foreach(value, inner, member)
			{
				cleanup_free char *word =
					json_dumps(member, JSON_ENCODE_ANY | JSON_COMPACT);

				printf(" %s=%s", inner, word != NULL ? word : "?");
			}
		} else if (json_is_string(value)) {
			printf(" %s", json_string_value(value));
		} else if (json_is_real(value)) {
			printf(" %g", json_real_value(value));
		} else if (json_is_boolean(value)) {
			printf(" %s", json_is_true(value) ? "true" : "false");
		} else {
			printf(" %lld", (long long)json_integer_value(value));
		}
		putchar('\n');
	}
}

static void show_replacement(const json_t *r)
{
	printf("%s: generation %lld for %lld: %s, fence %s, %s start, drain %lld us, switch %lld us, "
	       "%lld in flight\n",
	       text(r, "id"), number(r, "to"), number(r, "from"), text(r, "kind"), text(r, "fence"),
	       text(r, "start"), number(r, "drain_us"), number(r, "switch_us"),
	       number(r, "in_flight"));
}

/* A list of what there is, or one, of which every byte matters. */
static void show_autopsies(const json_t *answer)
{
	if (json_is_object(answer)) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
		return;
	}
	for (size_t i = 0; i < json_array_size(answer); i++) {
		const json_t *entry = json_array_get(answer, i);

		printf("%10lld  %s  %lld bytes\n", number(entry, "generation"),
		       text(entry, "written"), number(entry, "bytes"));
	}
}

static void show_fault(const json_t *answer)
{
	printf("%s: generation %lld got it: %s\n", text(answer, "id"), number(answer, "generation"),
	       text(answer, "fault"));
}

/* Time, event, device, generation, then `key=value` of all else. */
static void show_event(const json_t *answer)
{
	static const char *const first[] = {
		"seq", "t_us", "time", "event", "device", "generation"
	};
	const char *key;
	json_t *value;

	printf("%s  %-12s %-16s %6lld ", text(answer, "time"), text(answer, "event"),
	       text(answer, "device"), number(answer, "generation"));
	json_object_foreach((json_t *)answer, key, value)
	{
		size_t i = 0;

		while (i < ARRAY_SIZE(first) && strcmp(first[i], key) != 0)
			i++;
		if (i < ARRAY_SIZE(first))
			continue;
		cleanup_free char *word = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

		printf(" %s=%s", key, word != NULL ? word : "?");
	}
	putchar('\n');
}

#define GET .method = "GET"
#define POST .method = "POST"
#define PATCH .method = "PATCH"

/* clang-format off */
static const struct command commands[] = {
	{ "devices", OPERANDS_NONE, GET, .path = "/devices", .show = show_devices },
	{ "device", OPERANDS_ID, GET, .path = "/devices/%s", .show = show_object },
	{ "replace", OPERANDS_ID, POST, .path = "/devices/%s/replace", .show = show_replacement },
	{ "revive", OPERANDS_ID, POST, .path = "/devices/%s/revive" },
	{ "autopsies", OPERANDS_ID_NUMBER, GET, .path = "/devices/%s/autopsies",
	  .one = "/devices/%s/autopsies/%s", .show = show_autopsies },
	{ "fault", OPERANDS_ID_FAULT, POST, .path = "/devices/%s/faults",
	  .body = "{\"fault\":\"%s\"}", .show = show_fault },
	{ "memory", OPERANDS_BALLOON, GET, .path = "/%s", .one = "/%s/%s",
	  .body = "{\"amount_mib\":%s}", .show = show_object },
	{ "events", OPERANDS_NONE, GET, .path = "/events", .show = show_event, .endless = true },
	{ "pause", OPERANDS_NONE, PATCH, .path = "/vm", .body = "{\"state\":\"Paused\"}" },
	{ "resume", OPERANDS_NONE, PATCH, .path = "/vm", .body = "{\"state\":\"Resumed\"}" },
	{ "metrics", OPERANDS_NONE, GET, .path = "/metrics" },
};
/* clang-format on */

/* ---- asking ---- */

static int refused(const struct http_answer *answer)
{
	json_t *object = json_loadb(answer->body, answer->bytes, 0, NULL);
	const char *message = json_string_value(json_object_get(object, "fault_message"));

	if (message != NULL)
		fprintf(stderr, "mayfly ctl: %s\n", message);
	else
		fprintf(stderr, "mayfly ctl: the VM answered with status %u\n", answer->status);
	json_decref(object);
	return EXIT_FAILURE;
}

static void print_text(const struct http_answer *answer)
{
	fwrite(answer->body, 1, answer->bytes, stdout);
	if (answer->bytes != 0 && answer->body[answer->bytes - 1] != '\n')
		putchar('\n');
}

static int show(const struct ctl *ctl, const struct http_answer *answer)
{
	json_t *value;

	if (answer->status / 100 != 2)
		return refused(answer);
	if (answer->bytes == 0)
		return EXIT_SUCCESS;
	if (ctl->options->json || ctl->command->show == NULL) {
		print_text(answer);
		return EXIT_SUCCESS;
	}
	value = json_loadb(answer->body, answer->bytes, 0, NULL);
	if (value == NULL) {
		fprintf(stderr, "mayfly ctl: what the VM answered is not JSON\n");
		return EXIT_FAILURE;
	}
	ctl->command->show(value);
	json_decref(value);
	return EXIT_SUCCESS;
}

static void complain(const struct ctl *ctl, int ret)
{
	fprintf(stderr, "mayfly ctl: %s: %s\n", ctl->socket,
		ret == -EPROTO ? "what answers there is not mayfly" : strerror(-ret));
}

static int ask(const struct ctl *ctl, const char *method, const char *path, const char *body,
	       struct http_answer *answer)
{
	const int ret = http_ask(ctl->socket, method, path, body, WAIT_S, answer);

	if (ret != 0)
		complain(ctl, ret);
	return ret;
}

static bool is_number(const char *word)
{
	return word[0] != '\0' && strlen(word) <= 20 && word[strspn(word, "0123456789")] == '\0';
}

/* A number is a size to set, a word a part to show. */
static bool sets_size(const struct command *c, const char *more)
{
	return c->operands == OPERANDS_BALLOON && more != NULL && is_number(more);
}

static int run_command(const struct ctl *ctl, const char *id)
{
	const struct command *c = ctl->command;
	const char *more = ctl->options->operands[3];
	const bool sets = sets_size(c, more);
	const bool part = more != NULL && c->one != NULL && !sets;
	const bool has_body = c->body != NULL && (c->operands != OPERANDS_BALLOON || sets);
	struct http_answer answer;
	char path[PATH_BYTES], body[PATH_BYTES] = "";
	int status;

	/* Formats of the table. NOLINTBEGIN(*-nonliteral) */
	if (part)
		snprintf(path, sizeof(path), c->one, id, more);
	else
		snprintf(path, sizeof(path), c->path, id);
	if (has_body)
		snprintf(body, sizeof(body), c->body, more);
	/* NOLINTEND(*-nonliteral) */
	if (ask(ctl, sets ? "PATCH" : c->method, path, has_body ? body : NULL, &answer) != 0)
		return EXIT_FAILURE;
	status = show(ctl, &answer);
	free(answer.body);
	return status;
}

/* False: nobody reads what is shown. */
static bool on_line(void *ctx, const char *line)
{
	const struct ctl *ctl = ctx;
	json_t *value = ctl->options->json ? NULL : json_loads(line, 0, NULL);

	if (value != NULL)
		ctl->command->show(value);
	else
		puts(line);
	json_decref(value);
	return fflush(stdout) == 0;
}

static int run_endless(const struct ctl *ctl)
{
	struct http_answer answer;
	const int ret = http_lines(ctl->socket, ctl->command->path, on_line, (void *)ctl, &answer);
	int status = EXIT_SUCCESS;

	if (ret != 0) {
		complain(ctl, ret);
		return EXIT_FAILURE;
	}
	if (answer.status != 200)
		status = refused(&answer);
	free(answer.body);
	return status;
}

/* Each device in turn; one that is refused does not keep the others. */
static int replace_all(const struct ctl *ctl)
{
	struct http_answer answer;
	int status = EXIT_SUCCESS;
	json_t *devices;

	if (ask(ctl, "GET", "/devices", NULL, &answer) != 0)
		return EXIT_FAILURE;
	devices = json_loadb(answer.body, answer.bytes, 0, NULL);
	free(answer.body);
	for (size_t i = 0; i < json_array_size(devices); i++) {
		const char *id = text(json_array_get(devices, i), "id");

		if (run_command(ctl, id) != EXIT_SUCCESS)
			status = EXIT_FAILURE;
	}
	if (json_array_size(devices) == 0) {
		fprintf(stderr, "mayfly ctl: the VM has no devices (yet)\n");
		status = EXIT_FAILURE;
	}
	json_decref(devices);
	return status;
}

/* ---- the verb ---- */

static int usage(const char *what, const char *which)
{
	fprintf(stderr, "mayfly ctl: %s%s%s%s\n", which != NULL ? "'" : "",
		which != NULL ? which : "", which != NULL ? "' " : "", what);
	return EXIT_USAGE;
}

static bool is_id(const char *word)
{
	const struct option o = { .room = OPTION_ID_MAX + 1 };
	struct option_error error;
	char id[OPTION_ID_MAX + 1];

	return option_id(&o, word, id, &error) == 0;
}

/* The server knows which there are. */
static bool is_fault(const char *word)
{
	return word[0] != '\0' && strlen(word) <= 40 &&
	       word[strspn(word, "abcdefghijklmnopqrstuvwxyz-")] == '\0';
}

/* 0, or it was said what is wrong. */
static int check_operands(const struct command *c, const char *id, const char *more)
{
	if (c->operands == OPERANDS_NONE && id != NULL)
		return usage("is one word too many", id);
	if (c->operands != OPERANDS_NONE && id == NULL)
		return usage(c->operands == OPERANDS_BALLOON ? "needs `balloon`"
							     : "needs a device's id",
			     c->name);
	if (id != NULL && !is_id(id))
		return usage("is not a device's id", id);
	switch (c->operands) {
	case OPERANDS_ID_NUMBER:
		return more == NULL || is_number(more)
			       ? 0
			       : usage("is not the number of a generation", more);
	case OPERANDS_BALLOON:
		if (strcmp(id, "balloon") != 0)
			return usage("is not a part of memory: balloon is", id);
		return more == NULL || is_number(more) || strcmp(more, "statistics") == 0
			       ? 0
			       : usage("is neither a number of MiB nor `statistics`", more);
	case OPERANDS_ID_FAULT:
		if (more == NULL)
			return usage("needs a device's id and a fault", c->name);
		return is_fault(more) ? 0 : usage("is not a fault", more);
	default:
		return more == NULL ? 0 : usage("is one word too many", more);
	}
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

int ctl_main(const struct ctl_options *options)
{
	struct ctl ctl = { .options = options, .socket = options->operands[0] };
	const char *id = options->operands[2];
	int ret;

	if (options->operand_count < 2)
		return usage("needs the VM's API socket and a command (mayfly ctl --help)", NULL);
	ctl.command = find_command(options->operands[1]);
	if (ctl.command == NULL)
		return usage("is not a command (mayfly ctl --help)", options->operands[1]);
	ret = check_operands(ctl.command, id, options->operands[3]);
	if (ret != 0)
		return ret;
	if (ctl.command->endless)
		return run_endless(&ctl);
	if (strcmp(ctl.command->name, "replace") == 0 && strcmp(id, "all") == 0)
		return replace_all(&ctl);
	return run_command(&ctl, id);
}
