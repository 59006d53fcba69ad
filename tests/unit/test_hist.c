/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmarks' histogram against sorted arrays, and their report against a JSON parser.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "benchmarks/hist.h"
#include "benchmarks/report.h"

static uint64_t random_state;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Log-uniform in [1, HIST_MAX_NS]: every octave equally often. */
static uint64_t random_ns(void)
{
	uint64_t value = 1 + (random_next() >> (27 + random_next() % 37));

	return value > HIST_MAX_NS ? HIST_MAX_NS : value;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void assert_within_one_percent(uint64_t got, uint64_t want)
{
	uint64_t off = got > want ? got - want : want - got;

	if (off * 100 > want)
		fail_msg("got %llu, want %llu", (unsigned long long)got, (unsigned long long)want);
}

static void test_every_value_within_error(void **state)
{
	static struct hist hist;

	(void)state;
	/* Two values, the other far above: the lower one is reported from its bucket alone. */
	for (uint64_t value = 1; value <= HIST_MAX_NS / 2; value += 1 + value / 97) {
		hist_clear(&hist);
		hist_add(&hist, 0);
		hist_add(&hist, value);
		hist_add(&hist, 2 * HIST_MAX_NS);
		assert_within_one_percent(hist_percentile(&hist, 0.5), value);
		if (value < 128)
			assert_int_equal(hist_percentile(&hist, 0.5), value);
	}
}

static void test_percentiles_against_sorted(void **state)
{
	static const double points[] = { 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999 };
	enum { N = 20000 };
	static uint64_t values[N];
	static struct hist hist;

	(void)state;
	random_state = 42;
	hist_clear(&hist);
	for (int i = 0; i < N; i++) {
		values[i] = random_ns();
		hist_add(&hist, values[i]);
	}
	qsort(values, N, sizeof(values[0]), compare);
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		size_t rank = (size_t)(points[i] * N + 0.999999);

		assert_within_one_percent(hist_percentile(&hist, points[i]), values[rank - 1]);
	}
	assert_int_equal(hist_percentile(&hist, 0.0), values[0]);
	assert_int_equal(hist_percentile(&hist, 1.0), values[N - 1]);
	assert_int_equal(hist.count, N);
}

static void test_empty_and_single(void **state)
{
	static struct hist hist;

	(void)state;
	hist_clear(&hist);
	assert_int_equal(hist_percentile(&hist, 0.5), 0);
	assert_int_equal(hist_percentile(&hist, 1.0), 0);
	hist_add(&hist, 123457);
	assert_int_equal(hist_percentile(&hist, 0.0), 123457);
	assert_int_equal(hist_percentile(&hist, 0.5), 123457); /* pulled into [min, max] */
	assert_int_equal(hist_percentile(&hist, (double)NAN), 123457);
	assert_int_equal(hist.max, 123457);
}

static void test_beyond_the_range(void **state)
{
	static struct hist hist;

	(void)state;
	hist_clear(&hist);
	hist_add(&hist, UINT64_MAX / 2);
	hist_add(&hist, 1000);
	assert_int_equal(hist.max, UINT64_MAX / 2);
	assert_int_equal(hist_percentile(&hist, 1.0), UINT64_MAX / 2);
	assert_within_one_percent(hist_percentile(&hist, 0.5), 1000);
}

static void test_merge_is_adding_both(void **state)
{
	static struct hist one, two, both;

	(void)state;
	random_state = 7;
	hist_clear(&one);
	hist_clear(&two);
	hist_clear(&both);
	for (int i = 0; i < 5000; i++) {
		uint64_t value = random_ns();

		hist_add(i % 3 ? &one : &two, value);
		hist_add(&both, value);
	}
	hist_merge(&one, &two);
	assert_memory_equal(&one, &both, sizeof(both));
	hist_clear(&two);
	hist_merge(&one, &two); /* merging nothing changes nothing, min included */
	assert_memory_equal(&one, &both, sizeof(both));
	hist_merge(&two, &both);
	assert_memory_equal(&two, &both, sizeof(both));
}

static struct report *sample_report(void)
{
	static const char *const layers[] = { "seccomp", "landlock" };
	struct report *report = report_begin("sample");
	static struct hist hist;

	hist_clear(&hist);
	hist_add(&hist, 2000);
	report_u64(report, "count", 9000000000000ull);
	report_f64(report, "rate", 0.5);
	report_f64(report, "nothing", (double)NAN);
	report_bool(report, "passed", true);
	report_text(report, "text", "a\nb \"c\"");
	report_hist_us(report, "pause_us", &hist);
	report_seal(report, layers, 2);
	report_fence(report, "parked");
	return report;
}

static void test_report_has_all_fields(void **state)
{
	struct report *report = sample_report();
	char *line = report_line(report);
	json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	const char *version, *compiler, *flags, *cpu, *kernel, *kvm, *bench, *fence, *text;
	const char *layers[2];
	json_int_t count, cpus;
	double p50;
	int passed;

	(void)state;
	assert_null(strchr(line, '\n'));
	assert_non_null(json);
	assert_int_equal(json_unpack(json, "{s:s, s:I, s:n, s:b, s:s, s:{s:f}, s:s, s:[ss]}",
				     "bench", &bench, "count", &count, "nothing", "passed", &passed,
				     "text", &text, "pause_us", "p50", &p50, "fence", &fence,
				     "seal", &layers[0], &layers[1]),
			 0);
	assert_int_equal(json_unpack(json, "{s:{s:s,s:s,s:s}, s:{s:s,s:s,s:I,s:s}}", "build",
				     "version", &version, "compiler", &compiler, "flags", &flags,
				     "host", "cpu", &cpu, "kernel", &kernel, "cpus", &cpus, "kvm",
				     &kvm),
			 0);
	assert_true(passed);
	assert_string_equal(layers[0], "seccomp");
	assert_string_equal(layers[1], "landlock");
	assert_string_equal(bench, "sample");
	assert_string_equal(text, "a\nb \"c\"");
	assert_string_equal(fence, "parked");
	assert_string_equal(version, MAYFLY_VERSION);
	assert_int_equal(count, 9000000000000);
	assert_true(p50 > 1.999 && p50 < 2.001);
	assert_true(cpus >= 1);
	assert_true(*cpu && *kernel && *kvm && *compiler && *flags);
	json_decref(json);
	free(line);
	report_free(report);
}

static void test_report_defaults(void **state)
{
	struct report *report = report_begin("bare");
	char *line = report_line(report);
	json_t *json = json_loads(line, 0, NULL);

	(void)state;
	assert_int_equal(json_array_size(json_object_get(json, "seal")), 0);
	assert_true(json_is_array(json_object_get(json, "seal")));
	assert_string_equal(json_string_value(json_object_get(json, "fence")), "none");
	json_decref(json);
	free(line);
	report_free(report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_value_within_error),
		cmocka_unit_test(test_percentiles_against_sorted),
		cmocka_unit_test(test_empty_and_single),
		cmocka_unit_test(test_beyond_the_range),
		cmocka_unit_test(test_merge_is_adding_both),
		cmocka_unit_test(test_report_has_all_fields),
		cmocka_unit_test(test_report_defaults),
	};

	return cmocka_run_group_tests_name("hist", tests, NULL, NULL);
}
