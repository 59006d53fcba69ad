/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Figures live in a jansson object, which keeps their order; the standard
 * fields are put behind them when the line is made.  What is said of the build is read from the
 * compiler's own macros, so that it cannot differ from what was compiled; what is said of the host
 * is read from /proc, /dev and /sys at that moment.
 */
#include "benchmarks/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct report {
	json_t *figures;
	json_t *seal;
	char fence[64];
};

/* NULL from jansson is out of memory or a bug here; both end the benchmark. */
static json_t *must(json_t *value)
{
	if (value)
		return value;
	fputs("report: out of memory or not UTF-8\n", stderr);
	abort();
}

static void put(json_t *object, const char *name, json_t *value)
{
	if (json_object_set_new(object, name, must(value)) != 0)
		must(NULL);
}

struct report *report_begin(const char *bench)
{
	struct report *report = calloc(1, sizeof(*report));

	if (!report) {
		must(NULL); /* says it */
		abort();
	}
	report->figures = must(json_object());
	report->seal = must(json_array());
	strcpy(report->fence, "none");
	report_text(report, "bench", bench);
	return report;
}

void report_free(struct report *report)
{
	if (!report)
		return;
	json_decref(report->figures);
	json_decref(report->seal);
	free(report);
}

void report_json(struct report *report, const char *name, json_t *value)
{
	put(report->figures, name, value);
}

void report_u64(struct report *report, const char *name, uint64_t value)
{
	/* JSON integers here are signed; no counter of ours gets beyond 2^63. */
	report_json(report, name, json_integer((json_int_t)value));
}

void report_f64(struct report *report, const char *name, double value)
{
	report_json(report, name, isfinite(value) ? json_real(value) : json_null());
}

void report_bool(struct report *report, const char *name, bool value)
{
	report_json(report, name, json_boolean(value));
}

void report_text(struct report *report, const char *name, const char *value)
{
	report_json(report, name, json_string(value));
}

void report_hist_us(struct report *report, const char *name, const struct hist *hist)
{
	static const struct {
		const char *name;
		double q;
	} points[] = {
		{ "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p999", 0.999 }, { "max", 1.0 }
	};
	json_t *object = must(json_object());

	put(object, "count", json_integer((json_int_t)hist->count));
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		put(object, points[i].name,
		    json_real((double)hist_percentile(hist, points[i].q) / 1e3));
	put(object, "mean", json_real(hist_mean(hist) / 1e3));
	report_json(report, name, object);
}

void report_seal(struct report *report, const char *const *layers, size_t count)
{
	json_array_clear(report->seal);
	for (size_t i = 0; i < count; i++)
		if (json_array_append_new(report->seal, must(json_string(layers[i]))) != 0)
			must(NULL);
}

void report_fence(struct report *report, const char *fence)
{
	snprintf(report->fence, sizeof(report->fence), "%s", fence);
}

/* The switches that change what a figure means, as the compiler saw them. */
static const char *build_flags(void)
{
	return ""
#ifdef __OPTIMIZE__
	       "optimize "
#else
	       "no-optimize "
#endif
#ifdef NDEBUG
	       "ndebug "
#endif
#ifdef __PIE__
	       "pie "
#endif
#if defined(__SSP_STRONG__) || defined(__SSP_ALL__)
	       "stack-protector "
#endif
#ifdef __CET__
	       "cet "
#endif
#if defined(_FORTIFY_SOURCE) && _FORTIFY_SOURCE > 0
	       "fortify "
#endif
#ifdef __SANITIZE_ADDRESS__
	       "asan "
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	       "asan "
#endif
#endif
	       "gnu11";
}

static json_t *build_object(void)
{
	json_t *object = must(json_object());

	put(object, "version", json_string(MAYFLY_VERSION));
#ifdef __clang__
	put(object, "compiler", json_string(__VERSION__)); /* says "Clang" itself */
#else
	put(object, "compiler", json_string("gcc " __VERSION__));
#endif
	put(object, "flags", json_string(build_flags()));
	return object;
}

static json_t *cpu_model(void)
{
	char line[256];
	json_t *model = NULL;
	FILE *file = fopen("/proc/cpuinfo", "re");

	while (file && !model && fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		model = json_string(colon + 1 + strspn(colon + 1, " "));
	}
	if (file)
		fclose(file);
	return model ? model : json_string("unknown");
}

static const char *kvm_kind(void)
{
	static const char *const modules[] = { "kvm_intel", "kvm_amd", "kvm_pvm" };
	char path[64];

	if (access("/dev/kvm", F_OK) != 0)
		return "none";
	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s", modules[i]);
		if (access(path, F_OK) == 0)
			return modules[i];
	}
	return "unknown";
}

static json_t *host_object(void)
{
	json_t *object = must(json_object());
	struct utsname name = { 0 };

	put(object, "cpu", cpu_model());
	put(object, "kernel", json_string(uname(&name) == 0 ? name.release : "unknown"));
	put(object, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	put(object, "kvm", json_string(kvm_kind()));
	return object;
}

char *report_line(const struct report *report)
{
	json_t *all = must(json_copy(report->figures));

	put(all, "build", build_object());
	put(all, "seal", json_incref(report->seal));
	put(all, "fence", json_string(report->fence));
	put(all, "host", host_object());
	char *line = json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9));

	json_decref(all);
	if (!line)
		must(NULL);
	return line;
}

int report_end(struct report *report)
{
	char *line = report_line(report);
	int failed = printf("%s\n", line) < 0;

	failed |= fflush(stdout) != 0;
	free(line);
	report_free(report);
	return failed ? -EIO : 0;
}
