/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/common.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/box/table.h"
#include "core/cc.h"

/* ---- arguments ---- */

static bool parse_number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

static bool parse_shard(const char *text, struct bench_args *args)
{
	uint32_t i, n;
	char end;

	if (sscanf(text, "%" SCNu32 "/%" SCNu32 "%c", &i, &n, &end) != 2 || i == 0 || i > n)
		return false;
	args->shard = i - 1;
	args->shards = n;
	return true;
}

static bool parse_option(const char *name, const char *value, struct bench_args *args)
{
	if (value == NULL)
		return false;
	if (strcmp(name, "--count") == 0)
		return parse_number(value, &args->count);
	if (strcmp(name, "--seconds") == 0)
		return parse_number(value, &args->seconds);
	return strcmp(name, "--shard") == 0 && parse_shard(value, args);
}

int bench_args(int argc, char **argv, struct bench_args *args)
{
	args->shards = 1;
	for (int i = 1; i < argc; i += 2) {
		if (parse_option(argv[i], argv[i + 1], args))
			continue;
		fprintf(stderr, "%s: not understood: %s %s\n", argv[0], argv[i],
			argv[i + 1] != NULL ? argv[i + 1] : "");
		return -EINVAL;
	}
	args->count = (args->count + args->shards - 1) / args->shards;
	return 0;
}

/* ---- figures ---- */

json_t *bench_us(const struct hist *hist, double q)
{
	const uint64_t tenths = (hist_percentile(hist, q) + 50) / 100;

	return hist->count != 0 ? json_real((double)tenths / 10.0) : json_null();
}

void bench_put(json_t *object, const char *name, json_t *value)
{
	CHECK(value != NULL && json_object_set_new(object, name, value) == 0);
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_quantile(double *values, uint32_t count, double q)
{
	qsort(values, count, sizeof(*values), compare);
	return values[(uint32_t)(q * (double)(count - 1) + 0.5)];
}

uint64_t bench_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

void bench_sleep_us(uint64_t us)
{
	const struct timespec ts = { .tv_sec = (time_t)(us / 1000000u),
				     .tv_nsec = (long)(us % 1000000u * 1000u) };

	nanosleep(&ts, NULL);
}

/* ---- CPUs ---- */

static cpu_set_t all_cpus;

static int know_cpus(void)
{
	if (CPU_COUNT(&all_cpus) != 0)
		return 0;
	return sched_getaffinity(0, sizeof(all_cpus), &all_cpus) == 0 ? 0 : -errno;
}

/* The one, or the others. */
static int pin(pid_t pid, uint32_t cpu, bool others)
{
	cpu_set_t set;
	uint32_t at = 0;
	int ret = know_cpus();

	if (ret != 0)
		return ret;
	cpu %= (uint32_t)CPU_COUNT(&all_cpus);
	CPU_ZERO(&set);
	for (uint32_t i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &all_cpus) && (at++ == cpu) != others)
			CPU_SET(i, &set);
	}
	return sched_setaffinity(pid, sizeof(set), &set) == 0 ? 0 : -errno;
}

int bench_pin(pid_t pid, uint32_t cpu)
{
	return pin(pid, cpu, false);
}

int bench_pin_beside(pid_t pid, uint32_t cpu)
{
	const int ret = know_cpus();

	return ret != 0 ? ret : pin(pid, cpu, CPU_COUNT(&all_cpus) > 1);
}

int bench_unpin(pid_t pid)
{
	const int ret = know_cpus();

	if (ret != 0)
		return ret;
	return sched_setaffinity(pid, sizeof(all_cpus), &all_cpus) == 0 ? 0 : -errno;
}

/* SCHED_IDLE is idle within its autogroup only (sched(7)), and each box is a session, so a group, of its own:
 * as one of ours it would have half of what a box runs on. */
_Noreturn static void awake_main(void)
{
	const struct sched_param none = { 0 };
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	syscall(SYS_close_range, 3, ~0u, 0);
	setsid();
	fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, "19", 2);
	sched_setscheduler(0, SCHED_IDLE, &none);
	for (;;)
		__builtin_ia32_pause();
}

int bench_stay_awake(struct bench_awake *awake)
{
	const int ret = know_cpus();

	awake->count = 0;
	while (ret == 0 && awake->count < (uint32_t)CPU_COUNT(&all_cpus) &&
	       awake->count < ARRAY_SIZE(awake->pids)) {
		const pid_t pid = fork();

		if (pid == 0)
			awake_main();
		if (pid < 0)
			return -errno;
		awake->pids[awake->count++] = pid;
	}
	return ret;
}

void bench_rest(struct bench_awake *awake)
{
	while (awake->count > 0) {
		const pid_t pid = awake->pids[--awake->count];

		if (kill(pid, SIGKILL) == 0)
			waitpid(pid, NULL, 0);
	}
}

/* ---- round trips ---- */

struct echo {
	int ping, pong;
	uint32_t count;
};

static void *echo_main(void *arg)
{
	const struct echo *echo = arg;
	uint64_t value;

	bench_pin(0, 1);
	for (uint32_t i = 0; i < echo->count; i++) {
		if (read(echo->ping, &value, sizeof(value)) != sizeof(value) ||
		    write(echo->pong, &value, sizeof(value)) != sizeof(value))
			break;
	}
	return NULL;
}

static void echo_ask(const struct echo *echo, struct hist *hist)
{
	for (uint32_t i = 0; i < echo->count; i++) {
		const uint64_t begin = now_ns();
		uint64_t value = 1;

		if (write(echo->ping, &value, sizeof(value)) != sizeof(value) ||
		    read(echo->pong, &value, sizeof(value)) != sizeof(value))
			break;
		hist_add(hist, now_ns() - begin);
	}
}

int bench_rtt(struct hist *hist, uint32_t count)
{
	cleanup_fd int ping = eventfd(0, EFD_CLOEXEC);
	cleanup_fd int pong = eventfd(0, EFD_CLOEXEC);
	struct echo echo = { ping, pong, count };
	pthread_t thread;
	int ret;

	if (ping < 0 || pong < 0)
		return -errno;
	ret = -pthread_create(&thread, NULL, echo_main, &echo);
	if (ret != 0)
		return ret;
	bench_pin(0, 0);
	echo_ask(&echo, hist);
	bench_unpin(0);
	return -pthread_join(thread, NULL);
}

/* ---- loads ---- */

#define GAP_WAIT_MS 20000
#define STEP_NS (20 * NS_PER_S)

struct blkload_config bench_blk_load(uint64_t image_bytes, uint64_t seed)
{
	return (struct blkload_config){
		.sectors = image_bytes / BLK_SECTOR,
		.seed = seed,
		.min_bytes = 4096,
		.max_bytes = 4096,
		.align = 4096,
		.weights = { [BLKLOAD_READ] = 1, [BLKLOAD_WRITE] = 1 },
	};
}

const char *bench_image_dir(void)
{
	return getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/var/tmp";
}

int bench_window(struct blkload *load, uint64_t ns, double *iops)
{
	const uint64_t before = blkload_completed(load), begin = now_ns(), end = begin + ns;
	int ret = 1;

	while (ret > 0 && now_ns() < end)
		ret = blkload_step(load, STEP_NS);
	const uint64_t elapsed = now_ns() - begin;

	*iops = (double)(blkload_completed(load) - before) * 1e9 / (double)elapsed;
	return ret < 0 ? ret : ret == 0 ? -ETIMEDOUT : 0;
}

int bench_note_gap(const struct blkload *load, uint64_t t0, uint64_t t1, bool cut,
		   struct hist *hist)
{
	const uint64_t seen = blkload_completed(load);
	uint64_t gap;
	int ret;

	for (int i = 0; i < GAP_WAIT_MS && blkload_completed(load) == seen; i++)
		bench_sleep_us(i == 0 ? 50 : 1000);
	ret = cut ? gaps_longest_from(&load->gaps, t0, t1, &gap)
		  : gaps_longest(&load->gaps, t0, t1, &gap);
	if (ret == 0)
		hist_add(hist, gap);
	return ret == -ENODATA ? 0 : ret;
}

int bench_quiet_window(const struct blkload *load, uint64_t ns, struct hist *hist)
{
	const uint64_t t0 = now_ns();

	bench_sleep_us(ns / NS_PER_US);
	return bench_note_gap(load, t0, now_ns(), false, hist);
}

/* ---- rigs ---- */

#define MOVE_WAIT_MS 20000

static int add_memory(struct bench_rig *b, enum guestmem_pages pages, uint64_t bytes)
{
	int ret = pages == GUESTMEM_2M ? guestmem_huge_reserve(&b->huge_pages, bytes) : 0;

	if (ret == 0)
		ret = guestmem_add(&b->rig.mem, 0, bytes, pages);
	b->huge = ret == 0 && pages == GUESTMEM_2M;
	if (ret != 0 && pages == GUESTMEM_2M) {
		fprintf(stderr, "no 2 MiB pages (%s): 4 KiB pages in their place\n",
			strerror(-ret));
		ret = guestmem_add(&b->rig.mem, 0, bytes, GUESTMEM_4K);
	}
	return ret != 0 ? ret : guestmem_populate(&b->rig.mem);
}

void bench_note_fence(struct bench_fences *f, const struct replacement *r)
{
	if (!r->planned)
		return;
	f->counts[r->fence]++;
	/* So it must be, and says nothing of the build. */
	f->late += r->fence != FENCE_PARKED && r->drain_us >= box_deadline_ms(BOX_PARKING) * 1000;
}

bool bench_report_fences(struct report *report, const struct bench_fences *f)
{
	uint64_t others = 0;

	for (int i = 0; i < FENCE_COUNT; i++)
		others += i != FENCE_PARKED ? f->counts[i] : 0;
	report_u64(report, "late", f->late);
	report_fence(report, others == f->late ? fence_name(FENCE_PARKED) : "others");
	if (others != f->late)
		fputs("planned handoffs were not fenced as parked\n", stderr);
	return others == f->late;
}

int bench_rig_start(struct bench_rig *b, enum guestmem_pages pages, uint64_t bytes)
{
	int ret;

	memset(b, 0, sizeof(*b));
	ret = boxrig_start(&b->rig);
	if (ret == 0)
		ret = add_memory(b, pages, bytes);
	return ret != 0 ? ret : boxrig_supervise(&b->rig);
}

void bench_rig_stop(struct bench_rig *b)
{
	boxrig_stop(&b->rig);
	guestmem_huge_restore(&b->huge_pages);
}

static int not_moved(const char *step, const char *who, int ret)
{
	fprintf(stderr, "memory: %s: %s: %s\n", step, who, strerror(-ret));
	return ret;
}

int bench_move(const struct boxrig *rig, enum epoch_until until, uint64_t *prepared_ns)
{
	cleanup_free struct box_memory *memory = malloc(sizeof(*memory));
	char who[DEVICE_ID_MAX + 1] = "";
	int ret;

	if (memory == NULL)
		return -ENOMEM;
	boxrig_memory(rig, memory);
	ret = supervisor_prepare_memory(rig->sup, memory, MOVE_WAIT_MS, who);
	*prepared_ns = now_ns();
	if (ret != 0)
		return not_moved("prepare", who, ret);
	ret = supervisor_move_memory(rig->sup, until, MOVE_WAIT_MS, who);
	return ret != 0 ? not_moved("move", who, ret) : 0;
}

/* ---- the seal ---- */

static bool seal_differs(const char *how)
{
	fprintf(stderr, "the seal is not the production default: %s\n", how);
	return false;
}

static bool read_proc(pid_t pid, const char *name, char *text, size_t room)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return false;
	text[fread(text, 1, room - 1, file)] = '\0';
	fclose(file);
	return true;
}

/* Builds that leave a layer out live in folders of their own (mk/flags.mk). */
static bool program_is_release(pid_t pid)
{
	char path[64], exe[4096] = "";

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return readlink(path, exe, sizeof(exe) - 1) > 0 && strstr(exe, "/omit-") == NULL;
}

bool bench_wears_seal(pid_t pid)
{
	char status[4096];

	if (!program_is_release(pid))
		return seal_differs("the device program is not a release build");
	if (!read_proc(pid, "status", status, sizeof(status)) ||
	    strstr(status, "\nSeccomp:\t2\n") == NULL ||
	    strstr(status, "\nNoNewPrivs:\t1\n") == NULL ||
	    strstr(status, "\nCapBnd:\t0000000000000000\n") == NULL)
		return seal_differs("a device's /proc/PID/status shows less");
	return true;
}

bool bench_seal(struct report *report, const struct boxrig *rig, pid_t pid)
{
	struct seal_host now;
	const char *names[32];
	size_t count = 0;

	boxrig_seal_names(rig, names, ARRAY_SIZE(names));
	while (names[count] != NULL)
		count++;
	report_seal(report, names, count);
	seal_host_probe(&now);
	if (rig->host.seal != now.seal || rig->host.landlock_abi != now.landlock_abi)
		return seal_differs("not all that this kernel can do");
	return bench_wears_seal(pid);
}
