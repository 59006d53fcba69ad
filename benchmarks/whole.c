/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  `mayfly run` is started with a guest that drives its devices, as a user would
 * start it, and asked by its API until each device has a process and a standby.  Then what its
 * processes have mapped is added up, and what the kernel holds for them is the step of the
 * system-wide counters since before it was started, and again until after its end.  One VM would
 * disappear in what slab caches keep for the next one, so that several are started at once, several
 * times; of the maps those of the VM in the middle count, so that the parts belong together.
 */
#include "benchmarks/whole.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "benchmarks/common.h"
#include "benchmarks/guest.h"
#include "benchmarks/zoo.h"
#include "core/cc.h"
#include "core/http.h"
#include "tests/rig/mayfly.h"

#define ROUNDS 5
#define VMS 10 /* at once */
#define WAIT_MS 60000
#define POLL_MS 5
#define SETTLE_US 200000 /* freed by RCU and by kernel threads */
#define ASK_S 10
#define IMAGE_BYTES (32u << 20)
#define DEVICES 4
#define CHILDREN (1 + 2 * DEVICES) /* spawner, devices, standbys */
#define STAND_IN_BYTES (2u << 20)

#define SPAWNER_NAME "mayfly-spawner"

struct vm {
	pid_t pid;
	int in, out; /* of the stand-in */
	char dir[64];
};

struct round {
	struct footprint_maps maps;
	int64_t vmm_anon, boxes_anon;
};

/* What each VM leaves in its directory; the state directory goes by itself. */
static const char *const vm_files[] = { "kernel", "disk", "console", "serial", "api" };

/* ---- a real one ---- */

static char *vm_path(const struct vm *vm, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", vm->dir, name);
	return path;
}

static int make_files(struct vm *vm)
{
	const char *tmp = getenv("TMPDIR");
	char path[PATH_MAX];
	int ret;

	/* A long one would leave no room for the socket's name. */
	snprintf(vm->dir, sizeof(vm->dir), "%s/mayfly-whole-XXXXXX",
		 tmp != NULL && strlen(tmp) < 30 ? tmp : "/tmp");
	if (mkdtemp(vm->dir) == NULL) {
		ret = -errno;
		vm->dir[0] = '\0';
		return ret;
	}
	ret = guest_write(vm_path(vm, "kernel", path));
	if (ret != 0)
		return ret;
	cleanup_fd int disk = open(vm_path(vm, "disk", path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	return disk >= 0 && ftruncate(disk, IMAGE_BYTES) == 0 ? 0 : -errno;
}

static void remove_files(const struct vm *vm)
{
	char path[PATH_MAX];

	if (vm->dir[0] == '\0')
		return;
	for (size_t i = 0; i < ARRAY_SIZE(vm_files); i++)
		unlink(vm_path(vm, vm_files[i], path));
	rmdir(vm_path(vm, "state", path));
	rmdir(vm->dir);
}

/* The child of fork(), in the VM's directory. */
static void become_mayfly(const char *program, pid_t parent)
{
	static char *const argv[] = {
		"mayfly",      "run",          "--kernel",     "kernel",
		"--memory",    "64M",          "--disk",       "id=disk,path=disk",
		"--rng",       "--console",    "file:console", "--serial",
		"file:serial", "--api-socket", "api",          "--state-dir",
		"state",       NULL,
	};
	const int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(126);
	execv(program, argv);
	_exit(127);
}

static int start_mayfly(struct vm *vm)
{
	const pid_t self = getpid();
	char path[PATH_MAX];
	int ret = mayfly_above(2, path, PATH_MAX);

	if (ret == 0)
		ret = make_files(vm);
	if (ret != 0)
		return ret;
	vm->pid = fork();
	if (vm->pid == 0) {
		if (chdir(vm->dir) == 0)
			become_mayfly(path, self);
		_exit(126);
	}
	return vm->pid < 0 ? -errno : 0;
}

/* ---- until it is ready ---- */

static bool guest_is_ready(const struct vm *vm)
{
	char path[PATH_MAX], byte = 0;
	cleanup_fd int fd = open(vm_path(vm, "serial", path), O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, &byte, 1) == 1 && byte == GUEST_READY;
}

static bool devices_are_ready(const struct vm *vm)
{
	struct http_answer answer = { .body = NULL };
	char path[PATH_MAX];
	json_t *devices, *device;
	size_t i, ready = 0;

	if (http_ask(vm_path(vm, "api", path), "GET", "/devices", NULL, ASK_S, &answer) != 0)
		return false;
	devices = json_loadb(answer.body, answer.bytes, 0, NULL);
	free(answer.body);
	json_array_foreach(devices, i, device)
	{
		const char *state = json_string_value(json_object_get(device, "state"));

		ready += state != NULL && strcmp(state, "active") == 0 &&
			 json_integer_value(json_object_get(device, "standby_pid")) > 0;
	}
	json_decref(devices);
	return ready == DEVICES;
}

static int wait_mayfly(const struct vm *vm)
{
	for (int ms = 0; ms < WAIT_MS; ms += POLL_MS) {
		siginfo_t info = { .si_pid = 0 };

		if (guest_is_ready(vm) && devices_are_ready(vm))
			return 0;
		if (waitid(P_PID, (id_t)vm->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
		    info.si_pid != 0)
			return -ECHILD;
		bench_sleep_us(POLL_MS * 1000);
	}
	return -ETIMEDOUT;
}

/* ---- the stand-in ---- */

int whole_stand_in(void)
{
	struct zoo_kit kits[DEV_KIND_COUNT] = { 0 };
	struct device *devs[DEV_KIND_COUNT] = { 0 };
	struct device_status status;
	struct bench_rig rig;
	char byte = 'r';
	int ret = bench_rig_start(&rig, GUESTMEM_4K, STAND_IN_BYTES);

	for (uint32_t i = 0; i < ZOO_KINDS && ret == 0; i++) {
		ret = zoo_open(&kits[i], zoo_kinds[i]);
		if (ret == 0)
			ret = zoo_create(&rig.rig, &kits[i], &devs[i]);
		if (ret == 0)
			ret = zoo_start(&kits[i], devs[i]);
	}
	for (uint32_t i = 0; i < ZOO_KINDS && ret == 0; i++) {
		while (device_status(devs[i], &status), status.generation == 0)
			bench_sleep_us(1000);
		ret = device_wait_standby(devs[i], WAIT_MS);
	}
	if (ret == 0 && write(STDOUT_FILENO, &byte, 1) == 1)
		ret = (int)read(STDIN_FILENO, &byte, 1);
	for (uint32_t i = 0; i < ZOO_KINDS; i++) {
		device_destroy(devs[i]);
		zoo_close(&kits[i]);
	}
	bench_rig_stop(&rig);
	return ret == 0 ? 0 : 1;
}

static int start_stand_in(struct vm *vm)
{
	int in[2], out[2];
	char byte;

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
		return -errno;
	vm->in = in[1];
	vm->out = out[0];
	vm->pid = fork();
	if (vm->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl("/proc/self/exe", "bench_sandbox", "--vm", NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	if (vm->pid < 0)
		return -errno;
	return read(vm->out, &byte, 1) == 1 ? 0 : -EPIPE;
}

/* ---- either ---- */

static int vm_start(struct vm *vm, bool kvm)
{
	int ret;

	if (!kvm)
		return start_stand_in(vm);
	ret = start_mayfly(vm);
	return ret == 0 ? wait_mayfly(vm) : ret;
}

static int vm_stop(struct vm *vm, bool kvm)
{
	int status = 0, ret = 0;

	cc_close(&vm->in);
	cc_close(&vm->out);
	if (vm->pid > 0) {
		if (kvm)
			kill(vm->pid, SIGTERM);
		ret = waitpid(vm->pid, &status, 0) == vm->pid && status == 0 ? 0 : -ECHILD;
	}
	remove_files(vm);
	return ret;
}

static pid_t parent_of(pid_t pid)
{
	return (pid_t)footprint_status(pid, "PPid");
}

static bool is_spawner(pid_t pid)
{
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, name, sizeof(name) - 1) > 0 &&
	       strncmp(name, SPAWNER_NAME, strlen(SPAWNER_NAME)) == 0;
}

/* 0; -EPROTO: there are not as many children as there should be. */
static int add_children(pid_t parent, struct round *round)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int ret = dir != NULL ? 0 : -errno, children = 0;

	while (ret == 0 && (entry = readdir(dir)) != NULL) {
		const pid_t pid = atoi(entry->d_name);
		const int64_t before = round->maps.anon;

		if (pid <= 0 || parent_of(pid) != parent)
			continue;
		ret = footprint_add(&round->maps, pid);
		round->boxes_anon += is_spawner(pid) ? 0 : round->maps.anon - before;
		children++;
	}
	if (dir != NULL)
		closedir(dir);
	return ret != 0 || children == CHILDREN ? ret : -EPROTO;
}

static int vm_look(const struct vm *vm, struct round *round)
{
	int ret;

	memset(round, 0, sizeof(*round));
	ret = footprint_add(&round->maps, vm->pid);
	round->vmm_anon = round->maps.anon;
	return ret == 0 ? add_children(vm->pid, round) : ret;
}

/* The system's counters without this process's own anonymous memory. */
static int read_others(struct footprint *f)
{
	bench_sleep_us(SETTLE_US);
	return footprint_others(f);
}

/* All at once, then a look at each. */
static int crowd_look(struct vm *vms, bool kvm, struct round *rounds, struct footprint *with)
{
	int ret = 0;

	for (uint32_t i = 0; i < VMS; i++)
		vms[i] = (struct vm){ .in = -1, .out = -1 };
	for (uint32_t i = 0; i < VMS && ret == 0; i++)
		ret = vm_start(&vms[i], kvm);
	if (ret == 0)
		ret = read_others(with);
	for (uint32_t i = 0; i < VMS && ret == 0; i++)
		ret = vm_look(&vms[i], &rounds[i]);
	return ret;
}

static int measure_crowd(bool kvm, struct round *rounds, struct footprint *with)
{
	struct vm vms[VMS];
	int ret = crowd_look(vms, kvm, rounds, with);

	for (uint32_t i = 0; i < VMS; i++) {
		const int stopped = vm_stop(&vms[i], kvm);

		ret = ret != 0 ? ret : stopped;
	}
	return ret;
}

static int64_t round_private(const struct round *round)
{
	return round->maps.anon + round->maps.shared;
}

static int compare_rounds(const void *a, const void *b)
{
	const int64_t x = round_private(a), y = round_private(b);

	return (x > y) - (x < y);
}

/* In samples: of VMS VMs, the way up and the way down. */
static int measure_rounds(bool kvm, struct round *rounds, struct footprint *samples)
{
	struct footprint before, with, after;
	int ret = read_others(&before);

	for (uint32_t i = 0; i < ROUNDS && ret == 0; i++) {
		ret = measure_crowd(kvm, rounds + (size_t)i * VMS, &with);
		if (ret == 0)
			ret = read_others(&after);
		if (ret != 0)
			break;
		samples[2 * i] = footprint_minus(&with, &before);
		samples[2 * i + 1] = footprint_minus(&with, &after);
		before = after;
	}
	return ret;
}

static void take_middle(struct whole *whole, struct round *rounds)
{
	const struct round *middle = &rounds[ROUNDS * VMS / 2];

	qsort(rounds, ROUNDS * VMS, sizeof(*rounds), compare_rounds);
	whole->maps = middle->maps;
	whole->vmm_anon = middle->vmm_anon;
	whole->boxes_anon = middle->boxes_anon;
}

int whole_measure(struct whole *whole)
{
	struct round *rounds = calloc(ROUNDS * VMS, sizeof(*rounds));
	struct footprint samples[2 * ROUNDS];
	const char *why;
	const bool kvm = mayfly_kvm_usable(&why);
	int ret;

	if (rounds == NULL)
		return -ENOMEM;
	ret = measure_rounds(kvm, rounds, samples);
	if (ret == 0) {
		take_middle(whole, rounds);
		whole->step = footprint_divided(footprint_median(samples, 2 * ROUNDS), VMS);
		whole->without_kvm = kvm ? NULL : why;
	}
	free(rounds);
	return ret;
}

/* ---- the report ---- */

/* Each part of a sum under its name; the sum. */
struct part {
	const char *name;
	int64_t kib;
};

static int64_t put_parts(json_t *to, const char *name, const struct part *parts, size_t count)
{
	json_t *o = json_object();
	int64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		bench_put(o, parts[i].name, json_integer(parts[i].kib));
		sum += parts[i].kib;
	}
	bench_put(to, name, o);
	return sum;
}

void whole_report(struct report *report, const struct whole *whole)
{
	const struct footprint_maps *m = &whole->maps;
	const struct part counted[] = {
		{ "anon", m->anon },
		{ "shared", m->shared },
		{ "text", footprint_files(m, true) },
		{ "stack", whole->step.stack },
		{ "slab", whole->step.slab },
	};
	const struct part beside[] = {
		{ "libraries", footprint_files(m, false) },
		{ "guest", m->guest },
		{ "tables", m->tables },
		{ "vmalloc", whole->step.vmalloc },
	};
	const struct part anon[] = {
		{ "vmm", whole->vmm_anon },
		{ "spawner", m->anon - whole->vmm_anon - whole->boxes_anon },
		{ "boxes", whole->boxes_anon },
	};
	json_t *o = json_object();

	bench_put(
		o, "of",
		json_string(whole->without_kvm == NULL
				    ? "mayfly run with API and a guest that drives 4 devices"
				    : "a stand-in: the supervisor and 4 devices, no KVM, no API"));
	if (whole->without_kvm != NULL)
		bench_put(o, "without_kvm", json_string(whole->without_kvm));
	bench_put(o, "processes", json_integer(m->processes));
	bench_put(o, "threads", json_integer(m->threads));
	report_json(report, "whole_kib",
		    json_integer(put_parts(o, "kib", counted, ARRAY_SIZE(counted))));
	put_parts(o, "beside_kib", beside, ARRAY_SIZE(beside));
	put_parts(o, "anon_kib", anon, ARRAY_SIZE(anon));
	report_json(report, "whole", o);
}
