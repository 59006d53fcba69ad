/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * Planned replacements of a blk device under load, as the driver feels them.
 *
 * Theory of operation.  One thread keeps eight verified 4 KiB requests outstanding and notes when it
 * saw completions.  The main thread waits until the standby is ready and a random time longer, asks
 * for a replacement, and takes the longest gap between completions that touches the time from asking
 * to its answer: the pause.  What follows an answer, while the old process dies and the next
 * standby is made, is a window of its own ("refill").  After each there is a quiet window just as
 * long in which nothing is asked, so that what the host does by itself stands beside it.  Every
 * REFILL_NOT_AWAITED-th time the replacement is asked for at once, and finds no standby.
 *
 * Sections differ in page kind and image; each has a rig of its own.  At the end of each, all that
 * was written is read back through the device and from the file.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/common.h"
#include "benchmarks/ratio.h"
#include "core/box/table.h"
#include "core/cc.h"
#include "core/log.h"

#define GUEST_BYTES (1ull << 30)
#define ROAM_BYTES (768ull << 20)
#define IMAGE_BYTES (64u << 20)
#define DEPTH 8
#define WAIT_MS 20000
#define DRAIN_NS (60 * NS_PER_S)
#define LATER_US 500 /* a replacement comes up to so long after the standby is ready */
#define REFILL_NOT_AWAITED 64
#define RTT_COUNT 4000
#define RATIO_PAIRS 61
#define RATIO_RUN_MS 100
#define RATIO_GUEST_BYTES (256ull << 20)

/* What is measured in one kind of window, and in its quiet neighbours. */
struct windows {
	struct hist busy, quiet;
};

struct figures {
	uint64_t handoffs;
	uint64_t not_ready;
	uint64_t canceled; /* a recovery took its place: never without a fault */
	uint64_t late;     /* fenced otherwise because a deadline had passed: a slow host */
	uint64_t fences[FENCE_COUNT];
	struct windows pause, refill;
	struct hist cold, drain, change;
	struct blkload_stats load;
	bool huge; /* the 2 MiB pages were to be had */
};

struct section {
	const char *name; /* NULL: the last line's own figures */
	enum guestmem_pages pages;
	bool direct;
	uint32_t percent; /* of the count, and of the time */
	struct figures figures;
};

static struct section sections[] = {
	{ .pages = GUESTMEM_2M, .percent = 50 },
	{ .name = "direct", .pages = GUESTMEM_2M, .direct = true, .percent = 20 },
	{ .name = "4k", .pages = GUESTMEM_4K, .percent = 30 },
};

/* ---- one section's machinery ---- */

struct bench {
	struct bench_rig rig;
	struct boxrig_blk blk;
	struct blkload load;
	pthread_t thread;
	bool stop;
	int load_ret;
	uint64_t random;
	struct figures *figures;
	struct report *report;
};

static void *load_main(void *arg)
{
	struct bench *b = arg;

	while (b->load_ret == 0 && !__atomic_load_n(&b->stop, __ATOMIC_RELAXED)) {
		const int ret = blkload_step(&b->load, NS_PER_S);

		b->load_ret = ret < 0 ? ret : 0;
	}
	if (b->load_ret == 0)
		b->load_ret = blkload_drain(&b->load, DRAIN_NS);
	if (b->load_ret == 0)
		b->load_ret = blkload_verify(&b->load, DRAIN_NS);
	return NULL;
}

static int start_load(struct bench *b, const struct section *s, uint64_t seed)
{
	struct blkload_config config = bench_blk_load(IMAGE_BYTES, seed);
	const struct boxrig_blk_config image = {
		.bytes = IMAGE_BYTES,
		.dir = bench_image_dir(),
		.direct = s->direct,
	};
	int ret = boxrig_blk_create(&b->rig.rig, &image, &b->blk);

	config.roam_bytes = ROAM_BYTES;
	if (ret == 0)
		ret = blkload_init(&b->load, &b->rig.rig.mem, &config);
	if (ret == 0)
		ret = blkload_add_queue(&b->load, &b->blk.rings[0], DEPTH);
	if (ret == 0)
		ret = boxrig_blk_go(&b->blk);
	return ret != 0 ? ret : -pthread_create(&b->thread, NULL, load_main, b);
}

static int stop_load(struct bench *b)
{
	int ret;

	__atomic_store_n(&b->stop, true, __ATOMIC_RELAXED);
	pthread_join(b->thread, NULL);
	ret = b->load_ret;
	if (ret == 0)
		ret = blkload_verify_image(&b->load, b->blk.image);
	blkload_stats(&b->load, &b->figures->load);
	if (!blkload_clean(&b->load))
		fprintf(stderr, "the load is not clean: %s\n", blkload_complaint(&b->load));
	return ret;
}

/* Whatever of it was started. */
static void stop_bench(struct bench *b)
{
	boxrig_blk_destroy(&b->blk);
	blkload_free(&b->load);
	bench_rig_stop(&b->rig);
}

/* ---- windows ---- */

static void note_handoff(struct figures *f, const struct replacement *r, uint64_t took_ns)
{
	const uint64_t deadline_ms = box_deadline_ms(BOX_PARKING);

	f->handoffs++;
	f->fences[r->fence]++;
	/* A box that had not parked in time is stopped: so it must be, and says nothing of the build. */
	if (r->fence != FENCE_PARKED && took_ns >= deadline_ms * NS_PER_MS)
		f->late++;
	hist_add(&f->drain, r->drain_us * NS_PER_US);
	hist_add(&f->change, r->switch_us * NS_PER_US);
}

/* One replacement and the windows that belong to it.  ready: the standby was waited for. */
static int handoff(struct bench *b, bool ready)
{
	struct figures *f = b->figures;
	struct replacement r;
	const uint64_t asked = now_ns();
	int ret = device_replace(b->blk.dev, REPLACE_SCHEDULE, false, &r);
	const uint64_t answered = now_ns();

	if (ret == -ECANCELED)
		f->canceled++;
	if (ret != 0)
		return ret == -ECANCELED ? 0 : ret;
	note_handoff(f, &r, answered - asked);
	f->not_ready += !ready;
	ret = device_wait_standby(b->blk.dev, WAIT_MS);
	const uint64_t refilled = now_ns();

	if (ret == 0)
		ret = bench_note_gap(&b->load, asked, answered, false,
				     ready ? &f->pause.busy : &f->cold);
	if (ret == 0 && ready)
		ret = bench_note_gap(&b->load, answered, refilled, false, &f->refill.busy);
	if (ret != 0 || !ready)
		return ret;
	bench_sleep_us(bench_random(&b->random) % LATER_US);
	ret = bench_quiet_window(&b->load, answered - asked, &f->pause.quiet);
	return ret != 0 ? ret : bench_quiet_window(&b->load, refilled - answered, &f->refill.quiet);
}

/* Takes the standby that is there, then asks again while the next is in the making. */
static int handoff_cold(struct bench *b)
{
	struct replacement r;
	const uint64_t asked = now_ns();
	const int ret = device_replace(b->blk.dev, REPLACE_SCHEDULE, false, &r);

	if (ret != 0)
		return ret;
	note_handoff(b->figures, &r, now_ns() - asked);
	return handoff(b, false);
}

static int run_windows(struct bench *b, uint64_t count, uint64_t end_ns)
{
	const struct figures *f = b->figures;
	int ret = device_wait_standby(b->blk.dev, WAIT_MS);

	while (ret == 0 && f->handoffs < count && now_ns() < end_ns) {
		bench_sleep_us(bench_random(&b->random) % LATER_US);
		ret = f->handoffs % REFILL_NOT_AWAITED == REFILL_NOT_AWAITED - 1 ? handoff_cold(b)
										 : handoff(b, true);
	}
	return ret;
}

/* ---- sections ---- */

static bool standby_sealed(struct bench *b)
{
	struct device_status *status = malloc(sizeof(*status));
	bool ok = status != NULL && device_wait_standby(b->blk.dev, WAIT_MS) == 0;

	if (ok) {
		device_status(b->blk.dev, status);
		ok = bench_seal(b->report, &b->rig.rig, status->standby_pid);
	}
	free(status);
	return ok;
}

static int run_section(struct section *s, struct report *report, const struct bench_args *args)
{
	struct bench *b = calloc(1, sizeof(*b));
	int ret;

	if (b == NULL)
		return -ENOMEM;
	b->figures = &s->figures;
	b->report = report;
	b->random = 0x5eed + args->shard;
	ret = bench_rig_start(&b->rig, s->pages, GUEST_BYTES);
	s->figures.huge = b->rig.huge;
	if (ret == 0)
		ret = start_load(b, s, args->shard + 1);
	if (ret == 0) {
		ret = standby_sealed(b) ? 0 : -EPERM;
		if (ret == 0)
			ret = run_windows(b, args->count * s->percent / 100,
					  now_ns() + args->seconds * s->percent * NS_PER_S / 100);
		const int load_ret = stop_load(b);

		ret = ret != 0 ? ret : load_ret;
	}
	stop_bench(b);
	free(b);
	return ret;
}

/* ---- the report ---- */

static void put_windows(json_t *to, const char *name, const struct hist *hist)
{
	static const struct {
		const char *name;
		double q;
	} points[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "max", 1.0 } };
	char key[64];

	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		snprintf(key, sizeof(key), "%s_%s_us", name, points[i].name);
		bench_put(to, key, bench_us(hist, points[i].q));
	}
}

static json_t *section_object(const struct section *s)
{
	const struct figures *f = &s->figures;
	const uint64_t lost = f->load.lost + f->load.errors;
	json_t *o = json_object();

	bench_put(o, "handoffs", json_integer((json_int_t)f->handoffs));
	bench_put(o, "lost", json_integer((json_int_t)lost));
	bench_put(o, "duplicated", json_integer((json_int_t)f->load.duplicated));
	bench_put(o, "corrupted", json_integer((json_int_t)f->load.corrupted));
	bench_put(o, "drain_p50_us", bench_us(&f->drain, 0.5));
	bench_put(o, "switch_p50_us", bench_us(&f->change, 0.5));
	bench_put(o, "switch_p99_us", bench_us(&f->change, 0.99));
	put_windows(o, "pause", &f->pause.busy);
	put_windows(o, "quiet", &f->pause.quiet);
	put_windows(o, "refill", &f->refill.busy);
	put_windows(o, "refill_quiet", &f->refill.quiet);
	bench_put(o, "not_ready", json_integer((json_int_t)f->not_ready));
	bench_put(o, "cold_pause_p50_us", bench_us(&f->cold, 0.5));
	bench_put(o, "late", json_integer((json_int_t)f->late));
	bench_put(o, "requests", json_integer((json_int_t)f->load.completed));
	bench_put(o, "pages", json_string(f->huge ? "2m" : "4k"));
	return o;
}

static void report_section(struct report *report, const struct section *s)
{
	json_t *o = section_object(s);

	if (s->name != NULL) {
		report_json(report, s->name, o);
		return;
	}
	for (void *at = json_object_iter(o); at != NULL; at = json_object_iter_next(o, at))
		report_json(report, json_object_iter_key(at),
			    json_incref(json_object_iter_value(at)));
	json_decref(o);
}

/* "parked", or what else there was for another reason than a deadline. */
static bool report_fences(struct report *report)
{
	uint64_t fences[FENCE_COUNT] = { 0 }, others = 0;
	char text[64] = "";

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		const struct figures *f = &sections[i].figures;

		for (int n = 0; n < FENCE_COUNT; n++)
			fences[n] += f->fences[n];
		others += f->handoffs - f->fences[FENCE_PARKED] - f->late;
	}
	for (int n = 0; n < FENCE_COUNT; n++) {
		if (fences[n] != 0 && (n == FENCE_PARKED || others != 0))
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
				 text[0] != '\0' ? "+" : "", fence_name((enum fence)n));
	}
	report_fence(report, text);
	if (others != 0)
		fprintf(stderr, "planned handoffs were not fenced as parked: %s\n", text);
	return others == 0;
}

static bool all_clean(void)
{
	bool clean = true;

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		const struct figures *f = &sections[i].figures;

		clean = clean && f->load.lost + f->load.duplicated + f->load.corrupted +
						 f->load.errors + f->canceled ==
					 0;
	}
	return clean;
}

/* ---- throughput ---- */

static bool report_ratios(struct report *report)
{
	static const uint32_t depths[] = { 1, 8, 32 };
	struct bench_rig rig;
	json_t *all = json_object();
	bool ok = true;
	int ret = bench_rig_start(&rig, GUESTMEM_2M, RATIO_GUEST_BYTES);

	for (size_t i = 0; i < ARRAY_SIZE(depths) && ret == 0; i++) {
		struct ratio r;
		json_t *o = json_object();
		char name[32];

		ret = ratio_measure(&rig.rig, &dev_program, depths[i], RATIO_PAIRS, RATIO_RUN_MS,
				    &r);
		ok = ok && ret == 0 && r.clean;
		snprintf(name, sizeof(name), "sealed_ratio_qd%u", depths[i]);
		report_f64(report, name, r.median);
		bench_put(o, "pairs", json_integer(r.pairs));
		bench_put(o, "quartile_low", json_real(r.low));
		bench_put(o, "quartile_high", json_real(r.high));
		bench_put(o, "sealed_iops", json_integer((json_int_t)r.sealed_iops));
		bench_put(o, "inproc_iops", json_integer((json_int_t)r.inproc_iops));
		snprintf(name, sizeof(name), "qd%u", depths[i]);
		bench_put(all, name, o);
	}
	if (ret != 0)
		fprintf(stderr, "bench-handoff: throughput: %s\n", strerror(-ret));
	/* What differs besides the seal. */
	bench_put(all, "compiled",
		  json_string("both -O2; hosted with vector registers, sealed "
			      "with -mgeneral-regs-only"));
	report_json(report, "throughput", all);
	bench_rig_stop(&rig);
	return ok && ret == 0;
}

/* Every section, with round trips between them. */
static int run_sections(struct report *report, const struct bench_args *args)
{
	struct hist *rtt = calloc(1, sizeof(*rtt));
	int ret = rtt == NULL ? -ENOMEM : 0;

	for (size_t i = 0; i < ARRAY_SIZE(sections) && ret == 0; i++) {
		ret = bench_rtt(rtt, RTT_COUNT);
		if (ret == 0)
			ret = run_section(&sections[i], report, args);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		report_section(report, &sections[i]);
	if (ret == 0)
		report_json(report, "rtt_p50_us", bench_us(rtt, 0.5));
	else
		fprintf(stderr, "bench-handoff: %s\n", strerror(-ret));
	free(rtt);
	return ret;
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = 20000, .seconds = 220 };
	struct report *report;
	bool good;

	if (bench_args(argc, argv, &args) != 0)
		return 2;
	log_open(STDERR_FILENO, LOG_LEVEL_WARN);
	report = report_begin("handoff");
	good = run_sections(report, &args) == 0;
	good = report_ratios(report) && good;
	good = report_fences(report) && good;
	good = all_clean() && good;
	return report_end(report) == 0 && good ? 0 : 1;
}
