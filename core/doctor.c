/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of findings and what is made of it.  The probes are in doctor_kernel.c (kernel, limits,
 * memory), doctor_kvm.c and doctor_box.c (the seal, tried on a real sandbox).
 */
#include "core/doctor.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "core/options.h"

static const char *const state_names[] = {
#define STATE_NAME(NAME, name, text) name,
	DOCTOR_STATES(STATE_NAME)
#undef STATE_NAME
};

void doctor_add(struct doctor *d, const char *group, const char *key, enum doctor_state state,
		int64_t value, const char *fmt, ...)
{
	struct doctor_finding *f;
	va_list ap;

	CHECK(d->count < DOCTOR_FINDINGS_MAX);
	f = &d->findings[d->count++];
	*f = (struct doctor_finding){ .group = group, .key = key, .state = state, .value = value };
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

bool doctor_ready(const struct doctor *d)
{
	for (uint32_t i = 0; i < d->count; i++) {
		if (d->findings[i].state == DOCTOR_BLOCKING)
			return false;
	}
	return true;
}

/* ---- words ---- */

static void print_finding(const struct doctor_finding *f, FILE *out)
{
	fprintf(out, "  %-22s%s", f->key, state_names[f->state]);
	if (f->text[0] != '\0')
		fprintf(out, ": %s", f->text);
	fputc('\n', out);
}

void doctor_print(const struct doctor *d, FILE *out)
{
	const char *group = "";

	for (uint32_t i = 0; i < d->count; i++) {
		const struct doctor_finding *f = &d->findings[i];

		if (strcmp(group, f->group) != 0)
			fprintf(out, "%s%s\n", i == 0 ? "" : "\n", f->group);
		group = f->group;
		print_finding(f, out);
	}
	if (doctor_ready(d)) {
		fputs("\nmayfly can run a VM here.\n", out);
		return;
	}
	fputs("\nmayfly cannot run a VM here:\n", out);
	for (uint32_t i = 0; i < d->count; i++) {
		const struct doctor_finding *f = &d->findings[i];

		if (f->state == DOCTOR_BLOCKING)
			fprintf(out, "  %s %s: %s\n", f->group, f->key, f->text);
	}
}

/* ---- JSON ---- */

static json_t *finding_json(const struct doctor_finding *f)
{
	json_t *object = json_pack("{s:s, s:s}", "state", state_names[f->state], "text", f->text);

	if (f->value != DOCTOR_NO_VALUE &&
	    json_object_set_new(object, "value", json_integer(f->value)) != 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static int doctor_fill(const struct doctor *d, json_t *root, json_t *blocking)
{
	int failed = 0;

	for (uint32_t i = 0; i < d->count; i++) {
		const struct doctor_finding *f = &d->findings[i];
		json_t *group = json_object_get(root, f->group);

		if (group == NULL) {
			group = json_object();
			failed |= json_object_set_new(root, f->group, group);
		}
		failed |= json_object_set_new(group, f->key, finding_json(f));
		if (f->state == DOCTOR_BLOCKING)
			failed |= json_array_append_new(
				blocking, json_sprintf("%s %s: %s", f->group, f->key, f->text));
	}
	return failed;
}

char *doctor_json(const struct doctor *d)
{
	json_t *root = json_pack("{s:s, s:b}", "version", MAYFLY_VERSION, "ready", doctor_ready(d));
	json_t *blocking = json_array();
	char *text = NULL;

	if (json_object_set_new(root, "blocking", blocking) == 0 &&
	    doctor_fill(d, root, blocking) == 0)
		text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

/* ---- the verb ---- */

int doctor_main(const struct doctor_options *options)
{
	cleanup_free struct doctor *d = calloc(1, sizeof(*d));
	cleanup_free char *json = NULL;

	if (d == NULL)
		return EXIT_FAILURE;
	doctor_kernel(d);
	doctor_box(d);
	doctor_kvm(d);
	doctor_host(d);
	if (!options->json) {
		doctor_print(d, stdout);
	} else {
		json = doctor_json(d);
		if (json == NULL) {
			fputs("mayfly doctor: out of memory\n", stderr);
			return EXIT_FAILURE;
		}
		puts(json);
	}
	return doctor_ready(d) ? EXIT_SUCCESS : EXIT_FAILURE;
}
