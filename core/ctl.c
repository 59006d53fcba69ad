/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of the table a command: what is asked of the server, and how its answer is shown to
 * people.  With --json the answer is printed as it came.
 */
#include "core/ctl.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

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
	const char *id, *more; /* what stands behind it; NULL: nothing */
};

/* What stands behind the command. */
enum operands {
	OPERANDS_NONE,
	OPERANDS_ID,
	OPERANDS_ID_NUMBER, /* the number may be missing */
	OPERANDS_ID_FAULT,
	OPERANDS_ID_MIB,
	OPERANDS_MIB,
};

struct command {
	const char *name; /* one word or two */
	enum operands operands;
	const char *method;
	const char *path;                   /* printf format where there is an id */
	const char *one;                    /* the same where there is a number, too */
	const char *body;                   /* printf format of the last word, and the id */
	void (*show)(const json_t *answer); /* NULL: nothing to show, or text */
	bool endless;                       /* a line after the other, each shown */
	bool lasts;                         /* a terminal is told that it goes on */
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

static void show_reserves(const json_t *reserves)
{
	for (size_t i = 0; i < json_array_size(reserves); i++) {
		const json_t *r = json_array_get(reserves, i);

		printf("%s: %lld MiB plugged, %lld requested, %lld mapped, of %lld\n",
		       text(r, "id"), number(r, "plugged_mib"), number(r, "requested_mib"),
		       number(r, "mapped_mib"), number(r, "total_mib"));
	}
}

static void show_memory(const json_t *answer)
{
	const json_t *regions = json_object_get(answer, "regions");

	printf("epoch %lld, %lld MiB at boot, at most %lld MiB, %lld slots, blocks of %lld MiB\n",
	       number(answer, "epoch"), number(answer, "boot_mib"), number(answer, "max_mib"),
	       number(answer, "slots"), number(answer, "block_mib"));
	printf("%-16s %-10s %-12s %18s %10s %12s %9s %8s\n", "id", "kind", "state", "address",
	       "size MiB", "resident MiB", "page KiB", "mapped by");
	for (size_t i = 0; i < json_array_size(regions); i++) {
		const json_t *r = json_array_get(regions, i);

		printf("%-16s %-10s %-12s %#18llx %10lld %12lld %9lld %8zu\n", text(r, "id"),
		       text(r, "kind"), text(r, "state"), (unsigned long long)number(r, "gpa"),
		       number(r, "size_mib"), number(r, "resident_mib"), number(r, "page_kib"),
		       json_array_size(json_object_get(r, "mapped_by")));
	}
	show_reserves(json_object_get(answer, "reserves"));
}

static void show_added(const json_t *a)
{
	printf("%s: %lld MiB, epoch %lld: allocated in %lld us, KVM %lld us, processes %lld us, handed off "
	       "in %lld us\n",
	       text(a, "id"), number(a, "size_mib"), number(a, "epoch"), number(a, "allocate_us"),
	       number(a, "slot_us"), number(a, "prepare_us"), number(a, "move_us"));
}

static void show_removed(const json_t *a)
{
	const json_t *proof = json_object_get(a, "proof");

	printf("%s: removed, epoch %lld: processes %lld us, handed off in %lld us, gone after %lld us; "
	       "%s, %lld blocks, %lld mappings, %lld descriptors left\n",
	       text(a, "id"), number(a, "epoch"), number(a, "prepare_us"), number(a, "move_us"),
	       number(a, "gone_us"),
	       json_is_true(json_object_get(proof, "write_seal")) ? "sealed against writing"
								  : "NOT SEALED",
	       number(proof, "blocks"), number(proof, "maps"), number(proof, "fds"));
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
#define DELETE .method = "DELETE"

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
	{ "memory", OPERANDS_NONE, GET, .path = "/memory", .show = show_memory },
	{ "memory add", OPERANDS_ID_MIB, POST, .path = "/memory/dimms",
	  .body = "{\"id\":\"%2$s\",\"size_mib\":%1$s}", .show = show_added, .lasts = true },
	{ "memory remove", OPERANDS_ID, DELETE, .path = "/memory/dimms/%s", .show = show_removed,
	  .lasts = true },
	{ "memory resize", OPERANDS_ID_MIB, PATCH, .path = "/hotplug/memory/%s",
	  .body = "{\"requested_size_mib\":%1$s}", .lasts = true },
	{ "memory size", OPERANDS_ID, GET, .path = "/hotplug/memory/%s", .show = show_object },
	{ "memory balloon", OPERANDS_NONE, GET, .path = "/balloon", .show = show_object },
	{ "memory balloon", OPERANDS_MIB, PATCH, .path = "/balloon",
	  .body = "{\"amount_mib\":%s}" },
	{ "memory balloon statistics", OPERANDS_NONE, GET, .path = "/balloon/statistics",
	  .show = show_object },
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

/* ---- what lasts ---- */

static void on_second(int signal)
{
	static const char dot[] = ".";

	(void)signal;
	if (write(STDERR_FILENO, dot, 1) != 1)
		return; /* nobody to tell */
}

/* A dot a second on a terminal. seconds 0: no more. */
static void show_progress(const struct ctl *ctl, int seconds)
{
	const struct itimerval every = { { seconds, 0 }, { seconds, 0 } };
	const struct sigaction action = { .sa_handler = on_second, .sa_flags = SA_RESTART };

	if (!ctl->command->lasts || ctl->options->json || !isatty(STDERR_FILENO))
		return;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	if (seconds == 0)
		fputc('\r', stderr);
}

static int ask(const struct ctl *ctl, const char *method, const char *path, const char *body,
	       struct http_answer *answer)
{
	int ret;

	show_progress(ctl, 1);
	ret = http_ask(ctl->socket, method, path, body, WAIT_S, answer);
	show_progress(ctl, 0);
	if (ret != 0)
		complain(ctl, ret);
	return ret;
}

static int run_command(const struct ctl *ctl, const char *id)
{
	const struct command *c = ctl->command;
	const char *more = ctl->more;
	struct http_answer answer;
	char path[PATH_BYTES], body[PATH_BYTES] = "";
	int status;

	/* Formats of the table. NOLINTBEGIN(*-nonliteral) */
	if (c->operands == OPERANDS_ID_NUMBER && more != NULL)
		snprintf(path, sizeof(path), c->one, id, more);
	else
		snprintf(path, sizeof(path), c->path, id);
	if (c->body != NULL)
		snprintf(body, sizeof(body), c->body, more != NULL ? more : id, id);
	/* NOLINTEND(*-nonliteral) */
	if (ask(ctl, c->method, path, c->body != NULL ? body : NULL, &answer) != 0)
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

static bool is_number(const char *word)
{
	return word[0] != '\0' && strlen(word) <= 20 && word[strspn(word, "0123456789")] == '\0';
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
		return usage("needs a device's id", c->name);
	if (id != NULL && !is_id(id))
		return usage("is not a device's id", id);
	switch (c->operands) {
	case OPERANDS_ID_NUMBER:
		return more == NULL || is_number(more)
			       ? 0
			       : usage("is not the number of a generation", more);
	case OPERANDS_MIB:
		if (more != NULL)
			return usage("is one word too many", more);
		return is_number(id) ? 0 : usage("is neither a number of MiB nor `statistics`", id);
	case OPERANDS_ID_FAULT:
		if (more == NULL)
			return usage("needs a device's id and a fault", c->name);
		return is_fault(more) ? 0 : usage("is not a fault", more);
	case OPERANDS_ID_MIB:
		if (more == NULL)
			return usage("needs an id and a size in MiB", c->name);
		return is_number(more) ? 0 : usage("is not a number of MiB", more);
	default:
		return more == NULL ? 0 : usage("is one word too many", more);
	}
}

/* How many words a name has if the operands begin with it, else 0. */
static uint32_t words_of(const char *name, const char *const *operands, uint32_t count)
{
	uint32_t n = 0;

	while (*name != '\0') {
		const size_t length = strcspn(name, " ");

		if (n == count || strlen(operands[n]) != length ||
		    strncmp(operands[n], name, length) != 0)
			return 0;
		name += length + (name[length] == ' ');
		n++;
	}
	return n;
}

/* The longest name that the words begin with; of two that are alike, the one that takes what follows.
 * *words: how many the name has. */
static const struct command *find_command(const char *const *operands, uint32_t count,
					  uint32_t *words)
{
	const struct command *found = NULL;

	*words = 0;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const uint32_t n = words_of(commands[i].name, operands, count);

		if (n > *words ||
		    (n != 0 && n == *words && count > n && commands[i].operands != OPERANDS_NONE)) {
			*words = n;
			found = &commands[i];
		}
	}
	return found;
}

/* What follows the words of the command: at most two. */
static int take_operands(struct ctl *ctl, uint32_t words)
{
	const char *const *operands = ctl->options->operands + 1 + words;
	const uint32_t count = ctl->options->operand_count - 1 - words;

	if (count > 2)
		return usage("is one word too many", operands[2]);
	ctl->id = count > 0 ? operands[0] : NULL;
	ctl->more = count > 1 ? operands[1] : NULL;
	return check_operands(ctl->command, ctl->id, ctl->more);
}

int ctl_main(const struct ctl_options *options)
{
	struct ctl ctl = { .options = options, .socket = options->operands[0] };
	uint32_t words;
	int ret;

	if (options->operand_count < 2)
		return usage("needs the VM's API socket and a command (mayfly ctl --help)", NULL);
	ctl.command = find_command(options->operands + 1, options->operand_count - 1, &words);
	if (ctl.command == NULL)
		return usage("is not a command (mayfly ctl --help)", options->operands[1]);
	ret = take_operands(&ctl, words);
	if (ret != 0)
		return ret;
	if (ctl.command->endless)
		return run_endless(&ctl);
	if (strcmp(ctl.command->name, "replace") == 0 && strcmp(ctl.id, "all") == 0)
		return replace_all(&ctl);
	return run_command(&ctl, ctl.id);
}
