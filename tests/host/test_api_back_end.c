/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API of a vhost-user back-end: a station made up here, with two real devices and no VM.  What is a VM's
 * alone is refused, what is there is as docs/api.yaml has it, and of a drive only its image changes.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "core/api/api.h"
#include "core/api/internal.h"
#include "core/cc.h"
#include "core/loop.h"
#include "core/station.h"
#include "tests/host/apidoc.h"
#include "tests/rig/boxrig.h"

#define CONNECTIONS 3
#define CHANGES 7
#define HANDOFFS 9

static char dir[64];
static struct boxrig rig;
static struct boxrig_blk blk;
static struct boxrig_rng rng;
static struct loop *loop;
static pthread_t loop_thread;
static struct station station;
static struct run_options options;
static struct api *api;
static char patched[OPTION_PATH_MAX]; /* the path that the hook was given last */

static int patch_drive(struct station *s, const char *id, const struct run_disk *next,
		       struct option_error *error)
{
	assert_ptr_equal(s, &station);
	assert_string_equal(id, next->id);
	assert_true(pthread_equal(pthread_self(), loop_thread));
	snprintf(patched, sizeof(patched), "%s", next->path);
	if (strcmp(next->path, "/bad") != 0)
		return 0;
	option_fail(error, "path_on_host: /bad is bad");
	return -EINVAL;
}

static int describe(struct station *s, const char *id, struct front_end *f)
{
	(void)s;
	if (strcmp(id, "disk") != 0)
		return -ENOENT;
	*f = (struct front_end){
		.connected = true,
		.connections = CONNECTIONS,
		.refused = 1,
		.regions = 2,
		.memory_bytes = 3ull << 30,
		.rings_started = 1,
		.memory_changes = CHANGES,
		.handoffs = HANDOFFS,
		.features = 0x140000000,
		.protocol_features = 0x8201,
	};
	return 0;
}

static const struct station_ops ops = { patch_drive, describe };

/* ---- what is there ---- */

static const char *filled(const char *pattern, char *path, size_t room)
{
	const char *hole = strstr(pattern, "{id}");

	if (hole == NULL)
		return pattern;
	snprintf(path, room, "%.*snone%s", (int)(hole - pattern), pattern, hole + strlen("{id}"));
	return path;
}

/* Whatever is the VM's alone answers 400 before its body is looked at. */
static void test_every_route(void **state)
{
	char path[64], words[192];

	(void)state;
	for (size_t i = 0; i < api_route_count; i++) {
		const struct api_route *r = &api_routes[i];
		const char *url = filled(r->path, path, sizeof(path));

		if (strcmp(r->path, "/events") == 0)
			continue;
		if (r->whose == API_VM) {
			snprintf(words, sizeof(words),
				 "%s %s: this is a vhost-user back-end, which", r->method, url);
			refuses(r->method, url, "{", 400, words);
			continue;
		}
		ask(r->method, url, r->body == API_BODY_OBJECT ? "{}" : NULL);
		answer_fits(r->method, r->path);
	}
}

static void test_state(void **state)
{
	(void)state;
	takes("GET", "/", NULL);
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "Running");
	assert_string_equal(json_string_value(json_object_get(answer, "id")), "back");
}

static void test_devices(void **state)
{
	const json_t *f;

	(void)state;
	takes("GET", "/devices", NULL);
	answer_fits("GET", "/devices");
	assert_int_equal(json_array_size(answer), 2);
	f = json_object_get(json_array_get(answer, 0), "front_end");
	assert_true(json_is_true(json_object_get(f, "connected")));
	assert_int_equal(json_integer_value(json_object_get(f, "memory_bytes")), 3ull << 30);
	assert_string_equal(json_string_value(json_object_get(f, "features")), "0x140000000");
	assert_null(json_object_get(json_array_get(answer, 1), "front_end"));
	takes("GET", "/devices/disk", NULL);
	answer_fits("GET", "/devices/{id}");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "front_end"),
							    "memory_changes")),
			 CHANGES);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(answer, "front_end"), "handoffs")),
			 HANDOFFS);
	refuses("GET", "/devices/none", NULL, 404, "none: no device");
}

static void test_metrics(void **state)
{
	char *text = metrics_text(&station, NULL);

	(void)state;
	assert_non_null(text);
	assert_non_null(strstr(text, "\nmayfly_front_end_connected{device=\"disk\"} 1\n"));
	assert_non_null(strstr(text, "\nmayfly_front_end_connected{device=\"rng\"} 0\n"));
	assert_non_null(strstr(text, "\nmayfly_front_end_connections_total{device=\"disk\"} 3\n"));
	assert_non_null(strstr(text, "\nmayfly_front_ends_refused_total{device=\"disk\"} 1\n"));
	assert_non_null(strstr(text, "\nmayfly_memory_changes_total{device=\"disk\"} 7\n"));
	assert_non_null(strstr(text, "\nmayfly_generation{device=\"rng\"} "));
	assert_null(strstr(text, "mayfly_epoch"));
	free(text);
	takes("GET", "/metrics", NULL);
}

/* ---- a drive that changes ---- */

static const char *path_now(void)
{
	takes("GET", "/drives/disk", NULL);
	answer_fits("GET", "/drives/{id}");
	return json_string_value(json_object_get(answer, "path_on_host"));
}

static void test_patch(void **state)
{
	(void)state;
	assert_string_equal(path_now(), "/a");
	takes("PATCH", "/drives/disk", "{\"drive_id\":\"disk\",\"path_on_host\":\"/b\"}");
	assert_string_equal(patched, "/b");
	assert_string_equal(path_now(), "/b");
	/* The same file, which may have grown. */
	takes("PATCH", "/drives/disk", "{\"path_on_host\":\"/b\"}");
	takes("PATCH", "/drives/disk", "{\"path_on_host\":\"/c\",\"is_read_only\":null}");
	assert_string_equal(patched, "/c");
	refuses("PATCH", "/drives/disk", "{\"path_on_host\":\"/bad\"}", 400,
		"path_on_host: /bad is bad");
	assert_string_equal(path_now(), "/c");
}

static void test_patch_refused(void **state)
{
	static const struct {
		const char *body, *begin;
	} bad[] = {
		{ "{\"is_read_only\":true}", "is_read_only: cannot be changed while" },
		{ "{\"path_on_host\":\"/d\",\"cache_type\":\"Unsafe\"}", "cache_type: cannot be" },
		{ "{\"is_root_device\":true}", "is_root_device: cannot be changed" },
		{ "{\"rate_limiter\":{}}", "rate_limiter: cannot be changed" },
		{ "{\"path_on_host\":\"\"}", "path_on_host: must not be empty" },
		{ "{\"path_on_host\":7}", "path_on_host: is not a string" },
		{ "{\"no_such\":7}", "no_such: unknown key" },
		{ "{\"drive_id\":\"other\"}", "drive_id: 'other' is not the id in the path" },
	};

	(void)state;
	patched[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuses("PATCH", "/drives/disk", bad[i].body, 400, bad[i].begin);
	refuses("PATCH", "/drives/none", "{\"path_on_host\":\"/d\"}", 404, "none: no drive");
	assert_string_equal(patched, "");
	assert_string_equal(path_now(), "/c");
}

static void test_replace(void **state)
{
	(void)state;
	takes("POST", "/devices/disk/replace", NULL);
	answer_fits("POST", "/devices/{id}/replace");
	refuses("POST", "/devices/disk/faults", "{\"fault\":\"kill\"}", 403, "no faults");
}

/* ---- around it ---- */

static void *run_loop(void *arg)
{
	loop_run(arg);
	loop_end(arg);
	return NULL;
}

static int make_devices(void)
{
	const struct boxrig_blk_config disk = { .name = "disk", .bytes = 1 << 20 };
	const struct boxrig_rng_config source = { .id = "rng", .ring_size = 16 };

	if (guestmem_add(&rig.mem, 0, 16 << 20, GUESTMEM_4K) != 0 || boxrig_supervise(&rig) != 0)
		return -1;
	if (boxrig_blk_create(&rig, &disk, &blk) != 0)
		return -1;
	return boxrig_rng_create(&rig, &source, &rng);
}

static int make_station(void)
{
	struct option_error error;

	options_default(&run_set, &options);
	if (options_assign(&run_set, &options, "id", "back", &error) != 0 ||
	    options_assign(&run_set, &options, "disk", "id=disk,path=/a", &error) != 0)
		return -1;
	if (loop_create(&loop) != 0 || station_init(&station, &options, loop, &ops) != 0)
		return -1;
	pthread_mutex_lock(&station.lock);
	station_add(&station, "disk", DEV_KIND_BLK, blk.dev);
	station_add(&station, "rng", DEV_KIND_RNG, rng.dev);
	station.state = STATION_RUNNING;
	pthread_mutex_unlock(&station.lock);
	return 0;
}

static int setup(void **state)
{
	struct option_error error;

	(void)state;
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	snprintf(dir, sizeof(dir), "/tmp/mayfly-api-XXXXXX");
	if (document == NULL || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	if (boxrig_start(&rig) != 0 || make_devices() != 0 || make_station() != 0)
		return -1;
	pthread_create(&loop_thread, NULL, run_loop, loop);
	return api_start(&api, &station, NULL, sock, &error);
}

static int teardown(void **state)
{
	(void)state;
	loop_stop(loop);
	pthread_join(loop_thread, NULL);
	api_stop(api);
	station_fini(&station);
	loop_destroy(loop);
	boxrig_rng_destroy(&rng);
	boxrig_blk_destroy(&blk);
	boxrig_stop(&rig);
	json_decref(answer);
	json_decref(document);
	return rmdir(dir); /* the socket went with the API */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_route), cmocka_unit_test(test_state),
		cmocka_unit_test(test_devices),     cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_patch),       cmocka_unit_test(test_patch_refused),
		cmocka_unit_test(test_replace),
	};

	return cmocka_run_group_tests_name("api of a back-end", tests, setup, teardown);
}
