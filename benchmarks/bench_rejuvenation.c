/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What replacements at a steady rate cost in throughput and latency.
 *
 * Theory of operation.  The main thread is the driver: it keeps N verified 4 KiB requests
 * outstanding on an image in shared memory, and counts completions and their latencies in windows.
 * Windows come in pairs that take turns in going first: in one the pacer's thread replaces the device
 * at the rate of the cell, in the other nothing happens; between them the device settles.  What the
 * host does to both alike drops out of their ratio, of which the median of all pairs is reported.
 */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>

#include "benchmarks/common.h"
#include "benchmarks/pacer.h"
#include "core/cc.h"
#include "core/log.h"

#define GUEST_BYTES (64ull << 20)
#define IMAGE_BYTES (64u << 20)
#define ROAM_BYTES (16u << 20)
#define PAIRS_MAX 4096
#define WAIT_MS 20000
#define DRAIN_NS (20 * NS_PER_S)
#define SETTLE_MS 5
#define DEFAULT_SECONDS 280

/* Replacements a second, and how long a window of it is: at least one falls into each.  The first has
 * none: what two windows differ by in which nothing happens. */
static const struct rate {
	const char *name;
	uint64_t interval_us;
	uint32_t window_ms;
	uint32_t pairs;      /* by default */
	uint32_t pairs_main; /* of the cells that the aims are for */
	const char *ratio;   /* the name of that figure, NULL: none */
} rates[] = {
	{ "0", 0, 200, 4, 24, NULL },
	{ "0.1", 10000000, 10000, 1, 1, NULL },
	{ "1", 1000000, 1000, 2, 12, "ratio_1hz" },
	{ "10", 100000, 200, 8, 48, "ratio_10hz" },
	{ "100", 10000, 100, 12, 48, "ratio_100hz" },
	{ "500", 2000, 100, 12, 12, NULL },
};

static const uint32_t depths[] = { 1, 8, 32 };
#define MAIN_DEPTH 8

static const char *const kinds[] = { "planned", "killed" };

/* The device that the pacer replaces. */
struct victim {
	struct boxrig_blk blk;
	bool kill;      /* its active process, for a recovery; else a planned replacement */
	sem_t replaced; /* by a recovery */
	struct bench_fences *fences;
	struct device_status status; /* large */
};

struct cell {
	uint32_t pairs;
	double ratios[PAIRS_MAX];
	double busy_iops[PAIRS_MAX], quiet_iops[PAIRS_MAX];
	uint64_t done; /* replacements */
	uint64_t busy_ns;
	struct hist busy, quiet; /* latencies */
};

struct bench {
	struct bench_rig rig;
	bool huge; /* all of them had 2 MiB pages */
	struct victim victim;
	struct blkload load;
	struct pacer pacer;
	struct bench_awake awake;
	struct hist scratch;
	struct cell cells[ARRAY_SIZE(depths)][ARRAY_SIZE(kinds)][ARRAY_SIZE(rates)];
	struct bench_fences fences;
	struct blkload_stats sum;
	struct report *report;
	uint64_t end_ns;
	double scale; /* of the number of pairs */
};

/* ---- replacements ---- */

static void on_replaced(void *ctx, const struct replacement *r)
{
	struct victim *v = ctx;

	bench_note_fence(v->fences, r);
	if (!r->planned)
		sem_post(&v->replaced);
}

static const struct device_hooks hooks = { .replaced = on_replaced };

static int wait_recovered(struct victim *v)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WAIT_MS / 1000;
	while (sem_clockwait(&v->replaced, CLOCK_MONOTONIC, &end) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int replace(void *ctx)
{
	struct victim *v = ctx;
	struct replacement r;

	if (!v->kill)
		return device_replace(v->blk.dev, REPLACE_SCHEDULE, false, &r);
	device_status(v->blk.dev, &v->status);
	return kill(v->status.pid, SIGKILL) == 0 ? wait_recovered(v) : -errno;
}

/* ---- windows ---- */

/* Completions a second of a window that begins now. */
static int run_window(struct bench *b, uint64_t ns, struct hist *latency, double *iops)
{
	b->load.config.latency = latency;
	return bench_window(&b->load, ns, iops);
}

static int settle(struct bench *b)
{
	double ignored;

	return run_window(b, SETTLE_MS * NS_PER_MS, &b->scratch, &ignored);
}

static int busy_window(struct bench *b, const struct rate *rate, struct cell *cell)
{
	const uint64_t ns = rate->window_ms * NS_PER_MS, begin = now_ns();
	int ret;

	if (rate->interval_us != 0)
		pacer_run(&b->pacer, rate->interval_us * NS_PER_US, begin + ns);
	ret = run_window(b, ns, &cell->busy, &cell->busy_iops[cell->pairs]);
	cell->busy_ns += now_ns() - begin;
	const int paced = pacer_wait(&b->pacer, &cell->done);

	if (ret == 0)
		ret = paced != 0 ? paced : device_wait_standby(b->victim.blk.dev, WAIT_MS);
	return ret != 0 ? ret : settle(b);
}

static int quiet_window(struct bench *b, const struct rate *rate, struct cell *cell)
{
	const int ret = run_window(b, rate->window_ms * NS_PER_MS, &cell->quiet,
				   &cell->quiet_iops[cell->pairs]);

	return ret != 0 ? ret : settle(b);
}

static int run_cell(struct bench *b, const struct rate *rate, uint32_t pairs, struct cell *cell)
{
	int ret = settle(b);

	while (ret == 0 && cell->pairs < pairs && now_ns() < b->end_ns) {
		const bool quiet_first = cell->pairs & 1;

		ret = quiet_first ? quiet_window(b, rate, cell) : busy_window(b, rate, cell);
		if (ret == 0)
			ret = quiet_first ? busy_window(b, rate, cell)
					  : quiet_window(b, rate, cell);
		cell->ratios[cell->pairs] =
			cell->busy_iops[cell->pairs] / cell->quiet_iops[cell->pairs];
		cell->pairs += ret == 0;
	}
	return ret;
}

/* At least one, but where one alone is longer than the whole is to last. */
static uint32_t scaled(const struct bench *b, uint32_t pairs, const struct rate *rate)
{
	const double want = pairs * b->scale;

	if (want >= 1.0)
		return want < PAIRS_MAX ? (uint32_t)want : PAIRS_MAX;
	return rate->window_ms <= 1000;
}

static int run_cells(struct bench *b, size_t depth)
{
	int ret = 0;

	for (size_t kill = 0; kill < ARRAY_SIZE(kinds); kill++) {
		const bool is_main = kill == 0 && depths[depth] == MAIN_DEPTH;

		b->victim.kill = kill != 0;
		for (size_t i = 0; i < ARRAY_SIZE(rates) && ret == 0; i++) {
			const struct rate *rate = &rates[i];
			const uint32_t pairs = is_main ? rate->pairs_main : rate->pairs;

			ret = run_cell(b, rate, scaled(b, pairs, rate), &b->cells[depth][kill][i]);
			if (ret != 0)
				fprintf(stderr,
					"bench-rejuvenation: depth %u, %s, %s a second: %s\n",
					depths[depth], kinds[kill], rate->name, strerror(-ret));
		}
	}
	return ret;
}

/* ---- one depth ---- */

static int start(struct bench *b, uint32_t depth, uint64_t seed)
{
	struct blkload_config config = bench_blk_load(IMAGE_BYTES, seed);
	const struct boxrig_blk_config image = {
		.bytes = IMAGE_BYTES,
		.hooks = &hooks,
		.ctx = &b->victim,
	};
	int ret = bench_rig_start(&b->rig, GUESTMEM_2M, GUEST_BYTES);

	b->huge = b->huge && b->rig.huge;
	/* The client must not be what limits throughput. */
	config.segments = 1;
	config.verify = BLKLOAD_HEADER;
	config.roam_bytes = ROAM_BYTES;
	config.latency = &b->scratch;
	if (ret == 0)
		ret = boxrig_blk_create(&b->rig.rig, &image, &b->victim.blk);
	/* Every page there from the start. */
	if (ret == 0 && fallocate(b->victim.blk.image, 0, 0, IMAGE_BYTES) != 0)
		ret = -errno;
	if (ret == 0)
		ret = blkload_init(&b->load, &b->rig.rig.mem, &config);
	if (ret == 0)
		ret = blkload_add_queue(&b->load, &b->victim.blk.rings[0], (uint16_t)depth);
	if (ret == 0)
		ret = boxrig_blk_go(&b->victim.blk);
	if (ret == 0)
		ret = bench_stay_awake(&b->awake);
	if (ret == 0)
		ret = pacer_start(&b->pacer);
	/* The driver only, as a vCPU may be; where the rest runs is the scheduler's. */
	return ret != 0 ? ret : bench_pin(0, 0);
}

static int check_seal(struct bench *b)
{
	int ret = device_wait_standby(b->victim.blk.dev, WAIT_MS);

	if (ret != 0)
		return ret;
	device_status(b->victim.blk.dev, &b->victim.status);
	return bench_seal(b->report, &b->rig.rig, b->victim.status.standby_pid) ? 0 : -EPERM;
}

static int finish(struct bench *b)
{
	struct blkload_stats s;
	int ret = blkload_drain(&b->load, DRAIN_NS);

	if (ret == 0)
		ret = blkload_verify(&b->load, DRAIN_NS);
	blkload_stats(&b->load, &s);
	b->sum.lost += s.lost + s.errors;
	b->sum.duplicated += s.duplicated;
	b->sum.corrupted += s.corrupted;
	b->sum.completed += s.completed;
	if (!blkload_clean(&b->load))
		fprintf(stderr, "the load is not clean: %s\n", blkload_complaint(&b->load));
	return ret;
}

static int run_depth(struct bench *b, size_t depth, uint64_t seed)
{
	int ret;

	memset(&b->pacer, 0, sizeof(b->pacer));
	memset(&b->victim, 0, sizeof(b->victim));
	b->victim.blk.image = -1;
	b->victim.fences = &b->fences;
	pacer_init(&b->pacer, replace, &b->victim);
	sem_init(&b->victim.replaced, 0, 0);
	ret = start(b, depths[depth], seed);
	if (ret == 0) {
		ret = check_seal(b);
		if (ret == 0)
			ret = run_cells(b, depth);
		const int finished = finish(b);

		ret = ret != 0 ? ret : finished;
	}
	pacer_stop(&b->pacer);
	bench_rest(&b->awake);
	boxrig_blk_destroy(&b->victim.blk);
	sem_destroy(&b->victim.replaced);
	blkload_free(&b->load);
	bench_rig_stop(&b->rig);
	bench_unpin(0);
	return ret;
}

/* ---- the report ---- */

static json_t *rounded(double value, double unit)
{
	return json_real((double)(int64_t)(value / unit + 0.5) * unit);
}

static json_t *cell_object(struct cell *c, const struct rate *rate)
{
	json_t *o = json_object();

	bench_put(o, "hz",
		  json_real(rate->interval_us != 0 ? 1e6 / (double)rate->interval_us : 0.0));
	bench_put(o, "pairs", json_integer(c->pairs));
	if (c->pairs == 0)
		return o;
	bench_put(o, "achieved_hz", rounded((double)c->done * 1e9 / (double)c->busy_ns, 0.01));
	bench_put(o, "replacements", json_integer((json_int_t)c->done));
	bench_put(o, "ratio", rounded(bench_quantile(c->ratios, c->pairs, 0.5), 1e-4));
	bench_put(o, "quartile_low", rounded(bench_quantile(c->ratios, c->pairs, 0.25), 1e-4));
	bench_put(o, "quartile_high", rounded(bench_quantile(c->ratios, c->pairs, 0.75), 1e-4));
	bench_put(o, "iops", rounded(bench_quantile(c->busy_iops, c->pairs, 0.5), 1));
	bench_put(o, "quiet_iops", rounded(bench_quantile(c->quiet_iops, c->pairs, 0.5), 1));
	bench_put(o, "p50_us", bench_us(&c->busy, 0.5));
	bench_put(o, "p99_us", bench_us(&c->busy, 0.99));
	bench_put(o, "quiet_p50_us", bench_us(&c->quiet, 0.5));
	bench_put(o, "quiet_p99_us", bench_us(&c->quiet, 0.99));
	return o;
}

static json_t *depth_object(struct bench *b, size_t depth, size_t kind)
{
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct cell *c = &b->cells[depth][kind][i];

		bench_put(o, rates[i].name, cell_object(c, &rates[i]));
		if (kind == 0 && depths[depth] == MAIN_DEPTH && rates[i].ratio != NULL)
			report_json(b->report, rates[i].ratio,
				    c->pairs != 0
					    ? rounded(bench_quantile(c->ratios, c->pairs, 0.5),
						      1e-4)
					    : json_null());
	}
	return o;
}

static void report_cells(struct bench *b)
{
	for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		json_t *of_kind = json_object();

		for (size_t i = 0; i < ARRAY_SIZE(depths); i++) {
			char name[16];

			snprintf(name, sizeof(name), "qd%u", depths[i]);
			bench_put(of_kind, name, depth_object(b, i, kind));
		}
		report_json(b->report, kinds[kind], of_kind);
	}
}

static bool report_answers(const struct bench *b)
{
	report_u64(b->report, "lost", b->sum.lost);
	report_u64(b->report, "duplicated", b->sum.duplicated);
	report_u64(b->report, "corrupted", b->sum.corrupted);
	report_u64(b->report, "requests", b->sum.completed);
	report_text(b->report, "pages", b->huge ? "2m" : "4k");
	return b->sum.lost + b->sum.duplicated + b->sum.corrupted == 0;
}

static uint64_t default_pairs(void)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++)
		n += rates[i].pairs_main +
		     rates[i].pairs * (ARRAY_SIZE(depths) * ARRAY_SIZE(kinds) - 1);
	return n;
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = default_pairs(), .seconds = DEFAULT_SECONDS };
	struct bench *b;
	int ret = 0;
	bool good;

	if (bench_args(argc, argv, &args) != 0)
		return 2;
	b = calloc(1, sizeof(*b));
	CHECK(b != NULL);
	log_open(STDERR_FILENO, LOG_LEVEL_ERROR); /* each death is a warning */
	b->huge = true;
	b->report = report_begin("rejuvenation");
	b->scale = (double)args.count / (double)default_pairs();
	if (b->scale > (double)args.seconds / DEFAULT_SECONDS)
		b->scale = (double)args.seconds / DEFAULT_SECONDS;
	b->end_ns = now_ns() + args.seconds * NS_PER_S;
	for (size_t i = 0; i < ARRAY_SIZE(depths) && ret == 0; i++)
		ret = run_depth(b, i, args.shard + 1);
	if (ret != 0)
		fprintf(stderr, "bench-rejuvenation: %s\n", strerror(-ret));
	good = report_answers(b) && ret == 0;
	report_cells(b);
	good = bench_report_fences(b->report, &b->fences) && good;
	good = report_end(b->report) == 0 && good;
	free(b);
	return good ? 0 : 1;
}
