/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seal as seen from outside, through /proc, before a generation becomes a standby.  The box said
 * SEALED; that is worth nothing.  A box that passed cannot change afterwards: every call that could
 * is outside its policy, and that the policy is in force is what the canary showed.
 *
 * Not visible from outside, and so left to the escape check: Landlock, mseal.
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define UNSOUND(text)                                                                              \
	do {                                                                                       \
		*what = (text);                                                                    \
		return -EPERM;                                                                     \
	} while (0)

static ssize_t read_file(int dir, const char *name, char *text, size_t room)
{
	cleanup_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		const ssize_t got = read(fd, text + n, room - 1 - n);

		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
		if (n == room - 1)
			return -E2BIG;
	}
	text[n] = '\0';
	return (ssize_t)n;
}

/* ---- /proc/PID/status ---- */

struct status_want {
	const char *line; /* whole, with its newline */
	const char *what;
};

static const struct status_want status_wants[] = {
	{ "\nThreads:\t1\n", "more than one thread" },
	{ "\nNoNewPrivs:\t1\n", "no_new_privs is off" },
	{ "\nSeccomp:\t2\n", "no seccomp filter" },
	{ "\nCapInh:\t0000000000000000\n", "inheritable capabilities" },
	{ "\nCapPrm:\t0000000000000000\n", "permitted capabilities" },
	{ "\nCapEff:\t0000000000000000\n", "effective capabilities" },
	{ "\nCapBnd:\t0000000000000000\n", "the capability bounding set" },
	{ "\nCapAmb:\t0000000000000000\n", "ambient capabilities" },
};

static int verify_ids(const struct box *box, const char *status, const char **what)
{
	const struct seal_host *host = &box->gen->dev->sup->host;
	char want[96];

	snprintf(want, sizeof(want), "\nUid:\t%u\t%u\t%u\t%u\n", host->uid, host->uid, host->uid,
		 host->uid);
	if (strstr(status, want) == NULL)
		UNSOUND("the user id");
	snprintf(want, sizeof(want), "\nGid:\t%u\t%u\t%u\t%u\n", host->gid, host->gid, host->gid,
		 host->gid);
	if (strstr(status, want) == NULL)
		UNSOUND("the group id");
	if ((host->seal & SEAL_WANT_IDS) && strstr(status, "\nGroups:\t \n") == NULL)
		UNSOUND("supplementary groups");
	snprintf(want, sizeof(want), "\nSeccomp_filters:\t%u\n", host->filters + 1);
	if (strstr(status, "\nSeccomp_filters:") != NULL && strstr(status, want) == NULL)
		UNSOUND("the number of seccomp filters");
	return 0;
}

static int verify_status(const struct box *box, const char **what)
{
	char status[4096];

	if (read_file(box->proc_dir, "status", status, sizeof(status)) < 0)
		UNSOUND("/proc/PID/status cannot be read");
	for (size_t i = 0; i < ARRAY_SIZE(status_wants); i++) {
		if (strstr(status, status_wants[i].line) == NULL)
			UNSOUND(status_wants[i].what);
	}
	return verify_ids(box, status, what);
}

/* ---- /proc/PID/maps ---- */

struct map_line {
	uint64_t start, end, offset, ino;
	char prot[5];
};

/* The ranges that must be there, each once, and what was seen of them. */
struct map_check {
	const struct launch_record *launch;
	const struct box *box;
	uint64_t program_ino;
	uint32_t program_text; /* executable mappings of the program */
	uint64_t program_end;
	uint32_t seen;
};

static bool is_shared_rw(const char *prot)
{
	return strcmp(prot, "rw-s") == 0;
}

static bool is_region(const struct map_check *c, const struct map_line *m)
{
	for (uint32_t i = 0; i < c->launch->map.count; i++) {
		const struct mem_region *r = &c->launch->map.regions[i];

		if (m->start != r->addr)
			continue;
		return m->end == r->addr + r->bytes && is_shared_rw(m->prot) &&
		       m->offset == c->launch->region_offset[i] && m->ino == c->box->region_ino[i];
	}
	return false;
}

/* Whole pages, though the log may end within one. */
static bool is_log(const struct map_check *c, const struct map_line *m)
{
	const struct launch_record *l = c->launch;

	return l->log_bytes != 0 && m->start == l->log_addr &&
	       m->end == l->log_addr + launch_log_span(l) && is_shared_rw(m->prot) &&
	       m->offset == l->log_offset && m->ino == c->box->log_ino;
}

/* The program file's own mappings and the zero pages (.bss) that follow without a gap. Never both
 * writable and executable. */
static bool is_program(struct map_check *c, const struct map_line *m)
{
	const bool file = c->program_ino != 0 && m->ino == c->program_ino;
	const bool bss = m->ino == 0 && m->start == c->program_end && c->program_end != 0 &&
			 (strcmp(m->prot, "rw-p") == 0 || strcmp(m->prot, "r--p") == 0);

	if (!file && !bss)
		return false;
	if (c->program_end != 0 && m->start != c->program_end)
		return false;
	c->program_end = m->end;
	if (m->prot[2] != 'x')
		return m->prot[3] == 'p';
	c->program_text++;
	return file && m->prot[1] == '-' && m->prot[3] == 'p';
}

static bool is_state_page(const struct map_check *c, const struct map_line *m)
{
	return m->start == c->launch->state_addr && m->end == m->start + STATE_PAGE_BYTES &&
	       is_shared_rw(m->prot) && m->ino == c->box->state_ino;
}

static bool is_stack(const struct map_check *c, const struct map_line *m)
{
	return m->start == c->launch->stack_addr && m->end == m->start + BOX_STACK_BYTES &&
	       strcmp(m->prot, "rw-p") == 0 && m->ino == 0;
}

/* One line of maps; [vsyscall] lies above all user addresses and cannot be unmapped. */
static bool map_line_ok(struct map_check *c, const char *line)
{
	struct map_line m;

	if (strstr(line, "[vsyscall]") != NULL)
		return true;
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*x:%*x %" SCNu64, &m.start,
		   &m.end, m.prot, &m.offset, &m.ino) != 5)
		return false;
	/* The program last: its inode number may be that of a memfd, which is on another file system
	 * (the device numbers tell nothing: on overlayfs maps and stat differ). */
	if (!is_region(c, &m) && !is_log(c, &m) && !is_state_page(c, &m) && !is_stack(c, &m))
		return is_program(c, &m);
	c->seen++;
	return true;
}

static int verify_maps(const struct box *box, const char **what)
{
	char maps[16384];
	char *save = NULL;
	struct stat st;
	struct map_check c = { .launch = box->launch, .box = box };

	if (fstatat(box->proc_dir, "exe", &st, 0) != 0)
		UNSOUND("/proc/PID/exe cannot be read");
	c.program_ino = st.st_ino;
	if (read_file(box->proc_dir, "maps", maps, sizeof(maps)) < 0)
		UNSOUND("/proc/PID/maps cannot be read");
	for (char *line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (!map_line_ok(&c, line))
			UNSOUND("a mapping that the launch record does not list");
	}
	const uint32_t logs = c.launch->log_bytes != 0 ? 1 : 0;

	if (c.seen != c.launch->map.count + logs + 2 || c.program_text != 1)
		UNSOUND("a mapping is missing");
	return 0;
}

/* ---- /proc/PID/fd ---- */

static bool same_file(const struct box *box, uint32_t number, int ours)
{
	char path[32];
	struct stat a, b;

	if (box->gen->dev->sup->host.kcmp)
		return syscall(SYS_kcmp, getpid(), box->pid, 0 /* KCMP_FILE */, ours, number) == 0;
	snprintf(path, sizeof(path), "fd/%u", number);
	return fstat(ours, &a) == 0 && fstatat(box->proc_dir, path, &b, 0) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int verify_fd(const struct box *box, uint32_t number, int ours, const char **what)
{
	struct stat st;

	if (number != BOX_FD_CONTROL) {
		if (!same_file(box, number, ours))
			UNSOUND("a descriptor is not the one that was given");
		return 0;
	}
	if (fstatat(box->proc_dir, "fd/0", &st, 0) != 0 || st.st_ino != box->control_ino)
		UNSOUND("descriptor 0 is not its control socket");
	return 0;
}

/* Open descriptors, -1 when they cannot be counted.  Since 6.2 that is the size of the directory. */
static int count_fds(const struct box *box)
{
	struct stat st;
	const struct dirent *entry;
	int n = 0;

	if (fstatat(box->proc_dir, "fd", &st, 0) == 0 && st.st_size > 0)
		return (int)st.st_size;
	const int fd = openat(box->proc_dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static int verify_fds(const struct box *box, const char **what)
{
	int fds[SPAWN_FDS_MAX];
	const uint32_t held = box->launch->fd_held;

	launch_fds(box, box->launch, fds);
	if (count_fds(box) != (int)held)
		UNSOUND("a descriptor that the launch record does not list");
	for (uint32_t i = 0; i < held; i++) {
		const int ret = verify_fd(box, i, fds[i], what);

		if (ret != 0)
			return ret;
	}
	return 0;
}

/* ---- namespaces, limits, dumpable ---- */

static const char *const namespace_names[] = {
#define NAMESPACE_NAME(name) "ns/" #name,
	BOX_NAMESPACES(NAMESPACE_NAME)
#undef NAMESPACE_NAME
};

_Static_assert(ARRAY_SIZE(namespace_names) == BOX_NAMESPACE_COUNT, "one name a namespace");

static int read_namespace(int dir, size_t i, char *text, size_t room)
{
	const ssize_t n = readlinkat(dir, namespace_names[i], text, room - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return 0;
}

int verify_prepare(struct supervisor *sup)
{
	cleanup_fd int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = self < 0 ? -errno : 0;

	for (size_t i = 0; i < BOX_NAMESPACE_COUNT && ret == 0; i++)
		ret = read_namespace(self, i, sup->namespaces[i], sizeof(sup->namespaces[i]));
	return ret;
}

static int verify_namespaces(const struct box *box, const char **what)
{
	const struct supervisor *sup = box->gen->dev->sup;
	const size_t n = BOX_NAMESPACE_COUNT - (sup->spawner->user_ns ? 0 : 1);

	for (size_t i = 0; i < n; i++) {
		char theirs[sizeof(sup->namespaces[i])];

		if (read_namespace(box->proc_dir, i, theirs, sizeof(theirs)) != 0)
			UNSOUND("a namespace cannot be read");
		if (strcmp(sup->namespaces[i], theirs) == 0)
			UNSOUND("a namespace of the host");
	}
	return 0;
}

/* /proc/PID/limits and not prlimit(): that wants CAP_SYS_RESOURCE of a VMM whose boxes have ids of
 * their own, which root in a container may lack. */
static int verify_limits(const struct box *box, const char **what)
{
	const struct {
		const char *name; /* as the kernel prints it, padded to 25 columns */
		uint64_t max;
	} wants[] = {
		{ "Max open files", box->launch->fd_held + 1u },
		{ "Max file size", box->launch->fsize },
		{ "Max processes", 0 },
		{ "Max core file size", box->launch->core_limit },
		{ "Max locked memory", 0 },
		{ "Max realtime priority", 0 },
		{ "Max nice priority", 0 },
	};
	char limits[4096], want[128];

	if (read_file(box->proc_dir, "limits", limits, sizeof(limits)) < 0)
		UNSOUND("resource limits cannot be read");
	for (size_t i = 0; i < ARRAY_SIZE(wants); i++) {
		snprintf(want, sizeof(want), "\n%-25s %-20" PRIu64 " %-20" PRIu64 " ",
			 wants[i].name, wants[i].max, wants[i].max);
		if (wants[i].max == UINT64_MAX)
			continue;
		if (strstr(limits, want) == NULL)
			UNSOUND("a resource limit");
	}
	return 0;
}

/* As root only: the entries of a process that is not dumpable belong to root, else to its user. */
static int verify_dumpable(const struct box *box, const char **what)
{
	struct stat st;

	if (!(box->launch->seal & SEAL_WANT_IDS))
		return 0;
	if (fstatat(box->proc_dir, "maps", &st, 0) != 0 || st.st_uid != 0)
		UNSOUND("it is dumpable");
	return 0;
}

int verify_seal(const struct box *box, const char **what)
{
	static int (*const steps[])(const struct box *, const char **) = {
		verify_status, verify_maps,       verify_fds,
		verify_limits, verify_namespaces, verify_dumpable,
	};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		const int ret = steps[i](box, what);

		if (ret != 0)
			return ret;
	}
	return 0;
}

int verify_box(const struct box *box, const char **what)
{
	if (!fence_parked(box))
		UNSOUND("it is not waiting in read(control)");
	return verify_seal(box, what);
}
