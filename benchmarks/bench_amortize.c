/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * One device program, five ways to reach guest memory that comes and goes (benchmarks/amortize/scheme.h):
 * what each makes of so many changes a second, and what it cannot promise.
 *
 * Theory of operation.  All five devices are there from the start; one at a time is driven, by the main
 * thread, with eight verified 4 KiB requests outstanding, in windows in which completions and latencies
 * are counted.  A busy window has a pacer's thread change the map at the rate of the cell; beside it is a
 * quiet window of the same scheme, and the two take turns in going first.  In a round each rate is
 * measured of all schemes, one after the other, each time another one first: so what the host does to one
 * it does to all, and ratios are those of windows of one round, of which the median is reported.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/amortize/scheme.h"
#include "benchmarks/common.h"
#include "benchmarks/crossing.h"
#include "benchmarks/footprint.h"
#include "benchmarks/pacer.h"
#include "core/cc.h"
#include "core/log.h"

#define ROUNDS_MAX 256
#define ROUNDS_DEFAULT 14
#define DEFAULT_SECONDS 270
#define QUIET_MS 200
#define SETTLE_MS 5
#define DRAIN_NS (20 * NS_PER_S)

enum way { VMM, STATIC, MMAP, RPC, REBIRTH, WAYS };

static const struct scheme_ops *const ways[WAYS] = {
	[VMM] = &scheme_vmm, [STATIC] = &scheme_static,   [MMAP] = &scheme_mmap,
	[RPC] = &scheme_rpc, [REBIRTH] = &scheme_rebirth,
};

/* Changes a second asked for; two or more fall into each window. */
static const struct rate {
	const char *name;
	uint32_t hz;
	uint32_t window_ms;
} rates[] = {
	{ "0", 0, 200 },     { "1", 1, 2000 },      { "10", 10, 400 },
	{ "100", 100, 200 }, { "1000", 1000, 200 },
};

#define RATES ARRAY_SIZE(rates)

struct cell {
	double busy_iops[ROUNDS_MAX], quiet_iops[ROUNDS_MAX];
	uint64_t changes, busy_ns;
	struct hist busy, quiet; /* latencies */
	struct hist took;        /* changes */
};

struct bench {
	struct scheme schemes[WAYS];
	struct cell cells[WAYS][RATES];
	struct pacer pacer;
	struct scheme *driven; /* what the pacer changes */
	struct bench_awake awake;
	struct hist scratch;
	struct report *report;
	uint32_t rounds;
	bool believed; /* a device that lied had what it had said it let go */
	struct blkload_stats sum;
};

/* ---- windows ---- */

static int change(void *ctx)
{
	const struct bench *b = ctx;

	return scheme_change(b->driven);
}

static int run_window(struct scheme *s, uint32_t ms, struct hist *latency, double *iops)
{
	s->load.config.latency = latency;
	return bench_window(&s->load, ms * NS_PER_MS, iops);
}

static int quiet_window(struct bench *b, struct scheme *s, struct cell *cell)
{
	return run_window(s, QUIET_MS, &cell->quiet, &cell->quiet_iops[b->rounds]);
}

static int busy_window(struct bench *b, struct scheme *s, const struct rate *rate,
		       struct cell *cell)
{
	const uint64_t begin = now_ns();
	int ret, paced;

	s->took = &cell->took;
	if (rate->hz != 0)
		pacer_run(&b->pacer, NS_PER_S / rate->hz, begin + rate->window_ms * NS_PER_MS);
	ret = run_window(s, rate->window_ms, &cell->busy, &cell->busy_iops[b->rounds]);
	cell->busy_ns += now_ns() - begin;
	/* The last removal waits for requests in the region. */
	s->load.config.latency = &b->scratch;
	if (ret == 0)
		ret = blkload_drain(&s->load, DRAIN_NS);
	paced = pacer_wait(&b->pacer, &cell->changes);
	s->took = NULL;
	ret = ret != 0 ? ret : paced;
	return ret != 0 ? ret : scheme_rest(s);
}

static int run_cell(struct bench *b, struct scheme *s, const struct rate *rate, struct cell *cell)
{
	const bool quiet_first = b->rounds & 1;
	double ignored;
	int ret = 0;

	b->driven = s;
	for (uint32_t i = 0; i < 2 && ret == 0; i++) {
		const bool quiet = quiet_first == (i == 0);

		blkload_resume(&s->load);
		ret = run_window(s, SETTLE_MS, &b->scratch, &ignored);
		if (ret == 0)
			ret = quiet ? quiet_window(b, s, cell) : busy_window(b, s, rate, cell);
		s->load.config.latency = &b->scratch;
	}
	return ret == 0 ? blkload_drain(&s->load, DRAIN_NS) : ret;
}

static int run_round(struct bench *b)
{
	int ret = 0;

	for (size_t r = 0; r < RATES && ret == 0; r++) {
		for (uint32_t i = 0; i < WAYS && ret == 0; i++) {
			const uint32_t way = (b->rounds + i) % WAYS;

			ret = run_cell(b, &b->schemes[way], &rates[r], &b->cells[way][r]);
			if (ret != 0)
				fprintf(stderr, "bench-amortize: %s, %s changes a second: %s\n",
					ways[way]->name, rates[r].name, strerror(-ret));
		}
	}
	b->rounds += ret == 0;
	return ret;
}

/* So many rounds, or as many as there is time for, but at least one. */
static int run(struct bench *b, uint64_t rounds, uint64_t seconds)
{
	const uint64_t end = now_ns() + seconds * NS_PER_S;
	uint64_t took_ns = 0;
	int ret = 0;

	while (ret == 0 && b->rounds < rounds && b->rounds < ROUNDS_MAX &&
	       (b->rounds == 0 || now_ns() + took_ns < end)) {
		const uint64_t begin = now_ns();

		ret = run_round(b);
		took_ns = now_ns() - begin;
	}
	return ret;
}

/* ---- life ---- */

static int check_seal(struct bench *b, struct scheme *s)
{
	const int ret = scheme_rest(s);

	if (ret != 0)
		return ret;
	return bench_seal(b->report, &s->rig, scheme_pid(s)) ? 0 : -EPERM;
}

static int start(struct bench *b, const struct dev_ops *program, uint64_t seed)
{
	int ret = 0;

	for (uint32_t i = 0; i < WAYS && ret == 0; i++)
		ret = scheme_fork(&b->schemes[i], ways[i], program, seed);
	for (uint32_t i = 0; i < WAYS && ret == 0; i++)
		ret = scheme_start(&b->schemes[i]);
	if (ret == 0)
		ret = check_seal(b, &b->schemes[STATIC]);
	if (ret == 0)
		ret = check_seal(b, &b->schemes[REBIRTH]);
	if (ret == 0)
		ret = bench_stay_awake(&b->awake);
	if (ret == 0)
		ret = pacer_start(&b->pacer);
	/* The driver only, as a vCPU may be; where the rest runs is the scheduler's. */
	return ret != 0 ? ret : bench_pin(0, 0);
}

/* A removal of which the device says what it should, and does something else. */
static int lie(struct bench *b, struct scheme *s)
{
	const uint64_t before = s->not_revoked;
	int ret = scheme_change(s);

	s->lie = true;
	if (ret == 0)
		ret = scheme_change(s);
	b->believed = s->not_revoked != before;
	s->not_revoked = before;
	return ret;
}

static int finish(struct bench *b, struct scheme *s)
{
	struct blkload_stats stats;
	int ret = blkload_drain(&s->load, DRAIN_NS);

	if (ret == 0)
		ret = blkload_verify(&s->load, DRAIN_NS);
	blkload_stats(&s->load, &stats);
	b->sum.completed += stats.completed;
	b->sum.lost += stats.lost + stats.errors;
	b->sum.duplicated += stats.duplicated;
	b->sum.corrupted += stats.corrupted;
	if (!blkload_clean(&s->load))
		fprintf(stderr, "bench-amortize: %s is not clean: %s\n", s->ops->name,
			blkload_complaint(&s->load));
	return ret;
}

static void stop(struct bench *b)
{
	pacer_stop(&b->pacer);
	bench_rest(&b->awake);
	for (uint32_t i = 0; i < WAYS; i++)
		scheme_stop(&b->schemes[i]);
	bench_unpin(0);
}

/* ---- the report ---- */

static json_t *rounded(double value, double unit)
{
	return value == value ? json_real((double)(int64_t)(value / unit + 0.5) * unit)
			      : json_null();
}

static double achieved_hz(const struct cell *c)
{
	return c->busy_ns != 0 ? (double)c->changes * 1e9 / (double)c->busy_ns : 0.0;
}

/* Of the quotients of each round, at the fraction q. */
static double ratio(const struct bench *b, const double *of, const double *by, double q)
{
	double ratios[ROUNDS_MAX];

	for (uint32_t i = 0; i < b->rounds; i++)
		ratios[i] = of[i] / by[i];
	return b->rounds != 0 ? bench_quantile(ratios, b->rounds, q) : 0.0;
}

static double median(const struct bench *b, const double *values)
{
	double copy[ROUNDS_MAX];

	memcpy(copy, values, b->rounds * sizeof(*copy));
	return b->rounds != 0 ? bench_quantile(copy, b->rounds, 0.5) : 0.0;
}

static json_t *cell_object(const struct bench *b, enum way way, size_t r)
{
	const struct cell *c = &b->cells[way][r];
	const struct {
		const char *name;
		double value, unit;
	} lines[] = {
		{ "requested_hz", rates[r].hz, 1 },
		{ "achieved_hz", achieved_hz(c), 0.01 },
		{ "changes", (double)c->changes, 1 },
		{ "iops", median(b, c->busy_iops), 1 },
		{ "quiet_iops", median(b, c->quiet_iops), 1 },
		{ "ratio", ratio(b, c->busy_iops, c->quiet_iops, 0.5), 1e-4 },
		{ "quartile_low", ratio(b, c->busy_iops, c->quiet_iops, 0.25), 1e-4 },
		{ "quartile_high", ratio(b, c->busy_iops, c->quiet_iops, 0.75), 1e-4 },
		{ "of_in_vmm", ratio(b, c->busy_iops, b->cells[VMM][r].busy_iops, 0.5), 1e-4 },
	};
	const struct {
		const char *name;
		const struct hist *hist;
		double q;
	} times[] = {
		{ "p50_us", &c->busy, 0.5 },        { "p99_us", &c->busy, 0.99 },
		{ "quiet_p50_us", &c->quiet, 0.5 }, { "quiet_p99_us", &c->quiet, 0.99 },
		{ "change_p50_us", &c->took, 0.5 }, { "change_p99_us", &c->took, 0.99 },
	};
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		bench_put(o, lines[i].name, rounded(lines[i].value, lines[i].unit));
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		bench_put(o, times[i].name, bench_us(times[i].hist, times[i].q));
	return o;
}

static json_t *scheme_object(const struct bench *b, enum way way)
{
	const struct scheme *s = &b->schemes[way];
	json_t *o = json_object(), *of_rates = json_object();

	bench_put(o, "letter", json_string(s->ops->letter));
	bench_put(o, "cannot_promise", json_string(s->ops->cannot));
	bench_put(o, "revoked", json_integer((json_int_t)s->revoked));
	bench_put(o, "not_revoked", json_integer((json_int_t)s->not_revoked));
	if (way == MMAP)
		bench_put(o, "kept_by_a_liar", json_boolean(b->believed));
	bench_put(o, "seccomp", json_integer(footprint_status(scheme_pid(s), "Seccomp")));
	for (size_t r = 0; r < RATES; r++)
		bench_put(of_rates, rates[r].name, cell_object(b, way, r));
	bench_put(o, "rates", of_rates);
	return o;
}

enum measure {
	THROUGHPUT, /* as it is */
	CHANGES,    /* what they leave of it, of what the same scheme has without */
	TAIL,       /* of latency: its inverse */
};

/* Rebirth by another scheme, rate by rate. */
static void compare(const struct bench *b, enum way other, enum measure measure, double y[RATES])
{
	for (size_t r = 0; r < RATES; r++) {
		const struct cell *e = &b->cells[REBIRTH][r], *o = &b->cells[other][r];
		double of[ROUNDS_MAX], by[ROUNDS_MAX];

		for (uint32_t i = 0; i < b->rounds; i++) {
			of[i] = e->busy_iops[i] / (measure == CHANGES ? e->quiet_iops[i] : 1.0);
			by[i] = o->busy_iops[i] / (measure == CHANGES ? o->quiet_iops[i] : 1.0);
		}
		y[r] = measure != TAIL ? ratio(b, of, by, 0.5)
				       : (double)hist_percentile(&o->busy, 0.99) /
						 (double)hist_percentile(&e->busy, 0.99);
	}
}

/* All in changes a second as rebirth achieved them; null: not up to its most. */
static json_t *crossover_object(const struct bench *b)
{
	static const struct {
		const char *name;
		enum way other;
		enum measure measure;
		double level;
	} lines[] = {
		{ "rebirth_above_rpc_hz", RPC, THROUGHPUT, 1.0 },
		{ "rebirth_p99_below_rpc_hz", RPC, TAIL, 1.0 },
		{ "rebirth_within_1pct_of_mmap_hz", MMAP, THROUGHPUT, 0.99 },
		{ "rebirth_within_10pct_of_mmap_hz", MMAP, THROUGHPUT, 0.9 },
		{ "changes_alone_within_1pct_of_mmap_hz", MMAP, CHANGES, 0.99 },
		{ "changes_alone_within_10pct_of_mmap_hz", MMAP, CHANGES, 0.9 },
	};
	double hz[RATES], y[RATES];
	json_t *o = json_object();

	for (size_t r = 0; r < RATES; r++)
		hz[r] = achieved_hz(&b->cells[REBIRTH][r]);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		compare(b, lines[i].other, lines[i].measure, y);
		bench_put(o, lines[i].name,
			  rounded(crossing_below(hz, y, RATES, lines[i].level), 0.1));
	}
	bench_put(o, "rebirth_at_most_hz", rounded(hz[RATES - 1], 0.1));
	return o;
}

static bool report_all(const struct bench *b)
{
	report_u64(b->report, "lost", b->sum.lost);
	report_u64(b->report, "duplicated", b->sum.duplicated);
	report_u64(b->report, "corrupted", b->sum.corrupted);
	report_u64(b->report, "requests", b->sum.completed);
	report_u64(b->report, "rounds", b->rounds);
	report_u64(b->report, "depth", SCHEME_DEPTH);
	report_json(b->report, "crossover", crossover_object(b));
	for (enum way way = 0; way < WAYS; way++)
		report_json(b->report, ways[way]->name, scheme_object(b, way));
	return bench_report_fences(b->report, &b->schemes[REBIRTH].fences) &&
	       b->sum.lost + b->sum.duplicated + b->sum.corrupted == 0;
}

static int measure(struct bench *b, const struct bench_args *args)
{
	int ret = start(b, &dev_program, args->shard + 1);

	if (ret == 0)
		ret = run(b, args->count, args->seconds);
	for (uint32_t i = 0; i < WAYS && ret == 0; i++)
		ret = finish(b, &b->schemes[i]);
	return ret != 0 ? ret : lie(b, &b->schemes[MMAP]);
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = ROUNDS_DEFAULT, .seconds = DEFAULT_SECONDS };
	struct bench *b;
	bool good;
	int ret;

	if (bench_args(argc, argv, &args) != 0)
		return 2;
	b = calloc(1, sizeof(*b));
	CHECK(b != NULL);
	log_open(STDERR_FILENO, LOG_LEVEL_ERROR);
	b->report = report_begin("amortize");
	pacer_init(&b->pacer, change, b);
	ret = measure(b, &args);
	if (ret != 0)
		fprintf(stderr, "bench-amortize: %s\n", strerror(-ret));
	good = ret == 0 && report_all(b);
	stop(b);
	good = report_end(b->report) == 0 && good;
	free(b);
	return good ? 0 : 1;
}
