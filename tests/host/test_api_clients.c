/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API as clients that were written for Firecracker use it: the requests that firecracker-go-sdk
 * and firectl make, in their order and with the keys that they send, requests as other clients put
 * them on the wire, and the serial port at standard input and output.
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
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/cc.h"
#include "tests/host/apidoc.h"
#include "tests/host/kvm_skip.h"
#include "tests/rig/mayfly.h"
#include "tests/unit/kernelfile.h"

#define WAIT_MS 60000

/* Says its name on the serial port and powers off; 'w' on the command line: says it, and each byte
 * that comes back, until a full stop; 'h': says it and halts. */
extern const uint8_t clients_guest[], clients_guest_end[];
/* clang-format off */
asm(
".pushsection .rodata.clients_guest, \"a\", @progbits\n"
".balign 16\n"
"clients_guest:\n"
".skip 0x200\n"
"	mov	0x228(%rsi), %edi\n"  /* boot_params.hdr.cmd_line_ptr */
"	mov	(%rdi), %bl\n"
"	lea	7f(%rip), %rsi\n"
"	mov	$0x3f8, %edx\n"
"	mov	$9, %ecx\n"
"1:	lodsb\n"
"	out	%al, %dx\n"
"	dec	%ecx\n"
"	jnz	1b\n"
"	cmp	$'h', %bl\n"
"	je	4f\n"
"	cmp	$'w', %bl\n"
"	jne	3f\n"
"2:	mov	$0x3fd, %edx\n"       /* line status: data ready */
"	in	%dx, %al\n"
"	test	$1, %al\n"
"	jz	2b\n"
"	mov	$0x3f8, %edx\n"
"	in	%dx, %al\n"
"	out	%al, %dx\n"
"	cmp	$'.', %al\n"
"	jne	2b\n"
"3:	mov	$0x600, %edx\n"       /* sleep control */
"	mov	$0x34, %al\n"
"	out	%al, %dx\n"
"4:	hlt\n"
"	jmp	4b\n"
"7:	.ascii	\"mayfly42\\n\"\n"
".balign 16\n"
"clients_guest_end:\n"
".popsection\n"
);
/* clang-format on */

static char dir[64];
static pid_t vm;

/* ---- mayfly as a client starts it ---- */

static void become(const char *path, const char *config, int in, int out)
{
	char state[96], api[96];

	snprintf(state, sizeof(state), "%s/state", dir);
	snprintf(api, sizeof(api), "%s", sock);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
	execl(path, "mayfly", "run", "--api-socket", api, "--id", "go", "--state-dir", state,
	      config != NULL ? "--config" : NULL, config, NULL);
	_exit(127);
}

static bool answers(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, sock, strlen(sock) + 1);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* config: a file or NULL; in and out: -1: /dev/null. Returns when it answers. */
static void begin(const char *config, int in, int out)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char path[PATH_MAX];

	assert_int_equal(mayfly_find(path, sizeof(path)), 0);
	vm = fork();
	assert_true(vm >= 0);
	if (vm == 0)
		become(path, config, in >= 0 ? in : null, out >= 0 ? out : null);
	for (int ms = 0; ms < WAIT_MS && !answers(); ms++) {
		assert_int_equal(waitpid(vm, NULL, WNOHANG), 0);
		usleep(1000);
	}
}

static int begin_idle(void **state)
{
	(void)state;
	begin(NULL, -1, -1);
	return 0;
}

static int end(void **state)
{
	(void)state;
	if (vm > 0 && mayfly_stop(vm) != 0)
		return -1;
	vm = 0;
	return 0;
}

static void path_in(char *path, size_t room, const char *name)
{
	snprintf(path, room, "%s/%s", dir, name);
}

/* A body that names files of the test's directory as @/name. */
static void takes_at(const char *method, const char *path, const char *body)
{
	char text[1024];
	size_t n = 0;

	for (; *body != '\0'; body++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, *body == '@' ? "%s" : "%.1s",
				      *body == '@' ? dir : body);
	takes(method, path, text);
	answer_fits(method, strncmp(path, "/drives/", 8) == 0 ? "/drives/{id}" : path);
}

/* ---- transcripts ---- */

/* firecracker.NewMachine(), Machine.Start(): waitForSocket() first, then its handlers in order. */
static void go_sdk(const char *boot_args)
{
	char body[512];

	takes_at("GET", "/machine-config", "");
	takes_at("PUT", "/logger",
		 "{\"level\":\"Debug\",\"log_path\":\"@/fc.log\",\"show_level\":true,"
		 "\"show_log_origin\":false}");
	takes_at("PUT", "/metrics", "{\"metrics_path\":\"@/fc.metrics\"}");
	takes_at("PUT", "/machine-config",
		 "{\"mem_size_mib\":64,\"smt\":false,\"track_dirty_pages\":false,"
		 "\"vcpu_count\":1}");
	takes_at("GET", "/machine-config", "");
	snprintf(body, sizeof(body), "{\"boot_args\":\"%s\",\"kernel_image_path\":\"@/kernel\"}",
		 boot_args);
	takes_at("PUT", "/boot-source", body);
	takes_at("PUT", "/drives/1",
		 "{\"cache_type\":\"Unsafe\",\"drive_id\":\"1\",\"io_engine\":\"Sync\","
		 "\"is_read_only\":false,\"is_root_device\":true,\"partuuid\":\"0eaa91a0-01\","
		 "\"path_on_host\":\"@/image\"}");
	takes_at("PUT", "/entropy", "{}");
}

static void test_go_sdk(void **state)
{
	char path[128];

	(void)state;
	go_sdk("h console=ttyS0 reboot=k panic=1 pci=off");
	takes("GET", "/vm/config", NULL);
	answer_fits("GET", "/vm/config");
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(answer, "boot-source"), "boot_args")),
			    "h console=ttyS0 reboot=k panic=1");
	/* The log is told why, at the level that was asked for, and shows it. */
	path_in(path, sizeof(path), "fc.log");
	FILE *log = fopen(path, "re");
	char line[256] = "";

	assert_non_null(log);
	assert_non_null(fgets(line, sizeof(line), log));
	fclose(log);
	assert_int_equal(strncmp(line, "mayfly: warn: boot_args: pci=off ", 33), 0);
}

static void test_go_sdk_start(void **state)
{
	struct stat st;
	char path[128];

	(void)state;
	if (!kvm_or_skip())
		return;
	go_sdk("h console=ttyS0 reboot=k panic=1 pci=off");
	takes_at("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	takes_at("GET", "/", "");
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "Running");
	takes_at("PATCH", "/vm", "{\"state\":\"Paused\"}");
	takes_at("PATCH", "/vm", "{\"state\":\"Resumed\"}");
	takes_at("PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
	path_in(path, sizeof(path), "fc.metrics");
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 0);
	takes_at("PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
}

static void test_version(void **state)
{
	unsigned int major, minor, patch;

	(void)state;
	takes_at("GET", "/version", "");
	assert_int_equal(sscanf(json_string_value(json_object_get(answer, "firecracker_version")),
				"%u.%u.%u", &major, &minor, &patch),
			 3);
	assert_string_equal(json_string_value(json_object_get(answer, "vmm_version")),
			    MAYFLY_VERSION);
}

/* firectl says smt unless told not to; others change parts, in any order, and send nulls. */
static void test_habits(void **state)
{
	(void)state;
	takes_at("PUT", "/drives/2",
		 "{\"drive_id\":\"2\",\"path_on_host\":\"@/image\",\"is_root_device\":false,"
		 "\"is_read_only\":true,\"rate_limiter\":null,\"socket\":null}");
	takes_at("PUT", "/drives/rootfs",
		 "{\"drive_id\":\"rootfs\",\"path_on_host\":\"@/image\",\"is_root_device\":true}");
	takes_at("PATCH", "/drives/rootfs",
		 "{\"drive_id\":\"rootfs\",\"path_on_host\":\"@/image2\"}");
	takes_at("PUT", "/machine-config",
		 "{\"vcpu_count\":1,\"mem_size_mib\":512,\"smt\":true,\"cpu_template\":null}");
	takes_at("PATCH", "/machine-config", "{\"mem_size_mib\":128}");
	refuses("PATCH", "/machine-config", "{\"vcpu_count\":2}", 400, "smt: true is not");
	takes_at("PATCH", "/machine-config", "{\"vcpu_count\":2,\"smt\":false}");
	takes_at("PUT", "/boot-source",
		 "{\"kernel_image_path\":\"@/kernel\",\"initrd_path\":null,\"boot_args\":"
		 "\"ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules\"}");
	takes_at("PUT", "/logger", "{\"level\":\"Warning\"}");
	takes_at("PUT", "/logger", "{\"level\":\"Trace\",\"show_log_origin\":true}");
	takes_at("GET", "/machine-config", "");
	assert_int_equal(json_integer_value(json_object_get(answer, "mem_size_mib")), 128);
	assert_int_equal(json_integer_value(json_object_get(answer, "vcpu_count")), 2);
}

/* What cannot be done is said in a way that names it. */
static void test_refusals(void **state)
{
	static const struct {
		const char *method, *path, *body, *words;
	} no[] = {
		{ "PUT", "/network-interfaces/1", "{\"iface_id\":\"1\",\"host_dev_name\":\"tap0\"}",
		  "network-interfaces/1: not supported" },
		{ "PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"/v\"}",
		  "vsock: not supported" },
		{ "PATCH", "/balloon/hinting/start", "{}", "balloon/hinting/start: not supported" },
		{ "PUT", "/mmds/config", "{}", "mmds/config: not supported" },
		{ "PUT", "/cpu-config", "{}", "cpu-config: not supported" },
		{ "PUT", "/snapshot/create", "{}", "snapshot/create: not supported" },
		{ "PUT", "/machine-config",
		  "{\"vcpu_count\":1,\"mem_size_mib\":64,\"track_dirty_pages\":true}",
		  "track_dirty_pages: true is not supported" },
		{ "PUT", "/drives/a",
		  "{\"drive_id\":\"a\",\"path_on_host\":\"/d\",\"is_root_device\":false,"
		  "\"io_engine\":\"Async\"}",
		  "io_engine: 'Async' is not supported" },
		{ "PUT", "/machine-config",
		  "{\"vcpu_count\":1,\"mem_size_mib\":64,\"ht_enabled\":false}",
		  "ht_enabled: unknown key" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		refuses(no[i].method, no[i].path, no[i].body, 400, no[i].words);
}

/* ---- on the wire ---- */

static void await(int fd)
{
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, WAIT_MS), 1);
}

/* Sends head, then body once the answer begins with `between` (NULL: at once); the last line of
 * status must be `want`. */
static void wire(const char *head, const char *between, const char *body, const char *want)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[1024];
	ssize_t n;

	memcpy(address.sun_path, sock, strlen(sock) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
	if (between != NULL) {
		await(fd);
		n = recv(fd, text, strlen(between), MSG_WAITALL);
		assert_int_equal(n, strlen(between));
		assert_memory_equal(text, between, n);
	}
	/* Of nothing, to one who has answered and closed, it would fail. */
	if (*body != '\0')
		assert_int_equal(send(fd, body, strlen(body), MSG_NOSIGNAL), strlen(body));
	await(fd);
	n = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(n > 0);
	text[n] = '\0';
	if (strncmp(text, want, strlen(want)) != 0)
		fail_msg("%s%s: %s", head, body, text);
}

static void test_headers(void **state)
{
	(void)state;
	/* curl, of a body that it thinks is long */
	wire("PUT /entropy HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.29.0\r\n"
	     "Accept: */*\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
	     "HTTP/1.1 100 Continue\r\n\r\n", "{}", "HTTP/1.1 204 ");
	/* neither Content-Type nor Accept nor a name for the host */
	wire("PUT /entropy HTTP/1.1\r\nHost: \r\nContent-Length: 2\r\n\r\n", NULL, "{}",
	     "HTTP/1.1 204 ");
	/* Go: the socket's name as the host; Python: chunks; a type with parameters */
	wire("PUT /entropy HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\n"
	     "Content-Length: 3\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
	     "Accept-Encoding: gzip\r\n\r\n",
	     NULL, "{}\n", "HTTP/1.1 204 ");
	wire("PUT /entropy HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
	     "Content-Type: application/json; charset=utf-8\r\n\r\n",
	     NULL, "2\r\n{}\r\n0\r\n\r\n", "HTTP/1.1 204 ");
	wire("GET / HTTP/1.0\r\n\r\n", NULL, "", "HTTP/1.");
}

/* ---- the serial port ---- */

/* All that came, until it has `until` or ends. */
static void gather(int fd, const char *until, char *text, size_t room)
{
	size_t have = 0;

	text[0] = '\0';
	while (strstr(text, until) == NULL && have < room - 1) {
		await(fd);
		const ssize_t n = read(fd, text + have, room - 1 - have);

		assert_true(n >= 0);
		have += (size_t)n;
		text[have] = '\0';
		if (n == 0)
			break;
	}
	assert_string_equal(text, until);
}

/* Reaps the VM, which ended by itself. */
static void assert_powered_off(void)
{
	int how = -1;

	assert_int_equal(waitpid(vm, &how, 0), vm);
	vm = 0;
	assert_true(WIFEXITED(how));
	assert_int_equal(WEXITSTATUS(how), 0);
}

static void test_serial_pipes(void **state)
{
	int in[2], out[2];
	char text[64];

	(void)state;
	if (!kvm_or_skip())
		return;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	begin(NULL, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	go_sdk("w console=ttyS0 pci=off");
	takes_at("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	gather(out[0], "mayfly42\n", text, sizeof(text));
	assert_int_equal(write(in[1], "echo.", 5), 5);
	gather(out[0], "echo.", text, sizeof(text));
	assert_powered_off();
	close(in[1]);
	close(out[0]);
}

/* As a service or a test runs it: nothing to read, output to a file. */
static void test_serial_file(void **state)
{
	cleanup_fd int out = memfd_create("out", MFD_CLOEXEC);
	char text[64];

	(void)state;
	if (!kvm_or_skip())
		return;
	begin(NULL, -1, out);
	go_sdk("x console=ttyS0 pci=off");
	takes_at("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	assert_powered_off();
	const ssize_t n = pread(out, text, sizeof(text) - 1, 0);

	assert_int_equal(n, 9);
	assert_memory_equal(text, "mayfly42\n", 9);
}

/* ---- deaths ---- */

static bool metrics_have(const char *line)
{
	struct http_answer got;
	bool has;

	assert_int_equal(http_ask(sock, "GET", "/metrics", NULL, ASK_WAIT_S, &got), 0);
	has = strstr(got.body, line) != NULL;
	free(got.body);
	return has;
}

#define DEATHS "\nmayfly_deaths_total{device=\"serial\",reason=\"crash\"} "

static void test_deaths(void **state)
{
	pid_t pid;

	(void)state;
	if (!kvm_or_skip())
		return;
	go_sdk("h console=ttyS0 pci=off");
	takes_at("PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
	assert_true(metrics_have(DEATHS "0\n"));
	assert_true(metrics_have("\nmayfly_epoch 1\n"));
	takes("POST", "/devices/serial/replace", NULL);
	assert_true(metrics_have(DEATHS "0\n")); /* a plan is no death */
	takes("GET", "/devices/serial", NULL);
	pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
	assert_true(pid > 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	for (int ms = 0; ms < WAIT_MS && !metrics_have(DEATHS "1\n"); ms++)
		usleep(1000);
	assert_true(metrics_have(DEATHS "1\n"));
	assert_true(metrics_have("\nmayfly_deaths_total{device=\"rng\",reason=\"crash\"} 0\n"));
	assert_false(metrics_have("reason=\"schedule\"} 1"));
}

/* ---- by a file ---- */

static int make_file(const char *name, const void *data, size_t bytes)
{
	char path[128];
	cleanup_fd int fd = -1;

	path_in(path, sizeof(path), name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes ? 0 : -1;
}

/* The serial port is at the standard output, and has a schedule that no other device has. */
static void test_file(void **state)
{
	cleanup_fd int out = memfd_create("out", MFD_CLOEXEC);
#define REPLACED                                                                                   \
	"mayfly_replacements_total{device=\"serial\",kind=\"handoff\",reason=\"schedule\"} "
	char text[1024], path[128];
	struct http_answer got;

	(void)state;
	if (!kvm_or_skip())
		return;
	path_in(path, sizeof(path), "config.json");
	snprintf(text, sizeof(text),
		 "{\"boot-source\":{\"kernel_image_path\":\"%s/kernel\",\"boot_args\":\"h\"},"
		 "\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":64},\"mayfly\":{"
		 "\"devices\":{\"serial\":{\"rejuvenate\":{\"every_s\":0.02,\"jitter\":0}}}}}",
		 dir);
	assert_int_equal(make_file("config.json", text, strlen(text)), 0);
	begin(path, -1, out);
	/* The API answers before there are devices. */
	for (int ms = 0; ms < WAIT_MS && (!metrics_have(REPLACED) || metrics_have(REPLACED "0\n"));
	     ms++)
		usleep(1000);
	assert_false(metrics_have(REPLACED "0\n"));
	assert_int_equal(http_ask(sock, "GET", "/devices", NULL, ASK_WAIT_S, &got), 0);
	assert_null(strstr(got.body, "\"console\""));
	free(got.body);
	while (pread(out, text, sizeof(text), 0) < 9)
		usleep(1000);
	assert_memory_equal(text, "mayfly42\n", 9);
}

/* ---- around it ---- */

static int setup(void **state)
{
	static uint8_t kernel[8192], image[65536];
	// cppcheck-suppress comparePointers // one object, which the assembler made
	const size_t payload = (size_t)(clients_guest_end - clients_guest);
	const size_t bytes = kernelfile_bzimage(kernel, clients_guest, payload);

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-clients-XXXXXX");
	document = json_load_file("docs/api.yaml", JSON_REJECT_DUPLICATES, NULL);
	if (document == NULL || mkdtemp(dir) == NULL)
		return -1;
	snprintf(sock, sizeof(sock), "%s/api.sock", dir);
	return make_file("kernel", kernel, bytes) != 0 ||
			       make_file("image", image, sizeof(image)) != 0 ||
			       make_file("image2", image, sizeof(image)) != 0
		       ? -1
		       : 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "kernel",          "image",  "image2",
					     "fc.metrics",      "fc.log", "config.json",
					     "state/autopsies", "state" };
	char path[128], autopsy[64];

	(void)state;
	for (int generation = 1; generation < 8; generation++) {
		snprintf(autopsy, sizeof(autopsy), "state/autopsies/serial-%d.json", generation);
		path_in(path, sizeof(path), autopsy);
		remove(path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		path_in(path, sizeof(path), files[i]);
		remove(path);
	}
	json_decref(answer);
	json_decref(document);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_go_sdk, begin_idle, end),
		cmocka_unit_test_setup_teardown(test_go_sdk_start, begin_idle, end),
		cmocka_unit_test_setup_teardown(test_version, begin_idle, end),
		cmocka_unit_test_setup_teardown(test_habits, begin_idle, end),
		cmocka_unit_test_setup_teardown(test_refusals, begin_idle, end),
		cmocka_unit_test_setup_teardown(test_headers, begin_idle, end),
		cmocka_unit_test_setup_teardown(test_deaths, begin_idle, end),
		cmocka_unit_test_teardown(test_serial_pipes, end),
		cmocka_unit_test_teardown(test_serial_file, end),
		cmocka_unit_test_teardown(test_file, end),
	};

	return cmocka_run_group_tests_name("api clients", tests, setup, teardown);
}
