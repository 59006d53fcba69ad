/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a VM, for those who are asking its API just then. */
#include "tests/host/run_vm.h"

#include "core/http.h"
#include "tests/host/kvm_skip.h"

#define ENDS 10
#define HOGS 4

static pid_t hogs[HOGS];

static int setup(void **state)
{
	for (size_t i = 0; i < HOGS; i++) {
		hogs[i] = fork();
		if (hogs[i] < 0)
			return -1;
		if (hogs[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				__asm__ volatile("pause");
		}
	}
	return vm_setup(state);
}

static int teardown(void **state)
{
	for (size_t i = 0; i < HOGS; i++) {
		kill(hogs[i], SIGKILL);
		waitpid(hogs[i], NULL, 0);
	}
	return vm_teardown(state);
}

/* What serves the API comes last where processors are short: all threads of an idle VMM but its first,
 * and those that they make. */
static void hold_back_api(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", (int)vm.pid);
	DIR *tasks = opendir(path);
	const struct dirent *entry;

	assert_non_null(tasks);
	while ((entry = readdir(tasks)) != NULL) {
		const int tid = atoi(entry->d_name); // NOLINT(cert-err34-c) // 0: it is none

		/* One that served who was answered just now ends. */
		if (tid > 0 && tid != vm.pid && setpriority(PRIO_PROCESS, (id_t)tid, 10) != 0)
			assert_int_equal(errno, ESRCH);
	}
	closedir(tasks);
}

static void put(const char *path, const char *body)
{
	struct http_answer got;

	assert_int_equal(http_ask(in_dir("api"), "PUT", path, body, WAIT_S, &got), 0);
	assert_int_equal(got.status, 204);
	free(got.body);
}

/* A guest that powers off at once takes nobody's answer with it. */
static void test_last_answer(void **state)
{
	char body[PATH_MAX + 64];

	(void)state;
	if (!kvm_or_skip())
		return;
	snprintf(body, sizeof(body),
		 "{\"kernel_image_path\":\"%s\",\"boot_args\":\"" RUN_GUEST_OFF "\"}",
		 in_dir("kernel"));
	for (int i = 0; i < ENDS; i++) {
		vm_start(-1, -1, "--state-dir state --id test --api-socket api --console off");
		AWAIT(answers("api"));
		put("/boot-source", body);
		hold_back_api();
		put("/actions", "{\"action_type\":\"InstanceStart\"}");
		assert_int_equal(vm_wait(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_last_answer, setup, teardown),
	};

	return cmocka_run_group_tests_name("api end", tests, NULL, NULL);
}
