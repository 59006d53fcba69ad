/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMM's own seal, on `mayfly run` while a guest runs: what its threads and processes have, and that a
 * call of none of the VMM's business, made by a thread of it (as a hole in the VMM would), ends the VM and
 * all its boxes before it is carried out.
 */
#include "tests/host/run_vm.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "core/box/fault.h"
#include "tests/host/kvm_skip.h"

#define UID 61000

/* ---- what /proc says ---- */

/* The text behind `key` in a status file; empty: not there. */
static const char *status_of(const char *path, const char *key)
{
	static char line[256];
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, key, strlen(key)) != 0 || line[strlen(key)] != ':')
			continue;
		fclose(f);
		line[strcspn(line, "\n")] = '\0';
		return line + strlen(key) + 1 + strspn(line + strlen(key) + 1, "\t ");
	}
	if (f != NULL)
		fclose(f);
	return "";
}

/* The thread of this name; 0: none. */
static pid_t thread_named(const char *name)
{
	char path[64];
	struct dirent *entry;
	pid_t found = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", vm.pid);
	DIR *dir = opendir(path);

	while (dir != NULL && found == 0 && (entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", vm.pid, entry->d_name);
		if (strcmp(status_of(path, "Name"), name) == 0)
			found = (pid_t)strtol(entry->d_name, NULL, 10);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

static void expect_thread(const char *name, const char *key, const char *want)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", vm.pid, thread_named(name));
	if (strcmp(status_of(path, key), want) != 0)
		fail_msg("%s: %s is '%s', not '%s'", name, key, status_of(path, key), want);
}

/* Whether a thread has its filter by now. */
static bool is_filtered(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", vm.pid, thread_named(name));
	return strcmp(status_of(path, "Seccomp"), "2") == 0;
}

static const char *const threads[] = {
#ifndef __SANITIZE_ADDRESS__ /* has its main thread traced in the end */
	"mayfly",
#endif
	"vcpu0",  "supervisor", "coroner", "relay",
};

static void start_guest(void)
{
	vm_start(-1, -1, GUEST(RUN_GUEST_ECHO) "--serial file:out --rng");
	AWAIT(strcmp(file_text("out"), "hello\n") == 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		AWAIT(is_filtered(threads[i]));
	AWAIT(is_filtered("MHD-listen"));
}

/* ---- what it has ---- */

/* Before and without a guest: what listens is confined from the first. */
static void test_api_alone(void **state)
{
	(void)state;
	vm_start(-1, -1, "--state-dir state --console off --serial off");
	AWAIT(answers("state/api.sock"));
	AWAIT(is_filtered("MHD-listen"));
	expect_thread("mayfly", "NoNewPrivs", "1");
	expect_thread("mayfly", "CapBnd",
		      geteuid() == 0 ? "0000000000000000"
				     : status_of("/proc/self/status", "CapBnd"));
	assert_int_equal(vm_end(SIGTERM), 0);
}

static void test_threads(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	start_guest();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		expect_thread(threads[i], "Seccomp", "2");
		expect_thread(threads[i], "NoNewPrivs", "1");
		/* Of root's: to see and signal boxes, and to open the operator's files. */
		expect_thread(threads[i], "CapEff",
			      geteuid() == 0 ? "0000000000080026" : "0000000000000000");
	}
	assert_int_equal(vm_end(SIGTERM), 0);
}

/* Root's VM that is somebody else's: no privilege is left, and boxes are made as for an ordinary user. */
static void test_user(void **state)
{
	char path[64];

	(void)state;
	if (geteuid() != 0) {
		printf("only root can become another user\n");
		skip();
	}
	assert_int_equal(chmod(vm.dir, 0711), 0);
	vm_start(-1, -1, "--state-dir %s/state --uid %d --console off --serial off", vm.dir, UID);
	AWAIT(answers("state/api.sock"));
	snprintf(path, sizeof(path), "/proc/%d/status", vm.pid);
	assert_string_equal(status_of(path, "Uid"), "61000\t61000\t61000\t61000");
	assert_string_equal(status_of(path, "Gid"), "61000\t61000\t61000\t61000");
	assert_string_equal(status_of(path, "CapPrm"), "0000000000000000");
	assert_string_equal(status_of(path, "CapBnd"), "0000000000000000");
	assert_int_equal(vm_end(SIGTERM), 0);
	/* Its parent is root's, so that the empty folder stays. */
	assert_int_equal(rmdir(in_dir("state")), 0);
}

/* ---- what it does not have ---- */

static const struct {
	const char *name;
	long nr;
} calls[] = {
	{ "execve", SYS_execve },   { "socket", SYS_socket }, { "fork", SYS_fork },
	{ "setuid", SYS_setuid },   { "bpf", SYS_bpf },       { "mount", SYS_mount },
	{ "openat2", SYS_openat2 }, { "setns", SYS_setns },
};

/* Each call by one thread, each thread by some call. */
static void test_forbidden(void **state)
{
	char want[64];

	(void)state;
	if (!kvm_or_skip())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		const char *thread = i < ARRAY_SIZE(threads) ? threads[i] : "MHD-listen";

		start_guest();
		assert_int_equal(hand_call(thread_named(thread), calls[i].nr), 0);
		assert_int_equal(vm_wait(), 128 + SIGSYS);
		snprintf(want, sizeof(want), "made system call %ld, which is none", calls[i].nr);
		if (strstr(vm_errors(), want) == NULL)
			fail_msg("%s of %s: '%s'", calls[i].name, thread, vm_errors());
		assert_int_equal(vm_teardown(state), 0);
		assert_int_equal(vm_setup(state), 0);
	}
}

/* ---- files ---- */

#define RED_ZONE 4096

static long poke_text(pid_t tid, uint64_t at, const char *text)
{
	uint64_t words[16] = { 0 };

	memcpy(words, text, strlen(text) + 1);
	for (size_t i = 0; i <= strlen(text) / 8; i++) {
		if (ptrace(PTRACE_POKEDATA, tid, at + 8 * i, words[i]) != 0)
			return -errno;
	}
	return 0;
}

/* What open(path, O_RDONLY) gives on this thread, which waits in a system call; it is not to go on. */
static long open_by(pid_t tid, const char *path)
{
	struct user_regs_struct regs;

	assert_int_equal(ptrace(PTRACE_GETREGS, tid, NULL, &regs), 0);
	regs.rip -= (long)regs.orig_rax >= 0 ? 2 : 0; /* the instruction that it waits in */
	regs.orig_rax = ~0ull;
	regs.rax = SYS_openat;
	regs.rdi = (uint64_t)AT_FDCWD;
	regs.rsi = regs.rsp - RED_ZONE;
	regs.rdx = O_RDONLY | O_CLOEXEC;
	assert_int_equal(poke_text(tid, regs.rsi, path), 0);
	assert_int_equal(ptrace(PTRACE_SETREGS, tid, NULL, &regs), 0);
	assert_int_equal(ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL), 0);
	assert_int_equal(waitpid(tid, NULL, __WALL), tid);
	assert_int_equal(ptrace(PTRACE_GETREGS, tid, NULL, &regs), 0);
	return (long)regs.rax;
}

/* The main thread may open: what Landlock leaves, and nothing else. */
static void test_files(void **state)
{
	pid_t tid;

	(void)state;
	if (!kvm_or_skip())
		return;
	start_guest();
	tid = vm.pid;
	assert_int_equal(ptrace(PTRACE_SEIZE, tid, NULL, NULL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
	assert_int_equal(waitpid(tid, NULL, __WALL), tid);
	assert_true(open_by(tid, "/dev/urandom") >= 0);
	assert_true(open_by(tid, "kernel") >= 0);
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0) {
		assert_int_equal(open_by(tid, "/etc/passwd"), -EACCES);
		assert_int_equal(open_by(tid, "/"), -EACCES);
	}
	assert_int_equal(kill(vm.pid, SIGKILL), 0);
	assert_int_equal(vm_wait(), 128 + SIGKILL);
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, vm_setup, vm_teardown)
	const struct CMUnitTest tests[] = {
		RUN_TEST(test_api_alone), RUN_TEST(test_threads), RUN_TEST(test_user),
		RUN_TEST(test_forbidden), RUN_TEST(test_files),
	};

	return cmocka_run_group_tests_name("vmm seal", tests, NULL, NULL);
}
