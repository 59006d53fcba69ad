/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the API, and holding what it answers against docs/api.yaml.  Included once, after cmocka.h;
 * `sock` and `document` are set by the test.
 */
#ifndef MAYFLY_TESTS_HOST_APIDOC_H
#define MAYFLY_TESTS_HOST_APIDOC_H

#include <ctype.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/http.h"

#define ASK_WAIT_S 60

static char sock[96]; /* where the server listens */
static json_t *document;
/* The last answer. */
static unsigned int status;
static json_t *answer;

/* ---- asking ---- */

static void ask(const char *method, const char *path, const char *body)
{
	struct http_answer got;
	const int ret = http_ask(sock, method, path, body, ASK_WAIT_S, &got);

	if (ret != 0)
		fail_msg("%s %s: %s", method, path, strerror(-ret));
	json_decref(answer);
	answer = json_loadb(got.body, got.bytes, JSON_DECODE_ANY, NULL);
	status = got.status;
	free(got.body);
}

static const char *fault(void)
{
	const char *text = json_string_value(json_object_get(answer, "fault_message"));

	return text != NULL ? text : "";
}

static void takes(const char *method, const char *path, const char *body)
{
	ask(method, path, body);
	if (status / 100 != 2)
		fail_msg("%s %s %s: %u %s", method, path, body != NULL ? body : "", status,
			 fault());
}

static void refuses(const char *method, const char *path, const char *body, unsigned int want,
		    const char *begin)
{
	ask(method, path, body);
	if (status != want || strncmp(fault(), begin, strlen(begin)) != 0)
		fail_msg("%s %s %s: %u '%s', not %u '%s..'", method, path, body != NULL ? body : "",
			 status, fault(), want, begin);
}

/* ---- the document ---- */

static const json_t *resolve(const json_t *schema)
{
	const char *ref = json_string_value(json_object_get(schema, "$ref"));

	if (ref == NULL)
		return schema;
	return json_object_get(json_object_get(json_object_get(document, "components"), "schemas"),
			       strrchr(ref, '/') + 1);
}

static bool has_word(const json_t *list, const char *word)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (text != NULL && strcmp(text, word) == 0)
			return true;
	}
	return false;
}

static bool type_fits(const char *type, const json_t *value)
{
	return (strcmp(type, "object") == 0 && json_is_object(value)) ||
	       (strcmp(type, "array") == 0 && json_is_array(value)) ||
	       (strcmp(type, "string") == 0 && json_is_string(value)) ||
	       (strcmp(type, "integer") == 0 && json_is_integer(value)) ||
	       (strcmp(type, "number") == 0 && json_is_number(value)) ||
	       (strcmp(type, "boolean") == 0 && json_is_boolean(value));
}

static void fits(const json_t *schema, const json_t *value, const char *where);

static void object_fits(const json_t *schema, const json_t *value, const char *where)
{
	const json_t *properties = json_object_get(schema, "properties");
	const json_t *others = json_object_get(schema, "additionalProperties");
	const json_t *required = json_object_get(schema, "required");
	const char *key;
	json_t *member;

	json_object_foreach((json_t *)value, key, member)
	{
		const json_t *inner = json_object_get(properties, key);

		if (inner == NULL && json_is_object(others))
			inner = others;
		if (inner == NULL)
			fail_msg("%s: %s is not in docs/api.yaml", where, key);
		fits(inner, member, key);
	}
	for (size_t i = 0; i < json_array_size(required); i++) {
		key = json_string_value(json_array_get(required, i));
		if (json_object_get(value, key) == NULL)
			fail_msg("%s: %s is missing", where, key);
	}
}

static void fits(const json_t *schema, const json_t *value, const char *where)
{
	const char *type;

	schema = resolve(schema);
	if (json_is_null(value) && json_is_true(json_object_get(schema, "nullable")))
		return;
	type = json_string_value(json_object_get(schema, "type"));
	if (type == NULL || !type_fits(type, value))
		fail_msg("%s: not of type %s", where, type != NULL ? type : "(none)");
	if (json_is_string(value) && json_object_get(schema, "enum") != NULL &&
	    !has_word(json_object_get(schema, "enum"), json_string_value(value)))
		fail_msg("%s: '%s' is not in docs/api.yaml", where, json_string_value(value));
	if (json_is_object(value))
		object_fits(schema, value, where);
	for (size_t i = 0; i < json_array_size(value); i++)
		fits(json_object_get(schema, "items"), json_array_get(value, i), where);
}

static const json_t *operation(const char *method, const char *path)
{
	char lower[16];

	snprintf(lower, sizeof(lower), "%s", method);
	for (char *p = lower; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return json_object_get(json_object_get(json_object_get(document, "paths"), path), lower);
}

static const json_t *content_of(const json_t *holder)
{
	return json_object_get(
		json_object_get(json_object_get(holder, "content"), "application/json"), "schema");
}

/* What was answered is what the document says of this status, and that it says one. */
static void answer_fits(const char *method, const char *pattern)
{
	const json_t *responses = json_object_get(operation(method, pattern), "responses");
	char code[8];
	const json_t *response;

	snprintf(code, sizeof(code), "%u", status);
	response = json_object_get(responses, code);
	if (response == NULL)
		fail_msg("%s %s: %s is not in docs/api.yaml", method, pattern, code);
	if (content_of(response) != NULL)
		fits(content_of(response), answer, pattern);
}

#endif
