/* SPDX-License-Identifier: Apache-2.0 */
/* Of test_api, while a VM runs: `mayfly ctl`, and what is kept of a device that died. */
#ifndef MAYFLY_TESTS_HOST_API_AUTOPSY_H
#define MAYFLY_TESTS_HOST_API_AUTOPSY_H

#include <signal.h>
#include <unistd.h>

#include "core/cc.h"
#include "tests/host/apidoc.h"
#include "tests/rig/mayfly.h"

static inline void ctl(const char *command, int want, const char *begin)
{
	struct mayfly_result result;
	char words[256];

	snprintf(words, sizeof(words), "ctl %s %s", sock, command);
	assert_int_equal(mayfly_call(words, &result), 0);
	if (result.status != want ||
	    strncmp(want == 0 ? result.out : result.err, begin, strlen(begin)) != 0)
		fail_msg("ctl %s: %d '%s' '%s'", command, result.status, result.out, result.err);
}

/* A death, and what is kept of it. */
static inline void autopsy_is_kept(const char *dir)
{
	const uint64_t by = now_ns() + ASK_WAIT_S * NS_PER_S;
	long long generation;
	char path[64], file[160];

	takes("GET", "/devices/serial", NULL);
	generation = json_integer_value(json_object_get(answer, "generation"));
	assert_int_equal(kill((pid_t)json_integer_value(json_object_get(answer, "pid")), SIGKILL),
			 0);
	do {
		takes("GET", "/devices/serial/autopsies", NULL);
		answer_fits("GET", "/devices/{id}/autopsies");
		assert_true(now_ns() < by);
	} while (json_array_size(answer) == 0);
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(answer, 0), "generation")),
		generation);
	snprintf(path, sizeof(path), "/devices/serial/autopsies/%lld", generation);
	takes("GET", path, NULL);
	answer_fits("GET", "/devices/{id}/autopsies/{n}");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(answer, "signal"), "number")),
		SIGKILL);
	refuses("GET", "/devices/serial/autopsies/0", NULL, 404, "0: no autopsy");
	refuses("GET", "/devices/serial/autopsies/1x", NULL, 404, "1x: no autopsy");
	refuses("GET", "/devices/none/autopsies", NULL, 404, "none: no device");
	snprintf(path, sizeof(path), "autopsies serial %lld", generation);
	ctl(path, 0, "{\n  \"device\": \"serial\"");
	ctl("autopsies serial", 0, "  ");
	ctl("autopsies serial x", 2, "mayfly ctl: 'x' is not the number of a generation");
	snprintf(file, sizeof(file), "%s/state/autopsies/serial-%lld.json", dir, generation);
	assert_int_equal(unlink(file), 0);
	snprintf(file, sizeof(file), "%s/state/autopsies", dir);
	assert_int_equal(rmdir(file), 0);
	takes("GET", "/devices/serial/autopsies", NULL);
	assert_int_equal(json_array_size(answer), 0);
	ctl("device serial 1", 2, "mayfly ctl: '1' is one word too many");
}

#endif
