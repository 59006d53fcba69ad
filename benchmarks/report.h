/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one JSON writer of all benchmarks.  A report is one object: the figures that the benchmark
 * adds, in that order, then the standard fields "build", "seal", "fence" and "host".  report_end()
 * prints it as exactly one line, the last, on stdout; whatever else a benchmark has to say goes to
 * stderr.  Out of memory ends the program: a report with a figure missing is worse than none.
 */
#ifndef MAYFLY_BENCH_REPORT_H
#define MAYFLY_BENCH_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "benchmarks/hist.h"

struct report;

/* Starts a report: "bench" is its first field. */
struct report *report_begin(const char *bench);

/* Adds one figure.  A name that is there already is replaced. */
void report_u64(struct report *report, const char *name, uint64_t value);
void report_f64(struct report *report, const char *name, double value); /* NaN, inf: null */
void report_bool(struct report *report, const char *name, bool value);
void report_text(struct report *report, const char *name, const char *value);
/* Adds a value of any shape; takes the reference. */
void report_json(struct report *report, const char *name, json_t *value);
/* Adds {"count","p50","p90","p99","p999","max","mean"} in microseconds. */
void report_hist_us(struct report *report, const char *name, const struct hist *hist);

/* The layers of the seal that were in force; without it the field is an empty array. */
void report_seal(struct report *report, const char *const *layers, size_t count);
/* How generations were fenced; without it the field is "none". */
void report_fence(struct report *report, const char *fence);

/* The line that report_end() will print, without the newline; the caller frees it. */
char *report_line(const struct report *report);
/* Prints the line and frees the report.  0, or -EIO when stdout did not take it. */
int report_end(struct report *report);
void report_free(struct report *report);

#endif
