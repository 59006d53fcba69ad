/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program `mayfly` as it is called: exit statuses, what goes to which stream, and the doctor, whose
 * trial sandbox is made by the release programs.  Then the doctor's report on findings made up here.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/cc.h"
#include "core/doctor.h"
#include "devmodel/abi/seal.h"

#define OUTPUT_MAX 65536

/* One call of the program. */
struct call {
	int status; /* exit status; -1: a signal */
	char out[OUTPUT_MAX];
	char err[OUTPUT_MAX];
};

static struct call call;
static char mayfly[PATH_MAX];

/* build/X/tests/host/test_cli -> build/X/mayfly */
static int find_mayfly(void)
{
	char exe[PATH_MAX - 16];
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return -errno;
	exe[n] = '\0';
	snprintf(mayfly, sizeof(mayfly), "%s/mayfly", dirname(dirname(dirname(exe))));
	return access(mayfly, X_OK) == 0 ? 0 : -errno;
}

static void take(int fd, char *text)
{
	const ssize_t n = pread(fd, text, OUTPUT_MAX - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
}

/* Runs it with these words; programs: MAYFLY_PROGRAMS, or NULL; out_path: instead of a capture. */
static void run_with(const char *words, const char *programs, const char *out_path)
{
	char copy[512], *argv[16] = { mayfly }, *rest = copy;
	const int out = memfd_create("out", 0), err = memfd_create("err", 0);
	int argc = 1, status;

	assert_true(out >= 0 && err >= 0 && strlen(words) < sizeof(copy));
	memcpy(copy, words, strlen(words) + 1);
	for (char *w = strsep(&rest, " "); w != NULL && w[0] != '\0'; w = strsep(&rest, " "))
		argv[argc++] = w;
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (programs != NULL)
			setenv("MAYFLY_PROGRAMS", programs, 1);
		dup2(out_path != NULL ? open(out_path, O_WRONLY) : out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		execv(mayfly, argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	call.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	take(out, call.out);
	take(err, call.err);
}

static void run(const char *words)
{
	run_with(words, NULL, NULL);
}

/* ---- verbs ---- */

static void test_usage(void **state)
{
	static const char *const wrong[] = { "",
					     "frob",
					     "--frob",
					     "doctor --frob",
					     "doctor now",
					     "doctor --json --json",
					     "doctor --json=1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		run(wrong[i]);
		assert_int_equal(call.status, 2);
		assert_string_equal(call.out, "");
		assert_string_not_equal(call.err, "");
	}
	run("doctor --frob");
	assert_string_equal(call.err, "mayfly doctor: --frob: unknown option\n");
}

static void test_asked_help(void **state)
{
	(void)state;
	run("--help");
	assert_int_equal(call.status, 0);
	assert_non_null(strstr(call.out, "\n  doctor "));
	assert_string_equal(call.err, "");
	run("doctor --help");
	assert_int_equal(call.status, 0);
	assert_non_null(strstr(call.out, "\n  --json "));
	run("--version");
	assert_int_equal(call.status, 0);
	assert_string_equal(call.out, "mayfly " MAYFLY_VERSION "\n");
	run("--man");
	assert_int_equal(call.status, 0);
	assert_non_null(strstr(call.out, "\n.SS mayfly doctor\n"));
}

static void test_output_that_fails(void **state)
{
	(void)state;
	run_with("--version", NULL, "/dev/full");
	assert_int_equal(call.status, 1);
	assert_non_null(strstr(call.err, "cannot write to standard output"));
}

/* ---- doctor ---- */

static const char *state_of(const json_t *root, const char *group, const char *key)
{
	const json_t *finding = json_object_get(json_object_get(root, group), key);
	const char *found = json_string_value(json_object_get(finding, "state"));

	if (found == NULL)
		fail_msg("%s %s is not there", group, key);
	assert_true(json_is_string(json_object_get(finding, "text")));
	return found;
}

static json_int_t value_of(const json_t *root, const char *group, const char *key)
{
	const json_t *finding = json_object_get(json_object_get(root, group), key);

	assert_true(json_is_integer(json_object_get(finding, "value")));
	return json_integer_value(json_object_get(finding, "value"));
}

static json_t *doctor_parsed(const char *programs)
{
	json_error_t error;
	json_t *root;

	run_with("doctor --json", programs, NULL);
	root = json_loads(call.out, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
		fail_msg("not JSON: %s\n%s", error.text, call.out);
	assert_true(json_is_boolean(json_object_get(root, "ready")));
	assert_int_equal(call.status, json_is_true(json_object_get(root, "ready")) ? 0 : 1);
	assert_int_equal(json_array_size(json_object_get(root, "blocking")) == 0,
			 json_is_true(json_object_get(root, "ready")));
	return root;
}

static void test_doctor_json(void **state)
{
	static const char *const layers[] = {
#define LAYER_NAME(NAME, name, text) #name,
		SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
	};
	static const char *const keys[][2] = {
		{ "kernel", "release" },
		{ "kernel", "user-namespaces" },
		{ "kernel", "pidfd-getfd" },
		{ "kernel", "seccomp-listener" },
		{ "kernel", "landlock-abi" },
		{ "kernel", "mseal" },
		{ "kernel", "mdwe" },
		{ "kernel", "kcmp" },
		{ "kvm", "device" },
		{ "kvm", "kind" },
		{ "kvm", "cpu" },
		{ "memory", "hugetlb-2m" },
		{ "memory", "shmem-thp" },
		{ "limits", "nofile" },
		{ "limits", "memlock" },
		{ "limits", "cgroup" },
	};
	json_t *root = doctor_parsed(NULL);

	(void)state;
	assert_string_equal(json_string_value(json_object_get(root, "version")), MAYFLY_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		state_of(root, keys[i][0], keys[i][1]);
	/* Where the host tests run, a sandbox can be sealed; then no layer is only said to be there. */
	assert_string_equal(state_of(root, "sandbox", "trial"), "ok");
	assert_in_range(value_of(root, "sandbox", "sealed-us"), 50, 10000000);
	assert_in_range(value_of(root, "sandbox", "verify-us"), 1, 10000000);
	for (size_t i = 0; i < ARRAY_SIZE(layers); i++)
		assert_string_not_equal(state_of(root, "seal", layers[i]), "blocking");
	assert_string_equal(state_of(root, "seal", "seccomp"), "ok");
	assert_string_equal(state_of(root, "seal", "ids"), geteuid() == 0 ? "ok" : "note");
	assert_int_equal(value_of(root, "kernel", "user"), geteuid());
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		assert_string_equal(state_of(root, "kvm", "device"), "ok");
	else
		assert_string_equal(state_of(root, "kvm", "device"), "blocking");
	json_decref(root);
}

static void test_doctor_words(void **state)
{
	(void)state;
	run("doctor");
	assert_string_equal(call.err, "");
	assert_non_null(strstr(call.out, "\nseal\n  maps                  ok: "));
	if (call.status == 0) {
		assert_non_null(strstr(call.out, "\nmayfly can run a VM here.\n"));
	} else {
		assert_int_equal(call.status, 1);
		assert_non_null(strstr(call.out, "\nmayfly cannot run a VM here:\n  kvm "));
	}
}

/* No program at all, and one that is no device program: the reason is told, no layer is claimed. */
static void test_doctor_without_a_sandbox(void **state)
{
	char dir[] = "/tmp/mayfly-cli-XXXXXX", program[64];
	json_t *root = doctor_parsed("/nonexistent");
	int fd;

	(void)state;
	assert_int_equal(call.status, 1);
	assert_string_equal(state_of(root, "sandbox", "trial"), "blocking");
	assert_string_equal(state_of(root, "seal", "seccomp"), "missing");
	json_decref(root);

	assert_non_null(mkdtemp(dir));
	snprintf(program, sizeof(program), "%s/mayfly-rng", dir);
	fd = open(program, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	assert_int_equal(write(fd, "#!/bin/true\n", 12), 12);
	close(fd);
	root = doctor_parsed(dir);
	assert_int_equal(call.status, 1);
	assert_string_equal(state_of(root, "sandbox", "trial"), "blocking");
	assert_string_equal(state_of(root, "seal", "namespaces"), "missing");
	json_decref(root);
	unlink(program);
	rmdir(dir);
}

/* ---- the report ---- */

static struct doctor report;

static char *report_words(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	doctor_print(&report, out);
	fclose(out);
	return text;
}

static void test_report(void **state)
{
	char *words, *json;
	json_t *root;

	(void)state;
	memset(&report, 0, sizeof(report));
	doctor_add(&report, "a", "one", DOCTOR_OK, 7, "%d", 7);
	doctor_add(&report, "a", "two", DOCTOR_MISSING, DOCTOR_NO_VALUE, "gone: get \"it\"");
	assert_true(doctor_ready(&report));
	doctor_add(&report, "b", "three", DOCTOR_BLOCKING, DOCTOR_NO_VALUE, "stuck");
	doctor_add(&report, "b", "four", DOCTOR_NOTE, DOCTOR_NO_VALUE, "%s", "");
	assert_false(doctor_ready(&report));
	words = report_words();
	assert_string_equal(words, "a\n"
				   "  one                   ok: 7\n"
				   "  two                   missing: gone: get \"it\"\n"
				   "\nb\n"
				   "  three                 blocking: stuck\n"
				   "  four                  note\n"
				   "\nmayfly cannot run a VM here:\n"
				   "  b three: stuck\n");
	free(words);
	json = doctor_json(&report);
	root = json_loads(json, 0, NULL);
	assert_non_null(root);
	assert_int_equal(value_of(root, "a", "one"), 7);
	assert_null(json_object_get(json_object_get(json_object_get(root, "a"), "two"), "value"));
	assert_string_equal(state_of(root, "a", "two"), "missing");
	assert_true(json_is_false(json_object_get(root, "ready")));
	assert_int_equal(json_array_size(json_object_get(root, "blocking")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(root, "blocking"), 0)),
			    "b three: stuck");
	json_decref(root);
	free(json);
}

/* Many are started so, and cannot raise it.  Nor can this process: the last test. */
static void test_doctor_without_core_dumps(void **state)
{
	const struct rlimit none = { 0, 0 };

	(void)state;
	assert_int_equal(setrlimit(RLIMIT_CORE, &none), 0);
	run("doctor");
	assert_non_null(strstr(call.out, "\n  rlimits               ok: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_asked_help),
		cmocka_unit_test(test_output_that_fails),
		cmocka_unit_test(test_doctor_json),
		cmocka_unit_test(test_doctor_words),
		cmocka_unit_test(test_doctor_without_a_sandbox),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_doctor_without_core_dumps),
	};
	const int ret = find_mayfly();

	if (ret != 0) {
		fprintf(stderr, "%s: %s\n", mayfly, strerror(-ret));
		return 1;
	}
	return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
