/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one sealed process costs: the time to make and to verify it, its memory, its code, and what it
 * may still ask of the kernel.
 *
 * Theory of operation.  Time: devices of every kind in turn, each made, measured and destroyed with
 * nothing else going on.  Memory: 200 standbys of one kind at once, the step of the system-wide counters
 * up and down again, less what this process grew by itself.  Page tables: one blk box that has read
 * into all of 1 GiB.  The whole: `mayfly run` with four devices (benchmarks/whole.c).
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "benchmarks/common.h"
#include "benchmarks/footprint.h"
#include "benchmarks/whole.h"
#include "benchmarks/zoo.h"
#include "core/box/internal.h"
#include "core/box/policy.h"
#include "core/cc.h"
#include "core/log.h"

#define SMALL_BYTES (64ull << 20)
#define GUEST_BYTES (1ull << 30)
#define SLICE_BYTES (16u << 20)
#define IMAGE_BYTES (32u << 20)
#define CROWD 200
#define LOT 20           /* in the making at a time */
#define CROWD_FILES 1600 /* what the supervisor holds of each, generously */
#define ROUNDS 5
#define WAIT_MS 60000
#define SETTLE_US 200000 /* freed by RCU and by kernel threads */
#define IO_NS (10 * NS_PER_S)

#define KINDS DEV_KIND_COUNT

struct figures {
	struct hist sealed[KINDS], verify[KINDS];
	struct footprint each[KINDS]; /* of one standby */
	int64_t rss[KINDS];           /* the same of its anonymous pages, as it is told itself */
	int64_t text[KINDS];
	uint32_t instructions[KINDS];
	uint32_t when[KINDS];
	int64_t tables_4k, tables_2m;
	struct whole whole;
	bool huge;
};

static struct figures figures;

/* Of a device whose standby is ready. */
static struct device_status *status_of(struct device *dev)
{
	static struct device_status status;

	device_status(dev, &status);
	return &status;
}

/* ---- time ---- */

static int time_one(struct boxrig *rig, const struct zoo_kit *kit, struct report *report)
{
	struct device *dev;
	int ret = zoo_create(rig, kit, &dev);

	if (ret != 0)
		return ret;
	ret = device_wait_standby(dev, WAIT_MS);
	if (ret == 0) {
		const struct device_status *s = status_of(dev);

		if (figures.sealed[kit->kind].count == 0 &&
		    !bench_seal(report, rig, s->standby_pid))
			ret = -EPERM;
		hist_add(&figures.sealed[kit->kind], s->standby_sealed_ns);
		hist_add(&figures.verify[kit->kind], s->standby_verify_ns);
		figures.rss[kit->kind] = footprint_status(s->standby_pid, "RssAnon");
		figures.text[kit->kind] = footprint_text(s->standby_pid);
		figures.instructions[kit->kind] = dev->launch[0].filter_count;
		figures.when[kit->kind] = kit->spec.policy_when;
	}
	device_destroy(dev);
	return ret;
}

static int measure_time(struct boxrig *rig, const struct zoo_kit *kits, struct report *report,
			const struct bench_args *args)
{
	const uint64_t end = now_ns() + args->seconds * NS_PER_S;
	int ret = 0;

	for (uint64_t i = 0; i < args->count && ret == 0 && now_ns() < end; i++) {
		ret = time_one(rig, &kits[i % ZOO_KINDS], report);
		bench_sleep_us(500);
	}
	return ret;
}

/* ---- memory ---- */

/* Descriptors on their way to the spawner count against the user's RLIMIT_NOFILE (ETOOMANYREFS), so
 * that no more than LOT standbys are asked for at a time. */
static int crowd_make(struct boxrig *rig, const struct zoo_kit *kit, struct device **devs)
{
	int ret = 0;

	for (int i = 0; i < CROWD + LOT && ret == 0; i++) {
		if (i < CROWD)
			ret = zoo_create(rig, kit, &devs[i]);
		if (ret == 0 && i >= LOT)
			ret = device_wait_standby(devs[i - LOT], WAIT_MS);
	}
	return ret;
}

static void crowd_end(struct device **devs)
{
	for (int i = 0; i < CROWD; i++) {
		device_destroy(devs[i]);
		devs[i] = NULL;
	}
}

static int read_others(struct footprint *f)
{
	bench_sleep_us(SETTLE_US);
	return footprint_others(f);
}

static int measure_crowd(struct boxrig *rig, const struct zoo_kit *kit)
{
	struct device *devs[CROWD] = { 0 };
	struct footprint samples[2 * ROUNDS], before, with, after;
	uint32_t n = 0;
	int ret = read_others(&before);

	for (int i = 0; i < ROUNDS && ret == 0; i++) {
		ret = crowd_make(rig, kit, devs);
		if (ret == 0)
			ret = read_others(&with);
		crowd_end(devs);
		if (ret == 0)
			ret = read_others(&after);
		if (ret != 0)
			break;
		samples[n++] = footprint_minus(&with, &before);
		samples[n++] = footprint_minus(&with, &after);
		before = after;
	}
	figures.each[kit->kind] = footprint_divided(footprint_median(samples, n), CROWD);
	return ret;
}

/* ---- page tables ---- */

/* Has the box read `bytes` of its image into guest memory at gpa. */
static int read_into(struct ringdrv_queue *ring, gpa_t head, gpa_t gpa, uint32_t bytes)
{
	const struct ringdrv_seg seg[] = { { head.raw, 16 },
					   { gpa.raw, bytes },
					   { head.raw + 16, 1 } };
	const struct ringdrv_chain chain = { .seg = seg, .readable = 1, .writable = 2 };
	const volatile uint8_t *answer = guestmem_ptr(ring->mem, head, 17);
	struct ringdrv_done done;
	int ret = ringdrv_add(ring, &chain);

	if (ret != 0)
		return ret;
	ringdrv_publish(ring);
	ringdrv_kick(ring);
	ret = ringdrv_wait(ring, IO_NS);
	if (ret <= 0)
		return ret < 0 ? ret : -ETIMEDOUT;
	return ringdrv_reap(ring, &done) == 1 && done.len == bytes + 1 && answer[16] == 0 ? 0
											  : -EIO;
}

/* Every byte that nothing else has: a header of zeroes asks for the image's beginning. */
static int touch_all(struct boxrig_blk *blk)
{
	struct guestmem *mem = &blk->rig->mem;
	gpa_t head, gpa;
	int ret = guestmem_alloc(mem, 17, 64, &head);

	for (uint32_t bytes = SLICE_BYTES; bytes >= 4096 && ret == 0; bytes /= 2) {
		while (ret == 0 && guestmem_alloc(mem, bytes, 4096, &gpa) == 0)
			ret = read_into(&blk->rings[0], head, gpa, bytes);
	}
	return ret;
}

/* KiB of page tables of a box that has touched all guest memory; negative: -errno. */
static int64_t measure_tables(enum guestmem_pages pages, bool *huge)
{
	const struct boxrig_blk_config config = { .bytes = IMAGE_BYTES };
	struct boxrig_blk blk = { .image = -1 };
	struct bench_rig rig;
	int64_t tables = bench_rig_start(&rig, pages, GUEST_BYTES);

	*huge = rig.huge;
	if (tables == 0)
		tables = boxrig_blk_create(&rig.rig, &config, &blk);
	if (tables == 0)
		tables = boxrig_blk_go(&blk);
	if (tables == 0)
		tables = touch_all(&blk);
	if (tables == 0)
		tables = footprint_status(status_of(blk.dev)->pid, "VmPTE");
	boxrig_blk_destroy(&blk);
	bench_rig_stop(&rig);
	return tables;
}

/* ---- the report ---- */

static void put_footprint(json_t *to, const char *name, const struct footprint *f)
{
	json_t *o = json_object();

#define PUT_FIELD(field, line) bench_put(o, #field, json_integer(f->field));
	FOOTPRINT_FIELDS(PUT_FIELD)
#undef PUT_FIELD
	bench_put(o, "private", json_integer(footprint_private(f)));
	bench_put(to, name, o);
}

static json_t *calls_of(enum dev_kind kind)
{
	json_t *names = json_array();
	uint16_t nrs[64];
	const uint32_t n = policy_calls(kind, figures.when[kind], nrs, ARRAY_SIZE(nrs));

	for (uint32_t i = 0; i < n; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nrs[i]);

		CHECK(name != NULL && json_array_append_new(names, json_string(name)) == 0);
		free(name);
	}
	return names;
}

static json_t *kind_object(enum dev_kind kind)
{
	json_t *o = json_object();

	bench_put(o, "sealed_p50_us", bench_us(&figures.sealed[kind], 0.5));
	bench_put(o, "verify_p50_us", bench_us(&figures.verify[kind], 0.5));
	bench_put(o, "text_bytes", json_integer(figures.text[kind]));
	bench_put(o, "filter_instructions", json_integer(figures.instructions[kind]));
	bench_put(o, "calls", calls_of(kind));
	bench_put(o, "rss_anon_kib", json_integer(figures.rss[kind]));
	put_footprint(o, "kib", &figures.each[kind]);
	return o;
}

static void report_kinds(struct report *report)
{
	struct hist *sealed = calloc(2, sizeof(*sealed)), *verify = sealed + 1;
	int64_t text = 0, private = 0;
	json_t *kinds = json_object();

	CHECK(sealed != NULL);
	for (uint32_t i = 0; i < ZOO_KINDS; i++) {
		const enum dev_kind kind = zoo_kinds[i];
		const int64_t kib = footprint_private(&figures.each[kind]);

		hist_merge(sealed, &figures.sealed[kind]);
		hist_merge(verify, &figures.verify[kind]);
		text = figures.text[kind] > text ? figures.text[kind] : text;
		private = kib > private ? kib : private;
		bench_put(kinds, zoo_name(kind), kind_object(kind));
	}
	report_u64(report, "spawns", sealed->count);
	report_json(report, "sealed_p50_us", bench_us(sealed, 0.5));
	report_json(report, "sealed_p99_us", bench_us(sealed, 0.99));
	report_json(report, "verify_p50_us", bench_us(verify, 0.5));
	report_json(report, "verify_p99_us", bench_us(verify, 0.99));
	report_json(report, "private_kib_max", json_integer(private));
	report_u64(report, "text_bytes_max", (uint64_t)text);
	report_json(report, "kinds", kinds);
	free(sealed);
}

static void report_rest(struct report *report)
{
	json_t *tables = json_object();

	bench_put(tables, "4k", json_integer(figures.tables_4k));
	bench_put(tables, "2m", figures.huge ? json_integer(figures.tables_2m) : json_null());
	report_json(report, "page_table_kib", tables);
	whole_report(report, &figures.whole);
}

/* ---- main ---- */

static void raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= CROWD_FILES)
		return;
	limit.rlim_cur = limit.rlim_max < CROWD_FILES ? limit.rlim_max : CROWD_FILES;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int measure_boxes(struct report *report, const struct bench_args *args)
{
	struct zoo_kit kits[KINDS] = { 0 };
	struct bench_rig rig;
	int ret = bench_rig_start(&rig, GUESTMEM_4K, SMALL_BYTES);

	for (uint32_t i = 0; i < ZOO_KINDS && ret == 0; i++)
		ret = zoo_open(&kits[i], zoo_kinds[i]);
	if (ret == 0)
		ret = measure_time(&rig.rig, kits, report, args);
	for (uint32_t i = 0; i < ZOO_KINDS && ret == 0; i++)
		ret = measure_crowd(&rig.rig, &kits[i]);
	for (uint32_t i = 0; i < ZOO_KINDS; i++)
		zoo_close(&kits[i]);
	bench_rig_stop(&rig);
	return ret;
}

static int measure_all(struct report *report, const struct bench_args *args)
{
	bool ignored;
	int ret = measure_boxes(report, args);

	if (ret == 0)
		ret = whole_measure(&figures.whole);
	if (ret != 0)
		return ret;
	figures.tables_4k = measure_tables(GUESTMEM_4K, &ignored);
	figures.tables_2m = measure_tables(GUESTMEM_2M, &figures.huge);
	ret = figures.tables_4k < 0 ? (int)figures.tables_4k : 0;
	return figures.tables_2m < 0 ? (int)figures.tables_2m : ret;
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = 2000, .seconds = 120 };
	struct report *report;
	int ret;

	log_open(STDERR_FILENO, LOG_LEVEL_WARN);
	if (argc == 2 && strcmp(argv[1], "--vm") == 0)
		return whole_stand_in();
	if (bench_args(argc, argv, &args) != 0)
		return 2;
	raise_nofile();
	report = report_begin("sandbox");
	ret = measure_all(report, &args);
	if (ret != 0)
		fprintf(stderr, "bench-sandbox: %s\n", strerror(-ret));
	report_kinds(report);
	report_rest(report);
	return report_end(report) == 0 && ret == 0 ? 0 : 1;
}
