/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jget PATH...: reads JSON documents from stdin, one after the other, and prints for each (for each
 * element of one that is an array, or of the array under `devices`) a line with the values at the
 * given paths, tab-separated; at once, for whoever waits for the next.  A path is keys with dots between, of an
 * array a number; what is not there prints as `-`.
 * A static program for scripts in places without python3.  Exit 1: not JSON.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *follow(const json_t *value, const char *path)
{
	char key[64];

	while (value != NULL && *path != '\0') {
		const size_t n = strcspn(path, ".");

		if (n >= sizeof(key))
			return NULL;
		memcpy(key, path, n);
		key[n] = '\0';
		value = json_is_array(value) ? json_array_get(value, strtoul(key, NULL, 10))
					     : json_object_get(value, key);
		path += n + (path[n] == '.');
	}
	return value;
}

static void print_value(const json_t *value)
{
	char *text = NULL;

	if (json_is_string(value))
		printf("%s", json_string_value(value));
	else if (value != NULL)
		text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
	if (!json_is_string(value))
		printf("%s", text != NULL ? text : "-");
	free(text);
}

static void print_line(const json_t *value, char **paths, int count)
{
	for (int i = 0; i < count; i++) {
		if (i > 0)
			putchar('\t');
		print_value(follow(value, paths[i]));
	}
	putchar('\n');
}

static void print_document(const json_t *root, char **paths, int count)
{
	const json_t *list = json_is_object(root) ? json_object_get(root, "devices") : root;

	if (!json_is_array(list)) {
		print_line(root, paths, count);
		return;
	}
	for (size_t i = 0; i < json_array_size(list); i++)
		print_line(json_array_get(list, i), paths, count);
}

/* What follows the last document is white space. */
static int at_end(void)
{
	int c;

	do
		c = getchar();
	while (c == ' ' || c == '\t' || c == '\r' || c == '\n');
	if (c != EOF)
		ungetc(c, stdin);
	return c == EOF;
}

int main(int argc, char **argv)
{
	json_error_t error;

	if (argc < 2) {
		fprintf(stderr, "usage: jget PATH... <JSON\n");
		return 2;
	}
	while (!at_end()) {
		json_t *root = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, &error);

		if (root == NULL) {
			fprintf(stderr, "jget: line %d: %s\n", error.line, error.text);
			return 1;
		}
		print_document(root, argv + 1, argc - 1);
		json_decref(root);
		fflush(stdout);
	}
	return 0;
}
