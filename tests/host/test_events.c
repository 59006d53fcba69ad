/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /events and POST /devices/{id}/faults of a `mayfly run --allow-faults --faulty-programs`: what is
 * told fits docs/api.yaml, readers that come, go and sleep keep nobody, and bad orders are refused.
 * What each fault does to a device is test_faults.c's.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/box/news.h"
#include "core/cc.h"
#include "tests/host/api_autopsy.h"
#include "tests/host/apidoc.h"
#include "tests/host/kvm_guest.h"
#include "tests/host/kvm_skip.h"
#include "tests/unit/kernelfile.h"

#define TURNS 1500 /* each is two events; a socket's buffer and what is kept are far less */

static char dir[64];
static pid_t vm;
static int vm_err;

/* ---- a reader ---- */

static struct {
	int fd;
	size_t bytes;
	char data[8192];
} reader;

static int connected(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval wait = { .tv_sec = ASK_WAIT_S };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", sock);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	return fd;
}

static void receive(void)
{
	const ssize_t n = recv(reader.fd, reader.data + reader.bytes,
			       sizeof(reader.data) - 1 - reader.bytes, 0);

	assert_true(n > 0);
	reader.bytes += (size_t)n;
	reader.data[reader.bytes] = '\0';
}

/* What stands before the next `mark`, which is taken off, too. */
static const char *next_part(const char *mark)
{
	static char part[sizeof(reader.data)];
	char *end;

	while ((end = strstr(reader.data, mark)) == NULL)
		receive();
	*end = '\0';
	memcpy(part, reader.data, (size_t)(end - reader.data) + 1);
	end += strlen(mark);
	reader.bytes -= (size_t)(end - reader.data);
	memmove(reader.data, end, reader.bytes + 1);
	return part;
}

/* Begins to read; the status. */
static unsigned int reader_begin(void)
{
	static const char request[] = "GET /events HTTP/1.0\r\nHost: x\r\n\r\n";
	unsigned int code = 0;

	reader.fd = connected();
	reader.bytes = 0;
	reader.data[0] = '\0';
	assert_int_equal(send(reader.fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	assert_int_equal(sscanf(next_part("\r\n\r\n"), "HTTP/1.%*u %u", &code), 1);
	return code;
}

static void reader_end(void)
{
	close(reader.fd);
}

static const json_t *event_schema(void)
{
	const json_t *content = json_object_get(
		json_object_get(json_object_get(operation("GET", "/events"), "responses"), "200"),
		"content");

	return json_object_get(json_object_get(content, "application/x-ndjson"), "schema");
}

/* The next event, held against the document.  The caller's. */
static json_t *next_event(void)
{
	json_t *event = json_loads(next_part("\n"), 0, NULL);

	assert_non_null(event);
	fits(event_schema(), event, "event");
	return event;
}

static const char *text_of(const json_t *event, const char *key)
{
	const char *text = json_string_value(json_object_get(event, key));

	return text != NULL ? text : "";
}

/* Until one of this name comes; those before are passed over. */
static json_t *await_event(const char *name)
{
	json_t *event = next_event();

	while (strcmp(text_of(event, "event"), name) != 0) {
		json_decref(event);
		event = next_event();
	}
	return event;
}

/* ---- before the start ---- */

/* So many at a time, and one that goes makes room. */
static void test_readers(void **state)
{
	int fds[NEWS_READERS_MAX];

	(void)state;
	for (int i = 0; i < NEWS_READERS_MAX; i++) {
		assert_int_equal(reader_begin(), 200);
		fds[i] = reader.fd;
	}
	assert_int_equal(reader_begin(), 409);
	reader_end();
	for (int i = 0; i < NEWS_READERS_MAX; i++)
		close(fds[i]);
	do {
		status = reader_begin();
		reader_end();
	} while (status == 409); /* until it has seen that they are gone */
	assert_int_equal(status, 200);
}

/* ---- a VM ---- */

static bool started;

/* The first test that needs a VM starts it. */
static bool vm_or_skip(void)
{
	if (!kvm_or_skip())
		return false;
	if (!started)
		takes("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	started = true;
	return true;
}

static void test_refused(void **state)
{
#define SERIAL "POST", "/devices/serial/faults"
	(void)state;
	if (!vm_or_skip())
		return;
	refuses(SERIAL, "{}", 400, "fault: must be given");
	refuses(SERIAL, "{\"fault\":\"explode\"}", 400, "fault: 'explode' is not");
	refuses(SERIAL, "{\"fault\":7}", 400, "fault: is not");
	refuses(SERIAL, "{\"fault\":\"kill\",\"lane\":99}", 400, "lane: 99 is not between");
	refuses(SERIAL, "{\"fault\":\"kill\",\"lane\":1}", 400, "fault: serial has no such lane");
	refuses(SERIAL, "{\"fault\":\"kill\",\"queue\":-1}", 400, "queue: -1 is not between");
	refuses(SERIAL, "{\"fault\":\"die-on-request\",\"after\":32768}", 400, "after: 32768 is");
	refuses(SERIAL, "{\"fault\":\"kill\",\"force\":true}", 400, "force: unknown key");
	refuses(SERIAL, "{\"fault\":\"bad-used-index\"}", 400, "fault: serial has no such");
	refuses("POST", "/devices/none/faults", "{\"fault\":\"kill\"}", 404, "none: no device");
	refuses("POST", "/devices/rng/faults", "{\"fault\":\"kill\"}", 409, "rng: no generation");
	ctl("fault serial", 2, "mayfly ctl: 'fault' needs a device's id and a fault");
	ctl("fault serial Kill", 2, "mayfly ctl: 'Kill' is not a fault");
	ctl("fault serial boom", 1, "mayfly ctl: fault: 'boom' is not");
}

/* From the order to the new generation, as a reader sees it. */
static void test_fault_is_told(void **state)
{
	static const char *const names[] = { "fault", "suspect", "replaced", "autopsy" };
	char want[64];

	(void)state;
	if (!vm_or_skip())
		return;
	assert_int_equal(reader_begin(), 200);
	takes("POST", "/devices/serial/faults", "{\"fault\":\"segv\"}");
	answer_fits("POST", "/devices/{id}/faults");
	const long long generation = json_integer_value(json_object_get(answer, "generation"));

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		json_t *event = await_event(names[i]);

		assert_string_equal(text_of(event, "device"), "serial");
		if (strcmp(names[i], "replaced") == 0) {
			assert_string_equal(text_of(event, "reason"), "crash");
			assert_int_equal(json_integer_value(json_object_get(event, "from")),
					 generation);
		} else {
			assert_int_equal(json_integer_value(json_object_get(event, "generation")),
					 generation);
		}
		json_decref(event);
	}
	takes("GET", "/devices/serial", NULL);
	answer_fits("GET", "/devices/{id}");
	assert_string_equal(text_of(answer, "programs"), "faulty");
	assert_int_equal(json_integer_value(json_object_get(answer, "faults")), 1);
	snprintf(want, sizeof(want), "serial: generation %lld got it: kill", generation + 1);
	ctl("fault serial kill", 0, want);
	json_decref(await_event("replaced"));
	reader_end();
}

/* What the supervisor does to a suspect, the VMM's own seal has to let it do. */
static void test_each_way_to_be_fenced(void **state)
{
	static const struct {
		const char *fault, *reason;
	} ways[] = {
		{ "kill", "crash" },
		{ "stop", "hang" },
		{ "hang", "hang" },
		{ "forbidden-call", "seccomp" },
	};
	char body[64];

	(void)state;
	if (!vm_or_skip())
		return;
	assert_int_equal(reader_begin(), 200);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		snprintf(body, sizeof(body), "{\"fault\":\"%s\"}", ways[i].fault);
		takes("POST", "/devices/serial/faults", body);
		json_t *replaced = await_event("replaced");

		assert_string_equal(text_of(replaced, "reason"), ways[i].reason);
		json_decref(replaced);
		json_decref(await_event("autopsy"));
	}
	reader_end();
}

static void turn_often(void)
{
	for (int i = 0; i < TURNS; i++) {
		takes("PATCH", "/vm", "{\"state\":\"Paused\"}");
		takes("PATCH", "/vm", "{\"state\":\"Resumed\"}");
	}
}

/* One that reads nothing keeps nobody.  Then it is told what it missed, to the last. */
static void test_slow_reader(void **state)
{
	long long first = 0, last = 0, told = 0, lost = 0;

	(void)state;
	if (!vm_or_skip())
		return;
	assert_int_equal(reader_begin(), 200);
	turn_often();
	takes("POST", "/devices/serial/replace", NULL);
	for (bool over = false; !over;) {
		json_t *event = next_event();

		over = strcmp(text_of(event, "event"), "replaced") == 0;
		if (strcmp(text_of(event, "event"), "lost") == 0) {
			lost += json_integer_value(json_object_get(event, "count"));
		} else {
			last = json_integer_value(json_object_get(event, "seq"));
			first = first == 0 ? last : first;
			told++;
		}
		json_decref(event);
	}
	reader_end();
	assert_true(lost > 0);
	assert_int_equal(told + lost, last - first + 1);
	assert_in_range(told + lost, 2 * TURNS + 1, 2 * TURNS + 32);
}

/* ---- around it ---- */

static int make_kernel(void)
{
	static uint8_t file[8192];
	const size_t payload = kvm_guest_bytes();
	const size_t bytes = kernelfile_bzimage(file, kvm_guest, (payload + 15) / 16 * 16);
	char path[128], body[256];

	snprintf(path, sizeof(path), "%s/kernel", dir);
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (write(fd, file, bytes) != (ssize_t)bytes)
		return -1;
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\",\"boot_args\":\"h\"}", path);
	takes("PUT", "/boot-source", body);
	return 0;
}

static int setup(void **state)
{
	char words[400];
	int ret;

	vm_err = memfd_create("err", MFD_CLOEXEC);

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-events-XXXXXX");
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	if (document == NULL || vm_err < 0 || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	snprintf(words, sizeof(words),
		 "run --state-dir %s/state --console off --rng --allow-faults --faulty-programs "
		 "--memory 64M --serial file:%s/serial --api-socket %s",
		 dir, dir, sock);
	ret = mayfly_start(words, sock, vm_err, &vm);
	return ret == 0 ? make_kernel() : ret;
}

static void forget(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	remove(path);
}

static int teardown(void **state)
{
	const int ret = mayfly_stop(vm);
	char autopsy[64], said[512] = "";

	(void)state;
	if (pread(vm_err, said, sizeof(said) - 1, 0) > 0)
		print_message("the VM said: %s", said);
	forget("kernel");
	forget("serial");
	for (int i = 1; i < 32; i++) {
		snprintf(autopsy, sizeof(autopsy), "state/autopsies/serial-%d.json", i);
		forget(autopsy);
	}
	forget("state/autopsies");
	forget("state");
	json_decref(answer);
	json_decref(document);
	return ret != 0 ? ret : rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers),       cmocka_unit_test(test_refused),
		cmocka_unit_test(test_fault_is_told), cmocka_unit_test(test_each_way_to_be_fenced),
		cmocka_unit_test(test_slow_reader),
	};

	return cmocka_run_group_tests_name("events", tests, setup, teardown);
}
