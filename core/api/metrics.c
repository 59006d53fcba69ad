/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /metrics: the text format of Prometheus.  One family after the other, in each a line for every
 * device, so the states are asked for once at the beginning.
 */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/api/internal.h"
#include "core/box/box.h"
#include "core/cc.h"
#include "devmodel/abi/message.h"
#include "hotplug/memory.h"
#include "hotplug/reserve.h"

struct metrics {
	FILE *out;
	uint32_t count;
	struct station_device devices[STATION_DEVICES_MAX];
	struct device_status status[STATION_DEVICES_MAX];
	struct front_end front_ends[STATION_DEVICES_MAX]; /* of a back-end */
};

static void family(const struct metrics *m, const char *name, const char *type, const char *help)
{
	fprintf(m->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* One number a device. */
#define DEVICE_METRICS(X)                                                                          \
	X("mayfly_generation", "gauge", generation, "The active generation; 0: none.")             \
	X("mayfly_cold_total", "counter", cold, "Replacements that found no standby ready.")       \
	X("mayfly_stalls_total", "counter", stalls, "Fences that were overdue.")                   \
	X("mayfly_slow_total", "counter", slow, "Backend calls that took longer than hang_ms.")    \
	X("mayfly_poisoned_total", "counter", poisoned,                                            \
	  "Requests answered with an error because their servers died of them.")                   \
	X("mayfly_faults_total", "counter", faults, "Faults injected by the API.")                 \
	X("mayfly_faulty_programs", "gauge", faulty,                                               \
	  "1: the device programs misbehave when they are told to.")                               \
	X("mayfly_autopsies_total", "counter", autopsies, "Autopsies written.")                    \
	X("mayfly_autopsies_skipped_total", "counter", autopsies_skipped,                          \
	  "Autopsies not begun: too many a minute, or too many waited.")                           \
	X("mayfly_autopsies_failed_total", "counter", autopsies_failed,                            \
	  "Autopsies that could not be written.")                                                  \
	X("mayfly_deaths_in_window", "gauge", deaths_in_window,                                    \
	  "Deaths that count against the death budget.")

static void numbers(const struct metrics *m)
{
#define DEVICE_METRIC(name, type, field, help)                                                     \
	family(m, name, type, help);                                                               \
	for (uint32_t i = 0; i < m->count; i++)                                                    \
		fprintf(m->out, name "{device=\"%s\"} %llu\n", m->devices[i].id,                   \
			(unsigned long long)m->status[i].field);
	DEVICE_METRICS(DEVICE_METRIC)
#undef DEVICE_METRIC
}

static const char *const passage_names[] = {
#define PASSAGE_NAME(NAME, name) name,
	PASSAGES(PASSAGE_NAME)
#undef PASSAGE_NAME
};

static void replacements(const struct metrics *m)
{
	family(m, "mayfly_replacements_total", "counter", "Finished replacements.");
	for (uint32_t i = 0; i < m->count; i++) {
		for (uint32_t r = 0; r < REPLACE_REASON_COUNT; r++)
			fprintf(m->out,
				"mayfly_replacements_total{device=\"%s\",kind=\"%s\",reason=\"%s\"} "
				"%llu\n",
				m->devices[i].id,
				passage_names[replace_reason_planned((enum replace_reason)r)
						      ? PASSAGE_HANDOFF
						      : PASSAGE_RECOVERY],
				replace_reason_name((enum replace_reason)r),
				(unsigned long long)m->status[i].replacements[r]);
	}
}

static void deaths(const struct metrics *m)
{
	family(m, "mayfly_deaths_total", "counter",
	       "Generations that had to be fenced: each begins a recovery, or ends in quarantine.");
	for (uint32_t i = 0; i < m->count; i++) {
		for (uint32_t r = 0; r < REPLACE_REASON_COUNT; r++) {
			const uint64_t n = m->status[i].deaths_by_reason[r];

			/* Nobody dies of a plan. */
			if (n != 0 || !replace_reason_planned((enum replace_reason)r))
				fprintf(m->out,
					"mayfly_deaths_total{device=\"%s\",reason=\"%s\"} %llu\n",
					m->devices[i].id,
					replace_reason_name((enum replace_reason)r),
					(unsigned long long)n);
		}
	}
}

static void histogram(const struct metrics *m, const char *name, const char *labels,
		      const struct device_histogram *h)
{
	static const uint32_t bounds[] = {
#define BUCKET_BOUND(us) us,
		DEVICE_BUCKETS(BUCKET_BOUND)
#undef BUCKET_BOUND
	};
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
		sum += h->counts[i];
		fprintf(m->out, "%s_bucket{%s,le=\"%g\"} %llu\n", name, labels,
			(double)bounds[i] / 1e6, (unsigned long long)sum);
	}
	sum += h->counts[ARRAY_SIZE(bounds)];
	fprintf(m->out, "%s_bucket{%s,le=\"+Inf\"} %llu\n", name, labels, (unsigned long long)sum);
	fprintf(m->out, "%s_sum{%s} %.6f\n", name, labels, (double)h->sum_us / 1e6);
	fprintf(m->out, "%s_count{%s} %llu\n", name, labels, (unsigned long long)sum);
}

static void times(const struct metrics *m)
{
	char labels[OPTION_ID_MAX + 64];

	family(m, "mayfly_switch_seconds", "histogram",
	       "Old generation parked, or suspicion raised, to the new one at work.");
	for (uint32_t i = 0; i < m->count; i++) {
		for (uint32_t p = 0; p < PASSAGE_COUNT; p++) {
			snprintf(labels, sizeof(labels), "device=\"%s\",kind=\"%s\"",
				 m->devices[i].id, passage_names[p]);
			histogram(m, "mayfly_switch_seconds", labels, &m->status[i].switches[p]);
		}
	}
	family(m, "mayfly_drain_seconds", "histogram",
	       "Handoffs: old generation told to park, to parked.");
	for (uint32_t i = 0; i < m->count; i++) {
		snprintf(labels, sizeof(labels), "device=\"%s\"", m->devices[i].id);
		histogram(m, "mayfly_drain_seconds", labels, &m->status[i].drains);
	}
}

static void number(const struct metrics *m, const char *name, const char *type, const char *help,
		   uint64_t value)
{
	family(m, name, type, help);
	fprintf(m->out, "%s %llu\n", name, (unsigned long long)value);
}

static void balloon(const struct metrics *m, struct vmm *vmm)
{
	struct vmm_balloon_info info;

	if (vmm_balloon(vmm, &info) != 0)
		return;
	number(m, "mayfly_balloon_target_bytes", "gauge", "What the balloon is to hold.",
	       (uint64_t)info.target_pages * RELEASE_PAGE);
	number(m, "mayfly_balloon_actual_bytes", "gauge", "What it holds, as its driver says.",
	       (uint64_t)info.actual_pages * RELEASE_PAGE);
	number(m, "mayfly_balloon_released_bytes_total", "counter",
	       "Guest memory that was given back to the host.", info.figures.released_bytes);
	number(m, "mayfly_balloon_kept_bytes_total", "counter",
	       "Guest memory that was reported, and is no whole page of the host's.",
	       info.figures.kept_bytes);
	family(m, "mayfly_balloon_guest", "gauge", "What the guest says of itself.");
	for (uint32_t tag = 0; tag < BALLOON_STAT_COUNT; tag++) {
		if (info.figures.known >> tag & 1)
			fprintf(m->out, "mayfly_balloon_guest{stat=\"%s\"} %llu\n",
				balloon_stat_name(tag),
				(unsigned long long)info.figures.number[tag]);
	}
}

/* One line a device for each of the family's sizes. */
static void hotplug(const struct metrics *m, struct memory *memory)
{
	static const struct {
		const char *name, *help;
		size_t offset;
	} sizes[] = {
		{ "mayfly_hotplug_requested_bytes", "What the guest is to have by virtio-mem.",
		  offsetof(struct reserve_status, requested_bytes) },
		{ "mayfly_hotplug_plugged_bytes", "What it has.",
		  offsetof(struct reserve_status, plugged_bytes) },
		{ "mayfly_hotplug_mapped_bytes", "What of it device processes and KVM have.",
		  offsetof(struct reserve_status, mapped_bytes) },
	};
	struct reserve_status all[LAYOUT_NODES_MAX];
	const uint32_t n = memory != NULL ? reserve_statuses(memory, all) : 0;

	for (size_t i = 0; i < ARRAY_SIZE(sizes) && n != 0; i++) {
		family(m, sizes[i].name, "gauge", sizes[i].help);
		for (uint32_t k = 0; k < n; k++) {
			const char *status = (const char *)&all[k];

			fprintf(m->out, "%s{device=\"%s\"} %llu\n", sizes[i].name, all[k].spec.id,
				*(const unsigned long long *)(const void *)(status +
									    sizes[i].offset));
		}
	}
}

/* One number a device whose front-end is known. */
#define FRONT_END_METRICS(X)                                                                       \
	X("mayfly_front_end_connected", "gauge", connected, "1: a front-end is connected.")        \
	X("mayfly_front_end_connections_total", "counter", connections,                            \
	  "Connections of front-ends.")                                                            \
	X("mayfly_front_ends_refused_total", "counter", refused,                                   \
	  "Front-ends that came while another, or something of it, was there.")                    \
	X("mayfly_memory_changes_total", "counter", memory_changes,                                \
	  "Changes of the guest memory that a front-end shares.")

static void front_ends(const struct metrics *m)
{
#define FRONT_END_METRIC(name, type, field, help)                                                  \
	family(m, name, type, help);                                                               \
	for (uint32_t i = 0; i < m->count; i++)                                                    \
		fprintf(m->out, name "{device=\"%s\"} %llu\n", m->devices[i].id,                   \
			(unsigned long long)m->front_ends[i].field);
	FRONT_END_METRICS(FRONT_END_METRIC)
#undef FRONT_END_METRIC
}

static void ask_devices(struct metrics *m, struct station *station)
{
	m->count = station_devices(station, m->devices, STATION_DEVICES_MAX);
	CHECK(m->count <= STATION_DEVICES_MAX);
	for (uint32_t i = 0; i < m->count; i++) {
		device_status(m->devices[i].dev, &m->status[i]);
		if (station_describe(station, m->devices[i].id, &m->front_ends[i]) != 0)
			m->front_ends[i] = (struct front_end){ 0 };
	}
}

/* What devices have in common is of both. */
static void write_all(struct metrics *m, struct station *station, struct vmm *vmm)
{
	struct memory *memory = vmm != NULL ? vmm_memory(vmm) : NULL;

	ask_devices(m, station);
	if (vmm != NULL)
		number(m, "mayfly_epoch", "gauge",
		       "The epoch of guest memory; 0: the VM was not started.",
		       memory != NULL ? memory_epoch(memory) : 0);
	replacements(m);
	deaths(m);
	times(m);
	numbers(m);
	if (vmm == NULL) {
		front_ends(m);
		return;
	}
	balloon(m, vmm);
	hotplug(m, memory);
}

char *metrics_text(struct station *station, struct vmm *vmm)
{
	struct metrics *m = calloc(1, sizeof(*m));
	char *text = NULL;
	size_t bytes = 0;
	bool whole = false;

	if (m == NULL)
		return NULL;
	m->out = open_memstream(&text, &bytes);
	if (m->out != NULL) {
		write_all(m, station, vmm);
		whole = fclose(m->out) == 0;
	}
	free(m);
	if (whole)
		return text;
	free(text);
	return NULL;
}

void api_get_metrics(struct api_call *call)
{
	call->text = metrics_text(call->station, call->vmm);
	call->type = "text/plain; version=0.0.4";
	call->status = call->text != NULL ? MHD_HTTP_OK : MHD_HTTP_INTERNAL_SERVER_ERROR;
}
