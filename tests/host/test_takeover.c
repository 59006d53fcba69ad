/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taken-over boxes at random.  Rogue device programs (tests/rig/rogue) that hold all that a real one
 * holds play sequences of deeds, each from its number as the seed: messages, state page, rings, used
 * index, call eventfds, backend, forbidden calls, deaths.  After each round of them every device that
 * was played with comes back, and the honest devices beside them have noticed nothing.  What it cost
 * those in time is measured against quiet windows in between, and printed as the last line; nothing
 * passes or fails by time, but for a watchdog that waits two minutes for what takes milliseconds.
 *
 *   COUNT=n    sequences (400)       SEED=n   number of the first (1)
 *   SHARD=i/n  the i-th of n parts   ROGUE=i  on this device only, from 0
 *
 * A sequence is what its box does; what the rest of the machine does meanwhile is not the same again.
 */
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <unistd.h>

#include "benchmarks/report.h"
#include "core/box/autopsy.h"
#include "tests/host/scene.h"
#include "tests/rig/fds.h"
#include "tests/rig/inject.h"
#include "tests/rig/neighbours.h"
#include "tests/rig/rogues.h"

#define QUICK 400
#define ROUND 5000 /* sequences between two quiet windows, at most .. */
#define ROUNDS 4   /* .. and so many of them at least */
#define QUIET_MS 500
#define PATIENCE_MS 120000 /* for what takes milliseconds on any machine */
#define WATCHDOG_NS (180 * NS_PER_S)

/* Three that are replaced without end, one with two boxes a generation, one that is given up after a
 * few deaths, one whose requests are blamed for its deaths and whose seal is looked at again and again.
 * clang-format off */
#define ROGUE(...)                                                                                 \
	{                                                                                          \
		.bytes = 1 << 20, .ring_size = 64, .limits = { 50, 50 }, __VA_ARGS__               \
	}
static const struct boxrig_blk_config devices[] = {
	ROGUE(.name = "rogue-0"),
	ROGUE(.name = "rogue-1"),
	ROGUE(.name = "rogue-2"),
	ROGUE(.name = "rogue-lanes", .queues = 2, .lanes = 2),
	ROGUE(.name = "rogue-budget", .death_budget = 2, .death_window_s = 60),
	ROGUE(.name = "rogue-poison", .poison_limit = 1, .audit_ms = 10),
};
/* clang-format on */

static struct boxrig rig;
static struct neighbours neighbours;
static struct rogues rogues;
static char state_dir[64];
static uint64_t first, sequences, busy_ns; /* asked for; taken */
static struct report *report;

/* ---- what is asked for ---- */

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

static void take_orders(void)
{
	const char *shard = getenv("SHARD");
	unsigned long long i = 1, n = 1;

	first = number_of("SEED", 1);
	sequences = scene_count(QUICK);
	if (shard != NULL && *shard != '\0' &&
	    (sscanf(shard, "%llu/%llu", &i, &n) != 2 || i == 0 || i > n)) {
		fprintf(stderr, "SHARD=%s: not i/n\n", shard);
		exit(2);
	}
	const uint64_t skipped = sequences * (i - 1) / n;

	sequences = sequences * i / n - skipped;
	first += skipped;
}

static int begin_rogues(void)
{
	const uint64_t only = number_of("ROGUE", UINT64_MAX);

	if (only < ARRAY_SIZE(devices))
		return rogues_begin(&rogues, &rig, &devices[only], 1, first);
	return rogues_begin(&rogues, &rig, devices, ARRAY_SIZE(devices), first);
}

/* ---- rounds ---- */

/* Nobody can be asked any more what he waits for. */
_Noreturn static void give_up(void)
{
	fprintf(stderr, "nothing went on for %llu s\n",
		(unsigned long long)(WATCHDOG_NS / NS_PER_S));
	abort(); /* which tells the rest */
}

static void play_round(uint64_t limit)
{
	const uint64_t from = now_ns();
	uint64_t next = 0, moved = from;
	int over;

	neighbours_phase(&neighbours, NEIGHBOURS_BUSY);
	rogues_round(&rogues, limit);
	while ((over = rogues_round_over(&rogues)) == 0) {
		if (rogues_next(&rogues) != next)
			moved = now_ns();
		next = rogues_next(&rogues);
		if (now_ns() - moved > WATCHDOG_NS)
			give_up();
		usleep(1000);
	}
	neighbours_phase(&neighbours, NEIGHBOURS_BETWEEN);
	busy_ns += now_ns() - from;
	if (over < 0) {
		rogues_tell(&rogues);
		fail_msg("a rogue's device is not as it must be");
	}
}

static void check_neighbours(uint64_t from, uint64_t limit)
{
	const char *wrong = neighbours_check(&neighbours);

	if (wrong != NULL) {
		rogues_tell(&rogues);
		fail_msg("%s, after SEED=%llu COUNT=%llu", wrong, (unsigned long long)from,
			 (unsigned long long)(limit - from));
	}
	assert_int_equal(neighbours_progress(&neighbours, 2, PATIENCE_MS), 0);
}

static void quiet_window(void)
{
	neighbours_phase(&neighbours, NEIGHBOURS_QUIET);
	usleep(QUIET_MS * 1000);
	neighbours_phase(&neighbours, NEIGHBOURS_BETWEEN);
}

static void test_takeover(void **state)
{
	const uint64_t round = sequences / ROUNDS + 1 < ROUND ? sequences / ROUNDS + 1 : ROUND;
	uint64_t limit;

	(void)state;
	for (uint64_t at = first; at < first + sequences; at = limit) {
		limit = first + sequences - at > round ? at + round : first + sequences;
		quiet_window();
		play_round(limit);
		check_neighbours(at, limit);
		assert_int_equal(rogues_next(&rogues), limit);
	}
	quiet_window();
	rogues_stop(&rogues);
}

/* ---- figures ---- */

static void report_counts(void)
{
	static const char *const deeds[] = {
#define DEED_NAME(NAME, name, weight, text) #name,
		ROGUE_DEEDS(DEED_NAME)
#undef DEED_NAME
	};
	static const char *const figures[] = {
#define FIGURE_NAME(NAME, name) #name,
		ROGUES_FIGURES(FIGURE_NAME)
#undef FIGURE_NAME
	};
	json_t *done = json_object();

	for (uint32_t f = 0; f < ROGUES_FIGURE_COUNT; f++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < rogues.count; i++)
			sum += rogues.devices[i].figures[f];
		report_u64(report, figures[f], sum);
	}
	for (uint32_t i = 0; i < ROGUE_DEED_COUNT; i++)
		json_object_set_new(done, deeds[i],
				    json_integer((json_int_t)rogues.page->dice.deeds[i]));
	report_json(report, "deeds", done);
}

static void report_deaths(void)
{
	json_t *deaths = json_object();
	uint64_t stalls = 0, poisoned = 0, autopsies = 0;

	for (uint32_t reason = 0; reason < REPLACE_REASON_COUNT; reason++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < rogues.count; i++) {
			struct device_status s;

			device_status(rogues.devices[i].blk.dev, &s);
			sum += s.deaths_by_reason[reason];
			stalls += reason == 0 ? s.stalls : 0;
			poisoned += reason == 0 ? s.poisoned : 0;
			autopsies += reason == 0 ? s.autopsies : 0;
		}
		json_object_set_new(deaths, replace_reason_name((enum replace_reason)reason),
				    json_integer((json_int_t)sum));
	}
	report_json(report, "deaths", deaths);
	report_u64(report, "fences_overdue", stalls);
	report_u64(report, "poisoned", poisoned);
	report_u64(report, "autopsies", autopsies);
}

/* Of the rogues' own devices: what the supervisor took to answer, and they to come back. */
static void report_times(void)
{
	static struct hist status, away;

	for (uint32_t i = 0; i < rogues.count; i++) {
		hist_merge(&status, &rogues.devices[i].status_ns);
		hist_merge(&away, &rogues.devices[i].away_ns);
	}
	report_hist_us(report, "status_us", &status);
	report_hist_us(report, "away_us", &away);
}

static void report_neighbour(const char *name, const struct hist *latency)
{
	static const struct {
		const char *name;
		double q;
	} marks[] = { { "p50", 0.5 }, { "p99", 0.99 } };
	const struct hist *quiet = &latency[NEIGHBOURS_QUIET], *busy = &latency[NEIGHBOURS_BUSY];
	char field[64];

	snprintf(field, sizeof(field), "%s_quiet_us", name);
	report_hist_us(report, field, quiet);
	snprintf(field, sizeof(field), "%s_busy_us", name);
	report_hist_us(report, field, busy);
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		snprintf(field, sizeof(field), "%s_%s_ratio", name, marks[i].name);
		report_f64(report, field,
			   (double)hist_percentile(busy, marks[i].q) /
				   (double)hist_percentile(quiet, marks[i].q));
	}
}

static void make_report(void)
{
	const char *names[16];
	uint32_t n = 0;

	report = report_begin("takeover");
	report_u64(report, "seed", first);
	report_u64(report, "sequences", rogues_next(&rogues) - first);
	report_f64(report, "sequences_per_minute",
		   (double)(rogues_next(&rogues) - first) * 60e9 / (double)(busy_ns ?: 1));
	report_counts();
	report_deaths();
	report_times();
	report_neighbour("blk", neighbours.blk_latency);
	report_neighbour("rng", neighbours.rng_latency);
	boxrig_seal_names(&rig, names, ARRAY_SIZE(names));
	while (names[n] != NULL)
		n++;
	report_seal(report, names, n);
}

/* ---- begin and end ---- */

static uint32_t descriptors_before;
static bool begun; /* all of it */

static int takeover_begin(void **state)
{
	(void)state;
	snprintf(state_dir, sizeof(state_dir), "%.40s/takeover-XXXXXX", scene_dir());
	if (mkdtemp(state_dir) == NULL || supervisor_keep_autopsies(rig.sup, state_dir) != 0)
		return -1;
	descriptors_before = fds_open(0);
	if (neighbours_begin(&neighbours, &rig, "honest-blk") != 0 || begin_rogues() != 0)
		return -1;
	begun = true;
	return 0;
}

static void forget(const char *dir)
{
	char path[400];
	const struct dirent *file;
	DIR *d = opendir(dir);

	while (d != NULL && (file = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, file->d_name);
		unlink(path);
	}
	if (d != NULL)
		closedir(d);
	rmdir(dir);
}

/* Nothing is left but the spawner. */
static bool nothing_leaked(void)
{
	pid_t pids[64];
	const int children = inject_children(pids, ARRAY_SIZE(pids));
	const int left = (int)(fds_open(0) - descriptors_before);

	if (children != 1 || left != 0)
		fprintf(stderr, "left behind: %d descriptors, %d processes\n", left, children - 1);
	return children == 1 && left == 0;
}

static int takeover_end(void **state)
{
	char dir[80];

	(void)state;
	rogues_stop(&rogues);
	const bool clean = begun && neighbours_finish(&neighbours);

	if (begun)
		make_report();
	rogues_end(&rogues);
	neighbours_end(&neighbours);
	snprintf(dir, sizeof(dir), "%s/autopsies", state_dir);
	forget(dir);
	rmdir(state_dir);
	return clean && nothing_leaked() ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_takeover) };
	const struct scene_group group = {
		.name = "takeover",
		.bytes = 64u << 20,
		.begin = takeover_begin,
		.end = takeover_end,
	};
	int ret;

	take_orders();
	rogues_watch_signals(&rogues);
	if (boxrig_use("rogue/blk") != 0)
		return 1;
	ret = scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
	if (report != NULL && report_end(report) != 0)
		ret = 1;
	return ret;
}
