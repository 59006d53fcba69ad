/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/vhost/tuning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/common.h"
#include "benchmarks/vhost/side.h"
#include "core/cc.h"

#define ROUNDS 15
#define WINDOW_MS 100

/* native is for O_DIRECT only. */
static const char *const choices[TUNING_CHOICES] = { "threads", "io_uring", "native" };
static const uint32_t depths[TUNING_DEPTHS] = { 1, 32 };

/* One window of each that is there, another one first each time. */
static int try_round(struct side *sides, uint32_t depth, uint32_t round, double *iops)
{
	int ret = 0;

	for (uint32_t turn = 0; turn < TUNING_CHOICES && ret == 0; turn++) {
		const uint32_t i = (turn + round) % TUNING_CHOICES;

		iops[i] = 0;
		if (sides[i].name != NULL)
			ret = side_run(&sides[i], SIDE_4K, depth, WINDOW_MS * NS_PER_MS, &iops[i],
				       NULL);
	}
	return ret;
}

/* What the host does to a round, it does to the others' shares, too. */
static int try_depth(struct side *sides, uint32_t at, struct tuning *t)
{
	double iops[TUNING_CHOICES][ROUNDS], shares[TUNING_CHOICES][ROUNDS];
	int ret = 0;

	for (uint32_t r = 0; r < ROUNDS && ret == 0; r++) {
		double round[TUNING_CHOICES] = { 0 }, sum = 0;

		ret = try_round(sides, depths[at], r, round);
		for (uint32_t i = 0; i < TUNING_CHOICES; i++)
			sum += round[i];
		for (uint32_t i = 0; i < TUNING_CHOICES; i++) {
			iops[i][r] = round[i];
			shares[i][r] = sum > 0 ? round[i] / sum : 0;
		}
	}
	for (uint32_t i = 0; i < TUNING_CHOICES && ret == 0; i++) {
		t->iops[i][at] = bench_quantile(iops[i], ROUNDS, 0.5);
		t->shares[i][at] = bench_quantile(shares[i], ROUNDS, 0.5);
	}
	return ret;
}

/* Few requests outstanding count as much as many. */
static double score(const struct tuning *t, uint32_t i)
{
	return t->shares[i][0] * t->shares[i][1];
}

static int start(struct side *s, bool direct, const char *aio)
{
	const struct server_setup setup = {
		.kind = SERVER_QSD, .direct = direct, .queues = 1, .aio = aio
	};
	int ret = side_begin(s, aio, &setup);

	if (ret == 0)
		ret = side_warm(s);
	if (ret != 0)
		side_end(s);
	return ret == -ECHILD ? 0 : ret; /* this host or this build of it has not got that */
}

static int measure(struct tuning *t, bool direct, struct side *sides)
{
	int ret = 0;

	for (uint32_t i = 0; i < TUNING_CHOICES && ret == 0; i++) {
		if (direct || strcmp(choices[i], "native") != 0)
			ret = start(&sides[i], direct, choices[i]);
	}
	for (uint32_t at = 0; at < TUNING_DEPTHS && ret == 0; at++)
		ret = try_depth(sides, at, t);
	for (uint32_t i = 0; i < TUNING_CHOICES; i++) {
		if (score(t, i) > score(t, t->best))
			t->best = i;
		side_end(&sides[i]);
	}
	return ret == 0 && score(t, t->best) <= 0 ? -ECHILD : ret;
}

int tuning_measure(struct tuning *t, bool direct)
{
	struct side *sides = calloc(TUNING_CHOICES, sizeof(*sides));
	const int ret = sides == NULL ? -ENOMEM : measure(t, direct, sides);

	free(sides);
	return ret;
}

const char *tuning_aio(const struct tuning *t)
{
	return choices[t->best];
}

json_t *tuning_object(const struct tuning *t)
{
	json_t *o = json_object(), *tried = json_object();

	for (uint32_t i = 0; i < TUNING_CHOICES; i++) {
		json_t *iops = json_array();

		for (size_t d = 0; d < TUNING_DEPTHS; d++)
			json_array_append_new(iops, json_integer((json_int_t)t->iops[i][d]));
		if (score(t, i) > 0)
			bench_put(tried, choices[i], iops);
		else
			json_decref(iops);
	}
	bench_put(o, "aio", json_string(choices[t->best]));
	bench_put(o, "tried_iops_qd1_qd32", tried);
	return o;
}
