/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly run` in a test: started with a terminal or whatever for its streams, watched from outside,
 * ended.  Nothing is slept for: every wait is for something to be seen, and fails after WAIT_S.
 * Included once.
 */
#ifndef MAYFLY_TESTS_HOST_RUN_VM_H
#define MAYFLY_TESTS_HOST_RUN_VM_H

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "core/cc.h"
#include "tests/host/run_guest.h"
#include "tests/rig/mayfly.h"
#include "tests/unit/kernelfile.h"

#define WAIT_S 30
#define TEXT_MAX 65536

static struct {
	char dir[64];  /* of this test; relative names below are in it */
	pid_t pid;     /* 0: none */
	int err;       /* what the VM says on standard error */
	int ignored;   /* a signal that it is to find ignored; 0: none */
	int status;    /* of the last one, as waitpid() has it */
	uint64_t born; /* ns, before it was started */
} vm;

/* Waits until it is true. */
#define AWAIT(cond)                                                                                \
	do {                                                                                       \
		const uint64_t end_ = now_ns() + WAIT_S * NS_PER_S;                                \
		while (!(cond)) {                                                                  \
			if (now_ns() > end_)                                                       \
				fail_msg("line %d: waited %d s for " #cond, __LINE__, WAIT_S);     \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

static inline const char *in_dir(const char *name)
{
	static char path[8][PATH_MAX];
	static unsigned int next;
	char *p = path[next++ % 8];

	snprintf(p, PATH_MAX, "%s/%s", vm.dir, name);
	return p;
}

/* ---- the process ---- */

static inline void vm_exec(int in, int out, char *words)
{
	struct rlimit core;
	char mayfly[PATH_MAX], *argv[MAYFLY_WORDS_MAX + 2] = { mayfly };
	int argc = 1;

	for (char *w = strtok(words, " "); w != NULL && argc <= MAYFLY_WORDS_MAX;
	     w = strtok(NULL, " "))
		argv[argc++] = w;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	getrlimit(RLIMIT_CORE, &core);
	core.rlim_cur = 0; /* the hard limit is needed for the boxes' own */
	setrlimit(RLIMIT_CORE, &core);
	if (vm.ignored != 0)
		signal(vm.ignored, SIG_IGN);
	if (mayfly_find(mayfly, sizeof(mayfly)) != 0 || chdir(vm.dir) != 0)
		_exit(126);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(vm.err, STDERR_FILENO);
	execv(mayfly, argv);
	_exit(127);
}

/* `mayfly run WORDS`, with in and out (-1: /dev/null), in this test's directory. */
__attribute__((format(printf, 3, 4))) static inline void vm_start(int in, int out, const char *fmt,
								  ...)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char words[2048] = "run ";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words + 4, sizeof(words) - 4, fmt, ap);
	va_end(ap);
	assert_int_equal(vm.pid, 0);
	assert_int_equal(ftruncate(vm.err, 0), 0);
	assert_int_equal(lseek(vm.err, 0, SEEK_SET), 0);
	vm.born = now_ns();
	vm.pid = fork();
	if (vm.pid == 0)
		vm_exec(in >= 0 ? in : null, out >= 0 ? out : null, words);
	assert_true(vm.pid > 0);
}

static inline const char *vm_errors(void)
{
	static char text[4096];
	const ssize_t n = pread(vm.err, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static inline bool vm_reaped(void)
{
	if (waitpid(vm.pid, &vm.status, WNOHANG) != vm.pid)
		return false;
	vm.pid = 0;
	return true;
}

/* The exit status; of a signal 128 and its number. */
static inline int vm_wait(void)
{
	AWAIT(vm_reaped());
	return WIFEXITED(vm.status) ? WEXITSTATUS(vm.status) : 128 + WTERMSIG(vm.status);
}

static inline int vm_end(int signal_number)
{
	assert_int_equal(kill(vm.pid, signal_number), 0);
	return vm_wait();
}

/* With a guest: what all of them have in common. */
#define GUEST(mode)                                                                                \
	"--state-dir state --id test --memory 16M --kernel kernel --cmdline " mode " --console off "

/* ---- what can be seen ---- */

static inline const char *file_text(const char *name)
{
	static char text[TEXT_MAX];
	cleanup_fd int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static inline unsigned int file_count(const char *name, const char *what)
{
	unsigned int n = 0;

	for (const char *at = file_text(name); (at = strstr(at, what)) != NULL; at++)
		n++;
	return n;
}

static inline unsigned int file_mode(const char *name)
{
	struct stat st;

	return lstat(in_dir(name), &st) == 0 ? st.st_mode & 07777 : 0;
}

static inline bool file_there(const char *name)
{
	struct stat st;

	return lstat(in_dir(name), &st) == 0;
}

static inline void file_write(const char *name, const void *data, size_t bytes)
{
	cleanup_fd int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
}

/* Reads until the text has come, as it is and nothing else. */
static inline void fd_expect(int fd, const char *want)
{
	const uint64_t end = now_ns() + WAIT_S * NS_PER_S;
	char text[256] = "";
	size_t n = 0;

	while (n < strlen(want)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		const ssize_t got =
			poll(&p, 1, 100) == 1 ? read(fd, text + n, strlen(want) - n) : 0;

		if (got > 0)
			n += (size_t)got;
		if (now_ns() > end || got < 0)
			fail_msg("'%s' came, not '%s'; %s", text, want, vm_errors());
	}
	assert_string_equal(text, want);
}

/* ---- terminals ---- */

struct pty {
	int master, slave;
	struct termios before;
};

static inline void pty_open(struct pty *p)
{
	p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(p->master >= 0);
	assert_int_equal(grantpt(p->master), 0);
	assert_int_equal(unlockpt(p->master), 0);
	p->slave = open(ptsname(p->master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(p->slave >= 0);
	assert_int_equal(tcgetattr(p->slave, &p->before), 0);
	assert_true(p->before.c_lflag & ICANON);
}

static inline void pty_close(struct pty *p)
{
	close(p->slave);
	close(p->master);
}

static inline bool pty_raw(const struct pty *p)
{
	struct termios now;

	assert_int_equal(tcgetattr(p->slave, &now), 0);
	return (now.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

static inline void assert_pty_restored(const struct pty *p, const char *after)
{
	struct termios now;

	assert_int_equal(tcgetattr(p->slave, &now), 0);
	if (now.c_lflag != p->before.c_lflag || now.c_iflag != p->before.c_iflag ||
	    now.c_oflag != p->before.c_oflag || now.c_cflag != p->before.c_cflag)
		fail_msg("%s: the terminal was not restored", after);
}

/* Until it takes no more. */
static inline void fill(int fd)
{
	static const char text[512];
	size_t n = sizeof(text);

	assert_true(fd >= 0);
	while (n > 0)
		if (write(fd, text, n) <= 0)
			n /= 2;
	close(fd);
}

/* ---- sockets ---- */

static inline int connect_to(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_dir(name));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		cc_close(&fd);
	return fd;
}

static inline bool answers(const char *name)
{
	cleanup_fd int fd = connect_to(name);

	return fd >= 0;
}

/* ---- around a test ---- */

static inline int vm_setup(void **state)
{
	const size_t bytes = (uintptr_t)run_guest_end - (uintptr_t)run_guest;
	static uint8_t file[KERNELFILE_BZ_HEAD + 4096];

	(void)state;
	memset(&vm, 0, sizeof(vm));
	snprintf(vm.dir, sizeof(vm.dir), "/tmp/mayfly-run-XXXXXX");
	vm.err = memfd_create("err", MFD_CLOEXEC);
	if (bytes > 4096 || vm.err < 0 || mkdtemp(vm.dir) == NULL)
		return -1;
	file_write("kernel", file, kernelfile_bzimage(file, run_guest, bytes));
	return 0;
}

static void empty(const char *path)
{
	DIR *dir = opendir(path);
	char name[PATH_MAX];

	if (dir == NULL)
		return;
	for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (e->d_type == DT_DIR)
			empty(name);
		remove(name);
	}
	closedir(dir);
}

static inline int vm_teardown(void **state)
{
	(void)state;
	if (vm.pid != 0) {
		kill(vm.pid, SIGKILL);
		waitpid(vm.pid, NULL, 0);
	}
	close(vm.err);
	empty(vm.dir);
	return rmdir(vm.dir);
}

#endif
