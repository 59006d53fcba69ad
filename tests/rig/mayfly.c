/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/rig/mayfly.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/cc.h"

#define START_MS 20000
#define POLL_MS 10

int mayfly_above(uint32_t levels, char *path, size_t room)
{
	char exe[PATH_MAX], *dir = exe;
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return -errno;
	exe[n] = '\0';
	while (levels-- > 0)
		dir = dirname(dir);
	snprintf(path, room, "%s/mayfly", dir);
	return access(path, X_OK) == 0 ? 0 : -errno;
}

int mayfly_find(char *path, size_t room)
{
	return mayfly_above(3, path, room);
}

/* The child of fork(): out -1: /dev/null. */
static void become(const char *path, const char *words, int out, int err)
{
	static char copy[8192];
	char *argv[MAYFLY_WORDS_MAX + 2] = { (char *)path }, *rest = copy;
	int argc = 1;

	if (strlen(words) >= sizeof(copy))
		_exit(126);
	memcpy(copy, words, strlen(words) + 1);
	for (char *w = strsep(&rest, " "); w != NULL && argc <= MAYFLY_WORDS_MAX;
	     w = strsep(&rest, " "))
		argv[argc++] = w;
	if (out < 0)
		out = open("/dev/null", O_WRONLY);
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execv(path, argv);
	_exit(127);
}

static int spawn(const char *words, int out, int err, pid_t *pid)
{
	char path[PATH_MAX];
	const int ret = mayfly_find(path, sizeof(path));

	if (ret != 0)
		return ret;
	*pid = fork();
	if (*pid == 0)
		become(path, words, out, err);
	return *pid < 0 ? -errno : 0;
}

static int reap(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void take(int fd, char *text)
{
	const ssize_t n = pread(fd, text, MAYFLY_OUTPUT_MAX - 1, 0);

	text[n > 0 ? n : 0] = '\0';
}

int mayfly_call(const char *words, struct mayfly_result *result)
{
	cleanup_fd int out = memfd_create("out", MFD_CLOEXEC);
	cleanup_fd int err = memfd_create("err", MFD_CLOEXEC);
	pid_t pid;
	int ret;

	if (out < 0 || err < 0)
		return -errno;
	ret = spawn(words, out, err, &pid);
	if (ret != 0)
		return ret;
	result->status = reap(pid);
	take(out, result->out);
	take(err, result->err);
	return 0;
}

static bool answers(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

int mayfly_start(const char *words, const char *socket_path, int err, pid_t *pid)
{
	const int ret = spawn(words, -1, err, pid);

	if (ret != 0)
		return ret;
	for (int ms = 0; ms < START_MS; ms += POLL_MS) {
		if (answers(socket_path))
			return 0;
		if (waitpid(*pid, NULL, WNOHANG) == *pid)
			return -ECHILD;
		usleep(POLL_MS * 1000);
	}
	kill(*pid, SIGKILL);
	reap(*pid);
	return -ETIMEDOUT;
}

int mayfly_stop(pid_t pid)
{
	kill(pid, SIGTERM);
	return reap(pid);
}

bool mayfly_kvm_usable(const char **why)
{
	cleanup_fd int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	cleanup_fd int vm = -1;

	if (kvm < 0) {
		*why = "/dev/kvm cannot be opened";
		return false;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	*why = "KVM makes no VM";
	return vm >= 0;
}
