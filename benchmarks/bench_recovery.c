/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths of a blk device under load, as the driver feels them.
 *
 * Theory of operation.  One thread keeps eight verified 4 KiB requests outstanding and notes when it
 * saw completions.  The main thread gives the active process its memory (see populate()), waits until
 * the standby is ready and a random time longer, and causes a fault.  The longest gap between
 * completions that touches the time from then until the supervisor says that the successor serves is
 * the pause.  After each there is a quiet window just as long in which nothing happens.
 *
 * The cause is not in the pause: kill() is one call, and faults that must come from inside are traps
 * laid into the program that runs on (inject.h).  A hang is made first; its clock starts when the
 * supervisor is told, since how long that takes to find out is a matter of thresholds.
 *
 * Every COLD_ONE_IN-th time the standby is killed just before, and the recovery has to make one.
 * Sections differ in how much memory the process has in its page tables; each has a rig of its own,
 * in which faults take turns.
 */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "benchmarks/common.h"
#include "benchmarks/footprint.h"
#include "core/box/fault.h"
#include "core/box/table.h"
#include "core/cc.h"
#include "core/log.h"
#include "tests/rig/inject.h"
#include "tests/rig/loadrun.h"

#define LOAD_BYTES (32ull << 20) /* of guest memory: rings and buffers */
#define IMAGE_BYTES (64u << 20)
#define DEPTH 8
#define WAIT_MS 20000
#define LATER_US 500 /* a fault comes up to so long after the standby is ready */
#define COLD_ONE_IN 16
#define RTT_COUNT 4000

/* ---- faults ---- */

static int cause_kill(pid_t pid)
{
	return kill(pid, SIGKILL) == 0 ? 0 : -errno;
}

/* When it next reads a block. */
static int cause_segv(pid_t pid)
{
	struct inject_trap trap;
	int ret = inject_trap(&trap, pid, SYS_pread64);

	if (ret == 0)
		ret = inject_trap_fault(&trap);
	inject_trap_free(&trap);
	return ret;
}

static int cause_call(pid_t pid)
{
	struct inject_trap trap;
	int ret = inject_trap(&trap, pid, SYS_pread64);

	if (ret == 0)
		ret = inject_trap_call(&trap, SYS_getpid);
	inject_trap_free(&trap);
	return ret;
}

/* The fences that each may rest on where nothing is late; dead: it was faster than the look. */
#define FENCES_OF_THE_DEAD (1u << FENCE_EXITING | 1u << FENCE_DEAD)

enum { KILL, SEGV, FORBIDDEN_CALL, HANG, FAULTS };

static const struct injury {
	const char *name;
	int (*cause)(pid_t pid);
	bool condemn; /* the supervisor has to be told, and the clock starts then */
	enum replace_reason reason;
	uint32_t fences;
} faults[FAULTS] = {
	[KILL] = { "kill", cause_kill, false, REPLACE_CRASH, FENCES_OF_THE_DEAD },
	[SEGV] = { "segv", cause_segv, false, REPLACE_CRASH, FENCES_OF_THE_DEAD },
	[FORBIDDEN_CALL] = { "forbidden-call", cause_call, false, REPLACE_SECCOMP,
			     1u << FENCE_HELD },
	[HANG] = { "hang", hand_spin, true, REPLACE_HANG, 1u << FENCE_STOPPED },
};

/* ---- sections ---- */

struct figures {
	uint64_t recoveries;
	uint64_t late; /* fenced otherwise because a deadline had passed: a slow host */
	uint64_t fences[FENCE_COUNT];
	struct hist pause, quiet, refill, change, cold;
};

static struct section {
	const char *name;
	enum guestmem_pages pages;
	uint64_t bytes;           /* in the process's page tables, beside the load's own */
	uint32_t count_permille;  /* of all recoveries, .. */
	uint32_t seconds_percent; /* .. and of the time */
	bool huge;                /* the 2 MiB pages were to be had */
	struct figures figures[FAULTS];
	struct blkload_stats load;
} sections[] = {
	{ .name = "0", .pages = GUESTMEM_4K, .count_permille = 800, .seconds_percent = 35 },
	{ .name = "64MiB",
	  .pages = GUESTMEM_4K,
	  .bytes = 64ull << 20,
	  .count_permille = 150,
	  .seconds_percent = 20 },
	{ .name = "1GiB",
	  .pages = GUESTMEM_4K,
	  .bytes = 1ull << 30,
	  .count_permille = 25,
	  .seconds_percent = 35 },
	{ .name = "1GiB-2M",
	  .pages = GUESTMEM_2M,
	  .bytes = 1ull << 30,
	  .count_permille = 25,
	  .seconds_percent = 10 },
};

struct bench {
	struct bench_rig rig;
	struct boxrig_blk blk;
	struct loadrun run;
	struct section *section;
	uint64_t random;
	struct device_status status; /* large */
	/* Written by the hook before it posts. */
	sem_t replaced;
	struct replacement last;
	uint64_t replaced_ns;
};

static void on_replaced(void *ctx, const struct replacement *r)
{
	struct bench *b = ctx;

	b->last = *r;
	b->replaced_ns = now_ns();
	sem_post(&b->replaced);
}

static const struct device_hooks hooks = { .replaced = on_replaced };

static int wait_replaced(struct bench *b)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WAIT_MS / 1000;
	while (sem_clockwait(&b->replaced, CLOCK_MONOTONIC, &end) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* ---- memory ---- */

/* Where that process has guest memory; 0: nowhere. */
static uint64_t find_memory(const struct bench *b, pid_t pid)
{
	char path[32], line[512];
	unsigned long long begin, inode;
	uint64_t found = 0;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");

	if (maps == NULL || fstat(b->rig.rig.mem.fds[0], &st) != 0)
		st.st_ino = 0;
	while (maps != NULL && found == 0 && fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%llx-%*x %*s %*x %*s %llu", &begin, &inode) == 2 &&
		    inode == st.st_ino)
			found = begin;
	}
	if (maps != NULL)
		fclose(maps);
	return found;
}

/* Writes a byte into each page of [at, at + bytes) of that process, a thousand at a time. */
static int touch(pid_t pid, uint64_t at, uint64_t bytes, uint64_t page)
{
	static uint8_t zeroes[1024];
	static struct iovec there[ARRAY_SIZE(zeroes)];
	const uint64_t pages = bytes / page;

	for (uint64_t done = 0; done < pages;) {
		const uint64_t n =
			pages - done < ARRAY_SIZE(there) ? pages - done : ARRAY_SIZE(there);
		const struct iovec here = { zeroes, n };

		for (uint64_t i = 0; i < n; i++)
			there[i] = (struct iovec){ (void *)(at + (done + i) * page), 1 };
		if (process_vm_writev(pid, &here, 1, there, n, 0) != (ssize_t)n)
			return -errno;
		done += n;
	}
	return 0;
}

/*
 * Memory beside the load's own becomes the process's: written through its own page tables, as by
 * itself (that is how the kernel writes to another process), while it goes on to serve.  What its
 * end costs, and whether that is in anybody's way, depends on it.
 */
static int populate(const struct bench *b, pid_t pid)
{
	const struct section *s = b->section;
	const uint64_t page = s->huge ? 2u << 20 : 4096;
	uint64_t memory;
	int64_t kib;
	int ret;

	if (s->bytes == 0)
		return 0;
	memory = find_memory(b, pid);
	if (memory == 0)
		return -ENOENT;
	ret = touch(pid, memory + LOAD_BYTES, s->bytes, page);
	if (ret != 0)
		return ret;
	kib = footprint_status(pid, s->huge ? "HugetlbPages" : "RssShmem");
	if (kib >= (int64_t)(s->bytes >> 10))
		return 0;
	fprintf(stderr, "bench-recovery: only %lld KiB are in the process's page tables\n",
		(long long)kib);
	return -ENODATA;
}

/* ---- recoveries ---- */

static bool as_it_must(const struct injury *fault, const struct replacement *r)
{
	if (r->planned || r->reason != fault->reason)
		return false;
	if ((1u << r->fence) & fault->fences)
		return true;
	/* A fence that was not proven in time is forced, as it should be. */
	return r->switch_us >= box_deadline_ms(BOX_STOPPING) * 1000;
}

static int note_recovery(const struct injury *fault, struct figures *f, const struct replacement *r)
{
	if (!as_it_must(fault, r)) {
		fprintf(stderr, "bench-recovery: %s was recovered from as %s, fenced as %s\n",
			fault->name, replace_reason_name(r->reason), fence_name(r->fence));
		return -EPROTO;
	}
	f->recoveries++;
	f->fences[r->fence]++;
	f->late += ((1u << r->fence) & fault->fences) == 0;
	if (!r->cold)
		hist_add(&f->change, r->switch_us * NS_PER_US);
	return 0;
}

/* Kills the standby and waits until that is known. */
static int lose_standby(struct bench *b)
{
	const uint64_t end = now_ns() + WAIT_MS * NS_PER_MS;
	const pid_t standby = b->status.standby_pid;

	if (kill(standby, SIGKILL) != 0)
		return -errno;
	do {
		device_status(b->blk.dev, &b->status);
	} while (b->status.standby_pid == standby && now_ns() < end);
	return b->status.standby_pid != standby ? 0 : -ETIMEDOUT;
}

/* Until the successor serves; *begin is when the clock started. */
static int break_it(struct bench *b, const struct injury *fault, uint64_t *begin)
{
	const pid_t pid = b->status.pid;
	int ret;

	*begin = now_ns();
	ret = fault->cause(pid);
	if (ret == 0 && fault->condemn) {
		*begin = now_ns();
		ret = device_condemn(b->blk.dev, fault->reason);
	}
	return ret != 0 ? ret : wait_replaced(b);
}

static int recover(struct bench *b, const struct injury *fault, struct figures *f, bool lose)
{
	struct blkload *load = &b->run.load;
	uint64_t begin;
	int ret;

	device_status(b->blk.dev, &b->status);
	ret = populate(b, b->status.pid);
	if (ret != 0)
		return ret;
	bench_sleep_us(bench_random(&b->random) % LATER_US);
	ret = lose ? lose_standby(b) : 0;
	if (ret == 0)
		ret = break_it(b, fault, &begin);
	if (ret == 0)
		ret = note_recovery(fault, f, &b->last);
	if (ret != 0)
		return ret;
	const uint64_t end = b->replaced_ns;

	ret = device_wait_standby(b->blk.dev, WAIT_MS);
	const uint64_t refilled = now_ns();

	if (ret == 0)
		ret = bench_note_gap(load, begin, end, fault->condemn,
				     b->last.cold ? &f->cold : &f->pause);
	if (ret != 0 || b->last.cold)
		return ret;
	ret = bench_note_gap(load, end, refilled, false, &f->refill);
	bench_sleep_us(bench_random(&b->random) % LATER_US);
	return ret != 0 ? ret : bench_quiet_window(load, end - begin, &f->quiet);
}

static int run_faults(struct bench *b, uint64_t count, uint64_t end_ns)
{
	struct section *s = b->section;
	int ret = device_wait_standby(b->blk.dev, WAIT_MS);

	for (uint64_t i = 0; ret == 0 && i < count && now_ns() < end_ns; i++) {
		const bool lose = i / FAULTS % COLD_ONE_IN == COLD_ONE_IN - 1;

		ret = recover(b, &faults[i % FAULTS], &s->figures[i % FAULTS], lose);
	}
	return ret;
}

/* ---- a section from beginning to end ---- */

static int start_load(struct bench *b, uint64_t seed)
{
	const struct blkload_config config = bench_blk_load(IMAGE_BYTES, seed);
	const struct boxrig_blk_config image = {
		.bytes = IMAGE_BYTES,
		.dir = bench_image_dir(),
		.hooks = &hooks,
		.ctx = b,
	};
	int ret = boxrig_blk_create(&b->rig.rig, &image, &b->blk);

	if (ret == 0)
		ret = loadrun_start(&b->run, &b->rig.rig.mem, &config, &b->blk.rings[0], 1, DEPTH);
	if (ret == 0)
		ret = b->rig.rig.mem.used[0] <= LOAD_BYTES ? 0 : -ENOSPC;
	return ret != 0 ? ret : boxrig_blk_go(&b->blk);
}

static int stop_load(struct bench *b)
{
	int ret = 0;

	if (b->run.running && !loadrun_finish(&b->run, b->blk.image))
		ret = -EIO;
	b->section->load = b->run.stats;
	return ret;
}

static int measure(struct bench *b, struct report *report, const struct bench_args *args)
{
	const struct section *s = b->section;
	int ret = start_load(b, args->shard + 1);

	if (ret == 0)
		ret = device_wait_standby(b->blk.dev, WAIT_MS);
	if (ret != 0)
		return ret;
	device_status(b->blk.dev, &b->status);
	if (!bench_seal(report, &b->rig.rig, b->status.standby_pid))
		return -EPERM;
	ret = loadrun_progress(&b->run, 1, WAIT_MS);
	if (ret == 0)
		ret = run_faults(b, args->count * s->count_permille / 1000,
				 now_ns() + args->seconds * s->seconds_percent * NS_PER_S / 100);
	return ret;
}

static int run_section(struct section *s, struct report *report, const struct bench_args *args)
{
	struct bench *b = calloc(1, sizeof(*b));
	int ret, load_ret = 0;

	if (b == NULL)
		return -ENOMEM;
	b->section = s;
	b->random = 0x5eed + args->shard;
	sem_init(&b->replaced, 0, 0);
	ret = bench_rig_start(&b->rig, s->pages, LOAD_BYTES + s->bytes);
	s->huge = b->rig.huge;
	if (ret == 0) {
		ret = measure(b, report, args);
		load_ret = stop_load(b);
	}
	boxrig_blk_destroy(&b->blk);
	bench_rig_stop(&b->rig);
	sem_destroy(&b->replaced);
	free(b);
	return ret != 0 ? ret : load_ret;
}

/* ---- the report ---- */

static json_t *fences_object(const struct figures *f)
{
	json_t *o = json_object();

	for (int i = 0; i < FENCE_COUNT; i++) {
		if (f->fences[i] != 0)
			bench_put(o, fence_name((enum fence)i),
				  json_integer((json_int_t)f->fences[i]));
	}
	return o;
}

static json_t *figures_object(const struct section *s, const struct figures *f)
{
	json_t *o = json_object();

	bench_put(o, "recoveries", json_integer((json_int_t)f->recoveries));
	bench_put(o, "pause_p50_us", bench_us(&f->pause, 0.5));
	bench_put(o, "pause_p99_us", bench_us(&f->pause, 0.99));
	bench_put(o, "pause_max_us", bench_us(&f->pause, 1.0));
	bench_put(o, "quiet_p50_us", bench_us(&f->quiet, 0.5));
	bench_put(o, "quiet_p99_us", bench_us(&f->quiet, 0.99));
	bench_put(o, "switch_p50_us", bench_us(&f->change, 0.5));
	bench_put(o, "refill_p50_us", bench_us(&f->refill, 0.5));
	bench_put(o, "refill_p99_us", bench_us(&f->refill, 0.99));
	bench_put(o, "cold_p50_us", bench_us(&f->cold, 0.5));
	bench_put(o, "cold", json_integer((json_int_t)f->cold.count));
	bench_put(o, "fence", fences_object(f));
	bench_put(o, "late", json_integer((json_int_t)f->late));
	bench_put(o, "pages", json_string(s->huge ? "2m" : "4k"));
	return o;
}

static void report_faults(struct report *report)
{
	for (int i = 0; i < FAULTS; i++) {
		json_t *sizes = json_object();

		for (size_t n = 0; n < ARRAY_SIZE(sections); n++)
			bench_put(sizes, sections[n].name,
				  figures_object(&sections[n], &sections[n].figures[i]));
		report_json(report, faults[i].name, sizes);
	}
}

/* What all rested on, most trusted last, as "held+stopped+exiting". */
static void report_fences(struct report *report)
{
	uint64_t counts[FENCE_COUNT] = { 0 };
	char text[64] = "";

	for (size_t n = 0; n < ARRAY_SIZE(sections); n++) {
		for (int i = 0; i < FAULTS; i++) {
			for (int f = 0; f < FENCE_COUNT; f++)
				counts[f] += sections[n].figures[i].fences[f];
		}
	}
	for (int f = 0; f < FENCE_COUNT; f++) {
		if (counts[f] != 0)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
				 text[0] != '\0' ? "+" : "", fence_name((enum fence)f));
	}
	report_fence(report, text);
}

static bool report_answers(struct report *report)
{
	struct blkload_stats sum = { 0 };
	uint64_t recoveries = 0;

	for (size_t n = 0; n < ARRAY_SIZE(sections); n++) {
		const struct blkload_stats *s = &sections[n].load;

		sum.lost += s->lost + s->errors;
		sum.duplicated += s->duplicated;
		sum.corrupted += s->corrupted;
		sum.completed += s->completed;
		for (int i = 0; i < FAULTS; i++)
			recoveries += sections[n].figures[i].recoveries;
	}
	report_u64(report, "recoveries", recoveries);
	report_u64(report, "lost", sum.lost);
	report_u64(report, "duplicated", sum.duplicated);
	report_u64(report, "corrupted", sum.corrupted);
	report_u64(report, "requests", sum.completed);
	return sum.lost + sum.duplicated + sum.corrupted == 0;
}

static int run_sections(struct report *report, const struct bench_args *args)
{
	struct hist *rtt = calloc(1, sizeof(*rtt));
	int ret = rtt == NULL ? -ENOMEM : 0;

	for (size_t i = 0; i < ARRAY_SIZE(sections) && ret == 0; i++) {
		ret = bench_rtt(rtt, RTT_COUNT);
		if (ret == 0)
			ret = run_section(&sections[i], report, args);
		if (ret != 0)
			fprintf(stderr, "bench-recovery: %s: %s\n", sections[i].name,
				strerror(-ret));
	}
	if (rtt != NULL)
		report_json(report, "rtt_p50_us", bench_us(rtt, 0.5));
	free(rtt);
	return ret;
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = 16000, .seconds = 220 };
	struct report *report;
	bool good;

	if (bench_args(argc, argv, &args) != 0)
		return 2;
	log_open(STDERR_FILENO, LOG_LEVEL_ERROR); /* each death is a warning */
	report = report_begin("recovery");
	good = run_sections(report, &args) == 0;
	good = report_answers(report) && good;
	report_faults(report);
	report_fences(report);
	return report_end(report) == 0 && good ? 0 : 1;
}
