/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API of `mayfly run`, against its table of routes, the tables of the configuration and
 * docs/api.yaml: all three say the same, and so does what the server answers.  Then what must not
 * harm it.  The last part runs a guest that only halts, and is skipped where no VM can be made.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/api/internal.h"
#include "core/cc.h"
#include "core/config.h"
#include "core/config_fields.h"
#include "core/http.h"
#include "tests/host/api_autopsy.h"
#include "tests/host/apidoc.h"
#include "tests/host/kvm_guest.h"
#include "tests/host/kvm_skip.h"
#include "tests/rig/mayfly.h"
#include "tests/unit/kernelfile.h"

#define THREADS 8
#define ROUNDS 25

static char dir[64];
static pid_t vm;
static int vm_err;

static void test_routes_are_documented(void **state)
{
	const char *path, *method;
	json_t *operations, *op;
	size_t n = 0;

	(void)state;
	json_object_foreach(json_object_get(document, "paths"), path, operations)
	{
		json_object_foreach(operations, method, op) n++;
	}
	for (size_t i = 0; i < api_route_count; i++) {
		const struct api_route *r = &api_routes[i];
		const json_t *known = operation(r->method, r->path);

		if (known == NULL)
			fail_msg("%s %s is not in docs/api.yaml", r->method, r->path);
		assert_int_equal(json_object_get(known, "requestBody") != NULL,
				 r->body == API_BODY_OBJECT);
		assert_int_equal(json_is_true(json_object_get(known, "x-back-end")),
				 r->whose == API_BOTH);
	}
	assert_int_equal(n, api_route_count);
}

/* The keys of a table and of a schema are the same, the required ones too, all the way down. */
static void assert_same_keys(const struct config_table *table, const json_t *schema,
			     const char *where)
{
	const json_t *properties = json_object_get(resolve(schema), "properties");
	const json_t *required = json_object_get(resolve(schema), "required");
	size_t n = 0;

	for (size_t i = 0; i < table->count; i++) {
		const struct config_field *f = &table->fields[i];
		const json_t *property = json_object_get(properties, f->key);

		if ((property != NULL) == (f->type == &config_refused))
			fail_msg("%s.%s: table and docs/api.yaml differ", where, f->key);
		if (has_word(required, f->key) != f->required)
			fail_msg("%s.%s: one says that it is required", where, f->key);
		n += property != NULL;
		if (f->table != NULL)
			assert_same_keys(f->table, property, f->key);
	}
	assert_int_equal(n, json_object_size(properties));
}

static void test_fields_are_documented(void **state)
{
	size_t seen = 0;

	(void)state;
	for (size_t i = 0; i < api_route_count; i++) {
		const struct api_route *r = &api_routes[i];

		for (size_t k = 0; k < config_section_count && r->body == API_BODY_OBJECT; k++) {
			if (r->section == NULL || strcmp(config_sections[k].name, r->section) != 0)
				continue;
			assert_same_keys(&config_sections[k].table,
					 content_of(json_object_get(operation(r->method, r->path),
								    "requestBody")),
					 r->section);
			seen++;
		}
	}
	assert_int_equal(seen, 11);
}

/* ---- before the start ---- */

/* For a body with an unknown key, or none, and an id that nothing has. */
static unsigned int status_of_nothing(const struct api_route *r, bool id)
{
	if (strcmp(r->path, "/devices/{id}/faults") == 0)
		return 403; /* whatever it says */
	if ((id || strncmp(r->path, "/hotplug", strlen("/hotplug")) == 0) &&
	    strcmp(r->method, "PUT") != 0)
		return 404;
	if (r->body == API_BODY_OBJECT)
		return 400;
	return strncmp(r->path, "/balloon", strlen("/balloon")) == 0 ? 404 : 200;
}

/* Every route is called: it is there, and what it answers is documented. */
static void test_every_route(void **state)
{
	char path[64];

	(void)state;
	for (size_t i = 0; i < api_route_count; i++) {
		const struct api_route *r = &api_routes[i];
		const char *hole = strstr(r->path, "{id}");

		if (strcmp(r->path, "/events") == 0)
			continue; /* test_events.c */
		if (hole == NULL)
			snprintf(path, sizeof(path), "%s", r->path);
		else
			snprintf(path, sizeof(path), "%.*snone%s", (int)(hole - r->path), r->path,
				 hole + strlen("{id}"));
		ask(r->method, path, r->body == API_BODY_OBJECT ? "{\"no_such\":1}" : NULL);
		answer_fits(r->method, r->path);
		if (r->body == API_BODY_OBJECT && status == 400)
			assert_string_equal(fault(), "no_such: unknown key");
		assert_int_equal(status, status_of_nothing(r, hole != NULL));
	}
}

static const struct {
	const char *method, *path, *body, *begin;
} bad[] = {
#define BOOT "PUT", "/boot-source"
#define MACHINE "PUT", "/machine-config"
#define DRIVE "PUT", "/drives/d"
#define DRIVE_WITH(more)                                                                           \
	"{\"drive_id\":\"d\",\"path_on_host\":\"/d\",\"is_root_device\":false," more "}"
#define MACHINE_WITH(more) "{\"vcpu_count\":1,\"mem_size_mib\":64," more "}"
	{ BOOT, "", "the body is not JSON" },
	{ BOOT, "{", "the body is not JSON" },
	{ BOOT, "[]", "the body is not an object" },
	{ BOOT, "{\"kernel_image_path\":\"/a\",\"kernel_image_path\":\"/b\"}",
	  "the body is not JSON" },
	{ BOOT, "{\"boot_args\":\"x\"}", "kernel_image_path: must be given" },
	{ BOOT, "{\"kernel_image_path\":7}", "kernel_image_path: is not a string" },
	{ BOOT, "{\"kernel_image_path\":\"\"}", "kernel_image_path: must not be empty" },
	{ BOOT, "{\"kernel_image_path\":\"/k\",\"initrd_path\":\"\"}", "initrd_path: " },
	{ BOOT, "{\"kernel_image_path\":\"/k\",\"boot_args\":\"a\\nb\"}", "boot_args: control" },
	{ MACHINE, "{\"vcpu_count\":1}", "mem_size_mib: must be given" },
	{ MACHINE, "{\"mem_size_mib\":64}", "vcpu_count: must be given" },
	{ MACHINE, "{\"vcpu_count\":0,\"mem_size_mib\":64}", "vcpu_count: 0 is not between" },
	{ MACHINE, "{\"vcpu_count\":33,\"mem_size_mib\":64}", "vcpu_count: 33 is not between" },
	{ MACHINE, "{\"vcpu_count\":1.5,\"mem_size_mib\":64}", "vcpu_count: is not a whole" },
	{ MACHINE, "{\"vcpu_count\":1,\"mem_size_mib\":0}", "mem_size_mib: 0 is not between" },
	{ MACHINE, "{\"vcpu_count\":1,\"mem_size_mib\":-5}", "mem_size_mib: -5 is not between" },
	{ MACHINE, "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":true}", "smt: true is not" },
	{ MACHINE, MACHINE_WITH("\"smt\":1"), "smt: is not true or false" },
	{ MACHINE, MACHINE_WITH("\"track_dirty_pages\":true"), "track_dirty_pages: true" },
	{ MACHINE, MACHINE_WITH("\"huge_pages\":\"4M\""), "huge_pages: '4M' is not" },
	{ MACHINE, MACHINE_WITH("\"cpu_template\":\"T2\""), "cpu_template: 'T2' is not" },
	{ MACHINE, "{\"vcpu_count\":1,\"mem_size_mib\":65,\"huge_pages\":\"2M\"}",
	  "mem_size_mib: not a multiple of 2M" },
	{ DRIVE, "{\"drive_id\":\"d\",\"path_on_host\":\"/d\"}", "is_root_device: must be given" },
	{ DRIVE, "{\"drive_id\":\"d\",\"is_root_device\":false}", "path_on_host: must be given" },
	{ DRIVE, "{\"path_on_host\":\"/d\",\"is_root_device\":false}", "drive_id: must be given" },
	{ DRIVE, "{\"drive_id\":\"e\",\"path_on_host\":\"/d\",\"is_root_device\":false}",
	  "drive_id: 'e' is not the id in the path" },
	{ DRIVE, "{\"drive_id\":\"a b\",\"path_on_host\":\"/d\",\"is_root_device\":false}",
	  "drive_id: 'a b' is not" },
	{ "PUT", "/drives/console",
	  "{\"drive_id\":\"console\",\"path_on_host\":\"/d\",\"is_root_device\":false}",
	  "drive_id: 'console' is another" },
	{ DRIVE, DRIVE_WITH("\"is_read_only\":\"yes\""), "is_read_only: is not true" },
	{ DRIVE, DRIVE_WITH("\"partuuid\":\"\""), "partuuid: must not be empty" },
	{ DRIVE, DRIVE_WITH("\"cache_type\":\"None\""), "cache_type: 'None' is not" },
	{ DRIVE, DRIVE_WITH("\"io_engine\":\"Async\""), "io_engine: 'Async' is not" },
	{ DRIVE, DRIVE_WITH("\"socket\":\"/s\""), "socket: not supported" },
	{ DRIVE, DRIVE_WITH("\"rate_limiter\":5"), "rate_limiter: is not an object" },
	{ DRIVE, DRIVE_WITH("\"rate_limiter\":{\"iops\":{}}"), "rate_limiter.iops: unknown key" },
	{ DRIVE, DRIVE_WITH("\"rate_limiter\":{\"ops\":{\"size\":1}}"),
	  "rate_limiter.ops.refill_time: must be given" },
	{ DRIVE, DRIVE_WITH("\"rate_limiter\":{\"ops\":{\"size\":0,\"refill_time\":1}}"),
	  "rate_limiter.ops.size: 0 is not" },
	{ DRIVE,
	  DRIVE_WITH("\"rate_limiter\":{\"bandwidth\":{\"size\":1,\"refill_time\":1099511627777}}"),
	  "rate_limiter.bandwidth: no such limit" },
	{ "PUT", "/entropy", "{\"rate_limiter\":{}}", "rate_limiter: not supported" },
	{ "PUT", "/serial", "{\"serial_out_path\":\"\"}", "serial_out_path: must not" },
	{ "PUT", "/serial", "{\"rate_limiter\":{}}", "rate_limiter: not supported" },
	{ "PUT", "/logger", "{\"level\":\"Loud\"}", "level: 'Loud' is not" },
	{ "PUT", "/logger", "{\"show_level\":1}", "show_level: is not true" },
	{ "PUT", "/logger", "{\"show_log_origin\":\"yes\"}", "show_log_origin: is not true" },
	{ "PUT", "/logger", "{\"module\":\"x\"}", "module: not supported" },
	{ "PUT", "/logger", "{\"log_path\":\"/nonexistent/log\"}", "log_path: cannot open" },
	{ "PUT", "/metrics", "{}", "metrics_path: must be given" },
	{ "PATCH", "/vm", "{\"state\":\"Stopped\"}", "state: 'Stopped' is not" },
	{ "PATCH", "/vm", "{}", "state: must be given" },
	{ "PUT", "/actions", "{\"action_type\":\"Explode\"}", "action_type: 'Explode' is not" },
	{ "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", "no kernel" },
	{ "POST", "/devices/d/replace", "{\"carry\":false}", "carry: unknown key" },
};

static void test_bad_fields(void **state)
{
	json_t *before;

	(void)state;
	takes("GET", "/vm/config", NULL);
	before = json_incref(answer);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		refuses(bad[i].method, bad[i].path, bad[i].body, 400, bad[i].begin);
		assert_null(strchr(fault(), '\n'));
	}
	/* And nothing of it was kept. */
	takes("GET", "/vm/config", NULL);
	assert_true(json_equal(before, answer));
	json_decref(before);
}

static void test_wrong_places(void **state)
{
	char longest[256] = "/drives/";

	(void)state;
	memset(longest + strlen(longest), 'x', 200);
	refuses("GET", "/nowhere", NULL, 404, "/nowhere: unknown path");
	refuses("GET", "/devices/", NULL, 404, "/devices/: unknown path");
	refuses("GET", "/devices/a/b", NULL, 404, "/devices/a/b");
	refuses("PUT", longest, "{}", 404, "/drives/xxx");
	refuses("PUT", "/network-interfacesx", "{}", 404, "/network-interfacesx");
	refuses("GET", "/devices/none", NULL, 404, "none: no device");
	refuses("DELETE", "/vm", NULL, 405, "DELETE: not a method of /vm");
	refuses("PATCH", "/vm", "{\"state\":\"Paused\"}", 409, "the VM does not run");
	refuses("PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}", 409, "the VM does not");
}

/* ---- what must not harm it ---- */

static int connected(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", sock);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void test_malformed(void **state)
{
	static const char *const junk[] = {
		"\r\n\r\n",
		"GET\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n",
		"\x16\x03\x01\x02",
		"PUT /vm HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"PUT /vm HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"PUT /vm HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"PUT /boot-source HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(junk); i++) {
		char text[1024];
		const int fd = connected();
		ssize_t n;

		assert_int_equal(send(fd, junk[i], strlen(junk[i]), MSG_NOSIGNAL), strlen(junk[i]));
		shutdown(fd, SHUT_WR);
		n = recv(fd, text, sizeof(text) - 1, 0); /* an error of HTTP's, or the end */
		assert_true(n <= 0 || strncmp(text, "HTTP/1.1 4", 10) == 0 ||
			    strncmp(text, "HTTP/1.1 5", 10) == 0);
		close(fd);
		takes("GET", "/", NULL);
	}
}

static void test_long_body(void **state)
{
	static char body[(1 << 20) + 1];

	(void)state;
	memset(body, ' ', sizeof(body) - 1);
	refuses("PUT", "/boot-source", body, 413, "the body is longer than 65536 bytes");
	body[65536] = '\0';
	refuses("PUT", "/boot-source", body, 400, "the body is not JSON");
	takes("GET", "/", NULL);
}

static void *asker(void *arg)
{
	size_t good = 0;

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		static const char *const paths[] = { "/", "/vm/config", "/devices", "/metrics" };
		struct http_answer got;

		if (http_ask(sock, "GET", paths[i % 4], NULL, ASK_WAIT_S, &got) == 0)
			good += got.status == 200;
		free(got.body);
	}
	return (void *)good;
}

static void test_concurrent(void **state)
{
	pthread_t threads[THREADS];
	void *good;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, asker, NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &good);
		assert_int_equal((size_t)good, ROUNDS);
	}
}

static void test_socket_in_use(void **state)
{
	struct mayfly_result result;
	char words[512], want[256];
	struct stat st;

	(void)state;
	assert_int_equal(stat(sock, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(words, sizeof(words), "run --state-dir %s/other --console off --api-socket %s",
		 dir, sock);
	snprintf(want, sizeof(want), "mayfly run: cannot listen at %s: somebody listens there\n",
		 sock);
	assert_int_equal(mayfly_call(words, &result), 0);
	assert_int_equal(result.status, 1);
	assert_string_equal(result.err, want);
	takes("GET", "/", NULL);
}

/* ---- what was set ---- */

static void set_all(void)
{
	char body[512];

	takes("PUT", "/boot-source",
	      "{\"kernel_image_path\":\"/k\",\"initrd_path\":\"/i\",\"boot_args\":\"h quiet\"}");
	takes("PUT", "/machine-config",
	      "{\"vcpu_count\":2,\"mem_size_mib\":64,\"huge_pages\":\"Transparent\"}");
	takes("PUT", "/drives/data",
	      "{\"drive_id\":\"data\",\"path_on_host\":\"/x\",\"is_root_device\":false,"
	      "\"cache_type\":\"Unsafe\",\"io_engine\":null}");
	snprintf(body, sizeof(body),
		 "{\"drive_id\":\"rootfs\",\"path_on_host\":\"%s/image\",\"is_root_device\":true,"
		 "\"rate_limiter\":{\"ops\":{\"size\":10000,\"refill_time\":100,"
		 "\"one_time_burst\":5}}}",
		 dir);
	takes("PUT", "/drives/rootfs", body);
	takes("PUT", "/entropy", "{}");
	snprintf(body, sizeof(body), "{\"serial_out_path\":\"%s/serial\"}", dir);
	takes("PUT", "/serial", body);
	snprintf(body, sizeof(body), "{\"metrics_path\":\"%s/metrics\"}", dir);
	takes("PUT", "/metrics", body);
	takes("PUT", "/logger", "{\"level\":\"Info\"}");
}

/* What the server says it is set to is documented, and a file of it sets the same. */
static void test_configuration(void **state)
{
	static struct run_options loaded;
	struct option_error error;
	char path[128];
	json_t *again;

	(void)state;
	set_all();
	refuses("PUT", "/drives/second",
		"{\"drive_id\":\"second\",\"path_on_host\":\"/y\",\"is_root_device\":true}", 400,
		"is_root_device: rootfs is the root device");
	takes("GET", "/vm/config", NULL);
	answer_fits("GET", "/vm/config");
	snprintf(path, sizeof(path), "%s/config.json", dir);
	assert_int_equal(json_dump_file(answer, path, 0), 0);
	options_default(&run_set, &loaded);
	if (config_load(path, &run_set, &loaded, &error) != 0)
		fail_msg("%s", error.text);
	again = config_all(&loaded, false);
	assert_true(json_equal(again, answer));
	json_decref(again);
	assert_string_equal(loaded.disks[0].id, "rootfs");
	takes("GET", "/drives/rootfs", NULL);
	answer_fits("GET", "/drives/{id}");
	takes("PATCH", "/machine-config", "{\"vcpu_count\":1}");
	takes("GET", "/machine-config", NULL);
	answer_fits("GET", "/machine-config");
	assert_int_equal(json_integer_value(json_object_get(answer, "vcpu_count")), 1);
	assert_int_equal(json_integer_value(json_object_get(answer, "mem_size_mib")), 64);
}

/* ---- a guest ---- */

static void make_files(void)
{
	static uint8_t file[8192];
	const size_t payload = kvm_guest_bytes();
	const size_t bytes = kernelfile_bzimage(file, kvm_guest, (payload + 15) / 16 * 16);
	char path[128], body[256];
	int fd;

	snprintf(path, sizeof(path), "%s/kernel", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, file, bytes), bytes);
	close(fd);
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\",\"boot_args\":\"h\"}", path);
	takes("PUT", "/boot-source", body);
	snprintf(path, sizeof(path), "%s/image", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/image2", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	snprintf(body, sizeof(body), "{\"path_on_host\":\"%s\"}", path);
	takes("PATCH", "/drives/data", body);
}

static void devices_run(void)
{
	static const char *const ids[] = { "rootfs", "data", "rng", "serial" };

	takes("GET", "/devices", NULL);
	answer_fits("GET", "/devices");
	assert_int_equal(json_array_size(answer), ARRAY_SIZE(ids));
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		char path[64];
		const json_t *device = json_array_get(answer, i);

		assert_string_equal(json_string_value(json_object_get(device, "id")), ids[i]);
		snprintf(path, sizeof(path), "/devices/%s/replace", ids[i]);
		takes("POST", path, NULL);
		answer_fits("POST", "/devices/{id}/replace");
		assert_int_equal(json_integer_value(json_object_get(answer, "to")) >
					 json_integer_value(json_object_get(answer, "from")),
				 1);
		takes("GET", "/devices", NULL);
	}
	takes("GET", "/devices/serial", NULL);
	answer_fits("GET", "/devices/{id}");
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "active");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "replacements"),
							    "operator")),
			 1);
	refuses("POST", "/devices/serial/revive", NULL, 409, "serial: it is not quarantined");
	refuses("POST", "/devices/none/replace", NULL, 404, "none: no device");
}

static void metrics_count(void)
{
	struct http_answer got;

	assert_int_equal(http_ask(sock, "GET", "/metrics", NULL, ASK_WAIT_S, &got), 0);
	assert_non_null(strstr(got.body, "\nmayfly_replacements_total{device=\"serial\","
					 "kind=\"handoff\",reason=\"operator\"} 1\n"));
	assert_non_null(strstr(got.body, "\nmayfly_switch_seconds_count{device=\"serial\","
					 "kind=\"handoff\"} 1\n"));
	assert_non_null(strstr(got.body, "\nmayfly_drain_seconds_count{device=\"serial\"} 1\n"));
	assert_non_null(strstr(got.body, "\nmayfly_autopsies_total{device=\"rng\"} 0\n"));
	assert_non_null(strstr(got.body, "\nmayfly_epoch 1\n"));
	free(got.body);
}

static void test_running(void **state)
{
	char path[128];
	struct stat st;

	(void)state;
	if (!kvm_or_skip())
		return;
	make_files();
	takes("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	refuses("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", 409,
		"the VM was started");
	refuses("PUT", "/entropy", "{}", 409, "the VM was started");
	devices_run();
	autopsy_is_kept(dir);
	metrics_count();
	takes("PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
	snprintf(path, sizeof(path), "%s/metrics", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 0);
	takes("PATCH", "/vm", "{\"state\":\"Paused\"}");
	takes("GET", "/", NULL);
	answer_fits("GET", "/");
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "Paused");
	takes("PATCH", "/vm", "{\"state\":\"Resumed\"}");
	ctl("devices", 0, "device ");
	ctl("device rng", 0, "id                rng\n");
	ctl("replace serial", 0, "serial: generation ");
	ctl("replace all", 0, "rootfs: generation ");
	ctl("replace rng --json", 0, "{\"id\":\"rng\",");
	ctl("pause", 0, "");
	ctl("resume", 0, "");
	ctl("metrics", 0, "# HELP ");
	ctl("device none", 1, "mayfly ctl: none: no device");
	ctl("revive rng", 1, "mayfly ctl: rng: it is not quarantined");
	ctl("device", 2, "mayfly ctl: 'device' needs");
	takes("PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
}

/* ---- around it ---- */

static int setup(void **state)
{
	char words[256];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-api-XXXXXX");
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	vm_err = memfd_create("err", MFD_CLOEXEC);
	if (document == NULL || vm_err < 0 || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	snprintf(words, sizeof(words),
		 "run --state-dir %s/state --console off --id api --api-socket %s", dir, sock);
	return mayfly_start(words, sock, vm_err, &vm);
}

static int teardown(void **state)
{
	static const char *const files[] = { "kernel",  "image", "image2",      "serial",
					     "metrics", "state", "config.json", "other" };
	int ret = mayfly_stop(vm);
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		remove(path);
	}
	json_decref(answer);
	json_decref(document);
	/* The socket went with the VM, so nothing is left. */
	return ret != 0 ? ret : rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes_are_documented),
		cmocka_unit_test(test_fields_are_documented),
		cmocka_unit_test(test_every_route),
		cmocka_unit_test(test_bad_fields),
		cmocka_unit_test(test_wrong_places),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_long_body),
		cmocka_unit_test(test_concurrent),
		cmocka_unit_test(test_socket_in_use),
		cmocka_unit_test(test_configuration),
		cmocka_unit_test(test_running),
	};

	return cmocka_run_group_tests_name("api", tests, setup, teardown);
}
