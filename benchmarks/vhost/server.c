/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  CPU time is read from each process's own clock, in nanoseconds, threads that
 * have ended included: /proc/PID/stat has ticks of 10 ms, some 2 % of a window.  Only what processes
 * cost that have ended is taken from there, from their parents; mayfly's are few, and none in a window
 * without a replacement.
 */
#include "benchmarks/vhost/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/common.h"
#include "core/cc.h"
#include "tests/rig/mayfly.h"

#define QSD "qemu-storage-daemon"
#define IMAGE "image"
#define SOCKET "socket"
#define STATE "state"
#define STOP_MS 5000
#define POLL_MS 5
#define FILL_BYTES 4096u
#define PROCESSES_MAX 4096

/* ---- files ---- */

static void in_dir(const struct server *s, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", s->dir, name);
}

void server_socket(const struct server *s, char path[PATH_MAX])
{
	in_dir(s, SOCKET, path);
}

void server_api(const struct server *s, char path[PATH_MAX])
{
	in_dir(s, STATE "/api.sock", path);
}

static int make_dir(struct server *s)
{
	const char *base = bench_image_dir();
	const int n = snprintf(s->dir, sizeof(s->dir), "%s/mayfly-vhost-XXXXXX", base);
	int ret = 0;

	if (n >= (int)sizeof(s->dir))
		ret = -ENAMETOOLONG;
	else if (mkdtemp(s->dir) == NULL)
		ret = -errno;
	if (ret != 0)
		s->dir[0] = '\0';
	return ret;
}

/* Written, not only allocated: the first write to an extent is dearer than those that follow.  A page at a
 * time, so that page cache has it in pages: of what ext4 caches in larger pieces, as large as can be had
 * just then, it looks through all blocks for each small write (6.18: 15 us in place of 2.5), and no two
 * images would be alike. */
static int fill(int fd, uint64_t bytes)
{
	static uint8_t zeroes[FILL_BYTES];
	uint64_t at = 0;

	while (at < bytes) {
		const ssize_t n = pwrite(fd, zeroes, FILL_BYTES, (off_t)at);

		if (n < 0)
			return -errno;
		at += (uint64_t)n;
	}
	return fsync(fd) == 0 ? 0 : -errno;
}

int server_prepare(struct server *s, const struct server_setup *setup)
{
	char path[PATH_MAX];
	int ret;

	*s = (struct server){ .kind = setup->kind, .image = -1 };
	CHECK(setup->image_bytes % FILL_BYTES == 0);
	ret = make_dir(s);
	if (ret != 0)
		return ret;
	in_dir(s, IMAGE, path);
	s->image = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ret = s->image < 0 ? -errno : fill(s->image, setup->image_bytes);
	/* What O_DIRECT finds in page cache it must throw out first. */
	if (ret == 0 && setup->direct)
		ret = -posix_fadvise(s->image, 0, 0, POSIX_FADV_DONTNEED);
	return ret;
}

static void remove_files(struct server *s)
{
	static const char *const names[] = { IMAGE, SOCKET, STATE "/api.sock" };
	char path[PATH_MAX];

	cc_close(&s->image);
	if (s->dir[0] == '\0')
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		in_dir(s, names[i], path);
		unlink(path);
	}
	in_dir(s, STATE, path);
	rmdir(path);
	if (rmdir(s->dir) != 0)
		fprintf(stderr, "%s: %s\n", s->dir, strerror(errno));
	s->dir[0] = '\0';
}

/* ---- the program ---- */

bool server_has_qsd(void)
{
	const char *path = getenv("PATH");
	char name[PATH_MAX];

	while (path != NULL && *path != '\0') {
		const size_t n = strcspn(path, ":");

		snprintf(name, sizeof(name), "%.*s/" QSD, (int)n, path);
		if (access(name, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

/* In a session of its own, so that the terminal's SIGINT reaches the benchmark only, which ends it. */
static void prepare_child(const struct server *s, pid_t parent)
{
	const int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setsid();
	bench_pin_beside(0, 0);
	if (getppid() != parent || chdir(s->dir) != 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(null, STDOUT_FILENO) < 0)
		_exit(126);
}

_Noreturn static void become_mayfly(const char *program, const struct server_setup *setup)
{
	char disk[128];

	snprintf(disk, sizeof(disk), "id=bench,path=" IMAGE ",queues=%u%s", setup->queues,
		 setup->direct ? ",direct" : "");
	execl(program, "mayfly", "vhost-user", "blk", "--socket", SOCKET, "--state-dir", STATE,
	      "--disk", disk, (char *)NULL);
	_exit(127);
}

/* With an iothread, as the manual has it and as what serves a VM should be: with adaptive polling, that
 * is.  Everything else is its default. */
_Noreturn static void become_qsd(const struct server_setup *setup)
{
	char file[128], export[160];

	snprintf(file, sizeof(file),
		 "driver=file,node-name=f,filename=" IMAGE ",cache.direct=%s,aio=%s",
		 setup->direct ? "on" : "off", setup->aio);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=e,node-name=r,addr.type=unix,addr.path=" SOCKET
		 ",num-queues=%u,writable=on,iothread=io",
		 setup->queues);
	execlp(QSD, QSD, "--blockdev", file, "--blockdev", "driver=raw,node-name=r,file=f",
	       "--object", "iothread,id=io", "--export", export, (char *)NULL);
	_exit(127);
}

int server_start(struct server *s, const struct server_setup *setup)
{
	const pid_t self = getpid();
	char program[PATH_MAX];
	const int ret = setup->kind == SERVER_MAYFLY ? mayfly_above(2, program, PATH_MAX) : 0;

	if (ret != 0)
		return ret;
	s->pid = fork();
	if (s->pid == 0) {
		prepare_child(s, self);
		if (setup->kind == SERVER_MAYFLY)
			become_mayfly(program, setup);
		become_qsd(setup);
	}
	if (s->pid > 0)
		return 0;
	s->pid = 0;
	return -errno;
}

bool server_runs(const struct server *s)
{
	siginfo_t info = { .si_pid = 0 };

	return s->pid > 0 && waitid(P_PID, (id_t)s->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

int server_stop(struct server *s)
{
	int status = 0, ret = 0;

	if (s->pid <= 0)
		return 0;
	kill(s->pid, SIGTERM);
	for (int ms = 0; ms < STOP_MS && server_runs(s); ms += POLL_MS)
		bench_sleep_us(POLL_MS * 1000);
	if (server_runs(s)) {
		kill(s->pid, SIGKILL);
		ret = -ETIMEDOUT;
	}
	if (waitpid(s->pid, &status, 0) != s->pid || (ret == 0 && status != 0))
		ret = -ECHILD;
	s->pid = 0;
	return ret;
}

void server_end(struct server *s)
{
	(void)server_stop(s);
	remove_files(s);
}

/* ---- its CPU time ---- */

struct process {
	pid_t pid, parent;
	uint64_t dead_ticks; /* of children that it has waited for */
	bool ours;
};

static bool read_process(const char *name, struct process *p)
{
	unsigned long long user, system;
	char path[64], text[1024];

	snprintf(path, sizeof(path), "/proc/%.20s/stat", name);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *rest = strrchr(text, ')'); /* the name before it may hold anything */

	p->pid = atoi(text);
	p->ours = false;
	if (rest == NULL ||
	    sscanf(rest, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %llu %llu",
		   &p->parent, &user, &system) != 3)
		return false;
	p->dead_ticks = user + system;
	return true;
}

/* Processes as they are, count at most PROCESSES_MAX. */
static int read_processes(struct process *list, uint32_t *count)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;

	*count = 0;
	if (dir == NULL)
		return -errno;
	while (*count < PROCESSES_MAX && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			*count += read_process(entry->d_name, &list[*count]);
	}
	closedir(dir);
	return 0;
}

static bool is_ours(const struct process *list, uint32_t count, pid_t pid)
{
	for (uint32_t i = 0; i < count; i++) {
		if (list[i].pid == pid)
			return list[i].ours;
	}
	return false;
}

/* Marks root and its descendants, a generation a round. */
static void mark(struct process *list, uint32_t count, pid_t root)
{
	bool more = true;

	while (more) {
		more = false;
		for (uint32_t i = 0; i < count; i++) {
			struct process *p = &list[i];

			if (p->ours || (p->pid != root && !is_ours(list, count, p->parent)))
				continue;
			p->ours = true;
			more = true;
		}
	}
}

static uint64_t process_ns(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
		return 0; /* it has ended since */
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

int server_cpu_ns(const struct server *s, uint64_t *ns)
{
	static struct process list[PROCESSES_MAX];
	const uint64_t tick_ns = NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
	uint32_t count;
	const int ret = read_processes(list, &count);

	*ns = 0;
	if (ret != 0)
		return ret;
	mark(list, count, s->pid);
	for (uint32_t i = 0; i < count; i++) {
		if (list[i].ours)
			*ns += process_ns(list[i].pid) + list[i].dead_ticks * tick_ns;
	}
	return *ns != 0 ? 0 : -ESRCH;
}
