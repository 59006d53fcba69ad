/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each layer of the seal by itself: what a box holds, looked at from outside, and what it is refused
 * when its filter is out of the way.
 *
 *   test_layers [VARIANT]...
 *   test_layers --orphan VARIANT     a VMM that will be killed; see test_outlives()
 *
 * A layer that does not hold is named in a line `layer NAME: ..`; where already the VMM refuses the
 * standby, its line is shown.  omit.sh goes by these.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/cc.h"
#include "tests/escape/inject.h"
#include "tests/escape/layers.h"
#include "tests/escape/target.h"

#define TESTS_MAX 128
#define ORPHAN_MS 2000 /* death by signal takes microseconds */

static struct target_rig rig;
static struct target target;
static struct inject in;

static int setup(void **state)
{
	const struct target_variant *v = *state;
	const int ret = target_create(&target, &rig, v);

	in.pid = 0;
	if (ret == 0)
		return 0;
	target.dev = NULL;
	print_error("%s: the VMM refuses it: %s\n%s", v->name, strerror(-ret), target_log(&rig));
	return -1;
}

static int teardown(void **state)
{
	(void)state;
	inject_detach(&in);
	if (target.dev != NULL)
		target_destroy(&target);
	target.dev = NULL;
	return 0;
}

static const struct box *active_box(void)
{
	return &target.dev->active->boxes[0];
}

static int proc_dir(void)
{
	return active_box()->proc_dir;
}

/* ---- mappings ---- */

#define MAPPINGS_MAX 128

struct mapping {
	uint64_t start, end, offset, inode;
	char prot[5];
	bool vsyscall;
};

static uint32_t read_mappings(struct mapping *m)
{
	char line[512];
	uint32_t n = 0;
	FILE *f = fdopen(openat(proc_dir(), "maps", O_RDONLY | O_CLOEXEC), "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		assert_true(n < MAPPINGS_MAX);
		assert_int_equal(
			sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64,
			       &m[n].start, &m[n].end, m[n].prot, &m[n].offset, &m[n].inode),
			5);
		m[n].vsyscall = strstr(line, "[vsyscall]") != NULL;
		n++;
	}
	fclose(f);
	return n;
}

/* Takes out of the list the one mapping that is such. */
static void take(struct mapping *m, uint32_t *n, const char *what, uint64_t inode, uint64_t bytes,
		 const char *prot)
{
	for (uint32_t i = 0; i < *n; i++) {
		if (m[i].inode != inode || m[i].end - m[i].start != bytes ||
		    strcmp(m[i].prot, prot) != 0)
			continue;
		m[i] = m[--*n];
		return;
	}
	fail_msg("layer maps: %s is not mapped as it must be", what);
}

/* The program: what is mapped of its file, and the zero pages behind; one part can be executed, and
 * that not written. */
static void take_program(struct mapping *m, uint32_t *n)
{
	uint64_t end = 0;
	uint32_t executable = 0;
	struct stat st = { 0 };

	assert_int_equal(fstatat(proc_dir(), "exe", &st, 0), 0);
	for (uint32_t i = 0; i < *n;) {
		const bool bss = m[i].inode == 0 && m[i].start == end;

		if (m[i].inode != st.st_ino && !bss) {
			i++;
			continue;
		}
		end = m[i].end;
		executable += m[i].prot[2] == 'x';
		assert_true(m[i].prot[1] != 'w' || m[i].prot[2] != 'x');
		assert_true(m[i].prot[3] == 'p');
		memmove(&m[i], &m[i + 1], (--*n - i) * sizeof(*m));
	}
	assert_int_equal(executable, 1);
}

/* Exactly the program, its stack, its state page and the regions of guest memory. */
static void test_mappings(void **state)
{
	const struct guestmem *mem = &rig.box.mem;
	struct mapping m[MAPPINGS_MAX] = { 0 };
	uint32_t n = read_mappings(m);
	struct stat st = { 0 };

	(void)state;
	assert_true(n > 0);
	if (m[n - 1].vsyscall) /* above all user addresses; it cannot be unmapped */
		n--;
	take_program(m, &n);
	take(m, &n, "the state page", active_box()->state_ino, STATE_PAGE_BYTES, "rw-s");
	take(m, &n, "the stack", 0, BOX_STACK_BYTES, "rw-p");
	for (uint32_t i = 0; target.spec.guest_memory && i < mem->map.count; i++) {
		assert_int_equal(fstat(mem->fds[i], &st), 0);
		take(m, &n, "guest memory", st.st_ino, mem->map.regions[i].bytes, "rw-s");
	}
	for (uint32_t i = 0; i < n; i++)
		print_error("layer maps: %lx-%lx %s\n", m[i].start, m[i].end, m[i].prot);
	assert_int_equal(n, 0);
}

/* ---- descriptors ---- */

/* What is said of a descriptor that tells one open file from another. */
struct description {
	char link[256];
	uint64_t device, inode;
	uint32_t mode;    /* O_ACCMODE */
	uint64_t eventfd; /* its id */
};

static void describe(int dir, uint32_t fd, struct description *d)
{
	char path[32], line[128];
	struct stat st = { 0 };
	ssize_t n;
	FILE *f;

	memset(d, 0, sizeof(*d));
	snprintf(path, sizeof(path), "fd/%u", fd);
	n = readlinkat(dir, path, d->link, sizeof(d->link) - 1);
	if (n < 0 || fstatat(dir, path, &st, 0) != 0)
		fail_msg("layer fds: descriptor %u cannot be looked at", fd);
	d->device = st.st_dev;
	d->inode = st.st_ino;
	snprintf(path, sizeof(path), "fdinfo/%u", fd);
	f = fdopen(openat(dir, path, O_RDONLY | O_CLOEXEC), "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "flags: %o", &d->mode) != 1)
			sscanf(line, "eventfd-id: %" SCNu64, &d->eventfd);
	}
	fclose(f);
	d->mode &= O_ACCMODE;
}

static void check_same(uint32_t fd, int ours)
{
	cleanup_fd int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct description a, b;

	describe(proc_dir(), fd, &a);
	describe(self, (uint32_t)ours, &b);
	if (strcmp(a.link, b.link) != 0 || a.device != b.device || a.inode != b.inode ||
	    a.mode != b.mode || a.eventfd != b.eventfd)
		fail_msg("layer fds: descriptor %u is %s, should be %s", fd, a.link, b.link);
}

static uint32_t count_entries(const char *name)
{
	const int fd = openat(proc_dir(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	uint32_t n = 0;

	if (dir == NULL) {
		fail_msg("%s cannot be read: %s", name, strerror(errno));
		return 0;
	}
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* Exactly its control socket, kicks, calls, timer and backends, each the one that it must be. */
static void test_descriptors(void **state)
{
	const struct launch_record *l = target.launch;
	struct description control;
	char want[32];

	(void)state;
	if (count_entries("fd") != l->fd_held)
		fail_msg("layer fds: %u descriptors, should be %u", count_entries("fd"),
			 l->fd_held);
	describe(proc_dir(), BOX_FD_CONTROL, &control);
	snprintf(want, sizeof(want), "socket:[%" PRIu64 "]", active_box()->control_ino);
	assert_string_equal(control.link, want);
	for (uint32_t i = 0; i < l->queues; i++) {
		check_same(l->fd_kick + i, target.kick[i]);
		check_same(l->fd_call + i, target.call[i]);
	}
	if (l->fd_timer < l->fd_held)
		check_same(l->fd_timer, target.dev->timer_fd);
	for (uint32_t i = 0; i < l->backends; i++)
		check_same(l->fd_backend + i, target.backends[i]);
}

/* The kernel runs the very program that was sent, and no other beside it. */
static void test_filter(void **state)
{
	static struct sock_filter filter[BOX_FILTER_MAX];
	const uint32_t count = target.launch->filter_count;
	const int err = inject_attach(&in, target_pid(&target), false);
	long n;

	(void)state;
	if (geteuid() != 0) {
		print_message("a filter in force can be read by root only\n");
		skip();
	}
	if (err != 0)
		fail_msg("cannot attach: %s", strerror(-err));
	n = ptrace(PTRACE_SECCOMP_GET_FILTER, in.pid, 0, NULL);
	if (n < 0 && errno == EIO) {
		print_message("the kernel lacks CONFIG_CHECKPOINT_RESTORE\n");
		skip();
	}
	if (n != count || ptrace(PTRACE_SECCOMP_GET_FILTER, in.pid, 0, filter) != n ||
	    memcmp(filter, target.launch->filter, count * sizeof(filter[0])) != 0)
		fail_msg("layer seccomp: the filter in force (%ld) is not the one sent (%u)", n,
			 count);
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, in.pid, 1, NULL) >= 0 || errno != ENOENT)
		fail_msg("layer seccomp: there is a second filter");
}

/* Its root directory has nothing in it, and it is the only process of its namespace. */
static void test_surroundings(void **state)
{
	struct stat ours, theirs;

	(void)state;
	if (count_entries("root") != 0)
		fail_msg("layer namespaces: its root directory is not empty");
	assert_int_equal(stat("/", &ours), 0);
	assert_int_equal(fstatat(proc_dir(), "root/", &theirs, 0), 0);
	assert_true(ours.st_dev != theirs.st_dev);
	assert_int_equal(count_entries("task"), 1);
}

/* ---- what other processes may do to it ---- */

/* In a child: a process of the box's user, in its user namespace, without a capability. Tries to
 * trace it. 0: refused; 1: it could; 2: this cannot be tried. */
static int inspect(const struct seal_host *host, pid_t pid)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	const struct __user_cap_data_struct none[2] = { { 0 } };
	cleanup_fd int ns = openat(proc_dir(), "ns/user", O_RDONLY | O_CLOEXEC);

	if (host->seal & SEAL_WANT_IDS) {
		if (setgroups(0, NULL) != 0 || setresgid(host->gid, host->gid, host->gid) != 0 ||
		    setresuid(host->uid, host->uid, host->uid) != 0)
			return 2;
	} else if (setns(ns, CLONE_NEWUSER) != 0) {
		return 2;
	}
	if (syscall(SYS_capset, &header, none) != 0)
		return 2;
	return ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
}

/* Not even a process of its own user: another sandbox is one. */
static void test_inspection(void **state)
{
	const pid_t pid = target_pid(&target);
	const pid_t child = fork();
	int status = 0;

	(void)state;
	if (child == 0)
		_exit(inspect(&rig.box.host, pid));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 1)
		fail_msg("layer dumpable: a process of its user can trace it");
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* A box that runs code of its own for ever and looks at nothing; says so and waits to be killed. */
static int run_orphan(const struct target_variant *v)
{
	struct user_regs_struct regs;
	const uint64_t loop = 0xfeeb; /* jmp to itself */

	/* With its next standby, which is then in nothing that only a VMM could end. */
	if (target_rig_start(&rig) != 0 || target_create(&target, &rig, v) != 0 ||
	    device_wait_standby(target.dev, 10000) != 0 ||
	    inject_attach(&in, target_pid(&target), false) != 0)
		return 1;
	regs = in.saved;
	regs.rip = in.site;
	regs.orig_rax = ~0ull;
	if (ptrace(PTRACE_POKETEXT, in.pid, in.site, loop) != 0 ||
	    ptrace(PTRACE_SETREGS, in.pid, 0, &regs) != 0)
		return 1;
	ptrace(PTRACE_DETACH, in.pid, 0, 0);
	dprintf(STDOUT_FILENO, "%d\n", in.pid);
	for (;;)
		pause();
}

/* Starts this program as such a VMM; *box is a pidfd of its box. */
static pid_t start_orphan(const char *variant, int *box)
{
	int pipe_fds[2];
	char line[32] = "";

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	const pid_t vmm = fork();

	if (vmm == 0) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		execl("/proc/self/exe", "test_layers", "--orphan", variant, NULL);
		_exit(127);
	}
	close(pipe_fds[1]);
	assert_true(read(pipe_fds[0], line, sizeof(line) - 1) > 0);
	close(pipe_fds[0]);
	*box = (int)syscall(SYS_pidfd_open, atoi(line), 0);
	assert_true(*box >= 0);
	return vmm;
}

/* When the VMM is killed, a box that does not look at its control socket dies all the same. */
static void test_outlives(void **state)
{
	const struct target_variant *v = *state;
	struct pollfd gone = { .events = POLLIN };
	const pid_t vmm = start_orphan(v->name, &gone.fd);
	int dead;

	kill(vmm, SIGKILL);
	assert_int_equal(waitpid(vmm, NULL, 0), vmm);
	dead = poll(&gone, 1, ORPHAN_MS);
	if (dead != 1)
		syscall(SYS_pidfd_send_signal, gone.fd, SIGKILL, NULL, 0);
	close(gone.fd);
	if (dead != 1)
		fail_msg("layer pdeathsig: it outlives the VMM");
}

/* ---- calls ---- */

static void attach_suspended(void)
{
	const int err = inject_attach(&in, target_pid(&target), true);

	if (err == 0)
		return;
	if (geteuid() == 0 && err != -EINVAL)
		fail_msg("cannot attach: %s", strerror(-err));
	print_message("seccomp cannot be suspended: %s\n",
		      geteuid() == 0 ? "the kernel lacks CONFIG_CHECKPOINT_RESTORE"
				     : "that needs root");
	skip();
}

/* Every row of the table: refused, and by its layer. */
static void test_calls(void **state)
{
	uint64_t symbols[LAYER_SYMBOLS];
	uint32_t tried = 0, wrong = 0;

	(void)state;
	attach_suspended();
	assert_int_equal(layer_prepare(symbols, &target, &in), 0);
	for (uint32_t i = 0; i < layer_row_count; i++) {
		const struct layer_row *row = &layer_rows[i];
		long got = 0;
		int ret;

		if (!layer_applies(row, &target, symbols))
			continue;
		ret = layer_try(row, symbols, &in, &got);
		if (ret < 0)
			fail_msg("layer %s: %s: the box did not survive it", row->layer, row->what);
		tried++;
		wrong += ret != 0;
		if (ret != 0)
			print_error("layer %s: %s: %ld, should be %ld\n", row->layer, row->what,
				    got, layer_want(row, symbols));
	}
	print_message("%u calls refused by %u rows\n", tried - wrong, tried);
	assert_true(tried > 0);
	assert_int_equal(wrong, 0);
}

/* The box went through all of it and serves on. */
static void test_lives_on(void **state)
{
	struct replacement r;

	test_calls(state);
	inject_detach(&in);
	assert_int_equal(device_replace(target.dev, REPLACE_OPERATOR, true, &r), 0);
	assert_int_equal(r.fence, FENCE_PARKED);
}

/* ---- which ---- */

static int orphan(const char *name)
{
	for (uint32_t v = 0; v < target_variant_count; v++) {
		if (strcmp(target_variants[v].name, name) == 0)
			return run_orphan(&target_variants[v]);
	}
	return 2;
}

static bool wanted(const struct target_variant *v, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], v->name) == 0)
			return true;
	}
	return argc < 2;
}

static void print_layers(void)
{
	const char *names[32];

	boxrig_seal_names(&rig.box, names, ARRAY_SIZE(names));
	printf("layers here:");
	for (size_t i = 0; names[i] != NULL; i++)
		printf(" %s", names[i]);
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		CMUnitTestFunction run;
	} parts[] = {
		{ "mappings", test_mappings },     { "descriptors", test_descriptors },
		{ "filter", test_filter },         { "surroundings", test_surroundings },
		{ "inspection", test_inspection }, { "VMM killed", test_outlives },
		{ "calls", test_lives_on },
	};
	struct CMUnitTest tests[TESTS_MAX] = { 0 };
	static char names[TESTS_MAX][48];
	size_t n = 0;
	int ret;

	if (argc == 3 && strcmp(argv[1], "--orphan") == 0)
		return orphan(argv[2]);
	ret = target_rig_start(&rig);
	if (ret != 0)
		return ret;
	print_layers();
	for (uint32_t v = 0; v < target_variant_count; v++) {
		for (size_t i = 0; i < ARRAY_SIZE(parts) && n < ARRAY_SIZE(tests); i++) {
			if (!wanted(&target_variants[v], argc, argv))
				continue;
			snprintf(names[n], sizeof(names[n]), "%s: %s", target_variants[v].name,
				 parts[i].name);
			tests[n] = (struct CMUnitTest){ names[n], parts[i].run, setup, teardown,
							(void *)(uintptr_t)&target_variants[v] };
			n++;
		}
	}
	ret = _cmocka_run_group_tests("escape: layers", tests, n, NULL, NULL);
	target_rig_stop(&rig);
	return ret;
}
