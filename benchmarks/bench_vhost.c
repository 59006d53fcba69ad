/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly vhost-user blk` against qemu-storage-daemon: two back-ends, each with an image of its own, one
 * client that plays the front-end and the driver of both, and no VM.
 *
 * Theory of operation.  A cell is one way to use a disk: page cache or O_DIRECT, queues, size of a
 * request, requests outstanding.  In each round of a cell both servers are measured for WINDOW_MS, one
 * after the other, and the next round begins with the other one: what the host does to a round drops out
 * of its ratio.  What memory a server and its image happen to get does not: with the daemon on both sides
 * it was some 10 % in either direction.  So both are started anew several times, the other one first each
 * time, and most often for the cells that the headlines come from, which have more rounds, too.
 *
 * The client has the first CPU for itself, both servers, whichever it is their turn, have all others.  That
 * is fair to both: it is what a host does that keeps vCPUs and I/O apart, neither server can take time
 * from the client that measures it, and none loses by it what the other keeps: with two CPUs each has
 * one for all its threads and processes, be they mayfly's broker and sandboxes or the daemon's
 * iothread and workers; with more they spread as they like.  That no CPU halts meanwhile is fair, too:
 * the daemon polls for some time before it sleeps and would gain from it less.
 *
 * The daemon gets its best choice: before anything is compared, each way that it has of doing I/O is
 * tried, and the fastest is taken, for page cache and for O_DIRECT.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/common.h"
#include "benchmarks/vhost/sealed.h"
#include "benchmarks/vhost/side.h"
#include "benchmarks/vhost/tuning.h"
#include "core/cc.h"

#define WINDOW_MS 400
#define WARM_MS 50
#define ROUNDS_MAX 400

/* ---- cells ---- */

enum { MAYFLY, QSD, SIDES };

static const char *const side_names[SIDES] = { [MAYFLY] = "mayfly", [QSD] = "qsd" };

/* O_DIRECT, queues, size of a request, outstanding, share of rounds and of time. */
#define CELLS(X)                                                                                   \
	X(false, 1, 4K, 1, 30)                                                                     \
	X(false, 1, 4K, 8, 8)                                                                      \
	X(false, 1, 4K, 32, 30)                                                                    \
	X(false, 1, 4K, 128, 8)                                                                    \
	X(false, 1, 64K, 1, 6)                                                                     \
	X(false, 1, 64K, 8, 6)                                                                     \
	X(false, 1, 64K, 32, 6)                                                                    \
	X(false, 1, 64K, 128, 6)                                                                   \
	X(false, 2, 4K, 8, 6)                                                                      \
	X(false, 2, 4K, 32, 6)                                                                     \
	X(false, 2, 4K, 128, 6)                                                                    \
	X(false, 2, 64K, 8, 6)                                                                     \
	X(false, 2, 64K, 32, 6)                                                                    \
	X(false, 2, 64K, 128, 6)                                                                   \
	X(true, 1, 4K, 1, 6)                                                                       \
	X(true, 1, 4K, 8, 6)                                                                       \
	X(true, 1, 4K, 32, 16)                                                                     \
	X(true, 1, 4K, 128, 6)                                                                     \
	X(true, 1, 64K, 1, 6)                                                                      \
	X(true, 1, 64K, 8, 6)                                                                      \
	X(true, 1, 64K, 32, 6)                                                                     \
	X(true, 1, 64K, 128, 6)                                                                    \
	X(true, 2, 4K, 8, 6)                                                                       \
	X(true, 2, 4K, 32, 6)                                                                      \
	X(true, 2, 4K, 128, 6)                                                                     \
	X(true, 2, 64K, 8, 6)                                                                      \
	X(true, 2, 64K, 32, 6)                                                                     \
	X(true, 2, 64K, 128, 6)

struct results {
	double iops[SIDES][ROUNDS_MAX];
	double ratios[ROUNDS_MAX];
	struct side_figures figures[SIDES];
};

#define ONE(direct, queues, size, depth, weight) +1
static struct results results[0 CELLS(ONE)]; /* of each cell */
#undef ONE

static struct cell {
	bool direct;
	uint32_t queues;
	uint32_t size; /* SIDE_4K, .. */
	uint32_t depth;
	uint32_t weight;
	uint32_t rounds;
	struct results *r;
} cells[] = {
#define CELL(direct_, queues_, size_, depth_, weight_)                                             \
	{ .direct = (direct_),                                                                     \
	  .queues = (queues_),                                                                     \
	  .size = SIDE_##size_,                                                                    \
	  .depth = (depth_),                                                                       \
	  .weight = (weight_) },
	CELLS(CELL)
#undef CELL
};

static uint32_t weight_sum(void)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		sum += cells[i].weight;
	return sum;
}

static const struct cell *find_cell(bool direct, uint32_t queues, uint32_t size, uint32_t depth)
{
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		const struct cell *c = &cells[i];

		if (c->direct == direct && c->queues == queues && c->size == size &&
		    c->depth == depth)
			return c;
	}
	return NULL;
}

/* ---- measuring ---- */

struct bench {
	struct side sides[SIDES];
	struct tuning tunings[2]; /* page cache, O_DIRECT */
	struct sealed sealed;
	struct blkload_stats stats[SIDES];
	uint64_t count, seconds;
};

/* Both servers from start to end, for all cells that they can do. */
struct pass {
	bool direct;
	uint32_t queues;
	uint32_t number, of; /* from 0 */
};

static int run_round(struct bench *b, struct cell *c)
{
	const uint32_t r = c->rounds;
	int ret = 0;

	for (uint32_t turn = 0; turn < SIDES && ret == 0; turn++) {
		const uint32_t side = (turn + r) % SIDES;

		ret = side_run(&b->sides[side], c->size, c->depth, WINDOW_MS * NS_PER_MS,
			       &c->r->iops[side][r], &c->r->figures[side]);
	}
	if (ret == 0) {
		c->r->ratios[r] = c->r->iops[MAYFLY][r] / c->r->iops[QSD][r];
		c->rounds++;
	}
	return ret;
}

/* As many rounds as it has a share of in this and earlier passes, at least one, and no more once the time
 * of this pass is over. */
static int run_cell(struct bench *b, struct cell *c, const struct pass *pass)
{
	const uint64_t sum = weight_sum(), share = b->count * c->weight / sum;
	const uint64_t until = share * (pass->number + 1) / pass->of;
	const uint64_t ns = b->seconds * NS_PER_S * c->weight / sum / pass->of;
	const uint64_t end = now_ns() + ns;
	double warm;
	int ret = 0;

	for (uint32_t i = 0; i < SIDES && ret == 0; i++)
		ret = side_run(&b->sides[i], c->size, c->depth, WARM_MS * NS_PER_MS, &warm, NULL);
	while (ret == 0 && c->rounds < ROUNDS_MAX &&
	       (c->rounds == 0 || (c->rounds < until && now_ns() < end)))
		ret = run_round(b, c);
	return ret;
}

static int begin_pair(struct bench *b, const struct pass *pass)
{
	const struct server_setup setups[SIDES] = {
		[MAYFLY] = { .kind = SERVER_MAYFLY,
			     .direct = pass->direct,
			     .queues = pass->queues },
		[QSD] = { .kind = SERVER_QSD,
			  .direct = pass->direct,
			  .queues = pass->queues,
			  .aio = tuning_aio(&b->tunings[pass->direct]) },
	};
	int ret = 0;

	for (uint32_t turn = 0; turn < SIDES && ret == 0; turn++) {
		const uint32_t i = (turn + pass->number) % SIDES;

		ret = side_begin(&b->sides[i], side_names[i], &setups[i]);
		if (ret == 0)
			ret = side_warm(&b->sides[i]);
	}
	return ret;
}

static int finish_pair(struct bench *b)
{
	int ret = sealed_replace(&b->sealed, &b->sides[MAYFLY].server);

	for (uint32_t i = 0; i < SIDES && ret == 0; i++)
		ret = side_finish(&b->sides[i], &b->stats[i]);
	return ret;
}

static int run_pass(struct bench *b, const struct pass *pass)
{
	int ret = begin_pair(b, pass);

	if (ret == 0)
		ret = sealed_look(&b->sealed, &b->sides[MAYFLY].server);
	for (size_t i = 0; i < ARRAY_SIZE(cells) && ret == 0; i++) {
		if (cells[i].direct == pass->direct && cells[i].queues == pass->queues)
			ret = run_cell(b, &cells[i], pass);
	}
	if (ret == 0)
		ret = finish_pair(b);
	for (uint32_t i = 0; i < SIDES; i++)
		side_end(&b->sides[i]);
	return ret;
}

static int run_passes(struct bench *b)
{
	static const struct {
		bool direct;
		uint32_t queues, passes;
	} kinds[] = { { false, 1, 4 }, { false, 2, 2 }, { true, 1, 2 }, { true, 2, 1 } };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (uint32_t n = 0; n < kinds[i].passes && ret == 0; n++) {
			const struct pass pass = { kinds[i].direct, kinds[i].queues, n,
						   kinds[i].passes };

			ret = run_pass(b, &pass);
		}
	}
	return ret;
}

/* ---- the report ---- */

/* To 1 / parts; not there: null. */
static json_t *rounded(double value, double parts)
{
	return value > 0 ? json_real((double)(int64_t)(value * parts + 0.5) / parts) : json_null();
}

static json_t *cpu_us(const struct side_figures *f)
{
	return f->requests == 0 ? json_null()
				: rounded((double)f->cpu_ns / 1e3 / (double)f->requests, 100);
}

static json_t *side_object(struct cell *c, uint32_t side)
{
	json_t *o = json_object();

	bench_put(o, "iops", rounded(bench_quantile(c->r->iops[side], c->rounds, 0.5), 1));
	bench_put(o, "p50_us", bench_us(&c->r->figures[side].latency, 0.5));
	bench_put(o, "p99_us", bench_us(&c->r->figures[side].latency, 0.99));
	bench_put(o, "cpu_us_per_request", cpu_us(&c->r->figures[side]));
	return o;
}

static double ratio_of(const struct cell *c)
{
	double sorted[ROUNDS_MAX];

	memcpy(sorted, c->r->ratios, c->rounds * sizeof(sorted[0]));
	return c->rounds != 0 ? bench_quantile(sorted, c->rounds, 0.5) : 0;
}

static json_t *cell_object(struct cell *c)
{
	json_t *o = json_object();

	bench_put(o, "file", json_string(c->direct ? "direct" : "cache"));
	bench_put(o, "queues", json_integer(c->queues));
	bench_put(o, "bytes", json_integer(side_bytes[c->size]));
	bench_put(o, "depth", json_integer(c->depth));
	bench_put(o, "rounds", json_integer(c->rounds));
	if (c->rounds == 0)
		return o;
	bench_put(o, "ratio", rounded(ratio_of(c), 1000));
	bench_put(o, "ratio_q1", rounded(bench_quantile(c->r->ratios, c->rounds, 0.25), 1000));
	bench_put(o, "ratio_q3", rounded(bench_quantile(c->r->ratios, c->rounds, 0.75), 1000));
	for (uint32_t i = 0; i < SIDES; i++)
		bench_put(o, side_names[i], side_object(c, i));
	return o;
}

static void report_cells(struct report *report)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		CHECK(json_array_append_new(list, cell_object(&cells[i])) == 0);
	report_json(report, "cells", list);
}

static void report_ratio(struct report *report, const char *name, bool direct, uint32_t depth)
{
	report_json(report, name, rounded(ratio_of(find_cell(direct, 1, SIDE_4K, depth)), 1000));
}

static void report_ratio_min(struct report *report, const char *name, bool direct)
{
	double least = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		const double ratio = ratio_of(&cells[i]);

		if (cells[i].direct == direct && ratio > 0 && (least <= 0 || ratio < least))
			least = ratio;
	}
	report_json(report, name, rounded(least, 1000));
}

static void report_cpu(struct report *report)
{
	static const uint32_t depths[] = { 1, 32 };
	json_t *o = json_object();

	for (size_t d = 0; d < ARRAY_SIZE(depths); d++) {
		const struct cell *c = find_cell(false, 1, SIDE_4K, depths[d]);
		json_t *both = json_object();
		char name[16];

		for (uint32_t i = 0; i < SIDES; i++)
			bench_put(both, side_names[i], cpu_us(&c->r->figures[i]));
		snprintf(name, sizeof(name), "qd%u", depths[d]);
		bench_put(o, name, both);
	}
	report_json(report, "cpu_us_per_request", o);
}

static bool report_answers(struct report *report, const struct bench *b)
{
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < SIDES; i++) {
		const struct blkload_stats *s = &b->stats[i];
		json_t *o = json_object();

		bench_put(o, "requests", json_integer((json_int_t)s->completed));
		bench_put(o, "lost", json_integer((json_int_t)s->lost));
		bench_put(o, "duplicated", json_integer((json_int_t)s->duplicated));
		bench_put(o, "corrupted", json_integer((json_int_t)s->corrupted));
		report_json(report, side_names[i], o);
		wrong += s->lost + s->duplicated + s->corrupted;
	}
	return wrong == 0;
}

static bool report_all(struct report *report, struct bench *b)
{
	const bool clean = report_answers(report, b);

	report_ratio(report, "ratio_qd1", false, 1);
	report_ratio(report, "ratio_qd32", false, 32);
	report_ratio(report, "direct_ratio_qd32", true, 32);
	report_ratio_min(report, "ratio_min", false);
	report_ratio_min(report, "direct_ratio_min", true);
	report_cpu(report);
	report_cells(report);
	report_json(report, "qsd_cache", tuning_object(&b->tunings[false]));
	report_json(report, "qsd_direct", tuning_object(&b->tunings[true]));
	return sealed_report(report, &b->sealed) && clean;
}

/* ---- the whole ---- */

static void on_signal(int signal)
{
	(void)signal;
	side_interrupted = 1;
}

static void catch_signals(void)
{
	const struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static int run(struct bench *b)
{
	struct bench_awake awake;
	int ret = bench_stay_awake(&awake);

	if (ret == 0)
		ret = bench_pin(0, 0);
	for (int direct = 0; direct < 2 && ret == 0; direct++)
		ret = tuning_measure(&b->tunings[direct], direct);
	if (ret == 0)
		ret = run_passes(b);
	if (ret != 0)
		fprintf(stderr, "bench-vhost: %s\n", strerror(-ret));
	bench_unpin(0);
	bench_rest(&awake);
	return ret;
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = 230, .seconds = 170 };
	struct bench *b;
	bool good;

	if (bench_args(argc, argv, &args) != 0)
		return 2;
	if (!server_has_qsd()) {
		fputs("bench-vhost: there is no qemu-storage-daemon (Debian: "
		      "qemu-system-common)\n",
		      stderr);
		return 1;
	}
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		cells[i].r = &results[i];
	b->count = args.count;
	b->seconds = args.seconds;
	catch_signals();
	good = run(b) == 0;

	struct report *report = report_begin("vhost");

	good = report_all(report, b) && good;
	free(b);
	return report_end(report) == 0 && good ? 0 : 1;
}
